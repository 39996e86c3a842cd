//! Reads `metrics.jsonl` into series. Lines that it cannot read and kinds that it does not know are counted, not
//! refused: a report is wanted most when something went wrong.

use std::io::{self, BufRead};

use serde::Serialize;

use crate::caption_fit::CaptionFit;
use crate::record::{EpochRecord, EvaluationRecord, Line, Record, StepRecord, ValidationRecord};

/// What a run logged, each list in the order of updates. Where an update, an epoch or a validation was logged twice, as
/// a resumed run does, the later line counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricsLog {
    /// How the captions fit into the decoder.
    pub captions: Option<CaptionFit>,
    /// Logged updates.
    pub steps: Vec<StepRecord>,
    /// Completed epochs.
    pub epochs: Vec<EpochRecord>,
    pub validations: Vec<ValidationRecord>,
    /// Splits that were captioned and scored by themselves.
    pub evaluations: Vec<EvaluationRecord>,
    /// Lines that cannot be read; a last line that is still being written is not counted.
    pub num_unreadable: u64,
    /// Lines of other kinds.
    pub num_unknown: u64,
}

/// Reads all lines.
///
/// # Errors
/// What reading gives; never what the lines hold.
pub fn read(mut reader: impl BufRead) -> io::Result<MetricsLog> {
    let mut log = MetricsLog::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        log.take(&line);
        line.clear();
    }
    keep_latest(&mut log.steps, |point| point.step);
    keep_latest(&mut log.epochs, |point| point.epoch);
    // Self-critical training has several in an epoch.
    keep_latest(&mut log.validations, |point| (point.epoch, point.step));
    Ok(log)
}

impl MetricsLog {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.epochs.is_empty() && self.validations.is_empty() && self.evaluations.is_empty()
    }

    /// The last update of which anything is known.
    pub fn last_step(&self) -> Option<u64> {
        let of_epochs = self.epochs.iter().filter_map(|point| point.step);
        let of_validations = self.validations.iter().filter_map(|point| point.step);
        self.steps.iter().map(|point| point.step).chain(of_epochs).chain(of_validations).max()
    }

    fn take(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match Line::parse(line) {
            Ok(Line::Record(record)) => self.add(record),
            Ok(Line::Unknown { .. }) => self.num_unknown += 1,
            // Torn lines without an end are the last of a run that is under way.
            Err(_) if line.last() != Some(&b'\n') => {}
            Err(_) => self.num_unreadable += 1,
        }
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Captions(record) => self.captions = Some(record.fit),
            Record::Step(record) => self.steps.push(record),
            Record::Epoch(record) => self.epochs.push(record),
            Record::Validation(record) => self.validations.push(record),
            Record::Evaluation(record) => self.evaluations.push(record),
        }
    }
}

