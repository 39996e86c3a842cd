//! Makes a prepared data set of what a person has: finds the files, takes out the images, checks each one, writes
//! `dataset.json` and last `preparation.json`.
//!
//! A preparation can be stopped at any moment and goes on where it stopped; a finished one does nothing when it is
//! asked for again. The formats are in `data::annotations`, the safety of archives in `data::archive`.

pub mod report;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use crate::base::fault::{fault, usage};
use crate::base::terminal::{self, Progress};
use crate::data::annotations::{KnownDataset, Reject, flickr8k};
use crate::data::archive::explain_write;
use crate::data::dataset::{DATASET_FILE, IMAGE_FOLDER};
use crate::data::prepare::report::{PREPARATION_FILE, Preparation};
use crate::data::prepare::source::Source;
use crate::data::{image_file, shapes};

/// What a preparation came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was done now.
    Prepared(Preparation),
    /// It had been done before; nothing was changed.
    AlreadyPrepared(Preparation),
}

impl Outcome {
    /// The report, whenever it was written.
    pub fn report(&self) -> &Preparation {
        match self {
            Self::Prepared(report) | Self::AlreadyPrepared(report) => report,
        }
    }
}

/// Prepares the data set called `name` in the folder `output`, from the archives or folders in `source` where it needs
/// some.
///
/// # Errors
/// A data set that cannot be prepared, a source that is missing or unusable, an output that cannot be written or that
/// holds something else.
pub fn prepare(name: &str, source: Option<&Path>, output: &Path) -> anyhow::Result<Outcome> {
    let known = KnownDataset::ready(name)?;
    if known == KnownDataset::Shapes && source.is_some() {
        return Err(usage("data set shapes has no source: the program draws it", "leave the source out"));
    }
    if let Some(report) = report::finished(name, output)? {
        refuse_other_source(&report, source, output)?;
        return Ok(Outcome::AlreadyPrepared(report));
    }
    let report = match (known, source) {
        (KnownDataset::Shapes, _) => shapes::draw(output)?,
        (_, Some(source)) => prepare_flickr8k(source, output)?,
        (_, None) => return Err(source_needed(known, output)),
    };
    Ok(Outcome::Prepared(report))
}

/// Makes sure that `directory` holds the prepared data set called `name`: prepares it when it is absent and nothing is
/// needed from a person, or `source` is given. A folder with a `dataset.json` of a person's own is left as it is.
///
/// # Errors
/// As [`prepare`].
pub fn ensure_dataset(name: &str, directory: &Path, source: Option<&Path>) -> anyhow::Result<()> {
    let own = directory.join(DATASET_FILE).is_file() && !directory.join(PREPARATION_FILE).exists();
    if own || report::finished(name, directory)?.is_some() {
        return Ok(());
    }
    let outcome = prepare(name, source, directory)?;
    terminal::message(&summary(&outcome, directory));
    Ok(())
}

/// What a person wants to know about a preparation, in a few lines.
pub fn summary(outcome: &Outcome, directory: &Path) -> String {
    const NUM_SHOWN: usize = 10;
    let report = outcome.report();
    let done = match outcome {
        Outcome::Prepared(_) => "prepared",
        Outcome::AlreadyPrepared(_) => "was prepared before, nothing to do:",
    };
    let (images, captions) = (report.images, report.captions);
    let mut lines = vec![format!("data set {} {done} in {}", report.dataset, directory.display())];
    for (split, images, captions) in [
        ("train", images.train, captions.train),
        ("val", images.val, captions.val),
        ("test", images.test, captions.test),
    ] {
        lines.push(format!("  {split:<5} {images:>7} images {captions:>8} captions"));
    }
    let repairs = report.repairs.iter().map(|repair| format!("  note: {}: {}", repair.what, repair.repair)).collect();
    let rejects =
        report.rejects.iter().map(|reject| format!("  left out: {}: {}", reject.what, reject.reason)).collect();
    let notes: [Vec<String>; 2] = [repairs, rejects];
    for notes in notes {
        lines.extend(notes.iter().take(NUM_SHOWN).cloned());
        if notes.len() > NUM_SHOWN {
            lines.push(format!("  and {} more, listed in {PREPARATION_FILE}", notes.len() - NUM_SHOWN));
        }
    }
    lines.join("\n")
}

