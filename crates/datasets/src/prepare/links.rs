//! Links of a source. Those that lead out of it are followed, since data sets are made of links in many places, and
//! reported, since what a stranger's archive or repository links to may be private. Those that lead into the output are
//! refused.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::annotations::Repair;
use crate::source::Source;
use base::error::failure;

/// A note on the links that lead out of the source; `None` where none does.
pub(super) fn followed(source: &Source) -> Option<Repair> {
    let root = fs::canonicalize(source.locate("")).ok()?;
    let mut folders = HashMap::new();
    let mut links: BTreeSet<(String, PathBuf)> = BTreeSet::new();
    let paths: BTreeSet<&str> = (0..source.files().len()).map(|file| source.origin(file)).collect();
    for path in paths {
        let (folder, _) = path.rsplit_once('/').unwrap_or_default();
        let linked_folder = folders.entry(folder.to_owned()).or_insert_with(|| folder_outside(source, &root, folder));
        links.extend(linked_folder.clone().or_else(|| outside(source, &root, path)));
    }
    let (path, target) = links.first()?;
    let count = links.len();
    let note = match count {
        1 => format!("a link that leads out of the source was followed, to {}", target.display()),
        _ => format!("{count} links lead out of the source and were followed, this one to {}", target.display()),
    };
    Some(Repair::new(path, note))
}

/// The outermost link to a folder outside among `folder` and those around it.
fn folder_outside(source: &Source, root: &Path, folder: &str) -> Option<(String, PathBuf)> {
    let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
    ends.filter(|&end| end > 0).find_map(|end| outside(source, root, &folder[..end]))
}

/// The path and its target, if it is a link that leads out.
fn outside(source: &Source, root: &Path, path: &str) -> Option<(String, PathBuf)> {
    let here = source.locate(path);
    if !here.is_symlink() {
        return None;
    }
    let target = fs::canonicalize(&here).ok()?;
    (!target.starts_with(root)).then(|| (path.to_owned(), target))
}

/// Refuses to make a data set where its source lies or around it, and where links lead from one into the other: the
/// images that are there would be replaced.
pub(super) fn apart_from_source(path: &Path, source: &Source, directory: &Path) -> anyhow::Result<()> {
    let (Ok(root), Ok(output)) = (fs::canonicalize(path), fs::canonicalize(directory)) else { return Ok(()) };
    let refuse =
        |message: String| Err(failure(message, "choose another folder with `--output`: the source is left as it is"));
    if root.starts_with(&output) {
        return refuse(format!("the output {} contains the source {}", directory.display(), path.display()));
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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use base::error::describe;

    fn note(make: impl FnOnce(&Path, &Path)) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let (source, private) = (folder.path().join("source"), folder.path().join("private"));
        for path in [&source, &private] {
            fs::create_dir_all(path.join("in")).unwrap();
            fs::write(path.join("in/1.jpg"), "x").unwrap();
        }
        make(&source, &private);
        let repair = followed(&Source::open(&source, None).unwrap())?;
        Some((repair.what, repair.repair.replace(&*fs::canonicalize(folder.path()).unwrap().to_string_lossy(), "")))
    }

    #[test]
    fn links_that_lead_out_are_counted_and_the_first_is_named() {
        let one = note(|source, private| symlink(private.join("in/1.jpg"), source.join("2.jpg")).unwrap());
        let text = "a link that leads out of the source was followed, to /private/in/1.jpg";
        assert_eq!(one, Some(("2.jpg".to_owned(), text.to_owned())));
        let several = note(|source, private| {
            symlink(private, source.join("a")).unwrap();
            symlink("../../private/in/1.jpg", source.join("in/z.txt")).unwrap();
        });
        let text = "2 links lead out of the source and were followed, this one to /private";
        assert_eq!(several, Some(("a".to_owned(), text.to_owned())));
    }

    #[test]
    fn links_that_stay_within_the_source_or_lead_nowhere_are_not_findings() {
        let inside = |source: &Path, _: &Path| {
            symlink(source.join("in/1.jpg"), source.join("2.jpg")).unwrap();
            symlink("in", source.join("again")).unwrap();
            symlink("/no/such/file.jpg", source.join("3.jpg")).unwrap();
        };
        assert_eq!(note(inside), None);
    }

    #[test]
    fn a_source_that_is_itself_a_link_is_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/1.jpg"), "x").unwrap();
        symlink("real", folder.path().join("named")).unwrap();
        assert!(followed(&Source::open(&folder.path().join("named"), None).unwrap()).is_none());
    }

    #[test]
    fn source_and_output_that_links_join_are_refused() {
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
        for (link, target) in [("2.jpg", "sub/1.jpg"), ("more", "sub")] {
            let text = refusal(&source.join(link), &output.join(target));
            assert!(text.contains("leads into the output"), "{text}");
        }
    }
}
