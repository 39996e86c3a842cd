//! Lines of text in pixels: letters of one width, ASCII and Latin-1, in two heights.
//!
//! The letters are those of the public-domain font `font8x8`. Its table of code points has U+00B2 three times (0.3.1),
//! so the letters are taken by their place.

use font8x8::legacy::{BASIC_LEGACY, LATIN_LEGACY};
use image::{Rgb, RgbImage};

const LETTER_WIDTH: u32 = 8;
/// A row is a byte; its lowest bit is on the left.
const BOX: [u8; 8] = [0x00, 0x7E, 0x42, 0x42, 0x42, 0x42, 0x7E, 0x00];
const CUT: &str = "...";

/// How high letters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Height {
    /// 8 pixels, as the font has them.
    Low,
    /// 16 pixels, each row twice. The font's upright strokes are two pixels wide and the level ones one, for the high
    /// pixels of old screens, so that it reads well at this height only.
    High,
}

impl Height {
    const fn pixels_per_row(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::High => 2,
        }
    }

    /// Pixels from one line to the next.
    pub(super) const fn line(self) -> u32 {
        10 * self.pixels_per_row()
    }
}

/// Letters in a line of `width` pixels.
pub(super) fn letters_in(width: u32) -> usize {
    (width / LETTER_WIDTH) as usize
}

/// Divides a text into at most `max_lines` lines of at most `num_letters`, at white space where there is some in the
/// line. Text that is left over is cut, which three dots at the end of the last line show.
pub(super) fn wrap(text: &str, num_letters: usize, max_lines: usize) -> Vec<String> {
    let mut lines = Vec::<String>::new();
    for word in plain_letters(text).split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(num_letters.max(1)) {
            let fits = |line: &String| line.chars().count() + 1 + part.len() <= num_letters;
            let num_lines = lines.len();
            match lines.last_mut() {
                // Never so for the second part of a long word: the first has filled its line.
                Some(line) if fits(line) => {
                    line.push(' ');
                    line.extend(part);
                }
                Some(line) if num_lines >= max_lines => {
                    mark_as_cut(line, num_letters);
                    return lines;
                }
                None if max_lines == 0 => return lines,
                _ => lines.push(part.iter().collect()),
            }
        }
    }
    lines
}

/// The end of a text that is longer than `num_letters`, after three dots.
pub(super) fn cut_beginning(text: &str, num_letters: usize) -> String {
    let letters: Vec<char> = plain_letters(text).chars().collect();
    if letters.len() <= num_letters {
        return letters.into_iter().collect();
    }
    let num_kept = num_letters.saturating_sub(CUT.len());
    CUT.chars().take(num_letters).chain(letters[letters.len() - num_kept..].iter().copied()).collect()
}

/// Draws a line whose first letter has its upper left corner at (x, y); what is outside of the sheet is left out.
pub(super) fn draw(sheet: &mut RgbImage, (left, top): (u32, u32), line: &str, height: Height, ink: Rgb<u8>) {
    for (letter, left) in line.chars().zip((left..).step_by(LETTER_WIDTH as usize)) {
        let rows = glyph(letter).into_iter().flat_map(|row| (0..height.pixels_per_row()).map(move |_| row));
        for (row, y) in rows.zip(top..) {
            for x in (0..LETTER_WIDTH).filter(|x| row >> x & 1 == 1) {
                if let Some(pixel) = sheet.get_pixel_mut_checked(left + x, y) {
                    *pixel = ink;
                }
            }
        }
    }
}

/// The text with ASCII in the place of typographic punctuation, which word processors put into captions.
fn plain_letters(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{2018}' | '\u{2019}' => plain.push('\''),
            '\u{201C}'..='\u{201E}' => plain.push('"'),
            '\u{2010}'..='\u{2015}' => plain.push('-'),
            '\u{2026}' => plain.push_str("..."),
            _ => plain.push(letter),
        }
    }
    plain
}

fn mark_as_cut(line: &mut String, num_letters: usize) {
    let num_kept = line.chars().count().min(num_letters.saturating_sub(CUT.len()));
    *line = line.chars().take(num_kept).collect();
    line.truncate(line.trim_end().len());
    line.extend(CUT.chars().take(num_letters));
}

