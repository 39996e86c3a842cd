//! Captions a split, scores the captions, and keeps both: `predictions/SPLIT.json` in the format of COCO results,
//! `predictions/SPLIT.scores.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::image_source::ImageSource;
use crate::data::prompts::Prompts;
use crate::evaluation::caption_match::match_captions;
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::run::split_scores::{EnsembleMember, FORMAT_VERSION, SplitScores};
use crate::training::shared_captions::{Team, caption_together};
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::{WithHint as _, failure, usage_error};
use base::terminal::{self, Progress};
use base::{atomic_file, digest};
use datasets::prepared::Dataset;
use metrics::corpus::Captions;
use metrics::score::{ScoreOptions, ScoreReport, score};
use records::record::{EvaluationRecord, Record};

/// Captions shown on the console.
const SHOWN: usize = 3;
const UNWRITABLE: &str = "free some disk space and make the folder writable";

/// What to caption, with what.
pub struct Request<'a> {
    /// The data set.
    pub dataset: &'a Dataset,
    /// What the images are called together.
    pub split: &'a str,
    /// The images, as indices in the data set.
    pub images: &'a [usize],
    /// What their captions begin with.
    pub prompts: &'a Prompts,
    /// Where they come from: see [`CaptionWriter::write_all`].
    pub sources: &'a [ImageSource],
    /// The model, or several.
    pub writer: &'a CaptionWriter<'a>,
    /// Where it comes from.
    pub model: ModelOrigin<'a>,
    /// Who captions.
    pub team: Team<'a>,
    /// How many at once.
    pub settings: &'a CaptioningSettings,
    /// How the captions are scored.
    pub options: &'a ScoreOptions<'a>,
}

/// Which model captions.
#[derive(Clone, Copy)]
pub struct ModelOrigin<'a> {
    /// Its checkpoint or folder; empty of an ensemble.
    pub path: &'a Path,
    /// Completed epochs and updates, where they are known.
    pub progress: Option<(u64, u64)>,
    /// How the reward was counted that it was trained on, where it was.
    pub reward: Option<&'a str>,
    /// The models that write together; empty where one does.
    pub ensemble: &'a [EnsembleMember],
}

/// Captions of a split and what they are worth.
pub struct SplitEvaluation {
    /// As text.
    predictions: String,
    shown: Vec<String>,
    scores: SplitScores,
}

