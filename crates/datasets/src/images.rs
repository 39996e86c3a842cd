//! The images of a data set with their captions, in little memory: texts one after the other, numbers in columns, and
//! nothing for what most images lack. Those of a data set in place lie in files, which `shards::index` opens.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::str;

use rayon::slice::ParallelSliceMut as _;

use crate::caption_extras::{CaptionExtras, Weight};
use crate::image_id::ImageId;
use crate::split::Split;
use base::column::Column;
use base::lists::Lists;

/// An image on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub filename: String,
    pub split: Split,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What each caption has beside its text; none where no caption of the image has anything.
    pub extras: Vec<CaptionExtras>,
    /// `cocoid`, what the annotations called the image; else `imgid`; the position in the file where it has neither.
    /// Where two images would have the same, their file names.
    pub image_id: ImageId,
}

/// Images in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Images {
    pub(crate) filenames: Texts,
    /// Places in [`Split::ALL`].
    pub(crate) splits: Column<u8>,
    pub(crate) ids: Ids,
    /// Where the captions of each image end among those of all.
    pub(crate) ends: Column<u32>,
    pub(crate) captions: Texts,
    /// Of each caption, empty for none. Captions after the last that has one are left out.
    pub(crate) prompts: Texts,
    /// Of each caption. Captions after the last that has one other than 1 are left out.
    pub(crate) weights: Column<f64>,
}

/// An image in place.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    images: &'a Images,
    index: usize,
}

impl Images {
    /// Appends an image. All together may have fewer than 2^32 captions.
    pub fn push(&mut self, image: &ImageRecord) {
        let ImageRecord { filename, split, captions, extras, image_id } = image;
        self.ids.set(self.len(), image_id);
        self.filenames.push(filename);
        self.splits.to_mut().push(*split as u8);
        let first = self.captions.0.len();
        for (caption, CaptionExtras { prompt, weight }) in (first..).zip(extras) {
            if let Some(prompt) = prompt {
                (self.prompts.0.len()..caption).for_each(|_| self.prompts.push(""));
                self.prompts.push(prompt);
            }
            if !weight.is_one() {
                let weights = self.weights.to_mut();
                weights.resize(caption, Weight::default().value());
                weights.push(weight.value());
            }
        }
        captions.iter().for_each(|caption| self.captions.push(caption));
        let end = u32::try_from(self.captions.0.len()).expect("a data set has fewer than 2^32 captions");
        self.ends.to_mut().push(end);
    }

    pub fn len(&self) -> usize {
        self.splits.len()
    }

    pub fn is_empty(&self) -> bool {
        self.splits.is_empty()
    }

    /// The image of this index; panics where there is none.
    pub fn get(&self, index: usize) -> Image<'_> {
        assert!(index < self.len(), "there are {} images, none has the index {index}", self.len());
        Image { images: self, index }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Image<'_>> + Clone {
        (0..self.len()).map(|index| Image { images: self, index })
    }

    /// Bytes that the images take on the heap.
    pub fn heap_bytes(&self) -> usize {
        let Self { filenames, splits, ids, ends, captions, prompts, weights } = self;
        [filenames, captions, prompts, &ids.texts].iter().map(|texts| texts.0.heap_bytes()).sum::<usize>()
            + splits.heap_bytes()
            + ends.heap_bytes()
            + weights.heap_bytes()
            + ids.kinds.heap_bytes()
            + ids.values.heap_bytes()
    }

    /// The first of the images whose file name another one before it has.
    pub(crate) fn first_repeated(&self) -> Option<Image<'_>> {
        let repeated = Repeated::of(|| self.iter().map(Image::filename));
        let mut seen = HashSet::new();
        self.iter().filter(|image| repeated.may_have(image.filename())).find(|image| !seen.insert(image.filename()))
    }

    /// Calls images by their file names where others have the same id: captions are matched to images by it.
    pub(crate) fn tell_apart(&mut self) {
        if self.ids.kinds.is_empty() {
            return;
        }
        let texts = || self.iter().map(|image| image.id().to_string());
        let repeated = Repeated::of(texts);
        let mut times: HashMap<String, usize> = HashMap::new();
        texts().filter(|text| repeated.may_have(text)).for_each(|text| *times.entry(text).or_default() += 1);
        let shares = |(index, text): (usize, String)| times.get(&text).is_some_and(|&count| count > 1).then_some(index);
        let shared: Vec<usize> = texts().enumerate().filter_map(shares).collect();
        shared.into_iter().for_each(|index| self.ids.replace(index, IdKind::Filename, 0));
    }
}

