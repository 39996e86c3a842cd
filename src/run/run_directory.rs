//! The folder of one run: never overwritten, numbered when its name is taken, written by one process at a time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::run::checkpoint_names::{LAST, number_of_best, step_of_file_name};
use crate::tokenizer::CaptionTokenizer;
use crate::training::train_state::TrainState;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::{WithHint as _, failure};
use base::lock::{Attempt, Holder, LOCK_FILE, Lock};
use base::{atomic_file, place, terminal};
use records::record::{Line, Record, step_of};

const CHECKPOINTS: &str = "checkpoints";
const PREDICTIONS: &str = "predictions";
const METRICS: &str = "metrics.jsonl";
/// The table of the validations.
pub(super) const RESULTS: &str = "results.csv";
pub(super) const STATUS: &str = "status.json";
/// Where the lines of `metrics.jsonl` go that a resume from an earlier step replaces.
const SUPERSEDED: &str = "metrics.superseded.jsonl";

const UPLOAD: &str = "upload_";

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Held by the process that trains, as long as any clone is there.
    lock: Option<Arc<Lock>>,
}

/// What came of claiming a run's folder.
#[derive(Debug)]
pub enum Claim {
    /// No other process does: this is the folder with its lock.
    Ours(RunDirectory),
    /// This one does.
    InUse(Holder),
}

impl RunDirectory {
    /// Creates and locks `OUTPUT/NAME`, or `OUTPUT/NAME-2` and so on if that is taken.
    ///
    /// # Errors
    /// A folder that cannot be created or locked.
    pub fn create(output: &Path, name: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(output)
            .with_context(|| format!("cannot create the folder {}", output.display()))
            .hint(|| "set output_dir to a writable folder")?;
        for number in 1.. {
            let path = output.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
            match fs::create_dir(&path) {
                Ok(()) => {
                    let Claim::Ours(run) = Self::at(&path).claim()? else { continue };
                    fs::create_dir(run.checkpoints())
                        .with_context(|| format!("cannot create the folder {}", run.checkpoints().display()))?;
                    return Ok(run);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot create the folder {}", path.display()))
                        .hint(|| "set output_dir to a writable folder");
                }
            }
        }
        unreachable!("the numbers of runs do not end")
    }

    /// The run whose checkpoint this file is, if it is in a run's folder.
    pub fn of_checkpoint(checkpoint: &Path) -> Option<Self> {
        let checkpoint = checkpoint.canonicalize().ok()?;
        let folder = checkpoint.parent()?;
        let run = Self::at(folder.parent()?);
        (folder.file_name()? == CHECKPOINTS && run.path.join("config.resolved.toml").is_file()).then_some(run)
    }

