//! Gathers what a reader finds, caption by caption, and applies the rules for every format: nothing empty, nothing
//! overlong, no control characters, no caption twice under one number, an image in one split.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use crate::annotations::entities;
use crate::annotations::list_text::texts_of;
use crate::annotations::raw_dataset::{RawDataset, RawImage, Reject, Repair, SplitFrom};
use crate::annotations::split_names::{NamedSplit, split_of_word};
use crate::annotations::text::is_missing;
use crate::caption_extras::{CaptionExtras, unless_usual};
use crate::column_names::{ColumnNames, are_same};
use crate::image_id::ImageId;
use crate::prepared::{MAX_CAPTION_CHARS, Split, clean_caption};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// A data set: captions are cleaned, and those that cannot have been meant are left out.
    #[default]
    Preparation,
    /// What a model wrote, to be scored: captions stay as they are written.
    Candidates,
    /// References of the same images: likewise.
    References,
}

#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) reading: Reading,
    /// What the user calls columns and keys, and for which of them there were some.
    pub(crate) columns: ColumnNames,
    heard: HashSet<String>,
    images: Vec<NumberedImage>,
    position: HashMap<String, usize>,
    /// Hashes of (image, number) and of (image, number, caption): the captions themselves would be held twice.
    numbers: HashSet<u64>,
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Captions with HTML entities, and the first of their images.
    with_entities: (usize, String),
    /// Captions that are a word for a missing value, the first such word and its image.
    missing: (usize, String, String),
    split_names: Vec<(Split, String)>,
    /// What columns or keys say that may be splits.
    maybe_splits: Vec<MaybeSplits>,
    /// The first prompt or weight that cannot be used: the file is not read then.
    pub(crate) fault: Option<anyhow::Error>,
    pub(crate) repairs: Vec<Repair>,
    pub(crate) rejects: Vec<Reject>,
}

/// What is said about the split of an image.
#[derive(Clone, Copy)]
pub(crate) enum SplitClaim<'a> {
    /// Of the image itself.
    OfImage(Split),
    /// By the name of a file or folder.
    ByName(NamedSplit<'a>),
}

impl From<Split> for SplitClaim<'_> {
    fn from(split: Split) -> Self {
        Self::OfImage(split)
    }
}

impl<'a> From<NamedSplit<'a>> for SplitClaim<'a> {
    fn from(named: NamedSplit<'a>) -> Self {
        Self::ByName(named)
    }
}

/// What a column or key says that may be the split.
struct MaybeSplits {
    name: String,
    said: Vec<(usize, Split)>,
    /// The first value that is not a word for a split.
    odd: Option<String>,
}

struct NumberedImage {
    /// With the extras of every caption.
    image: RawImage,
    numbers: Vec<u32>,
}

impl Builder {
    pub(crate) fn new(reading: Reading, columns: ColumnNames) -> Self {
        Self { reading, columns, ..Self::default() }
    }

    /// Notes that there is a column or key of this name.
    pub(crate) fn hear(&mut self, name: &str) {
        if let Some((_, given)) = self.columns.all().find(|(_, given)| are_same(given, name)) {
            self.heard.insert(given.to_owned());
        }
    }

    /// The image called `reference`, added if it is new. References are compared as they are written.
    pub(crate) fn image(&mut self, reference: &str) -> usize {
        if let Some(&index) = self.position.get(reference) {
            return index;
        }
        let index = self.images.len();
        self.position.insert(reference.to_owned(), index);
        let image = RawImage {
            filename: reference.to_owned(),
            captions: Vec::new(),
            extras: Vec::new(),
            split: None,
            split_from: SplitFrom::default(),
            cocoid: None,
        };
        self.images.push(NumberedImage { image, numbers: Vec::new() });
        index
    }

    pub(crate) fn knows(&self, reference: &str) -> bool {
        self.position.contains_key(reference)
    }

    pub(crate) fn reference(&self, image: usize) -> &str {
        &self.images[image].image.filename
    }

    /// Adds what a text file has in place of a caption: one, or a list of them that was written as a text.
    pub(crate) fn cell(&mut self, image: usize, number: Option<u32>, text: &str, place: impl FnOnce() -> String) {
        self.cell_with(image, number, text, &CaptionExtras::default(), place);
    }

