//! Makes a prepared data set of what a person has: finds images and captions, takes the images and checks each, settles
//! the split, looks for what people pay for later, writes `dataset.json` and last `preparation.json`.
//!
//! A preparation can be stopped at any moment and goes on where it stopped; a finished one does nothing when it is
//! asked for again, unless its source has changed. The formats are in `data::annotations`, the safety of archives in `data::source`.

mod already;
pub mod caption_statistics;
mod changes;
mod comparison;
mod contact_sheet;
mod gather;
mod guessed_splits;
mod image_files;
mod image_index;
mod images;
mod links;
mod name_index;
mod near_duplicates;
mod old_report;
mod origins;
pub mod ownership;
pub mod report;
mod source_record;
mod split_file;
mod split_forms;
mod split_lists;
mod splitting;
mod summary;
mod turn;

use std::path::{Path, PathBuf};

use crate::annotations::{KnownDataset, RawDataset, Reject, Repair, Wanted, choose};
use crate::prepare::comparison::{compare, write_samples};
use crate::prepare::gather::Gathered;
use crate::prepare::images::Taken;
use crate::prepare::origins::sources;
use crate::prepare::report::{About, MARKER_FILE, Options, Origin, PREPARATION_FILE, Preparation};
use crate::prepare::split_file::SplitFile;
use crate::prepare::splitting::Candidate;
use crate::prepared::{DATASET_FILE, IMAGE_FOLDER};
use crate::shapes;
use crate::source::Source;
use base::fault::{fault, usage};
use base::quoting::shell_path;
use base::terminal;

pub use already::source_changes;
pub use comparison::SAMPLES_FILE;
pub use summary::{lack_of_images, next_step, summary};

/// Images on it.
const NUM_SAMPLES: usize = 25;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A known data set or a format; absent: what is found in the source.
    pub dataset: Option<String>,
    /// Folder or archive with images and captions.
    pub source: Option<PathBuf>,
    /// Where the source was downloaded from.
    pub origin: Option<Origin>,
    /// Folder to make; absent: `data/` and the data set's name.
    pub output: Option<PathBuf>,
    /// A split of a person's own.
    pub split_file: Option<PathBuf>,
    /// As [`Options::validation_fraction`].
    pub validation_fraction: Option<f64>,
    /// As [`Options::test_fraction`].
    pub test_fraction: Option<f64>,
    /// As [`Options::limit`].
    pub limit: Option<usize>,
    /// As [`Options::resize`].
    pub resize: Option<u32>,
    /// Only say what would happen.
    pub is_dry_run: bool,
}

/// What a preparation came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done.
    pub done: Done,
    /// The report, whenever it was written.
    pub report: Preparation,
    /// The folder of the data set.
    pub directory: PathBuf,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was prepared now.
    Prepared,
    /// It had been prepared before; nothing was changed.
    AlreadyPrepared,
    /// Nothing, as was asked for.
    DryRun,
}

