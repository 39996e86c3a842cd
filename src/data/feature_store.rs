//! Bytes by key on disk: rows of one size, appended and never changed, shared by all runs that look for the same thing.
//!
//! A folder contains `store.json` (what the rows are), `rows.bin` (one row after the other) and `index.bin` (for each
//! row its key and its checksum, written when the row is on the disk). A crash loses only the newest rows; a row that
//! is damaged later is an error when it is read. What keys and rows mean is the business of `image_cache`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::error::{WithHint as _, failure};
use base::lock::{Holder, Lock};
use base::{atomic_file, place};

/// Version of the files. A store of another one is another store.
pub const FORMAT_VERSION: u32 = 1;
const DESCRIPTION: &str = "store.json";
const ROWS: &str = "rows.bin";
const INDEX: &str = "index.bin";
const LOCK: &str = "lock";
/// Bytes of an entry of the index: key, checksum of the row, checksum of the two.
const ENTRY_BYTES: usize = 40;
/// Rows are brought to the disk when this many bytes wait.
const SYNC_BYTES: usize = 64 << 20;

/// The key of a row: a SHA-256.
pub type Key = [u8; 32];

/// What the rows of a store are; a store of another description is another store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Everything that the rows depend on besides their keys.
    pub content: Value,
    pub row_bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct DescriptionFile {
    format_version: u32,
    description: Description,
}

/// An open store. Reading needs no lock, because rows do not change.
#[derive(Debug)]
pub struct FeatureStore {
    folder: PathBuf,
    row_bytes: usize,
    /// Absent while there is no row.
    rows: Option<File>,
    entries: HashMap<Key, Row>,
}

/// A row that is there.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    number: u64,
    checksum: u32,
}

/// The right to append to a store: one process has it at a time.
pub struct Appender<'a> {
    store: &'a mut FeatureStore,
    index: File,
    /// Entries whose rows may not be on the disk yet.
    waiting: Vec<(Key, u32)>,
    /// Something could not be written: nothing more is, or entries and rows might get out of step.
    failed: bool,
    _lock: Lock,
}

impl FeatureStore {
    /// Opens the store in `folder`, or creates an empty one.
    ///
    /// # Errors
    /// A folder that cannot be created or read; one that contains something else.
    pub fn open(folder: &Path, description: &Description) -> Result<Self> {
        let store = || format!("cannot open the cache {}", folder.display());
        fs::create_dir_all(folder).with_context(store).hint(|| ELSEWHERE)?;
        check_description(folder, description).with_context(store)?;
        let rows = readable(&folder.join(ROWS)).with_context(store)?;
        let mut store =
            Self { folder: folder.to_owned(), row_bytes: description.row_bytes, rows, entries: HashMap::new() };
        store.read_index()?;
        Ok(store)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Whether the row of `key` is there.
    pub fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// The row of `key`, if it is there.
    pub fn find(&self, key: &Key) -> Option<Row> {
        self.entries.get(key).copied()
    }

    /// Forgets all keys, which take more memory than everything else, when their rows were found.
    pub fn forget_keys(&mut self) {
        self.entries = HashMap::new();
    }

    /// Reads a row that was found into `row`, whose length is that of a row.
    ///
    /// # Errors
    /// A row that cannot be read or is damaged.
    pub fn read(&self, Row { number, checksum }: Row, row: &mut [u8]) -> Result<()> {
        ensure!(row.len() == self.row_bytes, "a row has {} bytes, not {}", self.row_bytes, row.len());
        let rows = self.rows.as_ref().context("the cache has no rows")?;
        read_at(rows, row, number * self.row_bytes as u64)
            .with_context(|| format!("cannot read {}", self.folder.join(ROWS).display()))?;
        if crc32fast::hash(row) != checksum {
            return Err(failure(
                format!("row {number} of the cache {} is damaged", self.folder.display()),
                "remove that folder: it is rebuilt from the images",
            ));
        }
        Ok(())
    }

    /// Waits until no other process appends, takes over what it appended, and appends from now on. While another one
    /// does, `keep_waiting` is asked now and then; `None` is returned when it says no.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn append(&mut self, keep_waiting: impl FnMut(&Holder) -> bool) -> Result<Option<Appender<'_>>> {
        let path = self.folder.join(LOCK);
        let lock = Lock::wait(&path, keep_waiting);
        let lock = lock.with_context(|| format!("cannot write {}", path.display())).hint(|| ELSEWHERE)?;
        let Some(lock) = lock else { return Ok(None) };
        let rows = writable(&self.folder.join(ROWS))?;
        self.rows = Some(rows);
        self.read_index()?;
        let path = self.folder.join(INDEX);
        let cut = || format!("cannot write {}", path.display());
        // What a crash left after the last whole entry.
        writable(&path)?.set_len((self.entries.len() * ENTRY_BYTES) as u64).with_context(cut)?;
        place::refuse_link(&path).with_context(cut)?;
        let index = OpenOptions::new().append(true).open(&path).with_context(cut)?;
        Ok(Some(Appender { store: self, index, waiting: Vec::new(), failed: false, _lock: lock }))
    }