    /// [`Self::cell`] with what its captions have beside their texts.
    pub(crate) fn cell_with(
        &mut self,
        image: usize,
        number: Option<u32>,
        text: &str,
        extras: &CaptionExtras,
        place: impl FnOnce() -> String,
    ) {
        match texts_of(Cow::Borrowed(text)) {
            Ok(texts) => texts.iter().for_each(|text| self.caption_with(image, number, text, extras.clone())),
            Err(_) if self.reading != Reading::Preparation => self.caption(image, number, text),
            Err(odd) => {
                let what = format!("a caption of {}", self.reference(image));
                self.rejects.push(Reject::new(what, format!("{}: it is {odd}, not a text", place())));
            }
        }
    }

    /// Adds a caption. Where captions have numbers they are brought into their order, and one that is listed twice
    /// under one number is left out. Captions that are to be scored are kept as they are. A missing value does not
    /// count.
    pub(crate) fn caption(&mut self, image: usize, number: Option<u32>, text: &str) {
        self.caption_with(image, number, text, CaptionExtras::default());
    }

    /// [`Self::caption`] with what it has beside its text.
    pub(crate) fn caption_with(&mut self, image: usize, number: Option<u32>, text: &str, extras: CaptionExtras) {
        if is_missing(text) {
            if self.missing.0 == 0 {
                (self.missing.1, self.missing.2) = (text.trim().to_owned(), self.reference(image).to_owned());
            }
            self.missing.0 += 1;
            return;
        }
        if self.reading != Reading::Preparation {
            self.images[image].image.captions.push(text.to_owned());
            self.images[image].numbers.extend(number);
            return;
        }
        let what = |builder: &Self| match number {
            Some(number) => format!("{}#{number}", builder.reference(image)),
            None => format!("a caption of {}", builder.reference(image)),
        };
        let decoded = entities::decode(text);
        let (caption, is_wild) = clean_caption(&decoded);
        let length = caption.chars().count();
        if caption.is_empty() {
            self.rejects.push(Reject::new(what(self), "the caption is empty"));
            return;
        }
        if length > MAX_CAPTION_CHARS {
            let reason = format!("the caption has {length} characters, more than {MAX_CAPTION_CHARS}");
            self.rejects.push(Reject::new(what(self), reason));
            return;
        }
        if let Some(number) = number {
            if !self.seen.insert(self.hasher.hash_one((image, number, &caption))) {
                self.rejects.push(Reject::new(what(self), "the caption is listed twice"));
                return;
            }
            if !self.numbers.insert(self.hasher.hash_one((image, number))) {
                self.repairs.push(Repair::new(what(self), "two captions have this number: both are kept"));
            }
        }
        if is_wild {
            self.repairs.push(Repair::new(what(self), "control characters became spaces"));
        }
        if matches!(decoded, Cow::Owned(_)) {
            if self.with_entities.0 == 0 {
                self.with_entities.1 = self.reference(image).to_owned();
            }
            self.with_entities.0 += 1;
        }
        let gathered = &mut self.images[image];
        gathered.image.captions.push(caption);
        gathered.image.extras.push(extras);
        gathered.numbers.extend(number);
    }

