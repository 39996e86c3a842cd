//! From patterns of shards to a data set whose images stay where they are: each shard is scanned once, several at a
//! time, and what was found goes to an index in the order of the shards.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use crate::annotations::{Reject, Repair};
use crate::column_names::ColumnNames;
use crate::output::{self, Counts, FileDigest, Options, Preparation, explain_write, ownership};
use crate::prepare::request::{Done, Outcome, Request, read_options};
use crate::prepare::shards::list::{ListedShard, list};
use crate::prepare::shards::notes::Notes;
use crate::prepare::shards::parts::{self, Parts};
use crate::prepare::shards::scan::scan;
use crate::prepare::shards::splits::Claims;
use crate::prepared::{DATASET_FILE, MARKER_FILE, PREPARATION_FILE, Split};
use crate::shards::files::{IndexedShard, SHARDS_FILE, ShardsFile};
use crate::shards::index::{IndexWriter, digest_in};
use crate::shards::place::Place;
use crate::shards::read::Shard;
use base::digest::{Hasher, hex};
use base::error::{failure, one_line, usage_error};
use base::terminal::{self, Progress};
use base::{atomic_file, threads};

/// Shards that are scanned at a time: while one is listed, all threads decode images of another.
const AT_A_TIME: usize = 3;
/// Images of a data set: places count them in 32 bits.
const MAX_IMAGES: u64 = u32::MAX as u64;

const OTHER_OUTPUT: &str = "choose another `--output`, or remove the old folder first";

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// As [`list`] takes them.
    pub patterns: Vec<String>,
    /// Folder of the data set.
    pub directory: PathBuf,
    /// As [`Options::columns`].
    pub columns: ColumnNames,
    /// As [`Options::validation_fraction`]; where it is absent none are drawn.
    pub validation_fraction: Option<f64>,
    /// As [`Options::test_fraction`].
    pub test_fraction: Option<f64>,
}

/// Builds the index of the shards that are asked for. What there is already is not built again while shards and options
/// are the same.
///
/// # Errors
/// Patterns that mean nothing, a folder that is the user's own or has another data set, shards that cannot be used, of
/// which all others are scanned first, columns that differ between shards, no image at all.
pub fn build(request: &BuildRequest) -> anyhow::Result<Outcome> {
    let BuildRequest { directory, columns, .. } = request;
    let (options, ..) = read_options(&Request {
        columns: columns.clone(),
        validation_fraction: request.validation_fraction,
        test_fraction: request.test_fraction,
        ..Request::default()
    })?;
    let list = list(&request.patterns)?;
    let outcome = |done, report| Outcome { done, report, directory: directory.clone() };
    if let Some(report) = already(directory, &options, &list.shards)? {
        return Ok(outcome(Done::AlreadyPrepared, report));
    }
    ownership::check(directory)?;
    let turn = output::wait(directory)?;
    if turn.has_waited
        && let Some(report) = already(directory, &options, &list.shards)?
    {
        return Ok(outcome(Done::AlreadyPrepared, report));
    }
    // What there is stays until all shards were read.
    let begin = || ownership::begin(directory, std::iter::empty());
    let begun = if output::read(directory)?.is_none() { Some(begin()?) } else { None };
    let parts = Parts::of(directory, columns)?;
    parts.record_options(&options)?;
    let shards = Arc::new(list.shards);
    scan_all(&shards, columns, &parts)?;
    let ours = begun.map_or_else(begin, Ok)?;
    let mut gathered = Gathered::new(list.repairs);
    let splits = gathered.first_pass(&shards, &parts, &options)?;
    let mut index = IndexWriter::create(directory)?;
    let indexed = gathered.second_pass(&shards, &parts, &splits, &mut index)?;
    let index_sha256 = index.finish()?;
    let file = ShardsFile::new(index_sha256.clone(), indexed);
    let path = directory.join(SHARDS_FILE);
    ours.check(directory, SHARDS_FILE)?;
    explain_write(atomic_file::write_with(&path, |output| file.write(output)), &path)?;
    let report = gathered.report(directory, options, index_sha256);
    explain_write(atomic_file::sync_file_system(directory), directory)?;
    let path = directory.join(PREPARATION_FILE);
    let mut json = serde_json::to_vec_pretty(&report).context("cannot encode the report")?;
    json.push(b'\n');
    explain_write(atomic_file::write(&path, &json), &path)?;
    let marker = directory.join(MARKER_FILE);
    explain_write(std::fs::remove_file(&marker), &marker)?;
    parts.keep_only(shards.iter().map(|listed| &listed.shard))?;
    Ok(outcome(Done::Prepared, report))
}

