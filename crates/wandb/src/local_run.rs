//! A run's folder: the log that `wandb sync` sends, its other files, and what they hold when the run resumes.
//!
//! `wandb/offline-run-DATE_TIME-ID/` (`run-...` when online) has `run-ID.wandb`, `files/` and `logs/`, as with the
//! official client. The log is written first, and what is sent is read from it. A resumed run continues in its folder;
//! the official client makes a new one, whose log is not the whole run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::history::{HistoryTail, Tree};
use crate::log_file::{LogReader, LogWriter};
use crate::records::{self, Part};
use crate::settings::Mode;
use base::atomic_file;
use base::clock;
use base::digest::Hasher;
use base::error::WithHint as _;
use base::place;

const UNWRITABLE: &str =
    "check free space and permissions; WANDB_DIR selects another folder, WANDB_MODE=disabled turns logging off";
/// Characters of the hash in the name of an image, as in the official client.
const NAME_HASH_CHARACTERS: usize = 20;

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Before {
    pub(crate) tail: HistoryTail,
    pub(crate) summary: Tree,
    /// Number of console lines.
    pub(crate) lines: u64,
    /// Number of measurements of the machine.
    pub(crate) events: u64,
    /// How long the run had run, in seconds.
    pub(crate) seconds: f64,
    /// In seconds since 1970.
    pub(crate) started: Option<f64>,
}

pub(crate) struct LocalRun {
    folder: PathBuf,
    log_path: PathBuf,
    log: LogWriter,
    num_records: u64,
    console: File,
}

impl LocalRun {
    /// Creates the folder of a new run below `dir`.
    pub(crate) fn create(dir: &Path, id: &str, mode: Mode, now: f64) -> anyhow::Result<Self> {
        let prefix = if mode == Mode::Online { "run" } else { "offline-run" };
        let folder = dir.join("wandb").join(format!("{prefix}-{}-{id}", clock::compact(now)));
        let made = || -> io::Result<Self> {
            fs::create_dir_all(folder.join("files"))?;
            fs::create_dir_all(folder.join("logs"))?;
            let log_path = log_path(&folder, id);
            let log = LogWriter::create(&log_path)?;
            Ok(Self { console: console(&folder)?, folder: folder.clone(), log_path, log, num_records: 0 })
        };
        let mut run = made().with_context(|| format!("cannot create {}", folder.display())).hint(|| UNWRITABLE)?;
        run.write(&records::header())?;
        Ok(run)
    }

    /// Reopens the newest folder of the run below `dir`; `None` if there is none. A record that a crash left incomplete
    /// is cut off, as is the end of the run.
    pub(crate) fn reopen(dir: &Path, id: &str) -> anyhow::Result<Option<(Self, Before)>> {
        let Some(folder) = newest_folder(&dir.join("wandb"), id) else { return Ok(None) };
        let log_path = log_path(&folder, id);
        let opened = || -> io::Result<(Self, Before)> {
            let (before, end, num_records) = scan(&log_path)?;
            fs::create_dir_all(folder.join("files"))?;
            fs::create_dir_all(folder.join("logs"))?;
            let log = LogWriter::reopen(&log_path, end)?;
            let console = console(&folder)?;
            Ok((Self { folder: folder.clone(), log_path: log_path.clone(), log, num_records, console }, before))
        };
        let opened = opened().with_context(|| format!("cannot continue {}", log_path.display()));
        let (mut run, before) = opened.hint(|| UNWRITABLE)?;
        if run.num_records == 0 {
            run.write(&records::header())?;
        }
        Ok(Some((run, before)))
    }

    pub(crate) fn write(&mut self, part: &Part) -> anyhow::Result<()> {
        let written = self.log.append(&part.encode(self.num_records + 1));
        written.with_context(|| format!("cannot write {}", self.log_path.display())).hint(|| UNWRITABLE)?;
        self.num_records += 1;
        Ok(())
    }

