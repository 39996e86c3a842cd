//! Finds all pairs of words or phrases of two sentences that could be aligned.

use super::paraphrases::{Paraphrases, Place};
use super::resources::Resources;
use super::sentence::Sentence;

/// What made a match possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    Exact,
    Stem,
    Synonym,
    Paraphrase,
}

/// Words of the reference that say the same as words of the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// First word in the reference.
    pub(super) start: u32,
    /// First word in the candidate.
    pub(super) candidate_start: u32,
    /// Number of words in the reference.
    pub(super) length: u32,
    /// Number of words in the candidate.
    pub(super) candidate_length: u32,
    pub(super) module: Module,
}

impl Match {
    fn word(start: usize, candidate_start: usize, module: Module) -> Self {
        let (start, candidate_start) = (start as u32, candidate_start as u32);
        Self { start, candidate_start, length: 1, candidate_length: 1, module }
    }

    /// The word after it in the reference.
    pub(super) fn end(&self) -> u32 {
        self.start + self.length
    }

    /// The word after it in the candidate.
    pub(super) fn candidate_end(&self) -> u32 {
        self.candidate_start + self.candidate_length
    }
}

/// The matches of two sentences, by their first word in the reference and, for one word, in the order of the modules.
/// Pairs of words may occur several times: each module adds its own, and a table can have both directions of a pair.
pub(super) fn find(candidate: &Sentence, reference: &Sentence, resources: Option<&Resources>) -> Vec<Match> {
    let mut matches = Vec::new();
    add_pairs(&mut matches, candidate, reference, Module::Exact);
    let keys = |sentence: &Sentence| sentence.words.iter().map(|word| word.key).collect::<Vec<_>>();
    // Other modules could lead the search away from a perfect alignment of equal sentences.
    if keys(candidate) != keys(reference) {
        add_pairs(&mut matches, candidate, reference, Module::Stem);
        if let Some(resources) = resources {
            add_pairs(&mut matches, candidate, reference, Module::Synonym);
            add_paraphrases(&mut matches, candidate, reference, &resources.paraphrases);
        }
    }
    // Stable: the order of equal ones decides between alignments that are equally good.
    matches.sort_by_key(|found| found.start);
    matches
}

fn add_pairs(matches: &mut Vec<Match>, candidate: &Sentence, reference: &Sentence, module: Module) {
    for (start, word) in reference.words.iter().enumerate() {
        for (candidate_start, other) in candidate.words.iter().enumerate() {
            let is_equal = word.key == other.key;
            let is_match = match module {
                Module::Exact => is_equal,
                Module::Stem => !is_equal && word.stem_key == other.stem_key,
                Module::Synonym => !is_equal && other.synsets.meet(&word.synsets),
                Module::Paraphrase => false,
            };
            if is_match {
                matches.push(Match::word(start, candidate_start, module));
            }
        }
    }
}

fn add_paraphrases(matches: &mut Vec<Match>, candidate: &Sentence, reference: &Sentence, table: &Paraphrases) {
    let mut add = |in_candidate: Place, in_reference: Place| {
        matches.push(Match {
            start: in_reference.start,
            candidate_start: in_candidate.start,
            length: in_reference.length,
            candidate_length: in_candidate.length,
            module: Module::Paraphrase,
        });
    };
    table.for_each_pair(&reference.phrases, &candidate.phrases, |phrase, paraphrase| add(paraphrase, phrase));
    table.for_each_pair(&candidate.phrases, &reference.phrases, add);
}