/// Prepares a data set.
///
/// # Errors
/// A data set that cannot be prepared, a source that is missing or unusable, an output that cannot be written or that
/// holds something else.
pub fn prepare(request: &Request) -> anyhow::Result<Outcome> {
    let wanted = request.dataset.as_deref().map_or(Ok(Wanted::Any), Wanted::named)?;
    let (options, split_file) = read_options(request)?;
    if wanted == Wanted::Dataset(KnownDataset::Shapes) {
        return draw_shapes(request, &options);
    }
    let known = match wanted {
        Wanted::Dataset(known) => Some(known.name()),
        Wanted::Any | Wanted::Format(_) => None,
    };
    // What is there already needs no source.
    let directory = request.output.clone().or_else(|| known.map(|name| Path::new("data").join(name)));
    if let Some(directory) = &directory
        && let Some(report) = already::prepared(known, request, wanted, &options, directory)?
    {
        return Ok(Outcome { done: Done::AlreadyPrepared, report, directory: directory.clone() });
    }
    let Some(path) = &request.source else { return Err(source_needed(known, directory.as_deref())) };
    let source = Source::open(path, directory.as_deref())?;
    let choice = choose(&source, wanted)?;
    let found = &choice.found;
    let mut raw = found.read(&source)?;
    // Files of a person's own may be called like those of a known data set, or be written like them.
    let called = found.dataset.or(KnownDataset::named(&raw.name));
    let dataset = known.and_then(KnownDataset::named).or(called.filter(|called| called.has_size_of(&raw)));
    raw.name = name_of(dataset.map(KnownDataset::name), path);
    if dataset.is_none() && KnownDataset::named(&raw.name.to_lowercase()).is_some() {
        let own = format!("{}-own", raw.name);
        let note = format!("the source is called so, and holds another data set: it is called {own}");
        raw.repairs.push(Repair::new(std::mem::replace(&mut raw.name, own), note));
    }
    raw.repairs.extend(choice.notes.iter().cloned());
    // What was downloaded is made of links by the cache that holds it.
    if request.origin.is_none() {
        raw.repairs.extend(links::followed(&source));
    }
    let directory = directory.unwrap_or_else(|| Path::new("data").join(&raw.name));
    if request.output.is_none()
        && known.is_none()
        && let Some(report) = already::prepared(Some(&raw.name), request, wanted, &options, &directory)?
    {
        return Ok(Outcome { done: Done::AlreadyPrepared, report, directory });
    }
    ownership::apart_from_source(path, &source, &directory)?;
    ownership::check(&directory)?;
    let gathered = gather::gather(raw, &source, dataset, split_file.as_ref(), &options, &choice)?;
    let about = About {
        format: found.format.name().to_owned(),
        options: options.clone(),
        origin: request.origin.clone(),
        ..About::default()
    };
    if request.is_dry_run {
        return dry_run(gathered, about, directory);
    }
    let made_meanwhile = || already::prepared(known, request, wanted, &options, &directory);
    let (done, report) = make(&source, path, gathered, about, &found.files, &directory, made_meanwhile)?;
    Ok(Outcome { done, report, directory })
}

/// Makes sure that `directory` holds the prepared data set called `name`: prepares it when it is absent and nothing is
/// needed from a person, or `source` is given. What is there already stays as it is, whatever became of its source (see
/// [`source_changes`]), and so does a folder with a `dataset.json` of a person's own.
///
/// # Errors
/// As [`prepare`].
pub fn ensure_dataset(
    name: &str,
    directory: &Path,
    source: Option<&Path>,
    origin: Option<Origin>,
) -> anyhow::Result<()> {
    if is_there(name, directory)? {
        return Ok(());
    }
    let outcome = prepare(&Request {
        dataset: Some(name.to_owned()),
        source: source.map(Path::to_owned),
        origin,
        output: Some(directory.to_owned()),
        ..Request::default()
    })?;
    terminal::message(&summary(&outcome));
    Ok(())
}

/// Whether `directory` holds the prepared data set called `name`, or one of a person's own.
///
/// # Errors
/// A folder that holds another data set, or one that cannot be read.
pub fn is_there(name: &str, directory: &Path) -> anyhow::Result<bool> {
    let is_prepared = directory.join(PREPARATION_FILE).exists() || directory.join(MARKER_FILE).exists();
    let own = directory.join(DATASET_FILE).is_file() && !is_prepared;
    let report = report::finished(Some(name), directory)?;
    if let Some(report) = &report {
        already::warn_of_old_pixels(report, directory);
    }
    Ok(own || report.is_some())
}

/// Looks at the options alone, as far as that can be done without a source.
///
/// # Errors
/// A share that leaves nothing to train on, a limit or size of nothing, or a split file that cannot be used.
pub fn check_options(request: &Request) -> anyhow::Result<()> {
    read_options(request).map(drop)
}