/// What the folder of a data set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFolder {
    Nothing,
    /// An index of the shards that are asked for, as they are now.
    SameShards,
    /// An index of other shards, or of these before they were changed.
    OtherShards,
}

/// Looks for what was built in the folder of `request`.
///
/// # Errors
/// Patterns that mean nothing; files that are damaged.
pub fn in_folder(request: &BuildRequest) -> anyhow::Result<InFolder> {
    let Some((_, file)) = finished(&request.directory)? else { return Ok(InFolder::Nothing) };
    let are_same = is_of(&file, &list(&request.patterns)?.shards);
    Ok(if are_same { InFolder::SameShards } else { InFolder::OtherShards })
}

/// The options of the last build in `directory`, also of one that was stopped.
pub fn last_options(directory: &Path) -> Options {
    parts::recorded_options(directory).unwrap_or_default()
}

/// The report and the shards of a finished build in `directory`; `None` where there is none.
pub fn finished(directory: &Path) -> anyhow::Result<Option<(Preparation, ShardsFile)>> {
    // A list of shards that cannot be read is written again.
    let (Some(report), Ok(Some(file))) = (output::read(directory)?, ShardsFile::read(directory)) else {
        return Ok(None);
    };
    let is_whole =
        report.dataset_sha256 == file.index_sha256 && digest_in(directory) == Some(file.index_sha256.clone());
    Ok(is_whole.then_some((report, file)))
}

/// The report of what is in `directory`, where it was made of these shards with these options.
fn already(directory: &Path, options: &Options, shards: &[ListedShard]) -> anyhow::Result<Option<Preparation>> {
    if directory.join(DATASET_FILE).exists() {
        let message = format!("{} contains another data set, whose images are in it", directory.display());
        return Err(failure(message, OTHER_OUTPUT));
    }
    if let Some(report) = output::read(directory)?.filter(|report| report.options != *options) {
        let found = serde_json::to_string(&report.options)?;
        return Err(failure(format!("{} was prepared with other options: {found}", directory.display()), OTHER_OUTPUT));
    }
    let Some((report, file)) = finished(directory)? else { return Ok(None) };
    if is_of(&file, shards) {
        return Ok(Some(report));
    }
    let message =
        format!("the shards have changed since {} was prepared: those that are new are read", directory.display());
    terminal::message(&message);
    Ok(None)
}

/// Whether an index is of these shards as they are now.
fn is_of(file: &ShardsFile, shards: &[ListedShard]) -> bool {
    let then = file.shards.iter().map(|indexed| (&indexed.name, &indexed.shard));
    then.eq(shards.iter().map(|listed| (&listed.name, &listed.shard)))
}

/// What the threads that scan share.
struct Scan {
    shards: Arc<Vec<ListedShard>>,
    /// Those without a part.
    pending: Vec<usize>,
    next: AtomicUsize,
    is_over: AtomicBool,
    columns: ColumnNames,
    parts: Parts,
    progress: Progress,
    /// The columns of the first table.
    form: Mutex<Option<(PathBuf, String)>>,
    /// Shards that cannot be used, and why.
    failed: Mutex<Vec<(usize, anyhow::Error)>>,
}

