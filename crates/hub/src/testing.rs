//! A local Hub that speaks the protocol of the real one, and misbehaves on request.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::content_hash::{ContentHash, ContentHasher};
use super::http_client::Patience;
use super::settings::Settings;
use super::source::Conditions;
use crate::requests::{FileRole, Part, Reading};
use base::digest::sha256;
use test_server::{Faults, Request, serve};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const NEXT_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
/// Of the branch `refs/convert/parquet`.
pub(super) const CONVERTED_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
pub(super) const BIG: &str = "images.zip";
pub(super) const SMALL: &str = "data/captions.json";
pub(super) const TEXTS: &[u8] = b"texts";
pub(super) const TOKEN: &str = "hf_secret";

/// Which request an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// For the commit of a branch: of a dataset by its description, of a model by a file.
    Revision,
    /// For the list of files.
    Listing,
    Metadata,
    Content,
}

/// How the Hub misbehaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// A status, and headers that end in `\r\n`.
    Status(&'static str, &'static str),
    /// These bytes and nothing else.
    Raw(&'static [u8]),
    /// The connection ends after this many bytes of the content.
    Cut(usize),
    /// The same, and the end of the answer looks regular.
    CutWithoutLength(usize),
    /// Nothing more comes after this many bytes of the content.
    Stall(usize),
    /// So many bytes of the content at a time, with pauses.
    Trickle(usize, Duration),
    /// The whole content, whatever range was asked for.
    IgnoreRange,
    /// The whole content, cut after this many bytes, whatever range was asked for.
    IgnoreRangeAndCut(usize),
    /// The part from this byte on, whatever range was asked for.
    OtherPart(usize),
    /// A byte of the content is another one.
    Damaged,
    /// More bytes than the content has.
    TooMuch,
}

