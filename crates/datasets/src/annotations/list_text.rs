//! Lists that were written as texts: pandas writes a list in a cell as `['a dog', "it's"]`, a set as `{'a dog'}`, an
//! array without commas or as `array(['a dog'], dtype=object)`, bytes as `b'a dog'`; others write JSON.

use std::borrow::Cow;

use crate::annotations::fields::{CaptionKind, Field, field};

/// Lists within one another.
const MAX_DEPTH: usize = 4;
/// A text that begins like this is not a caption, whatever follows.
const BEGINNINGS: [&str; 9] = ["['", "[\"", "[b'", "[b\"", "{'", "{\"", "[{'", "[{\"", "array(["];

/// The texts of a list that is written as a text; the text itself where it is no such list. What Python and pandas
/// write for nothing is one of the texts, `None` or `nan`.
pub(crate) fn texts_of(text: Cow<'_, str>) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let trimmed = text.trim();
    let is_written = trimmed.starts_with(['[', '(', '{']) || trimmed.starts_with("array(") || is_bytes(trimmed);
    if !is_written {
        return Ok(vec![text]);
    }
    if let Ok(texts) = serde_json::from_str::<Vec<String>>(trimmed) {
        return Ok(texts.into_iter().map(Cow::Owned).collect());
    }
    let value = value(trimmed, 0).filter(|(_, rest)| rest.trim().is_empty()).map(|(value, _)| value);
    let texts = match value {
        None if BEGINNINGS.iter().any(|beginning| trimmed.starts_with(beginning)) => {
            return Err("a list that is cut off or written in another way than Python's");
        }
        None => return Ok(vec![text]),
        Some(value) => texts(value),
    };
    match texts {
        // `(2)`
        Err(_) if trimmed.starts_with('(') => Ok(vec![text]),
        texts => Ok(texts?.into_iter().map(Cow::Owned).collect()),
    }
}

fn is_bytes(text: &str) -> bool {
    ["b'", "b\""].iter().any(|start| text.starts_with(start) && text.len() > 2 && text.ends_with(&start[1..]))
}

/// A value as Python writes it.
enum Value {
    Text(String),
    Bytes(Vec<u8>),
    /// `None`, `nan`.
    Nothing(String),
    /// A number, or `True`.
    Other,
    /// A list, a set, a tuple, an array.
    Several(Vec<Value>),
    Dictionary(Vec<(Value, Value)>),
}

fn texts(value: Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::Text(text) | Value::Nothing(text) => Ok(vec![text]),
        Value::Bytes(bytes) => String::from_utf8(bytes).map(|text| vec![text]).map_err(|_| "bytes that are not UTF-8"),
        Value::Other => Err("a list of something other than texts"),
        Value::Several(values) => {
            let mut all = Vec::with_capacity(values.len());
            for value in values {
                // Several texts in it may be captions, or the words of one.
                if matches!(&value, Value::Several(inner) if inner.len() != 1) {
                    return Err("lists within a list");
                }
                all.extend(texts(value)?);
            }
            Ok(all)
        }
        Value::Dictionary(entries) => {
            let mut best: Option<(CaptionKind, Value)> = None;
            for (key, value) in entries {
                if let Value::Text(key) = key
                    && let Some(Field::Captions(kind)) = field(&key)
                    && best.as_ref().is_none_or(|(known, _)| kind < *known)
                {
                    best = Some((kind, value));
                }
            }
            texts(best.ok_or("a dictionary without a caption")?.1)
        }
    }
}

/// The value at the start of `text`, and what follows it.
fn value(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > MAX_DEPTH {
        return None;
    }
    match text.as_bytes().first()? {
        b'[' => several(&text[1..], ']', depth),
        b'(' => several(&text[1..], ')', depth),
        b'{' => set_or_dictionary(&text[1..], depth),
        b'\'' | b'"' => literal(text, false).map(|(text, rest)| (Value::Text(text), rest)),
        b'b' if is_quote(text.as_bytes().get(1)) => {
            // Python writes a byte that is not a letter as `\xe9`, which becomes the character of that number.
            let (read, rest) = literal(&text[1..], true)?;
            let bytes: Option<Vec<u8>> =
                read.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
            Some((Value::Bytes(bytes?), rest))
        }
        _ if text.starts_with("array(") => {
            let (value, rest) = value(text["array(".len()..].trim_start(), depth + 1)?;
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix(',') {
                Some(rest) => rest.trim_start().strip_prefix("dtype=")?.trim_start_matches(|end: char| end != ')'),
                None => rest,
            };
            Some((value, rest.strip_prefix(')')?))
        }
        _ => {
            let end = text.find([',', ']', ')', '}', ':', ' ', '\n']).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            let value = match word {
                "None" | "nan" | "NaN" | "null" | "<NA>" => Value::Nothing(word.to_owned()),
                "True" | "False" | "true" | "false" => Value::Other,
                word if word.parse::<f64>().is_ok() => Value::Other,
                _ => return None,
            };
            Some((value, rest))
        }
    }
}

fn is_quote(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'\'' | b'"'))
}

