//! JSON as programs write it, and what is wrong with it in words that help: Python writes `NaN` and `Infinity`, which
//! are not JSON, and downloads are cut.

use std::borrow::Cow;

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::fields::{Field, field};
use crate::annotations::raw_dataset::Repair;
use crate::caption_extras::Weight;
use base::error::failure;

/// Words that Python writes for numbers that JSON does not know.
const NOT_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Reads a JSON file with `parse`. What Python writes for no number counts as nothing, and is noted.
pub(crate) fn read_json(
    builder: &mut Builder,
    path: &str,
    text: &str,
    parse: impl FnOnce(&mut Builder, &str) -> Result<(), serde_json::Error>,
) -> anyhow::Result<()> {
    let (clean, num_nan) = without_nan(text);
    if num_nan > 0 {
        let note = format!("it has NaN or Infinity {num_nan} times, which JSON does not allow: read as missing values");
        builder.repairs.push(Repair::new(path, note));
    }
    let broken = |error: serde_json::Error| {
        failure(format!("{path} cannot be read: {}", explain(&error, &clean)), "repair the file, or download it again")
    };
    if num_nan > 0
        && builder.reading == Reading::Preparation
        && let Some(line) = line_of_odd_weight(text)
    {
        let message = format!("the weight on line {line} of {path} is not finite: expected {}", Weight::EXPECTED);
        return Err(failure(message, "correct it, or leave it out for a weight of 1"));
    }
    parse(builder, &clean).map_err(broken)?;
    builder.fault.take().map_or(Ok(()), Err)
}

/// The line of the first weight that is no number in the words of Python.
fn line_of_odd_weight(text: &str) -> Option<usize> {
    let is_weight = |(at, _): &(usize, &str)| {
        let before = text[..*at].trim_end().trim_end_matches('-').trim_end();
        let key = before.strip_suffix(':').and_then(|key| key.trim_end().strip_suffix('"')?.rsplit('"').next());
        key.is_some_and(|key| field(key) == Some(Field::Weight))
    };
    let words = ["NaN", "Infinity"].into_iter();
    let first = words.filter_map(|word| text.match_indices(word).find(is_weight)).map(|(at, _)| at).min()?;
    Some(1 + text[..first].matches('\n').count())
}

/// The text with `null` in place of `NaN`, `Infinity` and `-Infinity` outside of strings, and how many there were.
pub(crate) fn without_nan(text: &str) -> (Cow<'_, str>, usize) {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return (Cow::Borrowed(text), 0);
    }
    let (mut clean, mut copied, mut count) = (String::with_capacity(text.len()), 0, 0);
    let (mut is_in_string, mut at) = (false, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_in_string => at += 1,
            b'"' => is_in_string = !is_in_string,
            b'N' | b'I' | b'-' if !is_in_string => {
                if let Some(word) = NOT_NUMBERS.iter().find(|word| bytes[at..].starts_with(word.as_bytes())) {
                    clean.push_str(&text[copied..at]);
                    clean.push_str("null");
                    count += 1;
                    copied = at + word.len();
                    at = copied - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    clean.push_str(&text[copied..]);
    (Cow::Owned(clean), count)
}

pub(crate) fn explain(error: &serde_json::Error, text: &str) -> String {
    let (line, column) = (error.line(), error.column());
    if error.is_eof() {
        return format!("it is cut off: it ends at byte {} (line {line}, column {column})", text.len());
    }
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let found = character_at(text, line, column);
    let what = match words {
        "trailing comma" => "an extra comma".to_owned(),
        "expected `,` or `}`" | "expected `,` or `]`" | "expected `:`" => match found {
            Some(found) => format!("{words}, found {found:?}"),
            None => words.to_owned(),
        },
        "key must be a string" | "expected value" | "expected ident" => match found {
            Some('\'') => "strings in single quotes, as Python prints them; write the file with json.dump".to_owned(),
            Some('T' | 'F' | 'N') => {
                "True, False or None, as Python prints them; write the file with json.dump".to_owned()
            }
            Some(found) => format!("{words}, found {found:?}"),
            None => words.to_owned(),
        },
        "trailing characters" => "more text after the end of the JSON".to_owned(),
        "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
            "half of a character, such as \\ud83d without its second half".to_owned()
        }
        words if words.starts_with("control character") => "a line break or control character in a text".to_owned(),
        words => words.to_owned(),
    };
    format!("it is not JSON: {what} at line {line}, column {column}")
}

fn character_at(text: &str, line: usize, column: usize) -> Option<char> {
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    // Columns count bytes.
    line.get(column.checked_sub(1)?..)?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_no_number_becomes_null_outside_of_texts() {
        let text = r#"{"a": NaN, "NaN": [Infinity,-Infinity, -1], "b": "NaN \" Infinity", "c\\": NaN}"#;
        let (clean, count) = without_nan(text);
        assert_eq!(clean, r#"{"a": null, "NaN": [null,null, -1], "b": "NaN \" Infinity", "c\\": null}"#);
        assert_eq!(count, 4);
        assert!(matches!(without_nan(r#"{"a": 1}"#), (Cow::Borrowed(_), 0)));
        for odd in ["NaN", "\"NaN", "\\", "-", "\"\\"] {
            without_nan(odd);
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_is_found_and_nothing_else() {
        for (text, line) in [
            ("{\"weight\": NaN}", Some(1)),
            ("{\"a\": NaN,\n \"Weight\" : -Infinity}", Some(2)),
            ("{\"a\": NaN, \"weight\": 1}", None),
            ("{\"a\": \"weight: NaN\", \"b\": Infinity}", None),
        ] {
            assert_eq!(line_of_odd_weight(text), line, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let explained = |text: &str| explain(&serde_json::from_str::<serde_json::Value>(text).unwrap_err(), text);
        for (text, expected) in [
            ("{\"a\": \"x\",\n}", "an extra comma at line 2, column 1"),
            ("[1,2", "cut off: it ends at byte 4 (line 1"),
            ("{\"a\": \"x", "cut off: it ends at byte 8"),
            ("{'a': 1}", "single quotes, as Python prints them"),
            ("{\"a\": None}", "None, as Python prints"),
            ("{\"a\": 'x'}", "single quotes"),
            ("{\"a\" 1}", "expected `:`, found '1' at line 1, column 6"),
            ("[{\"a\": 1}\n{\"a\": 2}]", "expected `,` or `]`, found '{' at line 2, column 1"),
            ("[1] x", "more text after the end"),
            ("[\"a\nb\"]", "a line break or control character in a text"),
            ("[\"\\ud83d\"]", "it is not JSON: half of a character, such as \\ud83d"),
            ("é", "expected value, found 'é' at line 1, column 1"),
        ] {
            assert!(explained(text).contains(expected), "{text}: {}", explained(text));
        }
    }
}
