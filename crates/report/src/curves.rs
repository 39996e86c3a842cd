//! The charts of logged values.

use serde::Serialize;

use super::charts::{Chart, Drawing, Mark, Series, Span, Style};
use super::data::ReportData;
use super::downsample::{Point, smooth};
use records::metrics_log::MetricsLog;
use records::record::{StepRecord, ValidationRecord};

/// Points of a smoothed line.
const MAX_SMOOTHED: usize = 300;

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Curves {
    pub(super) loss: Option<Drawing>,
    /// One per score.
    pub(super) scores: Vec<Drawing>,
    /// Learning rate, gradients, speed.
    pub(super) updates: Vec<Drawing>,
    /// Charts without logged values.
    pub(super) missing: Vec<&'static str>,
}

pub(super) fn curves(data: &ReportData) -> Curves {
    let log = &data.metrics;
    let x_high = log.last_step().unwrap_or(0) as f64;
    let mut curves = Curves { loss: loss_chart(log, x_high).draw(), ..Curves::default() };
    if curves.loss.is_none() {
        curves.missing.push("loss");
    }
    // Several validations in an epoch are told apart by the update.
    let is_by_update = log.validations.windows(2).any(|pair| pair[0].epoch == pair[1].epoch);
    curves.scores = score_charts(&log.validations, is_by_update).into_iter().filter_map(Chart::draw).collect();
    let charts = [
        ("learning rate", learning_rate_chart(log, x_high)),
        ("gradient norm", grad_norm_chart(log, data.max_grad_norm, x_high)),
        ("throughput", throughput_chart(log, x_high)),
        ("wait share", wait_chart(data, x_high)),
    ];
    for (name, chart) in charts {
        match chart.draw() {
            Some(drawing) => curves.updates.push(drawing),
            None => curves.missing.push(name),
        }
    }
    // Only self-critical training has them.
    curves.updates.extend(reward_charts(log, x_high).into_iter().filter_map(Chart::draw));
    curves
}

/// The curves of several runs over each other: of each chart the line that says most of a run, in the run's colour.
pub(super) fn overlaid(runs: &[(&str, &MetricsLog)]) -> Vec<Drawing> {
    let mut charts: Vec<Chart> = Vec::new();
    for (run, (name, log)) in runs.iter().enumerate() {
        for mut chart in single_lines(log) {
            for series in &mut chart.series {
                (series.name, series.run) = ((*name).to_owned(), Some(run));
            }
            match charts.iter_mut().find(|other| other.id == chart.id) {
                Some(other) => {
                    other.x_high = other.x_high.max(chart.x_high);
                    other.series.append(&mut chart.series);
                }
                None => charts.push(chart),
            }
        }
    }
    charts.into_iter().filter_map(Chart::draw).collect()
}

/// The charts of a run that mean the same in another, with a line each at most, by updates.
fn single_lines(log: &MetricsLog) -> Vec<Chart> {
    let x_high = log.last_step().unwrap_or(0) as f64;
    let Chart { series, .. } = loss_chart(log, x_high);
    let is_validation = |series: &Series| series.style == Style::Dots;
    let (validation, training) = series.into_iter().partition(is_validation);
    let is_critical = log.steps.iter().any(|point| point.rewards.reward.is_some());
    let (weighed, training) = if is_critical { (training, Vec::new()) } else { (Vec::new(), training) };
    let loss = |id, title, unit, series| Chart { span: Span::Settled, ..step_chart(id, title, unit, x_high, series) };
    let mut charts = vec![
        loss("training-loss", "Training loss", "nats per token", training),
        loss("validation-loss", "Validation loss", "nats per token", validation),
    ];
    charts.extend(score_charts(&log.validations, true));
    charts.push(loss("weighed-loss", "Self-critical loss", "nats per token, weighted by the advantages", weighed));
    charts.extend(reward_charts(log, x_high));
    for chart in &mut charts {
        // Smoothed lines come last.
        chart.series.retain(|series| !series.points.is_empty());
        chart.series = chart.series.pop().into_iter().collect();
        if chart.series.is_empty() {
            chart.x_high = 0.0;
        }
        chart.marks.clear();
    }
    charts
}

