//! Gathers what a reader finds, caption by caption, and keeps the rules that hold for every format: nothing empty,
//! nothing overlong, no control characters, no caption twice under one number, an image in one split.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use crate::data::annotations::{NamedSplit, RawDataset, RawImage, Reject, Repair, SplitFrom};
use crate::data::dataset::{MAX_CAPTION_CHARS, Split, clean_caption};
use crate::data::source::Source;

/// A data set in the making.
#[derive(Default)]
pub(super) struct Builder {
    images: Vec<Gathered>,
    position: HashMap<String, usize>,
    /// Hashes of (image, number) and of (image, number, caption): the captions themselves would be held twice.
    numbers: HashSet<u64>,
    seen: HashSet<u64>,
    hasher: RandomState,
    split_names: Vec<(Split, String)>,
    /// What was mended or noticed.
    pub repairs: Vec<Repair>,
    /// What was left out.
    pub rejects: Vec<Reject>,
}

/// What is said about the split of an image.
#[derive(Clone, Copy)]
pub(super) enum Said<'a> {
    /// Of the image itself.
    OfImage(Split),
    /// By the name of a file or folder.
    ByName(NamedSplit<'a>),
}

impl From<Split> for Said<'_> {
    fn from(split: Split) -> Self {
        Self::OfImage(split)
    }
}

impl<'a> From<NamedSplit<'a>> for Said<'a> {
    fn from(named: NamedSplit<'a>) -> Self {
        Self::ByName(named)
    }
}

struct Gathered {
    image: RawImage,
    numbers: Vec<u32>,
}

impl Builder {
    /// What `parse` makes of each of `files`, given its path and content.
    ///
    /// # Errors
    /// What reading and `parse` give.
    pub(super) fn read(
        source: &Source,
        files: &[usize],
        mut parse: impl FnMut(&mut Self, &str, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut builder = Self::default();
        for &file in files {
            parse(&mut builder, &source.files()[file].path, &source.read(file)?)?;
        }
        Ok(builder)
    }

    /// The image called `reference`, made when it is new. References are compared as they are written.
    pub(super) fn image(&mut self, reference: &str) -> usize {
        if let Some(&index) = self.position.get(reference) {
            return index;
        }
        let index = self.images.len();
        self.position.insert(reference.to_owned(), index);
        let image = RawImage {
            filename: reference.to_owned(),
            captions: Vec::new(),
            split: None,
            split_from: SplitFrom::default(),
            cocoid: None,
        };
        self.images.push(Gathered { image, numbers: Vec::new() });
        index
    }

    /// Whether an image of this reference is known.
    pub(super) fn knows(&self, reference: &str) -> bool {
        self.position.contains_key(reference)
    }

    /// The reference of an image.
    pub(super) fn reference(&self, image: usize) -> &str {
        &self.images[image].image.filename
    }

    /// Adds a caption. Where captions have numbers they are brought into their order, and one that stands there twice
    /// under one number is left out.
    pub(super) fn caption(&mut self, image: usize, number: Option<u32>, text: &str) {
        let what = |builder: &Self| match number {
            Some(number) => format!("{}#{number}", builder.reference(image)),
            None => format!("a caption of {}", builder.reference(image)),
        };
        let (caption, is_wild) = clean_caption(text);
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
                self.rejects.push(Reject::new(what(self), "the caption stands there twice"));
                return;
            }
            if !self.numbers.insert(self.hasher.hash_one((image, number))) {
                self.repairs.push(Repair::new(what(self), "two captions have this number: both are kept"));
            }
        }
        if is_wild {
            self.repairs.push(Repair::new(what(self), "control characters became spaces"));
        }
        let gathered = &mut self.images[image];
        gathered.image.captions.push(caption);
        gathered.numbers.extend(number);
    }

    /// Says what an image is for. What is said of the image counts more than a word in the name of a file or folder. Of two
    /// answers that count alike that with the later split counts (validation, then testing): that is the one that must not
    /// be seen in training.
    pub(super) fn split<'a>(&mut self, image: usize, said: impl Into<Said<'a>>) {
        let (split, from) = match said.into() {
            Said::OfImage(split) => (split, SplitFrom::Annotations),
            Said::ByName(NamedSplit { split, is_sure, name }) => {
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
        let note = format!("in the splits {} and {}: kept in {} alone", first.name(), split.name(), last.name());
        self.repairs.push(Repair::new(self.reference(image).to_owned(), note));
    }

    /// Gives an image its number in COCO.
    pub(super) fn cocoid(&mut self, image: usize, cocoid: u64) {
        self.images[image].image.cocoid = Some(cocoid);
    }

    /// [`Builder::finish`] where images were named by their paths below the source.
    pub(super) fn finish_with_paths(self) -> RawDataset {
        RawDataset { has_paths: true, ..self.finish("") }
    }

    /// The data set, without images that have no caption left.
    pub(super) fn finish(mut self, name: &str) -> RawDataset {
        let mut images = Vec::with_capacity(self.images.len());
        for Gathered { mut image, numbers } in self.images {
            if image.captions.is_empty() {
                self.rejects.push(Reject::new(image.filename, "has no caption that is not empty"));
                continue;
            }
            if numbers.len() == image.captions.len() && !numbers.is_sorted() {
                let mut order: Vec<usize> = (0..numbers.len()).collect();
                order.sort_by_key(|&place| numbers[place]);
                image.captions = order.iter().map(|&place| std::mem::take(&mut image.captions[place])).collect();
            }
            images.push(image);
        }
        RawDataset {
            name: name.to_owned(),
            images,
            has_paths: false,
            split_names: self.split_names,
            repairs: self.repairs,
            rejects: self.rejects,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_image_in_two_splits_stays_out_of_training() {
        for order in [[Split::Train, Split::Val], [Split::Val, Split::Train]] {
            let mut builder = Builder::default();
            let image = builder.image("a.jpg");
            builder.caption(image, None, "A");
            order.into_iter().for_each(|split| builder.split(image, split));
            let raw = builder.finish("x");
            assert_eq!(raw.images[0].split, Some(Split::Val));
            assert!(raw.repairs[0].repair.contains("kept in val alone"), "{:?}", raw.repairs);
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
                "a.jpg#2: the caption stands there twice",
                "a.jpg#3: the caption is empty",
                "a caption of empty.jpg: the caption is empty",
                "empty.jpg: has no caption that is not empty",
            ]
        );
        let repairs: Vec<&str> = raw.repairs.iter().map(|repair| repair.repair.as_str()).collect();
        assert_eq!(repairs, ["control characters became spaces", "two captions have this number: both are kept"]);
    }
}