impl<'a> FromIterator<&'a ImageRecord> for Images {
    fn from_iter<I: IntoIterator<Item = &'a ImageRecord>>(records: I) -> Self {
        let mut images = Self::default();
        records.into_iter().for_each(|record| images.push(record));
        images
    }
}

impl<'a> Image<'a> {
    pub fn filename(self) -> &'a str {
        self.images.filenames.get(self.index)
    }

    pub fn split(self) -> Split {
        Split::ALL.get(usize::from(self.images.splits[self.index])).copied().unwrap_or(Split::Train)
    }

    /// What annotations call it, as [`ImageRecord::image_id`].
    pub fn id(self) -> ImageId {
        let Ids { kinds, values, texts } = &self.images.ids;
        let value = values.get(self.index).copied().unwrap_or_default();
        let is = |kind: IdKind| kinds.get(self.index) == Some(&(kind as u8));
        match () {
            () if is(IdKind::Natural) => ImageId::Natural(value),
            () if is(IdKind::Negative) => ImageId::Negative(value.cast_signed()),
            () if is(IdKind::Text) && (value as usize) < texts.0.len() => {
                ImageId::Text(texts.get(value as usize).to_owned())
            }
            () if is(IdKind::Filename) => ImageId::Text(self.filename().to_owned()),
            () => ImageId::Natural(self.index as u64),
        }
    }

    /// Where its captions begin among those of all images.
    fn first(self) -> usize {
        self.index.checked_sub(1).map_or(0, |before| self.images.ends[before] as usize)
    }

    pub fn num_captions(self) -> usize {
        self.images.ends[self.index] as usize - self.first()
    }

    /// At least one.
    pub fn captions(self) -> impl ExactSizeIterator<Item = &'a str> + Clone + Send {
        let first = self.first();
        (first..first + self.num_captions()).map(move |caption| self.images.captions.get(caption))
    }

    /// [`Self::captions`] as a list of their own.
    pub fn owned_captions(self) -> Vec<String> {
        self.captions().map(str::to_owned).collect()
    }

    /// The prompt of its own that the caption with this number has.
    pub fn prompt(self, caption: usize) -> Option<&'a str> {
        let (prompts, place) = (&self.images.prompts, self.first() + caption);
        let is_there = caption < self.num_captions() && place < prompts.0.len();
        is_there.then(|| prompts.get(place)).filter(|prompt| !prompt.is_empty())
    }

    /// The weight of the caption with this number.
    pub fn weight(self, caption: usize) -> Weight {
        let weight = self.images.weights.get(self.first() + caption).filter(|_| caption < self.num_captions());
        weight.and_then(|&weight| Weight::new(weight)).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(pub(crate) Lists<u8>);

impl Texts {
    fn push(&mut self, text: &str) {
        self.0.push(text.as_bytes());
    }

    /// Files that someone else wrote may hold anything.
    pub(crate) fn get(&self, number: usize) -> &str {
        str::from_utf8(self.0.get(number)).unwrap_or("\u{fffd}")
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.0.len()).map(|number| self.get(number))
    }
}

/// What images are called. Images after the last that is not called by its position are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    /// [`IdKind`]s.
    pub(crate) kinds: Column<u8>,
    /// What the kind says of the value.
    pub(crate) values: Column<u64>,
    pub(crate) texts: Texts,
}

#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum IdKind {
    /// Called by its position.
    Position = 0,
    Natural = 1,
    /// The bits of an i64.
    Negative = 2,
    /// The number of its text.
    Text = 3,
    Filename = 4,
}

impl Ids {
    pub(crate) fn set(&mut self, index: usize, id: &ImageId) {
        let (kind, value) = match id {
            ImageId::Natural(number) if *number == index as u64 => return,
            ImageId::Natural(number) => (IdKind::Natural, *number),
            ImageId::Negative(number) => (IdKind::Negative, number.cast_unsigned()),
            ImageId::Text(text) => {
                self.texts.push(text);
                (IdKind::Text, self.texts.0.len() as u64 - 1)
            }
        };
        self.replace(index, kind, value);
    }

