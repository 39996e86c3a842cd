//! A split that a person brings: `--split-file`.
//!
//! It may be a JSON file in Karpathy's schema, a JSON object from split to names, a table with a column for the image and
//! one for the split, or a folder with a list of names for each split (`train.txt`, `val.txt`, `test.txt`). Names count
//! without folders, and without their endings where they have none.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use crate::base::digest::Hasher;
use crate::base::fault::{WithHint as _, fault};
use crate::data::annotations::{Table, json, split_of_path, split_of_word};
use crate::data::dataset::Split;
use crate::data::prepare::image_index::without_coco;
use crate::data::source::{is_image_name, without_ending};

/// What each image is for.
#[derive(Debug)]
pub(super) struct SplitFile {
    of_name: HashMap<String, Split>,
    of_stem: HashMap<String, Split>,
    /// SHA-256 of what it says.
    pub(super) digest: String,
}

impl SplitFile {
    /// Reads the file or folder at `path`.
    ///
    /// # Errors
    /// A file that cannot be read or is of none of the forms, a split that is not known, an image in two splits, and no
    /// image at all.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut entries: Vec<(String, Split)> = Vec::new();
        for file in files_of(path)? {
            let bytes = bounded_file::read(&file, MAX_CAPTIONS_BYTES)
                .with_context(|| format!("cannot read the split file {}", file.display()))?;
            parse(&file, &bytes, &mut entries)
                .with_context(|| format!("cannot use the split file {}", file.display()))?;
        }
        // Which images and for what: neither the order nor the division into files matters.
        entries.sort_unstable();
        let mut hasher = Hasher::new();
        entries.iter().for_each(|(name, split)| hasher.update(format!("{}\t{name}\n", split.name()).as_bytes()));
        let mut split_file = Self { of_name: HashMap::new(), of_stem: HashMap::new(), digest: hasher.finish() };
        for (name, split) in entries {
            let name = name.trim().rsplit(['/', '\\']).next().unwrap_or_default();
            let name = without_coco(name).to_owned();
            let stem = if is_image_name(&name) { without_ending(&name).to_owned() } else { name.clone() };
            split_file.of_stem.insert(stem, split);
            if let Some(other) = split_file.of_name.insert(name.clone(), split).filter(|&other| other != split) {
                let message =
                    format!("{}: image {name} is in the splits {} and {}", path.display(), other.name(), split.name());
                return Err(fault(message, "name each image in one split"));
            }
        }
        if split_file.of_name.is_empty() {
            return Err(fault(format!("the split file {} names no image", path.display()), FORMS));
        }
        Ok(split_file)
    }

    /// The split of an image, by the last part of `reference`.
    pub(super) fn of(&self, reference: &str) -> Option<Split> {
        let name = without_coco(reference.rsplit(['/', '\\']).next().unwrap_or_default());
        self.of_name.get(name).or_else(|| self.of_stem.get(without_ending(name))).copied()
    }
}

const FORMS: &str = "give a Karpathy JSON, a JSON object from split to names, a table with the columns image and split, \
                     or a folder with train.txt, val.txt and test.txt";

fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = || format!("cannot list {}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(cannot)? {
        let file = entry.with_context(cannot)?.path();
        let is_list = file.extension().is_some_and(|ending| ending == "txt") && split_of_path(&stem(&file)).is_some();
        if is_list && file.is_file() {
            files.push(file);
        }
    }
    files.sort_unstable();
    if files.is_empty() {
        return Err(fault(format!("{} holds no lists of splits", path.display()), FORMS));
    }
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

#[derive(Deserialize)]
struct Karpathy {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: String,
    split: String,
}

