//! What the captions of a data set are like, and which of them are worth a look.
//!
//! It judges nothing: an outlier is listed for the user, and stays in the data set. Two passes are made over captions
//! that are in memory already; what is kept of a caption is 16 bytes.

mod script;
mod survey;
mod words;

use serde::{Deserialize, Serialize};

use self::script::main_script;
use self::survey::{Survey, Vocabulary};
use self::words::words;
use crate::dataset_file::plain;

pub(crate) use self::script::Script;
pub use self::survey::LengthStatistics;
pub(crate) use self::survey::Survey as CaptionSurvey;

/// Outliers that are listed at most.
pub const NUM_LISTED: usize = 100;
/// Words that a caption has at least.
const MIN_WORDS: usize = 3;
/// Words that a caption may have whatever the others have.
const ALWAYS_ALLOWED_WORDS: usize = 50;
/// Number of captions from which usual words can be recognized.
const MIN_CAPTIONS_FOR_USUAL_WORDS: usize = 1000;
/// Words from which on a share of usual ones says something.
const MIN_WORDS_FOR_A_SHARE: usize = 4;
/// Number of images that a usual word appears with.
const MIN_IMAGES_OF_A_WORD: usize = 5;

/// Numbers about all captions of a data set.
///
/// Words are lower-cased and have no ASCII punctuation. They end at white space; of a script that is written without it
/// (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionStatistics {
    pub captions: usize,
    pub words: LengthStatistics,
    pub vocabulary: usize,
    /// Those of them that are there once.
    pub words_seen_once: usize,
    /// Captions whose words, in their order, also are those of a caption of another image.
    pub repeated_captions: usize,
    /// Captions that are worth a look, of each kind.
    pub num_outliers: OutlierCounts,
    /// At most 100 of them: kind after kind, each in the order of the images. Where there are more, the kinds share the
    /// places.
    pub outliers: Vec<Outlier>,
}

/// A number for each kind of outlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierCounts {
    /// [`OutlierKind::OtherScript`].
    pub other_script: usize,
    /// [`OutlierKind::UnusualWords`].
    pub unusual_words: usize,
    /// [`OutlierKind::Long`].
    pub long: usize,
    /// [`OutlierKind::Short`].
    pub short: usize,
}

/// Why a caption is worth a look. A caption is counted once, as the first that is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutlierKind {
    /// More than half of its letters are of another script than those of 90 of 100 captions.
    OtherScript,
    /// It has at least 4 words, and fewer than a third of them stand in captions of 5 or more images: another language,
    /// names, encoded bytes. Only looked for in sets of at least 1,000 captions.
    UnusualWords,
    /// It has more than 50 words, and more than 4 times the median.
    Long,
    /// It has fewer than 3 words.
    Short,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// What is unusual about it.
    pub kind: OutlierKind,
    /// The caption, by its place (from 0) and the file name of its image.
    pub what: String,
    /// Why, and how it begins; one line.
    pub reason: String,
}

impl CaptionStatistics {
    /// The statistics of the captions of these images, each (file name, captions). The order of the images has no
    /// influence but on the order and choice of the outliers.
    pub fn of<'a>(images: impl Iterator<Item = (&'a str, &'a [String])> + Clone) -> Self {
        let survey = Survey::of(images.clone().map(|(_, captions)| captions.iter().map(String::as_str)));
        let words = survey.lengths();
        let usual = Usual::of(&survey);
        let mut num_outliers = OutlierCounts::default();
        let mut found = OutlierKind::ALL.map(|_| Vec::new());
        for (filename, captions) in images {
            for (index, caption) in captions.iter().enumerate() {
                let Some((kind, reason)) = usual.objection(caption) else { continue };
                *num_outliers.of_mut(kind) += 1;
                let found = &mut found[kind as usize];
                if found.len() < NUM_LISTED {
                    let reason = format!("{reason}: {}", beginning(caption));
                    found.push(Outlier { kind, what: format!("caption {index} of image {filename}"), reason });
                }
            }
        }
        Self {
            captions: survey.num_captions(),
            words,
            vocabulary: survey.vocabulary.len(),
            words_seen_once: survey.vocabulary.values().filter(|word| word.count == 1).count(),
            repeated_captions: survey.into_num_repeated(),
            num_outliers,
            outliers: share_places(found),
        }
    }

    /// One line for the user, and a second one where captions are worth a look.
    pub fn summary(&self) -> String {
        let LengthStatistics { min, mean, median, p95, max } = self.words;
        let mut text = format!(
            "{} captions of {min} to {max} words (median {median}, mean {mean:.1}, 95% at most {p95}); {} different \
             words, {} seen once; {} captions also belong to another image",
            self.captions, self.vocabulary, self.words_seen_once, self.repeated_captions
        );
        let counts = self.num_outliers;
        let kinds = [
            (counts.other_script, "in another script"),
            (counts.unusual_words, "of unusual words"),
            (counts.long, "very long"),
            (counts.short, "very short"),
        ];
        let kinds: Vec<String> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        if !kinds.is_empty() {
            text.push_str("\ncaptions worth a look: ");
            text.push_str(&kinds.join(", "));
        }
        text
    }
}