fn loss_chart(log: &MetricsLog, x_high: f64) -> Chart {
    let training = values(log, |point| point.loss);
    let validation: Vec<Point> = log
        .validations
        .iter()
        .filter_map(|point| Some(Point::new(point.step? as f64, point.val_loss?)))
        .filter(|point| point.y.is_finite())
        .collect();
    let smoothed = smooth(&training, MAX_SMOOTHED);
    // If there is nothing to smooth, the losses themselves are the line.
    let style = if smoothed.is_empty() { Style::Line } else { Style::Pale };
    let mut marks = skipped(log);
    marks.extend(not_finite(log, |point| point.loss));
    let of_validations = log.validations.iter().filter(|point| !point.val_loss.is_some_and(f64::is_finite));
    marks.extend(
        of_validations.filter_map(|point| Some(Mark { x: point.step? as f64, what: "validation loss not finite" })),
    );
    Chart {
        id: "loss",
        title: "Loss".to_owned(),
        unit: "nats per token".to_owned(),
        x_name: "update",
        x_high,
        span: Span::Settled,
        series: vec![
            series("training", style, training),
            series("training, smoothed", Style::Line, smoothed),
            series("validation", Style::Dots, validation),
        ],
        rule: None,
        marks,
    }
}

/// Each score has its own chart: on a shared axis only CIDEr would be visible.
fn score_charts(validations: &[ValidationRecord], is_by_update: bool) -> Vec<Chart> {
    const SCORES: [(&str, &str, &str); 4] = [
        ("bleu", "Bleu_4", "BLEU-4"),
        ("meteor", "METEOR", "METEOR"),
        ("rouge", "ROUGE_L", "ROUGE-L"),
        ("cider", "CIDEr", "CIDEr"),
    ];
    let place = |point: &ValidationRecord| match is_by_update {
        true => point.step.unwrap_or(0) as f64,
        false => point.epoch as f64,
    };
    let last = validations.last().map_or(0.0, place);
    let chart = |(id, key, title): (&'static str, &str, &str)| {
        let of = |point: &ValidationRecord| Some((place(point), *point.scores.as_ref()?.get(key)?));
        let measured: Vec<(f64, Option<f64>)> = validations.iter().filter_map(of).collect();
        let finite = measured.iter().filter_map(|&(x, score)| score.map(|score| Point::new(x, score)));
        let lost = measured.iter().filter(|(_, score)| score.is_none());
        Chart {
            id,
            title: title.to_owned(),
            unit: "on validation images".to_owned(),
            x_name: if is_by_update { "update" } else { "epoch" },
            x_high: last,
            span: Span::Fitted,
            series: vec![series(title, Style::Dots, finite.collect())],
            rule: None,
            marks: lost.map(|&(x, _)| Mark { x, what: "not finite" }).collect(),
        }
    };
    SCORES.into_iter().map(chart).collect()
}

/// What the sampled captions were worth, and how far the model is from the one that training began from.
fn reward_charts(log: &MetricsLog, x_high: f64) -> Vec<Chart> {
    let of_updates = |value: fn(&StepRecord) -> Option<f64>| values(log, value);
    let chart = |id, title: &str, unit: &str, series| step_chart(id, title, unit, x_high, series);
    let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
    let of_validations = log.validations.iter().filter_map(|point| Some((point.step? as f64, point.distance?)));
    let distances: Vec<Point> = of_validations.map(|(step, distance)| Point::new(step, distance)).collect();
    let mut charts = vec![
        chart(
            "reward",
            "Reward",
            "CIDEr-D of sampled captions, with the end as a word",
            raw_and_smoothed("reward", of_updates(|point| point.rewards.reward)),
        ),
        chart(
            "advantage",
            "Advantage",
            "reward less baseline, root mean square",
            raw_and_smoothed("advantage", of_updates(|point| point.rewards.advantage)),
        ),
        chart(
            "words",
            "Words in sampled captions",
            "mean",
            raw_and_smoothed("words", of_updates(|point| point.rewards.length)),
        ),
        chart(
            "endings",
            "Bad endings",
            "% of sampled captions",
            raw_and_smoothed("bad endings, %", values(log, |point| percent(point.rewards.bad_endings))),
        ),
    ];
    let of_distance = vec![series("distance", Style::Dots, distances)];
    charts.push(Chart {
        span: Span::Fitted,
        ..chart("distance", "Distance to the first model", "nats per token of its own captions", of_distance)
    });
    charts
}

fn learning_rate_chart(log: &MetricsLog, x_high: f64) -> Chart {
    let rates = series("learning rate", Style::Line, values(log, |point| point.learning_rate));
    step_chart("rate", "Learning rate", "of the decoder", x_high, vec![rates])
}

fn grad_norm_chart(log: &MetricsLog, max_grad_norm: Option<f64>, x_high: f64) -> Chart {
    let norms = raw_and_smoothed("norm", values(log, |point| point.grad_norm));
    let clipped = log.steps.iter().filter(|point| point.grad_norm > max_grad_norm).count();
    let share = 100.0 * clipped as f64 / log.steps.len().max(1) as f64;
    let unit = match max_grad_norm {
        Some(_) => format!("before clipping; {share:.0} % are clipped"),
        None => "no clipping".to_owned(),
    };
    let mut chart = step_chart("norm", "Gradient norm", &unit, x_high, norms);
    chart.rule = max_grad_norm.map(|norm| (norm, "clipped at"));
    chart.marks = skipped(log);
    chart.marks.extend(not_finite(log, |point| point.grad_norm));
    chart
}