fn parse(path: &Path, bytes: &[u8], entries: &mut Vec<(String, Split)>) -> anyhow::Result<()> {
    let known = |word: &str| {
        let unknown = || fault(format!("split {word:?} is not known"), "use train, val and test");
        split_of_word(word).ok_or_else(unknown)
    };
    let name = path.to_string_lossy();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => {
            if let Ok(file) = serde_json::from_slice::<Karpathy>(bytes) {
                for image in file.images {
                    entries.push((image.filename, known(&image.split)?));
                }
                return Ok(());
            }
            let lists: HashMap<String, Vec<String>> = json(&name, bytes, r#"{"train": ["1.jpg"], "val": ["2.jpg"]}"#)?;
            for (word, names) in lists {
                let split = known(&word)?;
                entries.extend(names.into_iter().map(|name| (name, split)));
            }
        }
        Some(ending @ ("csv" | "tsv")) => {
            let table = Table::new(&name, bytes, if ending == "tsv" { b'\t' } else { b',' })?;
            let image = table.column(&["image", "file_name", "filename", "filepath", "image_name", "name", "id"]);
            let (Some(image), Some(split)) = (image, table.column(&["split"])) else {
                return Err(fault("it has no column for the image or none for the split", FORMS));
            };
            table.for_each_row(|place, values| {
                let split = known(values[split]).with_context(|| place.to_owned())?;
                entries.push((values[image].to_owned(), split));
                Ok(())
            })?;
        }
        _ => {
            let Some(split) = split_of_path(&stem(path)) else {
                return Err(fault("it is of no known form", FORMS));
            };
            let text = std::str::from_utf8(bytes).context("it is not UTF-8 text").hint(|| FORMS)?;
            entries.extend(text.split_whitespace().map(|name| (name.to_owned(), split)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    fn read(name: &str, text: &str) -> anyhow::Result<SplitFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        SplitFile::read(&path)
    }

    #[test]
    fn every_form_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.txt"), "1\n2\n").unwrap();
        fs::write(folder.path().join("Flickr_8k.devImages.txt"), "3.jpg\n").unwrap();
        fs::write(folder.path().join("README.txt"), "words").unwrap();
        let image = |name, split| format!(r#"{{"filename":"{name}","split":"{split}","sentences":[]}}"#);
        let (one, two, three) = (image("1.jpg", "train"), image("2.jpg", "restval"), image("3.jpg", "val"));
        for split_file in [
            SplitFile::read(folder.path()).unwrap(),
            read("dataset.json", &format!(r#"{{"images":[{one},{two},{three}]}}"#)).unwrap(),
            read("splits.json", r#"{"train":["1.jpg","a/2.jpg"],"validation":["3"]}"#).unwrap(),
            read("splits.csv", "image,split\n1.jpg,train\n2.jpg,train\n3.jpg,val\n").unwrap(),
        ] {
            let of = |name| split_file.of(name);
            assert_eq!(
                [of("x/1.jpg"), of("2.jpg"), of("3.jpg"), of("4.jpg")],
                [Some(Split::Train), Some(Split::Train), Some(Split::Val), None]
            );
        }
        let digest = |text: &str| read("s.json", text).unwrap().digest;
        assert_eq!(digest(r#"{"train":["1","2"],"val":["3"]}"#), digest(r#"{"val":["3"],"train":["2","1"]}"#));
        assert_ne!(digest(r#"{"train":["1"],"val":["2","3"]}"#), digest(r#"{"train":["1","2"],"val":["3"]}"#));
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        for (name, text, expected) in [
            ("s.json", "{", "has another form than expected"),
            ("s.json", r#"{"odd":["1"]}"#, "split \"odd\" is not known"),
            ("s.csv", "image,part\n1,train\n", "no column for the image or none for the split"),
            ("s.csv", "image,split\n1,odd\n", "line 2"),
            ("s.csv", "image,split\n1,train\n1,val\n", "image 1 is in the splits train and val"),
            ("s.csv", "image,split\n", "names no image"),
            ("names.txt", "1\n", "of no known form"),
        ] {
            let text = describe(&read(name, text).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
        assert!(describe(&SplitFile::read(Path::new("absent.json")).unwrap_err()).contains("absent.json"));
    }
}
