//! A table of epochs, and the alarms of validations.

use std::collections::BTreeMap;

use serde::Serialize;

use super::text::{self, MAX_CAPTION, duration, grouped, score, significant};
use records::metrics_log::MetricsLog;
use records::record::{EpochRecord, ValidationRecord};

/// Epochs shown, the last ones.
const MAX_EPOCHS: usize = 100;
/// Alarms shown, the last ones.
const MAX_ALARMS: usize = 60;
/// Scores of the table, by their names in the log.
const SCORES: [&str; 4] = ["Bleu_4", "METEOR", "ROUGE_L", "CIDEr"];

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct EpochTable {
    rows: Vec<EpochRow>,
    has_scores: bool,
    num_hidden: usize,
}

#[derive(Clone, Debug, Serialize)]
struct EpochRow {
    epoch: String,
    step: String,
    train_loss: String,
    val_loss: String,
    scores: Vec<String>,
    train_time: String,
    is_best: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Alarms {
    epochs: Vec<EpochAlarms>,
    num_hidden: usize,
    /// In all epochs.
    pub(super) count: usize,
}

#[derive(Clone, Debug, Serialize)]
struct EpochAlarms {
    epoch: String,
    texts: Vec<String>,
}

/// A row per completed or validated epoch.
pub(super) fn epoch_table(log: &MetricsLog) -> EpochTable {
    let mut epochs: BTreeMap<u64, (Option<&EpochRecord>, Option<&ValidationRecord>)> = BTreeMap::new();
    for point in &log.epochs {
        epochs.entry(point.epoch).or_default().0 = Some(point);
    }
    for point in &log.validations {
        epochs.entry(point.epoch).or_default().1 = Some(point);
    }
    let num_hidden = epochs.len().saturating_sub(MAX_EPOCHS);
    let has_scores = log.validations.iter().any(|point| point.scores.is_some());
    let rows = epochs.into_iter().skip(num_hidden).map(|(epoch, (trained, validated))| row(epoch, trained, validated));
    EpochTable { rows: rows.collect(), has_scores, num_hidden }
}

fn row(epoch: u64, trained: Option<&EpochRecord>, validated: Option<&ValidationRecord>) -> EpochRow {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let steps = trained.and_then(|point| point.step).or_else(|| validated.and_then(|point| point.step));
    // A validation without a loss had one that was not finite.
    let val_loss = validated.map(|point| point.val_loss.map_or_else(|| "not finite".to_owned(), significant));
    let of = |name: &str| validated.and_then(|point| *point.scores.as_ref()?.get(name)?);
    EpochRow {
        epoch: grouped(epoch),
        step: or_nothing(steps.map(grouped)),
        train_loss: or_nothing(trained.and_then(|point| point.train_loss).map(significant)),
        val_loss: or_nothing(val_loss),
        scores: SCORES.iter().map(|name| or_nothing(of(name).map(score))).collect(),
        train_time: or_nothing(trained.and_then(|point| point.train_seconds).map(duration)),
        is_best: validated.is_some_and(|point| point.best),
    }
}

pub(super) fn alarms(log: &MetricsLog) -> Alarms {
    let warned: Vec<&ValidationRecord> = log.validations.iter().filter(|point| !point.alarms.is_empty()).collect();
    let num_hidden = warned.len().saturating_sub(MAX_ALARMS);
    let count = warned.iter().map(|point| point.alarms.len()).sum();
    let epochs = warned.into_iter().skip(num_hidden).map(|point| EpochAlarms {
        epoch: grouped(point.epoch),
        texts: point.alarms.iter().take(MAX_ALARMS).map(|text| text::line(text, MAX_CAPTION)).collect(),
    });
    Alarms { epochs: epochs.collect(), num_hidden, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_and_validations_meet_in_a_row() {
        let log = MetricsLog {
            epochs: (1..=3)
                .map(|epoch| EpochRecord {
                    epoch,
                    step: Some(10 * epoch),
                    train_loss: Some(2.5),
                    ..EpochRecord::default()
                })
                .collect(),
            validations: vec![
                ValidationRecord {
                    epoch: 2,
                    val_loss: Some(2.75),
                    scores: Some([("CIDEr".to_owned(), Some(0.5))].into()),
                    best: true,
                    ..ValidationRecord::default()
                },
                ValidationRecord { epoch: 4, ..ValidationRecord::default() },
            ],
            ..MetricsLog::default()
        };
        let table = epoch_table(&log);
        let found: Vec<_> = table.rows.iter().map(|row| (row.epoch.as_str(), row.val_loss.as_str())).collect();
        assert_eq!(found, [("1", "–"), ("2", "2.750"), ("3", "–"), ("4", "not finite")]);
        assert_eq!(table.rows[1].scores, ["–", "–", "–", "0.500"]);
        assert!(table.rows[1].is_best && table.has_scores && table.num_hidden == 0);
    }

    #[test]
    fn of_many_epochs_the_last_are_shown() {
        let validations = (1..=500).map(|epoch| ValidationRecord {
            epoch,
            alarms: vec!["loud".to_owned()],
            ..ValidationRecord::default()
        });
        let log = MetricsLog { validations: validations.collect(), ..MetricsLog::default() };
        assert_eq!((epoch_table(&log).rows.len(), epoch_table(&log).num_hidden), (100, 400));
        let alarms = alarms(&log);
        assert_eq!((alarms.count, alarms.epochs.len(), alarms.num_hidden), (500, 60, 440));
        assert_eq!(alarms.epochs[59].epoch, "500");
    }
}