    /// Adds a console line to the log and to `files/output.log`.
    pub(crate) fn write_line(&mut self, time: f64, line: &str) -> anyhow::Result<()> {
        self.write(&Part::Line { time, text: line.to_owned() })?;
        let written = self.console.write_all(format!("{line}\n").as_bytes());
        written.with_context(|| format!("cannot write {}/output.log", self.files().display())).hint(|| UNWRITABLE)
    }

    /// Writes a file into `files/`. It is not synced: that would delay the training for each image.
    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.files().join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| atomic_file::write_one_of_many(&path, content));
        written.with_context(|| format!("cannot write {}", path.display())).hint(|| UNWRITABLE)
    }

    /// Writes a PNG into `files/` and returns its name there.
    pub(crate) fn write_image(&mut self, key: &str, step: u64, png: &[u8]) -> anyhow::Result<String> {
        let mut hasher = Hasher::new();
        hasher.update(png);
        let hash = hasher.finish();
        let name = format!("media/images/{}_{step}_{}.png", path_of(key), &hash[..NAME_HASH_CHARACTERS]);
        self.write_file(&name, png)?;
        self.write(&Part::Files(vec![name.clone()]))?;
        Ok(name)
    }

    /// Waits until the log is on disk.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        self.log.sync().with_context(|| format!("cannot write {}", self.log_path.display())).hint(|| UNWRITABLE)
    }

    /// The length of the log in bytes.
    pub(crate) fn position(&self) -> u64 {
        self.log.position()
    }

    pub(crate) fn num_records(&self) -> u64 {
        self.num_records
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    fn files(&self) -> PathBuf {
        self.folder.join("files")
    }
}

fn log_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("run-{id}.wandb"))
}

fn console(folder: &Path) -> io::Result<File> {
    place::open_to_append(&folder.join("files").join("output.log"))
}

/// The folder of the run with the latest date in its name.
fn newest_folder(wandb: &Path, id: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(wandb).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let dated = folders.filter_map(|folder| {
        let name = folder.file_name()?.to_str()?.to_owned();
        let date = name.strip_prefix("offline-").unwrap_or(&name).strip_prefix("run-")?.strip_suffix(id)?;
        // Another run's id may end in this one.
        let date = date.strip_suffix('-').filter(|date| date.len() == "20261128_112550".len())?.to_owned();
        log_path(&folder, id).is_file().then_some((date, folder))
    });
    dated.max().map(|(_, folder)| folder)
}

/// What a log holds, where its last record ends, and the number of records; without the end of the run.
fn scan(path: &Path) -> io::Result<(Before, u64, u64)> {
    let mut reader = LogReader::open(path)?;
    let mut before = Before::default();
    let mut num_records = 0;
    let mut end = reader.position();
    while let Some(record) = reader.next(u64::MAX)? {
        match Part::decode(&record) {
            Some(Part::History { step, items }) => {
                before.tail.add(step, items.iter().filter_map(|item| item.path.first()).map(String::as_str));
                let seconds =
                    items.iter().find(|item| item.path == ["_runtime"]).and_then(|item| item.json.parse().ok());
                before.seconds = before.seconds.max(seconds.unwrap_or(0.0));
            }
            Some(Part::Summary(items)) => items.iter().for_each(|item| before.summary.set(item)),
            Some(Part::Line { .. }) => before.lines += 1,
            Some(Part::Stats { .. }) => before.events += 1,
            // The run continues, and the official client reads nothing after an end.
            Some(Part::Exit { seconds, .. }) => {
                before.seconds = before.seconds.max(seconds as f64);
                return Ok((before, end, num_records));
            }
            _ if before.started.is_none() => before.started = records::started(&record),
            _ => {}
        }
        num_records += 1;
        end = reader.position();
    }
    Ok((before, end, num_records))
}

