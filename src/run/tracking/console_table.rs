//! The table of the console: a line for each epoch, of at most 80 columns up to 999 epochs.

use std::time::Duration;

use metrics::score::Scores;

/// What the line of an epoch says. What there is not stays empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EpochLine<'a> {
    /// From 1.
    pub(super) epoch: u64,
    /// Mean token loss of its updates, in nats.
    pub(super) train_loss: Option<f64>,
    /// That of the validation split.
    pub(super) val_loss: Option<f64>,
    /// Of the captions of the validation split.
    pub(super) scores: Option<&'a Scores<f64>>,
    /// That of its last update.
    pub(super) learning_rate: f64,
    /// Pairs in a second of its updates.
    pub(super) images_per_second: f64,
    /// Of its updates and its validation.
    pub(super) seconds: f64,
    /// What the epochs that are left will take.
    pub(super) left: Option<Duration>,
    /// Whether its model is the best so far.
    pub(super) is_best: bool,
}

/// The lines of the epochs, with a header above the first.
#[derive(Debug, Default)]
pub(super) struct ConsoleTable {
    num_epochs: usize,
    has_scores: bool,
    is_begun: bool,
}

/// What is between two columns.
const GAP: &str = "  ";

impl ConsoleTable {
    /// `has_scores`: some validations score captions.
    pub(super) fn new(num_epochs: usize, has_scores: bool) -> Self {
        Self { num_epochs, has_scores, is_begun: false }
    }

    /// The lines that come with an epoch.
    pub(super) fn lines(&mut self, row: &EpochLine<'_>) -> Vec<String> {
        let number =
            |value: Option<f64>, decimals: usize| value.map_or_else(String::new, |value| format!("{value:.decimals$}"));
        let columns = [
            ("epoch", 2 * self.num_epochs.to_string().len() + 1, format!("{}/{}", row.epoch, self.num_epochs)),
            ("train loss", 10, number(row.train_loss, 4)),
            ("val loss", 8, number(row.val_loss, 4)),
            ("CIDEr", 6, number(row.scores.map(|scores| scores.CIDEr), 3)),
            ("lr", 7, format!("{:.2e}", row.learning_rate)),
            ("images/s", 8, format!("{:.1}", row.images_per_second)),
            ("time", 7, time(row.seconds)),
            ("left", 6, row.left.map_or_else(String::new, left)),
        ];
        let columns = columns.iter().filter(|(name, _, _)| self.has_scores || *name != "CIDEr");
        let (mut header, mut line) = (Vec::new(), Vec::new());
        for (name, width, cell) in columns {
            let width = (*width).max(name.len());
            header.push(format!("{name:>width$}"));
            line.push(format!("{cell:>width$}"));
        }
        line.extend(row.is_best.then(|| "best".to_owned()));
        let mut lines = if std::mem::replace(&mut self.is_begun, true) { Vec::new() } else { vec![header] };
        lines.push(line);
        let mut lines: Vec<String> = lines.iter().map(|cells| cells.join(GAP).trim_end().to_owned()).collect();
        lines.extend(row.scores.map(other_scores));
        lines
    }
}

/// The scores that have no column.
fn other_scores(scores: &Scores<f64>) -> String {
    let Scores { Bleu_1, Bleu_2, Bleu_3, Bleu_4, METEOR, ROUGE_L, .. } = scores;
    format!(
        "       Bleu_1 to 4 {Bleu_1:.3} {Bleu_2:.3} {Bleu_3:.3} {Bleu_4:.3}  METEOR {METEOR:.3}  ROUGE_L {ROUGE_L:.3}"
    )
}

/// Seconds that were measured.
fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A duration that is only about right.
fn left(duration: Duration) -> String {
    match (duration.as_secs() + 30) / 60 {
        0 => "<1 min".to_owned(),
        minutes @ 1..100 => format!("{minutes} min"),
        minutes @ 100..6_000 => format!("{:.1} h", minutes as f64 / 60.0),
        minutes => format!("{} h", (minutes + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u64) -> EpochLine<'static> {
        EpochLine {
            epoch,
            train_loss: Some(3.21),
            val_loss: Some(3.5),
            learning_rate: 5e-4,
            images_per_second: 123.4,
            seconds: 61.4,
            left: Some(Duration::from_secs(29)),
            ..EpochLine::default()
        }
    }

    #[test]
    fn an_epoch_is_a_line_below_a_header_that_comes_once() {
        let mut table = ConsoleTable::new(10, false);
        let mut lines = table.lines(&EpochLine { is_best: true, ..row(1) });
        lines.extend(table.lines(&EpochLine { val_loss: None, ..row(2) }));
        lines.extend(table.lines(&EpochLine { left: None, ..row(10) }));
        let expected = "\
epoch  train loss  val loss       lr  images/s     time    left
 1/10      3.2100    3.5000  5.00e-4     123.4     1:01  <1 min  best
 2/10      3.2100            5.00e-4     123.4     1:01  <1 min
10/10      3.2100    3.5000  5.00e-4     123.4     1:01";
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn the_widest_line_fits_into_80_columns() {
        let (bleu, others) = ([0.712, 0.543, 0.412, 0.301], [0.254, 0.523, 10.0]);
        let scores = Scores {
            Bleu_1: bleu[0],
            Bleu_2: bleu[1],
            Bleu_3: bleu[2],
            Bleu_4: bleu[3],
            METEOR: others[0],
            ROUGE_L: others[1],
            CIDEr: others[2],
        };
        let widest = EpochLine {
            train_loss: Some(11.51),
            scores: Some(&scores),
            images_per_second: 123_456.7,
            seconds: 35_999.0,
            left: Some(Duration::from_secs(359_000)),
            is_best: true,
            ..row(100)
        };
        let lines = ConsoleTable::new(999, true).lines(&widest);
        let expected = "  epoch  train loss  val loss   CIDEr       lr  images/s     time    left
100/999     11.5100    3.5000  10.000  5.00e-4  123456.7  9:59:59  99.7 h  best
       Bleu_1 to 4 0.712 0.543 0.412 0.301  METEOR 0.254  ROUGE_L 0.523";
        assert_eq!(lines.join("\n"), expected);
        assert!(lines.iter().all(|line| line.len() <= 80));
    }

    #[test]
    fn times_are_exact_and_what_is_left_is_round() {
        assert_eq!([0.44, 59.96, 3_599.6, 3_725.0].map(time), ["0.4 s", "1:00", "1:00:00", "1:02:05"]);
        let said = [29, 89, 5_430, 6_000, 400_000].map(|seconds| left(Duration::from_secs(seconds)));
        assert_eq!(said, ["<1 min", "1 min", "91 min", "1.7 h", "111 h"]);
    }
}
