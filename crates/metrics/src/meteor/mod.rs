//! METEOR 1.5 as the COCO caption evaluation uses it, without Java: `meteor-1.5.jar -l en -norm` after PyPI's
//! `pycocoevalcap` 1.2.
//!
//! A candidate is aligned to each of its references: words match if they are equal, have the same stem, share a WordNet
//! synset, or are part of paraphrases. The score weighs precision and recall of the best reference and how scattered
//! the matches are; that of a set of captions comes from the sums of their counts. Statistics are those of the Java
//! tool, number for number; scores agree but for the last bit of a power.
//!
//! Sources: Denkowski and Lavie, "Meteor Universal" (2014), and experiments with the jar.

mod aligner;
mod matches;
mod normalizer;
mod paraphrase_file;
mod paraphrases;
mod phrase_trie;
mod quick_hash;
mod resources;
mod score;
mod sentence;
mod statistics;
mod stemmer;
mod synonyms;
mod word_lists;

use std::path::Path;

pub use self::statistics::MeteorStatistics;

use self::matches::Match;
use self::resources::Resources;
use self::sentence::Sentence;

/// Computes METEOR. Threads can share one.
#[derive(Debug)]
pub struct Meteor {
    resources: Option<Resources>,
}

impl Meteor {
    /// With all four modules, as published scores are computed. `folder` is `pycocoevalcap/meteor` of the Python
    /// package: `meteor-1.5.jar` gives the synonyms and `data/paraphrase-en.gz` the paraphrases, five million pairs.
    /// They take 130 MB and between one and two seconds.
    ///
    /// # Errors
    /// A file that is missing, damaged or contains something else.
    pub fn from_resources(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { resources: Some(Resources::read(folder)?) })
    }

    /// With only the modules exact and stem, which need no resources: the Java tool with `-m "exact stem"` and
    /// `-w "1.0 0.6"`. The function words and abbreviations, two short lists, are built in, for both ways.
    pub fn exact_and_stem() -> Self {
        Self { resources: None }
    }

    /// With all four modules where there is a folder of resources, with only exact and stem without one.
    ///
    /// # Errors
    /// As [`Self::from_resources`].
    pub fn open(resources: Option<&Path>) -> anyhow::Result<Self> {
        resources.map_or_else(|| Ok(Self::exact_and_stem()), Self::from_resources)
    }

    /// Names of the modules, for a signature beside the scores: they are not comparable with those of other modules.
    pub fn modules(&self) -> &'static str {
        if self.resources.is_some() { "exact+stem+synonym+paraphrase" } else { "exact+stem" }
    }

    /// The statistics of a candidate and the reference with which it has the best score, the first of equal ones; zeros
    /// without a reference.
    ///
    /// The texts are the output of the PTB tokenizer: lower-case tokens joined by a space. Any text will do; it is
    /// normalized as the Java tool does, after what `pycocoevalcap` does: `|||` is dropped from the candidate, pairs of
    /// spaces in it become one, and `|||` separates references. Time grows with the product of the two lengths.
    pub fn segment<S: AsRef<str>>(&self, candidate: &str, references: &[S]) -> MeteorStatistics {
        let candidate = candidate.replace("|||", "").replace("  ", " ");
        let candidate = Sentence::new(&candidate, self.resources.as_ref());
        let mut best: Option<(f64, MeteorStatistics)> = None;
        for reference in references.iter().flat_map(|reference| reference.as_ref().split("|||")) {
            let reference = Sentence::new(reference, self.resources.as_ref());
            let statistics = self.compare(&candidate, &reference);
            let score = self.score(&statistics);
            if best.is_none_or(|(best, _)| score > best) {
                best = Some((score, statistics));
            }
        }
        best.map(|(_, statistics)| statistics).unwrap_or_default()
    }

    /// The score, from 0 to 1, of a caption or, from the sum of their statistics, of a set of captions.
    pub fn score(&self, statistics: &MeteorStatistics) -> f64 {
        score::score(statistics)
    }

    fn compare(&self, candidate: &Sentence, reference: &Sentence) -> MeteorStatistics {
        let matches = matches::find(candidate, reference, self.resources.as_ref());
        let chosen = aligner::align(&matches, candidate.words.len(), reference.words.len());
        count(candidate, reference, &chosen)
    }
}

