//! Whose the folder is that a data set goes into, and what of it is ours. It is decided before the first write: a folder
//! that holds anything is ours only where a report or a mark of a preparation says so, and in it only what they name is
//! replaced or removed. A person's files, and the source through whichever links, stay as they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use crate::base::fault::fault;
use crate::base::lock::LOCK_FILE;
use crate::base::{atomic_file, place};
use crate::data::dataset::{DATASET_FILE, IMAGE_FOLDER};
use crate::data::prepare::comparison::SAMPLES_FILE;
use crate::data::prepare::report::{self, MARKER_FILE, PREPARATION_FILE};
use crate::data::prepare::source_record::RECORD_FILE;
use crate::data::source::Source;
use crate::data::write::{explain_write, write_if_changed};

/// Files beside the images.
const FILES: [&str; 5] = [DATASET_FILE, PREPARATION_FILE, RECORD_FILE, SAMPLES_FILE, MARKER_FILE];
const WRITTEN_BY: &str = env!("CARGO_PKG_NAME");
const HINT: &str = "choose an absent or empty folder with `--output` (in a config file: `data.directory`)";

/// Lies in the folder while a data set is prepared in it: what is there by then, or will be, is ours.
#[derive(Serialize, Deserialize)]
struct Marker {
    written_by: String,
    /// Names of images that were ours before, or are about to be written.
    images: BTreeSet<String>,
}

/// Makes sure that the folder may be filled: it is absent, empty or one that a preparation made.
///
/// # Errors
/// A folder that is somebody's, or that cannot be looked at.
pub(super) fn check(directory: &Path) -> anyhow::Result<()> {
    ours(directory).map(drop)
}

/// The names of the images in the folder that are ours.
///
/// # Errors
/// As [`check`].
fn ours(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let marked = read_marker(directory)?;
    let reported = report::reported_images(directory)?;
    if marked.is_some() || reported.is_some() {
        let mut ours = marked.unwrap_or_default();
        ours.extend(reported.into_iter().flatten());
        return Ok(ours);
    }
    let begun = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What a preparation leaves that was killed before it had written its mark.
        name == LOCK_FILE
            || atomic_file::final_name(&name) == Some(MARKER_FILE)
            || name == IMAGE_FOLDER && matches!(place::somebodys(path, |_| false), Ok(None))
    };
    match place::somebodys(directory, begun) {
        Ok(None) => Ok(BTreeSet::new()),
        Ok(Some(entry)) => Err(fault(
            format!(
                "{} is not a folder that a preparation made, and it is not empty: it holds {}",
                directory.display(),
                entry.strip_prefix(directory).unwrap_or(&entry).display()
            ),
            format!("nothing was changed there; {HINT}"),
        )),
        Err(error) => explain_write(Err(error), directory),
    }
}

fn read_marker(directory: &Path) -> anyhow::Result<Option<BTreeSet<String>>> {
    let path = directory.join(MARKER_FILE);
    let bytes = match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match serde_json::from_slice::<Marker>(&bytes) {
        Ok(marker) if marker.written_by == WRITTEN_BY => Ok(Some(marker.images)),
        _ => Err(fault(
            format!("{} was not written by this version of {WRITTEN_BY}", path.display()),
            format!("if a preparation by an older version was interrupted there, remove the folder; else {HINT}"),
        )),
    }
}