    /// Sets the split of an image. What is said of the image counts more than a word in the name of a file or folder.
    /// Of two answers that count alike that with the later split counts (validation, then testing): that is the one
    /// that must not be seen in training.
    pub(crate) fn split<'a>(&mut self, image: usize, said: impl Into<SplitClaim<'a>>) {
        let (split, from) = match said.into() {
            SplitClaim::OfImage(split) => (split, SplitFrom::Annotations),
            SplitClaim::ByName(NamedSplit { split, is_sure, name }) => {
                if !self.split_names.iter().any(|(known, _)| *known == split) {
                    self.split_names.push((split, name.to_owned()));
                }
                (split, SplitFrom::Name { is_sure })
            }
        };
        let known = &mut self.images[image].image;
        let is_of_image = |from| from == SplitFrom::Annotations;
        let first = match known.split {
            Some(_) if is_of_image(known.split_from) && !is_of_image(from) => return,
            Some(first) if is_of_image(known.split_from) == is_of_image(from) => first,
            Some(_) | None => split,
        };
        let last = first.max(split);
        (known.split, known.split_from) = (Some(last), from);
        if first == split {
            return;
        }
        let note = format!("in the splits {} and {}: kept in {} only", first.name(), split.name(), last.name());
        self.repairs.push(Repair::new(self.reference(image).to_owned(), note));
    }

    /// Sets the split of an image as the file writes it: beside the image, else in the name of the file.
    pub(crate) fn split_as_written(&mut self, image: usize, own: Option<&str>, of_file: Option<NamedSplit<'_>>) {
        let own = own.filter(|word| !word.trim().is_empty());
        match (own.map(|word| (word, split_of_word(word))), of_file) {
            (Some((_, Some(split))), _) => self.split(image, split),
            (None, Some(named)) => self.split(image, named),
            (Some((word, None)), _) => {
                let note = format!("split {word:?} is not train, val or test: treated as no split");
                self.repairs.push(Repair::new(self.reference(image).to_owned(), note));
            }
            (None, None) => {}
        }
    }

    /// Records what the column or key called `name` says, which may be the split.
    pub(crate) fn maybe_split(&mut self, image: usize, name: &str, word: &str) {
        if word.trim().is_empty() || is_missing(word) {
            return;
        }
        let known = self.maybe_splits.iter().position(|maybe| maybe.name == name);
        let place = known.unwrap_or_else(|| {
            self.maybe_splits.push(MaybeSplits { name: name.to_owned(), said: Vec::new(), odd: None });
            self.maybe_splits.len() - 1
        });
        match split_of_word(word) {
            Some(split) => self.maybe_splits[place].said.push((image, split)),
            None => drop(self.maybe_splits[place].odd.get_or_insert_with(|| word.to_owned())),
        }
    }

    /// Takes what columns or keys say as the splits where all of it is words for splits and images are left to train
    /// on; it suffices that one is called a split.
    fn settle_maybe_splits(&mut self) {
        for MaybeSplits { name, said, odd } in std::mem::take(&mut self.maybe_splits) {
            let is_called_so = name.to_ascii_lowercase().contains("split");
            let leaves_training = said.iter().any(|(_, split)| *split == Split::Train);
            if said.is_empty() {
                continue;
            }
            let note = match &odd {
                Some(odd) if !is_called_so => format!("not used as the split: it also contains {odd:?}"),
                _ if !leaves_training => "not used as the split: none of its values is for training".to_owned(),
                Some(odd) => format!("used as the split; {odd:?} in it is not train, val or test"),
                None => "used as the split: it contains names of splits".to_owned(),
            };
            if leaves_training && (odd.is_none() || is_called_so) {
                said.into_iter().for_each(|(image, split)| self.split(image, split));
            }
            self.repairs.push(Repair::new(format!("{name:?}"), note));
        }
    }

    /// Says which captions have a prompt or a weight: a column of this name may be something else.
    fn note_extras(&mut self) {
        let all = || self.images.iter().flat_map(|one| one.image.extras.iter().map(|extras| (&one.image, extras)));
        let mut notes = Vec::new();
        let mut note = |is_meant: &dyn Fn(&CaptionExtras) -> bool, what: &str| {
            let mut meant = all().filter(|(_, extras)| is_meant(extras));
            if let Some((first, _)) = meant.next() {
                let what = format!("{what}, first one of {}", first.filename);
                notes.push(Repair::new(format!("{} captions", 1 + meant.count()), what));
            }
        };
        note(&|extras| extras.prompt.is_some(), "have a prompt, which a model is given and does not learn to say");
        note(&|extras| !extras.weight.is_one(), "have a weight other than 1 in the training loss");
        self.repairs.extend(notes);
    }

    pub(crate) fn id(&mut self, image: usize, id: ImageId) {
        self.images[image].image.cocoid = Some(id);
    }

    /// [`Builder::finish`] where images were named by their paths below the source.
    pub(crate) fn finish_with_paths(self) -> RawDataset {
        RawDataset { has_paths: true, ..self.finish("") }
    }

    /// The data set, without images that have no caption left.
    pub(crate) fn finish(mut self, name: &str) -> RawDataset {
        self.settle_maybe_splits();
        self.note_extras();
        if self.with_entities.0 > 0 {
            let (count, example) = &self.with_entities;
            let note = format!("HTML entities such as &amp; were decoded, first in a caption of {example}");
            self.repairs.push(Repair::new(format!("{count} captions"), note));
        }
        let (count, word, image) = &self.missing;
        if *count > 0 {
            let reason = format!("pandas writes this word for a missing value: first {word} for {image}");
            self.rejects.push(Reject::new(format!("{count} captions"), reason));
        }
        let mut images = Vec::with_capacity(self.images.len());
        for NumberedImage { mut image, numbers } in self.images {
            if image.captions.is_empty() {
                self.rejects.push(Reject::new(image.filename, "has no caption left"));
                continue;
            }
            if numbers.len() == image.captions.len() && !numbers.is_sorted() {
                let mut order: Vec<usize> = (0..numbers.len()).collect();
                order.sort_by_key(|&place| numbers[place]);
                image.captions = order.iter().map(|&place| std::mem::take(&mut image.captions[place])).collect();
                if !image.extras.is_empty() {
                    image.extras = order.iter().map(|&place| std::mem::take(&mut image.extras[place])).collect();
                }
            }
            image.extras = unless_usual(image.extras);
            images.push(image);
        }
        if self.reading == Reading::Preparation {
            self.repairs.extend(drop_shared_ids(&mut images));
        }
        let missing = self.columns.all().filter(|(_, given)| !self.heard.contains(*given));
        RawDataset {
            name: name.to_owned(),
            images,
            has_paths: false,
            missing_columns: missing.map(|(_, given)| given.to_owned()).collect(),
            split_names: self.split_names,
            repairs: self.repairs,
            rejects: self.rejects,
        }
    }
}