fn glyph(letter: char) -> [u8; 8] {
    match u32::from(letter) {
        code @ 0x20..=0x7E => BASIC_LEGACY[code as usize],
        code @ 0xA0..=0xFF => LATIN_LEGACY[code as usize - 0xA0],
        _ => BOX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(line: &str, height: Height) -> Vec<String> {
        let mut sheet = RgbImage::new(8 * line.chars().count() as u32, height.line());
        draw(&mut sheet, (0, 0), line, height, Rgb([255; 3]));
        let dot = |pixel: &Rgb<u8>| if pixel[0] > 0 { '#' } else { '.' };
        sheet.rows().map(|row| row.map(dot).collect()).collect()
    }

    #[test]
    fn text_is_divided_at_white_space() {
        assert_eq!(wrap("a man  rides\na horse", 7, 9), ["a man", "rides a", "horse"]);
        assert_eq!(wrap("exactly ten", 11, 1), ["exactly ten"]);
        assert_eq!(wrap(" \n ", 5, 3), [""; 0]);
        assert_eq!(wrap("a’b “c” – d…", 20, 1), ["a'b \"c\" - d..."]);
    }

    #[test]
    fn words_longer_than_a_line_are_broken() {
        assert_eq!(wrap("a abcdefghij k", 4, 9), ["a", "abcd", "efgh", "ij k"]);
        assert_eq!(wrap("äöüäöü", 4, 9), ["äöüä", "öü"]);
    }

    #[test]
    fn text_that_is_left_over_is_cut_with_dots() {
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "three..."]);
        assert_eq!(wrap("one two three four", 7, 2), ["one two", "thre..."]);
        assert_eq!(wrap("one two three", 9, 2), ["one two", "three"]);
        assert_eq!(wrap("a bc d efg", 6, 1), ["a b..."]);
        assert_eq!(wrap("ab cdef gh", 6, 1), ["ab..."]);
        assert_eq!(wrap("ab c def", 6, 1), ["ab..."]);
        assert_eq!(wrap("abcdefgh", 6, 1), ["abc..."]);
        assert_eq!(wrap("a b", 5, 0), [""; 0]);
        assert_eq!(wrap("abc def", 2, 1), [".."]);
    }

    #[test]
    fn of_a_long_name_the_end_is_kept() {
        assert_eq!(cut_beginning("a.jpg", 5), "a.jpg");
        assert_eq!(cut_beginning("folder/123.jpg", 10), "...123.jpg");
        assert_eq!(cut_beginning("abc", 2), "..");
    }

    #[test]
    fn letters_are_not_mirrored_and_stand_side_by_side() {
        let low = pixels("LL", Height::Low);
        assert_eq!(low[..2], ["####....####....", ".##......##....."]);
        assert_eq!(low[6..8], ["#######.#######.", "................"]);
    }

    #[test]
    fn high_letters_have_each_row_twice() {
        let (low, high) = (pixels("Äg", Height::Low), pixels("Äg", Height::High));
        assert_eq!((low.len(), high.len()), (10, 20));
        assert!(high.iter().enumerate().all(|(index, row)| *row == low[index / 2]));
    }

    #[test]
    fn every_printable_letter_of_latin_1_has_its_own_shape() {
        let letters: Vec<char> = ('!'..='~').chain('¡'..='ÿ').filter(|&letter| letter != '\u{AD}').collect();
        let is_there = |letter: char| glyph(letter) != [0; 8] && glyph(letter) != BOX;
        assert!(letters.iter().all(|&letter| is_there(letter)));
        assert_ne!(glyph('é'), glyph('e'));
        assert_eq!(glyph('\u{A0}'), glyph(' '));
    }

    #[test]
    fn other_characters_are_a_box() {
        for letter in ['犬', 'д', '🐕', '\u{7}', '\u{9F}', '\u{100}'] {
            assert_eq!(glyph(letter), BOX, "{letter:?}");
        }
        assert_eq!(pixels("犬", Height::Low)[1], ".######.");
    }

    #[test]
    fn what_is_outside_of_the_sheet_is_left_out() {
        let mut sheet = RgbImage::new(12, 4);
        draw(&mut sheet, (6, 2), "MMMM", Height::High, Rgb([255; 3]));
        assert!(sheet.pixels().any(|pixel| pixel[0] > 0));
    }
}