    /// Reads the entries up to the first that is not whole, or whose row is not, or whose key was there before: rows
    /// are appended after as many as there are entries.
    fn read_index(&mut self) -> Result<()> {
        let path = self.folder.join(INDEX);
        let read = || format!("cannot read {}", path.display());
        let mut bytes = Vec::new();
        if let Some(mut index) = readable(&path)? {
            index.read_to_end(&mut bytes).with_context(read)?;
        }
        let rows =
            self.rows.as_ref().map_or(Ok(0), |rows| rows.metadata().map(|rows| rows.len())).with_context(read)?;
        let whole_rows = usize::try_from(rows / self.row_bytes.max(1) as u64).unwrap_or(usize::MAX);
        self.entries.clear();
        for (number, entry) in bytes.chunks_exact(ENTRY_BYTES).take(whole_rows).enumerate() {
            let known = parse_entry(entry).filter(|(key, _)| !self.entries.contains_key(key));
            let Some((key, checksum)) = known else { break };
            self.entries.insert(key, Row { number: number as u64, checksum });
        }
        Ok(())
    }
}

impl Appender<'_> {
    /// The store as it is so far.
    pub fn store(&self) -> &FeatureStore {
        self.store
    }

    /// Appends rows, one after the other in `rows`.
    ///
    /// # Errors
    /// A key that is there already, bytes that are no whole rows, a disk that cannot be written.
    pub fn push(&mut self, keys: &[Key], rows: &[u8]) -> Result<()> {
        let size = self.store.row_bytes;
        ensure!(rows.len() == keys.len() * size, "{} rows of {size} bytes, found {} bytes", keys.len(), rows.len());
        let first = self.store.entries.len();
        let file = self.store.rows.as_ref().context("a store that is appended to has rows")?;
        let written = write_at(file, rows, (first * size) as u64);
        self.check(written)?;
        for (key, row) in keys.iter().zip(rows.chunks_exact(size)) {
            let (number, checksum) = (self.store.entries.len() as u64, crc32fast::hash(row));
            ensure!(self.store.entries.insert(*key, Row { number, checksum }).is_none(), "a row was added twice");
            self.waiting.push((*key, checksum));
        }
        if self.waiting.len() * size >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    /// Writes everything to disk; after an error nothing more can be written.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.sync()
    }

    fn sync(&mut self) -> Result<()> {
        if self.failed || self.waiting.is_empty() {
            return Ok(());
        }
        let synced = self.store.rows.as_ref().map_or(Ok(()), File::sync_data);
        self.check(synced)?;
        let entries: Vec<u8> = self.waiting.iter().flat_map(|(key, checksum)| entry(key, *checksum)).collect();
        let written = self.index.write_all(&entries).and_then(|()| self.index.sync_data());
        self.check(written)?;
        self.waiting.clear();
        Ok(())
    }

    fn check(&mut self, result: io::Result<()>) -> Result<()> {
        self.failed |= result.is_err();
        result.with_context(|| format!("cannot write the cache {}", self.store.folder.display())).hint(
            || "the rows written before stay usable; free some space, or set data.cache_directory to another folder",
        )
    }
}

/// Who appends to the store in a folder, or did so last, as it wrote it: an equal line was written to the same disk.
pub fn holder_line(folder: &Path) -> Vec<u8> {
    bounded_file::read(&folder.join(LOCK), MAX_DESCRIPTION_BYTES).unwrap_or_default()
}

