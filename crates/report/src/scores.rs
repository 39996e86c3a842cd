//! Score tables of splits.

use serde::Serialize;

use super::data::{ReportData, ScoreRow, SplitScores};
use super::text::{self, MAX_CAPTION, grouped, percentage, score, significant};
use metrics::score::SCORE_NAMES;
use metrics::statistics::CaptionStatistics;
use records::record::{EvaluationRecord, NamedScores};

#[derive(Clone, Debug, Serialize)]
pub(super) struct ScoreTable {
    split: String,
    model: String,
    rows: Vec<ScoreLine>,
    /// Header of the column of intervals, if there is one.
    interval_name: Option<String>,
    notes: Vec<String>,
    signature: String,
    figures: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, Serialize)]
struct ScoreLine {
    name: String,
    value: String,
    interval: Option<String>,
}

/// The splits that were evaluated separately: those given by the caller, then the last evaluations of other splits in
/// the log.
pub(super) fn score_tables(data: &ReportData) -> Vec<ScoreTable> {
    let mut tables: Vec<ScoreTable> = data.scores.iter().map(table).collect();
    let mut logged: Vec<&EvaluationRecord> = Vec::new();
    for point in data.metrics.evaluations.iter().rev() {
        let is_given = data.scores.iter().any(|scores| scores.split == point.split);
        if !is_given && !logged.iter().any(|other| other.split == point.split) {
            logged.push(point);
        }
    }
    tables.extend(logged.into_iter().rev().map(|point| table(&of_log(point))));
    tables
}

fn of_log(point: &EvaluationRecord) -> SplitScores {
    SplitScores {
        split: point.split.clone(),
        model: point.checkpoint.clone().unwrap_or_default(),
        rows: point.scores.as_ref().map(rows).unwrap_or_default(),
        signature: point.signature.clone().unwrap_or_default(),
        ..SplitScores::default()
    }
}

fn rows(scores: &NamedScores) -> Vec<ScoreRow> {
    let row = |name: &str, value: Option<f64>| ScoreRow {
        name: name.to_owned(),
        value: value.unwrap_or(f64::NAN),
        interval: None,
    };
    let known = SCORE_NAMES.iter().filter_map(|name| Some(row(name, *scores.get(*name)?)));
    let others = scores.iter().filter(|(name, _)| !SCORE_NAMES.contains(&name.as_str()));
    known.chain(others.map(|(name, &value)| row(name, value))).collect()
}

fn table(scores: &SplitScores) -> ScoreTable {
    let line = |row: &ScoreRow| ScoreLine {
        name: readable(&row.name),
        value: score(row.value),
        interval: row.interval.map(|(low, high)| format!("{} to {}", score(low), score(high))),
    };
    let has_intervals = scores.rows.iter().any(|row| row.interval.is_some());
    let confidence = Some(scores.confidence).filter(|share| *share > 0.0 && *share <= 1.0);
    let interval_header = match confidence {
        Some(share) => interval_name(share),
        None => "interval".to_owned(),
    };
    ScoreTable {
        split: text::line(&scores.split, MAX_CAPTION),
        model: text::line(&scores.model, MAX_CAPTION),
        rows: scores.rows.iter().map(line).collect(),
        interval_name: has_intervals.then_some(interval_header),
        notes: scores.notes.iter().map(|note| text::line(note, MAX_CAPTION)).collect(),
        signature: text::line(&scores.signature, MAX_CAPTION),
        figures: scores.figures.as_ref().map(figures).unwrap_or_default(),
    }
}

/// What is said of intervals with this share of the resamples.
pub(super) fn interval_name(confidence: f64) -> String {
    format!("{:.0} % of resamples", 100.0 * confidence)
}

/// `Bleu_4` as written in papers.
pub(super) fn readable(name: &str) -> String {
    match name.strip_prefix("Bleu_") {
        Some(order) => format!("BLEU-{}", text::line(order, MAX_CAPTION)),
        None if name == "ROUGE_L" => "ROUGE-L".to_owned(),
        None => text::line(name, MAX_CAPTION),
    }
}

fn figures(figures: &CaptionStatistics) -> Vec<(&'static str, String)> {
    let length = format!("{}, {} to {}", significant(figures.mean_length), figures.min_length, figures.max_length);
    let mut lines = vec![
        ("words per caption", length),
        ("vocabulary", grouped(figures.vocabulary as u64)),
        ("distinct captions", percentage(figures.distinct)),
    ];
    let novel = figures.novel.map_or_else(|| "unknown: no training captions given".to_owned(), percentage);
    lines.push(("novel: not among the training captions", novel));
    lines.push(("repeating three words", percentage(figures.repeating)));
    lines.extend(figures.without_end.map(|share| ("cut off without an end", percentage(share))));
    lines.extend(
        figures
            .bad_endings
            .map(|share| ("ending with a word such as \u{201c}a\u{201d} or \u{201c}with\u{201d}", percentage(share))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::metrics_log::MetricsLog;

    fn evaluation(split: &str, cider: f64) -> EvaluationRecord {
        let scores = [("CIDEr".to_owned(), Some(cider)), ("Bleu_1".to_owned(), None), ("X".to_owned(), Some(1.0))];
        EvaluationRecord { split: split.to_owned(), scores: Some(scores.into()), ..EvaluationRecord::default() }
    }

    #[test]
    fn a_split_of_the_log_counts_where_the_caller_gives_none_and_the_later_wins() {
        let evaluations = vec![evaluation("test", 0.1), evaluation("val", 0.2), evaluation("test", 0.3)];
        let given = SplitScores { split: "val".to_owned(), ..SplitScores::default() };
        let metrics = MetricsLog { evaluations, ..MetricsLog::default() };
        let tables = score_tables(&ReportData { metrics, scores: vec![given], ..ReportData::default() });
        assert_eq!((tables.len(), tables[1].split.as_str()), (2, "test"));
        let lines: Vec<_> = tables[1].rows.iter().map(|row| (row.name.as_str(), row.value.as_str())).collect();
        assert_eq!(lines, [("BLEU-1", "not finite"), ("CIDEr", "0.300"), ("X", "1.000")]);
    }

    #[test]
    fn intervals_and_figures_are_written_out() {
        let rows = vec![ScoreRow { name: "CIDEr".to_owned(), value: 0.5, interval: Some((0.45, 0.56)) }];
        let figures = CaptionStatistics { distinct: 0.75, ..CaptionStatistics::default() };
        let found = table(&SplitScores { rows, confidence: 0.95, figures: Some(figures), ..SplitScores::default() });
        assert_eq!(found.rows[0].interval.as_deref(), Some("0.450 to 0.560"));
        assert_eq!(found.interval_name.as_deref(), Some("95 % of resamples"));
        assert!(found.figures.contains(&("distinct captions", "75.0 %".to_owned())));
    }
}
