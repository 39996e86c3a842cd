//! What is known about data sets as people have them: their names, and one reader for each format.
//!
//! A reader says which files of a [`Source`] are of its format (`find`), and turns them into a [`RawDataset`] (`read`).
//! It decides nothing in silence: what it mended is a [`Repair`], what it left out is a [`Reject`]. Images and what
//! becomes of them are the business of `data::prepare`.

mod blip;
mod builder;
mod caption_json;
mod choice;
mod coco;
mod encoding;
pub mod flickr30k_hub;
mod flickr30k_kaggle;
mod flickr30k_token;
pub mod flickr8k;
mod flickr8k_kaggle;
mod image_folder;
mod json_shape;
mod karpathy;
mod paired;
mod sidecar;
mod table;
mod text;
mod token_lines;
mod webdataset;

use serde::{Deserialize, Serialize};

use crate::data::annotations::json_shape::JsonFile;
use crate::data::dataset::Split;
use crate::data::source::Source;

pub use choice::{Wanted, choose};
pub use encoding::decode;
pub use table::separator;
pub use text::{NamedSplit, Table, json, split_of_path, split_of_word};

/// A data set that a person may ask for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownDataset {
    /// Flickr8k.
    Flickr8k,
    /// Flickr30k.
    Flickr30k,
    /// COCO captions.
    Coco,
    /// The synthetic data set that the program draws itself.
    Shapes,
}

impl KnownDataset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flickr8k, Self::Flickr30k, Self::Coco, Self::Shapes];

    /// The name on the command line and in `data.dataset`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flickr8k => "flickr8k",
            Self::Flickr30k => "flickr30k",
            Self::Coco => "coco",
            Self::Shapes => "shapes",
        }
    }

    /// The data set called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Images for training, validation and testing in Karpathy's split, which papers report on.
    pub fn official_sizes(self) -> Option<[usize; 3]> {
        match self {
            Self::Flickr8k => Some([6_000, 1_000, 1_000]),
            Self::Flickr30k => Some([29_000, 1_014, 1_000]),
            Self::Coco => Some([113_287, 5_000, 5_000]),
            Self::Shapes => None,
        }
    }

    /// Other splits that are in use, with their names.
    pub fn other_sizes(self) -> &'static [([usize; 3], &'static str)] {
        match self {
            Self::Flickr30k => &[([29_783, 1_000, 1_000], "Flickr30k Entities")],
            Self::Coco => &[([82_783, 40_504, 0], "COCO 2014"), ([118_287, 5_000, 0], "COCO 2017")],
            Self::Flickr8k | Self::Shapes => &[],
        }
    }

    /// Numbers of images that it has where no split is named: those of the distributed captions.
    fn totals(self) -> &'static [usize] {
        match self {
            Self::Flickr8k => &[8_000, 8_091, 8_092],
            Self::Flickr30k => &[31_014, 31_783],
            Self::Coco => &[123_287],
            Self::Shapes => &[],
        }
    }

    /// Whether `raw` has as many images as this data set: in each split of which there are any, or in all where no split is
    /// named. A set of a person's own in the same form has not.
    pub fn has_size_of(self, raw: &RawDataset) -> bool {
        let count = |split| raw.images.iter().filter(|image| image.split == Some(split)).count();
        let counts = Split::ALL.map(count);
        let (num_named, num_images) = (counts.iter().sum::<usize>(), raw.images.len());
        if num_named == 0 {
            return self.totals().contains(&num_images);
        }
        let known = self.official_sizes().into_iter().chain(self.other_sizes().iter().map(|(sizes, _)| *sizes));
        let fits = |sizes: [usize; 3]| counts.iter().zip(sizes).all(|(&count, size)| count == 0 || count == size);
        num_named == num_images && known.into_iter().any(fits)
    }

    /// The known data set that a file name speaks of.
    fn of_path(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let words = || path.split(|character: char| !character.is_ascii_alphanumeric());
        let speaks_of = |known: &Self| {
            let year = |word: &'_ str| word.trim_start_matches("ms").strip_prefix(known.name()).map(str::to_owned);
            words().filter_map(year).any(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        [Self::Flickr8k, Self::Flickr30k, Self::Coco].into_iter().find(speaks_of)
    }
}

/// How annotations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `dataset_*.json` in Karpathy's schema.
    Karpathy,
    /// `flickr_annotations_30k.csv` of the Hub's `nlphuji/flickr30k`.
    Flickr30kHub,
    /// `Flickr8k.token.txt` and the lists of its splits.
    Flickr8k,
    /// `results_20130124.token`.
    Flickr30kToken,
    /// `results.csv` of Flickr30k on Kaggle.
    Flickr30kKaggle,
    /// `captions.txt` of Flickr8k on Kaggle.
    Flickr8kKaggle,
    /// `captions_*.json` of COCO.
    Coco,
    /// JSON of BLIP and LAVIS.
    Blip,
    /// `metadata.jsonl` or `metadata.csv` beside the images.
    ImageFolder,
    /// Tar archives with images and their captions side by side.
    WebDataset,
    /// A CSV or TSV with a column for the image and one for the caption.
    Table,
    /// A JSON object from images to captions, or a list of images with captions.
    CaptionJson,
    /// A text file beside each image.
    Sidecar,
}

