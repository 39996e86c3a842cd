//! Text to lower-case words as METEOR 1.5 does with `-l en -norm`: punctuation is set apart, quotes and dashes are
//! made plain, words are cut at hyphens and apostrophes, periods stay with abbreviations.
//!
//! Each step replaces from left to right without overlaps, as a regular expression does: a character that served as
//! the context of one match is not the context of the next one, so `a,b,c` becomes `a`, `,`, `b,c`.

use super::word_lists::{Abbreviation, abbreviation};

/// The words of `text`, lower-cased. Any text will do; the time is linear in its length.
pub(super) fn words(text: &str) -> Vec<String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ') {
        // Nothing but the case can change, and most captions are like that.
        return text.split(' ').filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    }
    let line = join_periods(&set_punctuation_apart(text)).replace(is_wide_space, " ");
    let line = line.trim_matches(|character| character <= ' ').to_lowercase();
    line.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn set_punctuation_apart(text: &str) -> String {
    let text = text.trim_matches(|character| character <= ' ');
    let mut line = space_out_symbols(text);
    line = set_runs_of_periods_apart(&line);
    line = replace_between(&line, is_no_digit, ',', is_no_digit, " , ");
    line = replace_between(&line, is_digit, ',', is_no_digit, " , ");
    line = replace_between(&line, is_no_digit, ',', is_digit, " , ");
    line = plain_quotes(&line);
    line = plain_dashes(&line);
    line = replace_between(&line, |left| is_alphanumeric(left) || left == '.', '-', is_alphanumeric, " ");
    line = replace_between(&line, is_no_letter, '\'', is_no_letter, " ' ");
    line = replace_between(&line, |left| is_no_letter(left) && is_no_digit(left), '\'', is_letter, " ' ");
    line = replace_between(&line, is_letter, '\'', is_no_letter, " ' ");
    line = replace_between(&line, is_letter, '\'', is_letter, " '");
    line = replace_between(&line, is_digit, '\'', |right| right == 's', " '");
    line.into_iter().collect()
}

/// `text` with a space at both ends and around all but letters, digits, white space, periods, commas, hyphens and
/// single quotes.
fn space_out_symbols(text: &str) -> Vec<char> {
    let mut line = Vec::with_capacity(text.len() + 2);
    line.push(' ');
    for character in text.chars() {
        let is_white = character == ' ' || ('\t'..='\r').contains(&character);
        if is_white || is_alphanumeric(character) || ".'`,-‘’".contains(character) {
            line.push(character);
        } else {
            line.extend([' ', character, ' ']);
        }
    }
    line.push(' ');
    line
}

/// Two and more periods in a row become a word of their own. The Java tool marks them with the word DOTMULTI for a
/// while; a text that has this very word in capitals, which no lower-case caption has, becomes another one there.
fn set_runs_of_periods_apart(line: &[char]) -> Vec<char> {
    let mut result = Vec::with_capacity(line.len());
    for run in line.chunk_by(|left, right| *left == '.' && *right == '.') {
        if run.len() > 1 {
            result.push(' ');
            result.extend_from_slice(run);
            result.push(' ');
        } else {
            result.extend_from_slice(run);
        }
    }
    result
}

/// Replaces `middle` by `replacement` where the characters beside it are as asked.
fn replace_between(
    line: &[char],
    is_left: impl Fn(char) -> bool,
    middle: char,
    is_right: impl Fn(char) -> bool,
    replacement: &str,
) -> Vec<char> {
    let mut result = Vec::with_capacity(line.len() + 8);
    let mut rest = line;
    while let [first, others @ ..] = rest {
        result.push(*first);
        rest = others;
        if let [second, third, after @ ..] = others
            && *second == middle
            && is_left(*first)
            && is_right(*third)
        {
            result.extend(replacement.chars());
            result.push(*third);
            rest = after;
        }
    }
    result
}

fn plain_quotes(line: &[char]) -> Vec<char> {
    let single = |character: char| if "`‘’".contains(character) { '\'' } else { character };
    let mut result = Vec::with_capacity(line.len() + 8);
    let mut characters = line.iter().copied().map(single).peekable();
    while let Some(character) = characters.next() {
        let is_double = character == '\'' && characters.next_if_eq(&'\'').is_some();
        if is_double || character == '“' || character == '”' {
            result.extend([' ', '"', ' ']);
        } else {
            result.push(character);
        }
    }
    result
}

fn plain_dashes(line: &[char]) -> Vec<char> {
    let mut result = Vec::with_capacity(line.len());
    let mut characters =
        line.iter().copied().map(|character| if character == '–' { '-' } else { character }).peekable();
    while let Some(character) = characters.next() {
        if character == '-' {
            characters.next_if_eq(&'-');
        }
        result.push(character);
    }
    result
}

