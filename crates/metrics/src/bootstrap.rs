//! Confidence intervals by the bootstrap (Efron 1979; for BLEU: Koehn 2004): what a score would be on other images of
//! the same kind.

use base::random::Stream;

/// Resamples of a report.
pub const NUM_RESAMPLES: usize = 1000;
/// Share of the resamples inside an interval.
pub const CONFIDENCE: f64 = 0.95;

/// A score's interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// 2.5 % of the resamples are below.
    #[serde(deserialize_with = "nan_if_null")]
    pub low: f64,
    /// 2.5 % of the resamples are above.
    #[serde(deserialize_with = "nan_if_null")]
    pub high: f64,
}

/// JSON has no NaN.
fn nan_if_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value: Option<f64> = serde::Deserialize::deserialize(deserializer)?;
    Ok(value.unwrap_or(f64::NAN))
}

/// The percentile interval of every score that `scores` returns for `num_images` images drawn with replacement. The
/// draws depend only on `seed`. `None` without images.
pub fn intervals<const N: usize>(
    num_images: usize,
    num_resamples: usize,
    seed: u64,
    scores: impl Fn(&[usize]) -> [f64; N],
) -> Option<[Interval; N]> {
    if num_images == 0 || num_resamples == 0 {
        return None;
    }
    let mut stream = Stream::new(seed, "bootstrap", "");
    let mut drawn = vec![0; num_images];
    let mut resampled: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(num_resamples));
    for _ in 0..num_resamples {
        drawn.iter_mut().for_each(|index| *index = stream.below(num_images));
        for (values, score) in resampled.iter_mut().zip(scores(&drawn)) {
            values.push(score);
        }
    }
    Some(resampled.map(|mut values| {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
    }))
}

/// Between sorted values, by linear interpolation (`numpy.percentile`).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let mean = |drawn: &[usize]| [drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64];
        let [interval] = intervals(values.len(), 2000, 1, mean).unwrap();
        // Standard error of the mean: 0.5 / sqrt(400) = 0.025.
        assert!((interval.low - (0.5 - 1.96 * 0.025)).abs() < 0.006, "{interval:?}");
        assert!((interval.high - (0.5 + 1.96 * 0.025)).abs() < 0.006, "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_no_image_gives_none() {
        let first = |drawn: &[usize]| [drawn[0] as f64];
        assert_eq!(intervals(9, 50, 3, first), intervals(9, 50, 3, first));
        assert_ne!(intervals(9, 50, 3, first), intervals(9, 50, 4, first));
        assert_eq!(intervals(0, 50, 3, first), None);
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        let values = [0.0, 1.0, 2.0, 10.0];
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)), (0.0, 1.5, 10.0));
    }
}
