//! The English stemmer of Snowball ("Porter2") as the version of 2007 in `meteor-1.5.jar` computes it.
//!
//! Words are sequences of UTF-16 units there, which decides what counts as a letter of a short word; so they are here.
//! Source: <https://snowballstem.org/algorithms/english/stemmer.html>; later versions treat some words otherwise.

/// The stem of a lower-case `word`, in UTF-16.
pub(super) fn stem(word: &str) -> Vec<u16> {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return stem.encode_utf16().collect();
    }
    let units: Vec<u16> = word.encode_utf16().collect();
    if units.len() < 3 {
        return units;
    }
    let mut stem = Stem::new(units);
    stem.plural();
    if !KEPT.iter().any(|kept| stem.is(kept)) {
        stem.past_and_participle();
        stem.final_y();
        stem.derivation();
        stem.second_derivation();
        stem.residual_suffix();
        stem.final_e_and_l();
    }
    stem.units.iter_mut().filter(|unit| **unit == CONSONANT_Y).for_each(|unit| *unit = b'y'.into());
    stem.units
}

/// Words with a stem of their own.
const IRREGULAR: [(&str, &str); 18] = [
    ("andes", "andes"),
    ("atlas", "atlas"),
    ("bias", "bias"),
    ("cosmos", "cosmos"),
    ("dying", "die"),
    ("early", "earli"),
    ("gently", "gentl"),
    ("howe", "howe"),
    ("idly", "idl"),
    ("lying", "lie"),
    ("news", "news"),
    ("only", "onli"),
    ("singly", "singl"),
    ("skies", "sky"),
    ("skis", "ski"),
    ("sky", "sky"),
    ("tying", "tie"),
    ("ugly", "ugli"),
];

/// Words that stay as they are once their plural is taken off.
const KEPT: [&str; 8] = ["canning", "earring", "exceed", "herring", "inning", "outing", "proceed", "succeed"];

/// A suffix and what replaces it; a suffix stands after those that end with it.
type Rule = (&'static str, &'static str);

