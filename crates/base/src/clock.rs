//! The time of day in UTC, for records of what happened when. No decision depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 if the clock is before that.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// `2026-11-28 11:25:50.973 UTC`, for seconds since 1970.
pub fn utc(seconds: f64) -> String {
    let (year, month, day, second) = civil(seconds);
    let millis = ((seconds - seconds.floor()) * 1e3) as u32;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03} UTC")
}

/// `2026-11-28T11:25:50.973898`, for seconds since 1970.
pub fn iso_microseconds(seconds: f64) -> String {
    let (year, month, day, second) = civil(seconds);
    let micros = ((seconds - seconds.floor()) * 1e6) as u32;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// `20261128_112550`, for seconds since 1970.
pub fn compact(seconds: f64) -> String {
    let (year, month, day, second) = civil(seconds);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}")
}

/// Year, month, day and the second of the day (Hinnant, `chrono`-compatible low-level date algorithms).
fn civil(seconds: f64) -> (i64, i64, i64, i64) {
    let whole = seconds.floor() as i64;
    let (days, second) = (whole.div_euclid(86_400) + 719_468, whole.rem_euclid(86_400));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc() {
        assert_eq!(utc(951_782_400.25), "2000-02-29 00:00:00.250 UTC");
        assert_eq!(utc(4_107_542_399.0), "2100-02-28 23:59:59.000 UTC");
        assert_eq!(iso_microseconds(0.0), "1970-01-01T00:00:00.000000");
        assert_eq!(iso_microseconds(951_782_400.25), "2000-02-29T00:00:00.250000");
        assert_eq!(compact(1_735_689_599.9), "20241231_235959");
        assert_eq!(compact(4_107_542_400.0), "21000301_000000");
    }

    #[test]
    fn no_moment_panics() {
        for seconds in [f64::NAN, f64::INFINITY, -1.5, 1e15, -1e15] {
            assert!(![utc(seconds), compact(seconds), iso_microseconds(seconds)].contains(&String::new()));
        }
    }
}
