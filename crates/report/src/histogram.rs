//! Lengths and words of captions: the model's compared with the references.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::charts::{Chart, Drawing, Series, Span, Style};
use super::data::{CaptionedImage, CaptionedSplit};
use super::downsample::Point;
use super::text::{self, MAX_WORD, grouped, percentage};

/// Captions with this many or more words share a bar.
const MAX_LENGTH: usize = 30;
const MAX_WORDS: usize = 16;

#[derive(Clone, Debug, Serialize)]
pub(super) struct CaptionHistograms {
    split: String,
    num_captions: String,
    num_references: String,
    pub(super) lengths: Option<Drawing>,
    /// The most frequent words of the captions and the references.
    words: Vec<WordRow>,
    our_vocabulary: String,
    reference_vocabulary: String,
    /// Frequent words of the references that the model never writes.
    unused: Vec<String>,
    distinct: String,
    /// The most frequent captions and their counts.
    repeated: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize)]
struct WordRow {
    word: String,
    ours: String,
    references: String,
    our_bar: String,
    reference_bar: String,
}

/// Statistics of the captions of a split; `None` without captions.
pub(super) fn histograms(split: &CaptionedSplit) -> Option<CaptionHistograms> {
    let images = &split.images;
    if images.is_empty() {
        return None;
    }
    let ours: Vec<&str> = images.iter().map(|image| image.caption.as_str()).collect();
    let references: Vec<&str> = images.iter().flat_map(|image| &image.references).map(String::as_str).collect();
    let (our_words, reference_words) = (counts(&ours), counts(&references));
    let distinct = ours.iter().collect::<HashSet<_>>().len() as f64 / ours.len() as f64;
    Some(CaptionHistograms {
        split: text::line(&split.split, MAX_WORD),
        num_captions: grouped(ours.len() as u64),
        num_references: grouped(references.len() as u64),
        lengths: length_chart(&ours, &references),
        words: word_rows(&our_words, &reference_words),
        our_vocabulary: grouped(our_words.len() as u64),
        reference_vocabulary: grouped(reference_words.len() as u64),
        unused: unused(&our_words, &reference_words),
        distinct: percentage(distinct),
        repeated: repeated(images),
    })
}

