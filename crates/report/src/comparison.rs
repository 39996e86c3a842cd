//! Assembles the page of several runs: what differs in their configs, curves, scores and captions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::charts::Drawing;
use super::curves::overlaid;
use super::data::{ComparedCaptions, ComparedPicture, ComparisonData};
use super::embedding::picture_uri;
use super::filling::{Frame, RunScriptData, fill};
use super::gallery::MAX_REFERENCES;
use super::histogram::counts;
use super::scores::{interval_name, readable};
use super::summary::{StatusView, figures, status};
use super::text::{self, MAX_CAPTION, MAX_WORD, counted, grouped, percentage, score, signed, significant};
use metrics::bootstrap::{CONFIDENCE, Difference};
use metrics::comparison::verdict;
use metrics::score::{SCORE_NAMES, ScoreReport, Scores};
use metrics::statistics::CaptionStatistics;

/// In the head of each page of several runs: distinguishes it from other files.
pub const COMPARISON_GENERATOR: &str = "<meta name=\"generator\" content=\"caption-train comparison\">";

const FRAME: Frame = Frame::of_runs(concat!(include_str!("parts.html"), include_str!("comparison.html")));
/// Words gained, and words lost.
const MAX_CHANGES: usize = 12;

#[derive(Serialize)]
struct Page {
    names: Vec<String>,
    statuses: Vec<StatusView>,
    notes: Vec<String>,
    figures: Table,
    configs: Table,
    curves: Vec<Drawing>,
    captions: Option<CaptionsView>,
    cards: Vec<Card>,
}

#[derive(Serialize)]
struct Table {
    title: String,
    /// What the columns are, after that of the rows' names.
    head: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Values, each with what stands small below it.
    cells: Vec<(String, String)>,
    is_best: bool,
}

#[derive(Serialize)]
struct CaptionsView {
    split: String,
    num_images: String,
    scores: Table,
    figures: Table,
    /// Of each run but the first.
    differences: Vec<(Table, String)>,
    /// Words gained and words lost of each.
    words: Vec<[Table; 2]>,
    signature: String,
}

#[derive(Serialize)]
struct Card {
    name: String,
    /// A `data:` address.
    picture: Option<String>,
    /// The caption of each run and its CIDEr-D.
    captions: Vec<(String, String)>,
    references: Vec<String>,
}

/// The page of several runs, as HTML. As lenient as [`crate::render`].
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub fn render_comparison(data: &ComparisonData) -> anyhow::Result<String> {
    let page = page(data);
    let curves: Vec<&Drawing> = page.curves.iter().collect();
    fill(&FRAME, COMPARISON_GENERATOR, &page, &RunScriptData::new(&curves, &[]))
}

fn page(data: &ComparisonData) -> Page {
    let names: Vec<String> = data.runs.iter().map(|run| text::line(&run.run_name, MAX_WORD)).collect();
    let logs: Vec<_> = names.iter().map(String::as_str).zip(data.runs.iter().map(|run| &run.metrics)).collect();
    let captions = data.captions.as_ref();
    let config = |(key, values): &(String, Vec<Option<String>>)| {
        let value =
            |value: &Option<String>| value.as_ref().map_or("absent".to_owned(), |it| text::line(it, MAX_CAPTION));
        row(&text::line(key, MAX_CAPTION), values.iter().map(value))
    };
    Page {
        statuses: data.runs.iter().map(status).collect(),
        notes: data.notes.iter().map(|note| text::line(note, MAX_CAPTION)).collect(),
        figures: table("Run", &names, run_figures(data)),
        configs: table("Keys that differ", &names, data.configs.iter().map(config).collect()),
        curves: overlaid(&logs),
        captions: captions.map(|captions| captions_view(captions, &names)),
        cards: captions.map_or_else(Vec::new, |all| all.pictures.iter().map(|it| card(all, it)).collect()),
        names,
    }
}

fn table(title: &str, head: &[String], rows: Vec<Row>) -> Table {
    Table { title: title.to_owned(), head: head.to_vec(), rows }
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> Row {
    Row { name: name.to_owned(), cells: cells.map(|value| (value, String::new())).collect(), is_best: false }
}

/// The key figures of each run, and what wrote its captions.
fn run_figures(data: &ComparisonData) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for figures in data.runs.iter().map(figures) {
        rows.resize_with(figures.len(), || row("", std::iter::empty()));
        for (row, figure) in rows.iter_mut().zip(figures) {
            figure.name.clone_into(&mut row.name);
            row.cells.push((figure.value, figure.detail));
        }
    }
    let writers = data.captions.iter().map(|captions| captions.writers.iter());
    rows.extend(writers.map(|writers| row("Captions by", writers.map(|writer| text::line(writer, MAX_CAPTION)))));
    rows
}

