//! Reads the scores of a split that `split_evaluation` has written, for a report and a model card.

use anyhow::{Context as _, Result};
use serde_json::Value;

use metrics::bootstrap::CONFIDENCE;
use metrics::score::SCORE_NAMES;
use report::{ScoreRow, SplitScores};

/// The scores in a `SPLIT.scores.json`.
///
/// # Errors
/// Text that is no such file.
pub(super) fn parse(bytes: &[u8]) -> Result<SplitScores> {
    let file: Value = serde_json::from_slice(bytes).context("it is not JSON")?;
    let report = file.get("report").context("it holds no report")?;
    let rows = SCORE_NAMES.iter().filter_map(|&name| {
        let interval = &report["intervals"][name];
        let interval = interval["low"].as_f64().zip(interval["high"].as_f64());
        Some(ScoreRow { name: name.to_owned(), value: report["scores"][name].as_f64()?, interval })
    });
    let checkpoint = file["checkpoint"].as_str().unwrap_or_default().to_owned();
    let epoch = file["epoch"].as_u64().map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    Ok(SplitScores {
        split: file["split"].as_str().context("it names no split")?.to_owned(),
        model: format!("{checkpoint}{epoch}"),
        checkpoint,
        rows: rows.collect(),
        confidence: CONFIDENCE,
        notes: serde_json::from_value(report["notes"].clone()).unwrap_or_default(),
        signature: report["signature"].as_str().unwrap_or_default().to_owned(),
        figures: serde_json::from_value(report["statistics"].clone()).ok(),
    })
}