fn throughput_chart(log: &MetricsLog, x_high: f64) -> Chart {
    let speeds = raw_and_smoothed("images/s", values(log, |point| point.images_per_second));
    step_chart("speed", "Throughput", "images per second", x_high, speeds)
}

fn wait_chart(data: &ReportData, x_high: f64) -> Chart {
    let shares = values(&data.metrics, |point| wait_share(point, data.images_per_update).map(|share| 100.0 * share));
    let median = median(shares.iter().map(|point| point.y)).unwrap_or(0.0);
    let unit = format!("% of an update's time, median {median:.1}");
    step_chart("wait", "Waiting for data", &unit, x_high, raw_and_smoothed("waiting, %", shares))
}

/// Fraction of an update's time spent waiting, from 0 to 1. If its duration was not logged, it follows from the speed;
/// the last update of an epoch may have fewer pairs, which makes the fraction slightly too high, hence the clamp.
fn wait_share(point: &StepRecord, images_per_update: Option<u64>) -> Option<f64> {
    let by_speed = || images_per_update.zip(point.images_per_second).map(|(images, speed)| images as f64 / speed);
    let seconds = point.seconds.or_else(by_speed).filter(|seconds| *seconds > 0.0)?;
    Some((point.wait_seconds? / seconds).clamp(0.0, 1.0))
}

/// The median of the finite values.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn values(log: &MetricsLog, value: impl Fn(&StepRecord) -> Option<f64>) -> Vec<Point> {
    let points = log.steps.iter().filter_map(|point| Some(Point::new(point.step as f64, value(point)?)));
    points.filter(|point| point.y.is_finite()).collect()
}

fn skipped(log: &MetricsLog) -> Vec<Mark> {
    let skipped = log.steps.iter().filter(|point| point.skipped);
    skipped.map(|point| Mark { x: point.step as f64, what: "skipped" }).collect()
}

/// Updates that were not skipped and have no finite value.
fn not_finite(log: &MetricsLog, value: impl Fn(&StepRecord) -> Option<f64>) -> Vec<Mark> {
    let lost = log.steps.iter().filter(|point| !point.skipped && !value(point).is_some_and(f64::is_finite));
    lost.map(|point| Mark { x: point.step as f64, what: "not finite" }).collect()
}

fn raw_and_smoothed(name: &str, points: Vec<Point>) -> Vec<Series> {
    let smoothed = smooth(&points, MAX_SMOOTHED);
    let style = if smoothed.is_empty() { Style::Line } else { Style::Pale };
    vec![series(name, style, points), series("smoothed", Style::Line, smoothed)]
}

fn series(name: &str, style: Style, points: Vec<Point>) -> Series {
    Series { name: name.to_owned(), style, run: None, points }
}

