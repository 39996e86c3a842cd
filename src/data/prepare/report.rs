//! The two files that end a preparation: `dataset.json`, then `preparation.json`, which says that all is done.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::base::digest;
use crate::base::fault::{WithHint as _, fault};
use crate::data::annotations::{RawDataset, Reject, Repair};
use crate::data::archive::{explain_write, write_if_changed};
use crate::data::dataset::{DATASET_FILE, Dataset, DatasetFile, IMAGE_FOLDER, ImageEntry, SentenceEntry, Split};

/// The file that says how a data set was made; it is written last.
pub const PREPARATION_FILE: &str = "preparation.json";
const FORMAT_VERSION: u32 = 1;

/// How a data set was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Version of this file's format.
    pub format_version: u32,
    /// Name of the data set.
    pub dataset: String,
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
    /// SHA-256 of `dataset.json`.
    pub dataset_sha256: String,
}

/// A file or folder that a data set was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Its name, without the folder it was in.
    pub name: String,
    /// Its size; of a folder, the sum over the images that were taken from it.
    pub bytes: u64,
    /// Its SHA-256; of a folder, that of the lines `SHA-256  NAME` of those images, in the order of their names.
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

/// The report of a finished preparation of data set `name` in `directory`; `None` where there is none, or where images
/// are missing, so that it has to be done (again).
///
/// # Errors
/// A report that cannot be read, that is about another data set, or that does not belong to the `dataset.json` there.
pub fn finished(name: &str, directory: &Path) -> anyhow::Result<Option<Preparation>> {
    let path = directory.join(PREPARATION_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display()))),
    };
    let preparation = parse(&bytes)
        .with_context(|| format!("cannot use {}", path.display()))
        .hint(|| "prepare into another folder, or remove this one")?;
    if preparation.dataset != name {
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

/// Writes `dataset.json` and then `preparation.json`. Images without a split count as training images.
///
/// # Errors
/// A `dataset.json` with another content that no preparation vouches for, and what writing gives.
pub fn finish(directory: &Path, raw: RawDataset, sources: Vec<SourceFile>) -> anyhow::Result<Preparation> {
    let (mut images, mut captions) = (Counts::default(), Counts::default());
    for image in &raw.images {
        let split = image.split.unwrap_or(Split::Train);
        images.add(split, 1);
        captions.add(split, image.captions.len());
    }
    let mut json = serde_json::to_vec(&dataset_file(&raw)).context("cannot encode the data set")?;
    json.push(b'\n');
    let preparation = Preparation {
        format_version: FORMAT_VERSION,
        dataset: raw.name,
        sources,
        images,
        captions,
        repairs: raw.repairs,
        rejects: raw.rejects,
        dataset_sha256: digest::sha256(&json),
    };
    let (dataset_path, path) = (directory.join(DATASET_FILE), directory.join(PREPARATION_FILE));
    let old = fs::read(&dataset_path).ok();
    if old.is_some_and(|old| old != json) && !path.exists() {
        let message = format!("{} is there already and has another content", dataset_path.display());
        return Err(fault(message, "choose another folder, or remove that file"));
    }
    write_if_changed(&dataset_path, &json)?;
    let mut json = serde_json::to_vec_pretty(&preparation).context("cannot encode the report")?;
    json.push(b'\n');
    write_if_changed(&path, &json)?;
    Ok(preparation)
}

/// Makes `directory` and its `images/`, and removes what an interrupted run left half written.
///
/// # Errors
/// What the file system gives.
pub fn make_folders(directory: &Path) -> anyhow::Result<()> {
    let images = directory.join(IMAGE_FOLDER);
    explain_write(fs::create_dir_all(&images), &images)?;
    for folder in [directory, &images] {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            if path.to_string_lossy().ends_with(crate::base::atomic_file::TEMPORARY_SUFFIX) {
                explain_write(fs::remove_file(&path), &path)?;
            }
        }
    }
    Ok(())
}

/// The words of a caption as Karpathy's files have them: lower case, without ASCII punctuation.
pub fn tokens(caption: &str) -> Vec<String> {
    let bare: String = caption.chars().filter(|character| !character.is_ascii_punctuation()).collect();
    bare.to_lowercase().split_whitespace().map(str::to_owned).collect()
}