/// Captions the images and scores what was written. `None`: `keep_going`, which is asked now and then, said no; and in
/// all processes but the main one, which scores.
///
/// # Errors
/// An image that cannot be read; what the model gives.
pub fn evaluate(request: &Request<'_>, mut keep_going: impl FnMut() -> bool) -> Result<Option<SplitEvaluation>> {
    let Request { dataset, split, images, prompts, sources, writer, model, settings, options, team } = request;
    let progress = Progress::new(&format!("captioning {split}"), images.len() as u64, 0);
    let written = caption_together(writer, sources, images, prompts, settings, *team, |count| {
        progress.advance(count as u64, "");
        Ok(keep_going())
    })?;
    progress.finish();
    let Some(written) = written else { return Ok(None) };
    if !team.collective.is_main() {
        return Ok(None);
    }
    let without_end = written.iter().filter(|caption| !caption.decoded.has_end()).count();
    let captions: Vec<String> = written.into_iter().map(|caption| caption.text).collect();
    let references: Vec<Vec<String>> = images.iter().map(|&image| dataset.images.get(image).owned_captions()).collect();
    let word_for_word = match_captions(&captions, &references, options.seed);
    let paired = captions.iter().cloned().zip(references);
    let paired: Vec<Captions> = paired.map(|(candidate, references)| Captions { candidate, references }).collect();
    let mut report = score(&paired, options);
    if let Some(reward) = model.reward {
        report.signature = format!("{}|{reward}", report.signature);
    }
    let mut checkpoint = model.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !model.ensemble.is_empty() {
        report.signature = format!("{}|{}", report.signature, EnsembleMember::signature(model.ensemble));
        checkpoint = EnsembleMember::names(model.ensemble);
    }
    report.statistics.without_end = Some(without_end as f64 / images.len().max(1) as f64);
    let records = images.iter().map(|&image| dataset.images.get(image)).zip(&captions);
    let predictions: Vec<Value> =
        records.clone().map(|(image, caption)| json!({ "image_id": image.id(), "caption": caption })).collect();
    let predictions = to_text(&predictions)?;
    Ok(Some(SplitEvaluation {
        shown: records.take(SHOWN).map(|(image, caption)| format!("{:<11} {caption}", image.filename())).collect(),
        scores: SplitScores {
            format_version: FORMAT_VERSION,
            split: (*split).to_owned(),
            dataset: dataset.name.clone(),
            dataset_digest: dataset.digest.clone(),
            checkpoint,
            epoch: model.progress.map(|(epoch, _)| epoch),
            step: model.progress.map(|(_, step)| step),
            ensemble: model.ensemble.to_vec(),
            decoding: writer.decoding,
            predictions_sha256: Some(digest::sha256(predictions.as_bytes())),
            former_predictions_sha256: None,
            report,
            word_for_word: Some(word_for_word),
        },
        predictions,
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
    pub fn write(&mut self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))
            .hint(|| UNWRITABLE)?;
        let [predictions, scores] = files(folder, &self.scores.split);
        self.scores.former_predictions_sha256 = digest::sha256_file(&predictions).ok();
        write_text(&scores, &to_text(&self.scores)?)?;
        write_text(&predictions, &self.predictions)?;
        Ok(predictions)
    }

    /// The line for `metrics.jsonl`.
    ///
    /// # Errors
    /// Never for what the command line or a config says.
    pub fn record(&self) -> Result<Record> {
        let SplitScores { split, dataset, checkpoint, epoch, step, decoding, report, .. } = &self.scores;
        Ok(Record::Evaluation(EvaluationRecord {
            split: split.clone(),
            dataset: Some(dataset.clone()),
            epoch: *epoch,
            step: *step,
            checkpoint: Some(checkpoint.clone()),
            decoding: serde_json::to_value(decoding)?,
            scores: Some(report.scores.named().map(|(name, value)| (name.to_owned(), Some(value))).into()),
            without_end: report.statistics.without_end,
            signature: Some(report.signature.clone()),
        }))
    }

    /// Everything that is known of the scores, as JSON.
    ///
    /// # Errors
    /// A number that JSON does not know.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.scores)?)
    }

    /// Shows some captions, and how many are right word for word.
    pub fn show(&self) {
        let SplitScores { split, word_for_word, .. } = &self.scores;
        for line in &self.shown {
            terminal::message(line);
        }
        let Some(word_for_word) = word_for_word else { return };
        let total = word_for_word.num_images;
        terminal::message(&format!("captions that equal one of their picture's references, of {total} in {split}:"));
        terminal::message(&format!("  the model                         {:>4}", word_for_word.matched));
        terminal::message(&format!(
            "  best constant caption             {:>4}  ({:?})",
            word_for_word.best_constant.1, word_for_word.best_constant.0
        ));
        terminal::message(&format!("  the model's, on shuffled pictures {:>4}", word_for_word.shuffled));
    }
}

/// Where captions and scores of a split go.
fn files(folder: &Path, split: &str) -> [PathBuf; 2] {
    ["json", "scores.json"].map(|ending| folder.join(format!("{split}.{ending}")))
}

/// Checks that only files of an earlier evaluation would be replaced in `folder`.
///
/// # Errors
/// A file of the user with the name of one to be written; an output that is not a folder.
pub fn check_output(folder: &Path, split: &str) -> Result<()> {
    /// What every version wrote: the rest of the file may change, and the file is ours all the same.
    #[derive(Deserialize)]
    struct Written {
        format_version: u32,
        split: String,
        dataset_digest: String,
        predictions_sha256: Option<String>,
        former_predictions_sha256: Option<String>,
    }
    if folder.exists() && !folder.is_dir() {
        return Err(usage_error(format!("{} is not a folder", folder.display()), "choose a folder with --output DIR"));
    }
    let [predictions, scores] = files(folder, split);
    let written = || serde_json::from_slice::<Written>(&bounded_file::read(&scores, MAX_CAPTIONS_BYTES).ok()?).ok();
    let written = written().filter(|written| {
        written.format_version <= FORMAT_VERSION && written.split == split && written.dataset_digest.len() == 64
    });
    let is_ours = |path: &Path| match &written {
        Some(Written { predictions_sha256: Some(expected), former_predictions_sha256: former, .. })
            if path == predictions =>
        {
            digest::sha256_file(path).is_ok_and(|found| found == *expected || former.as_ref() == Some(&found))
        }
        written => written.is_some(),
    };
    for path in [&predictions, &scores] {
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file() || !is_ours(path)) {
            return Err(failure(
                format!("{} exists and was not written by an evaluation: it would be replaced", path.display()),
                "move it away, or choose another folder with --output DIR",
            ));
        }
    }
    Ok(())
}

fn to_text(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    atomic_file::write(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
        .hint(|| UNWRITABLE)
}