fn read_options(request: &Request) -> anyhow::Result<(Options, Option<SplitFile>)> {
    for (flag, fraction) in [("validation", request.validation_fraction), ("test", request.test_fraction)] {
        if let Some(fraction) = fraction.filter(|fraction| !(0.0..1.0).contains(fraction)) {
            let message = format!("expected --{flag}-fraction of 0 or more and below 1, found {fraction}");
            return Err(usage(message, "0.1 holds out a tenth of the images"));
        }
    }
    if request.validation_fraction.unwrap_or(0.0) + request.test_fraction.unwrap_or(0.0) >= 1.0 {
        return Err(usage("--validation-fraction and --test-fraction leave nothing to train on", "lower one of them"));
    }
    if let Some(number) =
        request.limit.filter(|&limit| limit == 0).or(request.resize.filter(|&side| side == 0).map(|_| 0))
    {
        return Err(usage(
            format!("expected --limit and --resize of 1 or more, found {number}"),
            "leave it out for all",
        ));
    }
    let split_file = request.split_file.as_deref().map(SplitFile::read).transpose()?;
    let options = Options {
        split_file_sha256: split_file.as_ref().map(|file| file.digest.clone()),
        validation_fraction: request.validation_fraction,
        test_fraction: request.test_fraction,
        limit: request.limit,
        resize: request.resize,
    };
    Ok((options, split_file))
}

fn draw_shapes(request: &Request, options: &Options) -> anyhow::Result<Outcome> {
    if request.source.is_some() || *options != Options::default() {
        let message = "data set shapes takes neither a source nor options: the program draws it";
        return Err(usage(message, "leave them out"));
    }
    let directory = request.output.clone().unwrap_or_else(|| PathBuf::from("data/shapes"));
    let outcome = |done, report| Outcome { done, report, directory: directory.clone() };
    if let Some(report) = report::finished(Some("shapes"), &directory)? {
        return Ok(outcome(Done::AlreadyPrepared, report));
    }
    if request.is_dry_run {
        return Err(usage("data set shapes is drawn in a moment: it has no dry run", "leave out --dry-run"));
    }
    ownership::check(&directory)?;
    let turn = turn::wait(&directory)?;
    match report::finished(Some("shapes"), &directory)?.filter(|_| turn.has_waited) {
        Some(report) => Ok(outcome(Done::AlreadyPrepared, report)),
        None => Ok(outcome(Done::Prepared, shapes::draw(&directory)?)),
    }
}

/// A known data set's name, else that of the folder or archive it comes from.
fn name_of(known: Option<&str>, source: &Path) -> String {
    let full = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let stem = if full.is_dir() { full.file_name() } else { full.file_stem() };
    let folder = || stem.map_or_else(|| "dataset".to_owned(), |stem| stem.to_string_lossy().into_owned());
    known.map_or_else(folder, str::to_owned)
}

fn source_needed(known: Option<&str>, output: Option<&Path>) -> anyhow::Error {
    let Some(name) = known else {
        return usage("there is no source", "give the folder or archive with images and captions with `--source PATH`");
    };
    let place = output.map_or_else(String::new, |output| format!(" is not in {}", output.display()));
    let message = format!("data set {name}{place} and its source is not given");
    let output = output.map_or_else(String::new, |output| format!(" --output {}", shell_path(output)));
    let hint = format!(
        "run `caption-train prepare-data --dataset {name} --source DIR{output}`; DIR is the folder with its archives as \
         they are distributed, or unpacked (in a config file: `data.source`)"
    );
    fault(message, hint)
}

fn dry_run(gathered: Gathered, about: About, directory: PathBuf) -> anyhow::Result<Outcome> {
    let Gathered { mut raw, default_validation, .. } = gathered;
    let names: Vec<String> = raw.images.iter().map(|image| image.filename.clone()).collect();
    let candidates: Vec<Candidate<'_>> = names
        .iter()
        .zip(&raw.images)
        .map(|(filename, image)| {
            // Contents are not known yet: each image counts as one of its own.
            let mut hasher = base::digest::Hasher::new();
            hasher.update(filename.as_bytes());
            Candidate { filename, split: image.split, content: hasher.finish_bytes() }
        })
        .collect();
    let (validation_fraction, test_fraction) = (about.options.validation_fraction, about.options.test_fraction);
    let splits =
        splitting::assign(&candidates, validation_fraction, test_fraction, default_validation, &mut raw.repairs)?;
    raw.images.iter_mut().zip(splits).for_each(|(image, split)| image.split = Some(split));
    let report = report::summarize(&raw, about, String::new());
    Ok(Outcome { done: Done::DryRun, report, directory })
}