fn parse(bytes: &[u8]) -> anyhow::Result<Preparation> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version = serde_json::from_slice::<Version>(bytes)?.format_version;
    anyhow::ensure!(version == FORMAT_VERSION, "expected format_version {FORMAT_VERSION}, found {version}");
    Ok(serde_json::from_slice(bytes)?)
}

fn dataset_file(raw: &RawDataset) -> DatasetFile {
    let mut num_sentences = 0;
    let mut entries = Vec::with_capacity(raw.images.len());
    for (imgid, image) in (0u64..).zip(&raw.images) {
        let first = num_sentences;
        num_sentences += image.captions.len() as u64;
        let sentence = |(sentid, caption): (u64, &String)| SentenceEntry {
            raw: caption.clone(),
            tokens: tokens(caption),
            sentid,
            imgid,
        };
        entries.push(ImageEntry {
            filename: image.filename.clone(),
            split: image.split.unwrap_or(Split::Train).name().to_owned(),
            sentids: (first..num_sentences).collect(),
            imgid: Some(imgid),
            cocoid: None,
            sentences: (first..).zip(&image.captions).map(sentence).collect(),
        });
    }
    DatasetFile { dataset: raw.name.clone(), images: entries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;
    use crate::data::annotations::RawImage;

    fn raw(captions: &[&str]) -> RawDataset {
        RawDataset {
            name: "x".into(),
            images: vec![RawImage {
                filename: "a.jpg".into(),
                captions: captions.iter().map(|&caption| caption.into()).collect(),
                split: Some(Split::Val),
            }],
            repairs: vec![Repair::new("a", "b")],
            rejects: vec![Reject::new("c", "d")],
        }
    }

    fn prepared() -> (tempfile::TempDir, Preparation) {
        let folder = tempfile::tempdir().unwrap();
        make_folders(folder.path()).unwrap();
        fs::write(folder.path().join("images/a.jpg"), b"x").unwrap();
        let preparation = finish(folder.path(), raw(&["A dog."]), Vec::new()).unwrap();
        (folder, preparation)
    }

    #[test]
    fn tokens_are_lower_case_words_without_punctuation() {
        assert_eq!(tokens("A man 's  hat, two-tone ."), ["a", "man", "s", "hat", "twotone"]);
    }

    #[test]
    fn what_is_written_is_what_a_data_set_reads() {
        let folder = tempfile::tempdir().unwrap();
        let preparation = finish(folder.path(), raw(&["A dog.", "Two"]), Vec::new()).unwrap();
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
        assert_eq!(finished("x", folder.path()).unwrap(), Some(preparation));
        fs::remove_file(folder.path().join("images/a.jpg")).unwrap();
        assert_eq!(finished("x", folder.path()).unwrap(), None);
        assert_eq!(finished("x", &folder.path().join("absent")).unwrap(), None);
    }

    #[test]
    fn a_folder_of_another_data_set_or_an_edited_one_is_left_alone() {
        let (folder, _) = prepared();
        assert!(describe(&finished("y", folder.path()).unwrap_err()).contains("holds data set x, not y"));
        let path = folder.path().join(DATASET_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("dog", "cat")).unwrap();
        assert!(describe(&finished("x", folder.path()).unwrap_err()).contains("is not the one that was prepared"));
        fs::remove_file(folder.path().join(PREPARATION_FILE)).unwrap();
        let text = describe(&finish(folder.path(), raw(&["A dog."]), Vec::new()).unwrap_err());
        assert!(text.contains("is there already and has another content"), "{text}");
    }

    #[test]
    fn a_report_of_another_version_is_refused() {
        let (folder, _) = prepared();
        let path = folder.path().join(PREPARATION_FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("_version\": 1", "_version\": 2")).unwrap();
        let text = describe(&finished("x", folder.path()).unwrap_err());
        assert!(text.contains("expected format_version 1, found 2"), "{text}");
    }

    #[test]
    fn half_written_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        make_folders(folder.path()).unwrap();
        fs::write(folder.path().join("images/a.jpg.12.partial"), b"x").unwrap();
        make_folders(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path().join(IMAGE_FOLDER)).unwrap().count(), 0);
    }
}