/// Makes sure that there is a part of each shard.
fn scan_all(shards: &Arc<Vec<ListedShard>>, columns: &ColumnNames, parts: &Parts) -> anyhow::Result<()> {
    let (mut pending, mut form) = (Vec::new(), None);
    for (number, listed) in shards.iter().enumerate() {
        match parts.head(&listed.shard) {
            Some(head) => check_form(&mut form, &listed.shard.path, &head.form)?,
            None => pending.push(number),
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    let num_there = shards.len() - pending.len();
    if num_there > 0 {
        terminal::message(&format!("{num_there} of {} shards were read before", shards.len()));
    }
    let num_threads = AT_A_TIME.min(pending.len()).min(rayon::current_num_threads());
    let scan = Arc::new(Scan {
        shards: Arc::clone(shards),
        progress: Progress::new("reading shards", shards.len() as u64, num_there as u64),
        pending,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        columns: columns.clone(),
        parts: parts.clone(),
        form: Mutex::new(form),
        failed: Mutex::default(),
    });
    let start = |number: usize| {
        let scan = Arc::clone(&scan);
        threads::spawn(&format!("shards-{number}"), move || scan.work())
    };
    let started = (0..num_threads).map(start).collect::<anyhow::Result<Vec<_>>>();
    let mut result = Ok(());
    for thread in started.inspect_err(|_| scan.is_over.store(true, Ordering::Relaxed))? {
        let worked = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        result = result.and(worked);
    }
    result?;
    let mut failed = std::mem::take(&mut *scan.failed.lock().unwrap_or_else(PoisonError::into_inner));
    failed.sort_by_key(|(number, _)| *number);
    if failed.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    if failed.is_empty() {
        return Ok(());
    }
    const NUM_SHOWN: usize = 5;
    let mut text = format!("{} of {} shards cannot be used", failed.len(), shards.len());
    for (_, error) in failed.iter().take(NUM_SHOWN) {
        text.push_str(&format!("; {}", one_line(error)));
    }
    let hint = "download them again, or leave them out of the patterns; shards that were read are not read again";
    Err(failure(text, hint))
}

impl Scan {
    /// Scans shards until there are none left. What is wrong with a shard is kept; errors are those of the folder.
    fn work(&self) -> anyhow::Result<()> {
        while !self.is_over.load(Ordering::Relaxed)
            && let Some(&number) = self.pending.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let done = self.one(number);
            if done.is_err() {
                self.is_over.store(true, Ordering::Relaxed);
                return done;
            }
            self.progress.advance(1, "shards");
        }
        Ok(())
    }

    fn one(&self, number: usize) -> anyhow::Result<()> {
        let shard = &self.shards[number].shard;
        let path = &shard.path;
        let found = scan(path, &self.columns).with_context(|| format!("the shard {} cannot be used", path.display()));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((number, error));
                return Ok(());
            }
        };
        if Shard::of(path).ok().as_ref() != Some(shard) {
            let message = format!("the shard {} was changed while it was read", path.display());
            return Err(failure(message, "run the same command again when all shards are in place"));
        }
        check_form(&mut self.form.lock().unwrap_or_else(PoisonError::into_inner), path, &found.form)?;
        self.parts.write(shard, &found)
    }
}

/// Makes sure that all tables have the same columns: what a model learns from must not change from shard to shard.
fn check_form(known: &mut Option<(PathBuf, String)>, path: &Path, form: &str) -> anyhow::Result<()> {
    let Some(columns) = form.strip_prefix("parquet: ") else { return Ok(()) };
    match known {
        None => *known = Some((path.to_owned(), columns.to_owned())),
        Some((_, known)) if known == columns => {}
        Some((other, known)) => {
            let message = format!(
                "{} has other columns than {}: {columns}; {} has {known}",
                path.display(),
                other.display(),
                other.display()
            );
            return Err(failure(message, "give the shards of one data set, or name columns with `--columns`"));
        }
    }
    Ok(())
}

/// What is gathered of all shards.
struct Gathered {
    images: Counts,
    captions: Counts,
    sources: Vec<FileDigest>,
    forms: Vec<String>,
    repairs: Vec<Repair>,
    rejects: Vec<Reject>,
}

