//! What the rules distinguish in a caption: the class of each UTF-16 unit, one byte.
//!
//! An ASCII character is its own class. A character beyond the first Unicode plane is two units that no rule knows,
//! because the Java tool reads it as two.

use super::sets;

/// Neither a letter nor anything else that a rule names.
const OTHER: u8 = 0x80;

/// The classes of `character`, one or two.
pub(super) fn classes(character: char) -> impl Iterator<Item = u8> {
    std::iter::repeat_n(class(character), character.len_utf16())
}

/// The class of `character`. The comments say what the class is in [`super::rules`].
fn class(character: char) -> u8 {
    let Ok(unit) = u16::try_from(u32::from(character)) else { return OTHER };
    match character {
        '\0'..='\x7F' => unit.to_le_bytes()[0],
        // These four are the other cases of ASCII letters: of s, i, i and k.
        'ſ' => 0x81,
        'ı' => 0x82,
        'İ' => 0x83,
        '\u{212A}' => 0x84,
        // Dashes, two of them as Windows-1252 misread as Latin-1, as further below.
        '\u{96}' | '\u{97}' | '\u{2013}'..='\u{2015}' => 0x85,
        // Spaces that do not break words.
        '\u{2000}'..='\u{200A}' | '\u{3000}' => 0x86,
        // Line ends.
        '\u{2028}' | '\u{2029}' => 0x87,
        // A line end or a misread ellipsis.
        '\u{85}' => 0x88,
        // Roman numerals: upper case, but no letters.
        '\u{2160}'..='\u{216F}' => 0x89,
        // Decimal and thousands separators of Arabic.
        '\u{66B}' | '\u{66C}' => 0x8B,
        // Plus and minus above or below the line.
        '\u{207A}' | '\u{207B}' | '\u{208A}' | '\u{208B}' => 0x8C,
        // Digits above the line.
        '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' => 0x8D,
        // Digits below the line.
        '\u{2080}'..='\u{2089}' => 0x8E,
        // No-break space.
        '\u{A0}' => 0x8F,
        // Fraction slash.
        '\u{2044}' => 0x90,
        // Fractions.
        '¼'..='¾' | '\u{2153}'..='\u{215E}' => 0x91,
        // Currencies.
        '\u{80}' | '¢'..='¥' | '\u{60B}' | '\u{E3F}' | '\u{20A0}' | '\u{20A4}' | '€' => 0x92,
        '\u{FFE0}' | '\u{FFE1}' | '\u{FFE5}' | '\u{FFE6}' => 0x92,
        // Soft hyphen.
        '\u{AD}' => 0x96,
        // Right single quotes: apostrophes.
        '\u{92}' | '’' => 0x97,
        // Left single quotes.
        '\u{91}' | '‘' | '\u{201B}' => 0x98,
        // Hyphens.
        '\u{58A}' | '\u{2010}' | '\u{2011}' => 0x99,
        // Ellipsis.
        '…' => 0x9A,
        // Ideographic comma.
        '\u{3001}' => 0x9B,
        // Other quotes.
        '\u{93}' | '\u{94}' | '«' | '»' | '\u{201A}' | '\u{201C}'..='\u{201F}' | '‹' | '›' => 0x9C,
        // Circled letters: symbols in upper case.
        '\u{24B6}'..='\u{24CF}' => 0x9E,
        _ if sets::is_digit(unit) => 0x8A,
        // Cherokee has had lower case only since the Java tool.
        _ if sets::contains(sets::LETTERS, unit) => {
            if character.is_uppercase() && !('\u{13A0}'..='\u{13F4}').contains(&character) { 0x94 } else { 0x93 }
        }
        _ if sets::contains(sets::MARKS, unit) => 0x95,
        _ if sets::contains(sets::SYMBOLS, unit) => 0x9D,
        _ => OTHER,
    }
}
