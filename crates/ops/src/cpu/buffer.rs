//! Outputs filled in parallel: one chunk per task, so that no memory is cleared twice and threads share the page
//! faults.
//!
//! Chunks depend on shapes only, and results are in the order of the chunks, whichever thread ran what.

use std::mem::MaybeUninit;

use candle_core::Result;
use rayon::prelude::*;

use super::vector_math::{AddTo, Element};
use base::simd::vectorized;

/// About how many elements one task handles: 64 KiB of f32, which stays in the second-level cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// How many rows of `width` elements one task handles.
pub(crate) fn rows_per_chunk(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// A vector of `len` elements, filled in parallel: `fill(index, chunk)` gets each piece of `chunk` elements (the last
/// one may be shorter), full of zeros.
pub(crate) fn build<T: Element>(len: usize, chunk: usize, fill: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    build_with(len, chunk, fill).0
}

/// [`build`], with what each call returned, in order.
pub(crate) fn build_with<T: Element, R: Send>(
    len: usize,
    chunk: usize,
    fill: impl Fn(usize, &mut [T]) -> R + Sync,
) -> (Vec<T>, Vec<R>) {
    let mut values: Vec<T> = Vec::with_capacity(len);
    let chunk = chunk.max(1);
    let run = |(index, raw): (usize, &mut [MaybeUninit<T>])| fill(index, cleared(raw));
    let spare = &mut values.spare_capacity_mut()[..len];
    let results: Vec<R> = if len <= chunk {
        spare.chunks_mut(chunk).enumerate().map(run).collect()
    } else {
        spare.par_chunks_mut(chunk).enumerate().map(run).collect()
    };
    #[expect(unsafe_code, reason = "vec![0; n] would clear large outputs on one thread")]
    // SAFETY: `cleared` initialised each of the `len` elements; a panic in `fill` does not get here.
    unsafe {
        values.set_len(len);
    }
    (values, results)
}

fn cleared<T: Element>(raw: &mut [MaybeUninit<T>]) -> &mut [T] {
    raw.fill(MaybeUninit::new(T::zero()));
    #[expect(unsafe_code, reason = "turns the memory just filled into elements")]
    // SAFETY: the line above initialised every element.
    unsafe {
        raw.assume_init_mut()
    }
}

/// Column sums: adds `add(first_row, rows, sums)` over chunks of `rows` rows, in order.
pub(crate) fn sum_chunks<T: Element>(
    num_rows: usize,
    rows: usize,
    width: usize,
    add: impl Fn(usize, usize, &mut [T]) + Sync,
) -> Vec<T> {
    let partial = |chunk: usize| {
        let first = chunk * rows;
        let mut sums = vec![T::zero(); width];
        add(first, rows.min(num_rows - first), &mut sums);
        sums
    };
    let chunks = num_rows.div_ceil(rows);
    let partials: Vec<Vec<T>> = if chunks <= 1 {
        (0..chunks).map(partial).collect()
    } else {
        (0..chunks).into_par_iter().map(partial).collect()
    };
    join_sums(partials, width)
}

/// The sum of vectors of `width` elements, in order.
pub(crate) fn join_sums<T: Element>(partials: impl IntoIterator<Item = Vec<T>>, width: usize) -> Vec<T> {
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![T::zero(); width]);
    for partial in partials {
        vectorized(AddTo { sums: &mut total, values: &partial });
    }
    total
}

/// Runs `task` on every item, in parallel when there is more than one item and enough `work` (in multiplications).
/// `scratch` allocates the memory of a task; the next task of the same thread gets it as the last one left it.
pub(crate) fn for_each_task<I: Send, S>(
    items: Vec<I>,
    work: usize,
    scratch: impl Fn() -> S + Sync + Send,
    task: impl Fn(&mut S, I) -> Result<()> + Sync + Send,
) -> Result<()> {
    const MIN_PARALLEL_WORK: usize = 1 << 16;
    if items.len() <= 1 || work < MIN_PARALLEL_WORK {
        let mut scratch = scratch();
        items.into_iter().try_for_each(|item| task(&mut scratch, item))
    } else {
        items.into_par_iter().try_for_each_init(scratch, task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_output_once_and_start_as_zeros() {
        for len in [0, 1, 5, 12] {
            let (values, firsts) = build_with(len, 5, |index, chunk: &mut [f64]| {
                assert!(chunk.iter().all(|&x| x == 0.0));
                for (offset, value) in chunk.iter_mut().enumerate() {
                    *value = (index * 5 + offset) as f64;
                }
                index
            });
            assert_eq!(values, (0..len).map(|i| i as f64).collect::<Vec<_>>());
            assert_eq!(firsts, (0..len.div_ceil(5)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn column_sums_in_chunks_are_whole() {
        let sums = sum_chunks(7, 3, 2, |first, count, sums: &mut [f64]| {
            for row in first..first + count {
                sums[0] += row as f64;
                sums[1] += 1.0;
            }
        });
        assert_eq!(sums, [21.0, 7.0]);
    }
}
