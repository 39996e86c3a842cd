//! A line of `metrics.jsonl`: one object; its `kind` says which.
//!
//! Reading is lenient: a number that is absent was not finite, which JSON cannot say, or was not logged by the version
//! that wrote the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::caption_fit::CaptionFit;

/// Scores by the names that COCO uses; `None` is a number that is not finite.
pub type NamedScores = BTreeMap<String, Option<f64>>;

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// How the captions fit into the decoder; written when a process begins or resumes the run.
    Captions(CaptionsRecord),
    Step(StepRecord),
    Epoch(EpochRecord),
    Validation(ValidationRecord),
    Evaluation(EvaluationRecord),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptionsRecord {
    /// Updates done.
    #[serde(default)]
    pub step: u64,
    /// Completed epochs.
    #[serde(default)]
    pub epoch: u64,
    pub fit: CaptionFit,
}

/// A logged update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the update, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: Option<u64>,
    /// Mean token loss, in nats.
    pub loss: Option<f64>,
    /// Learning rate of the decoder.
    pub learning_rate: Option<f64>,
    /// 2-norm of all gradients before clipping.
    pub grad_norm: Option<f64>,
    /// Pairs of image and caption per second.
    pub images_per_second: Option<f64>,
    /// Seconds that the update took, waiting for data included.
    pub seconds: Option<f64>,
    /// How many of them were spent waiting for data.
    pub wait_seconds: Option<f64>,
    /// The update was skipped because loss or gradient was not finite.
    #[serde(default)]
    pub skipped: bool,
    /// What the captions were worth that it sampled: self-critical training alone.
    #[serde(flatten)]
    pub rewards: RewardsRecord,
}

/// Of the captions that an update of self-critical training sampled; absent in other updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RewardsRecord {
    /// Mean reward: CIDEr-D, from 0 to 10, with the end as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Mean of what the rewards are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Root of the mean square of the differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advantage: Option<f64>,
    /// Mean number of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<f64>,
    /// Share that ends with a word such as "a" or "with".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_endings: Option<f64>,
}

impl RewardsRecord {
    /// The numbers with their names.
    pub fn named(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("reward", self.reward),
            ("baseline", self.baseline),
            ("advantage", self.advantage),
            ("length", self.length),
            ("bad_endings", self.bad_endings),
        ]
    }
}

/// A completed epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number, from 1.
    pub epoch: u64,
    /// Updates done.
    pub step: Option<u64>,
    /// Mean token loss over the epoch, in nats; absent where all its updates were skipped.
    pub train_loss: Option<f64>,
    /// Seconds that its updates took.
    pub train_seconds: Option<f64>,
    /// Updates skipped so far.
    pub skipped_updates: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Completed epochs.
    pub epoch: u64,
    /// Updates done.
    pub step: Option<u64>,
    /// Mean token loss, in nats.
    pub val_loss: Option<f64>,
    /// Scores of the captions, where they were scored.
    pub scores: Option<NamedScores>,
    /// What the scores are comparable with.
    pub signature: Option<String>,
    /// How long it took.
    pub val_seconds: Option<f64>,
    /// How much more probable its captions are for the model than for the one that self-critical training began from:
    /// the mean difference of their tokens' log-probabilities, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// In self-critical training, the share of its captions that end with a word such as "a" or "with".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_endings: Option<f64>,
    /// Whether the model was the best so far.
    #[serde(default)]
    pub best: bool,
    /// What it warned of.
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// A split that was captioned and scored by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    pub split: String,
    /// Name of the data set.
    pub dataset: Option<String>,
    /// Completed epochs of the model, where that is known.
    pub epoch: Option<u64>,
    /// Its updates.
    pub step: Option<u64>,
    /// File or folder name of the model.
    pub checkpoint: Option<String>,
    /// How captions were searched for.
    #[serde(default)]
    pub decoding: Value,
    pub scores: Option<NamedScores>,
    /// Captions that were cut off at the longest length, as a share of all.
    pub without_end: Option<f64>,
    /// What the scores are comparable with.
    pub signature: Option<String>,
}

impl Record {
    /// The line, with its end. Keys are in alphabetical order.
    ///
    /// # Errors
    /// Never for what a run logs.
    pub fn to_line(&self) -> serde_json::Result<String> {
        // Through a value, whose map is sorted, as lines have always been.
        Ok(format!("{}\n", serde_json::to_value(self)?))
    }

    /// Whether the record is logged where one of `interval` updates is: skipped updates are, and everything that is not
    /// an update.
    pub fn is_logged(&self, interval: u64) -> bool {
        match self {
            Self::Step(record) => record.step.is_multiple_of(interval) || record.skipped,
            _ => true,
        }
    }

    /// Updates done by then, where that is known.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::Captions(record) => Some(record.step),
            Self::Step(record) => Some(record.step),
            Self::Epoch(record) => record.step,
            Self::Validation(record) => record.step,
            Self::Evaluation(record) => record.step,
        }
    }
}

/// A line that is an object with a kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Record(Record),
    /// Of a kind that is not known here: a newer version wrote it.
    Unknown {
        /// Updates done by then, where it says so as every kind does.
        step: Option<u64>,
    },
}

impl Line {
    /// # Errors
    /// A line that is truncated, is not an object, or lacks a field of its kind.
    pub fn parse(line: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        enum Kind {
            Captions,
            Step,
            Epoch,
            Validation,
            Evaluation,
            #[serde(other)]
            Unknown,
        }
        Ok(match serde_json::from_slice(line)? {
            Kind::Unknown => Self::Unknown { step: step_of(line) },
            Kind::Captions | Kind::Step | Kind::Epoch | Kind::Validation | Kind::Evaluation => {
                Self::Record(serde_json::from_slice(line)?)
            }
        })
    }
}