fn refuse_other_source(report: &Preparation, source: Option<&Path>, output: &Path) -> anyhow::Result<()> {
    // A source that has been removed since is no reason to doubt what was made of it.
    let Some(source) = source.filter(|source| source.is_dir()) else { return Ok(()) };
    if Source::open(source)?.is_the_one_of(&report.sources)? {
        return Ok(());
    }
    let message = format!("{} was prepared from other files than those in {}", output.display(), source.display());
    Err(fault(message, "choose another `--output`, or remove the old folder first"))
}

fn source_needed(known: KnownDataset, output: &Path) -> anyhow::Error {
    let call = known.call().unwrap_or("caption-train prepare-data");
    let message = format!("data set {} is not in {} and its source is not given", known.name(), output.display());
    let archives =
        "DIR is the folder with Flickr8k_Dataset.zip and Flickr8k_text.zip (in a config file: `data.source`)";
    fault(message, format!("run `{call} --output {}`; {archives}", output.display()))
}

fn prepare_flickr8k(source: &Path, output: &Path) -> anyhow::Result<Preparation> {
    let source = Source::open(source)?;
    let mut raw = flickr8k::read(source.texts(), &source.image_names())?;
    report::make_folders(output)?;
    let wanted: BTreeSet<&str> = raw.images.iter().map(|image| image.filename.as_str()).collect();
    let image_folder = output.join(IMAGE_FOLDER);
    let taken = source.take_images(&wanted, &image_folder)?;
    if taken.extraction.num_kept > 0 {
        let kept = taken.extraction.num_kept;
        terminal::message(&format!("{kept} of {} images were there already", wanted.len()));
    }
    let broken = check_images(&image_folder, &wanted)?;
    raw.images.retain(|image| !broken.contains_key(&image.filename));
    if raw.images.is_empty() {
        return Err(fault("none of the images can be decoded", "download the archive again"));
    }
    raw.rejects.extend(broken.into_iter().map(|(name, reason)| Reject::new(name, reason)));
    report::finish(output, raw, taken.sources)
}

/// Decodes every image; gives the broken ones with the reason and removes their files.
fn check_images(folder: &Path, names: &BTreeSet<&str>) -> anyhow::Result<BTreeMap<String, String>> {
    let progress = Progress::new("checking images", names.len() as u64, 0);
    let broken: Vec<(String, String)> = names
        .par_iter()
        .filter_map(|&name| {
            let path = folder.join(name);
            let result = image_file::inspect(&path);
            progress.advance(1, "");
            match result {
                Ok(_) => None,
                Err(error) if is_system_failure(&error) => Some(Err(error)),
                Err(error) => Some(Ok((name.to_owned(), reason(&error, &path)))),
            }
        })
        .collect::<anyhow::Result<_>>()?;
    for (name, _) in &broken {
        let path = folder.join(name);
        explain_write(fs::remove_file(&path), &path)?;
    }
    Ok(broken.into_iter().collect())
}

/// Whether reading failed, rather than the content being wrong: then the image must not be called broken.
fn is_system_failure(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|link| link.downcast_ref::<io::Error>()).any(|error| error.raw_os_error().is_some())
}

