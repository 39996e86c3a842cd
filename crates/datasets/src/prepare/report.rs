//! The two files that end a preparation: `dataset.json`, then `preparation.json`, which says that all is done.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::annotations::{RawDataset, Reject, Repair};
use crate::image_id::ImageId;
use crate::prepare::caption_statistics::{CaptionStatistics, plain};
use crate::prepare::ownership::{self, Ours};
use crate::prepare::source_record::SourceRecord;
use crate::prepared::{DATASET_FILE, Dataset, Split};
use crate::write::{explain_write, write_if_changed};
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::fault::{WithHint as _, fault};
use base::{atomic_file, digest};
use pixels::image_file::DECODER_VERSION;

/// The file that says how a data set was made; it is written last.
pub const PREPARATION_FILE: &str = "preparation.json";
/// Lies in the folder while it is being prepared: see [`ownership`](super::ownership).
pub const MARKER_FILE: &str = ".preparing";
/// What stands for all images that were taken from folders among the sources.
pub const LOOSE_IMAGES: &str = "images in folders";
/// What stands for all captions where each image has a file of its own for them.
pub const LOOSE_CAPTIONS: &str = "captions in folders";
/// Version 1 knew neither formats nor options.
const FORMAT_VERSION: u32 = 2;

/// How a data set was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Version of this file's format.
    pub format_version: u32,
    /// Name of the data set.
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
    /// Where it was downloaded from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it was made from; empty for a data set that the program draws.
    pub sources: Vec<SourceFile>,
    /// Images in each split.
    pub images: Counts,
    /// Captions in each split.
    pub captions: Counts,
    /// What was mended or noticed.
    pub repairs: Vec<Repair>,
    /// What was left out.
    pub rejects: Vec<Reject>,
    /// About the captions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<CaptionStatistics>,
    /// SHA-256 of `dataset.json`.
    pub dataset_sha256: String,
}

/// What a person may ask of a preparation.
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
    /// Images at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Longest short side of a stored image, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
}

/// Where a data set was downloaded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The Hub repository.
    pub repository: String,
    /// Its commit, 40 hexadecimal characters.
    pub commit: String,
    /// What was downloaded, with the hashes that were verified.
    pub files: Vec<SourceFile>,
}

/// A file or folder that a data set was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Its path below the source, or [`LOOSE_IMAGES`] or [`LOOSE_CAPTIONS`].
    pub name: String,
    /// Its size; of many files, the sum over those that were taken.
    pub bytes: u64,
    /// Its SHA-256; of many files, that of the lines `SHA-256  NAME`.
    pub sha256: String,
}

/// A number for each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Training.
    pub train: usize,
    /// Validation.
    pub val: usize,
    /// Testing.
    pub test: usize,
}

impl Counts {
    fn add(&mut self, split: Split, number: usize) {
        match split {
            Split::Train => self.train += number,
            Split::Val => self.val += number,
            Split::Test => self.test += number,
        }
    }
}

/// The report of a finished preparation in `directory`, of the data set called `name` if one is given; `None` where there
/// is none, or where images are missing, so that it has to be done (again).
///
/// # Errors
/// A report that cannot be read, that is about another data set, or that does not belong to the `dataset.json` there.
pub fn finished(name: Option<&str>, directory: &Path) -> anyhow::Result<Option<Preparation>> {
    let Some(preparation) = read(directory)? else { return Ok(None) };
    if let Some(name) = name.filter(|&name| preparation.dataset != name) {
        let message = format!("{} holds data set {}, not {name}", directory.display(), preparation.dataset);
        return Err(fault(message, "choose another folder"));
    }
    match digest::sha256_file(&directory.join(DATASET_FILE)) {
        Ok(found) if found == preparation.dataset_sha256 => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {DATASET_FILE}"))),
        Ok(_) => {
            let message = format!("{DATASET_FILE} in {} is not the one that was prepared", directory.display());
            let hint =
                format!("remove {PREPARATION_FILE} to make the folder your own, or remove both to prepare again");
            return Err(fault(message, hint));
        }
    }
    let dataset = Dataset::open(directory)?;
    let all_there = (0..dataset.images.len()).all(|image| dataset.image_path(image).is_file());
    Ok(all_there.then_some(preparation))
}