impl Format {
    /// All of them; of two for one known data set the earlier has more to say.
    pub const ALL: [Self; 13] = [
        Self::Karpathy,
        Self::Flickr30kHub,
        Self::Flickr8k,
        Self::Flickr30kToken,
        Self::Flickr30kKaggle,
        Self::Flickr8kKaggle,
        Self::Coco,
        Self::Blip,
        Self::ImageFolder,
        Self::WebDataset,
        Self::Table,
        Self::CaptionJson,
        Self::Sidecar,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Karpathy => "karpathy",
            Self::Flickr30kHub => "flickr30k-hub",
            Self::Flickr8k => "flickr8k-token",
            Self::Flickr30kToken => "flickr30k-token",
            Self::Flickr30kKaggle => "flickr30k-kaggle",
            Self::Flickr8kKaggle => "flickr8k-kaggle",
            Self::Coco => "coco-captions",
            Self::Blip => "blip",
            Self::ImageFolder => "imagefolder",
            Self::WebDataset => "webdataset",
            Self::Table => "table",
            Self::CaptionJson => "json",
            Self::Sidecar => "sidecar",
        }
    }

    /// The format called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// What its files look like, for a person.
    pub fn description(self) -> &'static str {
        match self {
            Self::Karpathy => "dataset_*.json in Karpathy's schema",
            Self::Flickr30kHub => "flickr_annotations_30k.csv",
            Self::Flickr8k => "Flickr8k.token.txt and Flickr_8k.trainImages.txt, .devImages.txt, .testImages.txt",
            Self::Flickr30kToken => "results_20130124.token",
            Self::Flickr30kKaggle => "results.csv with | between its columns",
            Self::Flickr8kKaggle => "captions.txt with the header image,caption",
            Self::Coco => "captions_*.json with images and annotations",
            Self::Blip => "a JSON list of {\"image\", \"caption\"}",
            Self::ImageFolder => "metadata.jsonl or metadata.csv beside the images",
            Self::WebDataset => "tar archives with KEY.jpg and KEY.txt or KEY.json",
            Self::Table => "a CSV or TSV with columns such as image and caption",
            Self::CaptionJson => "a JSON object from image to caption",
            Self::Sidecar => "X.txt beside X.jpg",
        }
    }

    /// Annotations of this format in `source`; several where they are of different data sets.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn find(self, source: &Source, json: &[JsonFile]) -> anyhow::Result<Vec<Found>> {
        match self {
            Self::Karpathy => Ok(karpathy::find(source, json)),
            Self::Flickr30kHub => flickr30k_hub::find(source),
            Self::Flickr8k => flickr8k::find(source),
            Self::Flickr30kToken => flickr30k_token::find(source),
            Self::Flickr30kKaggle => flickr30k_kaggle::find(source),
            Self::Flickr8kKaggle => flickr8k_kaggle::find(source),
            Self::Coco => Ok(coco::find(source, json)),
            Self::Blip => Ok(blip::find(source, json)),
            Self::ImageFolder => image_folder::find(source),
            Self::WebDataset => webdataset::find(source),
            Self::Table => table::find(source),
            Self::CaptionJson => Ok(caption_json::find(source, json)),
            Self::Sidecar => sidecar::find(source),
        }
    }
}

/// Annotations in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How they are written.
    pub format: Format,
    /// The known data set they are of.
    pub dataset: Option<KnownDataset>,
    /// Their files, as indices into [`Source::files`].
    pub files: Vec<usize>,
}

