//! Flickr8k as its authors distribute it (Hodosh, Young and Hockenmaier 2013): `Flickr8k.token.txt` with five captions
//! per image, one `NAME.jpg#N<TAB>caption` per line, and one list of file names for each split.
//!
//! Known quirks: captions for `2258277193_586949ec62.jpg.1`, which is no image, and 91 images in none of the lists,
//! which belong to no split and are left out.

use std::collections::HashMap;

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::Candidates;
use crate::annotations::encoding::decode;
use crate::annotations::format::{Format, Match};
use crate::annotations::formats::token_lines;
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::{RawDataset, Reject, Repair};
use crate::annotations::text::lines;
use crate::column_names::ColumnNames;
use crate::prepared::Split;

pub(crate) static FORMAT: Format = Format {
    name: "flickr8k-token",
    description: "Flickr8k.token.txt and Flickr_8k.trainImages.txt, .devImages.txt, .testImages.txt",
    find,
    read,
};

pub const TOKEN_FILE: &str = "Flickr8k.token.txt";

pub fn list_file(split: Split) -> &'static str {
    match split {
        Split::Train => "Flickr_8k.trainImages.txt",
        Split::Val => "Flickr_8k.devImages.txt",
        Split::Test => "Flickr_8k.testImages.txt",
    }
}

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let all = |name: &str| candidates.source.find(|file| file.name().eq_ignore_ascii_case(name));
    let mut found = Match::first(&FORMAT, Some(KnownDataset::Flickr8k), all(TOKEN_FILE));
    for found in &mut found {
        for mut list in Split::ALL.map(|split| all(list_file(split))) {
            found.spare.extend(list.split_off(list.len().min(1)));
            found.files.extend(list);
        }
    }
    Ok(found)
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let mut texts = Texts::default();
    for &file in input.files {
        let (name, bytes) = (input.source.files()[file].name(), input.source.read(file)?);
        match Split::ALL.into_iter().find(|&split| list_file(split).eq_ignore_ascii_case(name)) {
            Some(Split::Train) => texts.train = Some(bytes),
            Some(Split::Val) => texts.val = Some(bytes),
            Some(Split::Test) => texts.test = Some(bytes),
            None => texts.token = bytes,
        }
    }
    parse_for(&texts, input.reading)
}

/// The text files of the data set, as bytes.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    pub token: Vec<u8>,
    pub train: Option<Vec<u8>>,
    pub val: Option<Vec<u8>>,
    pub test: Option<Vec<u8>>,
}

impl Texts {
    fn list(&self, split: Split) -> Option<&[u8]> {
        match split {
            Split::Train => self.train.as_deref(),
            Split::Val => self.val.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }
}

/// Reads captions and lists. Any list may be absent; where there is one, images in none of the lists are left out.
pub fn parse(texts: &Texts) -> anyhow::Result<RawDataset> {
    parse_for(texts, Reading::Preparation)
}

fn parse_for(texts: &Texts, reading: Reading) -> anyhow::Result<RawDataset> {
    let mut builder = Builder::new(reading, ColumnNames::default());
    token_lines::parse(&mut builder, &AnnotationFile::single(TOKEN_FILE), &decode(TOKEN_FILE, texts.token.clone())?)?;
    if Split::ALL.iter().all(|&split| texts.list(split).is_none()) {
        let note = format!("none of the lists was found: {}", Split::ALL.map(list_file).join(", "));
        builder.repairs.push(Repair::new("the split of flickr8k", note));
        return Ok(builder.finish("flickr8k"));
    }
    let mut without_captions: HashMap<String, Split> = HashMap::new();
    for split in Split::ALL {
        let Some(list) = texts.list(split) else {
            let note = format!("the list was not found: no image is in the {} split", split.name());
            builder.repairs.push(Repair::new(list_file(split), note));
            continue;
        };
        for (_, line) in lines(&decode(list_file(split), list.to_vec())?) {
            let name = line.trim();
            if builder.knows(name) {
                let image = builder.image(name);
                builder.split(image, split);
            } else {
                without_captions.insert(name.to_owned(), split);
            }
        }
    }
    let mut raw = builder.finish("flickr8k");
    let (images, unlisted): (Vec<_>, Vec<_>) = raw.images.into_iter().partition(|image| image.split.is_some());
    raw.images = images;
    // The caption file's own ghost is an image of no list too.
    raw.rejects.extend(unlisted.into_iter().map(|image| Reject::new(image.filename, "in none of the split lists")));
    let mut without_captions: Vec<_> = without_captions.into_iter().collect();
    without_captions.sort_unstable();
    raw.rejects.extend(
        without_captions
            .into_iter()
            .map(|(name, split)| Reject::new(name, format!("listed in {}, but has no captions", list_file(split)))),
    );
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::raw_dataset::RawImage;
    use base::error::describe;

    fn texts(token: &[u8], train: &str, val: &str) -> Texts {
        Texts { token: token.to_vec(), train: Some(train.into()), val: Some(val.into()), test: None }
    }

    fn reject<'a>(raw: &'a RawDataset, what: &str) -> &'a str {
        &raw.rejects.iter().find(|reject| reject.what == what).unwrap_or_else(|| panic!("no {what}: {raw:?}")).reason
    }

    #[test]
    fn captions_come_in_the_order_of_their_numbers_and_lists_give_the_splits() {
        let token = b"b.jpg#1\tSecond .\r\nb.jpg#0\t First . \r\n\r\na.jpg#0\tA dog\n";
        let raw = parse(&texts(token, "a.jpg\r\n", "b.jpg\n")).unwrap();
        let image = |filename: &str, captions: &[&str], split| RawImage {
            filename: filename.into(),
            captions: captions.iter().map(|&caption| caption.into()).collect(),
            extras: Vec::new(),
            split: Some(split),
            split_from: Default::default(),
            cocoid: None,
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
        let token = format!("{ghost}#0\tpeople waiting\na.jpg#0\tA\na.jpg#1\t \nempty.jpg#0\t\nother.jpg#0\tB\n");
        let raw = parse(&texts(token.as_bytes(), "a.jpg\nempty.jpg\n", "mute.jpg\n")).unwrap();
        assert_eq!(raw.images.len(), 1);
        assert_eq!(raw.images[0].captions, ["A"]);
        assert_eq!(reject(&raw, ghost), "in none of the split lists");
        assert_eq!(reject(&raw, "a.jpg#1"), "the caption is empty");
        assert_eq!(reject(&raw, "empty.jpg"), "has no caption left");
        assert_eq!(reject(&raw, "other.jpg"), "in none of the split lists");
        assert_eq!(reject(&raw, "mute.jpg"), "listed in Flickr_8k.devImages.txt, but has no captions");
    }

    #[test]
    fn unreadable_lines_are_named() {
        for (token, expected) in [
            (b"a.jpg#0\tA\na.jpg#1\t\xff\n".as_slice(), "line 2 of Flickr8k.token.txt is not UTF-8"),
            (b"image,caption\n", "line 1 of Flickr8k.token.txt has an unexpected form"),
            (b"a.jpg#x\tA\n", "line 1 of Flickr8k.token.txt has an unexpected form"),
        ] {
            let text = describe(&parse(&texts(token, "a.jpg\n", "")).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn without_any_list_no_image_has_a_split() {
        let texts = Texts { token: b"a.jpg#0\tA\n".to_vec(), ..Texts::default() };
        let raw = parse(&texts).unwrap();
        assert_eq!((raw.images[0].split, raw.repairs.len()), (None, 1));
    }
}