/// A metric's name as part of a path: its slashes become folders, and the path stays inside the folder.
fn path_of(key: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.= ".contains(c);
    let part = |part: &str| -> String {
        let part: String = part.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        if part.trim_matches(['.', ' ']).is_empty() { "_".to_owned() } else { part }
    };
    key.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::{Item, items};

    fn history(step: u64) -> Part {
        let row = json!({"_step": step, "_runtime": step as f64 / 2.0, "loss": 1.0});
        Part::History { step, items: items(row.as_object().unwrap()) }
    }

    #[test]
    fn a_run_continues_where_its_log_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut run = LocalRun::create(dir.path(), "abc", Mode::Offline, 1.8e9).unwrap();
        assert!(run.folder().ends_with("wandb/offline-run-20270115_080000-abc"), "{:?}", run.folder());
        run.write(&history(0)).unwrap();
        run.write(&history(130)).unwrap();
        run.write_line(1.8e9, "hello").unwrap();
        run.write(&Part::Stats { time: 1.8e9, items: Vec::new() }).unwrap();
        run.write(&Part::Summary(vec![Item::new("loss", &json!(1.0))])).unwrap();
        let end = run.position();
        run.write(&Part::Exit { code: 1, seconds: 99 }).unwrap();
        let mut bytes = fs::read(run.log_path()).unwrap();
        bytes.extend_from_slice(&[1, 2, 3]);
        fs::write(run.log_path(), bytes).unwrap();

        let (again, before) = LocalRun::reopen(dir.path(), "abc").unwrap().unwrap();
        assert_eq!((again.position(), again.num_records(), again.folder()), (end, 6, run.folder()));
        assert_eq!((before.tail.step(), before.lines, before.events, before.seconds), (Some(130), 1, 1, 99.0));
        assert!(!before.tail.is_new(130, "loss") && before.tail.is_new(130, "val/loss"));
        assert_eq!(before.summary.to_json(), r#"{"loss":1.0}"#);
        assert_eq!(fs::metadata(again.log_path()).unwrap().len(), end);
        assert_eq!(fs::read_to_string(run.folder().join("files/output.log")).unwrap(), "hello\n");
    }

    #[test]
    fn the_newest_folder_of_the_run_is_taken_and_no_other_runs() {
        let dir = tempfile::tempdir().unwrap();
        LocalRun::create(dir.path(), "abc", Mode::Online, 1.8e9).unwrap();
        let newest = LocalRun::create(dir.path(), "abc", Mode::Offline, 1.8e9 + 100.0).unwrap();
        LocalRun::create(dir.path(), "x-abc", Mode::Offline, 1.8e9 + 200.0).unwrap();
        let (found, _) = LocalRun::reopen(dir.path(), "abc").unwrap().unwrap();
        assert_eq!(found.folder(), newest.folder());
        assert!(LocalRun::reopen(dir.path(), "bc").unwrap().is_none());
        assert!(LocalRun::create(dir.path(), "abc", Mode::Online, 1.8e9).is_err());
    }

    #[test]
    fn a_log_that_holds_nothing_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let run = LocalRun::create(dir.path(), "abc", Mode::Offline, 1.8e9).unwrap();
        for content in [&b""[..], b":W&", b"no log"] {
            fs::write(run.log_path(), content).unwrap();
            let (again, before) = LocalRun::reopen(dir.path(), "abc").unwrap().unwrap();
            assert_eq!((again.num_records(), before.tail.step()), (1, None));
        }
    }

    #[test]
    fn pictures_stay_in_their_folder() {
        assert_eq!(path_of("val/samples"), "val/samples");
        assert_eq!(path_of("../../etc/a:b*"), "_/_/etc/a_b_");
        assert_eq!(path_of("/a//"), "_/a/_/_");
        let dir = tempfile::tempdir().unwrap();
        let mut run = LocalRun::create(dir.path(), "abc", Mode::Offline, 1.8e9).unwrap();
        let name = run.write_image("val/samples", 7, b"png").unwrap();
        assert_eq!(name.len(), "media/images/val/samples_7_.png".len() + 20);
        assert_eq!(fs::read(run.folder().join("files").join(&name)).unwrap(), b"png");
        assert_eq!(run.write_image("val/samples", 7, b"png").unwrap(), name);
    }
}
