//! Makes text from outside safe for a terminal, a log or a model card: characters that control a terminal or reverse
//! the rest of a line are escaped, such as `\u{1b}`. Letters of every script, combining marks, joiners and emoji are
//! unchanged.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters shown of a quoted text.
const MAX_QUOTED: usize = 120;

/// Control characters, line and paragraph separators, embeddings, overrides and isolates of bidirectional text, byte
/// order marks, and the tags and annotations that no text should have; not the marks and joiners that right-to-left and
/// Indic text and emoji need.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}'
                | '\u{2029}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0001}'
        )
}

/// Text of one or more lines: `\n` and `\t` are unchanged.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_hidden(character) && !matches!(character, '\n' | '\t'))
}

/// Text in one line and one column: `\n` and `\t` are escaped too.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// The text in one line in quotation marks, cut if it is long.
pub fn quoted(text: &str) -> String {
    let shown = cut(text, MAX_QUOTED);
    if shown.len() == line(text).len() {
        return format!("\"{shown}\"");
    }
    format!("\"{shown}…\" ({} characters)", text.chars().count())
}

/// The start of the text in one line of at most `max` characters.
pub fn cut(text: &str, max: usize) -> String {
    let (mut shown, mut length) = (String::new(), 0);
    for character in text.chars() {
        let next: String = if is_hidden(character) { character.escape_default().collect() } else { character.into() };
        length += next.chars().count();
        if length > max {
            break;
        }
        shown.push_str(&next);
    }
    shown
}

/// Equivalent JSON text in which hidden characters are escaped.
pub fn json(text: &str) -> Cow<'_, str> {
    // Outside strings, JSON has no hidden characters except white space.
    if !text.chars().any(|character| is_hidden(character) && !character.is_ascii_whitespace()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) && !character.is_ascii_whitespace() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_or_turns_a_line_around_is_written_out() {
        let text = "\u{1b}]52;c;x\u{7}\u{9b}31m\u{7f}\r\u{8}\u{85}\u{2028}\u{202e}\u{2066}\u{feff}\u{fffa}\u{e0001}\0";
        let shown = lines(text);
        assert_eq!(
            shown,
            "\\u{1b}]52;c;x\\u{7}\\u{9b}31m\\u{7f}\\r\\u{8}\\u{85}\\u{2028}\\u{202e}\\u{2066}\\u{feff}\\u{fffa}\
             \\u{e0001}\\u{0}"
        );
        assert!(!shown.chars().any(is_hidden));
        for code in (0..=0x9f).chain(0x2028..=0x202e).chain(0x2066..=0x2069) {
            let character = char::from_u32(code).unwrap();
            assert_eq!(is_hidden(character), !(' '..='~').contains(&character), "{code:x}");
        }
    }

    #[test]
    fn every_script_and_emoji_stay_as_they_are() {
        for text in [
            "שלום \u{200f}עולם\u{200e}",
            "مرحبا \u{61c}بكم",
            "क्\u{200d}ष \u{200c}हिन्दी",
            "日本語 한국어 ไทย\u{200b}ไทย",
            "👩\u{200d}🚒 ❤\u{fe0f} 👍🏽 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} 葛\u{e0100}",
            "e\u{301} a\u{20d7} soft\u{ad}hyphen \\ \u{a0}",
        ] {
            assert!(matches!(lines(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(line(text), Cow::Borrowed(_)) && matches!(json(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn ends_of_lines_and_tabs_stay_in_many_lines_and_not_in_one() {
        assert_eq!(lines("a\tb\nc\r\n"), "a\tb\nc\\r\n");
        assert_eq!(line("a\tb\nc"), "a\\tb\\nc");
    }

    #[test]
    fn a_quoted_text_is_one_line_and_cut() {
        assert_eq!(quoted("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
        assert_eq!(quoted(&"犬".repeat(120)), format!("\"{}\"", "犬".repeat(120)));
        assert_eq!(quoted(&"犬".repeat(5000)), format!("\"{}…\" (5000 characters)", "犬".repeat(120)));
        assert_eq!(quoted(&"\0".repeat(5000)), format!("\"{}…\" (5000 characters)", "\\u{0}".repeat(24)));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{202e}\u{7f}\n\u{1b}\u{e0001}é" });
        let text = value.to_string();
        let shown = json(&text);
        assert!(!shown.chars().any(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