/// What precedes `end`, with commas or blanks between.
fn several(text: &str, end: char, depth: usize) -> Option<(Value, &str)> {
    let (mut values, mut rest) = (Vec::new(), text.trim_start());
    loop {
        if let Some(after) = rest.strip_prefix(end) {
            return Some((Value::Several(values), after));
        }
        let (one, after) = value(rest, depth + 1)?;
        values.push(one);
        let after = after.trim_start();
        // numpy writes none.
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
}

fn set_or_dictionary(text: &str, depth: usize) -> Option<(Value, &str)> {
    let (mut values, mut entries, mut rest) = (Vec::new(), Vec::new(), text.trim_start());
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return match (values.is_empty(), entries.is_empty()) {
                (_, true) => Some((Value::Several(values), after)),
                (true, false) => Some((Value::Dictionary(entries), after)),
                (false, false) => None,
            };
        }
        let (one, after) = value(rest, depth + 1)?;
        let mut after = after.trim_start();
        if let Some(of_key) = after.strip_prefix(':') {
            let (second, rest) = value(of_key.trim_start(), depth + 1)?;
            entries.push((one, second));
            after = rest.trim_start();
        } else {
            values.push(one);
        }
        rest = match after.strip_prefix(',') {
            Some(rest) => rest.trim_start(),
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// A string as Python writes it at the start of `text`, and what follows it.
fn literal(text: &str, is_bytes: bool) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (mut read, mut characters) = (String::new(), text[1..].char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next()?.1 {
                'n' => read.push('\n'),
                't' => read.push('\t'),
                'r' => read.push('\r'),
                code @ ('x' | 'u' | 'U') if code == 'x' || !is_bytes => {
                    let digits = match code {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let mut number = 0;
                    for _ in 0..digits {
                        number = number * 16 + characters.next()?.1.to_digit(16)?;
                    }
                    read.push(char::from_u32(number)?);
                }
                other @ ('\\' | '\'' | '"') => read.push(other),
                other => read.extend(['\\', other]),
            },
            character if character == quote => return Some((read, &text[at + 2..])),
            character => read.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_python_numpy_and_json_are_distinguished_from_captions_in_brackets() {
        for (text, expected) in [
            (r#"['a dog', "it's a dog"]"#, vec!["a dog", "it's a dog"]),
            (r#"["a \"dog\"", "b"]"#, vec!["a \"dog\"", "b"]),
            (r#" ['it\'s', 'caf\xe9 \u00e9\n'] "#, vec!["it's", "café é\n"]),
            ("['a'\n 'b']", vec!["a", "b"]),
            ("('a', 'b',)", vec!["a", "b"]),
            ("['one']", vec!["one"]),
            ("{'One', 'Two'}", vec!["One", "Two"]),
            ("array(['One', 'Two'], dtype=object)", vec!["One", "Two"]),
            ("array(['One'])", vec!["One"]),
            ("array([list(['One'])])", vec![]),
            ("[{'raw': 'One'}, {'tokens': ['two'], 'raw': 'Two'}]", vec!["One", "Two"]),
            ("{'raw': 'One', 'sentid': 3}", vec!["One"]),
            ("b'One'", vec!["One"]),
            (r"[b'caf\xc3\xa9', b'b']", vec!["café", "b"]),
            ("['ok', None]", vec!["ok", "None"]),
            (r#"["ok", null]"#, vec!["ok", "null"]),
            ("[['One'], ['Two']]", vec!["One", "Two"]),
            ("[laughs] a dog", vec!["[laughs] a dog"]),
            ("[a dog]", vec!["[a dog]"]),
            ("(a dog)", vec!["(a dog)"]),
            ("(2)", vec!["(2)"]),
            ("{a dog}", vec!["{a dog}"]),
            ("b'day party", vec!["b'day party"]),
            ("'a dog'", vec!["'a dog'"]),
            ("array of dogs", vec!["array of dogs"]),
            ("", vec![""]),
            ("[", vec!["["]),
        ] {
            let read = texts_of(Cow::Borrowed(text));
            match expected.is_empty() {
                true => assert!(read.is_err(), "{text}: {read:?}"),
                false => assert_eq!(read.unwrap(), expected, "{text}"),
            }
        }
        assert!(texts_of("[]".into()).unwrap().is_empty() && texts_of("{}".into()).unwrap().is_empty());
    }

    #[test]
    fn what_is_written_like_a_list_and_holds_no_texts_is_not_a_caption() {
        for (text, expected) in [
            ("['a dog' and 'b']", "cut off or written in another way"),
            ("['a", "cut off"),
            (r"['a\']", "cut off"),
            (r"['\U7fffffff1']", "cut off"),
            ("{'One': 'Two'", "cut off"),
            ("{'One': 'Two'}", "a dictionary without a caption"),
            ("[1, 2]", "something other than texts"),
            ("['a', True]", "something other than texts"),
            ("[['a', 'dog'], ['b']]", "lists within a list"),
            (r"b'\xff'", "bytes that are not UTF-8"),
            ("[[[[[[['a']]]]]]]", ""),
        ] {
            match texts_of(Cow::Borrowed(text)) {
                Err(found) => assert!(found.contains(expected), "{text}: {found}"),
                // Nothing is nested this deep.
                Ok(texts) => assert!(expected.is_empty() && texts == [text], "{text}: {texts:?}"),
            }
        }
    }
}