fn captions_view(all: &ComparedCaptions, names: &[String]) -> CaptionsView {
    let reports = &all.comparison.reports;
    let of_score = |(place, name): (usize, &&str)| {
        let cell = |report: &ScoreReport| {
            let interval = report.intervals.map(|intervals| intervals.named()[place].1);
            let shown = interval.map_or_else(String::new, |it| format!("{} to {}", score(it.low), score(it.high)));
            (score(report.scores.named()[place].1), shown)
        };
        Row { name: readable(name), cells: reports.iter().map(cell).collect(), is_best: false }
    };
    let words: Vec<HashMap<String, u64>> =
        all.captions.iter().map(|texts| counts(&texts.iter().map(String::as_str).collect::<Vec<_>>())).collect();
    let differences = all.comparison.differences.iter().zip(names.iter().skip(1));
    let changes = words.iter().zip(names).skip(1);
    CaptionsView {
        split: text::line(&all.split, MAX_WORD),
        num_images: counted(all.captions.first().map_or(0, Vec::len) as u64, "image"),
        scores: table("Score", names, SCORE_NAMES.iter().enumerate().map(of_score).collect()),
        figures: table("Captions", names, caption_figures(all)),
        differences: differences.map(|(of_run, name)| difference_table([&names[0], name], of_run)).collect(),
        words: changes.map(|(after, name)| word_tables([&names[0], name], [&words[0], after])).collect(),
        signature: text::line(reports.first().map_or("", |report| &report.signature), MAX_CAPTION),
    }
}

fn caption_figures(all: &ComparedCaptions) -> Vec<Row> {
    let row = |name: &str, value: fn(&CaptionStatistics) -> String| {
        row(name, all.comparison.reports.iter().map(|report| value(&report.statistics)))
    };
    let num_distinct = all.captions.iter().map(|texts| texts.iter().collect::<BTreeSet<_>>().len() as u64);
    vec![
        row("Words per caption", |it| {
            format!("{}, {} to {}", significant(it.mean_length), it.min_length, it.max_length)
        }),
        self::row("Distinct captions", num_distinct.map(grouped)),
        row("Vocabulary", |it| counted(it.vocabulary as u64, "word")),
        row("Bad endings, such as \u{201c}a\u{201d} or \u{201c}with\u{201d}", |it| {
            it.bad_endings.map_or_else(|| "not counted".to_owned(), percentage)
        }),
        row("Repeating three words", |it| percentage(it.repeating)),
    ]
}

/// The differences of a run from the first, and what they are worth.
fn difference_table(names: [&String; 2], differences: &Scores<Difference>) -> (Table, String) {
    let row = |(name, Difference { value, interval, p }): (&str, Difference), is_best: bool| {
        let interval = format!("{} to {}", signed(interval.low), signed(interval.high));
        let word = if is_best { "real" } else { "chance?" }.to_owned();
        Row { is_best, ..row(&readable(name), [signed(value), interval, score(p), word].into_iter()) }
    };
    let rows = differences.named().into_iter().map(|named| row(named, named.1.is_real()));
    let head = ["Difference", &interval_name(CONFIDENCE), "p", ""].map(str::to_owned);
    let title = format!("{} less {}", names[1], names[0]);
    (table(&title, &head, rows.collect()), verdict(names.map(String::as_str), differences, readable))
}

/// The words whose counts grew most, and those whose counts fell most.
fn word_tables(names: [&String; 2], [before, after]: [&HashMap<String, u64>; 2]) -> [Table; 2] {
    let words: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let count = |counts: &HashMap<String, u64>, word: &String| counts.get(word).copied().unwrap_or(0);
    let mut changes: Vec<_> = words.into_iter().map(|word| (word, [count(before, word), count(after, word)])).collect();
    changes.sort_by_key(|(_, [before, after])| Reverse(before.abs_diff(*after)));
    let table = |title: &str, is_of_side: fn(&[u64; 2]) -> bool| {
        let of_side = changes.iter().filter(|(_, counts)| is_of_side(counts)).take(MAX_CHANGES);
        let rows = of_side.map(|(word, counts)| row(&text::line(word, MAX_WORD), counts.iter().copied().map(grouped)));
        table(title, &names.map(String::clone), rows.collect())
    };
    [table("Words gained", |[before, after]| after > before), table("Words lost", |[before, after]| after < before)]
}