    /// The run in this folder, whether there is one or not.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// Locks the folder, so that only this process trains in it.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn claim(&self) -> anyhow::Result<Claim> {
        let path = self.path.join(LOCK_FILE);
        let attempt = Lock::attempt(&path).with_context(|| format!("cannot write {}", path.display()));
        Ok(match attempt.hint(|| UNWRITABLE)? {
            Attempt::Held(lock) => Claim::Ours(Self { path: self.path.clone(), lock: Some(Arc::new(lock)) }),
            Attempt::Taken(holder) => Claim::InUse(holder),
        })
    }

    /// Checks that no other process has taken over the folder, which can happen on file systems without reliable locks.
    ///
    /// # Errors
    /// Another process is at work there.
    pub fn check_owned(&self) -> anyhow::Result<()> {
        match self.lock.as_ref().and_then(|lock| lock.lost_to()) {
            Some(holder) => Err(failure(
                format!("the run in {} was taken over by another process: {holder}", self.path.display()),
                "let that process continue, or end it and resume the run; this one writes nothing more there",
            )),
            None => Ok(()),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The file of the newest checkpoint.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.checkpoints().join(LAST)
    }

    /// One object for each logged update and validation.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// How the run ended.
    pub fn status(&self) -> PathBuf {
        self.path.join(STATUS)
    }

    /// Folder of the tokenizer.
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer")
    }

    /// Writes a file of the run.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        }
        write_file(&path, text.as_bytes())
    }

    /// Where captions of splits and their scores go.
    pub fn predictions(&self) -> PathBuf {
        self.path.join(PREDICTIONS)
    }

    /// Appends a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append_metrics(&self, record: &Record) -> anyhow::Result<()> {
        let path = self.metrics();
        let mut file = place::open_to_append(&path)
            .with_context(|| format!("cannot open {}", path.display()))
            .hint(|| UNWRITABLE)?;
        let line = record.to_line()?;
        // A line that a kill cut off stays a line of its own.
        let is_cut = bounded_file::read(&path, MAX_CAPTIONS_BYTES)
            .is_ok_and(|bytes| bytes.last().is_some_and(|&byte| byte != b'\n'));
        let start = if is_cut { "\n" } else { "" };
        io::Write::write_all(&mut file, format!("{start}{line}").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
            .hint(|| UNWRITABLE)
    }

    /// Removes the files that an earlier process left unfinished, and no file of the user's.
    pub fn remove_unfinished(&self) {
        let folders = [self.path.clone(), self.checkpoints(), self.tokenizer(), self.predictions()];
        let folders = folders.iter().filter(|folder| !folder.is_symlink());
        for path in folders.flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours = is_upload(&name) || atomic_file::final_name(&name).is_some_and(is_written_by_a_run);
            if is_ours && let Err(error) = fs::remove_file(&path) {
                terminal::warning(&format!("cannot remove the unfinished {}: {error}", path.display()));
            }
        }
    }

    /// Opens `train.log` for appending.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open_log(&self) -> anyhow::Result<File> {
        let path = self.path.join("train.log");
        let file = place::open_to_append(&path);
        file.with_context(|| format!("cannot open {}", path.display())).hint(|| UNWRITABLE)
    }

    /// The records of `metrics.jsonl`, without unreadable lines; empty without a file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn records(&self) -> anyhow::Result<Vec<Record>> {
        let bytes = self.read_metrics()?;
        let record = |line: &[u8]| match Line::parse(line) {
            Ok(Line::Record(record)) => Some(record),
            Ok(Line::Unknown { .. }) | Err(_) => None,
        };
        Ok(bytes.split(|&byte| byte == b'\n').filter_map(record).collect())
    }

    /// Bytes: a line that was cut off may end inside of a character.
    fn read_metrics(&self) -> anyhow::Result<Vec<u8>> {
        let path = self.metrics();
        match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Moves the lines of `metrics.jsonl` that a run resumed from `state` writes again to a file of their own.
    ///
    /// # Errors
    /// What reading or writing gives.
    pub fn rewind_metrics(&self, state: &TrainState) -> anyhow::Result<()> {
        let bytes = self.read_metrics()?;
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let (kept, replaced): (Vec<&[u8]>, Vec<&[u8]>) = lines.partition(|line| is_covered(line, state));
        if replaced.is_empty() {
            return Ok(());
        }
        let superseded = self.path.join(SUPERSEDED);
        let mut log = place::open_to_append(&superseded)
            .with_context(|| format!("cannot open {}", superseded.display()))
            .hint(|| UNWRITABLE)?;
        io::Write::write_all(&mut log, &whole_lines(&replaced))
            .with_context(|| format!("cannot write {}", superseded.display()))
            .hint(|| UNWRITABLE)?;
        write_file(&self.metrics(), &whole_lines(&kept))
    }
}

/// The name under which a checkpoint waits for its upload, the `number`th of a process.
pub fn upload_name(number: u64, checkpoint: &str) -> String {
    format!("{UPLOAD}{number}_{checkpoint}{}", atomic_file::TEMPORARY_SUFFIX)
}

fn is_upload(name: &str) -> bool {
    let rest = name.strip_prefix(UPLOAD).and_then(|rest| rest.strip_suffix(atomic_file::TEMPORARY_SUFFIX));
    let checkpoint = rest.and_then(|rest| rest.split_once('_')).filter(|(number, _)| number.parse::<u64>().is_ok());
    checkpoint.is_some_and(|(_, checkpoint)| is_checkpoint(checkpoint))
}

fn is_checkpoint(name: &str) -> bool {
    name == LAST || number_of_best(name).is_some() || step_of_file_name(name).is_some()
}

/// Whether a run writes a file of this name, in its folder or in one of those in it.
fn is_written_by_a_run(name: &str) -> bool {
    let split = name.strip_suffix(".json").map(|split| split.strip_suffix(".scores").unwrap_or(split));
    matches!(name, "config.toml" | "config.resolved.toml" | "environment.json" | "wandb.json" | "report.html")
        || matches!(name, METRICS | RESULTS | STATUS)
        || CaptionTokenizer::is_file(name)
        || split.is_some_and(|split| matches!(split, "train" | "val" | "test"))
        || is_checkpoint(name)
}

/// What to do when nothing can be written in a run's folder.
pub const UNWRITABLE: &str = "free some disk space and make the run's folder writable, or set output_dir elsewhere";

/// The lines, the last one ended too.
fn whole_lines(lines: &[&[u8]]) -> Vec<u8> {
    let mut bytes = lines.concat();
    if bytes.last().is_some_and(|&byte| byte != b'\n') {
        bytes.push(b'\n');
    }
    bytes
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    atomic_file::write(path, bytes).with_context(|| format!("cannot write {}", path.display())).hint(|| UNWRITABLE)
}

