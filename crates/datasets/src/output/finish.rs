//! The files that end a preparation: `dataset.json`, then `source.json` and `SHA256SUMS`, and last `preparation.json`,
//! which says that all is done.

use std::fs;
use std::io::{self};
use std::path::Path;

use anyhow::Context as _;

use crate::annotations::RawDataset;
use crate::dataset_file::{self, NewImage};
use crate::output::ownership::{self, Ours};
use crate::output::preparation::{About, Preparation, summarize};
use crate::output::write::{explain_write, write_if_changed};
use crate::prepared::{DATASET_FILE, MARKER_FILE, PREPARATION_FILE, Split};
use base::{atomic_file, digest};

/// Writes `dataset.json`, the record of the source where there is one and, once all images are on the disk for certain,
/// `preparation.json`. Images without a split count as training images. `sums`: the SHA-256 of each as it is stored.
pub fn finish(
    directory: &Path,
    raw: &RawDataset,
    mut about: About,
    ours: &Ours,
    sums: &[String],
) -> anyhow::Result<Preparation> {
    let record = about.record.take();
    let (dataset_path, path) = (directory.join(DATASET_FILE), directory.join(PREPARATION_FILE));
    // Serialized twice, to be digested and to be written: in memory it would take more space than all captions.
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

fn write_dataset(raw: &RawDataset, output: &mut impl io::Write) -> io::Result<()> {
    let images = raw.images.iter().map(|image| NewImage {
        filename: &image.filename,
        split: image.split.unwrap_or(Split::Train).name(),
        cocoid: image.cocoid.as_ref(),
        captions: &image.captions,
        extras: &image.extras,
    });
    dataset_file::write(&raw.name, images, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::RawImage;
    use crate::annotations::{Reject, Repair};
    use crate::caption_extras::{CaptionExtras, Weight};
    use crate::output::preparation::{Options, finished};
    use crate::prepared::Dataset;
    use base::error::describe;
    use pixels::image_file::DECODER_VERSION;

    fn raw(captions: &[&str]) -> RawDataset {
        RawDataset {
            missing_columns: Vec::new(),
            name: "x".into(),
            images: vec![RawImage {
                filename: "a.jpg".into(),
                captions: captions.iter().map(|&caption| caption.into()).collect(),
                split: Some(Split::Val),
                ..RawImage::default()
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
    fn what_is_written_is_what_a_data_set_reads() {
        let folder = tempfile::tempdir().unwrap();
        let preparation =
            finish(folder.path(), &raw(&["A dog.", "Two"]), About::default(), &Ours::default(), &[]).unwrap();
        assert_eq!((preparation.images.val, preparation.captions.val), (1, 2));
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.digest, preparation.dataset_sha256);
        assert_eq!(dataset.images.get(0).owned_captions(), ["A dog.", "Two"]);
        let text = fs::read_to_string(folder.path().join(DATASET_FILE)).unwrap();
        assert!(text.contains(r#""sentids":[0,1],"imgid":0"#), "{text}");
        assert!(text.contains(r#"{"raw":"A dog.","tokens":["a","dog"],"sentid":0,"imgid":0}"#), "{text}");
    }

    #[test]
    fn prompts_and_weights_are_written_where_captions_have_them_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut raw = raw(&["A dog.", "Two", "Three"]);
        let extras = |prompt: Option<&str>, weight| CaptionExtras {
            prompt: prompt.map(str::to_owned),
            weight: Weight::new(weight).unwrap(),
        };
        raw.images[0].extras = vec![extras(None, 1.0), extras(Some("a photo of"), 1.0), extras(None, 0.25)];
        finish(folder.path(), &raw, About::default(), &Ours::default(), &[]).unwrap();
        let text = fs::read_to_string(folder.path().join(DATASET_FILE)).unwrap();
        assert!(text.contains(r#"{"raw":"A dog.","tokens":["a","dog"],"sentid":0,"imgid":0}"#), "{text}");
        assert!(text.contains(r#""sentid":1,"imgid":0,"prompt":"a photo of"}"#), "{text}");
        assert!(text.contains(r#""sentid":2,"imgid":0,"weight":0.25}"#), "{text}");
        let dataset = Dataset::open(folder.path()).unwrap();
        let kept = dataset.images.get(0);
        let extras = |caption| (kept.prompt(caption).map(str::to_owned), kept.weight(caption));
        let expected = raw.images[0].extras.iter().map(|extras| (extras.prompt.clone(), extras.weight));
        assert!((0..3).map(extras).eq(expected));
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
        assert!(describe(&finished(Some("y"), folder.path()).unwrap_err()).contains("contains data set x, not y"));
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
    fn images_that_another_decoder_resized_are_reported() {
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
