//! Formats numbers and texts. Characters that are invisible or reverse the rest of a line are shown by code. The
//! template escapes HTML.

use base::visible::is_hidden;

/// Characters shown of a caption: one without an end must not fill the page.
pub(super) const MAX_CAPTION: usize = 600;
/// Characters shown of a word in a table.
pub(super) const MAX_WORD: usize = 40;

/// One line of at most `max_chars` characters.
pub(super) fn line(text: &str, max_chars: usize) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == max_chars {
            shown.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\t' => shown.push(' '),
            _ => push(&mut shown, character),
        }
    }
    shown
}

/// A text of several lines.
pub(super) fn lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            _ => push(&mut shown, character),
        }
    }
    shown
}

fn push(shown: &mut String, character: char) {
    if is_hidden(character) {
        shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(character)));
    } else {
        shown.push(character);
    }
}

/// About four significant digits.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let text = if (-4..6).contains(&magnitude) {
        let decimals = usize::try_from(3 - magnitude).unwrap_or(0).min(6);
        format!("{value:.decimals$}")
    } else {
        format!("{value:.2e}")
    };
    with_minus(&text)
}

/// Three decimals.
pub(super) fn score(value: f64) -> String {
    if value.is_finite() { with_minus(&format!("{value:.3}")) } else { "not finite".to_owned() }
}

/// Three decimals with their sign.
pub(super) fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", score(value)) } else { score(value) }
}

/// A fraction from 0 to 1 as a percentage.
pub(super) fn percentage(share: f64) -> String {
    if share.is_finite() { with_minus(&format!("{:.1} %", 100.0 * share)) } else { "not finite".to_owned() }
}

/// A whole number with thousands separators.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of parameters: `98.3 M`.
pub(super) fn large(number: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let value = number as f64;
    let unit = UNITS.iter().find(|(size, _)| value >= *size);
    unit.map_or_else(|| number.to_string(), |(size, name)| format!("{:.1} {name}", value / size))
}

/// A count with its noun: `1 update`, `2 updates`.
pub(super) fn counted(number: u64, singular: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {singular}{ending}", grouped(number))
}

/// Seconds as a duration in its two largest units.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "not finite".to_owned();
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", whole % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Uses the typographic minus sign, except in the exponent.
fn with_minus(text: &str) -> String {
    text.strip_prefix('-').map_or_else(|| text.to_owned(), |rest| format!("\u{2212}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_hide_or_turn_around_are_named() {
        assert_eq!(line("a\u{202e}b\u{2028}c\0d", 99), "a⟨U+202E⟩b⟨U+2028⟩c⟨U+0000⟩d");
        assert_eq!(line("one\ntwo\tthree", 99), "one two three");
        assert_eq!(line("שלום 日本 👩‍🚒", 99), "שלום 日本 👩‍🚒");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(line("犬犬犬", 2), "犬犬…");
        assert_eq!(line("犬犬", 2), "犬犬");
    }

    #[test]
    fn lines_keep_their_ends() {
        assert_eq!(lines("a = 1\r\nb\t= \u{1b}2\n"), "a = 1\nb\t= ⟨U+001B⟩2\n");
    }

    #[test]
    fn numbers_have_four_digits_at_any_size() {
        let cases = [
            (0.0, "0"),
            (2.345_67, "2.346"),
            (-8.4, "\u{2212}8.400"),
            (123.45, "123.5"),
            (65_432.1, "65432"),
            (0.000_25, "0.000250"),
            (1e-7, "1.00e-7"),
            (1e300, "1.00e300"),
            (f64::NAN, "not finite"),
            (f64::INFINITY, "not finite"),
        ];
        for (value, expected) in cases {
            assert_eq!(significant(value), expected, "{value}");
        }
    }

    #[test]
    fn differences_have_a_sign() {
        assert_eq!([0.25, -0.25, 0.0, f64::NAN].map(signed), ["+0.250", "\u{2212}0.250", "0.000", "not finite"]);
    }

    #[test]
    fn counts_and_durations_are_short() {
        assert_eq!((grouped(0), grouped(999), grouped(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!((large(950), large(98_304_000)), ("950".into(), "98.3 M".into()));
        assert_eq!((counted(1, "epoch"), counted(1200, "epoch")), ("1 epoch".into(), "1,200 epochs".into()));
        assert_eq!((duration(4.25), duration(61.0)), ("4.2 s".into(), "1 min 1 s".into()));
        assert_eq!((duration(7_260.0), duration(100_000.0)), ("2 h 1 min".into(), "1 d 3 h".into()));
        assert_eq!(duration(f64::NAN), "not finite");
        assert_eq!(duration(f64::MAX).chars().last(), Some('h'));
    }
}
