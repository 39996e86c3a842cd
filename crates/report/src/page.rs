//! Assembles the page of a run.

use serde::Serialize;

use super::addresses::relative_address;
use super::charts::Drawing;
use super::curves::{Curves, curves};
use super::data::{FileLink, ReportData};
use super::epochs::{Alarms, EpochTable, alarms, epoch_table};
use super::filling::{Frame, RunScriptData, fill};
use super::gallery::{Gallery, gallery};
use super::histogram::{CaptionHistograms, histograms};
use super::scores::{ScoreTable, score_tables};
use super::summary::{Figure, StatusView, figures, log_remark, status};
use super::text::{self, MAX_CAPTION};

/// In the head of each page: distinguishes a report from other files.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"caption-train\">";

const FRAME: Frame = Frame::of_runs(concat!(include_str!("parts.html"), include_str!("page.html")));

#[derive(Serialize)]
struct Page {
    run_name: String,
    written_by: String,
    status: StatusView,
    figures: Vec<Figure>,
    cut_captions: Option<String>,
    is_log_empty: bool,
    log_remark: Option<String>,
    curves: Curves,
    epochs: EpochTable,
    alarms: Alarms,
    scores: Vec<ScoreTable>,
    captions: Option<CaptionHistograms>,
    gallery: Gallery,
    config: Option<String>,
    environment: Vec<(String, String)>,
    files: Vec<FileView>,
}

#[derive(Serialize)]
struct FileView {
    address: String,
    path: String,
    what: String,
}

/// The page, as HTML.
///
/// Sections without data say what is missing. Values that are not finite, lists of unequal length and arbitrary texts
/// are not errors.
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub fn render(data: &ReportData) -> anyhow::Result<String> {
    let page = page(data);
    let lengths = page.captions.as_ref().and_then(|captions| captions.lengths.as_ref());
    let curves = &page.curves;
    let drawings = curves.loss.iter().chain(&curves.scores).chain(&curves.updates).chain(lengths);
    let drawings: Vec<&Drawing> = drawings.collect();
    fill(&FRAME, GENERATOR, &page, &RunScriptData::new(&drawings, &page.gallery.data))
}

fn page(data: &ReportData) -> Page {
    let line = |text: &str| text::line(text, MAX_CAPTION);
    Page {
        run_name: if data.run_name.trim().is_empty() { "Unnamed run".to_owned() } else { line(&data.run_name) },
        written_by: line(&data.written_by),
        status: status(data),
        figures: figures(data),
        cut_captions: data.metrics.captions.and_then(|fit| fit.warning().or_else(|| fit.note())),
        is_log_empty: data.metrics.is_empty(),
        log_remark: log_remark(data),
        curves: curves(data),
        epochs: epoch_table(&data.metrics),
        alarms: alarms(&data.metrics),
        scores: score_tables(data),
        captions: data.captions.as_ref().and_then(histograms),
        gallery: gallery(&data.gallery),
        config: data.config_toml.as_deref().filter(|text| !text.trim().is_empty()).map(text::lines),
        environment: data.environment.iter().map(|(name, value)| (line(name), line(value))).collect(),
        files: data.files.iter().map(file_view).collect(),
    }
}

fn file_view(file: &FileLink) -> FileView {
    FileView {
        address: relative_address(&file.path),
        path: text::line(&file.path, MAX_CAPTION),
        what: text::line(&file.what, MAX_CAPTION),
    }
}

#[cfg(test)]
mod tests {
    use super::super::embedding::policy_source;
    use super::*;
    use crate::testing::{HOSTILE, assert_no_markup};
    use crate::{CaptionedImage, CaptionedSplit, GalleryImage, ScoreRow, SplitScores, Status, Word};
    use records::caption_fit::{CaptionFit, SplitFit};
    use records::metrics_log::{self, MetricsLog};
    use records::record::ValidationRecord;

    /// A report in which every text is `text`.
    fn all_of(text: &str) -> ReportData {
        let texts = |count: usize| vec![text.to_owned(); count];
        let validation = ValidationRecord {
            epoch: 1,
            step: Some(1),
            val_loss: Some(2.0),
            alarms: texts(2),
            signature: Some(text.to_owned()),
            ..ValidationRecord::default()
        };
        ReportData {
            run_name: text.to_owned(),
            status: Status::Failed { message: text.to_owned() },
            written_by: text.to_owned(),
            metrics: MetricsLog { validations: vec![validation], ..MetricsLog::default() },
            scores: vec![SplitScores {
                split: text.to_owned(),
                model: text.to_owned(),
                checkpoint: text.to_owned(),
                rows: vec![ScoreRow { name: text.to_owned(), value: f64::NAN, interval: Some((f64::NAN, 1.0)) }],
                confidence: f64::NAN,
                notes: texts(1),
                signature: text.to_owned(),
                figures: None,
            }],
            captions: Some(CaptionedSplit {
                split: text.to_owned(),
                images: vec![CaptionedImage { caption: text.to_owned(), references: texts(2) }; 2],
            }),
            gallery: vec![GalleryImage {
                name: text.to_owned(),
                picture: vec![0xff, 0xd8, 0xff],
                num_prefix_tokens: 1,
                grid: 1,
                caption: text.to_owned(),
                words: vec![Word { text: text.to_owned(), attention: vec![0.5, 0.5] }],
                references: texts(2),
                log_probability: Some(f64::NEG_INFINITY),
                num_tokens: Some(0),
                cider: None,
            }],
            config_toml: Some(text.to_owned()),
            environment: vec![(text.to_owned(), text.to_owned())],
            files: vec![FileLink { path: text.to_owned(), what: text.to_owned() }],
            ..ReportData::default()
        }
    }