/// `made_meanwhile` gives the report of what another process made while this one waited for it.
fn make(
    source: &Source,
    path: &Path,
    gathered: Gathered,
    mut about: About,
    annotations: &[usize],
    directory: &Path,
    made_meanwhile: impl Fn() -> anyhow::Result<Option<Preparation>>,
) -> anyhow::Result<(Done, Preparation)> {
    let Gathered { mut raw, files, weighed, default_validation } = gathered;
    let image_folder = directory.join(IMAGE_FOLDER);
    let num_images = raw.images.len();
    let step = num_images.div_ceil(NUM_SAMPLES).max(1);
    let wanted: Vec<images::Wanted<'_>> = raw
        .images
        .iter()
        .zip(&files)
        .enumerate()
        .map(|(index, (image, &file))| images::Wanted { file, filename: &image.filename, is_sample: index % step == 0 })
        .collect();
    if about.options.resize.is_none() {
        images::check_room(source, &wanted, &image_folder)?;
    }
    let turn = turn::wait(directory)?;
    if turn.has_waited
        && let Some(report) = made_meanwhile()?
    {
        return Ok((Done::AlreadyPrepared, report));
    }
    let ours = ownership::begin(directory, wanted.iter().map(|wanted| wanted.filename))?;
    let taken = images::take(source, &wanted, directory, &ours, about.options.resize)?;
    let (sources, record) = sources(source, path, &wanted, &taken, annotations, &weighed);
    (about.sources, about.record) = (sources, Some(record));
    let was_there = |taken: &&Taken| matches!(taken, Taken::Stored(stored) if stored.was_there);
    let num_kept = taken.iter().filter(was_there).count();
    if num_kept > 0 {
        terminal::message(&format!("{num_kept} of {num_images} images were there already"));
    }
    drop(wanted);
    let stored = keep_whole(&mut raw, taken, |place, name| images::own_name(source, files[place], name))?;
    settle_splits(&mut raw, &stored, &about.options, default_validation)?;
    compare(&mut raw, &stored);
    let sums: Vec<String> = stored.iter().map(|stored| stored.sum.clone()).collect();
    write_samples(&raw, stored, directory, &ours)?;
    images::remove_others(directory, &ours, raw.images.iter().map(|image| image.filename.as_str()))?;
    Ok((Done::Prepared, report::finish(directory, &raw, about, &ours, &sums)?))
}

/// Leaves out the images that cannot be read or decoded; `own_name` tells what a person calls the image at a place.
fn keep_whole(
    raw: &mut RawDataset,
    taken: Vec<Taken>,
    own_name: impl Fn(usize, &str) -> &str,
) -> anyhow::Result<Vec<images::Stored>> {
    let mut stored = Vec::with_capacity(taken.len());
    let mut kept = Vec::with_capacity(taken.len());
    for (place, (image, taken)) in std::mem::take(&mut raw.images).into_iter().zip(taken).enumerate() {
        match taken {
            Taken::Stored(one) => {
                stored.push(one);
                kept.push(image);
            }
            Taken::Broken { reason, .. } | Taken::Unreadable(reason) => {
                raw.rejects.push(Reject::new(own_name(place, &image.filename), reason));
            }
        }
    }
    raw.images = kept;
    if raw.images.is_empty() {
        let first = raw.rejects.last().map_or_else(String::new, |last| format!(": {}: {}", last.what, last.reason));
        let hint = "download them again if they are damaged, convert them, or give yourself the right to read them";
        return Err(fault(format!("none of the images can be read and decoded, such as the last{first}"), hint));
    }
    Ok(stored)
}

