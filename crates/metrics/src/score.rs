//! All scores of a set of captions, as a paper reports them, with intervals and a signature that says what was
//! computed.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bleu::{BleuStatistics, bleu_statistics};
use super::bootstrap::{CONFIDENCE, Interval, intervals};
use super::chrf::{ChrfStatistics, chrf_statistics};
use super::cider::{DocumentFrequencies, FEW_IMAGES, cider_d};
use super::corpus::{Captions, Corpus};
use super::meteor::{Meteor, MeteorStatistics};
use super::ptb_tokenizer::PtbTokenizer;
use super::rouge::rouge_l;
use super::scripts::has_unspaced;
use super::statistics::{CaptionStatistics, caption_statistics};

/// Scores that have an interval.
const NUM_SCORES: usize = 7;

/// Their names, in the order in which COCO prints them.
pub const SCORE_NAMES: [&str; NUM_SCORES] = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"];

/// What is computed in addition to the plain scores.
pub struct ScoreOptions<'a> {
    pub meteor: &'a Meteor,
    /// References of other images, from which the weights of CIDEr-D come; absent: those that are scored against.
    pub document_references: Option<&'a [Vec<String>]>,
    /// Captions that the model was trained on.
    pub training_captions: Option<&'a [&'a str]>,
    /// Resamples of the bootstrap; 0: no intervals.
    pub num_resamples: usize,
    pub seed: u64,
}

/// Scores of a set of captions, by the names that COCO uses. BLEU, METEOR and ROUGE-L are from 0 to 1, CIDEr from 0 to
/// 10; tables often show them times 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(non_snake_case, reason = "the names that every COCO result has")]
pub struct Scores<T> {
    /// BLEU of single words.
    pub Bleu_1: T,
    /// Of up to two words.
    pub Bleu_2: T,
    /// Of up to three words.
    pub Bleu_3: T,
    /// Of up to four words.
    pub Bleu_4: T,
    /// METEOR 1.5.
    pub METEOR: T,
    /// ROUGE-L.
    pub ROUGE_L: T,
    /// CIDEr-D.
    pub CIDEr: T,
}

impl<T: Copy> Scores<T> {
    pub(super) fn from_array([bleu_1, bleu_2, bleu_3, bleu_4, meteor, rouge_l, cider]: [T; NUM_SCORES]) -> Self {
        Self {
            Bleu_1: bleu_1,
            Bleu_2: bleu_2,
            Bleu_3: bleu_3,
            Bleu_4: bleu_4,
            METEOR: meteor,
            ROUGE_L: rouge_l,
            CIDEr: cider,
        }
    }

    /// The scores with their names, in the order in which COCO prints them.
    pub fn named(&self) -> [(&'static str, T); NUM_SCORES] {
        let values = [self.Bleu_1, self.Bleu_2, self.Bleu_3, self.Bleu_4, self.METEOR, self.ROUGE_L, self.CIDEr];
        std::array::from_fn(|index| (SCORE_NAMES[index], values[index]))
    }
}

/// The result of scoring a set of captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    #[serde(deserialize_with = "nan_if_null")]
    pub scores: Scores<f64>,
    /// Their intervals; absent without resamples.
    pub intervals: Option<Scores<Interval>>,
    /// chrF, from 0 to 1; absent in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chrf: Option<f64>,
    pub bleu: BleuStatistics,
    pub statistics: CaptionStatistics,
    /// What a reader must know to interpret the scores.
    pub notes: Vec<String>,
    /// What was computed, how, on how much.
    pub signature: String,
}

/// JSON has no NaN.
fn nan_if_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Scores<f64>, D::Error> {
    let scores: Scores<Option<f64>> = Deserialize::deserialize(deserializer)?;
    Ok(Scores::from_array(scores.named().map(|(_, value)| value.unwrap_or(f64::NAN))))
}

/// Scores with what makes them comparable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SignedScores {
    pub scores: Scores<f64>,
    /// What was computed, how, on how much.
    pub signature: String,
}

impl ScoreReport {
    /// Only the scores and their signature.
    pub fn signed(self) -> SignedScores {
        SignedScores { scores: self.scores, signature: self.signature }
    }

