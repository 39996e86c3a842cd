//! Who owns the folder that a data set goes into, and which of its files are ours. This is decided before the first
//! write: a folder that holds anything is ours only where a report or a mark of a preparation says so, and in it a file
//! is replaced or removed only while it has the content that a preparation wrote, which `SHA256SUMS` records, and the
//! mark of a preparation under way. The user's files, and the source through whichever links, stay as they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rayon::prelude::*;

use crate::output::preparation;
use crate::output::write::{explain_write, write_if_changed};
use crate::prepared::{
    DATASET_FILE, IMAGE_FOLDER, MARKER_FILE, PREPARATION_FILE, RECORD_FILE, SAMPLES_FILE, SUMS_FILE, is_safe_relative,
};
use crate::shards::files::SHARDS_FILE;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::failure;
use base::lock::LOCK_FILE;
use base::{atomic_file, digest, place};

/// Its first line.
const SUMS_HEADER: &str = "# Written by caption-train: files that differ are not replaced.";
/// The content of the mark of a preparation.
const MARK: &str = "Being prepared by caption-train.\n";
/// Files beside the images.
const FILES: [&str; 7] =
    [DATASET_FILE, PREPARATION_FILE, RECORD_FILE, SAMPLES_FILE, SUMS_FILE, MARKER_FILE, SHARDS_FILE];
const HINT: &str = "choose an absent or empty folder with `--output` (in a config file: `data.directory`)";

/// The files in a folder that preparations wrote.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// By their paths in it: the SHA-256 of what was written; `None` where it was an earlier version of the program,
    /// which recorded none.
    files: HashMap<String, Option<Vec<String>>>,
    /// The mark of the preparation under way, which gets the SHA-256 of each image before it is written.
    mark: Option<Arc<Mutex<File>>>,
}

impl Ours {
    /// Writes `bytes`, whose SHA-256 is `sum`, to the file `name` in `directory` unless they are there already, and
    /// gives whether it wrote. With `is_one_of_many` the caller syncs all files at the end.
    pub(crate) fn write(
        &self,
        directory: &Path,
        name: &str,
        bytes: &[u8],
        sum: &str,
        is_one_of_many: bool,
    ) -> anyhow::Result<bool> {
        let path = directory.join(name);
        let length = bytes.len() as u64;
        let there = fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.len() == length);
        if there && bounded_file::read(&path, length).is_ok_and(|old| old == bytes) {
            return Ok(false);
        }
        self.check(directory, name)?;
        self.announce(directory, name, sum)?;
        let write = if is_one_of_many { atomic_file::write_one_of_many } else { atomic_file::write };
        explain_write(write(&path, bytes), &path)?;
        Ok(true)
    }

    /// Says in the mark that a file of this SHA-256 is about to be written.
    pub(crate) fn announce(&self, directory: &Path, name: &str, sum: &str) -> anyhow::Result<()> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let mut mark = mark.lock().unwrap_or_else(PoisonError::into_inner);
        explain_write(mark.write_all(format!("{sum}  {name}\n").as_bytes()), &directory.join(MARKER_FILE))
    }

    /// Checks that the file `name` in `directory` is absent or ours.
    pub(crate) fn check(&self, directory: &Path, name: &str) -> anyhow::Result<()> {
        let path = directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_file() && self.wrote(name, &path) => Ok(()),
            Ok(_) => Err(in_the_way(&path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot access {}", path.display())),
        }
    }

    /// Whether the file at `path` is as a preparation wrote it.
    fn wrote(&self, name: &str, path: &Path) -> bool {
        match self.files.get(name) {
            Some(Some(written)) => digest::sha256_file(path).is_ok_and(|found| written.contains(&found)),
            Some(None) => true,
            None => false,
        }
    }

    /// Removes the image `filename` from the folder; one that is not as a preparation wrote it stays.
    pub(crate) fn remove_image(&self, directory: &Path, filename: &str) -> anyhow::Result<()> {
        let name = format!("{IMAGE_FOLDER}/{filename}");
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = directory.join(&name);
        let is_there = refuse_links(directory, folder).is_ok() && fs::symlink_metadata(&path).is_ok();
        if is_there && self.check(directory, &name).is_ok() {
            explain_write(fs::remove_file(&path), &path)?;
        }
        Ok(())
    }

    /// Removes the image `filename`, which this preparation wrote with the SHA-256 `sum`; one that is not as it was
    /// written stays.
    pub(crate) fn remove_written(&self, directory: &Path, filename: &str, sum: &str) -> anyhow::Result<()> {
        let path = directory.join(IMAGE_FOLDER).join(filename);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|there| there.is_file());
        if is_file && digest::sha256_file(&path).is_ok_and(|found| found == sum) {
            explain_write(fs::remove_file(&path), &path)?;
        }
        Ok(())
    }

    pub(crate) fn images(&self) -> impl Iterator<Item = &str> {
        self.files.keys().filter_map(|name| name.strip_prefix(IMAGE_FOLDER)?.strip_prefix('/'))
    }
}