/// The updates done by the time of a line of any kind, even of one that lacks other fields.
pub fn step_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Position {
        step: u64,
    }
    serde_json::from_slice::<Position>(line).ok().map(|position| position.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<(Record, &'static str)> {
        let scores: NamedScores = [("CIDEr".to_owned(), Some(0.5)), ("METEOR".to_owned(), None)].into();
        vec![
            (
                Record::Captions(CaptionsRecord { step: 3, epoch: 1, fit: CaptionFit::default() }),
                r#"{"epoch":1,"fit":{"fits_99_percent":0,"max_seq_len":0,"most_positions":null,"train":{"captions":0,"cut":0,"longest":0},"val":{"captions":0,"cut":0,"longest":0}},"kind":"captions","step":3}"#,
            ),
            (
                Record::Step(StepRecord {
                    step: 7,
                    epoch: Some(2),
                    loss: Some(3.5),
                    learning_rate: Some(1e-4),
                    grad_norm: None,
                    images_per_second: Some(128.0),
                    seconds: Some(0.25),
                    wait_seconds: Some(0.125),
                    skipped: true,
                    rewards: RewardsRecord::default(),
                }),
                r#"{"epoch":2,"grad_norm":null,"images_per_second":128.0,"kind":"step","learning_rate":0.0001,"loss":3.5,"seconds":0.25,"skipped":true,"step":7,"wait_seconds":0.125}"#,
            ),
            (
                Record::Epoch(EpochRecord {
                    epoch: 2,
                    step: Some(14),
                    train_loss: Some(3.25),
                    train_seconds: Some(60.5),
                    skipped_updates: Some(1),
                }),
                r#"{"epoch":2,"kind":"epoch","skipped_updates":1,"step":14,"train_loss":3.25,"train_seconds":60.5}"#,
            ),
            (
                Record::Validation(ValidationRecord {
                    epoch: 2,
                    step: Some(14),
                    val_loss: Some(2.5),
                    scores: Some(scores.clone()),
                    signature: Some("s".to_owned()),
                    val_seconds: Some(1.5),
                    distance: None,
                    bad_endings: None,
                    best: true,
                    alarms: vec!["loud".to_owned()],
                }),
                r#"{"alarms":["loud"],"best":true,"epoch":2,"kind":"validation","scores":{"CIDEr":0.5,"METEOR":null},"signature":"s","step":14,"val_loss":2.5,"val_seconds":1.5}"#,
            ),
            (
                Record::Evaluation(EvaluationRecord {
                    split: "test".to_owned(),
                    dataset: Some("shapes".to_owned()),
                    epoch: Some(2),
                    step: Some(14),
                    checkpoint: Some("last.safetensors".to_owned()),
                    decoding: serde_json::json!({"num_beams": 3}),
                    scores: Some(scores),
                    without_end: Some(0.0),
                    signature: Some("s".to_owned()),
                }),
                r#"{"checkpoint":"last.safetensors","dataset":"shapes","decoding":{"num_beams":3},"epoch":2,"kind":"evaluation","scores":{"CIDEr":0.5,"METEOR":null},"signature":"s","split":"test","step":14,"without_end":0.0}"#,
            ),
        ]
    }

    #[test]
    fn each_kind_is_written_as_ever_and_read_back() {
        for (record, line) in examples() {
            assert_eq!(record.to_line().unwrap(), format!("{line}\n"));
            assert_eq!(Line::parse(line.as_bytes()).unwrap(), Line::Record(record));
        }
    }

    #[test]
    fn rewards_stand_beside_the_other_numbers_of_an_update() {
        let rewards = RewardsRecord { reward: Some(0.5), bad_endings: Some(0.0), ..RewardsRecord::default() };
        let record = Record::Step(StepRecord { step: 4, rewards, ..StepRecord::default() });
        let line = record.to_line().unwrap();
        assert!(line.contains(r#","reward":0.5,"#) && !line.contains("advantage"), "{line}");
        assert_eq!(Line::parse(line.as_bytes()).unwrap(), Line::Record(record));
    }

    #[test]
    fn a_number_that_is_not_finite_is_written_as_null_and_read_as_absent() {
        let record = Record::Step(StepRecord { step: 1, loss: Some(f64::NAN), ..StepRecord::default() });
        let line = record.to_line().unwrap();
        assert!(line.contains("\"loss\":null"), "{line}");
        let expected = Record::Step(StepRecord { step: 1, ..StepRecord::default() });
        assert_eq!(Line::parse(line.as_bytes()).unwrap(), Line::Record(expected));
    }

    #[test]
    fn lines_with_less_in_them_are_read_and_what_lacks_its_number_is_not() {
        let parse = |text: &str| Line::parse(text.as_bytes());
        let step = Record::Step(StepRecord { step: 4, ..StepRecord::default() });
        assert_eq!(parse(r#"{"kind":"step","step":4}"#).unwrap(), Line::Record(step));
        assert_eq!(parse(r#"{"kind":"weather","step":4,"rain":1}"#).unwrap(), Line::Unknown { step: Some(4) });
        assert_eq!(parse(r#"{"kind":"weather","step":"rain"}"#).unwrap(), Line::Unknown { step: None });
        for text in [r#"{"kind":"step"}"#, r#"{"kind":"step","step":-1}"#, r#"{"step":1}"#, "[1]", r#"{"kind":"st"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_the_updates_every_nth_and_each_that_was_skipped_are_logged() {
        let step = |step, skipped| Record::Step(StepRecord { step, skipped, ..StepRecord::default() });
        assert!(step(10, false).is_logged(10) && step(3, true).is_logged(10) && !step(3, false).is_logged(10));
        assert!(Record::Epoch(EpochRecord::default()).is_logged(10));
    }
}