impl OutlierKind {
    pub(crate) const ALL: [Self; 4] = [Self::OtherScript, Self::UnusualWords, Self::Long, Self::Short];
}

impl OutlierCounts {
    fn of_mut(&mut self, kind: OutlierKind) -> &mut usize {
        match kind {
            OutlierKind::OtherScript => &mut self.other_script,
            OutlierKind::UnusualWords => &mut self.unusual_words,
            OutlierKind::Long => &mut self.long,
            OutlierKind::Short => &mut self.short,
        }
    }
}

/// The words of a caption, as [`CaptionStatistics`] counts them.
pub(crate) fn num_words(caption: &str) -> usize {
    words(&plain(caption)).count()
}

/// What a caption is measured by.
pub(crate) struct Usual<'a> {
    /// `None` in a set of several scripts.
    script: Option<Script>,
    /// `None` if the set is too small.
    vocabulary: Option<&'a Vocabulary>,
    median: usize,
}

impl<'a> Usual<'a> {
    pub(crate) fn of(survey: &'a Survey) -> Self {
        Self {
            script: survey.main_script(),
            vocabulary: (survey.num_captions() >= MIN_CAPTIONS_FOR_USUAL_WORDS).then_some(&survey.vocabulary),
            median: survey.lengths().median,
        }
    }

    /// What speaks against a caption, if anything does.
    pub(crate) fn objection(&self, caption: &str) -> Option<(OutlierKind, String)> {
        let plain = plain(caption);
        let num_words = words(&plain).count();
        let (kind, reason) = if let Some((script, usual)) = self.other_script(caption) {
            (OutlierKind::OtherScript, format!("most letters are {}, not {}", script.name(), usual.name()))
        } else if let Some(num_usual) = self.few_usual_words(&plain, num_words) {
            let reason = format!(
                "{num_usual} of its {num_words} words appear with {MIN_IMAGES_OF_A_WORD} or more images, fewer than a \
                 third"
            );
            (OutlierKind::UnusualWords, reason)
        } else if num_words > ALWAYS_ALLOWED_WORDS.max(4 * self.median) {
            (OutlierKind::Long, format!("{num_words} words, where the median is {}", self.median))
        } else if num_words < MIN_WORDS {
            (OutlierKind::Short, format!("{num_words} word{}", if num_words == 1 { "" } else { "s" }))
        } else {
            return None;
        };
        Some((kind, reason))
    }

    /// The script of the caption and the usual one, where they differ.
    fn other_script(&self, caption: &str) -> Option<(Script, Script)> {
        let (script, usual) = (main_script(caption)?, self.script?);
        (script != usual).then_some((script, usual))
    }

    /// The number of usual words, where it is low.
    fn few_usual_words(&self, plain: &str, num_words: usize) -> Option<usize> {
        let vocabulary = self.vocabulary?;
        let is_usual = |word: &&str| vocabulary.get(*word).is_some_and(|word| word.num_images >= MIN_IMAGES_OF_A_WORD);
        let num_usual = words(plain).filter(is_usual).count();
        (num_words >= MIN_WORDS_FOR_A_SHARE && 3 * num_usual < num_words).then_some(num_usual)
    }
}

/// The first characters in quotation marks, with escapes for all that would not stay in one line.
fn beginning(caption: &str) -> String {
    const NUM_SHOWN: usize = 60;
    match caption.char_indices().nth(NUM_SHOWN) {
        Some((end, _)) => format!("{:?}...", &caption[..end]),
        None => format!("{caption:?}"),
    }
}