/// Ids are those of one file: where two images of different files have one, none is kept.
fn drop_shared_ids(images: &mut [RawImage]) -> Option<Repair> {
    let mut seen = HashSet::with_capacity(images.len());
    let shared = images.iter().filter_map(|image| image.cocoid.as_ref()).find(|id| !seen.insert(id.to_string()))?;
    let note = format!("images of different files share ids, such as {shared}: the ids are dropped");
    images.iter_mut().for_each(|image| image.cocoid = None);
    Some(Repair::new("the ids of the images", note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_extras::Weight;

    #[test]
    fn captions_come_in_the_order_of_their_numbers_where_they_have_some() {
        let mut builder = Builder::default();
        let (a, b) = (builder.image("a.jpg"), builder.image("b.jpg"));
        builder.caption(a, Some(2), "Third");
        builder.caption(b, None, "Z");
        builder.caption(a, Some(0), " First ");
        builder.caption(b, None, "A");
        builder.caption(b, None, "A");
        let raw = builder.finish("x");
        assert_eq!(raw.images[0].captions, ["First", "Third"]);
        assert_eq!(raw.images[1].captions, ["Z", "A", "A"]);
        assert!(raw.rejects.is_empty() && raw.repairs.is_empty());
    }

    #[test]
    fn extras_stay_with_their_captions_and_are_counted() {
        let mut builder = Builder::default();
        let (a, b) = (builder.image("a.jpg"), builder.image("b.jpg"));
        let extras = |weight| CaptionExtras { prompt: None, weight: Weight::new(weight).unwrap() };
        builder.caption_with(a, Some(1), "Second", extras(2.0));
        builder.caption_with(a, Some(1), "Second", extras(3.0));
        builder.caption_with(a, Some(0), "First", extras(0.5));
        builder.caption(b, None, "Usual");
        let raw = builder.finish("x");
        assert_eq!(raw.images[0].captions, ["First", "Second"]);
        assert_eq!(raw.images[0].extras, [extras(0.5), extras(2.0)]);
        assert!(raw.images[1].extras.is_empty());
        let note = &raw.repairs[0];
        let expected = "have a weight other than 1 in the training loss, first one of a.jpg";
        assert_eq!((note.what.as_str(), note.repair.as_str(), raw.repairs.len()), ("2 captions", expected, 1));
    }

    #[test]
    fn an_image_in_two_splits_stays_out_of_training() {
        for order in [[Split::Train, Split::Val], [Split::Val, Split::Train]] {
            let mut builder = Builder::default();
            let image = builder.image("a.jpg");
            builder.caption(image, None, "A");
            order.into_iter().for_each(|split| builder.split(image, split));
            let raw = builder.finish("x");
            assert_eq!(raw.images[0].split, Some(Split::Val));
            assert!(raw.repairs[0].repair.contains("kept in val only"), "{:?}", raw.repairs);
        }
    }

    #[test]
    fn entities_of_pages_become_characters_and_are_counted_and_stay_where_captions_are_scored() {
        let read = |reading| {
            let mut builder = Builder::new(reading, ColumnNames::default());
            let image = builder.image("a.jpg");
            ["A man &amp; a dog", "it&#39;s", "plain", " "]
                .into_iter()
                .for_each(|text| builder.caption(image, None, text));
            builder.finish("x")
        };
        let raw = read(Reading::Preparation);
        assert_eq!(raw.images[0].captions, ["A man & a dog", "it's", "plain"]);
        assert_eq!((raw.repairs.len(), raw.repairs[0].what.as_str(), raw.rejects.len()), (1, "2 captions", 1));
        for reading in [Reading::Candidates, Reading::References] {
            let raw = read(reading);
            assert_eq!(raw.images[0].captions, ["A man &amp; a dog", "it&#39;s", "plain", " "]);
            assert!(raw.repairs.is_empty() && raw.rejects.is_empty());
        }
    }

    #[test]
    fn what_is_said_of_an_image_counts_more_than_the_name_of_its_file() {
        let named = |split| NamedSplit { split, is_sure: true, name: "x" };
        for is_name_first in [true, false] {
            let mut builder = Builder::default();
            let image = builder.image("a.jpg");
            builder.caption(image, None, "A");
            if is_name_first {
                builder.split(image, named(Split::Test));
            }
            builder.split(image, Split::Train);
            builder.split(image, named(Split::Val));
            let raw = builder.finish("x");
            assert_eq!((raw.images[0].split, raw.images[0].split_from), (Some(Split::Train), SplitFrom::Annotations));
            assert!(raw.repairs.is_empty() && raw.split_names.contains(&(Split::Val, "x".to_owned())), "{raw:?}");
        }
    }

    #[test]
    fn ids_that_images_of_two_files_share_are_left_out() {
        let read = |ids: [u64; 2], reading| {
            let mut builder = Builder::new(reading, ColumnNames::default());
            for (name, id) in ["a.jpg", "b.jpg"].into_iter().zip(ids) {
                let image = builder.image(name);
                builder.caption(image, None, "A");
                builder.id(image, ImageId::Natural(id));
            }
            let raw = builder.finish("x");
            (raw.images.iter().filter(|image| image.cocoid.is_some()).count(), raw.repairs.len())
        };
        assert_eq!(read([1, 2], Reading::Preparation), (2, 0));
        assert_eq!(read([1, 1], Reading::Preparation), (0, 1));
        assert_eq!(read([1, 1], Reading::References), (2, 0));
    }

    #[test]
    fn captions_that_nobody_wrote_are_left_out_or_mended_and_reported() {
        let mut builder = Builder::default();
        let (a, empty) = (builder.image("a.jpg"), builder.image("empty.jpg"));
        for (number, text) in
            [(0, "A \u{1b}[2Jdog\u{0}"), (1, &*"x".repeat(1 << 20)), (2, "B"), (2, "B"), (2, "C"), (3, "\u{7}")]
        {
            builder.caption(a, Some(number), text);
        }
        builder.caption(empty, None, " \n");
        let raw = builder.finish("x");
        assert_eq!(raw.images.len(), 1);
        assert_eq!(raw.images[0].captions, ["A  [2Jdog", "B", "C"]);
        let rejects: Vec<String> =
            raw.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
        assert_eq!(
            rejects,
            [
                "a.jpg#1: the caption has 1048576 characters, more than 10000",
                "a.jpg#2: the caption is listed twice",
                "a.jpg#3: the caption is empty",
                "a caption of empty.jpg: the caption is empty",
                "empty.jpg: has no caption left",
            ]
        );
        let repairs: Vec<&str> = raw.repairs.iter().map(|repair| repair.repair.as_str()).collect();
        assert_eq!(repairs, ["control characters became spaces", "two captions have this number: both are kept"]);
    }
}