    /// The report as lines to print.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let intervals = self.intervals.map(|intervals| intervals.named());
        for (index, (name, value)) in self.scores.named().into_iter().enumerate() {
            let interval = intervals.map_or_else(String::new, |intervals| {
                let (_, interval) = intervals[index];
                format!("   {:.0} % of resamples: {:.3} to {:.3}", 100.0 * CONFIDENCE, interval.low, interval.high)
            });
            lines.push(format!("{name:<9} {value:.3}{interval}"));
        }
        lines.extend(self.chrf.map(|chrf| format!("{:<9} {chrf:.3}", "chrF")));
        let (bleu, statistics) = (&self.bleu, &self.statistics);
        lines.push(format!(
            "counts    testlen {}, reflen {}, guess {:?}, correct {:?}",
            bleu.candidate_length, bleu.reference_length, bleu.guess, bleu.correct
        ));
        let share = |share: Option<f64>, what: &str| {
            share.map_or_else(String::new, |share| format!(", {:.1} % {what}", 100.0 * share))
        };
        lines.push(format!(
            "captions  {:.2} words ({} to {}), {} different words, {:.1} % distinct{}, {:.1} % repeat themselves{}{}",
            statistics.mean_length,
            statistics.min_length,
            statistics.max_length,
            statistics.vocabulary,
            100.0 * statistics.distinct,
            share(statistics.novel, "novel"),
            100.0 * statistics.repeating,
            share(statistics.without_end, "without an end"),
            share(statistics.bad_endings, "end badly")
        ));
        lines.extend(self.notes.iter().map(|note| format!("note      {note}")));
        lines.push(format!("signature {}", self.signature));
        lines
    }
}

/// Captions that were trained on whose words are in memory.
const AT_ONCE: usize = 1 << 16;

/// Scores untokenized captions; both sides are tokenized first.
pub fn score(images: &[Captions], options: &ScoreOptions<'_>) -> ScoreReport {
    score_and_count(images, options).0
}

/// [`score`], and what the captions count.
pub(super) fn score_and_count<'a>(images: &[Captions], options: &ScoreOptions<'a>) -> (ScoreReport, Counted<'a>) {
    let tokenizer = PtbTokenizer::new();
    let tokenized = tokenized(images);
    let documents = options.document_references.map(|documents| tokenizer.groups_to_words(documents));
    let training = options.training_captions.map(|captions| {
        let candidates: HashSet<&str> = tokenized.iter().map(|image| image.candidate.as_str()).collect();
        // Of millions, only those that were written again.
        let words = captions.chunks(AT_ONCE).flat_map(|captions| tokenizer.to_words(captions));
        words.filter(|words| candidates.contains(words.as_str())).collect()
    });
    let (mut report, counted) = score_tokenized(&tokenized, documents.as_deref(), training.as_ref(), options);
    // Of the captions as they are: it counts no words.
    let statistics = images.par_iter().map(|image| chrf_statistics(&image.candidate, &image.references));
    report.chrf = Some(statistics.collect::<Vec<_>>().into_iter().sum::<ChrfStatistics>().score());
    (report, counted)
}

const CHARACTERS_NOTE: &str = "some captions are in a script without spaces between words: each of its characters counts \
                               as a word, which the COCO evaluation does not do; chrF counts no words";

/// Whether characters of a script that puts no space between words were counted as words.
fn has_characters_for_words(images: &[Captions]) -> bool {
    images.iter().any(|Captions { candidate, references }| {
        has_unspaced(candidate) || references.iter().any(|reference| has_unspaced(reference))
    })
}

fn tokenized(images: &[Captions]) -> Vec<Captions> {
    let tokenizer = PtbTokenizer::new();
    let candidates: Vec<&str> = images.iter().map(|image| image.candidate.as_str()).collect();
    let references: Vec<&[String]> = images.iter().map(|image| image.references.as_slice()).collect();
    let (candidates, references) =
        rayon::join(|| tokenizer.to_words(&candidates), || tokenizer.groups_to_words(&references));
    let pairs = candidates.into_iter().zip(references);
    pairs.map(|(candidate, references)| Captions { candidate, references }).collect()
}

/// What each image's caption counts, from which the scores of any of the images follow.
pub(super) struct Counted<'a> {
    meteor: &'a Meteor,
    bleu: Vec<BleuStatistics>,
    matches: Vec<MeteorStatistics>,
    rouge: Vec<f64>,
    pub(super) cider: Vec<f64>,
}

impl Counted<'_> {
    /// The scores of the images that are drawn: from integer sums, or means.
    pub(super) fn scores(&self, drawn: &[usize]) -> [f64; NUM_SCORES] {
        let (mut bleu_sum, mut meteor_sum) = (BleuStatistics::default(), MeteorStatistics::default());
        let (mut rouge_sum, mut cider_sum) = (0.0, 0.0);
        for &image in drawn {
            bleu_sum = bleu_sum + self.bleu[image];
            meteor_sum += self.matches[image];
            rouge_sum += self.rouge[image];
            cider_sum += self.cider[image];
        }
        let mean = |sum: f64| sum / drawn.len().max(1) as f64;
        let [bleu_1, bleu_2, bleu_3, bleu_4] = bleu_sum.scores();
        [bleu_1, bleu_2, bleu_3, bleu_4, self.meteor.score(&meteor_sum), mean(rouge_sum), mean(cider_sum)]
    }
}

