//! A chart as the template draws it: positions in percent of the plot, paths in thousandths of it, ticks, and the
//! values of the curves for the page's script.
//!
//! Lines are stretched to the plot's size and texts are not, so that a chart is readable on a phone and on a wide
//! screen. All colours are classes, so that it follows light and dark mode.

use std::collections::BTreeMap;

use serde::Serialize;

use super::axis::{Axis, LIMIT};
use super::downsample::{Point, resample};
use super::text::{counted, grouped, significant};

/// Points of a curve in the page.
const MAX_POINTS: usize = 600;
/// Positions along a chart at which marks are distinguished.
const MARK_SLOTS: f64 = 100.0;
/// Side of the square in which paths are drawn.
const SIDE: f64 = 1000.0;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A thin pale line under the others.
    Pale,
    Line,
    /// A dashed line with dots: measured occasionally.
    Dots,
    /// Filled bars.
    Bars,
    /// Empty bars beside the filled ones.
    Outline,
}

/// Which values the vertical axis spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// From 0 to the highest.
    FromZero,
    /// From the lowest to the highest.
    Fitted,
    /// From the lowest; the steep start of a loss and the end of a diverging one may be above the chart, since they
    /// would flatten everything else.
    Settled,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) style: Style,
    /// Which of several runs it is of, for its colour.
    pub(super) run: Option<usize>,
    /// Sorted by x; values that are not finite are dropped.
    pub(super) points: Vec<Point>,
}