/// Begins to fill the folder: makes it and its `images/`, marks it as being prepared with images of these names, and removes
/// what an interrupted preparation left half written and the report of what is about to change. Gives the names of the
/// images that were ours before.
///
/// # Errors
/// A folder that is somebody's, a file that is in the way, and what the file system gives.
pub fn begin<'a>(directory: &Path, names: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<String>> {
    let before = ours(directory)?;
    let mut marked = before.clone();
    let mut folders = HashSet::new();
    let images = directory.join(IMAGE_FOLDER);
    for name in names {
        if let Some((folder, _)) = name.rsplit_once('/')
            && folders.insert(folder)
        {
            refuse_links(&images, folder)?;
        }
        let path = images.join(name);
        let is_ours = before.contains(name);
        match fs::symlink_metadata(&path) {
            Ok(there) if is_ours && there.is_file() => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(_) => return Err(in_the_way(&path)),
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        }
        marked.insert(name.to_owned());
    }
    for path in FILES.map(|name| directory.join(name)) {
        if !place::is_free_or_file(&path).with_context(|| format!("cannot look at {}", path.display()))? {
            return Err(in_the_way(&path));
        }
    }
    explain_write(fs::create_dir_all(directory), directory)?;
    let marker = Marker { written_by: WRITTEN_BY.to_owned(), images: marked };
    let mut json = serde_json::to_vec(&marker).context("cannot encode the mark of a preparation")?;
    json.push(b'\n');
    write_if_changed(&directory.join(MARKER_FILE), &json)?;
    explain_write(fs::create_dir_all(&images), &images)?;
    let report = directory.join(PREPARATION_FILE);
    if report.exists() {
        explain_write(fs::remove_file(&report), &report)?;
    }
    remove_half_written(directory, "", &|name| FILES.contains(&name))?;
    for folder in folders.into_iter().chain([""]) {
        remove_half_written(&images, folder, &|name| marker.images.contains(name))?;
    }
    Ok(before.into_iter().collect())
}

