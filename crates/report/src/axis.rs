//! An axis: its range, ticks and labels.

/// Larger values are not drawn: a difference of two of them might not be finite.
pub(super) const LIMIT: f64 = 1e30;

/// A range of values with its ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Axis {
    /// An axis around both values that starts and ends with a tick.
    pub(super) fn around(low: f64, high: f64, num_steps: usize) -> Self {
        let (low, high) = spread(low, high);
        let step = nice_step((high - low) / num_steps.max(1) as f64);
        // With tolerance: 0.6 / 0.2 is not 3.
        Self { low: (low / step + 1e-6).floor() * step, high: (high / step - 1e-6).ceil() * step, step }
    }

    /// An axis from `low` to `high`, with ticks at whole numbers in between.
    pub(super) fn counting(low: f64, high: f64, num_steps: usize) -> Self {
        let (low, high) = spread(low, high);
        let step = nice_step((high - low) / num_steps.max(1) as f64).max(1.0);
        Self { low, high, step }
    }

    /// The position of a value: 0 at the start, 1 at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The ticks: values and their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const MOST: usize = 20;
        let first = (self.low / self.step - 1e-6).ceil();
        let values = (0..MOST).map(|index| (first + index as f64) * self.step);
        let inside = values.take_while(|value| *value <= self.high + 1e-6 * self.step);
        inside.map(|value| (value, self.label(value))).collect()
    }

    /// Enough decimals to distinguish neighbouring ticks.
    fn label(&self, value: f64) -> String {
        // 0.3 - 3 * 0.1 is not 0.
        if value.abs() < 1e-6 * self.step {
            return "0".to_owned();
        }
        let largest = self.low.abs().max(self.high.abs());
        let text = if !(1e-3..1e13).contains(&largest) {
            let decimals = digits_between(largest, self.step).min(3);
            let text = format!("{value:.decimals$e}");
            match text.split_once('e') {
                Some((mantissa, exponent)) if mantissa.contains('.') => {
                    format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
                }
                _ => text,
            }
        } else {
            const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
            let unit = UNITS.iter().find(|(size, _)| largest >= *size);
            let (size, name) = unit.map_or((1.0, ""), |&(size, name)| (if name == "k" { 1e3 } else { size }, name));
            let decimals = digits_between(1.0, self.step / size);
            format!("{:.decimals$}{name}", value / size)
        };
        text.strip_prefix('-').map_or_else(|| text.clone(), |rest| format!("\u{2212}{rest}"))
    }
}

/// Decimal places from `large` down to `step`.
fn digits_between(large: f64, step: f64) -> usize {
    let digits = (large.log10() + 1e-9).floor() - (step.log10() + 1e-9).floor();
    if digits > 0.0 { (digits as usize).min(12) } else { 0 }
}

/// Both values in order, distinct and drawable.
fn spread(low: f64, high: f64) -> (f64, f64) {
    if !low.is_finite() || !high.is_finite() {
        return (0.0, 1.0);
    }
    let (low, high) = (low.clamp(-LIMIT, LIMIT), high.clamp(-LIMIT, LIMIT));
    let (low, high) = if low <= high { (low, high) } else { (high, low) };
    let largest = low.abs().max(high.abs());
    // Closer together, neighbouring ticks would be the same number. Denormal numbers have no useful steps.
    if high - low > 1e-9 * largest && largest > 1e-30 {
        return (low, high);
    }
    match largest {
        largest if largest <= 1e-30 => (0.0, 1.0),
        _ if low < 0.0 => (1.5 * low, 0.0),
        _ => (0.0, 1.5 * high),
    }
}

/// The smallest step of 1, 2 or 5 times a power of ten that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(rough)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(labels(Axis::around(2.31, 4.87, 4)), ["2", "3", "4", "5"]);
        assert_eq!(labels(Axis::around(0.0, 0.31, 4)), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(Axis::around(0.0, 2e-4, 4)), ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]);
        assert_eq!(labels(Axis::around(-0.02, 0.02, 2)), ["\u{2212}0.02", "0", "0.02"]);
        assert_eq!(labels(Axis::around(0.0, 65_000.0, 4)), ["0", "20k", "40k", "60k", "80k"]);
    }

    #[test]
    fn axes_that_count_have_ticks_at_whole_numbers() {
        assert_eq!(labels(Axis::counting(0.0, 3.0, 6)), ["0", "1", "2", "3"]);
        assert_eq!(labels(Axis::counting(0.0, 12_340.0, 5)), ["0", "5k", "10k"]);
        assert_eq!(labels(Axis::counting(0.0, 1_200_000.0, 4)), ["0", "0.5M", "1.0M"]);
    }

    #[test]
    fn values_of_any_kind_give_an_axis_with_finite_ticks() {
        let odd = [0.0, -0.0, 1.0, -1.0, 1e-320, 5e-9, 1e300, -1e300, 1e30, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for low in odd {
            for high in odd {
                for axis in [Axis::around(low, high, 4), Axis::counting(low, high, 4)] {
                    let ticks = axis.ticks();
                    assert!(axis.high > axis.low && axis.high.is_finite(), "{low} {high} {axis:?}");
                    assert!(ticks.len() <= 20 && ticks.iter().all(|(value, _)| value.is_finite()), "{low} {high}");
                    assert!(ticks.iter().all(|(_, label)| label.len() < 24), "{low} {high} {ticks:?}");
                }
            }
        }
    }

    #[test]
    fn equal_values_are_in_the_middle_and_not_on_the_edge() {
        let axis = Axis::around(3.0, 3.0, 4);
        assert!(axis.place(3.0) > 0.4 && axis.place(3.0) < 0.8, "{axis:?}");
    }
}
