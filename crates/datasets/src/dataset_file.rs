//! `dataset.json` of a prepared data set, in Karpathy's schema: how it is written and read, and what split files of
//! that schema say. (What others distribute in it varies, and is read by `annotations::formats::karpathy`.)

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use crate::caption_extras::{CaptionExtras, Weight};
use crate::image_id::ImageId;

/// An image as it is read; other keys are ignored, so that they take no memory.
#[derive(Deserialize)]
pub(crate) struct ImageEntry<'a> {
    #[serde(borrow)]
    pub(crate) filename: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) split: Cow<'a, str>,
    #[serde(default)]
    pub(crate) imgid: Option<ImageId>,
    #[serde(default)]
    pub(crate) cocoid: Option<ImageId>,
    #[serde(borrow)]
    pub(crate) sentences: Vec<SentenceEntry<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct SentenceEntry<'a> {
    #[serde(borrow)]
    pub(crate) raw: Cow<'a, str>,
    #[serde(default)]
    pub(crate) prompt: Option<String>,
    #[serde(default)]
    pub(crate) weight: Option<f64>,
}

/// The file names of a file in this schema with their splits, as they are written; `None` for any other JSON. Captions,
/// which are most of the file, are skipped.
pub(crate) fn splits(text: &str) -> Option<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct File {
        images: Vec<Image>,
    }
    #[derive(Deserialize)]
    struct Image {
        filename: String,
        split: String,
    }
    let file: File = serde_json::from_str(text).ok()?;
    Some(file.images.into_iter().map(|image| (image.filename, image.split)).collect())
}

/// An image to be written.
pub(crate) struct NewImage<'a> {
    pub(crate) filename: &'a str,
    pub(crate) split: &'a str,
    pub(crate) cocoid: Option<&'a ImageId>,
    pub(crate) captions: &'a [String],
    /// Of each caption, or none.
    pub(crate) extras: &'a [CaptionExtras],
}

/// Writes the file, image by image.
pub(crate) fn write<'a>(
    name: &str,
    images: impl Iterator<Item = NewImage<'a>>,
    output: &mut impl io::Write,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Image<'a> {
        filename: &'a str,
        split: &'a str,
        sentids: Vec<u64>,
        imgid: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        cocoid: Option<&'a ImageId>,
        sentences: Vec<Sentence<'a>>,
    }
    #[derive(Serialize)]
    struct Sentence<'a> {
        raw: &'a str,
        tokens: Vec<String>,
        sentid: u64,
        imgid: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<f64>,
    }
    output.write_all(b"{\"dataset\":")?;
    serde_json::to_writer(&mut *output, name)?;
    output.write_all(b",\"images\":[")?;
    let mut num_sentences = 0;
    for (imgid, NewImage { filename, split, cocoid, captions, extras }) in (0u64..).zip(images) {
        let first = num_sentences;
        num_sentences += captions.len() as u64;
        let sentence = |(place, raw): (usize, &'a String)| {
            let extras = extras.get(place);
            let prompt = extras.and_then(|extras| extras.prompt.as_deref());
            let weight = extras.map(|extras| extras.weight).filter(|weight| !weight.is_one()).map(Weight::value);
            Sentence { raw, tokens: tokens(raw), sentid: first + place as u64, imgid, prompt, weight }
        };
        let sentences = captions.iter().enumerate().map(sentence).collect();
        let entry = Image { filename, split, sentids: (first..num_sentences).collect(), imgid, cocoid, sentences };
        if imgid > 0 {
            output.write_all(b",")?;
        }
        serde_json::to_writer(&mut *output, &entry)?;
    }
    output.write_all(b"]}\n")
}

fn tokens(caption: &str) -> Vec<String> {
    plain(caption).split_whitespace().map(str::to_owned).collect()
}

/// A caption in lower case and without ASCII punctuation, as the tokens in Karpathy's files are.
pub(crate) fn plain(caption: &str) -> String {
    let bare: String = caption.chars().filter(|character| !character.is_ascii_punctuation()).collect();
    bare.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_lower_case_words_without_punctuation() {
        assert_eq!(tokens("A man 's  hat, two-tone ."), ["a", "man", "s", "hat", "twotone"]);
    }
}