fn step_chart(id: &'static str, title: &str, unit: &str, x_high: f64, series: Vec<Series>) -> Chart {
    Chart {
        id,
        title: title.to_owned(),
        unit: unit.to_owned(),
        x_name: "update",
        x_high,
        span: Span::FromZero,
        series,
        rule: None,
        marks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::record::RewardsRecord;

    fn step(step: u64, loss: Option<f64>) -> StepRecord {
        StepRecord {
            step,
            loss,
            learning_rate: Some(1e-4),
            grad_norm: loss,
            images_per_second: Some(50.0),
            wait_seconds: Some(0.1),
            ..StepRecord::default()
        }
    }

    fn data(steps: Vec<StepRecord>) -> ReportData {
        let metrics = MetricsLog { steps, ..MetricsLog::default() };
        ReportData { metrics, images_per_update: Some(10), ..ReportData::default() }
    }

    #[test]
    fn a_run_without_a_line_misses_every_chart() {
        let curves = curves(&ReportData::default());
        assert!(curves.loss.is_none() && curves.scores.is_empty() && curves.updates.is_empty());
        assert_eq!(curves.missing, ["loss", "learning rate", "gradient norm", "throughput", "wait share"]);
    }

    #[test]
    fn updates_without_a_finite_loss_are_marks_in_the_chart() {
        let mut skipped = step(2, None);
        skipped.skipped = true;
        let curves = curves(&data(vec![step(1, Some(3.0)), skipped, step(3, None), step(4, Some(f64::NAN))]));
        let json = serde_json::to_string(&curves.loss.unwrap()).unwrap();
        assert!(json.contains("× skipped: update 2") && json.contains("× not finite: 2 updates, 3 to 4"), "{json}");
    }

    #[test]
    fn waiting_is_a_share_of_the_updates_time() {
        let point = step(1, Some(1.0));
        assert_eq!(wait_share(&point, Some(10)), Some(0.5));
        assert_eq!(wait_share(&point, None), None);
        assert_eq!(wait_share(&StepRecord { seconds: Some(0.4), ..point }, None), Some(0.25));
        assert_eq!(wait_share(&StepRecord { wait_seconds: Some(9.0), ..point }, Some(10)), Some(1.0));
        assert_eq!(wait_share(&StepRecord { images_per_second: Some(f64::INFINITY), ..point }, Some(10)), None);
    }

    #[test]
    fn each_score_has_a_chart_and_a_lost_one_is_a_mark() {
        let scores = |cider: Option<f64>| Some([("CIDEr".to_owned(), cider), ("METEOR".to_owned(), Some(0.2))].into());
        let point = |epoch, cider| ValidationRecord { epoch, scores: scores(cider), ..ValidationRecord::default() };
        let unscored = ValidationRecord { epoch: 3, ..ValidationRecord::default() };
        let validations = [point(1, Some(0.5)), point(2, None), unscored];
        let charts: Vec<Drawing> = score_charts(&validations, false).into_iter().filter_map(Chart::draw).collect();
        let json: Vec<String> = charts.iter().map(|chart| serde_json::to_string(chart).unwrap()).collect();
        assert!(json.len() == 2 && json[0].contains("METEOR") && json[1].contains("× not finite: epoch 2"), "{json:?}");
    }

    #[test]
    fn rewards_have_charts_where_there_are_any_and_several_validations_of_an_epoch_lie_at_their_updates() {
        let rewards = RewardsRecord { reward: Some(0.5), bad_endings: Some(0.25), ..RewardsRecord::default() };
        let mut data = data(vec![StepRecord { rewards, ..step(1, Some(0.5)) }]);
        let scores = || Some([("CIDEr".to_owned(), Some(0.5))].into());
        let point = |step| ValidationRecord {
            step: Some(step),
            scores: scores(),
            distance: Some(0.125),
            ..ValidationRecord::default()
        };
        data.metrics.validations = vec![point(0), point(200)];
        let found = curves(&data);
        let ids: Vec<&str> = found.updates[4..].iter().map(|drawing| drawing.data.id).collect();
        assert_eq!(ids, ["reward", "endings", "distance"]);
        assert!(serde_json::to_string(&found.scores).unwrap().contains("200"));
    }

    #[test]
    fn the_share_of_clipped_updates_is_reported() {
        let mut data = data(vec![step(1, Some(0.5)), step(2, Some(2.0)), step(3, Some(3.0)), step(4, Some(0.1))]);
        data.max_grad_norm = Some(1.0);
        let json = serde_json::to_string(&curves(&data).updates).unwrap();
        assert!(json.contains("50 % are clipped") && json.contains("clipped at 1.000"), "{json}");
    }

    #[test]
    fn the_curves_of_runs_lie_over_each_other_in_their_colours_and_a_chart_of_one_of_them_says_whose_it_is() {
        let mut one = data((1..=30).map(|number| step(number, Some(3.0))).collect()).metrics;
        let rewards = RewardsRecord { reward: Some(0.5), ..RewardsRecord::default() };
        let two = data(vec![StepRecord { rewards, ..step(90, Some(2.0)) }]).metrics;
        let three = data(vec![step(60, Some(1.0))]).metrics;
        one.validations =
            vec![ValidationRecord { epoch: 1, step: Some(30), val_loss: Some(2.5), ..ValidationRecord::default() }];
        let charts = serde_json::to_value(overlaid(&[("one", &one), ("two", &two), ("three", &three)])).unwrap();
        let found: Vec<(&str, Vec<(&str, &str)>)> = charts
            .as_array()
            .unwrap()
            .iter()
            .map(|chart| {
                let legend = chart["legend"].as_array().unwrap().iter();
                let entries = legend.map(|it| (it["name"].as_str().unwrap(), it["class"].as_str().unwrap()));
                (chart["data"]["id"].as_str().unwrap(), entries.collect())
            })
            .collect();
        let expected = [
            ("training-loss", vec![("one", "line run-0"), ("three", "line run-2")]),
            ("validation-loss", vec![("one", "dots run-0")]),
            ("weighed-loss", vec![("two", "line run-1")]),
            ("reward", vec![("two", "line run-1")]),
        ];
        assert_eq!(found, expected);
        assert!(charts.as_array().unwrap().iter().all(|chart| chart["has_legend"] == true));
        assert_eq!(charts[0]["data"]["x"], serde_json::json!([0.0, 60.0]), "as long as the longest run that has it");
    }
}