impl Gathered {
    fn new(repairs: Vec<Repair>) -> Self {
        let (images, captions) = (Counts::default(), Counts::default());
        Self { images, captions, sources: Vec::new(), forms: Vec::new(), repairs, rejects: Vec::new() }
    }

    /// The split of each image, and what is said of the shards.
    fn first_pass(&mut self, shards: &[ListedShard], parts: &Parts, options: &Options) -> anyhow::Result<Vec<Split>> {
        let (mut claims, mut num_images) = (Claims::default(), 0);
        let (mut repairs, mut rejects) = (Notes::default(), Notes::default());
        for listed in shards {
            let part = parts.open(&listed.shard)?;
            claims.hear(&part.head.split_names);
            part.head.repairs.iter().for_each(|repair| repairs.add(&repair.what, &repair.repair));
            part.head.rejects.iter().for_each(|reject| rejects.add(&reject.what, &reject.reason));
            let form = part.head.form.split(':').next().unwrap_or_default();
            if !form.is_empty() && !self.forms.iter().any(|known| known == form) {
                self.forms.push(form.to_owned());
            }
            num_images += part.head.images as u64;
            if num_images > MAX_IMAGES {
                let message = format!("the shards have more than {MAX_IMAGES} images");
                return Err(usage_error(message, "give fewer shards"));
            }
            part.for_each(|image| {
                claims.add(&image);
                Ok(())
            })?;
        }
        self.repairs.extend(repairs.finish().map(|(what, text)| Repair::new(what, text)));
        self.rejects.extend(rejects.finish().map(|(what, text)| Reject::new(what, text)));
        if num_images == 0 {
            let such = self
                .rejects
                .first()
                .map_or_else(String::new, |first| format!(", such as {}: {}", first.what, first.reason));
            let message = format!("none of the images of {} shards can be used{such}", shards.len());
            return Err(failure(message, "give shards that have images with captions"));
        }
        let assigned = claims.assign(options)?;
        self.repairs.extend(assigned.repairs);
        Ok(assigned.splits)
    }

    /// Gives all images to the sink.
    fn second_pass(
        &mut self,
        shards: &[ListedShard],
        parts: &Parts,
        splits: &[Split],
        index: &mut IndexWriter,
    ) -> anyhow::Result<Vec<IndexedShard>> {
        let progress = Progress::new("writing the index", splits.len() as u64, 0);
        let (mut indexed, mut position) = (Vec::with_capacity(shards.len()), 0);
        for (number, ListedShard { name, shard }) in shards.iter().enumerate() {
            let (first, mut hasher) = (position, Hasher::new());
            parts.open(shard)?.for_each(|image| {
                let split = *splits.get(position).context("a part of the index has become longer")?;
                let place = Place { shard: number as u32, ..image.place };
                hasher.update(format!("{}  {}\n", hex(&place.digest), image.member).as_bytes());
                let record = image.record(name, split, position as u64);
                self.images.add(split, 1);
                self.captions.add(split, record.captions.len());
                position += 1;
                index.push(&record, &place)
            })?;
            progress.advance((position - first) as u64, "images");
            self.sources.push(FileDigest { name: name.clone(), bytes: shard.bytes, sha256: hasher.finish() });
            indexed.push(IndexedShard { name: name.clone(), images: position - first, shard: shard.clone() });
        }
        Ok(indexed)
    }

