//! Texts as they can be shown: characters that a reader would not see, or that turn the rest of a line around, are named.
//! Escaping for HTML is the template's part.

use base::visible::is_hidden;

/// Characters of a caption that are shown: those of people are a line or two, and one without an end must not fill a page.
pub(super) const MAX_CAPTION: usize = 600;
/// Characters of a word that are shown in a table.
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

/// A text of many lines, whole.
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
}
