//! Reduces the points of a curve without changing its look: a run of a million updates must not make a page of a
//! million points.

/// Fraction of the points on each side over which a smoothed line averages.
const SMOOTHING: usize = 60;
/// With fewer points a smoothed line would show nothing new.
const MIN_SMOOTHED: usize = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Point {
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }
}

/// At most `max_points` (4 or more) of the points: the first, the last, and of each bucket between them the lowest and
/// the highest, so that no spike is lost.
pub(super) fn resample(points: &[Point], max_points: usize) -> Vec<Point> {
    let max_points = max_points.max(4);
    let (first, inner, last) = match points {
        [first, inner @ .., last] if points.len() > max_points => (first, inner, last),
        _ => return points.to_vec(),
    };
    let size = inner.len().div_ceil((max_points - 2) / 2);
    let mut kept = Vec::with_capacity(max_points);
    kept.push(*first);
    for bucket in inner.chunks(size) {
        let indexed = || bucket.iter().enumerate();
        let lowest = indexed().min_by(|a, b| a.1.y.total_cmp(&b.1.y)).map_or(0, |(index, _)| index);
        let highest = indexed().max_by(|a, b| a.1.y.total_cmp(&b.1.y)).map_or(0, |(index, _)| index);
        kept.push(bucket[lowest.min(highest)]);
        if lowest != highest {
            kept.push(bucket[lowest.max(highest)]);
        }
    }
    kept.push(*last);
    kept
}

/// At most about `max_points` means over surrounding points; empty if there are too few points. The window narrows
/// towards the start, so that the line starts where the curve does, however steep it is there. At the end it only looks
/// back: narrowed, it would end with the noise of the last point.
pub(super) fn smooth(points: &[Point], max_points: usize) -> Vec<Point> {
    if points.len() < MIN_SMOOTHED {
        return Vec::new();
    }
    let reach = (points.len() / SMOOTHING).max(2);
    let stride = points.len().div_ceil(max_points.max(2));
    let last = points.len() - 1;
    let centres = (0..last).step_by(stride).chain(std::iter::once(last));
    centres
        .map(|centre| {
            let before = reach.min(centre);
            let window = &points[centre - before..=(centre + before).min(last)];
            // Divided first: a sum of huge values might not be finite.
            let mean = window.iter().map(|point| point.y / window.len() as f64).sum();
            Point::new(points[centre].x, mean)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(length: usize, y: impl Fn(usize) -> f64) -> Vec<Point> {
        (0..length).map(|index| Point::new(index as f64, y(index))).collect()
    }

    #[test]
    fn spikes_survive_resampling_and_the_number_of_points_is_bounded() {
        let points = curve(100_000, |index| match index {
            31_415 => 50.0,
            77_777 => -50.0,
            _ => (index as f64 * 0.01).sin(),
        });
        let kept = resample(&points, 600);
        assert!(kept.len() <= 600 && kept.len() > 400, "{}", kept.len());
        assert!(kept.contains(&points[31_415]) && kept.contains(&points[77_777]));
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[99_999]));
        assert!(kept.windows(2).all(|pair| pair[0].x < pair[1].x));
    }

    #[test]
    fn few_points_stay_as_they_are() {
        for length in [0, 1, 2, 600] {
            let points = curve(length, |index| index as f64);
            assert_eq!(resample(&points, 600), points);
        }
        for length in 5..40 {
            assert!(resample(&curve(length, |index| (index % 3) as f64), 4).len() <= 4);
        }
    }

    #[test]
    fn flat_curves_keep_one_point_of_each_bucket() {
        assert!(resample(&curve(10_000, |_| 1.0), 600).len() <= 600);
    }

    #[test]
    fn a_smoothed_line_begins_with_the_curve_and_has_less_noise() {
        let points = curve(6000, |index| if index % 2 == 0 { 0.0 } else { 2.0 });
        let line = smooth(&points, 300);
        assert!(line.len() <= 301);
        assert_eq!((line[0], line[line.len() - 1].x), (points[0], 5999.0));
        assert!(line[5..].iter().all(|point| (point.y - 1.0).abs() < 0.02));
        assert!(smooth(&points[..10], 300).is_empty());
        assert!(smooth(&curve(50, |_| 1e308), 300).iter().all(|point| point.y.is_finite()));
    }
}