fn read(directory: &Path) -> anyhow::Result<Option<Preparation>> {
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
    pub sources: Vec<SourceFile>,
    /// All files of the source, if there is one.
    pub(super) record: Option<SourceRecord>,
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
        statistics: Some(CaptionStatistics::of(of_image)),
        dataset_sha256,
    }
}

/// Writes `dataset.json`, the record of the source where there is one and, once all images are on the disk for certain,
/// `preparation.json`. Images without a split count as training images. `sums`: the SHA-256 of each as it is stored.
///
/// # Errors
/// A `dataset.json` of somebody's, and what writing gives.
pub fn finish(
    directory: &Path,
    raw: &RawDataset,
    mut about: About,
    ours: &Ours,
    sums: &[String],
) -> anyhow::Result<Preparation> {
    let record = about.record.take();
    let (dataset_path, path) = (directory.join(DATASET_FILE), directory.join(PREPARATION_FILE));
    // Written out twice, to be digested and to be kept: held whole it would take more room than all captions.
    let mut hasher = digest::Hasher::new();
    write_dataset(raw, &mut Digesting(&mut hasher)).context("cannot encode the data set")?;
    let digest = hasher.finish();
    let old = digest::sha256_file(&dataset_path).ok();
    let preparation = summarize(raw, about, digest.clone());
    if old.as_ref() != Some(&digest) {
        ours.check(directory, DATASET_FILE)?;
        ours.announce(directory, DATASET_FILE, &digest)?;
        explain_write(atomic_file::write_with(&dataset_path, |file| write_dataset(raw, file)), &dataset_path)?;
    }
    if let Some(record) = record {
        record.write(directory, &digest)?;
    }
    let filenames = raw.images.iter().map(|image| image.filename.as_str());
    ownership::record(directory, filenames.zip(sums.iter().map(String::as_str)), &digest)?;
    explain_write(atomic_file::sync_file_system(directory), directory)?;
    let mut json = serde_json::to_vec_pretty(&preparation).context("cannot encode the report")?;
    json.push(b'\n');
    write_if_changed(&path, &json)?;
    let marker = directory.join(MARKER_FILE);
    if marker.exists() {
        explain_write(fs::remove_file(&marker), &marker)?;
    }
    Ok(preparation)
}

struct Digesting<'a>(&'a mut digest::Hasher);

impl io::Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names of the images of the data set in `directory`; `None` where no preparation made it. Where its `dataset.json` is
/// not the one that was prepared, there are none.
///
/// # Errors
/// A report that cannot be read.
pub(super) fn reported_images(directory: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let Some(preparation) = read(directory)? else { return Ok(None) };
    let path = directory.join(DATASET_FILE);
    if !digest::sha256_file(&path).is_ok_and(|found| found == preparation.dataset_sha256) {
        return Ok(Some(Vec::new()));
    }
    let images = Dataset::open_unfinished(directory)?.images;
    Ok(Some(images.into_iter().map(|image| image.filename).collect()))
}

/// The words of a caption as Karpathy's files have them: lower case, without ASCII punctuation.
pub fn tokens(caption: &str) -> Vec<String> {
    plain(caption).split_whitespace().map(str::to_owned).collect()
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

/// One image of `dataset.json`.
#[derive(Serialize)]
struct ImageEntry<'a> {
    filename: &'a str,
    split: &'a str,
    sentids: Vec<u64>,
    imgid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cocoid: Option<&'a ImageId>,
    sentences: Vec<SentenceEntry<'a>>,
}

/// One caption of [`ImageEntry`].
#[derive(Serialize)]
struct SentenceEntry<'a> {
    raw: &'a str,
    tokens: Vec<String>,
    sentid: u64,
    imgid: u64,
}

