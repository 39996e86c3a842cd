//! Reads a run's log and turns it into the requests that the server still lacks.
//!
//! The log is the queue: nothing that the run logs waits in memory, however long the server is unreachable. The log of
//! a resumed run is read from its start; what the server has is skipped.

use std::collections::BTreeSet;
use std::io;

use base::clock;
use serde_json::{Value, json};

use crate::history::{HistoryTail, Item, Tree};
use crate::local_run::Before;
use crate::log_file::LogReader;
use crate::records::Part;

/// Text can double in size when it is escaped; the server accepts 10 MiB.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// What the server has of a run.
#[derive(Debug, Default)]
pub(crate) struct AtServer {
    pub(crate) offsets: Offsets,
    pub(crate) tail: HistoryTail,
}

/// Lines of each stream that the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) history: u64,
    pub(crate) events: u64,
    pub(crate) lines: u64,
}

impl Offsets {
    /// The offsets after a batch.
    pub(crate) fn after(self, batch: &Batch) -> Self {
        Self {
            history: self.history + batch.history.len() as u64,
            events: self.events + batch.events.len() as u64,
            lines: self.lines + batch.lines.len() as u64,
        }
    }
}

/// What one request sends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) history: Vec<String>,
    pub(crate) events: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) summary: Option<String>,
    pub(crate) files: Vec<String>,
    /// The exit code of a finished run.
    pub(crate) exit: Option<i32>,
    /// The log holds more.
    pub(crate) is_full: bool,
    bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        let streams = [&self.history, &self.events, &self.lines];
        streams.iter().all(|lines| lines.is_empty()) && self.summary.is_none() && self.exit.is_none()
    }

    /// The body of the request; `uploaded` names uploaded files.
    pub(crate) fn body(&self, offsets: Offsets, uploaded: &[String]) -> Vec<u8> {
        let streams = [
            ("wandb-history.jsonl", offsets.history, &self.history),
            ("wandb-events.jsonl", offsets.events, &self.events),
            ("output.log", offsets.lines, &self.lines),
        ];
        let mut files = serde_json::Map::new();
        for (name, offset, lines) in streams {
            if !lines.is_empty() {
                files.insert(name.to_owned(), json!({ "offset": offset, "content": lines }));
            }
        }
        if let Some(summary) = &self.summary {
            files.insert("wandb-summary.json".to_owned(), json!({ "offset": 0, "content": [summary] }));
        }
        let mut body = json!({});
        if !files.is_empty() {
            body["files"] = Value::Object(files);
        }
        if !uploaded.is_empty() {
            body["uploaded"] = json!(uploaded);
        }
        if let Some(code) = self.exit {
            body["complete"] = json!(true);
            body["exitcode"] = json!(code);
        }
        body.to_string().into_bytes()
    }
}

/// Reads a log after its writer.
pub(crate) struct Follower {
    reader: LogReader,
    /// A part that did not fit in the last batch.
    held: Option<Part>,
    at_server: HistoryTail,
    skip_lines: u64,
    skip_events: u64,
    /// Events of earlier sessions that have not been read yet.
    earlier_events: u64,
    started: (f64, f64),
    summary: Tree,
    uploaded: BTreeSet<String>,
}

impl Follower {
    /// Reads from the start. `before` is what the log held when this session started, `started` is when the run would
    /// have started had it never been interrupted, `uploaded` names the files that the server has.
    pub(crate) fn new(reader: LogReader, before: &Before, started: f64, uploaded: BTreeSet<String>) -> Self {
        Self {
            reader,
            held: None,
            at_server: HistoryTail::default(),
            skip_lines: before.lines,
            skip_events: before.events,
            earlier_events: before.events,
            started: (before.started.unwrap_or(started), started),
            summary: Tree::default(),
            uploaded,
        }
    }

    /// The server does not know the run: what another server had is uploaded again.
    pub(crate) fn forget_uploads(&mut self) {
        self.uploaded.clear();
    }