fn score_tokenized<'a>(
    images: &[Captions],
    documents: Option<&[Vec<String>]>,
    training: Option<&HashSet<String>>,
    options: &ScoreOptions<'a>,
) -> (ScoreReport, Counted<'a>) {
    let meteor = options.meteor;
    let of_image = |image: &Captions| meteor.segment(&image.candidate, &image.references);
    let (matches, (bleu, rouge, cider, note)) = rayon::join(
        || images.par_iter().map(of_image).collect::<Vec<MeteorStatistics>>(),
        || {
            let mut corpus = Corpus::new(images);
            let frequencies = match documents {
                Some(documents) => DocumentFrequencies::of_others(&mut corpus, documents),
                None => DocumentFrequencies::of_references(&corpus),
            };
            let note = cider_note(&frequencies, &corpus);
            (bleu_statistics(&corpus), rouge_l(&corpus), cider_d(&corpus, &frequencies), note)
        },
    );
    let counted = Counted { meteor, bleu, matches, rouge, cider };
    let found = intervals(images.len(), options.num_resamples, options.seed, |drawn| counted.scores(drawn));
    let candidates: Vec<&str> = images.iter().map(|image| image.candidate.as_str()).collect();
    let has_characters = has_characters_for_words(images);
    let report = ScoreReport {
        scores: Scores::from_array(counted.scores(&(0..images.len()).collect::<Vec<_>>())),
        intervals: found.map(Scores::from_array),
        chrf: None,
        bleu: counted.bleu.iter().copied().sum(),
        statistics: caption_statistics(&candidates, training),
        notes: note.into_iter().chain(has_characters.then(|| CHARACTERS_NOTE.to_owned())).collect(),
        signature: signature(images, has_characters, options),
    };
    (report, counted)
}

/// Why CIDEr-D means little or nothing, if the references that weigh its n-grams are those of too few images.
fn cider_note(frequencies: &DocumentFrequencies, corpus: &Corpus) -> Option<String> {
    const WAY_OUT: &str =
        "weigh them by the references of many images: --document-frequencies FILE of score and evaluate";
    let counted = frequencies.num_images();
    if corpus.num_images() == 0 || counted == 0 {
        return None;
    }
    if frequencies.weigh_nothing(corpus) {
        let why = match counted {
            1 => "there is one image".to_owned(),
            _ => format!("every one is in the references of all {counted} images"),
        };
        return Some(format!(
            "CIDEr-D is 0 by definition, whatever the captions say: it weighs n-grams by how few images have them, and \
             {why}; {WAY_OUT}"
        ));
    }
    (counted < FEW_IMAGES).then(|| {
        format!("CIDEr-D says little: its n-grams are weighed by the references of {counted} images only; {WAY_OUT}")
    })
}