pub(super) struct State {
    pub(super) commit: &'static str,
    /// Name, content, and whether it is in the storage for large files.
    pub(super) files: Vec<(&'static str, Vec<u8>, bool)>,
    /// The files of the branch `refs/convert/parquet`, if there is one.
    pub(super) converted: Vec<(&'static str, Vec<u8>, bool)>,
    pub(super) faults: Faults<To, Answer>,
    requests: Vec<String>,
}

/// A Hub and its storage for large files, which is another server.
pub(super) struct Hub {
    pub(super) address: String,
    pub(super) state: Arc<Mutex<State>>,
}

impl Hub {
    /// With two files of a dataset.
    pub(super) fn new() -> Self {
        Self::with(vec![(BIG, big(), true), (SMALL, b"{\"images\": []}\n".to_vec(), false)])
    }

    pub(super) fn with(files: Vec<(&'static str, Vec<u8>, bool)>) -> Self {
        let state =
            State { commit: COMMIT, files, converted: Vec::new(), faults: Faults::default(), requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let storage = start(&state, String::new());
        Self { address: start(&state, storage), state }
    }

    /// One misbehaviour after the other, each at the next request of its kind.
    pub(super) fn next(self, to: To, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.state.lock().unwrap().faults.next(to, answers);
        self
    }

    pub(super) fn always(self, to: To, answer: Answer) -> Self {
        self.state.lock().unwrap().faults.always(to, answer);
        self
    }

    pub(super) fn behave(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.requests.clear();
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The ranges of the requests for contents; empty for a whole one.
    pub(super) fn ranges(&self) -> Vec<String> {
        let requests = self.requests();
        let contents = requests.iter().filter(|request| request.starts_with("GET /stored/"));
        contents.map(|request| request.split_once(' ').unwrap().1.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// Bytes that repeat nowhere.
pub(super) fn big() -> Vec<u8> {
    let mut value = 1u32;
    let mut next = || {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (value >> 24) as u8
    };
    (0..30_000).map(|_| next()).collect()
}

/// Knows files by their endings, and splits by the words train and test. A Parquet file has 1000 bytes for each row
/// group of ten rows, and a description of 100 bytes, which begins with [`TEXTS`] where it has no images.
pub(super) const READING: Reading = Reading {
    role_of: |path| match path.rsplit('.').next().unwrap_or_default() {
        "parquet" => FileRole::Parquet,
        "zip" | "tar" => FileRole::Archive,
        "jpg" => FileRole::Picture,
        "csv" | "json" => FileRole::Text,
        _ => FileRole::Other,
    },
    split_of: |path| ["train", "test"].into_iter().find(|split| path.contains(split)),
    first_rows: |length, rows, read| {
        let description = read(length - 100..length)?;
        let all = (length - 100) / 100;
        let num_rows = rows.next_multiple_of(10).min(all);
        Ok(Part {
            ranges: std::iter::once(0..num_rows * 100).collect(),
            end: b"END".to_vec(),
            num_rows,
            is_whole: num_rows == all,
            has_bytes: !description.starts_with(TEXTS),
        })
    },
};

pub(super) fn git_blob(content: &[u8]) -> String {
    let mut hasher = ContentHasher::new(&ContentHash::GitBlob(String::new()), content.len() as u64);
    hasher.update(content);
    hasher.finish().named
}

fn start(state: &Arc<Mutex<State>>, storage: String) -> String {
    let state = Arc::clone(state);
    serve(move |request| respond(request, &state, &storage))
}

fn respond(request: &mut Request, state: &Mutex<State>, storage: &str) -> io::Result<()> {
    let (method, path) = (request.method.clone(), request.path.clone());
    let (to, answer, commit, file, (link, listing)) = {
        let mut state = state.lock().unwrap();
        let range = request.header("range").unwrap_or_default();
        let with_token = if request.header("authorization").is_some() { " with token" } else { "" };
        state.requests.push(format!("{method} {path} {range}{with_token}").replace("  ", " "));
        let to = match method.as_str() {
            _ if path.starts_with("/api/datasets/owner/name/revision/") => To::Revision,
            _ if path.starts_with("/api/datasets/owner/name/tree/") => To::Listing,
            "HEAD" if path.starts_with("/owner/name/resolve/main/") => To::Revision,
            "HEAD" => To::Metadata,
            _ => To::Content,
        };
        // A redirect is answered before anything goes wrong at its target.
        let is_redirected = to == To::Content && !path.starts_with("/stored/");
        let answer = state.faults.take(|kind| kind == to && !is_redirected);
        let all = state.files.iter().chain(&state.converted);
        let file = all.filter(|(name, ..)| path.ends_with(&format!("/{name}"))).max_by_key(|(name, ..)| name.len());
        let is_converted = path.ends_with("/refs%2Fconvert%2Fparquet") || path.contains(CONVERTED_COMMIT);
        let commit = match (is_converted, state.converted.is_empty()) {
            (true, true) => "",
            (true, false) => CONVERTED_COMMIT,
            (false, _) => state.commit,
        };
        let listed = if is_converted { &state.converted } else { &state.files };
        let listing = if to == To::Listing { page(&path, request, listed) } else { Default::default() };
        (to, answer, commit, file.cloned(), listing)
    };
    match answer {
        Some(Answer::Status(status, headers)) => return request.reply(status, headers, ""),
        Some(Answer::Raw(bytes)) => return request.send(bytes),
        _ => {}
    }
    if to == To::Listing {
        return request.reply("200 OK", &link, listing);
    }
    if to == To::Revision && commit.is_empty() {
        return request.reply("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", "");
    }
    if to == To::Revision && method == "GET" {
        return request.reply("200 OK", "", format!("{{\"id\": \"owner/name\", \"sha\": \"{commit}\"}}"));
    }
    let Some((name, content, is_large)) = file else {
        let headers = "X-Error-Code: EntryNotFound\r\nX-Error-Message: Entry not found\r\n";
        return request.reply("404 Not Found", headers, "");
    };
    if !path.starts_with("/stored/") {
        // The real Hub sends to its own cache for small files, and to the storage for large ones.
        let (status, tag, base) = if is_large {
            let linked = format!("X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}", sha256(&content), content.len());
            ("302 Found", linked, storage)
        } else {
            ("307 Temporary Redirect", "Vary: Origin".to_owned(), "")
        };
        let headers = format!("{tag}\r\nX-Repo-Commit: {commit}\r\nLocation: {base}/stored/{name}\r\n");
        return request.reply(status, &headers, "");
    }
    let tag = if is_large { "\"of the storage\"".to_owned() } else { format!("W/\"{}\"", git_blob(&content)) };
    send(request, &tag, content, answer)
}

/// A page of two entries, and a header with the address of the next one.
fn page(path: &str, request: &Request, files: &[(&'static str, Vec<u8>, bool)]) -> (String, String) {
    let (address, at) = path.split_once("&cursor=").map_or((path, 0), |(path, at)| (path, at.parse().unwrap()));
    let entry = |(name, content, is_large): &(&'static str, Vec<u8>, bool)| {
        let (size, hash) = (content.len(), git_blob(content));
        match is_large {
            true => serde_json::json!({"type": "file", "path": name, "size": size, "oid": git_blob(b"a pointer"),
                "lfs": {"oid": sha256(content), "size": size, "pointerSize": 9}}),
            false => serde_json::json!({"type": "file", "path": name, "size": size, "oid": hash}),
        }
    };
    let folder = serde_json::json!({"type": "directory", "path": "a folder", "size": 0, "oid": git_blob(b"")});
    let entries: Vec<_> = files.iter().skip(at).take(2).map(entry).chain([folder]).collect();
    let link = format!("Link: <{}{address}&cursor={}>; rel=\"next\"\r\n", request.server(), at + 2);
    (if at + 2 < files.len() { link } else { String::new() }, serde_json::to_string(&entries).unwrap())
}

fn send(request: &mut Request, tag: &str, mut content: Vec<u8>, answer: Option<Answer>) -> io::Result<()> {
    let from = match answer {
        Some(Answer::IgnoreRange | Answer::IgnoreRangeAndCut(_)) => None,
        Some(Answer::OtherPart(from)) => Some(from),
        _ => request.range_start().or(request.range().map(|(first, _)| first)),
    };
    let total = content.len();
    let last = request.range().map_or(total.saturating_sub(1), |(_, last)| last);
    match answer {
        Some(Answer::Damaged) => content[total - 1] ^= 1,
        Some(Answer::TooMuch) => content.extend(b"more"),
        _ => {}
    }
    let end = if request.range().is_some() && from.is_some() { last + 1 } else { content.len() };
    let part = &content[from.unwrap_or(0).min(end)..end];
    let status = match from {
        Some(from) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{total}"),
        None => "200 OK".to_owned(),
    };
    let length = match answer {
        Some(Answer::CutWithoutLength(_)) => String::new(),
        _ => format!("Content-Length: {}\r\n", part.len()),
    };
    request.send(format!("HTTP/1.1 {status}\r\nETag: {tag}\r\n{length}Connection: close\r\n\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match answer {
        Some(Answer::Cut(bytes) | Answer::CutWithoutLength(bytes) | Answer::IgnoreRangeAndCut(bytes)) => {
            request.send(&part[..bytes.min(part.len())])
        }
        Some(Answer::Stall(bytes)) => {
            request.send(&part[..bytes.min(part.len())])?;
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }
        Some(Answer::Trickle(bytes, pause)) => part.chunks(bytes).try_for_each(|piece| {
            std::thread::sleep(pause);
            request.send(piece)
        }),
        _ => request.send(part),
    }
}

thread_local! {
    pub(super) static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn conditions() -> Conditions {
    let patience = Patience {
        retries: 3,
        retries_unreached: 1,
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_secs(5),
        connecting: Duration::from_secs(20),
        silence: Duration::from_secs(20),
    };
    let say = |text: &str| SAID.with_borrow_mut(|said| said.push(text.to_owned()));
    Conditions { token: None, patience, free_bytes: |_| Some(u64::MAX), say }
}

pub(super) fn settings(address: &str, cache: &Path) -> Settings {
    Settings { endpoint: Some(address.to_owned()), cache: Some(cache.to_owned()), offline: false }
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