/// Why the image at `path` is broken, in one line: the chain of the error without hints, without what a link repeats
/// of its source, and without the path, which a report must not depend on.
fn reason(error: &anyhow::Error, path: &Path) -> String {
    let path = path.display().to_string();
    let mut parts: Vec<String> = Vec::new();
    let mut place = String::new();
    for link in error.chain().map(ToString::to_string).filter(|link| !link.starts_with("hint: ")) {
        let text = link.split_whitespace().collect::<Vec<_>>().join(" ");
        if link.contains(&path) {
            place = text.replace(&path, "it");
        } else if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    if parts.is_empty() { place } else { parts.join(": ") }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::base::fault::describe;
    use crate::data::annotations::Repair;
    use crate::data::dataset::{Dataset, Split};

    const GHOST: &str = "2258277193_586949ec62.jpg.1";

    fn jpeg(shade: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..16 * 16 * 3).map(|index| shade.wrapping_add(index as u8)).collect();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes)
            .encode(&pixels, 16, 16, image::ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    /// Images a to e: c is cut, d is in no list, e has a list and captions but no file.
    fn images() -> Vec<(String, Vec<u8>)> {
        let mut images: Vec<(String, Vec<u8>)> =
            (0u8..).zip(["a", "b", "c", "d"]).map(|(shade, name)| (format!("{name}.jpg"), jpeg(shade))).collect();
        let half = images[2].1.len() / 2;
        images[2].1.truncate(half);
        images
    }

    fn texts() -> Vec<(String, Vec<u8>)> {
        let names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", GHOST];
        let token: String = names.iter().map(|name| format!("{name}#0\tA dog .\n{name}#1\tA cat .\n")).collect();
        [
            ("Flickr8k.token.txt", token.as_str()),
            ("Flickr_8k.trainImages.txt", "a.jpg\nc.jpg\ne.jpg\n"),
            ("Flickr_8k.devImages.txt", "b.jpg\n"),
        ]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .to_vec()
    }

    fn zip(path: &Path, folder: &str, files: &[(String, Vec<u8>)]) {
        let mut writer = ZipWriter::new(fs::File::create(path).unwrap());
        for (name, bytes) in files {
            writer.start_file(format!("{folder}{name}"), SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    fn archives() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        zip(&folder.path().join("Flickr8k_Dataset.zip"), "Flicker8k_Dataset/", &images());
        zip(&folder.path().join("Flickr8k_text.zip"), "", &texts());
        folder
    }

    fn prepare_into(output: &Path, source: &TempDir) -> anyhow::Result<Outcome> {
        prepare("flickr8k", Some(source.path()), output)
    }

    fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in [folder.to_owned(), folder.join(IMAGE_FOLDER)] {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
                files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
            }
        }
        files
    }

    #[test]
    fn archives_become_a_data_set_and_everything_left_out_is_reported() {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        let outcome = prepare_into(output.path(), &source).unwrap();
        let report = outcome.report();
        assert_eq!((report.images.train, report.images.val, report.images.test), (1, 1, 0));
        assert_eq!(report.captions.train, 2);
        let names: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["Flickr8k_Dataset.zip", "Flickr8k_text.zip"]);
        let reason = |what: &str| {
            report.rejects.iter().find(|reject| reject.what == what).map(|reject| reject.reason.clone()).unwrap()
        };
        assert!(reason(GHOST).contains("no such image file"));
        assert!(reason("e.jpg").contains("listed in Flickr_8k.trainImages.txt"));
        assert!(reason("1 images").contains("none of the split lists"));
        assert!(reason("c.jpg").contains("JPEG"), "{}", reason("c.jpg"));
        assert!(!reason("c.jpg").contains(output.path().to_str().unwrap()) && reason("c.jpg").lines().count() == 1);
        assert_eq!(report.rejects.len(), 4);
        let expected = Repair::new("Flickr_8k.testImages.txt", "the list is not there: no image is in the test split");
        assert_eq!(report.repairs, [expected]);
        let dataset = Dataset::open(output.path()).unwrap();
        let splits: Vec<(&str, Split)> =
            dataset.images.iter().map(|image| (image.filename.as_str(), image.split)).collect();
        assert_eq!(splits, [("a.jpg", Split::Train), ("b.jpg", Split::Val)]);
        let files = files_below(output.path());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a.jpg", "b.jpg", "dataset.json", "preparation.json"]);
        assert!(summary(&outcome, output.path()).contains(GHOST));
    }

    #[test]
    fn a_finished_preparation_does_nothing_and_an_interrupted_one_goes_on() {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        prepare_into(output.path(), &source).unwrap();
        let files = files_below(output.path());
        assert!(matches!(prepare_into(output.path(), &source).unwrap(), Outcome::AlreadyPrepared(_)));
        assert!(matches!(prepare("flickr8k", None, output.path()).unwrap(), Outcome::AlreadyPrepared(_)));
        for name in ["preparation.json", "dataset.json", "images/b.jpg"] {
            fs::remove_file(output.path().join(name)).unwrap();
        }
        fs::write(output.path().join("images/b.jpg.99.partial"), b"half").unwrap();
        assert!(matches!(prepare_into(output.path(), &source).unwrap(), Outcome::Prepared(_)));
        assert_eq!(files_below(output.path()), files);
    }

    #[test]
    fn unpacked_archives_give_the_same_data_set() {
        let (source, outputs) = (archives(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
        prepare_into(outputs[0].path(), &source).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        for (folder, files) in [("Flickr8k_Dataset/Flicker8k_Dataset", images()), ("Flickr8k_text", texts())] {
            fs::create_dir_all(unpacked.path().join(folder)).unwrap();
            for (name, bytes) in files {
                fs::write(unpacked.path().join(folder).join(name), bytes).unwrap();
            }
        }
        prepare_into(outputs[1].path(), &unpacked).unwrap();
        assert!(matches!(prepare_into(outputs[1].path(), &unpacked).unwrap(), Outcome::AlreadyPrepared(_)));
        let [mut one, mut other] = outputs.each_ref().map(|output| files_below(output.path()));
        assert_ne!(one.remove("preparation.json"), other.remove("preparation.json"));
        assert_eq!(one, other);
    }

    #[test]
    fn a_text_file_beside_the_archives_is_taken_and_makes_another_source() {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        prepare_into(output.path(), &source).unwrap();
        fs::write(source.path().join("Flickr_8k.testImages.txt"), "d.jpg\n").unwrap();
        let text = describe(&prepare_into(output.path(), &source).unwrap_err());
        assert!(text.contains("was prepared from other files"), "{text}");
        let again = tempfile::tempdir().unwrap();
        assert_eq!(prepare_into(again.path(), &source).unwrap().report().images.test, 1);
    }

    #[test]
    fn a_missing_archive_is_named() {
        for (absent, expected) in [
            ("Flickr8k_Dataset.zip", "has neither Flickr8k_Dataset.zip nor a folder Flicker8k_Dataset"),
            ("Flickr8k_text.zip", "has neither Flickr8k_text.zip nor Flickr8k.token.txt"),
        ] {
            let (source, output) = (archives(), tempfile::tempdir().unwrap());
            fs::remove_file(source.path().join(absent)).unwrap();
            let text = describe(&prepare_into(output.path(), &source).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn training_gets_its_data_set_or_the_call_that_makes_it() {
        let (source, folder) = (archives(), tempfile::tempdir().unwrap());
        let directory = folder.path().join("flickr8k");
        let text = describe(&ensure_dataset("flickr8k", &directory, None).unwrap_err());
        assert!(text.contains("caption-train prepare-data --dataset flickr8k --source DIR --output"), "{text}");
        ensure_dataset("flickr8k", &directory, Some(source.path())).unwrap();
        ensure_dataset("flickr8k", &directory, None).unwrap();
        // Without its report the folder is a person's own.
        fs::remove_file(directory.join(PREPARATION_FILE)).unwrap();
        ensure_dataset("flickr30k", &directory, None).unwrap();
        assert!(!directory.join(PREPARATION_FILE).exists());
    }

    #[test]
    fn the_data_set_that_is_drawn_takes_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let error = prepare("shapes", Some(folder.path()), folder.path()).unwrap_err();
        assert!(crate::base::fault::is_usage(&error));
    }
}