/// What makes two reports comparable.
fn signature(images: &[Captions], has_characters: bool, options: &ScoreOptions<'_>) -> String {
    let counts = images.iter().map(|image| image.references.len());
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
    let references = if least == most { least.to_string() } else { format!("{least}-{most}") };
    let documents = match options.document_references {
        Some(documents) => format!("{} given images", documents.len()),
        None => "references".to_owned(),
    };
    let characters = if has_characters { ",characters" } else { "" };
    format!(
        "caption-train {}|ptb:corenlp-3.4.1{characters}|images:{}|references:{references}|bleu:closest,unsmoothed|\
         meteor:1.5,{}|rouge:L,beta1.2|cider:D,sigma6,df={documents}|chrf:6,beta2",
        env!("CARGO_PKG_VERSION"),
        images.len(),
        options.meteor.modules()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<Captions> {
        let image = |candidate: &str, references: &[&str]| Captions {
            candidate: candidate.to_owned(),
            references: references.iter().map(|text| (*text).to_owned()).collect(),
        };
        vec![
            image("A dog is running.", &["a dog runs", "The dog is running!"]),
            image("a red car, parked", &["A red car.", "a car parked"]),
        ]
    }

    fn options(meteor: &Meteor) -> ScoreOptions<'_> {
        ScoreOptions { meteor, document_references: None, training_captions: None, num_resamples: 200, seed: 1 }
    }

    #[test]
    fn a_report_has_the_scores_of_the_reference_implementation() {
        let meteor = Meteor::exact_and_stem();
        let report = score(&images(), &options(&meteor));
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        close(report.scores.CIDEr, 3.971_001_334_650_721_6);
        close(report.scores.Bleu_3, 0.793_700_525_840_792_9);
        close(report.scores.ROUGE_L, 0.814_903_846_153_846_1);
        assert_eq!(report.statistics.vocabulary, 7);
        let expected = "|ptb:corenlp-3.4.1|images:2|references:2|bleu:closest,unsmoothed|meteor:1.5,exact+stem|\
                        rouge:L,beta1.2|cider:D,sigma6,df=references|chrf:6,beta2";
        assert!(report.signature.ends_with(expected), "{}", report.signature);
    }

    #[test]
    fn intervals_hold_the_scores_and_are_absent_when_nothing_is_drawn() {
        let meteor = Meteor::exact_and_stem();
        let report = score(&images(), &options(&meteor));
        let intervals = report.intervals.unwrap();
        for ((name, value), (_, interval)) in report.scores.named().into_iter().zip(intervals.named()) {
            assert!(interval.low <= value && value <= interval.high, "{name}: {value} {interval:?}");
        }
        let without = score(&images(), &ScoreOptions { num_resamples: 0, ..options(&meteor) });
        assert_eq!((without.intervals, without.scores), (None, report.scores));
    }

    #[test]
    fn frequencies_and_training_captions_may_be_given() {
        let meteor = Meteor::exact_and_stem();
        let documents = vec![vec!["A dog.".to_owned()], vec!["the cat".to_owned()], vec!["running".to_owned()]];
        let training = ["a DOG is running"];
        let given = ScoreOptions {
            document_references: Some(&documents),
            training_captions: Some(&training),
            ..options(&meteor)
        };
        let report = score(&images(), &given);
        assert_eq!(report.statistics.novel, Some(0.5));
        assert!(report.signature.contains("df=3 given images|"), "{}", report.signature);
        assert_ne!(report.scores.CIDEr, score(&images(), &options(&meteor)).scores.CIDEr);
    }

    #[test]
    fn a_note_says_why_document_frequencies_of_few_images_mean_nothing() {
        let meteor = Meteor::exact_and_stem();
        let notes = |images: &[Captions], documents: Option<&[Vec<String>]>| {
            let options = ScoreOptions { document_references: documents, ..options(&meteor) };
            let report = score(images, &options);
            let shown = report.lines().into_iter().filter(|line| line.starts_with("note ")).count();
            assert_eq!(shown, report.notes.len());
            (report.notes, report.scores.CIDEr)
        };
        let perfect = Captions { candidate: "a dog runs".to_owned(), references: vec!["a dog runs".to_owned()] };
        let (found, cider) = notes(std::slice::from_ref(&perfect), None);
        assert_eq!(cider, 0.0);
        insta::assert_snapshot!(
            found.join("\n"),
            @"CIDEr-D is 0 by definition, whatever the captions say: it weighs n-grams by how few images have them, and there is one image; weigh them by the references of many images: --document-frequencies FILE of score and evaluate"
        );
        let (found, cider) = notes(&vec![perfect.clone(); 12], None);
        assert!(cider == 0.0 && found[0].contains("in the references of all 12 images"), "{found:?}");
        assert!(
            notes(&images(), None).0[0]
                .starts_with("CIDEr-D says little: its n-grams are weighed by the references of 2")
        );
        let documents = |count: usize| (0..count).map(|number| vec![format!("dog {number}")]).collect::<Vec<_>>();
        assert!(notes(std::slice::from_ref(&perfect), Some(&documents(1))).0[0].contains("0 by definition"));
        assert!(
            notes(std::slice::from_ref(&perfect), Some(&documents(9))).0[0].contains("references of 9 images only")
        );
        let (found, cider) = notes(&[perfect], Some(&documents(10)));
        assert!(found.is_empty() && cider > 0.0);
    }

    #[test]
    fn characters_of_scripts_without_spaces_are_words_and_the_report_says_so() {
        let meteor = Meteor::exact_and_stem();
        let image = |candidate: &str, reference: &str| Captions {
            candidate: candidate.to_owned(),
            references: vec![reference.to_owned()],
        };
        let images = [image("一只狗在跑", "一只狗在跑步"), image("两个人骑车", "两个人骑自行车")];
        let report = score(&images, &options(&meteor));
        assert_eq!((report.statistics.mean_length, report.statistics.vocabulary), (5.0, 10));
        assert!(report.scores.Bleu_4 > 0.5 && report.scores.CIDEr > 0.0, "{report:?}");
        assert!(report.signature.contains("|ptb:corenlp-3.4.1,characters|"), "{}", report.signature);
        assert_eq!(report.notes.iter().filter(|note| *note == CHARACTERS_NOTE).count(), 1);
        let english = score(&self::images(), &options(&meteor));
        assert!(!english.notes.iter().any(|note| note == CHARACTERS_NOTE));
        assert!(english.lines().iter().any(|line| line.starts_with("chrF      0.")), "{:?}", english.lines());
    }

    #[test]
    fn nothing_to_score_gives_a_report_without_intervals() {
        let meteor = Meteor::exact_and_stem();
        let report = score(&[], &options(&meteor));
        assert_eq!((report.intervals, report.scores.CIDEr), (None, 0.0));
    }
}
