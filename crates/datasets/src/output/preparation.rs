//! `preparation.json`: how a data set was prepared.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::annotations::{RawDataset, Reject, Repair};
use crate::column_names::ColumnNames;
use crate::output::caption_statistics::CaptionStatistics;
use crate::output::filter_options::{FilterCount, FilterOptions};
use crate::output::source_record::SourceRecord;
use crate::prepared::{DATASET_FILE, Dataset, PREPARATION_FILE, Split};
use crate::shards::files::ShardsFile;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::digest;
use base::error::{WithHint as _, failure};
use pixels::image_file::DECODER_VERSION;

/// Represents, among the sources, all images that were taken from folders.
pub(crate) const LOOSE_IMAGES: &str = "images in folders";
/// Represents all captions if each image has its own caption file.
pub(crate) const LOOSE_CAPTIONS: &str = "captions in folders";
/// Version 1 knew neither formats nor options.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// How a data set was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    pub format_version: u32,
    pub dataset: String,
    /// How its annotations were written; empty for a data set that the program draws.
    #[serde(default)]
    pub format: String,
    /// What was asked for.
    #[serde(default)]
    pub options: Options,
    /// Version of the decoders whose pixels are stored; absent where the files are stored as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it was prepared from; empty for a data set that the program draws.
    pub sources: Vec<FileDigest>,
    pub images: Counts,
    pub captions: Counts,
    pub repairs: Vec<Repair>,
    pub rejects: Vec<Reject>,
    /// What each filter left out, in the order in which they worked; it is among the rejects too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filtered: Vec<FilterCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<CaptionStatistics>,
    /// SHA-256 of `dataset.json`.
    pub dataset_sha256: String,
}

/// What the user may ask of a preparation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// SHA-256 of the split file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_file_sha256: Option<String>,
    /// Share of the training images that is drawn for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Share of the training images that is drawn for testing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// What the user calls columns.
    #[serde(default, skip_serializing_if = "ColumnNames::is_empty")]
    pub columns: ColumnNames,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Longest short side of a stored image, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// What is to be left out.
    #[serde(default, skip_serializing_if = "FilterOptions::is_empty")]
    pub filters: FilterOptions,
}

/// Where a data set was downloaded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The Hub repository.
    pub repository: String,
    /// What was asked for, or the branch on which the files were found; a release before wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its commit, 40 hexadecimal characters.
    pub commit: String,
    /// One of several configs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What was downloaded, with the hashes that were verified; of parts of files, the hashes that they have.
    pub files: Vec<FileDigest>,
}

/// A file or folder that a data set was prepared from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Its path below the source, or [`LOOSE_IMAGES`] or [`LOOSE_CAPTIONS`].
    pub name: String,
    /// Its size; of many files, the sum over those that were taken.
    pub bytes: u64,
    /// Its SHA-256; of many files, that of the lines `SHA-256  NAME`.
    pub sha256: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub train: usize,
    pub val: usize,
    pub test: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, split: Split, number: usize) {
        match split {
            Split::Train => self.train += number,
            Split::Val => self.val += number,
            Split::Test => self.test += number,
        }
    }
}

/// The report of a finished preparation in `directory`, of the data set called `name` if one is given; `None` where
/// there is none, or where images are missing, so that it has to be done (again).
pub fn finished(name: Option<&str>, directory: &Path) -> anyhow::Result<Option<Preparation>> {
    if ShardsFile::is_in(directory) {
        let message = format!("{} has the index of a data set whose images are in shards", directory.display());
        return Err(failure(message, "choose another folder"));
    }
    let Some(preparation) = read(directory)? else { return Ok(None) };
    if let Some(name) = name.filter(|&name| preparation.dataset != name) {
        let message = format!("{} contains data set {}, not {name}", directory.display(), preparation.dataset);
        return Err(failure(message, "choose another folder"));
    }
    match digest::sha256_file(&directory.join(DATASET_FILE)) {
        Ok(found) if found == preparation.dataset_sha256 => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {DATASET_FILE}"))),
        Ok(_) => {
            let message = format!("{DATASET_FILE} in {} is not the one that was prepared", directory.display());
            let hint =
                format!("remove {PREPARATION_FILE} to make the folder your own, or remove both to prepare again");
            return Err(failure(message, hint));
        }
    }
    let dataset = Dataset::open(directory)?;
    let all_there = (0..dataset.images.len()).all(|image| dataset.picture(image).is_there());
    Ok(all_there.then_some(preparation))
}

/// The report of the preparation that made `directory`; `None` where there is none.
///
/// # Errors
/// A report that cannot be read, or is of another version.
pub fn read(directory: &Path) -> anyhow::Result<Option<Preparation>> {
    let path = directory.join(PREPARATION_FILE);
    let bytes = match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display()))),
    };
    let preparation = parse(&bytes)
        .with_context(|| format!("cannot use {}", path.display()))
        .hint(|| "prepare into another folder, or remove this one")?;
    Ok(Some(preparation))
}

impl Preparation {
    /// Whether the images that are stored were resized by decoders of another version, which read some JPEGs wrong.
    pub fn has_old_pixels(&self) -> bool {
        self.options.resize.is_some() && self.decoder != Some(DECODER_VERSION)
    }
}

/// What is known of a preparation beside its images and captions.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// As [`Preparation::format`].
    pub format: String,
    /// As [`Preparation::options`].
    pub options: Options,
    /// As [`Preparation::origin`].
    pub origin: Option<Origin>,
    /// As [`Preparation::sources`].
    pub sources: Vec<FileDigest>,
    /// As [`Preparation::filtered`].
    pub filtered: Vec<FilterCount>,
    /// All files of the source, if there is one.
    pub(crate) record: Option<SourceRecord>,
}

/// The report of `raw`, with `dataset_sha256`.
pub fn summarize(raw: &RawDataset, about: About, dataset_sha256: String) -> Preparation {
    let (mut images, mut captions) = (Counts::default(), Counts::default());
    for image in &raw.images {
        let split = image.split.unwrap_or(Split::Train);
        images.add(split, 1);
        captions.add(split, image.captions.len());
    }
    let of_image = raw.images.iter().map(|image| (image.filename.as_str(), image.captions.as_slice()));
    Preparation {
        format_version: FORMAT_VERSION,
        dataset: raw.name.clone(),
        format: about.format,
        decoder: about.options.resize.map(|_| DECODER_VERSION),
        options: about.options,
        origin: about.origin,
        sources: about.sources,
        images,
        captions,
        repairs: raw.repairs.clone(),
        rejects: raw.rejects.clone(),
        filtered: about.filtered,
        statistics: Some(CaptionStatistics::of(of_image)),
        dataset_sha256,
    }
}

/// The names of the images of the data set in `directory`; `None` where no preparation made it. Where its
/// `dataset.json` is not the one that was prepared, there are none.
pub(crate) fn reported_images(directory: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let Some(preparation) = read(directory)? else { return Ok(None) };
    let path = directory.join(DATASET_FILE);
    if !digest::sha256_file(&path).is_ok_and(|found| found == preparation.dataset_sha256) {
        return Ok(Some(Vec::new()));
    }
    let images = Dataset::open_unfinished(directory)?.images;
    Ok(Some(images.iter().map(|image| image.filename().to_owned()).collect()))
}

fn parse(bytes: &[u8]) -> anyhow::Result<Preparation> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version = serde_json::from_slice::<Version>(bytes)?.format_version;
    anyhow::ensure!(
        (1..=FORMAT_VERSION).contains(&version),
        "expected format_version {FORMAT_VERSION}, found {version}"
    );
    Ok(serde_json::from_slice(bytes)?)
}
