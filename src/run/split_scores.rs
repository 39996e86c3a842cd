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
    /// File or folder name of the model, or those of an ensemble.
    pub(super) checkpoint: String,
    /// Completed epochs of the model, where they are known.
    pub(super) epoch: Option<u64>,
    pub(super) step: Option<u64>,
    /// The models that wrote together; empty where one did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ensemble: Vec<EnsembleMember>,
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

/// One of the models of an ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnsembleMember {
    /// Its checkpoint or folder, as it was named.
    pub checkpoint: String,
    /// Completed epochs and updates, where they are known.
    pub epoch: Option<u64>,
    pub step: Option<u64>,
    /// SHA-256 over names, shapes and values of the tensors of a checkpoint.
    pub tensors_digest: Option<String>,
}

impl EnsembleMember {
    /// File or folder name.
    fn name(&self) -> String {
        Path::new(&self.checkpoint).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The names of all members.
    pub(super) fn names(members: &[Self]) -> String {
        members.iter().map(Self::name).collect::<Vec<_>>().join(" + ")
    }

    /// What a signature says of the members: how they wrote together, and the name of each with the beginning of its
    /// digest.
    pub(super) fn signature(members: &[Self]) -> String {
        let member = |member: &Self| match &member.tensors_digest {
            Some(digest) => format!(",{}@{}", member.name(), digest.get(..12).unwrap_or(digest)),
            None => format!(",{}", member.name()),
        };
        format!("ensemble:mean-log-probability{}", members.iter().map(member).collect::<String>())
    }
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

    /// As version 0.1 wrote it.
    const FILE: &str = include_str!("../../tests/fixtures/release_0_1/runs/run/predictions/test.scores.json");

    #[test]
    fn a_file_is_read_and_written_again_as_it_was() {
        let scores: SplitScores = serde_json::from_str(FILE).unwrap();
        assert_eq!(serde_json::to_string_pretty(&scores).unwrap(), FILE.trim_end());
        let shown = report::SplitScores::from(scores);
        assert_eq!(shown.model, "checkpoint_epoch_40_val_loss_0.2562.safetensors, epoch 40");
        assert_eq!((shown.rows.len(), shown.rows[5].interval), (7, Some((0.78125, 0.96875))));
    }

    #[test]
    fn scores_that_are_not_finite_are_not_shown_and_what_an_old_file_lacks_is_absent() {
        let mut file: serde_json::Value = serde_json::from_str(FILE).unwrap();
        for key in ["epoch", "predictions_sha256", "word_for_word"] {
            file.as_object_mut().unwrap().remove(key).unwrap();
        }
        for place in ["/report/scores/METEOR", "/report/intervals/Bleu_1/low"] {
            *file.pointer_mut(place).unwrap() = serde_json::Value::Null;
        }
        let shown = report::SplitScores::from(serde_json::from_value::<SplitScores>(file).unwrap());
        assert_eq!(shown.model, shown.checkpoint);
        assert!(shown.rows.len() == 6 && shown.rows.iter().all(|row| row.name != "METEOR"));
        assert!(shown.rows[0].interval.is_none() && shown.rows[1].interval.is_some());
    }
}