/// Checks that the folder may be filled: it is absent, empty or was created by a preparation.
pub(crate) fn check(directory: &Path) -> anyhow::Result<()> {
    ours(directory)?;
    refuse_links(directory, IMAGE_FOLDER)
}

/// What of the folder is ours, and whether it is marked as being prepared.
fn ours(directory: &Path) -> anyhow::Result<(Ours, bool)> {
    let marked = marked(directory)?;
    let is_marked = marked.is_some();
    let mut files = HashMap::new();
    let recorded = recorded(directory)?;
    let reported = if recorded.is_some() { None } else { preparation::reported_images(directory)? };
    if let Some(images) = &reported {
        files.extend(images.iter().map(|image| (format!("{IMAGE_FOLDER}/{image}"), None)));
        files.extend(FILES.map(|name| (name.to_owned(), None)));
    }
    let is_recorded = recorded.is_some();
    for (name, sum) in recorded.into_iter().chain(marked).flatten() {
        if let Some(written) = files.entry(name).or_insert_with(|| Some(Vec::new())) {
            written.push(sum);
        }
    }
    if is_recorded || is_marked {
        files.extend(
            [PREPARATION_FILE, RECORD_FILE, SUMS_FILE, MARKER_FILE, SHARDS_FILE].map(|name| (name.to_owned(), None)),
        );
    }
    if is_recorded || reported.is_some() {
        return Ok((Ours { files, mark: None }, is_marked));
    }
    let begun = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What a preparation leaves that was killed before it had written its mark.
        name == LOCK_FILE
            || atomic_file::final_name(&name) == Some(MARKER_FILE)
            || name == IMAGE_FOLDER && matches!(place::users_own(path, |_| false), Ok(None))
    };
    match place::users_own(directory, |path| is_marked || begun(path)) {
        Ok(None) => Ok((Ours { files, mark: None }, is_marked)),
        Ok(Some(entry)) => Err(failure(
            format!(
                "{} was not made by a preparation and is not empty: it contains {}",
                directory.display(),
                entry.strip_prefix(directory).unwrap_or(&entry).display()
            ),
            format!("nothing was changed there; {HINT}"),
        )),
        Err(error) => explain_write(Err(error), directory),
    }
}

/// Names and SHA-256 in the mark of a preparation under way; `None` where there is no mark.
fn marked(directory: &Path) -> anyhow::Result<Option<Vec<(String, String)>>> {
    let path = directory.join(MARKER_FILE);
    let bytes = match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    match String::from_utf8_lossy(&bytes).strip_prefix(MARK) {
        Some(lines) => Ok(Some(lines.lines().filter_map(parse_sum).collect())),
        None => Err(failure(
            format!("{} was not written by this version of the program", path.display()),
            format!("if a preparation by an older version was interrupted there, remove the folder; else {HINT}"),
        )),
    }
}

/// What `SHA256SUMS` in the folder lists, if a preparation wrote it. Names that would leave the folder are ignored.
fn recorded(directory: &Path) -> anyhow::Result<Option<Vec<(String, String)>>> {
    let is_prepared = [PREPARATION_FILE, MARKER_FILE].iter().any(|name| directory.join(name).is_file());
    let path = directory.join(SUMS_FILE);
    let text = match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
        Ok(bytes) if is_prepared => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Some(lines) = text.strip_prefix(SUMS_HEADER) else { return Err(in_the_way(&path)) };
    Ok(Some(lines.lines().filter_map(parse_sum).collect()))
}

