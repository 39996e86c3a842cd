//! `results.csv`: a row for each validation, as spreadsheets like it. It holds nothing that `metrics.jsonl` does not, and
//! is written anew from those lines when a run goes on.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::run::run_directory::{RunDirectory, UNWRITABLE};
use crate::run::tracking::records::{self, lines};
use crate::training::events::{Event, Observer};
use base::atomic_file;
use base::fault::WithHint as _;
use metrics::score::SCORE_NAMES;

const FILE: &str = "results.csv";
const BEFORE_SCORES: [&str; 5] = ["epoch", "step", "learning_rate", "train_loss", "val_loss"];
const BEHIND_SCORES: [&str; 3] = ["train_seconds", "val_seconds", "best"];

/// The observer.
pub struct ResultsTable {
    path: PathBuf,
    rows: Vec<Vec<String>>,
    learning_rate: Value,
    epoch: Value,
}

impl ResultsTable {
    /// Goes on from the lines that `metrics.jsonl` has.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(run: &RunDirectory) -> anyhow::Result<Self> {
        let path = run.path().join(FILE);
        let mut table = Self { path, rows: Vec::new(), learning_rate: Value::Null, epoch: Value::Null };
        for line in lines(&run.metrics())? {
            table.add(&line);
        }
        Ok(table)
    }

    /// Takes a line of `metrics.jsonl`; says whether it made a row.
    fn add(&mut self, line: &Value) -> bool {
        match line["kind"].as_str() {
            Some("step") => self.learning_rate = line["learning_rate"].clone(),
            Some("epoch") => self.epoch = line.clone(),
            Some("validation") => {
                self.rows.push(self.row(line));
                return true;
            }
            _ => {}
        }
        false
    }

    fn row(&self, line: &Value) -> Vec<String> {
        let own = |key: &str| match key {
            "learning_rate" => text(&self.learning_rate),
            "train_loss" | "train_seconds" if self.epoch["epoch"] == line["epoch"] => text(&self.epoch[key]),
            "train_loss" | "train_seconds" => String::new(),
            _ => text(&line[key]),
        };
        let scores = SCORE_NAMES.iter().map(|name| text(&line["scores"][name]));
        BEFORE_SCORES.map(own).into_iter().chain(scores).chain(BEHIND_SCORES.map(own)).collect()
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = BEFORE_SCORES.into_iter().chain(SCORE_NAMES).chain(BEHIND_SCORES);
        writer.write_record(header).context("cannot write a row")?;
        for row in &self.rows {
            writer.write_record(row).context("cannot write a row")?;
        }
        let bytes = writer.into_inner().context("cannot write a row")?;
        atomic_file::write(&self.path, &bytes)
            .with_context(|| format!("cannot write {}", self.path.display()))
            .hint(|| UNWRITABLE)
    }
}

/// A number as it is written in JSON; nothing for nothing.
fn text(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

impl Observer for ResultsTable {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match records::of_event(event) {
            Some(line) if self.add(&line) => self.write(),
            Some(_) => Ok(()),
            // A run that goes on from an earlier save point has lost rows.
            None if matches!(event, Event::Started { .. }) && (self.path.exists() || !self.rows.is_empty()) => {
                self.write()
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn validation(epoch: u64) -> Value {
        json!({"kind": "validation", "epoch": epoch, "step": 10 * epoch, "val_loss": 2.5, "best": true, "val_seconds": 1.5})
    }

    #[test]
    fn each_validation_is_a_row_and_what_was_not_measured_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let scored = json!({"kind": "validation", "epoch": 2, "step": 20, "val_loss": 2.25, "best": false,
            "val_seconds": 2.0, "scores": {"Bleu_1": 0.5, "CIDEr": 1.25}});
        for line in [
            json!({"kind": "step", "step": 10, "learning_rate": 0.0005}),
            json!({"kind": "epoch", "epoch": 1, "train_loss": 3.5, "train_seconds": 60.5}),
            validation(1),
            scored,
        ] {
            run.append_metrics(&line).unwrap();
        }
        ResultsTable::open(&run).unwrap().write().unwrap();
        let expected = "epoch,step,learning_rate,train_loss,val_loss,Bleu_1,Bleu_2,Bleu_3,Bleu_4,METEOR,ROUGE_L,CIDEr,\
                        train_seconds,val_seconds,best\n\
                        1,10,0.0005,3.5,2.5,,,,,,,,60.5,1.5,true\n\
                        2,20,0.0005,,2.25,0.5,,,,,,1.25,,2.0,false\n";
        assert_eq!(fs::read_to_string(run.path().join(FILE)).unwrap(), expected);
    }

    #[test]
    fn rows_that_a_resume_replaces_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let mut table = ResultsTable::open(&run).unwrap();
        table.add(&validation(1));
        table.write().unwrap();
        // The file of metrics was rewound to its beginning.
        assert!(ResultsTable::open(&run).unwrap().rows.is_empty());
    }
}
