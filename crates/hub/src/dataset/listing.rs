//! All files of a commit: asked of the Hub once, and then kept beside the cached files, since a commit does not change.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::content_hash::ContentHash;
use crate::http_client::{Failure, HttpClient, Remote};
use crate::requests::is_relative;
use crate::source::Source;
use base::terminal::warning;
use base::{atomic_file, bounded_file};

/// Files of a repository.
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

/// The files of the commit, in the order of their paths: as kept, else from the Hub; `None` if they are not known
/// without it.
pub(super) fn of(source: &Source<'_>, commit: &str) -> Result<Option<Vec<ListedFile>>, Failure> {
    match kept(source, commit) {
        Some(files) => Ok(Some(files)),
        None if source.is_offline() => Ok(None),
        None => ask(&source.http, commit).map(Some),
    }
}

fn ask(http: &HttpClient, commit: &str) -> Result<Vec<ListedFile>, Failure> {
    let (mut files, mut next) = (Vec::new(), Some(http.tree_address(commit)?));
    while let Some(url) = next {
        let (text, following) = http.page(&url)?;
        let malformed = |_| Failure::Malformed("the server's list of files cannot be read".to_owned());
        let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(malformed)?;
        // A page that leads on and has nothing would lead on forever.
        next = following.filter(|_| !entries.is_empty());
        for Entry { path, size, oid, lfs, .. } in entries.into_iter().filter(|entry| entry.kind == "file") {
            if !is_relative(&path) {
                return Err(Failure::Malformed(format!("the server lists {path:?}, which is no path of a file")));
            }
            let (bytes, hash) = lfs.map_or((size, oid), |large| (large.size, large.oid));
            files.push(ListedFile { path, bytes, hash });
        }
        if files.len() > MAX_FILES {
            return Err(Failure::Malformed(format!("it has more than {MAX_FILES} files")));
        }
    }
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    files.dedup_by(|one, other| one.path == other.path);
    Ok(files)
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

/// Keeps the list. If that fails, the next start without a network does not find the files, which is only worth a
/// warning.
pub(super) fn keep(source: &Source<'_>, commit: &str, files: &[ListedFile]) {
    let path = place(source, commit);
    let (Some(folder), false) = (path.parent(), path.exists()) else { return };
    let kept = Kept { format_version: FORMAT_VERSION, files: files.to_vec() };
    let written = serde_json::to_vec(&kept).map_err(std::io::Error::from).and_then(|text| {
        fs::create_dir_all(folder)?;
        atomic_file::write(&path, &text)
    });
    if let Err(error) = written {
        warning(&format!("cannot write {}: {error}", path.display()));
    }
}
