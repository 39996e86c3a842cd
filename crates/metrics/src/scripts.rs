//! Scripts that put no space between words. Scores that count words count their characters: each is a word by itself, as
//! in the tokenizer `zh` of sacreBLEU, with the marks that belong to it.

use std::borrow::Cow;

use unicode_script::{Script, UnicodeScript as _};
use unicode_segmentation::UnicodeSegmentation as _;

const SCRIPTS: [Script; 10] = [
    Script::Bopomofo,
    Script::Han,
    Script::Hiragana,
    Script::Katakana,
    Script::Khmer,
    Script::Lao,
    Script::Myanmar,
    Script::Thai,
    Script::Tibetan,
    Script::Yi,
];

fn is_unspaced(character: char) -> bool {
    // Latin, digits and punctuation are most of all text.
    character >= '\u{e00}' && SCRIPTS.contains(&character.script())
}

/// Whether a character of the text belongs to such a script.
pub fn has_unspaced(text: &str) -> bool {
    text.chars().any(is_unspaced)
}

/// The text with a space on either side of each character of such a script; all other text as it is.
pub fn spaced(text: &str) -> Cow<'_, str> {
    if !has_unspaced(text) {
        return Cow::Borrowed(text);
    }
    let mut apart = String::with_capacity(3 * text.len());
    for character in text.graphemes(true) {
        if has_unspaced(character) {
            apart.extend([" ", character, " "]);
        } else {
            apart.push_str(character);
        }
    }
    Cow::Owned(apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_scripts_without_spaces_are_set_apart_and_nothing_else_changes() {
        let words = |text: &str| spaced(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words("一只狗 run"), ["一", "只", "狗", "run"]);
        assert_eq!(words("犬がT型の車"), ["犬", "が", "T", "型", "の", "車"]);
        // Vowels and tones stay with their consonant.
        assert_eq!(words("ที่น้ำ"), ["ที่", "น้ำ"]);
        for text in ["a dog's  café, née", "개가 달린다", "Собака бежит", "كلب يركض", "🚲 \u{a0}x", ""]
        {
            assert!(matches!(spaced(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
