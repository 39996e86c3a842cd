//! What is known about data sets as people have them: their names, and one reader for each format.
//!
//! A reader says which files of a [`Source`] are of its format (`find`), and turns them into a [`RawDataset`] (`read`).
//! It decides nothing in silence: what it mended is a [`Repair`], what it left out is a [`Reject`]. Images and what
//! becomes of them are the business of `data::prepare`.

mod blip;
mod builder;
mod caption_json;
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

use crate::base::fault::{fault, usage};
use crate::data::annotations::json_shape::{JsonFile, json_files};
use crate::data::dataset::Split;
use crate::data::source::{Source, is_image_name};

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

    /// Another split that is in use, with its name.
    pub fn other_sizes(self) -> Option<([usize; 3], &'static str)> {
        match self {
            Self::Flickr30k => Some(([29_783, 1_000, 1_000], "Flickr30k Entities")),
            Self::Coco => Some(([82_783, 40_504, 0], "COCO 2014")),
            Self::Flickr8k | Self::Shapes => None,
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

/// What `--dataset` asks for: a known data set, whatever its format, or any data set of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever is there.
    Any,
    /// A known data set.
    Dataset(KnownDataset),
    /// A format.
    Format(Format),
}

impl Wanted {
    /// What is called `name`.
    ///
    /// # Errors
    /// A name that is not known: a mistake of usage.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        if let Some(known) = KnownDataset::named(name) {
            return Ok(Self::Dataset(known));
        }
        let names = || {
            let datasets = KnownDataset::ALL.into_iter().map(KnownDataset::name);
            datasets.chain(Format::ALL.into_iter().map(Format::name)).collect::<Vec<_>>().join(", ")
        };
        Format::named(name).map(Self::Format).ok_or_else(|| {
            usage(
                format!("neither a data set nor a format is called {name:?}"),
                format!("these are known: {}", names()),
            )
        })
    }

    fn allows(self, found: &Found) -> bool {
        match self {
            Self::Any => true,
            // Annotations that name no data set may be of any.
            Self::Dataset(known) => found.dataset.is_none_or(|dataset| dataset == known),
            Self::Format(format) => found.format == format,
        }
    }
}

/// The annotations in `source`, and those that were found as well and are not used.
///
/// # Errors
/// None, or several that a person has to choose from.
pub fn choose(source: &Source, wanted: Wanted) -> anyhow::Result<(Found, Vec<Found>)> {
    let json = json_files(source)?;
    let mut all = Vec::new();
    for format in Format::ALL {
        // Text files beside images count only where nothing else speaks of the images.
        if format == Format::Sidecar && wanted != Wanted::Format(format) && !all.is_empty() {
            continue;
        }
        all.extend(format.find(source, &json)?);
    }
    let (mut fitting, _): (Vec<Found>, Vec<Found>) = all.iter().cloned().partition(|found| wanted.allows(found));
    if let Wanted::Dataset(known) = wanted
        && fitting.iter().any(|found| found.dataset == Some(known))
    {
        fitting.retain(|found| found.dataset == Some(known));
        // The first is the one that has most to say, unless several are of one format.
        let first = fitting.first().map(|found| found.format);
        if fitting.iter().filter(|found| Some(found.format) == first).count() == 1 {
            let chosen = fitting.remove(0);
            return Ok((chosen, fitting));
        }
    }
    match fitting.len() {
        1 => {
            let chosen = fitting.remove(0);
            all.retain(|found| *found != chosen);
            Ok((chosen, all))
        }
        0 => Err(nothing_found(source, wanted, &all)),
        _ => {
            let names: Vec<String> = fitting.iter().map(|found| found.describe(source)).collect();
            let message = format!("there are annotations of several kinds: {}", names.join(", "));
            Err(usage(message, "choose one with `--dataset NAME`, or give a folder that has only one"))
        }
    }
}

fn nothing_found(source: &Source, wanted: Wanted, all: &[Found]) -> anyhow::Error {
    let num_images = source.find(|file| is_image_name(&file.path)).len();
    let (what, forms): (String, Vec<&str>) = match wanted {
        Wanted::Format(format) => (format!("of format {}", format.name()), vec![format.description()]),
        Wanted::Dataset(known) => {
            (format!("of {}", known.name()), Format::ALL.into_iter().map(Format::description).collect())
        }
        Wanted::Any => ("of a known form".to_owned(), Format::ALL.into_iter().map(Format::description).collect()),
    };
    let mut message =
        format!("no captions {what} are there, among {} files, {num_images} of them images", source.files().len());
    if !all.is_empty() {
        let others: Vec<String> = all.iter().map(|found| found.describe(source)).collect();
        message.push_str(&format!("; there is {}", others.join(", ")));
    }
    if let Some(packed) = source.packed().first() {
        message.push_str(&format!("; {packed} cannot be read: pack it out or turn it into one of these forms"));
    }
    fault(message, format!("put the captions beside the images, as one of: {}", forms.join("; ")))
}

/// Images and captions as a reader found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDataset {
    /// Name of the data set.
    pub name: String,
    /// Images in the order of the annotations.
    pub images: Vec<RawImage>,
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
    use crate::base::fault::{describe, is_usage};

    #[test]
    fn an_unknown_name_is_a_mistake_of_usage_and_all_names_are_told() {
        let error = Wanted::named("flickr9k").unwrap_err();
        let text = describe(&error);
        assert!(is_usage(&error) && text.contains("flickr30k") && text.contains("webdataset"), "{text}");
        assert_eq!(Wanted::named("coco").unwrap(), Wanted::Dataset(KnownDataset::Coco));
        assert_eq!(Wanted::named("table").unwrap(), Wanted::Format(Format::Table));
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