/// Sorts by `key`; of equal keys the last stays.
fn keep_latest<T, K: Ord>(points: &mut Vec<T>, key: impl Fn(&T) -> K) {
    points.reverse();
    points.sort_by_key(&key);
    points.dedup_by_key(|point| key(point));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> MetricsLog {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let log = read_text(concat!(
            r#"{"kind":"step","step":10,"epoch":1,"loss":2.5,"learning_rate":1e-4,"grad_norm":1.5,"images_per_second":80.0,"wait_seconds":0.1,"skipped":false}"#,
            "\n",
            r#"{"kind":"epoch","step":12,"epoch":1,"train_loss":2.6,"train_seconds":3.0,"skipped_updates":0}"#,
            "\n",
            r#"{"kind":"validation","step":12,"epoch":1,"val_loss":2.7,"scores":{"CIDEr":0.5,"Bleu_4":null},"signature":"s","val_seconds":1.0,"best":true,"alarms":["a"]}"#,
            "\n\n",
            r#"{"kind":"evaluation","step":12,"epoch":1,"split":"test","checkpoint":"c","scores":{"CIDEr":0.4},"decoding":{"num_beams":3}}"#,
            "\n",
        ));
        assert_eq!((log.steps[0].step, log.steps[0].loss, log.steps[0].seconds), (10, Some(2.5), None));
        assert_eq!(log.epochs[0].train_loss, Some(2.6));
        let scores = log.validations[0].scores.as_ref().unwrap();
        assert_eq!((scores["CIDEr"], scores["Bleu_4"]), (Some(0.5), None));
        assert_eq!((log.validations[0].best, log.validations[0].alarms.len()), (true, 1));
        assert_eq!(log.evaluations[0].split, "test");
        assert_eq!((log.num_unreadable, log.num_unknown, log.last_step()), (0, 0, Some(12)));
    }

    #[test]
    fn of_an_update_that_was_logged_twice_the_later_line_counts() {
        let lines: String = [(1, 9.0), (2, 8.0), (3, 7.0), (2, 2.0), (3, 1.0)]
            .iter()
            .map(|(step, loss)| format!("{{\"kind\":\"step\",\"step\":{step},\"loss\":{loss}}}\n"))
            .collect();
        let losses: Vec<_> = read_text(&lines).steps.iter().map(|point| (point.step, point.loss)).collect();
        assert_eq!(losses, [(1, Some(9.0)), (2, Some(2.0)), (3, Some(1.0))]);
    }

    #[test]
    fn validations_of_one_epoch_are_told_apart_by_their_updates() {
        let lines: String = [(0, 9.0), (100, 8.0), (100, 7.0), (200, 6.0)]
            .iter()
            .map(|(step, loss)| {
                format!("{{\"kind\":\"validation\",\"epoch\":0,\"step\":{step},\"val_loss\":{loss}}}\n")
            })
            .collect();
        let losses: Vec<_> = read_text(&lines).validations.iter().map(|point| (point.step, point.val_loss)).collect();
        assert_eq!(losses, [(Some(0), Some(9.0)), (Some(100), Some(7.0)), (Some(200), Some(6.0))]);
    }

    #[test]
    fn the_lengths_of_captions_are_read_and_are_not_a_curve() {
        let fit = |cut: usize| {
            let split = format!(r#"{{"captions":9,"cut":{cut},"longest":40}}"#);
            format!(
                r#"{{"kind":"captions","step":0,"epoch":0,"fit":{{"max_seq_len":16,"most_positions":null,"train":{split},"val":{split},"fits_99_percent":40}}}}"#
            )
        };
        let log = read_text(&format!("{}\n{}\n", fit(1), fit(2)));
        assert_eq!(log.captions.map(|fit| (fit.train.cut, fit.longest())), Some((2, 40)));
        assert!(log.is_empty() && log.num_unknown + log.num_unreadable == 0);
    }

    #[test]
    fn torn_lines_and_unknown_kinds_are_counted_and_harm_nothing() {
        let log = read_text(concat!(
            "{\"kind\":\"step\",\"st\n",
            "{\"kind\":\"weather\",\"step\":\"rain\"}\n",
            "{\"kind\":\"step\",\"step\":-1}\n",
            "[1, 2]\n",
            "{\"kind\":\"step\",\"step\":1,\"loss\":null,\"skipped\":true}\n",
            "{\"kind\":\"step\",\"step\":2,\"lo",
        ));
        assert_eq!((log.num_unreadable, log.num_unknown), (3, 1));
        assert_eq!(log.steps, [StepRecord { step: 1, skipped: true, ..StepRecord::default() }]);
        assert_eq!(read(&b"\xff\xfe\n"[..]).unwrap().num_unreadable, 1);
        assert!(read_text("").is_empty());
    }

    #[test]
    fn a_last_line_without_an_end_that_is_whole_counts() {
        assert_eq!(read_text("{\"kind\":\"step\",\"step\":4}").steps[0].step, 4);
    }
}