/// The words of a caption, in lower case without surrounding punctuation; simpler than the tokenizer of the scores.
fn words(caption: &str) -> impl Iterator<Item = String> {
    let trimmed = caption.split_whitespace().map(|word| word.trim_matches(|letter: char| !letter.is_alphanumeric()));
    trimmed.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// How often each word is in the captions.
pub(super) fn counts(captions: &[&str]) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for word in captions.iter().flat_map(|caption| words(caption)) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn length_chart(ours: &[&str], references: &[&str]) -> Option<Drawing> {
    let series = |name: &str, style: Style, captions: &[&str]| Series {
        name: name.to_owned(),
        style,
        run: None,
        points: length_shares(captions),
    };
    let series = vec![series("ours", Style::Bars, ours), series("references", Style::Outline, references)];
    chart_of_lengths(series, MAX_LENGTH)
}

/// Shares of captions by their words; `longest` stands for all longer ones too.
pub(super) fn chart_of_lengths(series: Vec<Series>, longest: usize) -> Option<Drawing> {
    let chart = Chart {
        id: "lengths",
        title: "Length of captions".to_owned(),
        unit: format!("% of the captions; {longest} stands for {longest} and more"),
        x_name: "word",
        x_high: 0.0,
        span: Span::FromZero,
        series,
        rule: None,
        marks: Vec::new(),
    };
    chart.draw()
}

fn length_shares(captions: &[&str]) -> Vec<Point> {
    let mut bins = vec![0_u64; MAX_LENGTH + 1];
    let mut longest = 0;
    for caption in captions {
        let length = words(caption).count().min(MAX_LENGTH);
        longest = longest.max(length);
        bins[length] += 1;
    }
    if captions.is_empty() {
        return Vec::new();
    }
    let share = |count: u64| 100.0 * count as f64 / captions.len() as f64;
    bins[..=longest].iter().enumerate().map(|(length, &count)| Point::new(length as f64, share(count))).collect()
}

fn word_rows(ours: &HashMap<String, u64>, references: &HashMap<String, u64>) -> Vec<WordRow> {
    let total = |counts: &HashMap<String, u64>| counts.values().sum::<u64>().max(1) as f64;
    let (our_total, reference_total) = (total(ours), total(references));
    let share =
        |counts: &HashMap<String, u64>, word: &str, total: f64| counts.get(word).copied().unwrap_or(0) as f64 / total;
    let all: HashSet<&str> = ours.keys().chain(references.keys()).map(String::as_str).collect();
    let mut rows: Vec<(&str, f64, f64)> = all
        .into_iter()
        .map(|word| (word, share(ours, word, our_total), share(references, word, reference_total)))
        .collect();
    // Equal shares are sorted alphabetically, so that the page does not depend on a hash.
    rows.sort_by(|a, b| b.1.max(b.2).total_cmp(&a.1.max(a.2)).then_with(|| a.0.cmp(b.0)));
    rows.truncate(MAX_WORDS);
    let longest = rows.first().map_or(1.0, |row| row.1.max(row.2));
    let bar = |share: f64| format!("{:.1}%", 100.0 * share / longest);
    let row = |(word, ours, references): (&str, f64, f64)| WordRow {
        word: text::line(word, MAX_WORD),
        ours: percentage(ours),
        references: percentage(references),
        our_bar: bar(ours),
        reference_bar: bar(references),
    };
    rows.into_iter().map(row).collect()
}

fn unused(ours: &HashMap<String, u64>, references: &HashMap<String, u64>) -> Vec<String> {
    let mut words: Vec<(&String, u64)> =
        references.iter().filter(|(word, _)| !ours.contains_key(*word)).map(|(word, &count)| (word, count)).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    words.truncate(MAX_WORDS);
    words.into_iter().map(|(word, _)| text::line(word, MAX_WORD)).collect()
}

fn repeated(images: &[CaptionedImage]) -> Vec<(String, String)> {
    const MOST: usize = 5;
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for image in images {
        *counts.entry(&image.caption).or_default() += 1;
    }
    let mut captions: Vec<(&str, u64)> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
    captions.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    captions.truncate(MOST);
    captions.into_iter().map(|(text, count)| (text::line(text, text::MAX_CAPTION), grouped(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(captions: &[(&str, &[&str])]) -> CaptionedSplit {
        let image = |(caption, references): &(&str, &[&str])| CaptionedImage {
            caption: (*caption).to_owned(),
            references: references.iter().map(|text| (*text).to_owned()).collect(),
        };
        CaptionedSplit { split: "val".to_owned(), images: captions.iter().map(image).collect() }
    }

    #[test]
    fn words_are_counted_without_case_and_punctuation() {
        let found = histograms(&split(&[("A dog, a Dog.", &["the dog runs", "the sea"])])).unwrap();
        let rows: Vec<_> = found.words.iter().map(|row| (row.word.as_str(), row.ours.as_str())).collect();
        assert_eq!(rows[..3], [("a", "50.0 %"), ("dog", "50.0 %"), ("the", "0.0 %")]);
        assert_eq!((found.words[2].references.as_str(), found.words[2].reference_bar.as_str()), ("40.0 %", "80.0%"));
        assert_eq!(found.unused, ["the", "runs", "sea"]);
        assert_eq!((found.our_vocabulary.as_str(), found.reference_vocabulary.as_str()), ("2", "4"));
    }

    #[test]
    fn long_captions_share_the_last_bar_and_empty_ones_have_one() {
        let long = "word ".repeat(1000);
        let shares = length_shares(&["", "a b", &long, &long]);
        assert_eq!(shares.len(), MAX_LENGTH + 1);
        assert_eq!((shares[0].y, shares[2].y, shares[MAX_LENGTH].y), (25.0, 25.0, 50.0));
        assert!(length_shares(&[]).is_empty());
    }

    #[test]
    fn captions_of_several_images_are_named_with_their_number() {
        let found = histograms(&split(&[("a man", &[]), ("a dog", &[]), ("a man", &[]), ("a cat", &[])])).unwrap();
        assert_eq!((found.distinct.as_str(), found.repeated.len()), ("75.0 %", 1));
        assert_eq!(found.repeated[0], ("a man".to_owned(), "2".to_owned()));
        assert!(found.lengths.is_some());
        assert!(histograms(&split(&[])).is_none());
    }

    #[test]
    fn captions_without_a_word_give_empty_tables() {
        let found = histograms(&split(&[("...", &["!", ""])])).unwrap();
        assert!(found.words.is_empty() && found.unused.is_empty());
    }
}
