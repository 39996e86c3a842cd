//! All files of a commit: asked of the Hub once, and then kept beside the cached files, since a commit does not change.
//! Where only other tools have used the cache, nothing says which files there are that it does not have.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::content_hash::ContentHash;
use crate::http_client::{Failure, HttpClient, Remote};
use crate::requests::is_relative;
use crate::source::Source;
use base::terminal::warning;
use base::{atomic_file, bounded_file, digest};

/// Files and folders of a repository.
const MAX_FILES: usize = 1_000_000;
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListedFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// The Hub's name of its content.
    hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format_version: u32,
    files: Vec<ListedFile>,
}

/// One entry of the Hub's answer.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

impl ListedFile {
    /// Its content, if the Hub named it by a hash.
    pub(super) fn remote(&self) -> Option<Remote> {
        Some(Remote { hash: ContentHash::parse(&self.hash)?, bytes: self.bytes })
    }
}

/// The files of the commit, in the order of their paths: as kept, else from the Hub; without it, those that the cache
/// has. `None` if it has none.
pub(super) fn of(source: &Source<'_>, commit: &str) -> Result<Option<Vec<ListedFile>>, Failure> {
    if let Some(files) = kept(source, commit) {
        return Ok(Some(files));
    }
    let id = source.place.repository.id;
    if source.is_offline() {
        let files = downloaded(source, commit);
        if !files.is_empty() {
            warning(&format!(
                "the list of files of {id} is not in the cache: the {} files are used that are there, and others of the \
                 data set may be missing",
                files.len()
            ));
        }
        return Ok(Some(files).filter(|files| !files.is_empty()));
    }
    let (files, odd) = ask(&source.http, commit)?;
    if let Some(first) = odd.first() {
        warning(&format!(
            "{} files of {id} are left out, since their names cannot be those of files on every system, such as {first:?}",
            odd.len()
        ));
    }
    Ok(Some(files))
}

/// The files, and the names of those that are left out.
fn ask(http: &HttpClient, commit: &str) -> Result<(Vec<ListedFile>, Vec<String>), Failure> {
    let malformed = |what: String| Err(Failure::Malformed(what));
    let (mut files, mut odd, mut num_entries) = (Vec::new(), Vec::new(), 0);
    let first = http.tree_address(commit)?;
    let (mut visited, mut next) = (HashSet::from([first.clone()]), Some(first));
    while let Some(url) = next {
        let (text, following) = http.page(&url)?;
        let Ok(entries) = serde_json::from_slice::<Vec<Entry>>(&text) else {
            return malformed("the server's list of files cannot be read".to_owned());
        };
        // Pages that lead to each other, or on without end, would be read forever.
        num_entries += entries.len();
        if num_entries > MAX_FILES {
            return malformed(format!("it has more than {MAX_FILES} files and folders"));
        }
        next = following.filter(|_| !entries.is_empty());
        if next.as_ref().is_some_and(|next| !visited.insert(next.clone())) {
            return malformed("the pages of the server's list of files lead to each other".to_owned());
        }
        for Entry { path, size, oid, lfs, .. } in entries.into_iter().filter(|entry| entry.kind == "file") {
            if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return malformed(format!("the server lists {path:?}, which is no path of a file"));
            }
            if !is_relative(&path) {
                odd.push(path);
                continue;
            }
            let (bytes, hash) = lfs.map_or((size, oid), |large| (large.size, large.oid));
            files.push(ListedFile { path, bytes, hash });
        }
    }
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    files.dedup_by(|one, other| one.path == other.path);
    Ok((files, odd))
}

/// The files of the commit that the cache has, by whichever tool they were downloaded.
fn downloaded(source: &Source<'_>, commit: &str) -> Vec<ListedFile> {
    let snapshot = source.cache.snapshot(commit);
    let (mut files, mut folders) = (Vec::new(), vec![snapshot.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(&snapshot).ok();
            let parts: Option<Vec<&str>> = below.and_then(|path| path.iter().map(|part| part.to_str()).collect());
            let name = parts.map(|parts| parts.join("/")).filter(|name| is_relative(name));
            let (Some(name), Some(file)) = (name, fs::metadata(&path).ok().filter(fs::Metadata::is_file)) else {
                continue;
            };
            let linked = source.cache.linked_hash(commit, &name).map(|hash| hash.as_str().to_owned());
            // A file that is no link is called by its content.
            let Some(hash) = linked.or_else(|| digest::sha256_file(&path).ok()) else { continue };
            files.push(ListedFile { path: name, bytes: file.len(), hash });
        }
    }
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    files
}

fn place(source: &Source<'_>, commit: &str) -> PathBuf {
    source.cache.own_folder().join("files").join(format!("{commit}.json"))
}

fn kept(source: &Source<'_>, commit: &str) -> Option<Vec<ListedFile>> {
    let text = bounded_file::read(&place(source, commit), bounded_file::MAX_CAPTIONS_BYTES).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    let is_sound = kept.format_version == FORMAT_VERSION && kept.files.iter().all(|file| is_relative(&file.path));
    is_sound.then_some(kept.files)
}

/// Keeps the list, if it is the Hub's. If that fails, the next start without a network does not find the files, which is only worth a
/// warning.
pub(super) fn keep(source: &Source<'_>, commit: &str, files: &[ListedFile]) {
    let path = place(source, commit);
    let (Some(folder), false) = (path.parent(), path.exists() || source.is_offline()) else { return };
    let kept = Kept { format_version: FORMAT_VERSION, files: files.to_vec() };
    let written = serde_json::to_vec(&kept).map_err(std::io::Error::from).and_then(|text| {
        fs::create_dir_all(folder)?;
        atomic_file::write(&path, &text)
    });
    if let Err(error) = written {
        warning(&format!("cannot write {}: {error}", path.display()));
    }
}