    fn report(self, directory: &Path, options: Options, index_sha256: String) -> Preparation {
        let Self { images, captions, sources, forms, repairs, rejects } = self;
        let name = directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Preparation {
            format_version: output::FORMAT_VERSION,
            dataset: name,
            format: forms.join(" and "),
            options,
            decoder: None,
            origin: None,
            sources,
            images,
            captions,
            repairs,
            rejects,
            filtered: Vec::new(),
            // They would take more memory than everything else.
            statistics: None,
            dataset_sha256: index_sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;
    use crate::picture_file::PictureFile;
    use crate::prepare::prepare;
    use crate::prepare::shards::parts::PARTS_FOLDER;
    use crate::prepare::shards::testing::{picture, put_tar, tar};
    use crate::prepared::Dataset;
    use crate::source::writing::{self, IMAGES, bytes, compressed, images, texts};
    use base::error::describe;
    use parquet::basic::Compression;

    struct Scene {
        _folder: TempDir,
        shards: PathBuf,
        output: PathBuf,
    }

    fn place() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let (shards, output) = (folder.path().join("source"), folder.path().join("out"));
        fs::create_dir(&shards).unwrap();
        Scene { shards, output, _folder: folder }
    }

    impl Scene {
        fn request(&self, patterns: &[&str]) -> BuildRequest {
            let pattern = |pattern: &&str| self.shards.join(pattern).to_str().unwrap().to_owned();
            BuildRequest {
                patterns: patterns.iter().map(pattern).collect(),
                directory: self.output.clone(),
                ..BuildRequest::default()
            }
        }

        fn build(&self, request: &BuildRequest) -> anyhow::Result<(Outcome, Dataset)> {
            Ok((build(request)?, Dataset::open(&self.output)?))
        }

        fn parts(&self) -> Vec<(String, SystemTime)> {
            let entries = fs::read_dir(self.output.join(PARTS_FOLDER)).unwrap().map(Result::unwrap);
            let entries = entries.filter(|entry| entry.file_name() != "options.json");
            let mut parts: Vec<(String, SystemTime)> = entries
                .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap()))
                .collect();
            parts.sort();
            parts
        }
    }

    fn refusal<T>(result: anyhow::Result<T>) -> String {
        let text = describe(&result.err().expect("an error"));
        assert!(text.contains("hint: "), "{text}");
        text
    }

    /// Each image read where it lies, with its name and split.
    fn contents(dataset: &Dataset) -> Vec<(String, Split, Vec<u8>)> {
        let content = |number: usize| match dataset.picture(number) {
            PictureFile::Shard { reader, place, .. } => reader.read(&place).unwrap(),
            PictureFile::File(path) => panic!("{} is a file of its own", path.display()),
        };
        let images = dataset.images.iter().enumerate();
        images.map(|(number, image)| (image.filename().to_owned(), image.split(), content(number))).collect()
    }

    fn counts(report: &Preparation) -> [usize; 3] {
        [report.images.train, report.images.val, report.images.test]
    }

    #[test]
    fn an_index_has_the_images_of_all_shards_in_their_order() {
        let place = place();
        put_tar(&place.shards, "00001.tar", 3..5);
        put_tar(&place.shards, "00000.tar", 0..3);
        put_tar(&place.shards, "val-00000.tar", 5..6);
        let path = place.shards.join("more.parquet");
        let (six, seven) = (picture(6), picture(7));
        let rows: [(&[u8], &str, &str); 2] = [(&six, "6.png", "Six."), (&seven, "7.png", "Seven.")];
        writing::write(&path, IMAGES, compressed(Compression::SNAPPY), vec![images(&rows)]);
        let (outcome, dataset) = place.build(&place.request(&["*.tar", "*.parquet"])).unwrap();
        assert_eq!(outcome.done, Done::Prepared);
        let expected: Vec<(String, Split, Vec<u8>)> = [
            ("00000/000000.png", Split::Train),
            ("00000/000001.png", Split::Train),
            ("00000/000002.png", Split::Train),
            ("00001/000003.png", Split::Train),
            ("00001/000004.png", Split::Train),
            ("more/6.png", Split::Train),
            ("more/7.png", Split::Train),
            ("val-00000/000005.png", Split::Val),
        ]
        .into_iter()
        .zip([0, 1, 2, 3, 4, 6, 7, 5])
        .map(|((name, split), number)| (name.to_owned(), split, picture(number)))
        .collect();
        assert!(contents(&dataset) == expected);
        let ids: Vec<String> = dataset.images.iter().map(|image| image.id().to_string()).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        let (report, file) = finished(&place.output).unwrap().unwrap();
        assert_eq!((counts(&report), report.format.as_str()), ([7, 1, 0], "webdataset and parquet"));
        assert_eq!(report, outcome.report);
        assert_eq!(file.shards.iter().map(|shard| shard.images).collect::<Vec<_>>(), [3, 2, 2, 1]);
        assert_eq!(report.sources[0].bytes, file.shards[0].shard.bytes);
        assert!(!place.output.join(MARKER_FILE).exists() && !place.output.join("images").exists());
    }

    #[test]
    fn what_was_read_is_not_read_again_until_it_changes() {
        let place = place();
        put_tar(&place.shards, "0.tar", 0..2);
        let changed = put_tar(&place.shards, "1.tar", 2..4);
        let request = place.request(&["*.tar"]);
        let (_, first) = place.build(&request).unwrap();
        let before = place.parts();
        assert_eq!(before.len(), 2);
        assert_eq!(place.build(&request).unwrap().0.done, Done::AlreadyPrepared);
        // What the errors about damage say to do.
        for (file, content) in [("index/index.json", None), ("shards.json", None), ("shards.json", Some("{"))] {
            let path = place.output.join(file);
            match content {
                None => fs::remove_file(path).unwrap(),
                Some(content) => fs::write(path, content).unwrap(),
            }
            let what = format!("{file} is written again");
            assert_eq!(place.build(&request).unwrap().0.done, Done::Prepared, "{what}");
            assert_eq!(place.parts(), before);
        }
        put_tar(&place.shards, "1.tar", 2..5);
        let later = SystemTime::now() + Duration::from_secs(3);
        File::options().append(true).open(&changed).unwrap().set_modified(later).unwrap();
        put_tar(&place.shards, "2.tar", 7..8);
        let (outcome, index) = place.build(&request).unwrap();
        assert_eq!((outcome.done, index.images.len(), first.images.len()), (Done::Prepared, 6, 4));
        let after = place.parts();
        let kept = before.iter().filter(|part| after.contains(part)).count();
        assert_eq!((after.len(), kept), (3, 1));
        fs::remove_file(place.shards.join("0.tar")).unwrap();
        let (_, index) = place.build(&request).unwrap();
        assert_eq!((index.images.len(), place.parts().len()), (4, 2), "what is no longer asked for goes");
    }

    #[test]
    fn a_build_that_was_stopped_goes_on_where_it_was() {
        let place = place();
        put_tar(&place.shards, "0.tar", 0..2);
        let broken = place.shards.join("1.tar");
        fs::write(&broken, &tar(&[("a.png", &picture(3)), ("a.txt", b"A dog.")])[..900]).unwrap();
        let request = place.request(&["*.tar"]);
        let request = BuildRequest { validation_fraction: Some(0.5), ..request };
        let text = refusal(place.build(&request));
        assert!(text.contains("1.tar cannot be used") && text.contains("download it again"), "{text}");
        assert_eq!(last_options(&place.output).validation_fraction, Some(0.5));
        assert!(place.output.join(MARKER_FILE).exists() && !place.output.join(SHARDS_FILE).exists());
        let before = place.parts();
        assert_eq!(before.len(), 1);
        fs::write(&broken, tar(&[("a.png", &picture(3)), ("a.txt", b"A dog.")])).unwrap();
        let (outcome, index) = place.build(&request).unwrap();
        assert_eq!((outcome.done, index.images.len()), (Done::Prepared, 3));
        assert!(place.parts().contains(&before[0]));
    }

    #[test]
    fn all_shards_that_cannot_be_used_are_named_at_once() {
        let place = place();
        put_tar(&place.shards, "0.tar", 0..2);
        for name in ["1.tar", "2.tar"] {
            fs::write(place.shards.join(name), b"no tar").unwrap();
        }
        let text = refusal(place.build(&place.request(&["*.tar"])));
        for expected in ["2 of 3 shards cannot be used", "1.tar", "2.tar"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn columns_that_differ_between_shards_are_refused() {
        let place = place();
        let write = |name: &str, caption: &str| {
            let schema = format!("message schema {{ optional binary image; optional binary {caption} (STRING); }}");
            let columns = vec![bytes(&[Some(picture(0))], 1), texts(&["A dog."])];
            writing::write(&place.shards.join(name), &schema, compressed(Compression::SNAPPY), vec![columns]);
        };
        write("0.parquet", "caption");
        write("1.parquet", "text");
        let text = refusal(place.build(&place.request(&["*.parquet"])));
        assert!(text.contains("has other columns than") && text.contains("captions in text"), "{text}");
    }

    #[test]
    fn what_is_left_out_of_shards_is_counted_and_some_of_it_named() {
        let place = place();
        for shard in 0..3 {
            let members: Vec<(String, Vec<u8>)> = (0..4)
                .flat_map(|number| {
                    [
                        (format!("{number}.png"), picture(shard)[..400].to_vec()),
                        (format!("{number}.txt"), b"x y".to_vec()),
                    ]
                })
                .chain([("good.png".to_owned(), picture(9)), ("good.txt".to_owned(), b"A dog.".to_vec())])
                .collect();
            let members: Vec<(&str, &[u8])> = members.iter().map(|(name, content)| (&**name, &**content)).collect();
            fs::write(place.shards.join(format!("{shard}.tar")), tar(&members)).unwrap();
        }
        let (outcome, index) = place.build(&place.request(&["*.tar"])).unwrap();
        assert_eq!(index.images.len(), 3);
        let rejects = &outcome.report.rejects;
        assert_eq!(
            (rejects.len(), rejects[0].what.as_str(), rejects[5].what.as_str()),
            (6, "0.tar/0.png", "7 more"),
            "{rejects:?}"
        );
        let repairs = format!("{:?}", outcome.report.repairs);
        assert!(repairs.contains("2 images\", repair: \"have the content of another image"), "{repairs}");
    }

    #[test]
    fn shares_are_drawn_for_validation_where_they_are_asked_for() {
        let place = place();
        put_tar(&place.shards, "0.tar", 0..20);
        let request =
            BuildRequest { validation_fraction: Some(0.1), test_fraction: Some(0.2), ..place.request(&["0.tar"]) };
        let (outcome, index) = place.build(&request).unwrap();
        assert_eq!(counts(&outcome.report), [14, 2, 4]);
        assert_eq!(index.images.iter().filter(|image| image.split() == Split::Val).count(), 2);
        let text = refusal(place.build(&place.request(&["0.tar"])));
        assert!(text.contains("was prepared with other options"), "{text}");
    }

    #[test]
    fn a_folder_of_the_user_and_one_of_another_data_set_are_left_alone() {
        let place = place();
        put_tar(&place.shards, "0.tar", 0..2);
        fs::create_dir(&place.output).unwrap();
        fs::write(place.output.join("notes.txt"), "mine").unwrap();
        let text = refusal(place.build(&place.request(&["0.tar"])));
        assert!(text.contains("notes.txt"), "{text}");
        assert_eq!(fs::read_dir(&place.output).unwrap().count(), 1);
        fs::remove_file(place.output.join("notes.txt")).unwrap();
        let source = Some(place.shards.join("0.tar"));
        prepare(&Request { source, output: Some(place.output.clone()), ..Request::default() }).unwrap();
        let text = refusal(place.build(&place.request(&["0.tar"])));
        assert!(text.contains("contains another data set"), "{text}");
        let index = BuildRequest { directory: place.shards.join("index"), ..place.request(&["0.tar"]) };
        build(&index).unwrap();
        let source = Some(place.shards.join("0.tar"));
        let text = refusal(prepare(&Request { source, output: Some(index.directory.clone()), ..Request::default() }));
        assert!(text.contains("whose images are in shards") && !index.directory.join("images").exists(), "{text}");
    }
}