impl Found {
    fn new(format: Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Self {
        Self { format, dataset, files }
    }

    /// Nothing where there are no files.
    fn some(format: Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Vec<Self> {
        if files.is_empty() { Vec::new() } else { vec![Self::new(format, dataset, files)] }
    }

    /// Format and files in a few words.
    pub fn describe(&self, source: &Source) -> String {
        let first = self.files.first().map_or("", |&file| source.files()[file].path.as_str());
        match self.files.len() {
            0 | 1 => format!("{} ({first})", self.format.name()),
            more => format!("{} ({first} and {} more)", self.format.name(), more - 1),
        }
    }

    /// Images and captions.
    ///
    /// # Errors
    /// Files that are not of the form, with the place.
    pub fn read(&self, source: &Source) -> anyhow::Result<RawDataset> {
        match self.format {
            Format::Karpathy => karpathy::read(source, &self.files),
            Format::Flickr30kHub => flickr30k_hub::read(source, &self.files),
            Format::Flickr8k => flickr8k::read(source, &self.files),
            Format::Flickr30kToken => flickr30k_token::read(source, &self.files),
            Format::Flickr30kKaggle => flickr30k_kaggle::read(source, &self.files),
            Format::Flickr8kKaggle => flickr8k_kaggle::read(source, &self.files),
            Format::Coco => coco::read(source, &self.files),
            Format::Blip => blip::read(source, &self.files),
            Format::ImageFolder => image_folder::read(source, &self.files),
            Format::WebDataset => webdataset::read(source, &self.files),
            Format::Table => table::read(source, &self.files),
            Format::CaptionJson => caption_json::read(source, &self.files),
            Format::Sidecar => sidecar::read(source, &self.files),
        }
    }
}

/// Images and captions as a reader found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawDataset {
    /// Name of the data set.
    pub name: String,
    /// Images in the order of the annotations.
    pub images: Vec<RawImage>,
    /// The names of the images are their paths below the source: a file of that name elsewhere is another one.
    pub has_paths: bool,
    /// For each split that names of files or folders speak of the first such name.
    pub split_names: Vec<(Split, String)>,
    /// What was mended or noticed.
    pub repairs: Vec<Repair>,
    /// What was left out.
    pub rejects: Vec<Reject>,
}

/// One image of a [`RawDataset`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawImage {
    /// Its file: as the annotations write it, and once the file is found, the name inside `images/`.
    pub filename: String,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What the annotations say it is for, if they say it.
    pub split: Option<Split>,
    /// Where they say it.
    pub split_from: SplitFrom,
    /// Its number in COCO, if it has one.
    pub cocoid: Option<u64>,
}

/// Where annotations say what an image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitFrom {
    /// They say it of the image, in a list or beside its name.
    #[default]
    Annotations,
    /// The name of a file or folder has a word for a split.
    Name {
        /// As [`NamedSplit::is_sure`].
        is_sure: bool,
    },
}

/// Something that was mended, or a circumstance to know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// The file, image or line.
    pub what: String,
    /// What was done about it.
    pub repair: String,
}

impl Repair {
    /// A repair of `what`.
    pub fn new(what: impl Into<String>, repair: impl Into<String>) -> Self {
        Self { what: what.into(), repair: repair.into() }
    }
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// The image, caption or number of them.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Reject {
    /// A reject of `what`.
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_data_set_is_known_by_its_size() {
        let raw = |counts: &[(usize, Option<Split>)]| {
            let image = |split| RawImage { split, ..RawImage::default() };
            let images = counts.iter().flat_map(|&(count, split)| vec![image(split); count]).collect();
            RawDataset { images, ..RawDataset::default() }
        };
        let [train, val, test] = Split::ALL.map(Some);
        for (known, counts) in [
            (KnownDataset::Coco, &[(113_287, train), (5_000, val), (5_000, test)][..]),
            (KnownDataset::Coco, &[(118_287, train), (5_000, val)]),
            (KnownDataset::Coco, &[(40_504, val)]),
            (KnownDataset::Coco, &[(123_287, None)]),
            (KnownDataset::Flickr8k, &[(8_092, None)]),
            (KnownDataset::Flickr8k, &[(6_000, train)]),
            (KnownDataset::Flickr30k, &[(29_000, train), (1_014, val), (1_000, test)]),
            (KnownDataset::Flickr30k, &[(31_783, None)]),
        ] {
            assert!(known.has_size_of(&raw(counts)), "{known:?} {counts:?}");
        }
        for (known, counts) in [
            (KnownDataset::Coco, &[(6, None)][..]),
            (KnownDataset::Coco, &[(118_287, train), (5_001, val)]),
            (KnownDataset::Coco, &[(5_000, val), (1, None)]),
            (KnownDataset::Flickr8k, &[(31_783, None)]),
            (KnownDataset::Shapes, &[(1, None)]),
            (KnownDataset::Flickr30k, &[]),
        ] {
            assert!(!known.has_size_of(&raw(counts)), "{known:?} {counts:?}");
        }
    }

    #[test]
    fn a_name_speaks_of_a_known_data_set_by_a_word() {
        for (path, expected) in [
            ("dataset_coco.json", Some(KnownDataset::Coco)),
            ("annotations/coco_karpathy_train", Some(KnownDataset::Coco)),
            ("MSCOCO2017-val", Some(KnownDataset::Coco)),
            ("flickr30k_test.json", Some(KnownDataset::Flickr30k)),
            ("dataset_flickr8k.json", Some(KnownDataset::Flickr8k)),
            ("coconuts/pairs", None),
            ("captions", None),
        ] {
            assert_eq!(KnownDataset::of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn every_name_means_one_thing() {
        let mut names: Vec<&str> = KnownDataset::ALL.into_iter().map(KnownDataset::name).collect();
        names.extend(Format::ALL.into_iter().map(Format::name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