fn settle_splits(
    raw: &mut RawDataset,
    stored: &[images::Stored],
    options: &Options,
    default_validation: f64,
) -> anyhow::Result<()> {
    let candidates: Vec<Candidate<'_>> = raw
        .images
        .iter()
        .zip(stored)
        .map(|(image, stored)| Candidate { filename: &image.filename, split: image.split, content: stored.digest })
        .collect();
    let (validation_fraction, test_fraction) = (options.validation_fraction, options.test_fraction);
    let splits =
        splitting::assign(&candidates, validation_fraction, test_fraction, default_validation, &mut raw.repairs)?;
    raw.images.iter_mut().zip(splits).for_each(|(image, split)| image.split = Some(split));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::prepared::{Dataset, Split};
    use base::fault::describe;

    const GHOST: &str = "2258277193_586949ec62.jpg.1";

    fn jpeg(shade: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Two that look alike are a finding of their own.
        let place = |index: u32| index / 3 + 1000 * u32::from(shade);
        let pixel = |index| place(index).wrapping_mul(2_654_435_761).to_le_bytes()[3];
        let pixels: Vec<u8> = (0..16 * 16 * 3).map(pixel).collect();
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

    fn request(dataset: Option<&str>, source: Option<&Path>, output: &Path) -> Request {
        Request {
            dataset: dataset.map(str::to_owned),
            source: source.map(Path::to_owned),
            output: Some(output.to_owned()),
            ..Request::default()
        }
    }

    fn prepare_into(output: &Path, source: &TempDir) -> anyhow::Result<Outcome> {
        prepare(&request(Some("flickr8k"), Some(source.path()), output))
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
        let report = &outcome.report;
        assert_eq!((report.images.train, report.images.val, report.images.test), (1, 1, 0));
        assert_eq!(report.captions.train, 2);
        let names: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["Flickr8k_Dataset.zip", "Flickr8k_text.zip"]);
        let reason = |what: &str| {
            report.rejects.iter().find(|reject| reject.what == what).map(|reject| reject.reason.clone()).unwrap()
        };
        assert!(reason(GHOST).contains("none of the split lists"));
        assert!(reason("e.jpg").contains("no such image file (split train)"));
        assert!(reason("d.jpg").contains("none of the split lists"));
        assert!(
            reason("1 image files")
                .contains("no image with captions has them, such as Flickr8k_Dataset.zip/Flicker8k_Dataset/d.jpg")
        );
        assert!(reason("c.jpg").contains("JPEG"), "{}", reason("c.jpg"));
        assert!(!reason("c.jpg").contains(output.path().to_str().unwrap()) && reason("c.jpg").lines().count() == 1);
        assert_eq!(report.rejects.len(), 5);
        let noted: Vec<&str> = report.repairs.iter().map(|repair| repair.what.as_str()).collect();
        assert_eq!(noted, ["Flickr_8k.testImages.txt", "the split of flickr8k"], "{report:?}");
        assert_eq!((report.format.as_str(), report.statistics.as_ref().unwrap().captions), ("flickr8k-token", 4));
        let dataset = Dataset::open(output.path()).unwrap();
        let splits: Vec<(&str, Split)> =
            dataset.images.iter().map(|image| (image.filename.as_str(), image.split)).collect();
        assert_eq!(splits, [("a.jpg", Split::Train), ("b.jpg", Split::Val)]);
        let files = files_below(output.path());
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            ["SHA256SUMS", "a.jpg", "b.jpg", "dataset.json", "preparation.json", "samples.jpg", "source.json"]
        );
        let summary = summary(&outcome);
        assert!(summary.contains("left out: 2 times, first d.jpg: in none of the split lists"), "{summary}");
    }

    #[test]
    fn a_finished_preparation_does_nothing_and_an_interrupted_one_goes_on() {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        prepare_into(output.path(), &source).unwrap();
        let files = files_below(output.path());
        assert_eq!(prepare_into(output.path(), &source).unwrap().done, Done::AlreadyPrepared);
        let again = prepare(&request(Some("flickr8k"), None, output.path())).unwrap();
        assert_eq!(again.done, Done::AlreadyPrepared);
        ownership::begin(output.path(), ["b.jpg"].into_iter()).unwrap();
        for name in ["dataset.json", "images/b.jpg"] {
            fs::remove_file(output.path().join(name)).unwrap();
        }
        fs::write(output.path().join("images/b.jpg.99.partial"), b"half").unwrap();
        assert_eq!(prepare_into(output.path(), &source).unwrap().done, Done::Prepared);
        // The record of the source says of times whether they are long past.
        let without_record = |mut files: BTreeMap<String, Vec<u8>>| {
            files.remove(source_record::RECORD_FILE).unwrap();
            files
        };
        assert_eq!(without_record(files_below(output.path())), without_record(files));
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
        assert_eq!(prepare_into(outputs[1].path(), &unpacked).unwrap().done, Done::AlreadyPrepared);
        let [mut one, mut other] = outputs.each_ref().map(|output| files_below(output.path()));
        for name in [PREPARATION_FILE, source_record::RECORD_FILE] {
            assert_ne!(one.remove(name), other.remove(name));
        }
        assert_eq!(one, other);
    }

    #[test]
    fn another_source_or_other_options_do_not_change_what_was_prepared() {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        prepare_into(output.path(), &source).unwrap();
        let limited = Request { limit: Some(1), ..request(Some("flickr8k"), Some(source.path()), output.path()) };
        let text = describe(&prepare(&limited).unwrap_err());
        assert!(text.contains("was prepared with other options: {}") && text.contains("hint: "), "{text}");
        let text = describe(&prepare(&request(Some("table"), None, output.path())).unwrap_err());
        assert!(text.contains("was prepared from captions of format flickr8k-token"), "{text}");
        let (other, mut more) = (archives(), images());
        more.push(("z.jpg".to_owned(), jpeg(99)));
        zip(&other.path().join("Flickr8k_Dataset.zip"), "Flicker8k_Dataset/", &more);
        let text = describe(&prepare_into(output.path(), &other).unwrap_err());
        assert!(text.contains("was prepared from other files") && text.contains("(Flickr8k_Dataset.zip)"), "{text}");
        assert_eq!(
            describe(&prepare(&request(Some("flickr30k"), None, output.path())).unwrap_err()).lines().count(),
            2
        );
    }

    #[test]
    fn a_source_is_never_written_into() {
        let source = table(2);
        for output in [source.path().to_owned(), source.path().parent().unwrap().to_owned()] {
            let text = describe(&prepare(&request(None, Some(source.path()), &output)).unwrap_err());
            assert!(text.contains("holds the source") && text.contains("hint: "), "{text}");
        }
        assert_eq!(fs::read_dir(source.path()).unwrap().count(), 3);
    }

    #[test]
    fn an_interrupted_preparation_inside_its_source_goes_on() {
        let source = table(4);
        let inside = Request { resize: Some(8), ..request(None, Some(source.path()), &source.path().join("data/x")) };
        let first = prepare(&inside).unwrap();
        ownership::begin(&first.directory, std::iter::empty()).unwrap();
        assert!(!first.directory.join(PREPARATION_FILE).exists());
        assert!(!is_there("x", &first.directory).unwrap());
        assert_eq!(prepare(&inside).unwrap().report, first.report);
        assert!(!first.directory.join(MARKER_FILE).exists());
    }

    #[test]
    fn an_image_of_the_same_name_in_another_folder_is_not_taken() {
        let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, text) in [
            ("train", "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n"),
            ("validation", "{\"file_name\":\"2.jpg\",\"text\":\"B\"}\n"),
        ] {
            fs::create_dir_all(source.path().join(folder)).unwrap();
            fs::write(source.path().join(folder).join("metadata.jsonl"), text).unwrap();
        }
        fs::write(source.path().join("validation/1.jpg"), jpeg(1)).unwrap();
        let text = describe(&prepare(&request(None, Some(source.path()), output.path())).unwrap_err());
        assert!(text.contains("none of the image files is there"), "{text}");
    }

    #[test]
    fn captions_without_images_and_images_without_captions_are_told() {
        for (absent, expected) in [
            ("Flickr8k_Dataset.zip", "4 images with 8 captions are annotated, and none of the image files is there"),
            ("Flickr8k_text.zip", "no captions of flickr8k are there, among 4 files, 4 of them images"),
        ] {
            let (source, output) = (archives(), tempfile::tempdir().unwrap());
            fs::remove_file(source.path().join(absent)).unwrap();
            let text = describe(&prepare_into(output.path(), &source).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    /// A folder with images 0 to n - 1 and a table with a caption for each.
    fn table(num_images: u8) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "image,caption\n".to_owned();
        for number in 0..num_images {
            fs::write(folder.path().join(format!("{number}.jpg")), jpeg(number)).unwrap();
            text.push_str(&format!("{number}.jpg,a picture of number {number}\n"));
        }
        fs::write(folder.path().join("captions.csv"), text).unwrap();
        folder
    }

    #[test]
    fn the_options_limit_draw_and_shrink() {
        let (source, output) = (table(40), tempfile::tempdir().unwrap());
        let with_options = Request {
            limit: Some(20),
            validation_fraction: Some(0.2),
            test_fraction: Some(0.1),
            resize: Some(8),
            ..request(None, Some(source.path()), &output.path().join("data"))
        };
        let dry = prepare(&Request { is_dry_run: true, ..with_options.clone() }).unwrap();
        assert!(dry.done == Done::DryRun && !dry.directory.exists());
        let outcome = prepare(&with_options).unwrap();
        let report = &outcome.report;
        assert_eq!((report.images.train, report.images.val, report.images.test), (14, 4, 2));
        assert_eq!(dry.report.images, report.images);
        let dataset = Dataset::open(&outcome.directory).unwrap();
        let first = pixels::image_file::inspect(&dataset.image_path(0)).unwrap();
        assert_eq!((first, report.options.limit, report.options.resize), ((8, 8), Some(20), Some(8)));
        assert_eq!(prepare(&with_options).unwrap().done, Done::AlreadyPrepared);
        let summary = summary(&outcome);
        assert!(summary.contains("drawn for val") && summary.contains("kept of 40"), "{summary}");
        // What remains of an interrupted run is gone on with.
        ownership::begin(&outcome.directory, std::iter::empty()).unwrap();
        assert_eq!(prepare(&with_options).unwrap().report, *report);
    }

    #[test]
    fn images_that_an_older_decoder_resized_are_made_again_where_the_source_is_there() {
        let (source, output) = (table(4), tempfile::tempdir().unwrap());
        let resized = Request { resize: Some(8), ..request(None, Some(source.path()), output.path()) };
        let first = prepare(&resized).unwrap();
        let (report, image) = (output.path().join(PREPARATION_FILE), output.path().join("images/1.jpg"));
        let pixels = fs::read(&image).unwrap();
        let age = || {
            let mut old = first.report.clone();
            old.decoder = None;
            fs::write(&report, serde_json::to_vec(&old).unwrap()).unwrap();
            fs::write(&image, jpeg(99)).unwrap();
            // It wrote none.
            fs::remove_file(output.path().join(ownership::SUMS_FILE)).unwrap();
        };
        age();
        assert_eq!(prepare(&Request { source: None, ..resized.clone() }).unwrap().done, Done::AlreadyPrepared);
        let again = prepare(&resized).unwrap();
        assert_eq!((again.done, again.report.decoder), (Done::Prepared, first.report.decoder));
        assert_eq!(fs::read(&image).unwrap(), pixels);
        assert_eq!(prepare(&resized).unwrap().done, Done::AlreadyPrepared);
    }

    #[test]
    fn a_split_of_a_persons_own_is_followed() {
        let (source, output) = (table(4), tempfile::tempdir().unwrap());
        let split = source.path().join("split.json");
        fs::write(&split, r#"{"train":["0.jpg","1"],"val":["3.jpg"]}"#).unwrap();
        let with_file = Request {
            dataset: Some("table".to_owned()),
            split_file: Some(split.clone()),
            ..request(None, Some(source.path()), output.path())
        };
        let report = prepare(&with_file).unwrap().report;
        assert_eq!((report.images.train, report.images.val, report.images.test), (2, 1, 0));
        assert!(report.rejects.iter().any(|reject| reject.what == "1 images"), "{:?}", report.rejects);
        fs::write(&split, r#"{"train":["0.jpg"],"val":["3.jpg"]}"#).unwrap();
        assert!(describe(&prepare(&with_file).unwrap_err()).contains("prepared with other options"));
    }

    #[test]
    fn one_picture_in_two_splits_is_noted() {
        let (source, output) = (table(3), tempfile::tempdir().unwrap());
        fs::copy(source.path().join("0.jpg"), source.path().join("2.jpg")).unwrap();
        fs::write(
            source.path().join("captions.csv"),
            "image,caption,split\n0.jpg,a,train\n1.jpg,b,train\n2.jpg,c,val\n",
        )
        .unwrap();
        let report = prepare(&request(None, Some(source.path()), output.path())).unwrap().report;
        let noted: Vec<String> =
            report.repairs.iter().map(|repair| format!("{}: {}", repair.what, repair.repair)).collect();
        assert_eq!(noted.len(), 1, "{noted:?}");
        assert!(
            noted[0].contains("2.jpg") && noted[0].contains("0.jpg") && noted[0].contains("same picture"),
            "{noted:?}"
        );
    }

    #[test]
    fn several_kinds_of_captions_have_to_be_chosen_from() {
        let (source, output) = (table(2), tempfile::tempdir().unwrap());
        fs::write(source.path().join("captions.json"), r#"{"0.jpg":"one","1.jpg":"two"}"#).unwrap();
        let text = describe(&prepare(&request(None, Some(source.path()), output.path())).unwrap_err());
        assert!(text.contains("table (captions.csv), json (captions.json)"), "{text}");
        let chosen = prepare(&request(Some("json"), Some(source.path()), output.path())).unwrap().report;
        assert_eq!((chosen.format.as_str(), chosen.captions.train + chosen.captions.val), ("json", 2));
        assert!(chosen.repairs.iter().any(|repair| repair.repair.contains("not used: table")), "{:?}", chosen.repairs);
    }

    #[test]
    fn images_of_one_name_in_two_folders_keep_their_folders() {
        let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (place, split) in ["train", "validation"].into_iter().enumerate() {
            let folder = source.path().join(split);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("1.jpg"), jpeg(place as u8)).unwrap();
            fs::write(folder.join("metadata.jsonl"), "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n").unwrap();
        }
        let outcome = prepare(&request(None, Some(source.path()), output.path())).unwrap();
        let dataset = Dataset::open(&outcome.directory).unwrap();
        let names: Vec<&str> = dataset.images.iter().map(|image| image.filename.as_str()).collect();
        assert_eq!(names, ["train/1.jpg", "validation/1.jpg"]);
        assert!(dataset.image_path(1).is_file());
        assert_eq!((outcome.report.images.train, outcome.report.images.val), (1, 1));
    }

    #[test]
    fn an_output_that_cannot_be_written_is_named() {
        let (source, output) = (table(2), tempfile::tempdir().unwrap());
        let file = output.path().join("file");
        fs::write(&file, b"").unwrap();
        let text = describe(&prepare(&request(None, Some(source.path()), &file.join("data"))).unwrap_err());
        assert!(text.contains("cannot write") && text.contains("file/data"), "{text}");
    }

    #[test]
    fn options_that_make_no_sense_are_mistakes_of_usage() {
        let (source, output) = (table(2), tempfile::tempdir().unwrap());
        let base = request(None, Some(source.path()), output.path());
        for wrong in [
            Request { validation_fraction: Some(1.0), ..base.clone() },
            Request { test_fraction: Some(f64::NAN), ..base.clone() },
            Request { validation_fraction: Some(0.6), test_fraction: Some(0.4), ..base.clone() },
            Request { limit: Some(0), ..base.clone() },
            Request { resize: Some(0), ..base.clone() },
            Request { dataset: Some("flickr9k".to_owned()), ..base.clone() },
            Request { source: None, ..base },
        ] {
            let error = prepare(&wrong).unwrap_err();
            assert!(base::fault::is_usage(&error), "{wrong:?}: {error:?}");
        }
    }

    #[test]
    fn training_gets_its_data_set_or_the_call_that_makes_it() {
        let (source, folder) = (archives(), tempfile::tempdir().unwrap());
        let directory = folder.path().join("flickr8k");
        let text = describe(&ensure_dataset("flickr8k", &directory, None, None).unwrap_err());
        assert!(text.contains("caption-train prepare-data --dataset flickr8k --source DIR --output"), "{text}");
        ensure_dataset("flickr8k", &directory, Some(source.path()), None).unwrap();
        ensure_dataset("flickr8k", &directory, None, None).unwrap();
        // Without its report the folder is a person's own.
        fs::remove_file(directory.join(PREPARATION_FILE)).unwrap();
        ensure_dataset("flickr30k", &directory, None, None).unwrap();
        assert!(!directory.join(PREPARATION_FILE).exists());
    }

    #[test]
    fn the_data_set_that_is_drawn_takes_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let error = prepare(&request(Some("shapes"), Some(folder.path()), folder.path())).unwrap_err();
        assert!(base::fault::is_usage(&error));
    }
}