/// An event at a position, without a value.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) x: f64,
    /// The text before `: update 12`.
    pub(super) what: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// Unique in the page, of letters and hyphens.
    pub(super) id: &'static str,
    pub(super) title: String,
    /// Unit and meaning of the values.
    pub(super) unit: String,
    /// The unit of the x axis, in the singular.
    pub(super) x_name: &'static str,
    /// The end of the x axis.
    pub(super) x_high: f64,
    pub(super) span: Span,
    /// The most important first.
    pub(super) series: Vec<Series>,
    /// A horizontal line with its name.
    pub(super) rule: Option<(f64, &'static str)>,
    pub(super) marks: Vec<Mark>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Drawing {
    id: &'static str,
    title: String,
    unit: String,
    /// The chart in words, for screen readers.
    summary: String,
    legend: Vec<LegendEntry>,
    /// Whether the title does not say it all.
    has_legend: bool,
    x_name: String,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    paths: Vec<Path>,
    dots: Vec<Dot>,
    bars: Vec<Bar>,
    rule: Option<Tick>,
    marks: Vec<MarkSign>,
    notes: Vec<String>,
    /// For the script.
    pub(super) data: ChartData,
}

#[derive(Clone, Debug, Serialize)]
struct LegendEntry {
    class: String,
    name: String,
}

#[derive(Clone, Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

#[derive(Clone, Debug, Serialize)]
struct Path {
    class: String,
    d: String,
}

#[derive(Clone, Debug, Serialize)]
struct Dot {
    class: String,
    x: String,
    y: String,
}

#[derive(Clone, Debug, Serialize)]
struct Bar {
    class: String,
    x: String,
    y: String,
    width: String,
    height: String,
}

#[derive(Clone, Debug, Serialize)]
struct MarkSign {
    x: String,
    text: String,
}

/// A chart's numbers, for the page's script.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ChartData {
    pub(super) id: &'static str,
    x: [f64; 2],
    y: [f64; 2],
    x_name: &'static str,
    series: Vec<SeriesData>,
    notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SeriesData {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Note {
    x: f64,
    text: String,
}

impl Series {
    /// In the style sheet.
    fn class(&self) -> String {
        let style = match self.style {
            Style::Pale => "pale",
            Style::Line => "line",
            Style::Dots => "dots",
            Style::Bars => "bars",
            Style::Outline => "outline",
        };
        self.run.map_or_else(|| style.to_owned(), |run| format!("{style} run-{run}"))
    }
}

impl Chart {
    /// The drawing; `None` without values.
    pub(super) fn draw(mut self) -> Option<Drawing> {
        let mut num_undrawable = 0;
        for series in &mut self.series {
            let before = series.points.len();
            series.points.retain(|point| is_drawable(point.x) && is_drawable(point.y));
            num_undrawable += before - series.points.len();
        }
        self.series.retain(|series| !series.points.is_empty());
        let summary = self.summary()?;
        let is_bars = self.series.iter().any(|series| matches!(series.style, Style::Bars | Style::Outline));
        // Bars are centred on their position and need half a unit of space at both ends.
        let low = if is_bars { -0.5 } else { 0.0 };
        let furthest = self.series.iter().filter_map(|series| series.points.last()).map(|point| point.x);
        let x_high = furthest.fold(self.x_high, f64::max) - low;
        let x = Axis::counting(low, x_high, 6);
        let y = self.vertical_axis();
        let (marks, mut notes) = self.place_marks(&x);
        notes.extend(self.note_above(&y));
        if num_undrawable > 0 {
            notes.push(format!("{} not finite or too large to draw", counted(num_undrawable as u64, "value")));
        }
        let rule = self.rule.filter(|(value, _)| (y.low..=y.high).contains(value)).map(|(value, name)| Tick {
            at: percent(1.0 - y.place(value)),
            label: format!("{name} {}", significant(value)),
        });
        let is_of_runs = self.series.iter().any(|series| series.run.is_some());
        let mut drawing = Drawing {
            id: self.id,
            title: self.title.clone(),
            unit: self.unit.clone(),
            summary,
            legend: Vec::new(),
            has_legend: rule.is_some() || is_of_runs || self.series.len() > 1,
            x_name: format!("{}s", self.x_name),
            x_ticks: ticks(&x, |place| place),
            y_ticks: ticks(&y, |place| 1.0 - place),
            paths: Vec::new(),
            dots: Vec::new(),
            bars: Vec::new(),
            rule,
            marks: marks.iter().map(|note| MarkSign { x: percent(x.place(note.x)), text: note.text.clone() }).collect(),
            notes,
            data: ChartData {
                id: self.id,
                x: [x.low, x.high],
                y: [y.low, y.high],
                x_name: self.x_name,
                series: Vec::new(),
                notes: marks,
            },
        };
        for series in &self.series {
            drawing.add(series, &x, &y);
        }
        Some(drawing)
    }

    /// The range of the values. Of many values the highest few may be above it if they would flatten the others.
    fn vertical_axis(&self) -> Axis {
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        for series in &self.series {
            let mut ys: Vec<f64> = series.points.iter().map(|point| point.y).collect();
            ys.sort_by(f64::total_cmp);
            lowest = lowest.min(ys.first().copied().unwrap_or(lowest));
            highest = highest.max(top(&ys, self.span));
        }
        let ruled = self.rule.map(|(value, _)| value).filter(|value| is_drawable(*value) && *value <= 2.0 * highest);
        let highest = highest.max(ruled.unwrap_or(f64::NEG_INFINITY));
        // An axis that would start slightly above 0 starts at 0.
        let is_near_zero = (0.0..0.15 * highest).contains(&lowest);
        let lowest = if self.span == Span::FromZero || is_near_zero { lowest.min(0.0) } else { lowest };
        Axis::around(lowest, highest, 4)
    }

    /// Marks at the same position become one. All are also listed in words.
    fn place_marks(&self, x: &Axis) -> (Vec<Note>, Vec<String>) {
        // First position, last position, and count.
        const NONE: (f64, f64, u64) = (f64::INFINITY, f64::NEG_INFINITY, 0);
        let mut slots: BTreeMap<(i64, &str), (f64, f64, u64)> = BTreeMap::new();
        let mut totals: BTreeMap<&str, (f64, f64, u64)> = BTreeMap::new();
        for mark in self.marks.iter().filter(|mark| is_drawable(mark.x)) {
            let slot = (x.place(mark.x).clamp(0.0, 1.0) * MARK_SLOTS) as i64;
            for span in [slots.entry((slot, mark.what)).or_insert(NONE), totals.entry(mark.what).or_insert(NONE)] {
                *span = (span.0.min(mark.x), span.1.max(mark.x), span.2 + 1);
            }
        }
        let words = |what: &str, (first, last, count): (f64, f64, u64)| match count {
            1 => format!("{what}: {} {}", self.x_name, whole(first)),
            _ => format!("{what}: {}, {} to {}", counted(count, self.x_name), whole(first), whole(last)),
        };
        let notes = slots.iter().map(|(&(_, what), &span)| Note { x: span.0, text: words(what, span) }).collect();
        (notes, totals.iter().map(|(what, &span)| format!("× {}", words(what, span))).collect())
    }

    fn note_above(&self, y: &Axis) -> Option<String> {
        // A line over pale values is their mean; its points are not measured values.
        let is_smoothed = self.series.iter().any(|series| series.style == Style::Pale);
        let measured = self.series.iter().filter(|series| !(is_smoothed && series.style == Style::Line));
        let above: Vec<&Point> = measured.flat_map(|series| &series.points).filter(|point| point.y > y.high).collect();
        let highest = above.iter().max_by(|a, b| a.y.total_cmp(&b.y))?;
        Some(format!(
            "{} above the chart, the highest {} at {} {}",
            counted(above.len() as u64, "value"),
            significant(highest.y),
            self.x_name,
            whole(highest.x)
        ))
    }

    fn summary(&self) -> Option<String> {
        let series = self.series.first()?;
        let (first, last) = (series.points.first()?, series.points.last()?);
        let lowest = series.points.iter().min_by(|a, b| a.y.total_cmp(&b.y))?;
        let highest = series.points.iter().max_by(|a, b| a.y.total_cmp(&b.y))?;
        let at = |point: &Point| format!("{} at {} {}", significant(point.y), self.x_name, whole(point.x));
        Some(format!(
            "{}, {}: from {} to {}; lowest {}, highest {}",
            self.title,
            series.name,
            at(first),
            at(last),
            at(lowest),
            at(highest)
        ))
    }
}

impl Drawing {
    fn add(&mut self, series: &Series, x: &Axis, y: &Axis) {
        let (style, class) = (series.style, series.class());
        let points = resample(&series.points, MAX_POINTS);
        let place = |point: &Point| (x.place(point.x), 1.0 - y.place(point.y).clamp(-0.05, 1.05));
        self.legend.push(LegendEntry { class: class.clone(), name: series.name.clone() });
        match style {
            Style::Bars | Style::Outline => {
                let zero = 1.0 - y.place(0.0).clamp(0.0, 1.0);
                let width = 0.4 / (x.high - x.low);
                for (left, top) in points.iter().map(place) {
                    let left = if style == Style::Bars { left - width } else { left };
                    let (width, height) = (percent(width), percent((zero - top).max(0.0)));
                    self.bars.push(Bar { class: class.clone(), x: percent(left), y: percent(top), width, height });
                }
            }
            Style::Pale | Style::Line | Style::Dots => {
                self.paths.push(Path { class: class.clone(), d: path(points.iter().map(place)) });
                if style == Style::Dots || points.len() == 1 {
                    let dots = points.iter().map(place).filter(|(_, y)| (0.0..=1.0).contains(y));
                    self.dots.extend(dots.map(|(x, y)| Dot { class: class.clone(), x: percent(x), y: percent(y) }));
                }
            }
        }
        self.data.series.push(SeriesData {
            name: series.name.clone(),
            x: points.iter().map(|point| point.x).collect(),
            y: points.iter().map(|point| short(point.y)).collect(),
        });
    }
}

/// Whether a value can be drawn: differences of such values are finite.
fn is_drawable(value: f64) -> bool {
    value.is_finite() && value.abs() <= LIMIT
}

/// The highest of sorted values; without the top 2 %, or 5 % of a loss, if that is far above the rest.
fn top(sorted: &[f64], span: Span) -> f64 {
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return f64::NEG_INFINITY };
    // With few values none is an outlier.
    let (part, patience) = match sorted.len() {
        ..8 => return high,
        8..50 => (50, 10.0),
        100.. if span == Span::Settled => (20, 0.8),
        _ => (50, 3.0),
    };
    let left_out = (sorted.len() / part).max(1);
    let usual = sorted.get(sorted.len() - 1 - left_out).copied().unwrap_or(high);
    let spread = usual - low;
    let top = if spread > 0.0 && high - usual > patience * spread { usual + 0.2 * spread } else { high };
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(high);
    // Of a diverging loss, far more than 5 % is far above the rest.
    if part == 20 && median > low { top.min(low + 10.0 * (median - low)) } else { top }
}

fn ticks(axis: &Axis, turn: impl Fn(f64) -> f64) -> Vec<Tick> {
    axis.ticks().into_iter().map(|(value, label)| Tick { at: percent(turn(axis.place(value))), label }).collect()
}

fn path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (x, y) in places {
        d.push_str(&format!("{}{:.1} {:.1}", if d.is_empty() { 'M' } else { 'L' }, SIDE * x, SIDE * y));
    }
    d
}

