//! The two short word lists that METEOR 1.5 uses for English: function words and abbreviations.
//!
//! They are written out here because scoring without any resource needs them too. Both are facts about English and
//! equal, as sets, to what `meteor-1.5.jar` contains in `function/english.words` and `nonbreaking/english.prefixes`.

/// Whether `word`, lower-cased, is one of the most frequent English words, which count for less than the others.
pub(super) fn is_function_word(word: &str) -> bool {
    FUNCTION_WORDS.binary_search(&word).is_ok()
}

/// What the period after a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abbreviation {
    /// A part of the word, whatever follows.
    Always,
    /// A part of the word if a number follows.
    BeforeNumber,
}

/// Whether `word`, written as it is and without its period, is an abbreviation.
pub(super) fn abbreviation(word: &str) -> Option<Abbreviation> {
    let is_initial = word.len() == 1 && word.as_bytes()[0].is_ascii_uppercase();
    if is_initial || ABBREVIATIONS.binary_search(&word).is_ok() {
        Some(Abbreviation::Always)
    } else if ["Art", "No", "pp"].contains(&word) {
        Some(Abbreviation::BeforeNumber)
    } else {
        None
    }
}

/// Sorted by bytes. Some, as those with curly quotes, cannot be met after normalization: this is the whole list.
const FUNCTION_WORDS: [&str; 93] = [
    "\"", "$", "'", "'s", "'t", "(", ")", ",", "-", "--", "-lrb-", "-rrb-", ".", ":", "?", "a", "about", "after",
    "all", "also", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "first", "for", "from",
    "had", "has", "have", "he", "her", "his", "i", "if", "in", "into", "is", "it", "its", "last", "more", "new", "no",
    "not", "of", "on", "one", "or", "other", "out", "over", "people", "s", "said", "she", "so", "some", "than", "that",
    "the", "their", "there", "they", "this", "time", "to", "two", "up", "was", "we", "were", "what", "when", "which",
    "who", "will", "with", "would", "year", "years", "you", "—", "’", "“", "”",
];

/// Sorted by bytes, without single capitals. `e.g` and `i.e` are left out: a word with a period inside loses all of
/// them before it is looked up.
const ABBREVIATIONS: [&str; 62] = [
    "Adj", "Adm", "Adv", "Asst", "Bart", "Bldg", "Brig", "Bros", "Capt", "Cmdr", "Col", "Comdr", "Con", "Corp", "Cpl",
    "DR", "Dr", "Drs", "Ens", "Gen", "Gov", "Hon", "Hosp", "Hr", "Insp", "Lt", "MM", "MR", "MRS", "MS", "Maj",
    "Messrs", "Mlle", "Mme", "Mr", "Mrs", "Ms", "Msgr", "Nos", "Nr", "Op", "Ord", "Pfc", "Ph", "Prof", "Pvt", "Rep",
    "Reps", "Res", "Rev", "Rt", "Sen", "Sens", "Sfc", "Sgt", "Sr", "St", "Supt", "Surg", "rev", "v", "vs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        assert!(FUNCTION_WORDS.is_sorted());
        assert!(ABBREVIATIONS.is_sorted());
    }

    #[test]
    fn capitals_and_titles_are_abbreviations_and_their_lower_case_is_not() {
        assert_eq!(abbreviation("J"), Some(Abbreviation::Always));
        assert_eq!(abbreviation("St"), Some(Abbreviation::Always));
        assert_eq!(abbreviation("No"), Some(Abbreviation::BeforeNumber));
        assert_eq!(abbreviation("st"), None);
        assert_eq!(abbreviation("j"), None);
        assert_eq!(abbreviation(""), None);
    }
}
