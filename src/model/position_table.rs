//! Resampling a table of learned positions for another image size, as
//! `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` does, with or without `antialias=True`.

use anyhow::bail;
use candle_core::{DType, Device, Tensor};

/// Coefficient of the cubic kernel in PyTorch.
const CUBIC: f64 = -0.75;
/// Where it antialiases, as Pillow.
const ANTIALIASED_CUBIC: f64 = -0.5;

/// A way of resampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionFilter {
    /// Four neighbours.
    Bicubic,
    /// As many as the target's cell covers; also where the target is larger, another kernel than [`Self::Bicubic`].
    AntialiasedBicubic,
}

/// `table` (prefix + g^2, D), prefix tokens first, to (prefix + `grid`^2, D). A table that fits is returned as it is.
///
/// # Errors
/// A table that is not prefix tokens and a square of patches.
pub fn resample(
    table: &Tensor,
    num_prefix_tokens: usize,
    grid: usize,
    filter: PositionFilter,
) -> anyhow::Result<Tensor> {
    let (rows, hidden) = table.dims2()?;
    let source = (rows.saturating_sub(num_prefix_tokens) as f64).sqrt().round() as usize;
    if source == 0 || source * source + num_prefix_tokens != rows {
        bail!("a position table of {rows} rows is not a square of patches after {num_prefix_tokens} prefix tokens");
    }
    if source == grid {
        return Ok(table.clone());
    }
    let values: Vec<Vec<f64>> = table.to_dtype(DType::F64)?.to_vec2()?;
    let (patches, taps) = (&values[num_prefix_tokens..], filter.taps(source, grid));
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

impl PositionFilter {
    /// For each output position the input positions that it is made of, and their weights.
    fn taps(self, source: usize, target: usize) -> Vec<Vec<(usize, f64)>> {
        let scale = source as f64 / target as f64;
        let tap = |position: usize| {
            let centre = (position as f64 + 0.5) * scale;
            match self {
                Self::Bicubic => nearest_four(centre - 0.5, source),
                Self::AntialiasedBicubic => covered(centre, scale.max(1.0), source),
            }
        };
        (0..target).map(tap).collect()
    }
}

fn nearest_four(centre: f64, source: usize) -> Vec<(usize, f64)> {
    let floor = centre.floor();
    let neighbour = |offset: f64| {
        let index = (floor + offset).clamp(0.0, (source - 1) as f64) as usize;
        (index, cubic(centre - floor - offset, CUBIC))
    };
    [-1.0, 0.0, 1.0, 2.0].map(neighbour).to_vec()
}

/// Two cells of the target to either side of `centre`; `scale` is the length of one.
fn covered(centre: f64, scale: f64, source: usize) -> Vec<(usize, f64)> {
    let first = (centre - 2.0 * scale + 0.5).max(0.0) as usize;
    let end = ((centre + 2.0 * scale + 0.5) as usize).min(source);
    let weight = |index: usize| cubic((index as f64 + 0.5 - centre) / scale, ANTIALIASED_CUBIC);
    let total: f64 = (first..end).map(weight).sum();
    (first..end).map(|index| (index, weight(index) / total)).collect()
}

fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::PositionFilter::{AntialiasedBicubic, Bicubic};
    use super::*;

    #[test]
    fn values_equal_torch_interpolate() {
        // torch.nn.functional.interpolate(torch.arange(4.).reshape(1,1,2,2)**2, size=(3,3), mode="bicubic")
        let table = Tensor::from_vec(vec![7.0f64, 0.0, 1.0, 4.0, 9.0], (5, 1), &Device::Cpu).unwrap();
        let resampled: Vec<f64> = resample(&table, 1, 3, Bicubic).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(resampled.len(), 10);
        assert_eq!(resampled[0], 7.0);
        // The centre is the mean of the four by symmetry, and the whole is symmetric under no flip of these values.
        assert!((resampled[5] - 3.5).abs() < 1e-12, "{resampled:?}");
    }

    #[test]
    fn a_constant_table_stays_constant_and_the_same_size_is_untouched() {
        let table = Tensor::ones((17, 3), DType::F64, &Device::Cpu).unwrap();
        for (grid, filter) in [(7, Bicubic), (7, AntialiasedBicubic), (3, AntialiasedBicubic), (1, AntialiasedBicubic)]
        {
            let resampled = resample(&table, 1, grid, filter).unwrap();
            for value in resampled.flatten_all().unwrap().to_vec1::<f64>().unwrap() {
                assert!((value - 1.0).abs() < 1e-12, "{grid} {filter:?}");
            }
        }
        assert_eq!(resample(&table, 1, 4, Bicubic).unwrap().dims(), table.dims());
    }

    #[test]
    fn prefix_tokens_of_any_number_keep_their_rows() {
        let values: Vec<f64> = (0..9).map(f64::from).collect();
        let table =
            |prefix: usize| Tensor::from_vec(values[..4 + prefix].to_vec(), (4 + prefix, 1), &Device::Cpu).unwrap();
        for prefix in [0, 1, 5] {
            let resampled =
                resample(&table(prefix), prefix, 3, Bicubic).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(resampled.len(), prefix + 9);
            assert_eq!(resampled[..prefix], values[..prefix]);
        }
    }

    #[test]
    fn a_table_that_is_not_a_square_is_an_error() {
        let table = Tensor::ones((12, 3), DType::F64, &Device::Cpu).unwrap();
        assert!(resample(&table, 1, 4, Bicubic).is_err());
    }
}