/// Decides for each word that ends in a period whether it keeps it.
fn join_periods(line: &str) -> String {
    let mut words = line.split(is_separator).filter(|word| !word.is_empty()).peekable();
    let mut result = String::with_capacity(line.len() + 8);
    while let Some(word) = words.next() {
        match word.strip_suffix('.') {
            Some(stem) if !stem.chars().all(|character| character == '.') => {
                let next = words.peek().and_then(|next| next.bytes().next());
                push_with_period(&mut result, word, stem, next);
            }
            _ => result.push_str(word),
        }
        result.push(' ');
    }
    result
}

/// Adds `word`, which is `stem` and a period; `next` is the first byte of the word after it.
fn push_with_period(result: &mut String, word: &str, stem: &str, next: Option<u8>) {
    let abbreviation = abbreviation(stem);
    if stem.contains('.') && stem.chars().any(is_letter) {
        result.extend(word.chars().filter(|&character| character != '.'));
    } else if abbreviation == Some(Abbreviation::Always)
        || next.is_some_and(|next| next.is_ascii_lowercase())
        || (abbreviation == Some(Abbreviation::BeforeNumber) && next.is_some_and(|next| next.is_ascii_digit()))
    {
        result.push_str(word);
    } else {
        result.push_str(stem);
        result.push_str(" .");
    }
}

/// What Java's `StringTokenizer` splits at.
fn is_separator(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

fn is_wide_space(character: char) -> bool {
    matches!(character, '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

fn is_no_digit(character: char) -> bool {
    !is_digit(character)
}

/// The letters that METEOR knows: Latin with its extensions up to U+017E, Cyrillic, phonetic extensions.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphabetic()
        || matches!(character, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{17e}' | '\u{400}'..='\u{527}')
        || matches!(character, '\u{a640}'..='\u{a66e}' | '\u{a67e}'..='\u{a697}' | '\u{1d00}'..='\u{1d7f}')
}

fn is_no_letter(character: char) -> bool {
    !is_letter(character)
}

fn is_alphanumeric(character: char) -> bool {
    is_digit(character) || is_letter(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the normalizer of `meteor-1.5.jar` gives.
    #[track_caller]
    fn assert_words(text: &str, expected: &str) {
        assert_eq!(words(text).join(" "), expected, "{text:?}");
    }

    #[test]
    fn punctuation_is_set_apart_and_words_are_lower_cased() {
        assert_words("A man, at 5 PM, isn't sad (yet)!", "a man , at 5 pm , isn 't sad ( yet ) !");
        assert_words("a|b #1 $5.00 50% a/b :-rrb- <3", "a | b # 1 $ 5.00 50 % a / b : -rrb- < 3");
        assert_words("naïve Ünïcode ЖЖ 日本 😀x", "naïve ünïcode жж 日 本 😀 x");
        assert_words("Two DOGS  run\tfast ", "two dogs run fast");
    }

    #[test]
    fn commas_stay_in_numbers() {
        assert_words("1,000 people,a dog,2 cats", "1,000 people , a dog , 2 cats");
    }

    #[test]
    fn a_character_serves_as_context_once() {
        assert_words("a,b,c", "a , b,c");
        assert_words("' '90s", "' '90s");
        assert_words("'  '90s", "' ' 90s");
    }

    #[test]
    fn apostrophes_and_hyphens_cut_words() {
        assert_words(
            "dogs' toys and the '90s, rock 'n' roll, 5's",
            "dogs ' toys and the ' 90s , rock ' n ' roll , 5 's",
        );
        assert_words("a well-known t-shirt--red -- blue – x.-y", "a well known t shirt red - blue - x. y");
    }

    #[test]
    fn quotes_become_plain() {
        assert_words("``hi'' and “ho” — it’s `ok´", "\" hi \" and \" ho \" — it 's ' ok ´");
    }

    #[test]
    fn periods_stay_with_abbreviations_and_before_lower_case() {
        assert_words("Mr. J. Smith vs. No. 5 and No. five", "mr. j. smith vs. no. 5 and no. five");
        assert_words("wait. what. No.", "wait. what . no .");
        assert_words("the U.S.A. and e.g. this", "the usa and eg this");
    }

    #[test]
    fn runs_of_periods_are_words() {
        assert_words("sits in St. Louis... He", "sits in st. louis ... he");
        assert_words("end...", "end ...");
        assert_words(".. and .", ".. and .");
    }

    #[test]
    fn texts_without_words_give_none() {
        for text in ["", " ", "\t\n", "\u{a0}\u{3000}", "\u{1}"] {
            assert_eq!(words(text), [""; 0], "{text:?}");
        }
    }
}