/// `dataset.json`, image by image.
fn write_dataset(raw: &RawDataset, output: &mut impl io::Write) -> io::Result<()> {
    output.write_all(b"{\"dataset\":")?;
    serde_json::to_writer(&mut *output, &raw.name)?;
    output.write_all(b",\"images\":[")?;
    let mut num_sentences = 0;
    for (imgid, image) in (0u64..).zip(&raw.images) {
        let first = num_sentences;
        num_sentences += image.captions.len() as u64;
        let sentences = (first..).zip(&image.captions);
        let entry = ImageEntry {
            filename: &image.filename,
            split: image.split.unwrap_or(Split::Train).name(),
            sentids: (first..num_sentences).collect(),
            imgid,
            cocoid: image.cocoid.as_ref(),
            sentences: sentences
                .map(|(sentid, raw)| SentenceEntry { raw, tokens: tokens(raw), sentid, imgid })
                .collect(),
        };
        if imgid > 0 {
            output.write_all(b",")?;
        }
        serde_json::to_writer(&mut *output, &entry)?;
    }
    output.write_all(b"]}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::RawImage;
    use base::fault::describe;

    fn raw(captions: &[&str]) -> RawDataset {
        RawDataset {
            name: "x".into(),
            images: vec![RawImage {
                filename: "a.jpg".into(),
                captions: captions.iter().map(|&caption| caption.into()).collect(),
                split: Some(Split::Val),
                split_from: Default::default(),
                cocoid: None,
            }],
            has_paths: false,
            split_names: Vec::new(),
            repairs: vec![Repair::new("a", "b")],
            rejects: vec![Reject::new("c", "d")],
        }
    }

    fn prepared() -> (tempfile::TempDir, Preparation) {
        let folder = tempfile::tempdir().unwrap();
        ownership::begin(folder.path(), ["a.jpg"].into_iter()).unwrap();
        fs::write(folder.path().join("images/a.jpg"), b"x").unwrap();
        let preparation = finish(folder.path(), &raw(&["A dog."]), About::default(), &Ours::default(), &[]).unwrap();
        (folder, preparation)
    }

    #[test]
    fn tokens_are_lower_case_words_without_punctuation() {
        assert_eq!(tokens("A man 's  hat, two-tone ."), ["a", "man", "s", "hat", "twotone"]);
    }

    #[test]
    fn what_is_written_is_what_a_data_set_reads() {
        let folder = tempfile::tempdir().unwrap();
        let preparation =
            finish(folder.path(), &raw(&["A dog.", "Two"]), About::default(), &Ours::default(), &[]).unwrap();
        assert_eq!((preparation.images.val, preparation.captions.val), (1, 2));
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.digest, preparation.dataset_sha256);
        assert_eq!(dataset.images[0].captions, ["A dog.", "Two"]);
        let text = fs::read_to_string(folder.path().join(DATASET_FILE)).unwrap();
        assert!(text.contains(r#""sentids":[0,1],"imgid":0"#), "{text}");
        assert!(text.contains(r#"{"raw":"A dog.","tokens":["a","dog"],"sentid":0,"imgid":0}"#), "{text}");
    }

    #[test]
    fn a_preparation_is_finished_while_all_its_files_are_there() {
        let (folder, preparation) = prepared();
        assert_eq!(finished(Some("x"), folder.path()).unwrap(), Some(preparation));
        fs::remove_file(folder.path().join("images/a.jpg")).unwrap();
        assert_eq!(finished(Some("x"), folder.path()).unwrap(), None);
        assert_eq!(finished(Some("x"), &folder.path().join("absent")).unwrap(), None);
    }

    #[test]
    fn a_folder_of_another_data_set_or_an_edited_one_is_left_alone() {
        let (folder, _) = prepared();
        assert!(describe(&finished(Some("y"), folder.path()).unwrap_err()).contains("holds data set x, not y"));
        let path = folder.path().join(DATASET_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("dog", "cat")).unwrap();
        assert!(
            describe(&finished(Some("x"), folder.path()).unwrap_err()).contains("is not the one that was prepared")
        );
    }

    #[test]
    fn a_report_of_another_version_is_refused() {
        let (folder, _) = prepared();
        let path = folder.path().join(PREPARATION_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("_version\": 2", "_version\": 3")).unwrap();
        let text = describe(&finished(Some("x"), folder.path()).unwrap_err());
        assert!(text.contains("expected format_version 2, found 3"), "{text}");
    }

    #[test]
    fn images_that_another_decoder_resized_are_told() {
        let (_, whole) = prepared();
        assert!(whole.decoder.is_none() && !whole.has_old_pixels());
        let about = About { options: Options { resize: Some(8), ..Options::default() }, ..About::default() };
        let resized = summarize(&raw(&["A dog."]), about, String::new());
        assert!(resized.decoder == Some(DECODER_VERSION) && !resized.has_old_pixels());
        for decoder in [None, Some(DECODER_VERSION - 1)] {
            assert!(Preparation { decoder, ..resized.clone() }.has_old_pixels());
        }
    }
}