const DERIVATION: [Rule; 22] = [
    ("ization", "ize"),
    ("ational", "ate"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("tional", "tion"),
    ("biliti", "ble"),
    ("lessli", "less"),
    ("entli", "ent"),
    ("ation", "ate"),
    ("alism", "al"),
    ("aliti", "al"),
    ("ousli", "ous"),
    ("iviti", "ive"),
    ("fulli", "ful"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("abli", "able"),
    ("izer", "ize"),
    ("ator", "ate"),
    ("alli", "al"),
    ("bli", "ble"),
];

const SECOND_DERIVATION: [Rule; 8] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("alize", "al"),
    ("icate", "ic"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ness", ""),
    ("ful", ""),
];

const RESIDUAL: [&str; 17] = [
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "al",
    "er", "ic",
];

/// Marks a `y` that is a consonant.
const CONSONANT_Y: u16 = b'Y' as u16;

struct Stem {
    units: Vec<u16>,
    /// Where the part after the first consonant that follows a vowel begins.
    region_1: usize,
    /// The same within `region_1`.
    region_2: usize,
}

impl Stem {
    fn new(mut units: Vec<u16>) -> Self {
        if units[0] == u16::from(b'\'') {
            units.remove(0);
        }
        for index in 0..units.len() {
            if units[index] == u16::from(b'y') && (index == 0 || is_vowel(units[index - 1])) {
                units[index] = CONSONANT_Y;
            }
        }
        let mut stem = Self { units, region_1: 0, region_2: 0 };
        let prefix = ["gener", "commun", "arsen"].into_iter().find(|prefix| stem.begins_with(prefix));
        stem.region_1 = prefix.map_or_else(|| stem.after_syllable(0), str::len);
        stem.region_2 = stem.after_syllable(stem.region_1);
        stem
    }

    /// The index after the first consonant after the first vowel from `start` on.
    fn after_syllable(&self, start: usize) -> usize {
        let rest = self.units.iter().enumerate().skip(start);
        let mut rest = rest.skip_while(|(_, unit)| !is_vowel(**unit)).skip_while(|(_, unit)| is_vowel(**unit));
        rest.next().map_or(self.units.len(), |(index, _)| index + 1)
    }

    fn begins_with(&self, prefix: &str) -> bool {
        self.units.len() >= prefix.len()
            && self.units.iter().zip(prefix.bytes()).all(|(&unit, byte)| unit == u16::from(byte))
    }

    fn ends_with(&self, suffix: &str) -> bool {
        let length = suffix.len();
        self.units.len() >= length
            && self.units[self.units.len() - length..]
                .iter()
                .zip(suffix.bytes())
                .all(|(&unit, byte)| unit == u16::from(byte))
    }

    fn is(&self, word: &str) -> bool {
        self.units.len() == word.len() && self.ends_with(word)
    }

    fn is_in_region_1(&self, suffix: &str) -> bool {
        self.units.len() - suffix.len() >= self.region_1
    }

    fn is_in_region_2(&self, suffix: &str) -> bool {
        self.units.len() - suffix.len() >= self.region_2
    }

    fn replace(&mut self, suffix: &str, replacement: &str) {
        self.units.truncate(self.units.len() - suffix.len());
        self.units.extend(replacement.encode_utf16());
    }

    /// Whether there is a vowel before the last `length` units.
    fn has_vowel_before(&self, length: usize) -> bool {
        self.units.len() > length && self.units[..self.units.len() - length].iter().any(|&unit| is_vowel(unit))
    }

    /// Whether the first `length` units end in a short syllable.
    fn ends_in_short_syllable(&self, length: usize) -> bool {
        match self.units[..length] {
            [.., before, vowel, after] if is_vowel(vowel) && !is_vowel(before) => {
                !is_vowel(after) && ![CONSONANT_Y, u16::from(b'w'), u16::from(b'x')].contains(&after)
            }
            [vowel, after] => is_vowel(vowel) && !is_vowel(after),
            _ => false,
        }
    }

    /// Step 1a, and the genitive.
    fn plural(&mut self) {
        if let Some(genitive) = ["'s'", "'s", "'"].into_iter().find(|suffix| self.ends_with(suffix)) {
            self.replace(genitive, "");
        }
        if self.ends_with("sses") {
            self.replace("sses", "ss");
        } else if self.ends_with("ied") || self.ends_with("ies") {
            self.replace("ied", if self.units.len() > 4 { "i" } else { "ie" });
        } else if self.ends_with("s") && !self.ends_with("us") && !self.ends_with("ss") && self.has_vowel_before(2) {
            self.replace("s", "");
        }
    }

    /// Step 1b.
    fn past_and_participle(&mut self) {
        if let Some(suffix) = ["eedly", "eed"].into_iter().find(|suffix| self.ends_with(suffix)) {
            if self.is_in_region_1(suffix) {
                self.replace(suffix, "ee");
            }
            return;
        }
        let Some(suffix) = ["ingly", "edly", "ing", "ed"].into_iter().find(|suffix| self.ends_with(suffix)) else {
            return;
        };
        if !self.has_vowel_before(suffix.len()) {
            return;
        }
        self.replace(suffix, "");
        if ["at", "bl", "iz"].into_iter().any(|end| self.ends_with(end)) {
            self.replace("", "e");
        } else if ["bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"].into_iter().any(|end| self.ends_with(end)) {
            self.units.pop();
        } else if self.units.len() == self.region_1 && self.ends_in_short_syllable(self.units.len()) {
            self.replace("", "e");
        }
    }

    /// Step 1c.
    fn final_y(&mut self) {
        if let [_, .., before, last] = self.units[..]
            && (last == CONSONANT_Y || last == u16::from(b'y'))
            && !is_vowel(before)
        {
            self.replace("y", "i");
        }
    }

    /// Step 2.
    fn derivation(&mut self) {
        if let Some((suffix, replacement)) = DERIVATION.into_iter().find(|(suffix, _)| self.ends_with(suffix)) {
            if self.is_in_region_1(suffix) {
                self.replace(suffix, replacement);
            }
        } else if self.ends_with("ogi") {
            if self.is_in_region_1("ogi") && self.ends_with("logi") {
                self.replace("ogi", "og");
            }
        } else if let [.., before, _, _] = self.units[..]
            && self.ends_with("li")
            && self.is_in_region_1("li")
            && "cdeghkmnrt".bytes().any(|byte| before == u16::from(byte))
        {
            self.replace("li", "");
        }
    }

    /// Step 3.
    fn second_derivation(&mut self) {
        if let Some((suffix, replacement)) = SECOND_DERIVATION.into_iter().find(|(suffix, _)| self.ends_with(suffix)) {
            if self.is_in_region_1(suffix) {
                self.replace(suffix, replacement);
            }
        } else if self.ends_with("ative") && self.is_in_region_1("ative") && self.is_in_region_2("ative") {
            self.replace("ative", "");
        }
    }

    /// Step 4.
    fn residual_suffix(&mut self) {
        if let Some(suffix) = RESIDUAL.into_iter().find(|suffix| self.ends_with(suffix)) {
            if self.is_in_region_2(suffix) {
                self.replace(suffix, "");
            }
        } else if (self.ends_with("sion") || self.ends_with("tion")) && self.is_in_region_2("ion") {
            self.replace("ion", "");
        }
    }

    /// Step 5.
    fn final_e_and_l(&mut self) {
        let before = self.units.len().saturating_sub(1);
        let is_removed = if self.ends_with("e") {
            self.is_in_region_2("e") || (self.is_in_region_1("e") && !self.ends_in_short_syllable(before))
        } else {
            self.ends_with("ll") && self.is_in_region_2("l")
        };
        if is_removed {
            self.units.pop();
        }
    }
}

fn is_vowel(unit: u16) -> bool {
    b"aeiouy".iter().any(|&vowel| unit == u16::from(vowel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_those_of_the_jar() {
        let stems = [
            ("running", "run"),
            ("ran", "ran"),
            ("flies", "fli"),
            ("dies", "die"),
            ("dying", "die"),
            ("skies", "sky"),
            ("news", "news"),
            ("agreed", "agre"),
            ("feed", "feed"),
            ("proceed", "proceed"),
            ("hopping", "hop"),
            ("hoping", "hope"),
            ("fizzed", "fizz"),
            ("say", "say"),
            ("enjoy", "enjoy"),
            ("generously", "generous"),
            ("communism", "communism"),
            ("apologies", "apolog"),
            ("national", "nation"),
            ("rationalization", "ration"),
            ("relational", "relat"),
            ("decisively", "decis"),
            ("fulfil", "fulfil"),
            ("falling", "fall"),
            ("activate", "activ"),
            ("adoption", "adopt"),
            ("electricity", "electr"),
            ("dog's", "dog"),
            ("dogs'", "dog"),
            ("'s", "'s"),
            ("ies", "ie"),
            ("ties", "tie"),
            ("as", "as"),
            ("us", "us"),
            ("gas", "gas"),
            ("class", "class"),
            ("universally", "univers"),
            ("yes", "yes"),
            ("youth", "youth"),
            ("cry", "cri"),
            ("by", "by"),
            ("controlling", "control"),
            ("herrings", "herring"),
            ("outing", "outing"),
            ("naïves", "naïv"),
            ("bee", "bee"),
            ("hopefulness", "hope"),
            ("logically", "logic"),
        ];
        for (word, expected) in stems {
            assert_eq!(String::from_utf16(&stem(word)).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn lengths_count_utf_16_units() {
        // One letter outside the basic plane is as long as two in it.
        assert_eq!(stem("😀s'"), "😀s".encode_utf16().collect::<Vec<_>>());
        assert_eq!(stem("😀y"), "😀i".encode_utf16().collect::<Vec<_>>());
        assert_eq!(stem("éy"), "éy".encode_utf16().collect::<Vec<_>>());
    }
}