    /// Skips what the server has. That never includes lines of this session: the log may be new while the run is old.
    pub(crate) fn leave_out(&mut self, at_server: &AtServer) {
        self.at_server = at_server.tail.clone();
        self.skip_lines = self.skip_lines.min(at_server.offsets.lines);
        self.skip_events = self.skip_events.min(at_server.offsets.events);
    }

    /// The next part of the log, up to `limit`.
    pub(crate) fn next_batch(&mut self, limit: u64) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut summary_changed = false;
        while batch.exit.is_none() {
            let part = match self.held.take() {
                Some(part) => Some(part),
                None => match self.reader.next(limit)? {
                    Some(record) => Part::decode(&record),
                    None => break,
                },
            };
            let Some(part) = part else { continue };
            if batch.bytes > 0 && batch.bytes + size(&part) > MAX_BATCH_BYTES {
                self.held = Some(part);
                batch.is_full = true;
                break;
            }
            batch.bytes += size(&part);
            summary_changed |= matches!(part, Part::Summary(_));
            self.add(part, &mut batch);
        }
        if summary_changed {
            batch.summary = Some(self.summary.to_json());
        }
        Ok(batch)
    }

    fn add(&mut self, part: Part, batch: &mut Batch) {
        match part {
            Part::History { step, items } => {
                let items = self.at_server.new_of(step, items);
                if !items.is_empty() {
                    batch.history.push(Tree::of(&items).to_json());
                }
            }
            Part::Summary(items) => items.iter().for_each(|item| self.summary.set(item)),
            Part::Stats { time, items } => {
                let started = if self.earlier_events > 0 { self.started.0 } else { self.started.1 };
                self.earlier_events = self.earlier_events.saturating_sub(1);
                if self.skip_events > 0 {
                    self.skip_events -= 1;
                } else {
                    batch.events.push(event(time, started, items));
                }
            }
            Part::Line { time, text } => {
                if self.skip_lines > 0 {
                    self.skip_lines -= 1;
                } else {
                    batch.lines.push(format!("{} {text}", clock::iso_microseconds(time)));
                }
            }
            Part::Files(names) => {
                batch.files.extend(names.into_iter().filter(|name| self.uploaded.insert(name.clone())))
            }
            Part::Exit { code, .. } => batch.exit = Some(code),
            Part::Header(_) | Part::Run(_) | Part::Environment(_) | Part::Telemetry(_) | Part::Config(_) => {}
        }
    }
}

/// A measurement as a line: the server draws keys that begin with `system.`.
fn event(time: f64, started: f64, items: Vec<Item>) -> String {
    let named = |item: Item| Item { path: vec![format!("system.{}", item.path.join("."))], json: item.json };
    let about = [("_timestamp", json!(time)), ("_runtime", json!((time - started).max(0.0))), ("_wandb", json!(true))];
    let about = about.iter().map(|(key, value)| Item::new(key, value));
    Tree::of(&items.into_iter().map(named).chain(about).collect::<Vec<_>>()).to_json()
}

