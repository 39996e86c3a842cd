//! The inverse transform of a JPEG's blocks, 16 at a time, with the numbers of libjpeg's `jpeg_idct_islow` (jidctint.c;
//! C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP
//! 1989). Blocks side by side are what vector instructions need: no row has to become a column.

/// Blocks that are transformed together.
pub(super) const BLOCKS: usize = 16;

/// One coefficient, or one sample, of each block.
type Lane = [i32; BLOCKS];

/// Coefficients of 16 blocks, dequantised, in the order of rows.
pub(super) type Coefficients = [Lane; 64];

/// The sum of a block's absolute coefficients up to which nothing here overflows 32 bits. Of 8-bit samples it is at
/// most 8192, and somewhat more with the errors of quantisation.
pub(super) const MAX_SUM: u32 = 15_000;

/// Transforms the coefficients and gives `write` each row of samples: the row's number and, for each block, eight
/// samples.
#[inline(always)]
pub(super) fn inverse_dct(coefficients: &mut Coefficients, mut write: impl FnMut(usize, &[[u8; 8]; BLOCKS])) {
    for column in 0..8 {
        let column_of = |row: usize| 8 * row + column;
        // Two more bits than the samples need are kept from pass to pass.
        let pass = transform::<11>(std::array::from_fn(|row| &coefficients[column_of(row)]));
        for (row, values) in pass.into_iter().enumerate() {
            coefficients[column_of(row)] = values;
        }
    }
    for row in 0..8 {
        let pass = transform::<18>(std::array::from_fn(|column| &coefficients[8 * row + column]));
        let mut words = [0u64; BLOCKS];
        for (column, values) in pass.iter().enumerate() {
            for (word, &value) in words.iter_mut().zip(values) {
                *word |= u64::from(sample(value)) << (8 * column);
            }
        }
        write(row, &words.map(u64::to_le_bytes));
    }
}

/// Around 128, as libjpeg's table `range_limit` has it, which looks at the lower ten bits only.
#[inline(always)]
fn sample(value: i32) -> u8 {
    (((value << 22) >> 22) + 128).clamp(0, 255) as u8
}

/// The transform of eight values of each block, divided by 2^SHIFT. Constants are in 1/8192.
#[inline(always)]
fn transform<const SHIFT: u32>(values: [&Lane; 8]) -> [Lane; 8] {
    let mut result = [[0; BLOCKS]; 8];
    for block in 0..BLOCKS {
        let value = |index: usize| values[index][block];
        let common = (value(2) + value(6)) * 4_433;
        let (low, high) = (common - value(6) * 15_137, common + value(2) * 6_270);
        let (sum, difference) = ((value(0) + value(4)) << 13, (value(0) - value(4)) << 13);
        let even = [sum + high, difference + low, difference - low, sum - high];

        let common = (value(1) + value(3) + value(5) + value(7)) * 9_633;
        let outer = (value(1) + value(7)) * -7_373;
        let inner = (value(3) + value(5)) * -20_995;
        let late = (value(3) + value(7)) * -16_069 + common;
        let early = (value(1) + value(5)) * -3_196 + common;
        let odd = [
            value(1) * 12_299 + outer + early,
            value(3) * 25_172 + inner + late,
            value(5) * 16_819 + inner + early,
            value(7) * 2_446 + outer + late,
        ];
        for index in 0..4 {
            let rounded = |value: i32| (value + (1 << (SHIFT - 1))) >> SHIFT;
            result[index][block] = rounded(even[index] + odd[index]);
            result[7 - index][block] = rounded(even[index] - odd[index]);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_the_formula_to_one() {
        let mut coefficients = [[0; BLOCKS]; 64];
        for (place, lane) in coefficients.iter_mut().enumerate() {
            for (block, value) in lane.iter_mut().enumerate() {
                *value = ((place * 37 + block * 101) % 61) as i32 - 30;
            }
        }
        let original = coefficients;
        inverse_dct(&mut coefficients, |y, samples| {
            for (block, row) in samples.iter().enumerate() {
                for (x, &found) in row.iter().enumerate() {
                    let scale = |index: usize| if index == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
                    let wave = |place: usize, index: usize| {
                        scale(index) * ((2 * place + 1) as f64 * index as f64 * std::f64::consts::PI / 16.0).cos()
                    };
                    let sum: f64 = (0..64)
                        .map(|at| f64::from(original[at][block]) * wave(y, at / 8) * wave(x, at % 8) / 4.0)
                        .sum();
                    let expected = (sum + 128.0).clamp(0.0, 255.0);
                    assert!((expected - f64::from(found)).abs() <= 1.0, "{expected} {found}");
                }
            }
        });
    }

    #[test]
    fn the_largest_coefficients_do_not_overflow() {
        for place in 0..64 {
            for value in [MAX_SUM as i32, -(MAX_SUM as i32)] {
                let mut coefficients = [[0; BLOCKS]; 64];
                coefficients[place] = [value; BLOCKS];
                coefficients[(place + 1) % 64][0] = 0;
                let mut num_rows = 0;
                inverse_dct(&mut coefficients, |_, _| num_rows += 1);
                assert_eq!(num_rows, 8);
            }
        }
    }
}
