//! `results.csv`: a row for each validation, for spreadsheets. It contains nothing that `metrics.jsonl` does not, and
//! is rewritten from its records when a run is resumed.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::run::run_directory::{RESULTS, RunDirectory, UNWRITABLE};
use crate::run::tracking::tracker::{Tracker, TrackerKind};
use crate::training::events::Event;
use base::atomic_file;
use base::error::WithHint as _;
use metrics::score::SCORE_NAMES;
use records::record::{EpochRecord, Record, ValidationRecord};

const BEFORE_SCORES: [&str; 5] = ["epoch", "step", "learning_rate", "train_loss", "val_loss"];
const AFTER_SCORES: [&str; 3] = ["train_seconds", "val_seconds", "best"];
/// At the end, where a row has them: of the last update that was logged, and of the validation.
const OF_REWARDS: [&str; 3] = ["reward", "bad_endings", "distance"];

pub(super) const KIND: TrackerKind = TrackerKind {
    name: RESULTS,
    check: |_| Ok(()),
    start: |context| Ok(Some(Box::new(ResultsTable::new(context.run)))),
};

struct ResultsTable {
    run: RunDirectory,
    rows: Vec<Vec<String>>,
    /// Of the last update that was logged.
    learning_rate: Option<f64>,
    reward: Option<f64>,
    /// The last one that was completed.
    epoch: EpochRecord,
}

impl ResultsTable {
    fn new(run: &RunDirectory) -> Self {
        let epoch = EpochRecord::default();
        Self { run: run.clone(), rows: Vec::new(), learning_rate: None, reward: None, epoch }
    }

    /// Takes the rows that the run has.
    fn restore(&mut self) -> Result<()> {
        for record in self.run.records()? {
            self.add(&record);
        }
        Ok(())
    }

    /// Whether the record completed a row.
    fn add(&mut self, record: &Record) -> bool {
        match record {
            Record::Step(record) => (self.learning_rate, self.reward) = (record.learning_rate, record.rewards.reward),
            Record::Epoch(record) => self.epoch = *record,
            Record::Validation(record) => self.rows.push(self.row(record)),
            Record::Captions(_) | Record::Evaluation(_) => {}
        }
        matches!(record, Record::Validation(_))
    }

    fn row(&self, record: &ValidationRecord) -> Vec<String> {
        let trained = Some(&self.epoch).filter(|epoch| epoch.epoch == record.epoch);
        let before = [
            text(record.epoch),
            text(record.step),
            text(self.learning_rate),
            text(trained.map(|epoch| epoch.train_loss)),
            text(record.val_loss),
        ];
        let scores = SCORE_NAMES.map(|name| text(record.scores.as_ref().and_then(|scores| scores.get(name))));
        let after = [text(trained.map(|epoch| epoch.train_seconds)), text(record.val_seconds), text(record.best)];
        let of_rewards = [text(self.reward), text(record.bad_endings), text(record.distance)];
        before.into_iter().chain(scores).chain(after).chain(of_rewards).collect()
    }

    fn write(&self) -> Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header: Vec<&str> =
            BEFORE_SCORES.into_iter().chain(SCORE_NAMES).chain(AFTER_SCORES).chain(OF_REWARDS).collect();
        let num_usual = header.len() - OF_REWARDS.len();
        let has_rewards = self.rows.iter().any(|row| row[num_usual..].iter().any(|text| !text.is_empty()));
        let width = if has_rewards { header.len() } else { num_usual };
        writer.write_record(&header[..width]).context("cannot write a row")?;
        for row in &self.rows {
            writer.write_record(&row[..width]).context("cannot write a row")?;
        }
        let bytes = writer.into_inner().context("cannot write a row")?;
        let path = self.run.path().join(RESULTS);
        atomic_file::write(&path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))
            .hint(|| UNWRITABLE)
    }
}

/// As it is written in JSON; empty where it is not known or not finite.
fn text(value: impl Serialize) -> String {
    let text = serde_json::to_string(&value).unwrap_or_default();
    if text == "null" { String::new() } else { text }
}

impl Tracker for ResultsTable {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        if let Event::Started { .. } = event {
            self.restore()?;
            // A run that is resumed from an earlier save point has lost rows.
            return if self.run.path().join(RESULTS).exists() || !self.rows.is_empty() { self.write() } else { Ok(()) };
        }
        match event.record() {
            Some(record) if self.add(&record) => self.write(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use records::record::{RewardsRecord, StepRecord};

    use super::*;

    fn validation(epoch: u64) -> ValidationRecord {
        ValidationRecord {
            epoch,
            step: Some(10 * epoch),
            val_loss: Some(2.5),
            best: true,
            val_seconds: Some(1.5),
            ..ValidationRecord::default()
        }
    }

    #[test]
    fn each_validation_is_a_row_and_what_was_not_measured_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let scores = [("Bleu_1", Some(0.5)), ("METEOR", None), ("CIDEr", Some(1.25))];
        let scored = ValidationRecord {
            val_loss: Some(2.25),
            best: false,
            val_seconds: Some(2.0),
            scores: Some(scores.map(|(name, value)| (name.to_owned(), value)).into()),
            ..validation(2)
        };
        let (train_loss, train_seconds) = (Some(3.5), Some(60.5));
        for record in [
            Record::Step(StepRecord { step: 10, learning_rate: Some(0.0005), ..StepRecord::default() }),
            Record::Epoch(EpochRecord { epoch: 1, train_loss, train_seconds, ..EpochRecord::default() }),
            Record::Validation(validation(1)),
            Record::Validation(scored),
        ] {
            run.append_metrics(&record).unwrap();
        }
        let mut table = ResultsTable::new(&run);
        table.restore().unwrap();
        table.write().unwrap();
        let expected = "epoch,step,learning_rate,train_loss,val_loss,Bleu_1,Bleu_2,Bleu_3,Bleu_4,METEOR,ROUGE_L,CIDEr,\
                        train_seconds,val_seconds,best\n\
                        1,10,0.0005,3.5,2.5,,,,,,,,60.5,1.5,true\n\
                        2,20,0.0005,,2.25,0.5,,,,,,1.25,,2.0,false\n";
        assert_eq!(fs::read_to_string(run.path().join(RESULTS)).unwrap(), expected);
    }

    #[test]
    fn rewards_have_columns_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let mut table = ResultsTable::new(&run);
        table.add(&Record::Validation(ValidationRecord { bad_endings: Some(0.5), ..validation(0) }));
        let rewards = RewardsRecord { reward: Some(0.75), ..RewardsRecord::default() };
        table.add(&Record::Step(StepRecord { step: 10, rewards, ..StepRecord::default() }));
        table.add(&Record::Validation(ValidationRecord { distance: Some(0.25), ..validation(1) }));
        table.write().unwrap();
        let text = fs::read_to_string(run.path().join(RESULTS)).unwrap();
        let ends: Vec<&str> = text.lines().map(|line| line.split_once("best,").map_or(line, |(_, end)| end)).collect();
        assert_eq!(ends[0], "reward,bad_endings,distance");
        assert!(ends[1].ends_with(",true,,0.5,") && ends[2].ends_with(",true,0.75,,0.25"), "{text}");
    }

    #[test]
    fn rows_that_a_resume_replaces_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let mut table = ResultsTable::new(&run);
        table.add(&Record::Validation(validation(1)));
        table.write().unwrap();
        // The file of metrics was rewound to its beginning.
        let mut resumed = ResultsTable::new(&run);
        resumed.restore().unwrap();
        assert!(resumed.rows.is_empty());
    }
}
