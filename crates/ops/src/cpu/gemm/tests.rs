//! Every kernel that this processor has, against the definition in f64.

#![expect(unsafe_code, reason = "calls kernels, also those that the processor would not choose")]

use half::bf16;

use super::cell::Operands;
use super::kernel::Kernel;
use super::packing::round_to_bf16;
use super::portable::Portable;
use super::*;

/// A (rows, columns) matrix in a slice whose rows, or columns if `transposed`, are `stride` apart.
#[derive(Clone, Debug)]
struct Operand<T> {
    values: Vec<T>,
    stride: usize,
    transposed: bool,
}

impl<T: Copy> Operand<T> {
    fn new(rows: usize, columns: usize, transposed: bool, padding: usize, value: impl Fn(usize, usize) -> T) -> Self {
        let (long, short) = if transposed { (columns, rows) } else { (rows, columns) };
        let stride = short + padding;
        let at = |i: usize| if transposed { value(i % stride, i / stride) } else { value(i / stride, i % stride) };
        // Nothing follows the last element: reading beyond it is an error that Miri finds.
        let len = if long == 0 || short == 0 { 0 } else { (long - 1) * stride + short };
        Self { values: (0..len).map(at).collect(), stride, transposed }
    }

    fn matrix(&self) -> Matrix<'_, T> {
        let rows = Matrix::rows(&self.values, self.stride);
        if self.transposed { rows.transposed() } else { rows }
    }

    fn at(&self, row: usize, column: usize) -> T {
        self.values[if self.transposed { column * self.stride + row } else { row * self.stride + column }]
    }
}

/// A number of no pattern between -1 and 1.
fn noise(seed: usize, row: usize, column: usize) -> f64 {
    let hash = (row * 7919 + column * 104_729 + seed * 31 + 17).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (hash as f64 / (1_u64 << 23) as f64) - 1.0
}

trait Float: Number + Into<f64> + std::fmt::Debug + PartialEq {
    /// Half a unit in the last place of 1.
    const ROUNDING: f64;
    fn of(value: f64) -> Self;
}

impl Float for f32 {
    const ROUNDING: f64 = f32::EPSILON as f64;
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Float for f64 {
    const ROUNDING: f64 = f64::EPSILON;
    fn of(value: f64) -> Self {
        value
    }
}

/// Computes a product with a kernel of choice.
fn multiply<T: Float, K: Kernel<Element = T>>(
    kernel: K,
    (m, n, k): (usize, usize, usize),
    (left, right): (&Operand<T>, &Operand<T>),
    (result, stride): (&mut [T], usize),
    start: Start<'_, T>,
    threads: usize,
) {
    let (left, right) = (left.matrix(), right.matrix());
    let product = Product { m, n, k, scale: T::of(0.5), factors: Factors::Exact, threads: Threads::One };
    product.check(left, right, result.len(), stride).unwrap();
    let (start, start_stride) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Row(row) => (row.as_ptr(), 0),
        Start::Result => (result.as_ptr(), stride),
    };
    let operands = Operands {
        m,
        n,
        k,
        scale: product.scale,
        left: left.values.as_ptr(),
        left_row_stride: left.row_stride,
        left_column_stride: left.column_stride,
        right: right.values.as_ptr(),
        right_row_stride: right.row_stride,
        right_column_stride: right.column_stride,
        start,
        start_stride,
        result: result.as_mut_ptr(),
        result_stride: stride,
    };
    // SAFETY: `check` has passed, and callers only give kernels that the processor has.
    unsafe { grid::multiply(&operands, kernel, threads) };
}

/// What a kernel makes of its operands.
type Rounding<T> = fn(T) -> T;

/// Runs a test with every kernel of this processor.
macro_rules! for_kernels {
    ($test:ident) => {
        $test(Portable::<f32, 16> { round: None }, |x| x);
        $test(Portable::<f32, 16> { round: Some(round_to_bf16) }, |x| bf16::from_f32(x).to_f32());
        $test(Portable::<f64, 8> { round: None }, |x| x);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                $test(kernel_avx2::F32Avx2 { rounds: false }, |x| x);
                $test(kernel_avx2::F32Avx2 { rounds: true }, |x| bf16::from_f32(x).to_f32());
                $test(kernel_avx2::F64Avx2, |x| x);
            }
            if is_x86_feature_detected!("avx512f") {
                $test(kernel_avx512::F32Avx512 { rounds: false }, |x| x);
                $test(kernel_avx512::F32Avx512 { rounds: true }, |x| bf16::from_f32(x).to_f32());
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                $test(kernel_bf16::Bf16Pairs, |x| bf16::from_f32(x).to_f32());
            }
        }
    };
}

