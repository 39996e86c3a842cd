//! What is known about data sets as people have them: their names, and one reader for each format.
//!
//! `candidates` looks into the files that may hold captions. A reader says which of them are of its format (`find`), and
//! turns them into a [`RawDataset`] (`read`). It decides nothing in silence: what it mended is a [`Repair`], what it left
//! out is a [`Reject`], and a file that no reader takes is named by `unread`. A new format is a file with its `FORMAT` and a
//! line in [`FORMATS`]. Images and what becomes of them are the business of `data::prepare`.

mod backslash_quotes;
mod blip;
mod builder;
mod candidates;
mod caption_json;
mod choice;
mod chosen;
mod coco;
mod encoding;
mod entities;
mod family;
mod fields;
pub mod flickr30k_hub;
mod flickr30k_kaggle;
mod flickr30k_token;
pub mod flickr8k;
mod flickr8k_kaggle;
mod folders;
mod image_folder;
mod input;
mod json_columns;
mod json_lines;
mod json_shape;
mod json_text;
mod json_values;
mod json_walk;
mod karpathy;
mod layout;
mod list_text;
mod listed_cells;
mod many_images;
mod paired;
mod pairs;
mod record;
mod scored;
mod sidecar;
mod table;
mod text;
mod token_lines;
mod training_files;
mod unread;
mod webdataset;
mod wrappings;

use serde::{Deserialize, Serialize};

use crate::annotations::candidates::Candidates;
use crate::annotations::input::{Input, TheFile};
use crate::image_id::ImageId;
use crate::prepared::Split;
use crate::source::Source;

pub use candidates::may_hold_captions;
pub use choice::{Choice, Wanted, choose};
pub use encoding::decode;
pub use fields::Columns;
pub use folders::{Folders, are_others, split_of_folders};
pub use input::Reading;
pub use scored::{Scored, read_captions, read_scored};
pub use text::{NamedSplit, Table, json, separator, split_of_path, split_of_word};
pub use training_files::TrainingFile;

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

/// How annotations are written, and what reads them.
#[derive(Debug)]
pub struct Format {
    name: &'static str,
    description: &'static str,
    /// Annotations of this format among the files that no earlier format has claimed; several where they are of different
    /// data sets.
    find: fn(&Candidates<'_>) -> anyhow::Result<Vec<Found>>,
    read: fn(&Input<'_>) -> anyhow::Result<RawDataset>,
}

/// All formats; of two for one known data set the earlier has more to say.
pub static FORMATS: [&Format; 16] = [
    &karpathy::FORMAT,
    &flickr30k_hub::FORMAT,
    &flickr8k::FORMAT,
    &flickr30k_token::FORMAT,
    &flickr30k_kaggle::FORMAT,
    &flickr8k_kaggle::FORMAT,
    &coco::FORMAT,
    &blip::FORMAT,
    &image_folder::FORMAT,
    &webdataset::FORMAT,
    &table::FORMAT,
    &caption_json::FORMAT,
    &json_lines::FORMAT,
    &token_lines::FORMAT,
    &pairs::FORMAT,
    &sidecar::FORMAT,
];

impl Format {
    /// The name on the command line and in reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The format called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }

    /// What its files look like, for a person.
    pub fn description(&self) -> &'static str {
        self.description
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

/// How sure it is that files were meant as captions. The surest count; of the others it is said that they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Certainty {
    /// They are exactly of a known form.
    Sure,
    /// They can be read as captions in one way only.
    Near,
    /// They lie beside the images, which many files do.
    Beside,
}

/// Annotations in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How they are written.
    pub format: &'static Format,
    /// The known data set they are of.
    pub dataset: Option<KnownDataset>,
    /// Their files, as indices into [`Source::files`].
    pub files: Vec<usize>,
    /// Files that say the same and are not read.
    spare: Vec<usize>,
    certainty: Certainty,
}

impl Found {
    fn new(format: &'static Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Self {
        Self { format, dataset, files, spare: Vec::new(), certainty: Certainty::Sure }
    }

    /// Nothing where there are no files.
    fn some(format: &'static Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Vec<Self> {
        if files.is_empty() { Vec::new() } else { vec![Self::new(format, dataset, files)] }
    }

    /// The first of the files; nothing where there are none. A copy often lies inside of the folder of the images too.
    fn first(format: &'static Format, dataset: Option<KnownDataset>, mut files: Vec<usize>) -> Vec<Self> {
        let spare = files.split_off(files.len().min(1));
        Self::some(format, dataset, files).into_iter().map(|found| Self { spare: spare.clone(), ..found }).collect()
    }

    /// Format and files in a few words.
    pub fn describe(&self, source: &Source) -> String {
        let first = self.files.first().map_or("", |&file| source.files()[file].path.as_str());
        match self.files.len() {
            0 | 1 => format!("{} ({first})", self.format.name()),
            more => format!("{} ({first} and {} more)", self.format.name(), more - 1),
        }
    }

    /// Images and captions, for a data set.
    ///
    /// # Errors
    /// Files that are not of the form, with the place.
    pub fn read(&self, source: &Source) -> anyhow::Result<RawDataset> {
        self.read_as(source, Reading::Preparation)
    }

    /// Images and captions for `reading`.
    ///
    /// # Errors
    /// As [`Found::read`].
    pub fn read_as(&self, source: &Source, reading: Reading) -> anyhow::Result<RawDataset> {
        (self.format.read)(&Input { source, files: &self.files, reading })
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
    /// What the annotations call it, if they give ids.
    pub cocoid: Option<ImageId>,
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
        names.extend(FORMATS.into_iter().map(Format::name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