    fn replace(&mut self, index: usize, kind: IdKind, value: u64) {
        let (kinds, values) = (self.kinds.to_mut(), self.values.to_mut());
        if kinds.len() <= index {
            kinds.resize(index + 1, IdKind::Position as u8);
            values.resize(index + 1, 0);
        }
        (kinds[index], values[index]) = (kind as u8, value);
    }
}

/// Hashes of which several texts have the same. Of millions of texts they take far less memory than a set of texts.
struct Repeated {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Repeated {
    fn of<T: AsRef<str>, I: Iterator<Item = T>>(texts: impl Fn() -> I) -> Self {
        let hasher = RandomState::new();
        let mut all: Vec<u64> = texts().map(|text| hasher.hash_one(text.as_ref())).collect();
        all.par_sort_unstable();
        let pairs = all.windows(2).filter(|pair| pair[0] == pair[1]);
        Self { hashes: pairs.map(|pair| pair[0]).collect(), hasher }
    }

    /// Whether another one may be equal to `text`, one of the texts.
    fn may_have(&self, text: &str) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hasher.hash_one(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: usize, captions: &[(&str, Option<&str>, f64)]) -> ImageRecord {
        let extras = |&(_, prompt, weight): &(&str, Option<&str>, f64)| CaptionExtras {
            prompt: prompt.map(str::to_owned),
            weight: Weight::new(weight).unwrap(),
        };
        ImageRecord {
            filename: format!("{index:09}.jpg"),
            split: Split::ALL[index % 3],
            captions: captions.iter().map(|caption| caption.0.to_owned()).collect(),
            extras: crate::caption_extras::unless_usual(captions.iter().map(extras).collect()),
            image_id: ImageId::Natural(index as u64),
        }
    }

    #[test]
    fn images_come_back_as_they_were_pushed() {
        let mut records = vec![
            record(0, &[("a", None, 1.0)]),
            record(1, &[("b", None, 1.0), ("c é", Some("what is it?"), 1.0), ("d", None, 1.0)]),
            record(2, &[("e", None, 1.0), ("f", None, 0.5)]),
            record(3, &[("g", Some("x"), 0.0)]),
            record(4, &[("h", None, 1.0)]),
        ];
        records[1].image_id = ImageId::Text("one".into());
        records[3].image_id = ImageId::Negative(-4);
        let images: Images = records.iter().collect();
        assert_eq!(images.len(), 5);
        for (image, record) in images.iter().zip(&records) {
            assert_eq!((image.filename(), image.split()), (record.filename.as_str(), record.split));
            assert_eq!((image.owned_captions(), image.id()), (record.captions.clone(), record.image_id.clone()));
            assert_eq!(image.num_captions(), record.captions.len());
            for caption in 0..5 {
                let extras = record.extras.get(caption).cloned().unwrap_or_default();
                assert_eq!((image.prompt(caption), image.weight(caption)), (extras.prompt.as_deref(), extras.weight));
            }
        }
    }

    #[test]
    fn a_name_that_returns_is_found_where_it_returns() {
        let mut records: Vec<ImageRecord> = (0..100).map(|index| record(index, &[("a", None, 1.0)])).collect();
        assert!(records.iter().collect::<Images>().first_repeated().is_none());
        for (later, earlier) in [(70, 3), (40, 8), (90, 8)] {
            records[later].filename = records[earlier].filename.clone();
        }
        let images: Images = records.iter().collect();
        assert_eq!(images.first_repeated().unwrap().index, 40);
    }

    #[test]
    fn ten_thousand_captions_of_ten_words_take_at_most_a_hundred_bytes_each() {
        let caption = "a man in a red jacket is riding a small brown horse";
        let records: Vec<ImageRecord> = (0..10_000).map(|index| record(index, &[(caption, None, 1.0)])).collect();
        let images: Images = records.iter().collect();
        let each = images.heap_bytes() as f64 / 10_000.0;
        assert!((65.0..100.0).contains(&each), "{each}");
    }
}