fn check_description(folder: &Path, description: &Description) -> Result<()> {
    let path = folder.join(DESCRIPTION);
    match bounded_file::read(&path, MAX_DESCRIPTION_BYTES) {
        Ok(bytes) => {
            let found: Result<DescriptionFile, _> = serde_json::from_slice(&bytes);
            let fits =
                found.is_ok_and(|found| found.format_version == FORMAT_VERSION && found.description == *description);
            if !fits {
                return Err(failure(
                    format!("{} describes another cache, or is of another version", path.display()),
                    "remove that folder: it is rebuilt from the images",
                ));
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let begun = |path: &Path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name == LOCK || atomic_file::final_name(&name) == Some(DESCRIPTION)
            };
            let found = place::users_own(folder, begun).with_context(|| format!("cannot list {}", folder.display()))?;
            // Another process has just described the same cache.
            if found.as_deref() == Some(path.as_path()) {
                return check_description(folder, description);
            }
            if let Some(entry) = found {
                let message =
                    format!("{} is neither a cache nor empty: it contains {}", folder.display(), entry.display());
                return Err(failure(message, ELSEWHERE));
            }
            let file = DescriptionFile { format_version: FORMAT_VERSION, description: description.clone() };
            let write = || format!("cannot write {}", path.display());
            atomic_file::write(&path, &serde_json::to_vec_pretty(&file)?).with_context(write).hint(|| ELSEWHERE)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

const ELSEWHERE: &str = "set data.cache_directory to a writable folder";

/// A file to read, if it is there. A cache that is complete may lie where nothing can be written.
fn readable(path: &Path) -> Result<Option<File>> {
    match bounded_file::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())).hint(|| ELSEWHERE),
    }
}

#[expect(clippy::disallowed_methods, reason = "opens without truncating")]
fn writable(path: &Path) -> Result<File> {
    place::refuse_link(path).with_context(|| format!("cannot write {}", path.display())).hint(|| ELSEWHERE)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).with_context(|| format!("cannot write {}", path.display())).hint(|| ELSEWHERE)
}

fn entry(key: &Key, checksum: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..32].copy_from_slice(key);
    entry[32..36].copy_from_slice(&checksum.to_le_bytes());
    let both = crc32fast::hash(&entry[..36]);
    entry[36..].copy_from_slice(&both.to_le_bytes());
    entry
}