/// A line of `SHA256SUMS`: name and sum. No name of an image holds what `sha256sum` would write in another way.
fn parse_sum(line: &str) -> Option<(String, String)> {
    let (sum, name) = line.split_once("  ")?;
    let image = name.strip_prefix(IMAGE_FOLDER).and_then(|name| name.strip_prefix('/'));
    let is_inside = image.map_or(FILES.contains(&name), is_safe_relative);
    (is_inside && sum.len() == 64).then(|| (name.to_owned(), sum.to_owned()))
}

/// Writes down what was written into the folder: the images by name and SHA-256, and the files beside them.
pub(crate) fn record<'a>(
    directory: &Path,
    images: impl Iterator<Item = (&'a str, &'a str)>,
    dataset_sha256: &str,
) -> anyhow::Result<()> {
    let (path, samples) = (directory.join(SUMS_FILE), directory.join(SAMPLES_FILE));
    let samples = samples.is_file().then(|| digest::sha256_file(&samples)).transpose();
    let samples = samples.with_context(|| format!("cannot read {SAMPLES_FILE}"))?;
    let written = atomic_file::write_with(&path, |file| -> io::Result<()> {
        writeln!(file, "{SUMS_HEADER}")?;
        for (filename, sum) in images {
            writeln!(file, "{sum}  {IMAGE_FOLDER}/{filename}")?;
        }
        writeln!(file, "{dataset_sha256}  {DATASET_FILE}")?;
        samples.map_or(Ok(()), |sum| writeln!(file, "{sum}  {SAMPLES_FILE}"))
    });
    explain_write(written, &path)
}

/// Begins to fill the folder: creates it, its `images/` and their subfolders, marks it as being prepared, and removes
/// what an interrupted preparation left half written of images with these names and the report of what is about to
/// change.
pub fn begin<'a>(directory: &Path, names: impl Iterator<Item = &'a str>) -> anyhow::Result<Ours> {
    let (mut ours, is_marked) = ours(directory)?;
    refuse_links(directory, IMAGE_FOLDER)?;
    let images = directory.join(IMAGE_FOLDER);
    let (mut folders, mut wanted) = (BTreeSet::from([""]), HashSet::new());
    for name in names {
        if let Some((folder, _)) = name.rsplit_once('/')
            && folders.insert(folder)
        {
            refuse_links(&images, folder)?;
        }
        wanted.insert(name);
    }
    // Also with the content of each: a refusal later would leave a data set that is half the old one.
    wanted.par_iter().try_for_each(|name| ours.check(directory, &format!("{IMAGE_FOLDER}/{name}")))?;
    FILES.iter().try_for_each(|name| ours.check(directory, name))?;
    explain_write(fs::create_dir_all(directory), directory)?;
    let mark = directory.join(MARKER_FILE);
    if !is_marked {
        write_if_changed(&mark, MARK.as_bytes())?;
    }
    let mut file = explain_write(place::open_to_append(&mark), &mark)?;
    // A kill may have cut the last line off.
    explain_write(file.write_all(b"\n"), &mark)?;
    ours.mark = Some(Arc::new(Mutex::new(file)));
    // A data set whose images stay where they are has no folder for them.
    for folder in folders.iter().filter(|_| !wanted.is_empty()) {
        let folder = images.join(folder);
        explain_write(fs::create_dir_all(&folder), &folder)?;
    }
    let report = directory.join(PREPARATION_FILE);
    if report.exists() {
        explain_write(fs::remove_file(&report), &report)?;
    }
    remove_half_written(directory, "", &|name| FILES.contains(&name))?;
    for folder in folders {
        remove_half_written(&images, folder, &|name| wanted.contains(name))?;
    }
    Ok(ours)
}

fn in_the_way(path: &Path) -> anyhow::Error {
    let message = format!("{} exists and was not written by a preparation: it would be replaced", path.display());
    failure(message, format!("move it away, or {HINT}"))
}

/// Refuses to write into a folder below `images/` through a link, and where a file is in its place.
fn refuse_links(images: &Path, folder: &str) -> anyhow::Result<()> {
    let mut path = images.to_owned();
    for part in folder.split('/') {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(in_the_way(&path)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot access {}", path.display())),
        }
    }
    Ok(())
}

