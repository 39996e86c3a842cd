//! Moments as the client of Weights & Biases writes them, in UTC: this program knows no time zones.

use base::clock::civil;

/// `2026-11-28T11:25:50.973898`, for seconds since 1970.
pub(super) fn with_microseconds(seconds: f64) -> String {
    let (year, month, day, second) = civil(seconds);
    let micros = ((seconds - seconds.floor()) * 1e6) as u32;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// `20261128_112550`, for seconds since 1970.
pub(super) fn compact(seconds: f64) -> String {
    let (year, month, day, second) = civil(seconds);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(with_microseconds(0.0), "1970-01-01T00:00:00.000000");
        assert_eq!(with_microseconds(951_782_400.25), "2000-02-29T00:00:00.250000");
        assert_eq!(compact(1_735_689_599.9), "20241231_235959");
        assert_eq!(compact(4_107_542_400.0), "21000301_000000");
    }

    #[test]
    fn no_moment_panics() {
        for seconds in [f64::NAN, f64::INFINITY, -1.5, 1e15, -1e15] {
            assert!(!compact(seconds).is_empty() && !with_microseconds(seconds).is_empty());
        }
    }
}
