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
pub use text::{Table, json, split_of_path, split_of_word};

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

    /// The known data set that a file name speaks of.
    fn of_path(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        [Self::Flickr8k, Self::Flickr30k, Self::Coco].into_iter().find(|known| path.contains(known.name()))
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDataset {
    /// Name of the data set.
    pub name: String,
    /// Images in the order of the annotations.
    pub images: Vec<RawImage>,
    /// The names of the images are their paths below the source: a file of that name elsewhere is another one.
    pub has_paths: bool,
    /// What was mended or noticed.
    pub repairs: Vec<Repair>,
    /// What was left out.
    pub rejects: Vec<Reject>,
}

/// One image of a [`RawDataset`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawImage {
    /// Its file: as the annotations write it, and once the file is found, the name inside `images/`.
    pub filename: String,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What the annotations say it is for, if they say it.
    pub split: Option<Split>,
    /// Its number in COCO, if it has one.
    pub cocoid: Option<u64>,
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
    fn every_name_means_one_thing() {
        let mut names: Vec<&str> = KnownDataset::ALL.into_iter().map(KnownDataset::name).collect();
        names.extend(Format::ALL.into_iter().map(Format::name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
