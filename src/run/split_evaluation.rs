//! Captions a split, scores the captions, and keeps both: `predictions/SPLIT.json` in the format of COCO results,
//! `predictions/SPLIT.scores.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::atomic_file;
use crate::base::fault::WithHint as _;
use crate::base::stop::StopFlag;
use crate::base::team::Team;
use crate::base::terminal::{self, Progress};
use crate::data::dataset::Dataset;
use crate::data::image_source::ImageSource;
use crate::evaluation::caption_match::{CaptionMatch, match_captions};
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::metrics::corpus::Captions;
use crate::metrics::score::{ScoreOptions, ScoreReport, score};
use crate::run::run_directory::UNWRITABLE;

/// Captions shown on the console.
const SHOWN: usize = 3;
const FORMAT_VERSION: u32 = 1;

/// What to caption, with what.
pub struct Request<'a> {
    /// The data set.
    pub dataset: &'a Dataset,
    /// What the images are called together.
    pub split: &'a str,
    /// The images, as indices in the data set.
    pub images: &'a [usize],
    /// Where they come from.
    pub source: &'a ImageSource,
    /// The model.
    pub writer: &'a CaptionWriter<'a>,
    /// How many at once.
    pub settings: &'a CaptioningSettings,
    /// How the captions are scored.
    pub options: &'a ScoreOptions<'a>,
}

/// Captions of a split and what they are worth.
pub struct SplitEvaluation {
    predictions: Vec<Value>,
    shown: Vec<String>,
    scores: SplitScores,
}

#[derive(Serialize)]
struct SplitScores {
    format_version: u32,
    split: String,
    report: ScoreReport,
    /// Captions that were cut off at the longest length, as a share.
    without_end: f64,
    /// Beside two baselines that know nothing of the image.
    word_for_word: CaptionMatch,
}

/// Captions the images and scores what was written. `None`: it was stopped.
///
/// # Errors
/// An image that cannot be read; what the model gives.
pub fn evaluate(request: &Request<'_>, team: &Team, stop: &StopFlag) -> Result<Option<SplitEvaluation>> {
    let Request { dataset, split, images, source, writer, settings, options } = request;
    let progress = Progress::new(&format!("captioning {split}"), images.len() as u64, 0);
    let written = writer.write_all(source, images, settings, team, |count| {
        progress.advance(count as u64, "");
        !stop.is_raised()
    })?;
    progress.finish();
    let Some(written) = written else { return Ok(None) };
    let without_end = written.iter().filter(|caption| !caption.decoded.has_end()).count();
    let captions: Vec<String> = written.into_iter().map(|caption| caption.text).collect();
    let references: Vec<Vec<String>> = images.iter().map(|&image| dataset.images[image].captions.clone()).collect();
    let word_for_word = match_captions(&captions, &references, options.seed);
    let paired = captions.iter().cloned().zip(references);
    let paired: Vec<Captions> = paired.map(|(candidate, references)| Captions { candidate, references }).collect();
    let records = images.iter().map(|&image| &dataset.images[image]).zip(&captions);
    Ok(Some(SplitEvaluation {
        predictions: records
            .clone()
            .map(|(image, caption)| json!({ "image_id": image.image_id, "caption": caption }))
            .collect(),
        shown: records.take(SHOWN).map(|(image, caption)| format!("{:<11} {caption}", image.filename)).collect(),
        scores: SplitScores {
            format_version: FORMAT_VERSION,
            split: (*split).to_owned(),
            report: score(&paired, options),
            without_end: without_end as f64 / images.len().max(1) as f64,
            word_for_word,
        },
    }))
}

impl SplitEvaluation {
    /// The scores.
    pub fn report(&self) -> &ScoreReport {
        &self.scores.report
    }

    /// Writes both files into `folder`.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
            .hint(|| UNWRITABLE)?;
        let predictions = folder.join(format!("{}.json", self.scores.split));
        write_json(&predictions, &self.predictions)?;
        write_json(&folder.join(format!("{}.scores.json", self.scores.split)), &self.scores)?;
        Ok(predictions)
    }

    /// The line for `metrics.jsonl`.
    pub fn metrics_line(&self, (epoch, step): (u64, u64), checkpoint: &Path) -> Value {
        let report = &self.scores.report;
        json!({
            "kind": "evaluation",
            "step": step,
            "epoch": epoch,
            "split": self.scores.split,
            "checkpoint": checkpoint.file_name().unwrap_or_default().to_string_lossy(),
            "scores": report.scores,
            "signature": report.signature,
        })
    }

    /// Shows some captions and what all of them are worth.
    pub fn show(&self) {
        let SplitScores { split, report, word_for_word, without_end, .. } = &self.scores;
        for line in &self.shown {
            terminal::message(line);
        }
        terminal::message(&format!("scores of {split}:"));
        for line in report.lines() {
            terminal::message(&format!("  {line}"));
        }
        terminal::message(&format!("  without an end: {:.1} %", 100.0 * without_end));
        let total = word_for_word.num_images;
        terminal::message(&format!("captions that are one of their picture's own references, of {total} in {split}:"));
        terminal::message(&format!("  the model                         {:>4}", word_for_word.matched));
        terminal::message(&format!(
            "  best constant caption             {:>4}  ({:?})",
            word_for_word.best_constant.1, word_for_word.best_constant.0
        ));
        terminal::message(&format!("  the model's, of shuffled pictures {:>4}", word_for_word.shuffled));
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    atomic_file::write(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
        .hint(|| UNWRITABLE)
}
