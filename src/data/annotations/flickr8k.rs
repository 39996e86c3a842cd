//! Flickr8k as its authors distribute it (Hodosh, Young and Hockenmaier 2013): `Flickr8k.token.txt` with five captions
//! per image, one `NAME.jpg#N<TAB>caption` per line, and one list of file names for each split.
//!
//! Known quirks: captions for `2258277193_586949ec62.jpg.1`, which is no image, and 91 images in none of the lists.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::Context as _;

use crate::base::fault::{WithHint as _, fault};
use crate::data::annotations::{RawDataset, RawImage, Reject, Repair};
use crate::data::dataset::{MAX_CAPTION_CHARS, Split, clean_caption, is_safe_relative};

/// The file with the captions.
pub const TOKEN_FILE: &str = "Flickr8k.token.txt";

/// The list of a split.
pub fn list_file(split: Split) -> &'static str {
    match split {
        Split::Train => "Flickr_8k.trainImages.txt",
        Split::Val => "Flickr_8k.devImages.txt",
        Split::Test => "Flickr_8k.testImages.txt",
    }
}

/// The text files of the data set, as bytes.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `Flickr8k.token.txt`.
    pub token: Vec<u8>,
    /// `Flickr_8k.trainImages.txt`.
    pub train: Option<Vec<u8>>,
    /// `Flickr_8k.devImages.txt`.
    pub val: Option<Vec<u8>>,
    /// `Flickr_8k.testImages.txt`.
    pub test: Option<Vec<u8>>,
}

impl Texts {
    /// The list of a split, if there is one.
    pub fn list(&self, split: Split) -> Option<&[u8]> {
        match split {
            Split::Train => self.train.as_deref(),
            Split::Val => self.val.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }
}

/// Reads captions and lists; `image_files` are the names of the image files that are there.
///
/// Any list may be absent, not all: images in none of the lists are left out. Images come in the order of the token
/// file, the captions of an image in the order of their numbers.
///
/// # Errors
/// Text that is not UTF-8 or a line of another form (both with the line), no list at all, and nothing left.
pub fn read(texts: &Texts, image_files: &BTreeSet<String>) -> anyhow::Result<RawDataset> {
    let (mut repairs, mut rejects) = (Vec::new(), Vec::new());
    let captioned = read_captions(&texts.token, &mut repairs, &mut rejects)?;
    let split_of = read_lists(texts, &mut repairs)?;
    let mut images = Vec::new();
    let mut num_unlisted = 0;
    for (filename, captions) in &captioned {
        let split = split_of.get(filename.as_str()).copied();
        if !image_files.contains(filename) {
            let listed = split.map_or(String::new(), |split| format!("listed in {}, but ", list_file(split)));
            let reason = format!("{listed}there is no such image file (captions left out: {})", captions.len());
            rejects.push(Reject::new(filename, reason));
        } else if split.is_none() {
            num_unlisted += 1;
        } else if captions.is_empty() {
            rejects.push(Reject::new(filename, "has no caption that is not empty"));
        } else {
            images.push(RawImage { filename: filename.clone(), captions: captions.clone(), split });
        }
    }
    if num_unlisted > 0 {
        rejects.push(Reject::new(format!("{num_unlisted} images"), "in none of the split lists"));
    }
    rejects.extend(without_captions(&captioned, &split_of, image_files));
    if images.is_empty() {
        let message = format!("no image file has captions in {TOKEN_FILE} and stands in a split list");
        return Err(fault(message, "check that images and text files belong together"));
    }
    Ok(RawDataset { name: "flickr8k".to_owned(), images, repairs, rejects })
}

/// Images in the order in which they appear, with their captions in the order of their numbers.
fn read_captions(
    token: &[u8],
    repairs: &mut Vec<Repair>,
    rejects: &mut Vec<Reject>,
) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let mut position: HashMap<&str, usize> = HashMap::new();
    let mut numbered: Vec<(String, Vec<(u32, String)>)> = Vec::new();
    let mut seen: HashSet<(usize, u32, String)> = HashSet::new();
    let mut numbers: HashSet<(usize, u32)> = HashSet::new();
    for (line_number, line) in lines(TOKEN_FILE, token)? {
        let (filename, number, caption) = parse_line(line)
            .with_context(|| format!("line {line_number} of {TOKEN_FILE} has another form: {line:?}"))
            .hint(|| "expected NAME.jpg#N, a tab and the caption")?;
        let index = *position.entry(filename).or_insert_with(|| {
            numbered.push((filename.to_owned(), Vec::new()));
            numbered.len() - 1
        });
        let what = format!("{filename}#{number}");
        let (caption, is_wild) = clean_caption(caption);
        let length = caption.chars().count();
        if caption.is_empty() {
            rejects.push(Reject::new(what, "the caption is empty"));
            continue;
        }
        if length > MAX_CAPTION_CHARS {
            let reason = format!("the caption has {length} characters, more than {MAX_CAPTION_CHARS}");
            rejects.push(Reject::new(what, reason));
            continue;
        }
        if !seen.insert((index, number, caption.clone())) {
            rejects.push(Reject::new(what, "the caption stands there twice"));
            continue;
        }
        if !numbers.insert((index, number)) {
            repairs.push(Repair::new(&what, "two captions have this number: both are kept"));
        }
        if is_wild {
            repairs.push(Repair::new(what, "control characters became spaces"));
        }
        numbered[index].1.push((number, caption));
    }
    let in_order = |(filename, mut captions): (String, Vec<(u32, String)>)| {
        captions.sort_by_key(|(number, _)| *number);
        (filename, captions.into_iter().map(|(_, caption)| caption).collect())
    };
    Ok(numbered.into_iter().map(in_order).collect())
}

