//! Resampling a table of learned positions for another image size, as
//! `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` does.

use anyhow::bail;
use candle_core::{DType, Device, Tensor};

/// Coefficient of the cubic kernel in PyTorch.
const CUBIC: f64 = -0.75;

/// `table` (prefix + g^2, D), prefix tokens first, to (prefix + `grid`^2, D). A table that fits is returned as it is.
///
/// # Errors
/// A table that is not prefix tokens and a square of patches.
pub fn resample(table: &Tensor, num_prefix_tokens: usize, grid: usize) -> anyhow::Result<Tensor> {
    let (rows, hidden) = table.dims2()?;
    let source = (rows.saturating_sub(num_prefix_tokens) as f64).sqrt().round() as usize;
    if source == 0 || source * source + num_prefix_tokens != rows {
        bail!("a position table of {rows} rows is not a square of patches after {num_prefix_tokens} prefix tokens");
    }
    if source == grid {
        return Ok(table.clone());
    }
    let values: Vec<Vec<f64>> = table.to_dtype(DType::F64)?.to_vec2()?;
    let (patches, taps) = (&values[num_prefix_tokens..], axis_taps(source, grid));
    let mut output = values[..num_prefix_tokens].concat();
    for row in &taps {
        for column in &taps {
            output.extend((0..hidden).map(|feature| {
                let along = |line: usize| -> f64 {
                    column.iter().map(|&(index, weight)| weight * patches[line * source + index][feature]).sum()
                };
                row.iter().map(|&(line, weight)| weight * along(line)).sum::<f64>()
            }));
        }
    }
    Ok(Tensor::from_vec(output, (num_prefix_tokens + grid * grid, hidden), &Device::Cpu)?.to_dtype(table.dtype())?)
}

/// For each output position the four input positions and their weights.
fn axis_taps(source: usize, target: usize) -> Vec<[(usize, f64); 4]> {
    let scale = source as f64 / target as f64;
    let tap = |position: usize| {
        let centre = (position as f64 + 0.5) * scale - 0.5;
        let floor = centre.floor();
        [-1.0, 0.0, 1.0, 2.0].map(|offset: f64| {
            let index = (floor + offset).clamp(0.0, (source - 1) as f64) as usize;
            (index, cubic(centre - floor - offset))
        })
    };
    (0..target).map(tap).collect()
}

fn cubic(distance: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_equal_torch_interpolate() {
        // torch.nn.functional.interpolate(torch.arange(4.).reshape(1,1,2,2)**2, size=(3,3), mode="bicubic")
        let table = Tensor::from_vec(vec![7.0f64, 0.0, 1.0, 4.0, 9.0], (5, 1), &Device::Cpu).unwrap();
        let resampled: Vec<f64> = resample(&table, 1, 3).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(resampled.len(), 10);
        assert_eq!(resampled[0], 7.0);
        // The centre is the mean of the four by symmetry, and the whole is symmetric under no flip of these values.
        assert!((resampled[5] - 3.5).abs() < 1e-12, "{resampled:?}");
    }

    #[test]
    fn a_constant_table_stays_constant_and_the_same_size_is_untouched() {
        let table = Tensor::ones((17, 3), DType::F64, &Device::Cpu).unwrap();
        for value in resample(&table, 1, 7).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap() {
            assert!((value - 1.0).abs() < 1e-12);
        }
        assert_eq!(resample(&table, 1, 4).unwrap().dims(), table.dims());
    }

    #[test]
    fn prefix_tokens_of_any_number_keep_their_rows() {
        let values: Vec<f64> = (0..9).map(f64::from).collect();
        let table =
            |prefix: usize| Tensor::from_vec(values[..4 + prefix].to_vec(), (4 + prefix, 1), &Device::Cpu).unwrap();
        for prefix in [0, 1, 5] {
            let resampled =
                resample(&table(prefix), prefix, 3).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(resampled.len(), prefix + 9);
            assert_eq!(resampled[..prefix], values[..prefix]);
        }
    }

    #[test]
    fn a_table_that_is_not_a_square_is_an_error() {
        let table = Tensor::ones((12, 3), DType::F64, &Device::Cpu).unwrap();
        assert!(resample(&table, 1, 4).is_err());
    }
}
