//! Confidence intervals by the bootstrap (Efron 1979; for BLEU: Koehn 2004): what a score would be on other images of
//! the same kind, and what the difference between two sets of captions would be.

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

/// How much higher a score is than the same score of other captions of the same images.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    pub value: f64,
    /// That of the resamples.
    pub interval: Interval,
    /// Two-sided: twice the share of the resamples in which the difference is 0 or has the sign that fewer have, at
    /// most 1. The difference itself counts as one more resample, so that it is never 0.
    pub p: f64,
}

/// Differences with a lower p count as real.
pub const SIGNIFICANCE: f64 = 0.05;
/// Resamples below which no p is so low.
pub const LEAST_RESAMPLES: usize = 40;

impl Difference {
    /// Whether other images would hardly turn it around: p is below [`SIGNIFICANCE`].
    pub fn is_real(&self) -> bool {
        self.p < SIGNIFICANCE
    }
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
    Some(resampled(num_images, num_resamples, seed, scores)?.map(|values| interval(&values)))
}

/// How much higher every score is that `scores` returns for the images than that of `others`, by the paired bootstrap:
/// each resample scores both on the same images, which are those that [`intervals`] draws. `None` without images.
pub fn differences<const N: usize>(
    num_images: usize,
    num_resamples: usize,
    seed: u64,
    scores: impl Fn(&[usize]) -> [f64; N],
    others: impl Fn(&[usize]) -> [f64; N],
) -> Option<[Difference; N]> {
    let differences = |drawn: &[usize]| {
        let (scores, others) = (scores(drawn), others(drawn));
        std::array::from_fn(|index| scores[index] - others[index])
    };
    let of_resamples: [Vec<f64>; N] = resampled(num_images, num_resamples, seed, differences)?;
    let of_all = differences(&(0..num_images).collect::<Vec<_>>());
    Some(std::array::from_fn(|index| {
        let values = &of_resamples[index];
        Difference { value: of_all[index], interval: interval(values), p: p_value(values) }
    }))
}

/// Every score of each resample, sorted.
fn resampled<const N: usize>(
    num_images: usize,
    num_resamples: usize,
    seed: u64,
    scores: impl Fn(&[usize]) -> [f64; N],
) -> Option<[Vec<f64>; N]> {
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
    resampled.iter_mut().for_each(|values| values.sort_by(f64::total_cmp));
    Some(resampled)
}

fn interval(sorted: &[f64]) -> Interval {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Interval { low: quantile(sorted, tail), high: quantile(sorted, 1.0 - tail) }
}

/// A difference that is not finite speaks for neither side.
fn p_value(differences: &[f64]) -> f64 {
    let count = |is_of_side: fn(f64) -> bool| differences.iter().filter(|&&value| is_of_side(value)).count();
    let most = count(|value| value > 0.0).max(count(|value| value < 0.0));
    let against = 1 + differences.len() - most;
    (2.0 * against as f64 / (1 + differences.len()) as f64).min(1.0)
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

    /// The mean of the values that are drawn.
    fn mean(values: &[f64]) -> impl Fn(&[usize]) -> [f64; 1] {
        move |drawn| [drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64]
    }

    /// Differences of two lists of values that have much in common, and their means.
    fn shifted(seed: u64, num: usize, shift: f64) -> [Difference; 1] {
        let mut stream = Stream::new(seed, "test", "");
        let others: Vec<f64> = (0..num).map(|_| 10.0 * stream.normal()).collect();
        let values: Vec<f64> = others.iter().map(|value| value + shift + stream.normal()).collect();
        let found = differences(num, 400, 1, mean(&values), mean(&others)).unwrap();
        let [turned] = differences(num, 400, 1, mean(&others), mean(&values)).unwrap();
        let close = |a: f64, b: f64| assert!((a + b).abs() < 1e-9, "{found:?} {turned:?}");
        close(found[0].value, turned.value);
        close(found[0].interval.low, turned.interval.high);
        close(found[0].interval.high, turned.interval.low);
        assert_eq!(found[0].p, turned.p, "of two lists it does not matter which is the first");
        found
    }

    #[test]
    fn a_shift_that_is_far_below_the_spread_of_the_values_is_found() {
        let [found] = shifted(1, 400, 0.5);
        // Each list by itself has a standard error of 0.5, their difference one of 0.05.
        let Interval { low, high } = found.interval;
        assert!(low < 0.5 && 0.5 < high && high - low < 0.25, "{found:?}");
        assert!(found.is_real() && found.p == 2.0 / 401.0, "{found:?}");
    }

    #[test]
    fn of_lists_that_do_not_differ_one_in_twenty_seems_to() {
        let num_real = (0..300).filter(|&seed| shifted(seed, 60, 0.0)[0].is_real()).count();
        assert!((5..=30).contains(&num_real), "{num_real}");
    }

    #[test]
    fn nothing_differs_from_itself_and_what_is_not_finite_says_nothing() {
        let values = [1.0, 5.0, 2.0];
        let [found] = differences(3, 50, 1, mean(&values), mean(&values)).unwrap();
        let none = Difference { value: 0.0, interval: Interval { low: 0.0, high: 0.0 }, p: 1.0 };
        assert_eq!(found, none);
        let lost = differences(3, 50, 1, |_| [f64::NAN], mean(&values)).unwrap();
        assert!(lost[0].p == 1.0 && !lost[0].is_real());
        assert_eq!(differences(0, 50, 1, mean(&[]), mean(&[])), None);
    }
}