fn parse_line(line: &str) -> Option<(&str, u32, &str)> {
    let (key, caption) = line.split_once('\t')?;
    let (filename, number) = key.trim().rsplit_once('#')?;
    let plain = is_safe_relative(filename) && !filename.contains('/');
    plain.then_some(())?;
    Some((filename, number.parse().ok()?, caption.trim()))
}

fn read_lists<'a>(texts: &'a Texts, repairs: &mut Vec<Repair>) -> anyhow::Result<HashMap<&'a str, Split>> {
    if Split::ALL.iter().all(|&split| texts.list(split).is_none()) {
        let names = Split::ALL.map(list_file).join(", ");
        return Err(fault(format!("none of the split lists {names} is there"), "put them beside the captions"));
    }
    let mut split_of: HashMap<&str, Split> = HashMap::new();
    for split in Split::ALL {
        let Some(list) = texts.list(split) else {
            let note = format!("the list is not there: no image is in the {} split", split.name());
            repairs.push(Repair::new(list_file(split), note));
            continue;
        };
        for (_, filename) in lines(list_file(split), list)? {
            // The later split is the one that must not be seen in training.
            if let Some(first) = split_of.insert(filename.trim(), split).filter(|&first| first != split) {
                let note =
                    format!("in the lists of {} and {}: kept in {} alone", first.name(), split.name(), split.name());
                repairs.push(Repair::new(filename.trim(), note));
            }
        }
    }
    Ok(split_of)
}

/// Listed images of which the token file says nothing, in the order of their names.
fn without_captions(
    captioned: &[(String, Vec<String>)],
    split_of: &HashMap<&str, Split>,
    image_files: &BTreeSet<String>,
) -> Vec<Reject> {
    let known: HashSet<&str> = captioned.iter().map(|(filename, _)| filename.as_str()).collect();
    let mut unknown: Vec<(&str, Split)> =
        split_of.iter().filter(|(name, _)| !known.contains(*name)).map(|(name, split)| (*name, *split)).collect();
    unknown.sort_unstable();
    let reject = |(filename, split)| {
        let file = if image_files.contains(filename) { "" } else { " and no image file" };
        Reject::new(filename, format!("listed in {}, but has no captions{file}", list_file(split)))
    };
    unknown.into_iter().map(reject).collect()
}