fn parse_entry(bytes: &[u8]) -> Option<(Key, u32)> {
    let key: Key = bytes.get(..32)?.try_into().ok()?;
    let checksum = u32::from_le_bytes(bytes.get(32..36)?.try_into().ok()?);
    (entry(&key, checksum) == bytes).then_some((key, checksum))
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[count..];
        offset += count as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use base::error::describe;

    fn description() -> Description {
        Description { content: json!({"encoder": "a"}), row_bytes: 3 }
    }

    fn open(folder: &Path) -> FeatureStore {
        FeatureStore::open(folder, &description()).unwrap()
    }

    fn fill(folder: &Path, keys: &[u8]) {
        let mut store = open(folder);
        let mut appender = store.append(|_| true).unwrap().unwrap();
        for &key in keys {
            appender.push(&[[key; 32]], &[key; 3]).unwrap();
        }
        appender.finish().unwrap();
    }

    fn row(store: &FeatureStore, key: u8) -> Result<[u8; 3]> {
        let mut row = [0; 3];
        store.read(store.find(&[key; 32]).context("the row is not there")?, &mut row)?;
        Ok(row)
    }

    #[test]
    fn rows_come_back_by_key_in_another_process() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[7, 3]);
        fill(folder.path(), &[5]);
        let store = open(folder.path());
        assert_eq!(store.entries.len(), 3);
        for key in [3, 5, 7] {
            assert_eq!(row(&store, key).unwrap(), [key; 3]);
        }
        assert!(!store.contains(&[1; 32]) && row(&store, 1).is_err());
    }

    #[test]
    fn a_store_cut_at_any_byte_keeps_the_rows_before_and_continues() {
        let whole = tempfile::tempdir().unwrap();
        fill(whole.path(), &[1, 2, 3]);
        for (file, bytes) in [(INDEX, 3 * ENTRY_BYTES), (ROWS, 9)] {
            for length in 0..bytes {
                let folder = tempfile::tempdir().unwrap();
                for name in [DESCRIPTION, INDEX, ROWS] {
                    fs::copy(whole.path().join(name), folder.path().join(name)).unwrap();
                }
                OpenOptions::new().write(true).open(folder.path().join(file)).unwrap().set_len(length as u64).unwrap();
                let left = length * 3 / bytes;
                assert_eq!(open(folder.path()).entries.len(), left, "{file} cut to {length} bytes");
                let again: Vec<u8> = (left as u8 + 1..=4).collect();
                fill(folder.path(), &again);
                let store = open(folder.path());
                for key in 1..=4 {
                    assert_eq!(row(&store, key).unwrap(), [key; 3], "{file} cut to {length} bytes");
                }
            }
        }
    }

    #[test]
    fn rows_that_never_reached_the_index_are_written_again() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[1]);
        let mut store = open(folder.path());
        store.append(|_| true).unwrap().unwrap().push(&[[2; 32]], &[2; 3]).unwrap();
        assert_eq!(open(folder.path()).entries.len(), 1);
        fill(folder.path(), &[9]);
        assert_eq!(row(&open(folder.path()), 9).unwrap(), [9; 3]);
    }

    #[test]
    fn a_damaged_row_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[1, 2]);
        let path = folder.path().join(ROWS);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = open(folder.path());
        assert_eq!(row(&store, 1).unwrap(), [1; 3]);
        let text = describe(&row(&store, 2).unwrap_err());
        assert!(text.contains("row 1 of the cache") && text.contains("hint: remove that folder"), "{text}");
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[1]);
        for other in [
            Description { content: json!({"encoder": "b"}), row_bytes: 3 },
            Description { content: json!({"encoder": "a"}), row_bytes: 4 },
        ] {
            let text = describe(&FeatureStore::open(folder.path(), &other).unwrap_err());
            assert!(text.contains("describes another cache"), "{text}");
        }
    }

    #[test]
    fn a_second_writer_waits_and_then_sees_the_rows_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        let mut appender = first.append(|_| panic!("no other process writes")).unwrap().unwrap();
        let path = folder.path().to_owned();
        let (locked, waits) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            let mut store = open(&path);
            let wait = |_: &Holder| {
                // Nobody listens any more once the first turn was waited for.
                let _ = locked.send(());
                true
            };
            let appender = store.append(wait).unwrap().unwrap();
            appender.store().contains(&[1; 32])
        });
        waits.recv().unwrap();
        appender.push(&[[1; 32]], &[1; 3]).unwrap();
        assert!(open(folder.path()).append(|_| false).unwrap().is_none(), "a writer that will not wait gives up");
        appender.finish().unwrap();
        assert!(second.join().unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_cache_that_cannot_be_written_can_be_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[1, 2]);
        let set = |mode: u32| {
            for name in [DESCRIPTION, INDEX, ROWS, LOCK, "."] {
                let path = folder.path().join(name);
                fs::set_permissions(path, fs::Permissions::from_mode(if name == "." { mode | 0o111 } else { mode }))
                    .unwrap();
            }
        };
        set(0o444);
        assert_eq!(row(&open(folder.path()), 2).unwrap(), [2; 3]);
        set(0o644);
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        fs::create_dir(folder.path().join(LOCK)).unwrap();
        let text = describe(&open(folder.path()).append(|_| true).err().unwrap());
        assert!(text.contains("cannot write") && text.contains("data.cache_directory"), "{text}");
    }

    #[test]
    fn a_folder_with_files_of_the_users_is_not_a_cache() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ROWS), "mine").unwrap();
        let text = describe(&FeatureStore::open(folder.path(), &description()).unwrap_err());
        assert!(text.contains("is neither a cache nor empty") && text.contains("data.cache_directory"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn rows_that_do_not_fit_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let mut appender = store.append(|_| true).unwrap().unwrap();
        assert!(appender.push(&[[1; 32]], &[1; 4]).is_err());
        appender.push(&[[1; 32]], &[1; 3]).unwrap();
        assert!(appender.push(&[[1; 32]], &[1; 3]).is_err(), "the key is there already");
    }

    #[test]
    fn entries_after_a_key_that_was_there_before_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let entries: Vec<u8> =
            [1, 2, 2, 3].iter().flat_map(|&key| entry(&[key; 32], crc32fast::hash(&[key; 3]))).collect();
        fs::write(folder.path().join(INDEX), entries).unwrap();
        fs::write(folder.path().join(ROWS), [[1; 3], [2; 3], [2; 3], [3; 3]].concat()).unwrap();
        assert!(!open(folder.path()).contains(&[3; 32]));
        fill(folder.path(), &[4, 5]);
        let store = open(folder.path());
        for key in [1, 2, 4, 5] {
            assert_eq!(row(&store, key).unwrap(), [key; 3]);
        }
    }
}
