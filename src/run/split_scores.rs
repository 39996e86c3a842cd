//! `predictions/SPLIT.scores.json`: what the captions of a split are worth, and what wrote and measured them.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::decoding::Decoding;
use crate::evaluation::caption_match::CaptionMatch;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use metrics::bootstrap::CONFIDENCE;
use metrics::score::ScoreReport;

pub(super) const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SplitScores {
    pub(super) format_version: u32,
    pub(super) split: String,
    /// Name of the data set.
    pub(super) dataset: String,
    pub(super) dataset_digest: String,
    /// File or folder name of the model.
    pub(super) checkpoint: String,
    /// Completed epochs of the model, where they are known.
    pub(super) epoch: Option<u64>,
    pub(super) step: Option<u64>,
    pub(super) decoding: Decoding,
    /// Of the file with the captions.
    pub(super) predictions_sha256: Option<String>,
    /// Of the one that it replaces: this file is written first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) former_predictions_sha256: Option<String>,
    pub(super) report: ScoreReport,
    /// Beside two baselines that know nothing of the image.
    pub(super) word_for_word: Option<CaptionMatch>,
}

impl SplitScores {
    /// # Errors
    /// A file that cannot be read, or is of another kind or a newer version.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot use {}", path.display());
        let bytes = bounded_file::read(path, MAX_CAPTIONS_BYTES).with_context(cannot)?;
        let scores: Self = serde_json::from_slice(&bytes).with_context(cannot)?;
        anyhow::ensure!(
            scores.format_version <= FORMAT_VERSION,
            "{} has format version {}, and this program reads {FORMAT_VERSION}",
            path.display(),
            scores.format_version
        );
        Ok(scores)
    }
}

impl From<SplitScores> for report::SplitScores {
    /// As a report and a model card show them: without scores that are not finite.
    fn from(scores: SplitScores) -> Self {
        let SplitScores { split, checkpoint, epoch, report, .. } = scores;
        let intervals = report.intervals.map(|intervals| intervals.named());
        let rows = report.scores.named().into_iter().enumerate().map(|(index, (name, value))| {
            let interval = intervals.map(|intervals| (intervals[index].1.low, intervals[index].1.high));
            let interval = interval.filter(|(low, high)| low.is_finite() && high.is_finite());
            report::ScoreRow { name: name.to_owned(), value, interval }
        });
        Self {
            split,
            model: epoch.map_or_else(|| checkpoint.clone(), |epoch| format!("{checkpoint}, epoch {epoch}")),
            checkpoint,
            rows: rows.filter(|row| row.value.is_finite()).collect(),
            confidence: CONFIDENCE,
            notes: report.notes,
            signature: report.signature,
            figures: Some(report.statistics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the present release writes it.
    const FILE: &str = r#"{
  "format_version": 1,
  "split": "test",
  "dataset": "shapes",
  "dataset_digest": "0",
  "checkpoint": "last.safetensors",
  "epoch": 2,
  "step": 14,
  "decoding": {
    "constraints": {
      "start": 1,
      "end": 2,
      "min_new_tokens": 0,
      "max_new_tokens": 16,
      "no_repeat_ngram_size": 0
    },
    "strategy": {
      "Beam": {
        "num_beams": 3,
        "length_penalty": 1.0,
        "early_stopping": false
      }
    },
    "num_captions": 1
  },
  "predictions_sha256": "1",
  "report": {
    "scores": {
      "Bleu_1": 0.5,
      "Bleu_2": 0.25,
      "Bleu_3": 0.125,
      "Bleu_4": 0.0,
      "METEOR": 0.5,
      "ROUGE_L": 0.5,
      "CIDEr": null
    },
    "intervals": {
      "Bleu_1": {
        "low": 0.25,
        "high": 0.75
      },
      "Bleu_2": {
        "low": null,
        "high": 0.75
      },
      "Bleu_3": {
        "low": 0.0,
        "high": 0.5
      },
      "Bleu_4": {
        "low": 0.0,
        "high": 0.0
      },
      "METEOR": {
        "low": 0.25,
        "high": 0.75
      },
      "ROUGE_L": {
        "low": 0.25,
        "high": 0.75
      },
      "CIDEr": {
        "low": null,
        "high": null
      }
    },
    "bleu": {
      "correct": [
        4,
        3,
        2,
        1
      ],
      "guess": [
        8,
        7,
        6,
        5
      ],
      "candidate_length": 8,
      "reference_length": 8
    },
    "statistics": {
      "mean_length": 8.0,
      "min_length": 8,
      "max_length": 8,
      "vocabulary": 5,
      "distinct": 1.0,
      "novel": null,
      "repeating": 0.0,
      "without_end": 0.0
    },
    "notes": [
      "a note"
    ],
    "signature": "s"
  },
  "word_for_word": {
    "num_images": 4,
    "matched": 1,
    "best_constant": [
      "a circle",
      2
    ],
    "shuffled": 0
  }
}"#;

    #[test]
    fn a_file_is_read_and_written_again_as_it_was() {
        let scores: SplitScores = serde_json::from_str(FILE).unwrap();
        assert_eq!(serde_json::to_string_pretty(&scores).unwrap(), FILE);
    }

    #[test]
    fn scores_that_are_not_finite_are_not_shown_and_what_an_old_file_lacks_is_absent() {
        let mut file: serde_json::Value = serde_json::from_str(FILE).unwrap();
        for key in ["epoch", "predictions_sha256", "word_for_word"] {
            file.as_object_mut().unwrap().remove(key).unwrap();
        }
        let scores: SplitScores = serde_json::from_value(file).unwrap();
        assert!(scores.predictions_sha256.is_none());
        let shown = report::SplitScores::from(scores);
        assert_eq!(shown.model, "last.safetensors");
        assert_eq!(shown.rows.len(), 6);
        assert_eq!((shown.rows[0].interval, shown.rows[1].interval), (Some((0.25, 0.75)), None));
    }
}