fn in_the_way(path: &Path) -> anyhow::Error {
    let message = format!("{} is there, and no preparation wrote it: it would be replaced", path.display());
    fault(message, format!("move it away, or {HINT}"))
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
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
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

/// Refuses to make a data set where its source lies or around it, and where links lead from one into the other: the images
/// that are there would be replaced.
///
/// # Errors
/// Such a place.
pub(super) fn apart_from_source(path: &Path, source: &Source, directory: &Path) -> anyhow::Result<()> {
    let (Ok(root), Ok(output)) = (fs::canonicalize(path), fs::canonicalize(directory)) else { return Ok(()) };
    let refuse =
        |message: String| Err(fault(message, "choose another folder with `--output`: the source is left as it is"));
    if root.starts_with(&output) {
        return refuse(format!("the output {} holds the source {}", directory.display(), path.display()));
    }
    let images = directory.join(IMAGE_FOLDER);
    if let Ok(target) = fs::canonicalize(&images)
        && target != output.join(IMAGE_FOLDER)
        && (target.starts_with(&root) || root.starts_with(&target))
    {
        let target = target.display();
        return refuse(format!("{} is a link to {target}, where the source lies", images.display()));
    }
    match leading_into(source, &output) {
        Some(link) => refuse(format!("{} of the source leads into the output {}", link.display(), directory.display())),
        None => Ok(()),
    }
}

/// A file of the source that is in the folder `output` once links are followed.
fn leading_into(source: &Source, output: &Path) -> Option<PathBuf> {
    let mut folders: HashMap<PathBuf, bool> = HashMap::new();
    let is_inside = |path: &Path| fs::canonicalize(path).is_ok_and(|target| target.starts_with(output));
    let paths: HashSet<&str> = (0..source.files().len()).map(|file| source.origin(file)).collect();
    paths.into_iter().map(|path| source.locate(path)).find(|path| {
        let folder = path.parent().unwrap_or(Path::new(""));
        let known = folders.get(folder).copied();
        let is_folder_inside = known.unwrap_or_else(|| is_inside(folder));
        if known.is_none() {
            folders.insert(folder.to_owned(), is_folder_inside);
        }
        is_folder_inside || path.is_symlink() && is_inside(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    fn begun(folder: &Path, names: &[&str]) -> anyhow::Result<Vec<String>> {
        begin(folder, names.iter().copied())
    }

    #[test]
    fn a_folder_that_holds_anything_is_somebodys_unless_a_preparation_marked_it() {
        for name in ["notes.txt", "dataset.json", "images/1.jpg", "samples.jpg", ".preparing", "notes.partial"] {
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
    fn what_a_preparation_began_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        assert!(begun(&directory, &["1.jpg", "x/2.jpg"]).unwrap().is_empty());
        fs::create_dir(directory.join("images/x")).unwrap();
        for name in ["1.jpg", "x/2.jpg"] {
            fs::write(directory.join(IMAGE_FOLDER).join(name), "ours").unwrap();
        }
        assert_eq!(begun(&directory, &["1.jpg", "3.jpg"]).unwrap(), ["1.jpg", "x/2.jpg"]);
        assert_eq!(begun(&directory, &[]).unwrap(), ["1.jpg", "3.jpg", "x/2.jpg"]);
    }

    #[test]
    fn what_was_killed_before_its_mark_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        for name in [LOCK_FILE, ".preparing.77.partial"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join(IMAGE_FOLDER)).unwrap();
        begun(folder.path(), &["1.jpg"]).unwrap();
    }

    #[test]
    fn a_file_of_somebodys_among_ours_is_neither_replaced_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        begun(folder.path(), &["1.jpg"]).unwrap();
        let own = folder.path().join("images/2.jpg");
        fs::write(&own, "mine").unwrap();
        let text = describe(&begun(folder.path(), &["1.jpg", "2.jpg"]).unwrap_err());
        assert!(text.contains("2.jpg is there, and no preparation wrote it"), "{text}");
        assert_eq!(begun(folder.path(), &["1.jpg"]).unwrap(), ["1.jpg"]);
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    }

    #[test]
    fn unfinished_files_are_removed_where_they_are_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        begun(folder.path(), &["1.jpg", "x/2.jpg"]).unwrap();
        fs::create_dir(folder.path().join("images/x")).unwrap();
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
    fn the_mark_of_an_older_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MARKER_FILE), "").unwrap();
        let text = describe(&check(folder.path()).unwrap_err());
        assert!(text.contains("not written by this version") && text.contains("remove the folder"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_place_of_what_is_written_are_left_alone() {
        use std::os::unix::fs::symlink;

        for (name, wanted) in [("samples.jpg", "1.jpg"), ("images/1.jpg", "1.jpg"), ("images/x", "x/1.jpg")] {
            let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            begun(folder.path(), &["1.jpg", "x/1.jpg"]).unwrap();
            symlink(elsewhere.path(), folder.path().join(name)).unwrap();
            let text = describe(&begun(folder.path(), &[wanted]).unwrap_err());
            assert!(text.contains(&format!("{name} is there")), "{text}");
            assert!(folder.path().join(name).is_symlink());
        }
    }

    #[cfg(unix)]
    #[test]
    fn source_and_output_that_links_join_are_refused() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let (source, output) = (folder.path().join("source"), folder.path().join("output"));
        let refusal = |link: &Path, target: &Path| {
            for path in [&source, &output] {
                let _ = fs::remove_dir_all(path);
                fs::create_dir_all(path.join("sub")).unwrap();
            }
            fs::write(source.join("sub/1.jpg"), "x").unwrap();
            fs::write(output.join("sub/1.jpg"), "x").unwrap();
            symlink(target, link).unwrap();
            let opened = Source::open(&source, Some(&output)).unwrap();
            describe(&apart_from_source(&source, &opened, &output).unwrap_err())
        };
        for target in [&source, &source.join("sub"), folder.path()] {
            let text = refusal(&output.join(IMAGE_FOLDER), target);
            assert!(text.contains("is a link to") && text.contains("hint: "), "{text}");
        }
        for (link, target) in [("2.jpg", "sub/1.jpg"), ("more", "sub")] {
            let text = refusal(&source.join(link), &output.join(target));
            assert!(text.contains("leads into the output"), "{text}");
        }
    }
}
