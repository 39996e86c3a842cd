//! The ways in which one file name is written. macOS takes letters apart (`é` is `e` and an accent), Windows does not
//! tell `IMG.JPG` from `img.jpg`, browsers write `%20` for a blank: all are one name to the user.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use percent_encoding::percent_decode_str;
use unicase::UniCase;

use pixels::picture_formats::is_image_name;

/// How far apart two names of one file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// They are equal, or differ in what annotations leave out by habit: the ending, or what COCO's names of 2014 begin
    /// with.
    Habit,
    /// In the Unicode form, in percent escapes, or in kinds of blanks.
    Form,
    /// In ligatures, which some programs write for two letters.
    Ligature,
    /// In letter case as well.
    Case,
    /// In endings that mean one kind of file as well: `.jpg` and `.jpeg`.
    Ending,
    /// One is a number, and the other that number with zeros before it, or `.0` after it.
    Number,
}

impl Difference {
    /// Those that are reported.
    pub(crate) const TOLD: [Self; 5] = [Self::Form, Self::Ligature, Self::Case, Self::Ending, Self::Number];

    /// In what the names differ, for a message.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Habit => "nothing",
            Self::Form => "Unicode form, blanks or percent escapes",
            Self::Ligature => "ligatures, such as \u{fb01} for fi",
            Self::Case => "letter case",
            Self::Ending => "their extensions, which mean the same",
            Self::Number => "how a number is written: zeros before it, or .0 after it",
        }
    }
}

/// A reference as a path: `/` between its parts, no blanks around it, no parts `.` and `..`.
pub(crate) fn tidy(reference: &str) -> Cow<'_, str> {
    let trimmed = reference.trim();
    let is_tidy = |part: &str| !matches!(part, "" | "." | "..");
    if !trimmed.contains('\\') && trimmed.split('/').all(is_tidy) {
        return Cow::Borrowed(trimmed);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in trimmed.split(['/', '\\']) {
        match part {
            ".." => drop(parts.pop()),
            part if is_tidy(part) => parts.push(part),
            _ => {}
        }
    }
    Cow::Owned(parts.join("/"))
}

/// What remains of a path when all the differences between names for one file are taken away.
pub(crate) fn loosest(path: &str) -> String {
    let formed = form(path);
    let path = tidy(&formed);
    let (folder, name) = path.rsplit_once('/').map_or(("", &*path), |(folder, name)| (folder, name));
    let stem = split_ending(without_coco(name)).0;
    fold(&if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") })
}

/// How two names whose [`loosest`] forms are equal differ; `None` where their endings mean different kinds of files.
pub(crate) fn difference(one: &str, other: &str) -> Option<Difference> {
    let formed = |name: &str| last_part(&tidy(&form(name))).to_owned();
    let (one_formed, other_formed) = (formed(one), formed(other));
    let ((one_stem, one_ending), (other_stem, other_ending)) = (split_ending(&one_formed), split_ending(&other_formed));
    let endings = match (one_ending, other_ending) {
        (Some(one), Some(other)) if one == other => Difference::Habit,
        (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => Difference::Case,
        (Some(one), Some(other)) if kind_of_ending(one) == kind_of_ending(other) => Difference::Ending,
        (Some(_), Some(_)) => return None,
        (None, _) | (_, None) => Difference::Habit,
    };
    let as_written = |name: &'_ str| without_coco(split_ending(name).0).to_owned();
    let stems = if as_written(one) == as_written(other) {
        Difference::Habit
    } else if without_coco(one_stem) == without_coco(other_stem) {
        Difference::Form
    } else if without_ligatures(without_coco(one_stem)) == without_ligatures(without_coco(other_stem)) {
        Difference::Ligature
    } else {
        Difference::Case
    };
    Some(stems.max(endings))
}

/// The number that a name is, but for its ending and what COCO's names begin with: `42` of `42.0`, `000042.jpg` and
/// `COCO_val2014_000000000042.jpg`. `None` for any other name.
pub(crate) fn number(name: &str) -> Option<&str> {
    let (stem, ending) = split_ending(name);
    let stem = match stem.split_once('.') {
        Some((whole, zeros)) if ending.is_none() && !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        _ => without_coco(stem),
    };
    let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| match stem.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    })
}

/// A path as a system that ignores letter case and Unicode forms stores it.
pub(crate) fn on_any_disk(path: &str) -> String {
    fold(&compose(path))
}

/// The name at the end of a path.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path without the ending of its last part.
pub fn without_ending(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |at| at + 1);
    path[name_at..].rfind('.').map_or(path, |dot| &path[..name_at + dot])
}

/// COCO's files of 2017 are those of 2014 without what their names begin with: `COCO_val2014_`.
pub(crate) fn without_coco(name: &str) -> &str {
    match name.strip_prefix("COCO_").and_then(|rest| rest.split_once('_')) {
        Some(("train2014" | "val2014" | "test2014" | "test2015", rest)) => rest,
        _ => name,
    }
}

/// Composed letters, percent escapes decoded, plain blanks, nothing that cannot be seen.
fn form(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let decoded = percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text));
    let is_seen = |character: &char| {
        !matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}') && !character.is_control()
    };
    let plain = |character: char| if character.is_whitespace() { ' ' } else { character };
    let text: String = decoded.chars().map(plain).filter(is_seen).collect();
    Cow::Owned(compose(text.trim()).into_owned())
}

fn without_ligatures(text: &str) -> Cow<'_, str> {
    const APART: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();
    APART.normalize(text)
}

