//! The status of the run and its key figures.

use serde::Serialize;

use super::curves::median;
use super::data::{ReportData, Status};
use super::text::{self, MAX_CAPTION, counted, duration, grouped, large, score, significant};
use records::record::ValidationRecord;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StatusView {
    /// A symbol; the words do not depend on it.
    sign: &'static str,
    class: &'static str,
    text: String,
    /// The text of an error.
    detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) detail: String,
}

pub(super) fn status(data: &ReportData) -> StatusView {
    let view = |sign, class, text: String| StatusView { sign, class, text, detail: None };
    match &data.status {
        Status::Finished => view("✓", "good", "finished".to_owned()),
        Status::EndedEarly => view("✓", "good", "stopped early: validations brought no better model".to_owned()),
        Status::Interrupted { global_step } => {
            view("■", "warning", format!("interrupted after update {}", grouped(*global_step)))
        }
        Status::Failed { message } => {
            let detail = Some(text::lines(message.trim()));
            StatusView { detail, ..view("✕", "bad", "failed".to_owned()) }
        }
        Status::Unfinished => view(
            "…",
            "warning",
            match data.metrics.last_step() {
                Some(step) => format!("not finished: the last logged update is {}", grouped(step)),
                None => "not finished: nothing logged yet".to_owned(),
            },
        ),
    }
}

/// The key figures; unknown ones say why.
pub(super) fn figures(data: &ReportData) -> Vec<Figure> {
    let log = &data.metrics;
    let validations = &log.validations;
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let of_loss = |point: &ValidationRecord| finite(point.val_loss);
    let of_cider = |point: &ValidationRecord| finite(*point.scores.as_ref()?.get("CIDEr")?);
    let lowest = best(validations, |point| of_loss(point).map(|loss| -loss));
    let highest = best(validations, of_cider);
    let speed = median(log.steps.iter().filter_map(|point| point.images_per_second));
    let training: f64 = log.epochs.iter().filter_map(|point| finite(point.train_seconds)).sum();
    let validating: f64 = validations.iter().filter_map(|point| finite(point.val_seconds)).sum();
    let at_epoch = |epoch: u64, unit: &str| format!("{unit}after epoch {}", grouped(epoch));
    vec![
        figure(
            "Best validation loss",
            lowest.map(|(loss, epoch)| (significant(-loss), at_epoch(epoch, "nats per token, "))),
            if validations.is_empty() { "no validation yet" } else { "no finite loss" },
        ),
        figure(
            "Best CIDEr",
            highest.map(|(cider, epoch)| (score(cider), at_epoch(epoch, "on validation images, "))),
            "no validation was scored",
        ),
        figure(
            "Images per second",
            speed.map(|speed| (significant(speed), "median of the logged updates".to_owned())),
            "no update was logged",
        ),
        figure("Parameters", data.num_parameters.map(|number| (large(number), String::new())), "not known"),
        figure(
            "Time",
            (training > 0.0).then(|| {
                let parts = format!("{} training, {} validating", duration(training), duration(validating));
                (duration(training + validating), parts)
            }),
            "no epoch was completed",
        ),
        progress(data),
    ]
}

fn progress(data: &ReportData) -> Figure {
    let log = &data.metrics;
    let done = log.epochs.last().map(|point| point.epoch).max(log.validations.last().map(|point| point.epoch));
    let planned = data.num_epochs.map_or_else(String::new, |number| format!(" of {}", grouped(number)));
    let epochs = format!("{}{planned}", grouped(done.unwrap_or(0)));
    let steps = log.last_step().map(|step| (epochs, counted(step, "update")));
    figure("Epochs", steps, "nothing was logged yet")
}

/// The highest value and its epoch; the first of equals.
fn best(validations: &[ValidationRecord], value: impl Fn(&ValidationRecord) -> Option<f64>) -> Option<(f64, u64)> {
    let values = validations.iter().filter_map(|point| Some((value(point)?, point.epoch)));
    values.reduce(|best, next| if next.0 > best.0 { next } else { best })
}