fn card(all: &ComparedCaptions, picture: &ComparedPicture) -> Card {
    let captions = all.captions.iter().zip(&all.comparison.ciders).map(|(captions, ciders)| {
        let caption = captions.get(picture.image).map_or_else(String::new, |caption| text::line(caption, MAX_CAPTION));
        (caption, score(ciders.get(picture.image).copied().unwrap_or(f64::NAN)))
    });
    Card {
        name: text::line(&picture.name, MAX_CAPTION),
        picture: picture_uri(&picture.picture),
        captions: captions.collect(),
        references: picture.references.iter().take(MAX_REFERENCES).map(|it| text::line(it, MAX_CAPTION)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReportData;
    use crate::testing::{HOSTILE, assert_no_markup};
    use metrics::comparison::compare;
    use metrics::corpus::Captions;
    use metrics::meteor::Meteor;
    use metrics::score::ScoreOptions;

    /// Two runs in which every text is `text`.
    fn all_of(text: &str) -> ComparisonData {
        let run = ReportData { run_name: text.to_owned(), ..ReportData::default() };
        let set = |captions: [&str; 2]| -> Vec<Captions> {
            let references = vec![text.to_owned(), "a man with a dog".to_owned()];
            captions.map(|it| Captions { candidate: it.to_owned(), references: references.clone() }).into()
        };
        let sets = [set([text, "a dog"]), set(["a man with a", text])];
        let meteor = Meteor::exact_and_stem();
        let options = ScoreOptions {
            meteor: &meteor,
            document_references: None,
            training_captions: None,
            num_resamples: 20,
            seed: 0,
        };
        ComparisonData {
            runs: vec![run; 2],
            configs: vec![(text.to_owned(), vec![Some(text.to_owned()), None])],
            captions: Some(ComparedCaptions {
                split: text.to_owned(),
                writers: vec![text.to_owned(); 2],
                comparison: compare(&sets, &options),
                captions: sets.iter().map(|set| set.iter().map(|image| image.candidate.clone()).collect()).collect(),
                pictures: vec![ComparedPicture {
                    image: 1,
                    name: text.to_owned(),
                    picture: vec![0xff, 0xd8, 0xff],
                    references: vec![text.to_owned()],
                }],
            }),
            notes: vec![text.to_owned()],
        }
    }

    #[test]
    fn nothing_that_data_say_becomes_markup_and_nothing_outside_is_asked_for() {
        let [hostile, plain] = [HOSTILE, "plain"].map(|text| render_comparison(&all_of(text)).unwrap());
        assert_no_markup(&hostile, &plain);
        for sign in ["http://", "https://", "@import", "url(", " style=", " onclick="] {
            assert!(!plain.contains(sign), "{sign}");
        }
        assert!(plain.contains(COMPARISON_GENERATOR) && plain.contains("default-src &#x27;none&#x27;; img-src data:"));
    }

    /// Rows with their values, as lines.
    fn shown(table: &Table) -> Vec<String> {
        let values = |row: &Row| row.cells.iter().map(|cell| cell.0.clone()).collect::<Vec<_>>().join(" | ");
        table.rows.iter().map(|row| format!("{}: {}", row.name, values(row))).collect()
    }

    #[test]
    fn scores_captions_and_differences_stand_beside_each_other() {
        let page = page(&all_of("plain"));
        let captions = page.captions.unwrap();
        let names: Vec<&str> = captions.scores.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr"]);
        assert!(captions.scores.rows.iter().all(|row| row.cells.len() == 2 && row.cells[1].1.contains(" to ")));
        let expected = [
            "Words per caption: 1.500, 1 to 2 | 2.500, 1 to 4",
            "Distinct captions: 2 | 2",
            "Vocabulary: 3 words | 4 words",
            "Bad endings, such as \u{201c}a\u{201d} or \u{201c}with\u{201d}: 0.0 % | 50.0 %",
            "Repeating three words: 0.0 % | 0.0 %",
        ];
        assert_eq!(shown(&captions.figures), expected);
        let [(differences, verdict)] = captions.differences.as_slice() else { panic!("one run but the first") };
        assert_eq!((differences.title.as_str(), differences.rows.len()), ("plain less plain", 7));
        assert!(differences.rows.iter().all(|row| row.cells.len() == 4 && !row.is_best) && verdict.contains("chance"));
        let captions: Vec<&str> = page.cards[0].captions.iter().map(|(caption, _)| caption.as_str()).collect();
        assert_eq!(captions, ["a dog", "plain"]);
        assert_eq!(shown(&page.configs), ["plain: plain | absent"]);
    }

    #[test]
    fn words_are_gained_and_lost_by_their_counts() {
        let [before, after] =
            [&["a dog", "a dog", "the cat"], &["a red dog", "red", "A cat is red"]].map(|captions| counts(captions));
        let names = ["one".to_owned(), "two".to_owned()];
        let [gained, lost] = word_tables([&names[0], &names[1]], [&before, &after]);
        assert_eq!(shown(&gained), ["red: 0 | 3", "is: 0 | 1"]);
        assert_eq!(shown(&lost), ["dog: 2 | 1", "the: 1 | 0"]);
    }

    #[test]
    fn a_comparison_of_nothing_says_what_is_missing() {
        let page = render_comparison(&ComparisonData::default()).unwrap();
        for part in ["No captions are compared", "Nothing logged yet", "No pictures", "All keys have the same values"] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<section ").count(), page.matches(" class=\"empty\">").count());
    }
}