/// Products in all four layouts equal the definition, and nothing beside the result is written.
fn check<T: Float, K: Kernel<Element = T>>(kernel: K, rounding: Rounding<T>, (m, n, k): (usize, usize, usize)) {
    for layout in 0..4 {
        let padding = (m + n + k) % 3;
        let left = Operand::new(m, k, layout & 1 == 1, padding, |i, j| T::of(noise(1, i, j)));
        let right = Operand::new(k, n, layout & 2 == 2, padding, |i, j| T::of(noise(2, i, j)));
        let bias: Vec<T> = (0..n).map(|j| T::of(noise(3, 0, j))).collect();
        let stride = n + padding;
        for kind in 0..3 {
            let mut result = vec![T::of(3.0); if m == 0 { 0 } else { (m - 1) * stride + n + padding }];
            let start = [Start::Zero, Start::Row(&bias), Start::Result].into_iter().nth(kind).unwrap();
            multiply(kernel, (m, n, k), (&left, &right), (&mut result, stride), start, 1);
            for (index, &found) in result.iter().enumerate() {
                let (i, j) = (index / stride.max(1), index % stride.max(1));
                if j >= n {
                    assert_eq!(found, T::of(3.0), "written beside the result of {m} x {n} x {k}");
                    continue;
                }
                let factor = |value: T| -> f64 { rounding(value).into() };
                let products: f64 = (0..k).map(|s| factor(left.at(i, s)) * factor(right.at(s, j))).sum();
                let start = [0.0, bias[j].into(), 3.0][kind];
                let error = (found.into() - start - 0.5 * products).abs();
                let tolerance = T::ROUNDING * (3.0 + k as f64 * 0.5);
                assert!(error <= tolerance, "{m} x {n} x {k}, layout {layout}, start {kind}, ({i}, {j}): {error}");
            }
        }
    }
}

fn small_sizes<K: Kernel>(kernel: K, rounding: Rounding<K::Element>)
where
    K::Element: Float,
{
    for m in [0, 1, 2, 5, 7, 13, 15, 29] {
        for n in [0, 1, 7, 15, 17, 33, 49, 67] {
            for k in [0, 1, 2, 15, 33] {
                if !cfg!(miri) || (m + n + k) % 7 == 0 {
                    check(kernel, rounding, (m, n, k));
                }
            }
        }
    }
}

#[test]
fn products_of_small_sizes_equal_the_definition() {
    for_kernels!(small_sizes);
}