/// Assigns each place to the kind that has the fewest so far, so that a thousand of one kind do not hide the others.
fn share_places(found: [Vec<Outlier>; 4]) -> Vec<Outlier> {
    let mut places = [0; 4];
    for _ in 0..NUM_LISTED {
        let waiting = (0..found.len()).filter(|&kind| places[kind] < found[kind].len());
        let Some(kind) = waiting.min_by_key(|&kind| places[kind]) else { break };
        places[kind] += 1;
    }
    found.into_iter().zip(places).flat_map(|(found, num)| found.into_iter().take(num)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistics of images 0.jpg, 1.jpg, ... with these captions.
    fn statistics<S: AsRef<str>>(images: &[Vec<S>]) -> CaptionStatistics {
        let owned = |captions: &Vec<S>| captions.iter().map(|caption| caption.as_ref().to_owned()).collect();
        let images: Vec<(String, Vec<String>)> =
            (0..).zip(images).map(|(index, captions)| (format!("{index}.jpg"), owned(captions))).collect();
        CaptionStatistics::of(images.iter().map(|(filename, captions)| (filename.as_str(), captions.as_slice())))
    }

    /// Images with one caption each.
    fn singles(captions: impl IntoIterator<Item = String>) -> Vec<Vec<String>> {
        captions.into_iter().map(|caption| vec![caption]).collect()
    }

    fn of_words(num_words: usize) -> String {
        vec!["dog"; num_words].join(" ")
    }

    #[test]
    fn lengths_are_ranks_of_the_sorted_captions() {
        let found = statistics(&singles((1..=20).rev().map(of_words))).words;
        assert_eq!(found, LengthStatistics { min: 1, mean: 10.5, median: 10, p95: 19, max: 20 });
        let found = statistics(&singles([4, 7, 9].map(of_words))).words;
        assert_eq!((found.median, found.p95), (7, 9));
    }

    #[test]
    fn words_count_as_one_whatever_their_case_and_punctuation() {
        let found = statistics(&[vec!["A dog, a Cat.", "two DOGS"], vec!["the dog's cat"]]);
        // a, dog, cat, two, dogs, the, dogs: "dog's" loses its apostrophe.
        assert_eq!((found.captions, found.vocabulary, found.words_seen_once), (3, 6, 3));
    }

    #[test]
    fn a_caption_is_repeated_when_another_image_has_its_words() {
        let count = |images: &[Vec<&str>]| statistics(images).repeated_captions;
        assert_eq!(count(&[vec!["a dog runs", "a dog runs"], vec!["a cat sits"]]), 0);
        assert_eq!(count(&[vec!["a dog runs", "A dog runs ."], vec!["a cat sits", "A DOG  runs!"]]), 3);
        assert_eq!(count(&[vec!["a dog runs"], vec!["a dogruns"]]), 0);
    }

    #[test]
    fn captions_of_fewer_than_three_words_are_short() {
        let found = statistics(&[vec!["a dog runs", "two, dogs ...", "dogs", "..."]]);
        let reasons: Vec<&str> = found.outliers.iter().map(|outlier| outlier.reason.as_str()).collect();
        assert_eq!(reasons, [r#"2 words: "two, dogs ...""#, r#"1 word: "dogs""#, r#"0 words: "...""#]);
        assert_eq!((found.outliers[0].what.as_str(), found.num_outliers.short), ("caption 1 of image 0.jpg", 3));
    }

    #[test]
    fn captions_without_spaces_are_measured_by_their_characters() {
        let found = statistics(&singles(["犬が走る", "一只狗", "走る", "สุนัขวิ่ง"].map(str::to_owned)));
        // Of the 9 code points of the last one, the tone mark is no letter.
        assert_eq!((found.num_outliers.short, found.words.max), (1, 8));
        assert_eq!(found.outliers[0].reason, r#"2 words: "走る""#);
    }

    #[test]
    fn long_is_beyond_fifty_words_and_four_times_the_median() {
        let num_long = |median: usize, length: usize| {
            statistics(&singles([of_words(median), of_words(median), of_words(length)])).num_outliers.long
        };
        assert_eq!((num_long(10, 50), num_long(10, 51)), (0, 1));
        assert_eq!((num_long(20, 80), num_long(20, 81)), (0, 1));
    }

    #[test]
    fn captions_of_words_that_few_images_have_are_found_in_large_sets() {
        let strange = [
            "ein hund rennt über die wiese",
            "dGhl IGNh dCBz YXQg b24g dGhl",
            "a man xa xb xc",
            "a man xa xb xc xd xe",
            "xa xb xc",
        ];
        let found = |num_usual: usize| {
            let usual = (0..num_usual).map(|index| format!("a man number{index} rides"));
            statistics(&singles(usual.chain(strange.map(str::to_owned))))
        };
        let large = found(995);
        assert_eq!((large.captions, large.num_outliers.unusual_words), (1000, 3));
        assert_eq!(large.outliers[0].what, "caption 0 of image 995.jpg");
        let reason =
            "0 of its 6 words appear with 5 or more images, fewer than a third: \"ein hund rennt über die wiese\"";
        assert_eq!(large.outliers[0].reason, reason);
        assert_eq!(large.outliers[2].what, "caption 0 of image 998.jpg");
        assert_eq!(found(994).num_outliers, OutlierCounts::default());
    }

    #[test]
    fn a_word_is_usual_from_five_images_on_however_often_one_image_has_it() {
        let num_unusual = |num_images: usize| {
            let mut images = singles((0..1000).map(|_| "a man rides home".to_owned()));
            images.extend((0..num_images).map(|_| vec!["qa qb qc qd"; 9].into_iter().map(str::to_owned).collect()));
            statistics(&images).num_outliers.unusual_words
        };
        assert_eq!((num_unusual(4), num_unusual(5)), (36, 0));
    }

    #[test]
    fn captions_in_another_script_than_nine_of_ten_are_found() {
        let found = |num_latin: usize| {
            let latin = (0..num_latin).map(|_| "a dog runs".to_owned());
            statistics(&singles(latin.chain(["собака бежит домой".to_owned(), "12 34 56".to_owned()])))
        };
        assert_eq!(found(8).num_outliers, OutlierCounts::default());
        let found = found(9);
        assert_eq!((found.num_outliers.other_script, found.outliers.len()), (1, 1));
        assert_eq!(found.outliers[0].reason, r#"most letters are Cyrillic, not Latin: "собака бежит домой""#);
    }

    #[test]
    fn one_kind_does_not_hide_the_others_in_the_list() {
        for (num_long, num_listed) in [(30, 30), (130, 50)] {
            let lengths = [(500, 1), (600, 5), (num_long, 51)];
            let captions = lengths.iter().flat_map(|&(num, length)| (0..num).map(move |_| of_words(length)));
            let found = statistics(&singles(captions));
            assert_eq!((found.num_outliers.short, found.num_outliers.long), (500, num_long));
            let (long, short) = found.outliers.split_at(num_listed);
            assert!(long.iter().all(|outlier| outlier.kind == OutlierKind::Long));
            assert!(short.iter().all(|outlier| outlier.kind == OutlierKind::Short));
            assert_eq!(short.len(), NUM_LISTED - num_listed);
            assert_eq!(short[short.len() - 1].what, format!("caption 0 of image {}.jpg", short.len() - 1));
        }
    }

    #[test]
    fn a_reason_is_one_line_however_wild_the_caption_is() {
        let found = statistics(&singles([format!("dog\n\u{202e}{}", "x".repeat(9000))]));
        let expected = format!(r#"2 words: "dog\n\u{{202e}}{}"..."#, "x".repeat(55));
        assert_eq!(found.outliers[0].reason, expected);
    }

    #[test]
    fn the_summary_names_the_kinds_that_are_there() {
        let found = statistics(&[vec!["a dog runs", "a cat sits here"], vec!["a dog runs"]]);
        let line = "3 captions of 3 to 4 words (median 3, mean 3.3, 95% at most 4); 6 different words, 3 seen once; 2 \
                    captions also belong to another image";
        assert_eq!(found.summary(), line);
        let found = statistics(&singles([1, 5, 5, 51].map(of_words)));
        assert!(found.summary().ends_with("\ncaptions worth a look: 1 very long, 1 very short"), "{}", found.summary());
    }

    #[test]
    fn no_captions_give_zeros() {
        let found = statistics::<&str>(&[vec![]]);
        assert_eq!((found.captions, found.words), (0, LengthStatistics::default()));
        assert!(found.summary().starts_with("0 captions"));
    }

    #[test]
    fn what_is_written_is_read_back_and_unknown_keys_are_refused() {
        let found = statistics(&singles([1, 5, 6].map(of_words)));
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<CaptionStatistics>(&json).unwrap(), found);
        assert!(json.contains(r#""kind":"short","what":"caption 0 of image 0.jpg""#), "{json}");
        for key in ["captions", "min", "other_script", "kind"] {
            let more = json.replacen(&format!("\"{key}\":"), &format!("\"extra\":1,\"{key}\":"), 1);
            assert!(more != json && serde_json::from_str::<CaptionStatistics>(&more).is_err(), "{more}");
        }
    }
}
