//! The script of a text by the code points of its letters: good enough to spot a foreign caption, no more.
//!
//! Source: the block names of the Unicode standard.

/// Families of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Script {
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    Devanagari,
    /// Han, Kana, Bopomofo and Hangul, which Japanese and Korean mix.
    EastAsian,
    Other,
}

impl Script {
    const ALL: [Self; 8] = [
        Self::Latin,
        Self::Greek,
        Self::Cyrillic,
        Self::Hebrew,
        Self::Arabic,
        Self::Devanagari,
        Self::EastAsian,
        Self::Other,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latin => "Latin",
            Self::Greek => "Greek",
            Self::Cyrillic => "Cyrillic",
            Self::Hebrew => "Hebrew",
            Self::Arabic => "Arabic",
            Self::Devanagari => "Devanagari",
            Self::EastAsian => "East Asian",
            Self::Other => "of another script",
        }
    }

    fn of(letter: char) -> Self {
        match u32::from(letter) {
            0x0000..=0x02AF | 0x1D00..=0x1EFF | 0xA720..=0xA7FF | 0xFB00..=0xFB06 | 0xFF21..=0xFF5A => Self::Latin,
            0x0370..=0x03FF | 0x1F00..=0x1FFF => Self::Greek,
            0x0400..=0x052F | 0x1C80..=0x1C8F | 0x2DE0..=0x2DFF | 0xA640..=0xA69F => Self::Cyrillic,
            0x0590..=0x05FF | 0xFB1D..=0xFB4F => Self::Hebrew,
            0x0600..=0x06FF | 0x0750..=0x077F | 0x0870..=0x08FF | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => Self::Arabic,
            0x0900..=0x097F | 0xA8E0..=0xA8FF => Self::Devanagari,
            0x1100..=0x11FF | 0x3130..=0x318F | 0xA960..=0xA97F | 0xAC00..=0xD7FF | 0xFFA0..=0xFFDC => Self::EastAsian,
            _ if is_chinese_or_japanese(letter) => Self::EastAsian,
            _ => Self::Other,
        }
    }
}

/// The script of more than half of the letters; `None` where no script has as many, or there is no letter.
pub(crate) fn main_script(text: &str) -> Option<Script> {
    let mut counts = [0_usize; Script::ALL.len()];
    for letter in text.chars().filter(|character| character.is_alphabetic()) {
        counts[Script::of(letter) as usize] += 1;
    }
    let num_letters: usize = counts.iter().sum();
    Script::ALL.into_iter().find(|&script| 2 * counts[script as usize] > num_letters)
}

/// Whether it is a letter of a script in which white space divides no words: Han, Kana, Thai, Lao, Burmese, Khmer.
pub(crate) fn is_written_without_spaces(character: char) -> bool {
    let is_south_east_asian = || matches!(u32::from(character), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF);
    // Most text is ASCII, and this is asked of each character twice.
    !character.is_ascii() && character.is_alphabetic() && (is_chinese_or_japanese(character) || is_south_east_asian())
}

fn is_chinese_or_japanese(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x2E80..=0x2FDF | 0x3005..=0x3007 | 0x3040..=0x312F | 0x31A0..=0x31BF | 0x31F0..=0x31FF | 0x3400..=0x4DBF
            | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x2_0000..=0x3_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_most_letters_is_found() {
        for (text, script) in [
            ("A dog, 12 cats", Script::Latin),
            ("Čeština için đẹp", Script::Latin),
            ("ένας σκύλος", Script::Greek),
            ("собака бежит", Script::Cyrillic),
            ("כלב רץ", Script::Hebrew),
            ("كلب يجري", Script::Arabic),
            ("कुत्ता दौड़ रहा है", Script::Devanagari),
            ("犬が走る", Script::EastAsian),
            ("개가 달린다", Script::EastAsian),
            ("一只狗穿 T", Script::EastAsian),
            ("สุนัขวิ่ง", Script::Other),
        ] {
            assert_eq!(main_script(text), Some(script), "{text}");
        }
    }

    #[test]
    fn text_without_letters_or_without_a_majority_has_no_script() {
        for text in ["", "12 !? 🐕", "abвг"] {
            assert_eq!(main_script(text), None, "{text}");
        }
    }

    #[test]
    fn all_stand_at_the_place_of_their_value() {
        for (index, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, index);
        }
    }
}