fn figure(name: &'static str, known: Option<(String, String)>, otherwise: &str) -> Figure {
    let (value, detail) = known.unwrap_or_else(|| ("–".to_owned(), otherwise.to_owned()));
    Figure { name, value, detail }
}

/// A sentence about lines of the log that could not be shown.
pub(super) fn log_remark(data: &ReportData) -> Option<String> {
    let log = &data.metrics;
    let unreadable =
        (log.num_unreadable > 0).then(|| format!("{} could not be read", counted(log.num_unreadable, "line")));
    let unknown = (log.num_unknown > 0).then(|| format!("{} of an unknown kind", counted(log.num_unknown, "line")));
    let parts: Vec<String> = unreadable.into_iter().chain(unknown).collect();
    (!parts.is_empty()).then(|| text::line(&format!("In metrics.jsonl: {}.", parts.join(", ")), MAX_CAPTION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::metrics_log::MetricsLog;
    use records::record::{EpochRecord, StepRecord};

    fn named<'a>(figures: &'a [Figure], name: &str) -> (&'a str, &'a str) {
        let figure = figures.iter().find(|figure| figure.name == name).unwrap();
        (&figure.value, &figure.detail)
    }

    #[test]
    fn key_figures_come_from_the_log() {
        let validation = |epoch, loss, cider| ValidationRecord {
            epoch,
            step: Some(100 * epoch),
            val_loss: loss,
            scores: Some([("CIDEr".to_owned(), cider)].into()),
            val_seconds: Some(60.0),
            ..ValidationRecord::default()
        };
        let validations = vec![
            validation(1, Some(3.0), Some(0.1)),
            validation(2, Some(2.5), Some(0.4)),
            validation(3, Some(f64::NAN), None),
            validation(4, Some(2.6), Some(0.6)),
        ];
        let speeds = [10.0, 30.0, 20.0].into_iter().zip(1..);
        let steps =
            speeds.map(|(speed, step)| StepRecord { step, images_per_second: Some(speed), ..StepRecord::default() });
        let epochs = vec![EpochRecord { epoch: 4, train_seconds: Some(3600.0), ..EpochRecord::default() }];
        let metrics = MetricsLog { steps: steps.collect(), epochs, validations, ..MetricsLog::default() };
        let found = figures(&ReportData { metrics, num_epochs: Some(10), ..ReportData::default() });
        assert_eq!(named(&found, "Best validation loss"), ("2.500", "nats per token, after epoch 2"));
        assert_eq!(named(&found, "Best CIDEr"), ("0.600", "on validation images, after epoch 4"));
        assert_eq!(named(&found, "Images per second").0, "20.00");
        assert_eq!(named(&found, "Time").0, "1 h 4 min");
        assert_eq!(named(&found, "Epochs"), ("4 of 10", "400 updates"));
    }

    #[test]
    fn figures_that_are_not_known_say_why() {
        let found = figures(&ReportData::default());
        assert!(found.iter().all(|figure| figure.value == "–" && !figure.detail.is_empty()), "{found:?}");
    }

    #[test]
    fn every_status_is_reported_in_words() {
        let text = |status| super::status(&ReportData { status, ..ReportData::default() }).text;
        assert_eq!(text(Status::Interrupted { global_step: 1200 }), "interrupted after update 1,200");
        assert_eq!(text(Status::Unfinished), "not finished: nothing logged yet");
        let failed = Status::Failed { message: "disk\nfull\u{202e}".to_owned() };
        let view = super::status(&ReportData { status: failed, ..ReportData::default() });
        assert_eq!((view.text.as_str(), view.detail.as_deref()), ("failed", Some("disk\nfull⟨U+202E⟩")));
    }

    #[test]
    fn lines_that_could_not_be_read_are_reported() {
        let metrics = MetricsLog { num_unreadable: 1, num_unknown: 2, ..MetricsLog::default() };
        let remark = log_remark(&ReportData { metrics, ..ReportData::default() });
        assert_eq!(remark.as_deref(), Some("In metrics.jsonl: 1 line could not be read, 2 lines of an unknown kind."));
        assert_eq!(log_remark(&ReportData::default()), None);
    }
}