fn count(candidate: &Sentence, reference: &Sentence, chosen: &[Match]) -> MeteorStatistics {
    let function_words =
        |sentence: &Sentence| sentence.words.iter().filter(|word| word.is_function_word).count() as u64;
    let mut statistics = MeteorStatistics {
        candidate_length: candidate.words.len() as u64,
        reference_length: reference.words.len() as u64,
        candidate_function_words: function_words(candidate),
        reference_function_words: function_words(reference),
        num_chunks: aligner::count_chunks(chosen),
        ..MeteorStatistics::default()
    };
    for found in chosen {
        let module = found.module as usize;
        for word in &candidate.words[found.candidate_start as usize..found.candidate_end() as usize] {
            let counts = (&mut statistics.candidate_function_matches, &mut statistics.candidate_content_matches);
            (if word.is_function_word { counts.0 } else { counts.1 })[module] += 1;
        }
        for word in &reference.words[found.start as usize..found.end() as usize] {
            let counts = (&mut statistics.reference_function_matches, &mut statistics.reference_content_matches);
            (if word.is_function_word { counts.0 } else { counts.1 })[module] += 1;
        }
    }
    statistics
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// A candidate, its references, and what the Java tool gives for them: counts as [`text`] writes them, and score.
    type Case = (&'static str, &'static [&'static str], &'static str, f64);

    const KNOWN: [Case; 5] = [
        (
            "the cat was sat on the mat",
            &["the cat sat on the mat"],
            "7 6 4 3, exact 3 3 3 3, chunks 2",
            0.5119556177223324,
        ),
        (
            "this is a good test",
            &["this is a test", "this is also a test"],
            "5 4 3 3, exact 1 1 3 3, chunks 2",
            0.4443438716486749,
        ),
        (
            "a dog is running",
            &["a dog runs", "the dog is running"],
            "4 4 2 2, exact 2 2 1 1, chunks 1",
            0.4535606800758789,
        ),
        ("a red car parked", &["a red car", "a car parked"], "4 3 1 1, exact 2 2 1 1, chunks 1", 0.48704502558483637),
        (
            "two dogs run in snow",
            &["two dogs are running in the snow"],
            "5 7 2 4, exact 2 2 2 2, paraphrase 1 1 0 1, chunks 2",
            0.41426071704089296,
        ),
    ];

    const SYNSETS: &str = "man\n1 20\nguy\n1\nlady\n2\nwoman\n3 2\nchild\n5\nkid\n5 6\ngoat\n6\nmouse\n8\nrodent\n8\n\
        big\n9\nlarge\n9\nstop\n10\nhalt\n10\n";
    const EXCEPTIONS: &str = "child\nchildren\nmouse\nmice\n";
    const PARAPHRASES: [(&str, &str); 13] = [
        ("run", "are running"),
        ("jumps over", "leaps across"),
        ("leaps across", "jumps over"),
        ("in front of", "before"),
        ("a lot of", "many"),
        ("a lot of", "lots of"),
        ("many", "a lot of"),
        ("dog", "big dog"),
        ("dog", "hound"),
        ("sits", "is sitting"),
        ("sits", "is sitting down"),
        ("looks at", "watches"),
        ("watches", "looks at"),
    ];

    /// All four modules with small tables, which the Java tool was given too.
    static WITH_SMALL_TABLES: LazyLock<Meteor> = LazyLock::new(|| {
        let members = [("synonym/english.synsets", SYNSETS), ("synonym/english.exceptions", EXCEPTIONS)];
        let folder = resources::tests::folder(&members, &PARAPHRASES);
        Meteor::from_resources(folder.path()).unwrap()
    });

    /// Words of candidate and reference, function words of both, then for each module with matches the content words of
    /// both and the function words of both.
    fn text(counts: &MeteorStatistics) -> String {
        let mut text = format!(
            "{} {} {} {}",
            counts.candidate_length,
            counts.reference_length,
            counts.candidate_function_words,
            counts.reference_function_words
        );
        for (module, name) in ["exact", "stem", "synonym", "paraphrase"].into_iter().enumerate() {
            let matches = [
                counts.candidate_content_matches[module],
                counts.reference_content_matches[module],
                counts.candidate_function_matches[module],
                counts.reference_function_matches[module],
            ];
            if matches != [0; 4] {
                text.push_str(&format!(", {name} {} {} {} {}", matches[0], matches[1], matches[2], matches[3]));
            }
        }
        text + &format!(", chunks {}", counts.num_chunks)
    }

    #[track_caller]
    fn assert_cases(meteor: &Meteor, cases: &[Case]) {
        for (candidate, references, counts, score) in cases {
            let statistics = meteor.segment(candidate, references);
            assert_eq!(text(&statistics), *counts, "{candidate:?}");
            let found = meteor.score(&statistics);
            assert!((found - score).abs() < 1e-12, "{candidate:?}: {found}");
        }
    }

    fn corpus_score(meteor: &Meteor, cases: &[Case]) -> f64 {
        meteor.score(&cases.iter().map(|(candidate, references, ..)| meteor.segment(candidate, references)).sum())
    }

    #[test]
    fn known_answers_are_met() {
        assert_cases(&WITH_SMALL_TABLES, &KNOWN);
        assert!((corpus_score(&WITH_SMALL_TABLES, &KNOWN[2..4]) - 0.469_706_853_153_013_7).abs() < 1e-12);
    }

    #[test]
    fn synonyms_and_paraphrases_match_as_in_the_java_tool() {
        let cases: &[Case] = &[
            (
                "two kids feed a large mouse",
                &["two children feed the big mice"],
                "6 6 2 2, exact 1 1 1 1, synonym 3 3 0 0, chunks 2",
                0.40037446044710095,
            ),
            (
                "a guy and a lady",
                &["a man and a woman"],
                "5 5 3 3, exact 0 0 3 3, synonym 2 2 0 0, chunks 1",
                0.8666666666666667,
            ),
            (
                "the men stopped",
                &["the guys halt"],
                "3 3 1 1, exact 0 0 1 1, synonym 1 1 0 0, chunks 1",
                0.23201097869655812,
            ),
            (
                "a dog jumps over a log",
                &["the hound leaps across the log"],
                "6 6 3 2, exact 1 1 0 0, paraphrase 2 3 1 0, chunks 2",
                0.28660179721339524,
            ),
            (
                "a lot of dogs stand in front of a house",
                &["many dogs wait before the house", "lots of dogs in front of the house"],
                "10 8 5 4, exact 3 3 3 3, stem 1 1 0 0, chunks 3",
                0.41028187439101016,
            ),
            (
                "a big dog sits",
                &["a dog is sitting down"],
                "4 5 1 2, exact 1 1 1 1, paraphrase 1 1 0 1, chunks 2",
                0.26956472098112866,
            ),
            (
                "a dog is sitting down",
                &["a big dog sits"],
                "5 4 2 1, exact 1 1 1 1, paraphrase 1 1 1 0, chunks 2",
                0.26897477161521716,
            ),
            (
                "a man watches many dogs",
                &["the guy looks at a lot of dogs"],
                "5 8 1 4, exact 1 1 1 1, synonym 1 1 0 0, paraphrase 1 1 0 1, chunks 3",
                0.25051613199010814,
            ),
        ];
        assert_cases(&WITH_SMALL_TABLES, cases);
    }

    #[test]
    fn exact_and_stem_need_no_resources() {
        let cases: &[Case] = &[
            (
                "two dogs run in snow",
                &["two dogs are running in the snow"],
                "5 7 2 4, exact 2 2 2 2, stem 1 1 0 0, chunks 3",
                0.3536270035818179,
            ),
            (
                "two kids feed a large mouse",
                &["two children feed the big mice"],
                "6 6 2 2, exact 1 1 1 1, chunks 2",
                0.11428571428571428,
            ),
            ("a guy and a lady", &["a man and a woman"], "5 5 3 3, exact 0 0 3 3, chunks 2", 0.14891175103698776),
            ("the men stopped", &["the guys halt"], "3 3 1 1, exact 0 0 1 1, chunks 1", 0.05714285714285714),
            (
                "a dog jumps over a log",
                &["the hound leaps across the log"],
                "6 6 3 2, exact 1 1 0 0, chunks 1",
                0.08759124087591241,
            ),
            (
                "a big dog sits",
                &["a dog is sitting down"],
                "4 5 1 2, exact 1 1 1 1, stem 1 1 0 0, chunks 3",
                0.2138248847926267,
            ),
            (
                "a dog is sitting down",
                &["a big dog sits"],
                "5 4 2 1, exact 1 1 1 1, stem 1 1 0 0, chunks 3",
                0.22857142857142856,
            ),
            (
                "a man watches many dogs",
                &["the guy looks at a lot of dogs"],
                "5 8 1 4, exact 1 1 1 1, chunks 2",
                0.10289389067524116,
            ),
        ];
        let meteor = Meteor::exact_and_stem();
        assert_cases(&meteor, &KNOWN[..4]);
        assert_cases(&meteor, cases);
        assert_eq!(meteor.modules(), "exact+stem");
        assert_eq!(WITH_SMALL_TABLES.modules(), "exact+stem+synonym+paraphrase");
    }

    #[test]
    fn ties_between_repeated_words_are_decided_as_in_the_java_tool() {
        let cases: &[Case] = &[
            (
                "the dog and the dog",
                &["the dog the cat the dog"],
                "5 6 3 3, exact 2 2 2 2, chunks 2",
                0.3308534455565891,
            ),
            ("a a a b a a", &["a b a a b a a a"], "6 8 5 6, exact 1 1 5 5, chunks 2", 0.363757938907973),
            ("dogs dog dogs dog", &["dog dog dogs"], "4 3 0 0, exact 3 3 0 0, chunks 2", 0.4254621458199651),
            (
                "the big dog the big dog the big dog",
                &["a big dog big dog the the dog"],
                "9 8 3 3, exact 5 5 2 2, chunks 4",
                0.42710286185846025,
            ),
        ];
        assert_cases(&WITH_SMALL_TABLES, cases);
        assert_cases(&Meteor::exact_and_stem(), cases);
    }

    #[test]
    fn more_alignments_than_the_beam_holds_are_cut_as_in_the_java_tool() {
        let (candidate, reference) = ("a man a dog ".repeat(12), "a dog a man the ".repeat(10));
        let statistics = Meteor::exact_and_stem().segment(&candidate, &[reference]);
        assert_eq!(text(&statistics), "48 50 24 30, exact 20 20 20 20, chunks 10");
    }

    #[test]
    fn short_and_empty_captions_score_as_in_the_java_tool() {
        let cases: &[Case] = &[
            ("dog", &["dog"], "1 1 0 0, exact 1 1 0 0, chunks 1", 1.0),
            ("dog", &["cat"], "1 1 0 0, chunks 0", 0.0),
            ("dog", &["dogs"], "1 1 0 0, stem 1 1 0 0, chunks 1", 0.6),
            ("the", &["the the"], "1 2 1 2, exact 0 0 1 1, chunks 1", 0.2162162162162162),
            ("", &["a dog"], "0 2 0 1, chunks 0", 0.0),
            ("a dog", &[""], "2 0 1 0, chunks 0", 0.0),
            ("", &[""], "0 0 0 0, chunks 0", 0.0),
            ("a dog", &["a cat", "a dog", "a dog"], "2 2 1 1, exact 1 1 1 1, chunks 1", 1.0),
        ];
        assert_cases(&WITH_SMALL_TABLES, cases);
        assert_cases(&Meteor::exact_and_stem(), cases);
        assert_eq!(Meteor::exact_and_stem().segment::<&str>("a dog", &[]), MeteorStatistics::default());
    }

    #[test]
    fn bars_are_dropped_from_the_candidate_and_separate_references() {
        let meteor = Meteor::exact_and_stem();
        let expected = meteor.segment("a dog", &["a cat", "a dog"]);
        assert_eq!(meteor.segment("a ||| dog", &["a cat ||| a dog"]), expected);
    }

    #[test]
    fn words_with_one_java_hash_code_match_exactly() {
        let statistics = Meteor::exact_and_stem().segment("eu", &["g7"]);
        assert_eq!(text(&statistics), "1 1 0 0, exact 1 1 0 0, chunks 1");
    }

    #[test]
    fn threads_can_share_one() {
        let segment = || WITH_SMALL_TABLES.segment("two kids feed a large mouse", &["two children feed the big mice"]);
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(segment), scope.spawn(segment));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert_eq!(one, other);
    }

    const FEW_WORDS: &str = "((a|dog|big|runs?|leaps|across|jumps|over|many|lots|of) ){0,30}";

    fn assert_sound(meteor: &Meteor, candidate: &str, references: &[String]) {
        let statistics = meteor.segment(candidate, references);
        assert!(statistics.candidate_matches() <= statistics.candidate_length);
        assert!(statistics.reference_matches() <= statistics.reference_length);
        assert!((0.0..=1.0).contains(&meteor.score(&statistics)));
    }

    proptest! {
        #[test]
        fn any_text_has_a_score(
            candidate in ".{0,60}",
            references in prop::collection::vec("([ab',. -]|\\PC){0,60}", 0..4),
        ) {
            assert_sound(&Meteor::exact_and_stem(), &candidate, &references);
        }

        #[test]
        fn few_words_in_any_order_have_a_score(candidate in FEW_WORDS, reference in FEW_WORDS) {
            assert_sound(&WITH_SMALL_TABLES, &candidate, &[reference]);
        }
    }
}
