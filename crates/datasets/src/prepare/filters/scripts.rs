//! Unicode scripts by their names, and how many letters of a text are of some of them.

use unicode_script::{Script, UnicodeScript as _};

use base::error::usage_error;

/// A script by its name in the Unicode standard, such as `Latin` or `Han`, or its code, such as `Latn`; in any case.
///
/// # Errors
/// Any other name.
pub(super) fn parse(name: &str) -> anyhow::Result<Script> {
    let mut words: Vec<String> = Vec::new();
    for word in name.trim().split(['_', ' ', '-']) {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        words.push(first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect());
    }
    let name_there = words.join("_");
    let found = Script::from_full_name(&name_there).or_else(|| Script::from_short_name(&name_there));
    found.filter(|&script| is_of_letters(script)).ok_or_else(|| {
        usage_error(
            format!("--script: {name} is not the name of a Unicode script"),
            "such names are Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Han, Hiragana, Katakana, Hangul, Thai",
        )
    })
}

/// Signs that several scripts share have none of their own.
fn is_of_letters(script: Script) -> bool {
    !matches!(script, Script::Common | Script::Inherited | Script::Unknown)
}

/// Whether more than half of the letters that have a script are of `scripts`.
pub(super) fn is_mainly_in(text: &str, scripts: &[Script]) -> bool {
    let (mut num_inside, mut num_letters) = (0_usize, 0_usize);
    for letter in text.chars().filter(|character| character.is_alphabetic()) {
        let script = letter.script();
        if is_of_letters(script) {
            num_letters += 1;
            num_inside += usize::from(scripts.contains(&script));
        }
    }
    2 * num_inside > num_letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[test]
    fn a_script_has_a_name_and_a_code_in_any_case() {
        for name in ["Latin", "latin", "LATN", " latn"] {
            assert_eq!(parse(name).unwrap(), Script::Latin, "{name}");
        }
        assert_eq!(parse("old italic").unwrap(), Script::Old_Italic);
        for name in ["", "Klingon", "common", "en"] {
            assert!(describe(&parse(name).unwrap_err()).contains("hint: such names are Latin"), "{name}");
        }
    }

    #[test]
    fn a_text_is_in_the_scripts_of_more_than_half_of_its_letters() {
        let japanese = [Script::Han, Script::Hiragana, Script::Katakana];
        assert!(is_mainly_in("赤いボールを追う犬、dog", &japanese));
        assert!(!is_mainly_in("赤いボール", &[Script::Han]));
        assert!(is_mainly_in("A dog, 12 cats", &[Script::Latin]));
        assert!(!is_mainly_in("abвг", &[Script::Latin]) && is_mainly_in("abcвг", &[Script::Latin]));
        assert!(!is_mainly_in("12 !?", &[Script::Latin]), "a text without letters is in no script");
    }
}