/// More than a block of steps, of rows, and of columns.
fn large_sizes<K: Kernel>(kernel: K, rounding: Rounding<K::Element>)
where
    K::Element: Float,
{
    for sizes in [(31, 37, 1031), (9, 4133, 3), (3001, 5, 70), (3, 70, 2049)] {
        check(kernel, rounding, sizes);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn products_of_several_blocks_equal_the_definition() {
    for_kernels!(large_sizes);
}

/// A strip of the right operand is kept for the next block of rows, copied by the first tile or packed.
fn many_rows<K: Kernel>(kernel: K, rounding: Rounding<K::Element>)
where
    K::Element: Float,
{
    let most = blocking::rows(600 / K::STEPS * size_of::<K::Packed>(), 0);
    check(kernel, rounding, (most * 2 + 3, 3, 600));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn a_left_operand_beyond_the_cache_is_multiplied_in_blocks_of_rows() {
    for_kernels!(many_rows);
}

fn threads<K: Kernel>(kernel: K, _: Rounding<K::Element>)
where
    K::Element: Float,
{
    let sizes = [(67, 151, 1100), (5, 300, 1100), (300, 5, 40)];
    for (m, n, k) in if cfg!(miri) { &sizes[2..] } else { &sizes[..] } {
        let (m, n, k) = (*m, *n, *k);
        for layout in 0..4 {
            let left = Operand::new(m, k, layout & 1 == 1, 0, |i, j| K::Element::of(noise(1, i, j)));
            let right = Operand::new(k, n, layout & 2 == 2, 0, |i, j| K::Element::of(noise(2, i, j)));
            let run = |threads| {
                let mut result = vec![K::Element::of(0.0); m * n];
                multiply(kernel, (m, n, k), (&left, &right), (&mut result, n), Start::Zero, threads);
                result
            };
            let one = run(1);
            for threads in [2, 3, 7, 16] {
                assert!(run(threads) == one, "{m} x {n} x {k}, layout {layout}: other bits with {threads} threads");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for_kernels!(threads);
}

fn not_numbers<K: Kernel>(kernel: K, _: Rounding<K::Element>)
where
    K::Element: Float,
{
    let (m, n, k) = (17, 35, 40);
    for (value, is_expected) in [
        (f64::NAN, f64::is_nan as fn(f64) -> bool),
        (f64::INFINITY, f64::is_infinite),
        (1e300, |x: f64| x.abs() > 1e30),
    ] {
        for layout in 0..4 {
            let special = |i: usize, j: usize| if (i, j) == (16, 39) { value } else { 0.5 };
            let left = Operand::new(m, k, layout & 1 == 1, 0, |i, j| K::Element::of(special(i, j)));
            let right = Operand::new(k, n, layout & 2 == 2, 0, |_, _| K::Element::of(0.5));
            let mut result = vec![K::Element::of(0.0); m * n];
            multiply(kernel, (m, n, k), (&left, &right), (&mut result, n), Start::Zero, 1);
            for (index, &found) in result.iter().enumerate() {
                let found: f64 = found.into();
                let expected = if index / n == 16 { is_expected(found) } else { found == 5.0 };
                assert!(expected, "{value}, layout {layout}, element {index}: {found}");
            }
        }
    }
}

#[test]
fn what_is_not_a_number_reaches_its_row_and_no_other() {
    for_kernels!(not_numbers);
}

#[test]
fn strided_and_transposed_products_equal_the_definition() {
    let (m, n, k, stride) = (3, 5, 4, 7);
    let left: Vec<f64> = (0..m * stride).map(|i| (i as f64 * 0.37).sin()).collect();
    let right: Vec<f64> = (0..n * stride).map(|i| (i as f64 * 0.21).cos()).collect();
    let product = Product { m, n, k, scale: 0.5, factors: Factors::Exact, threads: Threads::One };
    let transposed = Matrix::rows(&right, stride).transposed();
    let expected = |row: usize, column: usize| -> f64 {
        (0..k).map(|i| left[row * stride + i] * right[column * stride + i]).sum::<f64>() * 0.5
    };
    let found = product.compute(Matrix::rows(&left, stride), transposed).unwrap();
    let bias: Vec<f64> = (0..n).map(|i| i as f64).collect();
    let affine = product.affine(Matrix::rows(&left, stride), transposed, &bias).unwrap();
    let mut sums = vec![1.0; m * stride];
    product.add_to(&mut sums, stride, Matrix::rows(&left, stride), transposed).unwrap();
    for row in 0..m {
        for column in 0..n {
            assert!((found[row * n + column] - expected(row, column)).abs() < 1e-14);
            assert!((affine[row * n + column] - bias[column] - expected(row, column)).abs() < 1e-14);
            assert!((sums[row * stride + column] - 1.0 - expected(row, column)).abs() < 1e-14);
        }
        assert_eq!(sums[row * stride + n..(row + 1) * stride], [1.0, 1.0]);
    }
}

#[test]
fn a_product_beyond_its_slices_is_an_error() {
    let values = [0.0_f64; 12];
    let product = |m, n, k| Product { m, n, k, scale: 1.0, factors: Factors::Exact, threads: Threads::One };
    let matrix = Matrix::rows(&values, 4);
    assert!(product(3, 4, 4).compute(matrix, Matrix::rows(&values, 3)).is_err());
    assert!(product(4, 3, 4).compute(matrix, matrix).is_err());
    assert!(product(3, 4, 3).write(&mut [0.0; 11], 4, matrix, matrix).is_err());
    assert!(product(2, 4, 3).write(&mut [0.0; 12], 3, matrix, matrix).is_err(), "rows of a result may not overlap");
    assert!(product(3, 4, 3).affine(matrix, matrix, &values[..3]).is_err());
}

#[test]
fn a_sum_of_no_products_is_zero_or_the_bias() {
    let product = Product { m: 2, n: 3, k: 0, scale: 1.0, factors: Factors::Exact, threads: Threads::One };
    let (left, right) = (Matrix::rows(&[], 0), Matrix::rows(&[], 3));
    assert_eq!(product.compute(left, right).unwrap(), [0.0_f64; 6]);
    assert_eq!(product.affine(left, right, &[1.0, 2.0, 3.0]).unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}