/// The lines that are not blank, with their numbers from 1.
fn lines<'a>(file: &str, bytes: &'a [u8]) -> anyhow::Result<Vec<(usize, &'a str)>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .with_context(|| format!("line {} of {file} is not UTF-8 text", index + 1))
            .hint(|| "save the file as UTF-8, or take the one that is distributed")?;
        let line = line.trim_end_matches('\r');
        if !line.trim().is_empty() {
            lines.push((index + 1, line));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    fn texts(token: &[u8], train: &str, val: &str) -> Texts {
        Texts { token: token.to_vec(), train: Some(train.into()), val: Some(val.into()), test: None }
    }

    fn files(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn reject<'a>(raw: &'a RawDataset, what: &str) -> &'a str {
        &raw.rejects.iter().find(|reject| reject.what == what).unwrap_or_else(|| panic!("no {what}: {raw:?}")).reason
    }

    #[test]
    fn captions_come_in_the_order_of_their_numbers_and_lists_give_the_splits() {
        let token = b"b.jpg#1\tSecond .\r\nb.jpg#0\t First . \r\n\r\na.jpg#0\tA dog\n";
        let raw = read(&texts(token, "a.jpg\r\n", "b.jpg\n"), &files(&["a.jpg", "b.jpg"])).unwrap();
        let image = |filename: &str, captions: &[&str], split| RawImage {
            filename: filename.into(),
            captions: captions.iter().map(|&caption| caption.into()).collect(),
            split: Some(split),
        };
        let expected = [image("b.jpg", &["First .", "Second ."], Split::Val), image("a.jpg", &["A dog"], Split::Train)];
        assert_eq!(raw.images, expected);
        assert!(raw.rejects.is_empty());
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "Flickr_8k.testImages.txt");
    }

    #[test]
    fn what_is_left_out_is_reported() {
        let ghost = "2258277193_586949ec62.jpg.1";
        let token = format!(
            "{ghost}#0\tpeople waiting\na.jpg#0\tA\na.jpg#1\t \nempty.jpg#0\t\nother.jpg#0\tB\nlost.jpg#0\tC\n"
        );
        let raw = read(
            &texts(token.as_bytes(), "a.jpg\nempty.jpg\nlost.jpg\n", "mute.jpg\n"),
            &files(&["a.jpg", "empty.jpg", "other.jpg", "mute.jpg"]),
        )
        .unwrap();
        assert_eq!(raw.images.len(), 1);
        assert_eq!(raw.images[0].captions, ["A"]);
        assert_eq!(reject(&raw, ghost), "there is no such image file (captions left out: 1)");
        assert_eq!(reject(&raw, "a.jpg#1"), "the caption is empty");
        assert_eq!(reject(&raw, "empty.jpg"), "has no caption that is not empty");
        assert_eq!(reject(&raw, "1 images"), "in none of the split lists");
        assert!(reject(&raw, "lost.jpg").starts_with("listed in Flickr_8k.trainImages.txt, but there is no such"));
        assert_eq!(reject(&raw, "mute.jpg"), "listed in Flickr_8k.devImages.txt, but has no captions");
        assert_eq!(raw.rejects.len(), 7);
    }

    #[test]
    fn captions_that_nobody_wrote_are_left_out_or_mended_and_reported() {
        let long = "x".repeat(1 << 20);
        let token = format!(
            "a.jpg#0\tA \u{1b}[2Jdog\u{0}\na.jpg#1\t{long}\na.jpg#2\tB\na.jpg#2\tB\na.jpg#2\tC\na.jpg#3\t\u{7}\n"
        );
        let raw = read(&texts(token.as_bytes(), "a.jpg\n", ""), &files(&["a.jpg"])).unwrap();
        assert_eq!(raw.images[0].captions, ["A  [2Jdog", "B", "C"]);
        assert_eq!(reject(&raw, "a.jpg#1"), "the caption has 1048576 characters, more than 10000");
        assert_eq!(reject(&raw, "a.jpg#2"), "the caption stands there twice");
        assert_eq!(reject(&raw, "a.jpg#3"), "the caption is empty");
        let repair = |what: &str| raw.repairs.iter().find(|repair| repair.what == what).unwrap().repair.clone();
        assert_eq!(repair("a.jpg#0"), "control characters became spaces");
        assert_eq!(repair("a.jpg#2"), "two captions have this number: both are kept");
    }

    #[test]
    fn an_image_in_two_lists_stays_out_of_training() {
        let raw = read(&texts(b"a.jpg#0\tA\n", "a.jpg\n", "a.jpg\n"), &files(&["a.jpg"])).unwrap();
        assert_eq!(raw.images[0].split, Some(Split::Val));
        assert!(raw.repairs.iter().any(|repair| repair.what == "a.jpg"));
    }

    #[test]
    fn unreadable_lines_are_named() {
        let all = files(&["a.jpg"]);
        for (token, expected) in [
            (b"a.jpg#0\tA\na.jpg#1\t\xff\n".as_slice(), "line 2 of Flickr8k.token.txt is not UTF-8"),
            (b"image,caption\n", "line 1 of Flickr8k.token.txt has another form"),
            (b"../a.jpg#0\tA\n", "line 1 of Flickr8k.token.txt has another form"),
            (b"b.jpg#0\tA\n", "no image file has captions"),
        ] {
            let text = describe(&read(&texts(token, "a.jpg\n", ""), &all).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn no_list_at_all_is_an_error() {
        let texts = Texts { token: b"a.jpg#0\tA\n".to_vec(), ..Texts::default() };
        let text = describe(&read(&texts, &files(&["a.jpg"])).unwrap_err());
        assert!(text.contains("none of the split lists"), "{text}");
    }
}