/// Removes from a folder the unfinished files whose final names, as paths below `root`, are ours.
fn remove_half_written(root: &Path, folder: &str, is_ours: &dyn Fn(&str) -> bool) -> anyhow::Result<()> {
    let path = root.join(folder);
    let listed = || format!("cannot list {}", path.display());
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(listed)?,
    };
    for entry in entries {
        let entry = entry.with_context(listed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(atomic_file::final_name) else { continue };
        let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if is_ours(&name) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            explain_write(fs::remove_file(entry.path()), &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn begun(folder: &Path, names: &[&str]) -> anyhow::Result<Ours> {
        begin(folder, names.iter().copied())
    }

    fn written(ours: &Ours, folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<bool> {
        ours.write(folder, name, bytes, &digest::sha256(bytes), true)
    }

    /// A folder in which a preparation wrote these images, each with its own name as content.
    fn prepared(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let ours = begun(folder.path(), names).unwrap();
        let sums: Vec<String> = names.iter().map(|name| digest::sha256(name.as_bytes())).collect();
        for name in names {
            let path = format!("{IMAGE_FOLDER}/{name}");
            assert!(written(&ours, folder.path(), &path, name.as_bytes()).unwrap());
        }
        record(folder.path(), names.iter().copied().zip(sums.iter().map(String::as_str)), &digest::sha256(b""))
            .unwrap();
        folder
    }

    #[test]
    fn a_folder_that_holds_anything_is_the_users_unless_a_preparation_marked_it() {
        let names =
            ["notes.txt", "dataset.json", "images/1.jpg", "samples.jpg", ".preparing", "notes.partial", SUMS_FILE];
        for name in names {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join(IMAGE_FOLDER)).unwrap();
            fs::write(folder.path().join(name), "mine").unwrap();
            let text = describe(&begun(folder.path(), &["1.jpg"]).unwrap_err());
            assert!(text.contains(name.split('/').next().unwrap()) && text.contains("hint: "), "{text}");
            assert!(describe(&check(folder.path()).unwrap_err()) == text, "{name}");
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "mine");
            let num_left = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(num_left, if name.contains('/') { 1 } else { 2 }, "{name}");
        }
    }

    #[test]
    fn what_a_preparation_wrote_is_replaced_and_removed_as_long_as_nobody_changed_it() {
        let names = ["1.jpg", "x/2.jpg", "x/3.jpg"];
        let folder = prepared(&names);
        let own = folder.path().join("images/x/2.jpg");
        fs::write(&own, "a careful crop").unwrap();
        assert!(
            describe(&begun(folder.path(), &["1.jpg", "x/2.jpg"]).unwrap_err())
                .contains("2.jpg exists and was not written")
        );
        let ours = begun(folder.path(), &["1.jpg"]).unwrap();
        assert!(written(&ours, folder.path(), "images/1.jpg", b"new").unwrap());
        assert!(!written(&ours, folder.path(), "images/1.jpg", b"new").unwrap(), "it is there already");
        let text = describe(&written(&ours, folder.path(), "images/x/2.jpg", b"new").unwrap_err());
        assert!(text.contains("2.jpg exists and was not written") && text.contains("hint: "), "{text}");
        names.iter().for_each(|name| ours.remove_image(folder.path(), name).unwrap());
        assert_eq!(fs::read_to_string(&own).unwrap(), "a careful crop");
        assert_eq!(fs::read(folder.path().join("images/1.jpg")).unwrap(), b"new");
        assert!(!folder.path().join("images/x/3.jpg").exists());
    }

    #[test]
    fn what_an_interrupted_preparation_wrote_is_ours_and_what_was_put_there_since_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let ours = begun(folder.path(), &["1.jpg", "2.jpg"]).unwrap();
        assert!(written(&ours, folder.path(), "images/1.jpg", b"large").unwrap());
        assert!(written(&ours, folder.path(), "images/3.jpg", b"no longer wanted").unwrap());
        let ours = begun(folder.path(), &["1.jpg", "2.jpg"]).unwrap();
        assert!(written(&ours, folder.path(), "images/1.jpg", b"small").unwrap());
        ours.remove_image(folder.path(), "3.jpg").unwrap();
        assert!(!folder.path().join("images/3.jpg").exists());
        fs::write(folder.path().join("images/2.jpg"), "mine").unwrap();
        assert!(begun(folder.path(), &["1.jpg", "2.jpg"]).is_err());
        assert!(begun(folder.path(), &["1.jpg"]).is_ok());
        // A line truncated by a kill does not count.
        fs::write(folder.path().join(MARKER_FILE), format!("{MARK}{}  images/1.j", digest::sha256(b"small"))).unwrap();
        assert!(begun(folder.path(), &["1.jpg"]).is_err());
    }

    #[test]
    fn names_that_would_leave_the_folder_are_not_ours() {
        let folder = prepared(&["1.jpg"]);
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        let sum = digest::sha256(b"mine");
        let absolute = victim.display();
        let lines = format!("{SUMS_HEADER}\n{sum}  images/../victim\n{sum}  images/{absolute}\n{sum}  victim\n");
        fs::write(folder.path().join(SUMS_FILE), lines).unwrap();
        let ours = begun(folder.path(), &[]).unwrap();
        assert_eq!(ours.images().collect::<Vec<_>>(), ["1.jpg"], "the mark names it");
        for name in ["../victim", victim.to_str().unwrap()] {
            ours.remove_image(folder.path(), name).unwrap();
        }
        assert!(victim.exists());
    }

    #[test]
    fn what_was_killed_before_its_mark_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        for name in [LOCK_FILE, ".preparing.77.partial"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join(IMAGE_FOLDER)).unwrap();
        begun(folder.path(), &["1.jpg"]).unwrap();
    }

    #[test]
    fn a_file_of_the_users_among_ours_stops_a_preparation_before_its_first_write() {
        let folder = prepared(&["1.jpg"]);
        fs::remove_file(folder.path().join(MARKER_FILE)).unwrap();
        fs::write(folder.path().join(PREPARATION_FILE), "{}").unwrap();
        let own = folder.path().join("images/2.jpg");
        fs::write(&own, "mine").unwrap();
        let text = describe(&begun(folder.path(), &["1.jpg", "2.jpg"]).unwrap_err());
        assert!(text.contains("2.jpg exists and was not written by a preparation"), "{text}");
        assert!(folder.path().join(PREPARATION_FILE).exists() && !folder.path().join(MARKER_FILE).exists());
        begun(folder.path(), &["1.jpg"]).unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    }

    #[test]
    fn unfinished_files_are_removed_where_they_are_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        begun(folder.path(), &["1.jpg", "x/2.jpg"]).unwrap();
        let ours = ["dataset.json.5.partial", "images/1.jpg.12.partial", "images/x/2.jpg.12.partial"];
        let own = ["notes.partial", "notes.5.partial", "images/3.jpg.12.partial", "images/x/1.jpg.12.partial"];
        for name in ours.iter().chain(&own) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        begun(folder.path(), &["1.jpg", "x/2.jpg"]).unwrap();
        assert!(ours.iter().all(|name| !folder.path().join(name).exists()));
        assert!(own.iter().all(|name| folder.path().join(name).exists()));
    }

    #[test]
    fn the_mark_of_an_older_version_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MARKER_FILE), "").unwrap();
        let text = describe(&check(folder.path()).unwrap_err());
        assert!(text.contains("not written by this version") && text.contains("remove the folder"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_place_of_what_is_written_are_left_alone() {
        use std::os::unix::fs::symlink;

        let cases = [("samples.jpg", "1.jpg"), ("images/1.jpg", "1.jpg"), ("images/x", "x/1.jpg"), ("images", "1.jpg")];
        for (name, wanted) in cases {
            let (folder, elsewhere) = (prepared(&["2.jpg"]), tempfile::tempdir().unwrap());
            fs::write(elsewhere.path().join("2.jpg"), "2.jpg").unwrap();
            if name == IMAGE_FOLDER {
                fs::rename(folder.path().join(name), folder.path().join("moved")).unwrap();
            }
            symlink(elsewhere.path(), folder.path().join(name)).unwrap();
            let text = describe(&begun(folder.path(), &[wanted]).unwrap_err());
            assert!(text.contains(&format!("{name} exists and was not written")), "{text}");
            assert!(folder.path().join(name).is_symlink());
            ours(folder.path()).unwrap().0.remove_image(folder.path(), "2.jpg").unwrap();
            assert!(elsewhere.path().join("2.jpg").exists());
        }
    }
}