    #[test]
    fn nothing_that_data_say_becomes_markup() {
        let (hostile, plain) = (render(&all_of(HOSTILE)).unwrap(), render(&all_of("plain")).unwrap());
        assert_no_markup(&hostile, &plain);
    }

    #[test]
    fn the_page_asks_for_nothing_outside_of_it() {
        let page = render(&all_of("plain")).unwrap();
        for sign in ["http://", "https://", "@import", "url(", " style=", " onclick="] {
            assert!(!page.contains(sign), "{sign}");
        }
        assert!(page.contains("default-src &#x27;none&#x27;; img-src data:"));
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_of_the_page() {
        let page = render(&ReportData::default()).unwrap();
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let code = page.split(open).nth(1).unwrap().split(close).next().unwrap();
            let source = policy_source(code).replace('\'', "&#x27;").replace('/', "&#x2f;");
            assert!(page.contains(&source), "{open}");
        }
    }

    #[test]
    fn the_data_of_the_script_read_back() {
        let page = render(&all_of(HOSTILE)).unwrap();
        let json = page.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["charts"][0]["id"], "loss");
        assert_eq!(data["gallery"][0]["words"][0]["levels"], "/w==");
    }

    #[test]
    fn a_report_of_nothing_says_what_is_missing() {
        let page = render(&ReportData::default()).unwrap();
        for part in ["Nothing logged yet", "No split was scored", "No pictures", "No config", "Unnamed run"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<figure"));
        let sections = page.matches("<section ").count();
        assert_eq!(
            (page.matches(" class=\"empty\">").count(), sections),
            (8, 8),
            "a heading for nothing is a small one"
        );
        let page = render(&all_of("plain")).unwrap();
        assert_eq!(page.matches(" class=\"empty\">").count(), 0);
    }

    #[test]
    fn the_line_at_which_gradients_are_clipped_is_named_in_the_legend_and_not_on_the_curve() {
        let line = "{\"kind\":\"step\",\"step\":1,\"loss\":2.0,\"grad_norm\":1.5}\n";
        let metrics = metrics_log::read(line.as_bytes()).unwrap();
        let page = render(&ReportData { metrics, max_grad_norm: Some(1.0), ..ReportData::default() }).unwrap();
        let legend = page.split("<ul class=\"legend\">").nth(1).unwrap().split("</ul>").next().unwrap();
        assert!(legend.contains("<line class=\"rule\"") && legend.contains("clipped at 1.000"), "{legend}");
        assert_eq!(page.matches("clipped at").count(), 1);
    }

    #[test]
    fn captions_that_were_cut_are_reported_and_whole_ones_are_not() {
        let page = |cut| {
            let train = SplitFit { captions: 9, cut, longest: 40 };
            let fit = CaptionFit { max_seq_len: 16, train, fits_99_percent: 40, ..CaptionFit::default() };
            let metrics = MetricsLog { captions: Some(fit), ..MetricsLog::default() };
            render(&ReportData { metrics, ..ReportData::default() }).unwrap()
        };
        assert!(page(3).contains("3 of 9 training captions"));
        assert!(page(3).contains("model.decoder.max_seq_len = 40"));
        assert!(!page(0).contains("training captions"));
    }

    #[test]
    fn a_long_run_gives_a_small_page() {
        let mut lines = String::new();
        for step in 1..=100_000 {
            let loss = 2.0 + f64::from(step % 100) * 0.01;
            lines.push_str(&format!(
                "{{\"kind\":\"step\",\"step\":{step},\"loss\":{loss},\"learning_rate\":1e-4,\"grad_norm\":{loss},\
                 \"images_per_second\":{loss},\"wait_seconds\":0.1}}\n"
            ));
        }
        let metrics = metrics_log::read(lines.as_bytes()).unwrap();
        let page = render(&ReportData { metrics, images_per_update: Some(8), ..ReportData::default() }).unwrap();
        assert!(page.len() < 400_000, "{}", page.len());
    }
}