fn percent(place: f64) -> String {
    format!("{:.2}%", 100.0 * place)
}

/// Five significant digits: more than is visible.
fn short(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

fn whole(x: f64) -> String {
    grouped(x.max(0.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>, style: Style) -> Chart {
        Chart {
            id: "loss",
            title: "Loss".to_owned(),
            unit: "nats per token".to_owned(),
            x_name: "update",
            x_high: 0.0,
            span: Span::Fitted,
            series: vec![Series { name: "training".to_owned(), style, run: None, points }],
            rule: None,
            marks: Vec::new(),
        }
    }

    fn curve(ys: &[f64]) -> Vec<Point> {
        ys.iter().enumerate().map(|(index, &y)| Point::new(index as f64 + 1.0, y)).collect()
    }

    #[test]
    fn values_that_are_not_finite_are_left_out_and_the_rest_is_drawn() {
        let ys = [3.0, f64::NAN, 2.0, f64::INFINITY, 1e300, 1.5];
        let drawing = chart(curve(&ys), Style::Line).draw().unwrap();
        assert_eq!(drawing.data.series[0].y, [3.0, 2.0, 1.5]);
        let json = serde_json::to_string(&drawing).unwrap();
        assert!(!json.contains("NaN") && !json.contains("inf"), "{json}");
        assert!(chart(curve(&[f64::NAN]), Style::Line).draw().is_none());
        assert!(chart(Vec::new(), Style::Dots).draw().is_none());
    }

    #[test]
    fn a_single_value_is_a_dot() {
        let drawing = chart(curve(&[2.5]), Style::Line).draw().unwrap();
        assert_eq!((drawing.dots.len(), drawing.dots[0].x.as_str()), (1, "100.00%"));
        assert!(drawing.summary.contains("from 2.500 at update 1"), "{}", drawing.summary);
    }

    #[test]
    fn the_axis_of_a_loss_begins_near_its_lowest_value_unless_that_is_near_0() {
        let low = |ys: &[f64]| chart(curve(ys), Style::Line).vertical_axis().low;
        assert_eq!(low(&[4.9, 3.1, 2.4]), 2.0);
        assert_eq!(low(&[4.9, 1.1, 0.2]), 0.0);
        let mut from_zero = chart(curve(&[4.9, 3.1]), Style::Line);
        from_zero.span = Span::FromZero;
        assert_eq!(from_zero.vertical_axis().low, 0.0);
    }

    #[test]
    fn a_spike_lies_above_the_chart_and_is_reported() {
        let mut ys: Vec<f64> = (0..1000).map(|index| 2.0 + f64::from(index % 10) * 0.1).collect();
        ys[500] = 1e9;
        let drawing = chart(curve(&ys), Style::Pale).draw().unwrap();
        assert!(drawing.data.y[1] < 5.0, "{:?}", drawing.data.y);
        assert_eq!(drawing.notes, ["1 value above the chart, the highest 1.00e9 at update 501"]);
        assert!(drawing.data.series[0].y.contains(&1e9), "the tooltip still knows it");
    }

    #[test]
    fn the_steep_beginning_of_a_loss_lies_above_the_chart() {
        let ys: Vec<f64> =
            (0..1000).map(|index| 2.0 + 7.0 * (-f64::from(index) / 20.0).exp() + 1.0 / f64::from(index + 10)).collect();
        let mut loss = chart(curve(&ys), Style::Pale);
        assert_eq!(loss.vertical_axis().high, 10.0);
        loss.span = Span::Settled;
        let axis = loss.vertical_axis();
        assert!(axis.low == 2.0 && axis.high < 3.5, "{axis:?}");
    }

    #[test]
    fn a_loss_that_diverges_leaves_the_chart() {
        let ys: Vec<f64> =
            (0..300).map(|index| 3.0 + 0.01 * f64::from(index % 50) + (f64::from(index - 200) / 4.0).exp()).collect();
        let mut loss = chart(curve(&ys), Style::Pale);
        loss.span = Span::Settled;
        assert!(loss.vertical_axis().high < 10.0, "{:?}", loss.vertical_axis());
    }

    #[test]
    fn marks_at_one_place_become_one_and_are_reported_in_words() {
        let mut with_marks = chart(curve(&[1.0; 1000]), Style::Line);
        let at = [10.0, 11.0, 12.0, 900.0, f64::NAN];
        with_marks.marks = at.iter().map(|&x| Mark { x, what: "skipped" }).collect();
        let drawing = with_marks.draw().unwrap();
        let texts: Vec<_> = drawing.marks.iter().map(|mark| mark.text.as_str()).collect();
        assert_eq!(texts, ["skipped: 3 updates, 10 to 12", "skipped: update 900"]);
        assert_eq!(drawing.notes, ["× skipped: 4 updates, 10 to 900"]);
    }

    #[test]
    fn a_million_updates_stay_small() {
        let points = (0..1_000_000).map(|index| Point::new(f64::from(index), f64::from(index % 777) * 0.01)).collect();
        let drawing = chart(points, Style::Pale).draw().unwrap();
        assert!(drawing.data.series[0].x.len() <= 600);
        assert!(serde_json::to_string(&drawing).unwrap().len() < 60_000);
    }

    #[test]
    fn bars_stand_beside_each_other_on_the_ground() {
        let mut bars = chart(vec![Point::new(0.0, 0.0), Point::new(1.0, 0.6)], Style::Bars);
        let points = vec![Point::new(1.0, 0.3)];
        bars.series.push(Series { name: "b".to_owned(), style: Style::Outline, run: None, points });
        bars.span = Span::FromZero;
        let drawing = bars.draw().unwrap();
        let shapes: Vec<_> =
            drawing.bars.iter().map(|bar| (bar.x.as_str(), bar.y.as_str(), bar.height.as_str())).collect();
        assert_eq!(shapes[0], ("5.00%", "100.00%", "0.00%"));
        assert_eq!((shapes[1].0, shapes[1].2), ("55.00%", "100.00%"));
        assert_eq!((shapes[2].0, shapes[2].2), ("75.00%", "50.00%"));
    }

    #[test]
    fn a_rule_far_above_the_values_does_not_press_them_flat() {
        let mut ruled = chart(curve(&[0.1, 0.2]), Style::Line);
        ruled.rule = Some((100.0, "clipped at"));
        assert!(ruled.clone().draw().unwrap().rule.is_none());
        ruled.rule = Some((0.3, "clipped at"));
        assert_eq!(ruled.draw().unwrap().rule.unwrap().label, "clipped at 0.3000");
    }
}