/// Whether the state includes what a line of the metrics reports. A truncated line reports nothing.
fn is_covered(line: &[u8], state: &TrainState) -> bool {
    let is_done = |step: Option<u64>| step.is_some_and(|step| step <= state.global_step);
    match Line::parse(line) {
        Ok(Line::Record(Record::Validation(record))) => match (state.validated_update, record.step) {
            (Some(validated), Some(step)) => step <= validated,
            // That before the first update belongs to no epoch.
            _ => (1..=state.validated_epoch).contains(&record.epoch),
        },
        Ok(Line::Record(Record::Epoch(record))) => record.epoch <= state.epoch,
        Ok(Line::Record(record)) => is_done(record.step()),
        Ok(Line::Unknown { step }) => is_done(step),
        Err(_) => is_done(step_of(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;
    use records::record::StepRecord;

    #[test]
    fn a_taken_name_gets_a_number_and_nothing_is_overwritten() {
        let output = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| RunDirectory::create(output.path(), "run").unwrap().path().file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["run", "run-2", "run-3"]);
    }

    #[test]
    fn a_folder_is_in_use_as_long_as_anything_of_its_process_may_write_there() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        let (again, clone) = (RunDirectory::at(run.path()), run.clone());
        run.check_owned().unwrap();
        drop(run);
        assert!(matches!(again.claim().unwrap(), Claim::InUse(holder) if holder.to_string().starts_with("process ")));
        drop(clone);
        assert!(matches!(again.claim().unwrap(), Claim::Ours(_)));
    }

    #[test]
    fn a_folder_that_another_process_took_over_is_an_error() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        fs::write(run.path().join(LOCK_FILE), "process 7 on elsewhere, since then\n").unwrap();
        let text = describe(&run.check_owned().unwrap_err());
        assert!(
            text.contains("taken over by another process: process 7 on elsewhere") && text.contains("hint: "),
            "{text}"
        );
    }

    #[test]
    fn unfinished_files_of_a_run_are_removed_and_those_of_the_user_are_not() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        fs::create_dir(run.predictions()).unwrap();
        let ours = [
            "config.resolved.toml.7.partial",
            "results.csv.7.partial",
            "status.json.7.partial",
            "upload_1_last.safetensors.partial",
            "checkpoints/last.safetensors.70001.partial",
            "predictions/val.scores.json.7.partial",
        ];
        let own = [
            "thesis.2024.partial",
            "upload_list.partial",
            "upload_1_thesis.partial",
            "checkpoints/last.safetensors.partial",
            "checkpoints/checkpoint_epoch_1_val_loss_1-backup.safetensors.7.partial",
            "predictions/draft.7.partial",
        ];
        for name in ours.iter().chain(&own) {
            fs::write(run.path().join(name), "x").unwrap();
        }
        run.remove_unfinished();
        assert_eq!(ours.map(|name| run.path().join(name).exists()), [false; 6]);
        assert_eq!(own.map(|name| run.path().join(name).exists()), [true; 6]);
    }

    #[cfg(unix)]
    #[test]
    fn logs_are_not_written_through_links() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        let own = output.path().join("own");
        fs::write(&own, "mine").unwrap();
        for name in ["train.log", METRICS] {
            std::os::unix::fs::symlink(&own, run.path().join(name)).unwrap();
        }
        assert!(run.open_log().is_err() && run.append_metrics(&step(1)).is_err());
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    }

    fn step(step: u64) -> Record {
        Record::Step(StepRecord { step, ..StepRecord::default() })
    }

    #[test]
    fn a_line_after_one_that_was_cut_off_is_a_line_of_its_own() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        fs::write(run.metrics(), "{\"kind\":\"step\",\"step\":1}\n{\"st").unwrap();
        for number in [2, 3] {
            run.append_metrics(&step(number)).unwrap();
        }
        let text = fs::read_to_string(run.metrics()).unwrap();
        assert_eq!(text.lines().nth(1), Some("{\"st"), "{text}");
        assert_eq!(run.records().unwrap(), [1, 2, 3].map(step));
    }

    #[test]
    fn metrics_after_the_checkpoint_are_moved_and_not_lost() {
        let output = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(output.path(), "run").unwrap();
        run.rewind_metrics(&TrainState::default()).unwrap();
        let kept = "{\"kind\":\"step\",\"step\":1}\n{\"kind\":\"weather\",\"step\":2}\n{\"step\":2,\"kind\":\"epoch\",\"epoch\":1}\n";
        let replaced = b"{\"step\":2,\"kind\":\"validation\",\"epoch\":1}\n{\"kind\":\"step\",\"step\":3}\n\
            {\"kind\":\"weather\",\"step\":3}\n{\"alarms\":[\"\xe7\x8a";
        fs::write(run.metrics(), [kept.as_bytes(), replaced].concat()).unwrap();
        run.rewind_metrics(&TrainState { epoch: 1, global_step: 2, ..TrainState::default() }).unwrap();
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), kept);
        assert_eq!(fs::read(run.path().join(SUPERSEDED)).unwrap(), [replaced.as_slice(), b"\n"].concat());
    }
}