fn compose(text: &str) -> Cow<'_, str> {
    const COMPOSED: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
    COMPOSED.normalize(text)
}

fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Folding takes some letters apart.
    compose(&UniCase::unicode(text).to_folded_case()).into_owned()
}

/// A name without its ending, and the ending, where it is one of an image.
fn split_ending(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, ending)) if is_image_name(name) => (stem, Some(ending)),
        _ => (name, None),
    }
}

/// The first of the endings that mean the same kind of file.
fn kind_of_ending(ending: &str) -> String {
    let ending = ending.to_ascii_lowercase();
    match ending.as_str() {
        "jpg" | "jpe" | "jfif" | "jfi" | "jif" | "pjpeg" | "pjp" => "jpeg".to_owned(),
        "tif" => "tiff".to_owned(),
        "heif" | "hif" => "heic".to_owned(),
        "dib" => "bmp".to_owned(),
        _ => ending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_becomes_a_path() {
        for (reference, expected) in [
            ("a/b.jpg", "a/b.jpg"),
            (" ./a/b.jpg\r", "a/b.jpg"),
            (r".\a\b.jpg", "a/b.jpg"),
            (r"C:\data\a\1.jpg", "C:/data/a/1.jpg"),
            ("/data//a/./b.jpg", "data/a/b.jpg"),
            ("train/../images/b.jpg", "images/b.jpg"),
            ("../../b.jpg", "b.jpg"),
            ("", ""),
            ("a..b.jpg", "a..b.jpg"),
        ] {
            assert_eq!(tidy(reference), expected, "{reference:?}");
        }
    }

    #[test]
    fn names_that_people_take_for_one_are_reported_with_what_differs() {
        for (one, other, expected) in [
            ("a.jpg", "a.jpg", Difference::Habit),
            ("a.jpg", "a", Difference::Habit),
            ("000000000007.jpg", "COCO_val2014_000000000007.jpg", Difference::Habit),
            ("caf\u{e9}.jpg", "cafe\u{301}.jpg", Difference::Form),
            ("\u{d55c}\u{ad6d}.jpg", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}.jpg", Difference::Form),
            ("\u{30d1}.png", "\u{30cf}\u{309a}.png", Difference::Form),
            ("H\u{e0} N\u{1ed9}i.jpg", "Ha\u{300} No\u{323}\u{302}i.jpg", Difference::Form),
            ("\u{1ed9}.jpg", "\u{f4}\u{323}.jpg", Difference::Form),
            ("my dog.jpg", "my%20dog.jpg", Difference::Form),
            ("x/my dog.jpg", "x%2Fmy%20dog.jpg", Difference::Form),
            ("caf%C3%A9.jpg", "cafe\u{301}.jpg", Difference::Form),
            ("9.41.00 AM.png", "9.41.00\u{202f}AM.png", Difference::Form),
            ("\u{feff}a.jpg", "a.jpg", Difference::Form),
            ("b.jpg", "b%2Ejpg", Difference::Form),
            ("img/b.jpg", "img%5Cb.jpg", Difference::Form),
            ("\u{fb01}.jpg", "fi.jpg", Difference::Ligature),
            ("o\u{fb03}ce.JPG", "office.jpg", Difference::Case),
            ("\u{fb01}.jpg", "FI.jpg", Difference::Case),
            ("IMG_1.jpg", "img_1.jpg", Difference::Case),
            ("a.JPG", "a.jpg", Difference::Case),
            ("\u{c9}t\u{e9}.jpg", "e\u{301}te\u{301}.jpg", Difference::Case),
            ("STRASSE.jpg", "stra\u{df}e.jpg", Difference::Case),
            ("\u{39f}\u{3a3}.jpg", "\u{3bf}\u{3c2}.jpg", Difference::Case),
            ("IMG", "img.jpg", Difference::Case),
            ("a.jpeg", "a.jpg", Difference::Ending),
            ("A.JPEG", "a.jpg", Difference::Ending),
        ] {
            assert_eq!(loosest(one), loosest(other), "{one} {other}");
            let (one, other) = (last_part(one), last_part(other));
            assert_eq!(difference(one, other), Some(expected), "{one} {other}");
            assert_eq!(difference(other, one), Some(expected), "{other} {one}");
        }
        assert_eq!(difference("a.png", "a.jpg"), None);
        for (one, other) in [("a.jpg", "b.jpg"), ("a", "a.txt"), ("1.jpg", "1.jpg.1"), ("50%.jpg", "50.jpg")] {
            assert_ne!(loosest(one), loosest(other), "{one} {other}");
        }
        assert_eq!(loosest("x%2Fy%20z/A.JPG"), "x/y z/a");
    }

    #[test]
    fn a_number_is_one_however_it_is_written() {
        for (name, expected) in [
            ("42", Some("42")),
            ("42.0", Some("42")),
            ("1.00", Some("1")),
            ("0", Some("0")),
            ("000000000042.jpg", Some("42")),
            ("COCO_val2014_000000000042.jpg", Some("42")),
            ("000.png", Some("0")),
            ("42.5", None),
            ("1.0.jpg", None),
            ("42.", None),
            ("a42", None),
            ("-1", None),
            ("", None),
            (".jpg", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_one_disk_takes_for_the_same_are_the_same() {
        assert_eq!(on_any_disk("caf\u{c9}/A.jpg"), on_any_disk("cafe\u{301}/a.JPG"));
        assert_ne!(on_any_disk("a%20b.jpg"), on_any_disk("a b.jpg"));
    }
}