fn size(part: &Part) -> usize {
    let item_size = |item: &Item| item.json.len() + item.path.iter().map(String::len).sum::<usize>() + 8;
    match part {
        Part::History { items, .. } | Part::Stats { items, .. } => items.iter().map(item_size).sum::<usize>() + 64,
        // A control character takes six bytes as `\u001b`.
        Part::Line { text, .. } => text.bytes().map(|byte| if byte < 0x20 { 3 } else { 1 }).sum::<usize>() + 32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::history::items;
    use crate::log_file::LogWriter;

    fn log(path: &Path, parts: &[Part]) -> u64 {
        let mut writer = LogWriter::create(path).unwrap();
        for (index, part) in parts.iter().enumerate() {
            writer.append(&part.encode(index as u64 + 1)).unwrap();
        }
        writer.position()
    }

    fn history(step: u64, name: &str) -> Part {
        let row = json!({"_step": step, name: 1});
        Part::History { step, items: items(row.as_object().unwrap()) }
    }

    fn line(text: &str) -> Part {
        Part::Line { time: 1.0, text: text.to_owned() }
    }

    fn follow(path: &Path, before: &Before) -> Follower {
        Follower::new(LogReader::open(path).unwrap(), before, 10.0, BTreeSet::new())
    }

    #[test]
    fn a_log_becomes_the_streams_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let cpu = vec![Item::new("cpu", &json!(50))];
        let end = log(
            &path,
            &[
                history(0, "loss"),
                Part::Summary(vec![Item::new("loss", &json!(1))]),
                Part::Stats { time: 12.5, items: cpu },
                line("hello"),
                Part::Files(vec!["a.png".to_owned()]),
                Part::Files(vec!["a.png".to_owned()]),
                Part::Exit { code: 3, seconds: 1 },
            ],
        );
        let batch = follow(&path, &Before::default()).next_batch(end).unwrap();
        assert_eq!(batch.files, ["a.png"]);
        let body: Value = serde_json::from_slice(&batch.body(Offsets::default(), &["b".to_owned()])).unwrap();
        let event = r#"{"_runtime":2.5,"_timestamp":12.5,"_wandb":true,"system.cpu":50}"#;
        let expected = json!({
            "files": {
                "wandb-history.jsonl": {"offset": 0, "content": [r#"{"_step":0,"loss":1}"#]},
                "wandb-events.jsonl": {"offset": 0, "content": [event]},
                "output.log": {"offset": 0, "content": ["1970-01-01T00:00:01.000000 hello"]},
                "wandb-summary.json": {"offset": 0, "content": [r#"{"loss":1}"#]},
            },
            "uploaded": ["b"],
            "complete": true,
            "exitcode": 3,
        });
        assert_eq!(body, expected);
        assert_eq!(Offsets::default().after(&batch), Offsets { history: 1, events: 1, lines: 1 });
        assert_eq!(Batch::default().body(Offsets::default(), &[]), b"{}");
    }

    #[test]
    fn what_the_server_has_is_left_out_and_what_it_lacks_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let parts =
            [history(1, "a"), history(2, "a"), history(2, "b"), history(3, "a"), line("1"), line("2"), line("3")];
        let end = log(&path, &parts);
        let mut tail = HistoryTail::default();
        tail.add(2, ["a"]);
        let at_server = AtServer { offsets: Offsets { history: 2, events: 5, lines: 1 }, tail };
        // The last line belongs to the session that starts.
        let mut follower = follow(&path, &Before { lines: 2, ..Before::default() });
        follower.leave_out(&at_server);
        let batch = follower.next_batch(end).unwrap();
        assert_eq!(batch.history, [r#"{"_step":2,"b":1}"#, r#"{"_step":3,"a":1}"#]);
        assert_eq!(batch.lines.len(), 2);

        let mut follower = follow(&path, &Before::default());
        follower.leave_out(&AtServer {
            offsets: Offsets { lines: 9, ..Offsets::default() },
            tail: HistoryTail::through(2),
        });
        let batch = follower.next_batch(end).unwrap();
        assert_eq!((batch.history.len(), batch.lines.len()), (1, 3), "a new log of an old run");
    }

    #[test]
    fn a_long_log_is_sent_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = "x".repeat(MAX_BATCH_BYTES / 2);
        let end = log(&path, &[line(&long), line(&long), line(&long), line("end")]);
        let mut follower = follow(&path, &Before::default());
        let mut counts = Vec::new();
        loop {
            let batch = follower.next_batch(end).unwrap();
            counts.push(batch.lines.len());
            assert!(batch.body(Offsets::default(), &[]).len() < 10 << 20);
            if !batch.is_full {
                break;
            }
        }
        assert_eq!(counts, [1, 1, 2]);
        assert!(follower.next_batch(end).unwrap().is_empty());
    }
}
