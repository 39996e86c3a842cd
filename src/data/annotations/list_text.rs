//! Lists that were written as texts: pandas writes a list in a cell as `['a dog', "it's"]`, numpy without commas, others as
//! JSON.

use std::borrow::Cow;

/// The texts of a list that is written as a text; the text itself where it is no such list.
pub(super) fn texts_of(text: Cow<'_, str>) -> Vec<Cow<'_, str>> {
    match parse(text.trim()) {
        Some(texts) => texts.into_iter().map(Cow::Owned).collect(),
        None => vec![text],
    }
}

fn parse(text: &str) -> Option<Vec<String>> {
    let inside = match text.as_bytes() {
        [b'[', .., b']'] | [b'(', .., b')'] => &text[1..text.len() - 1],
        _ => return None,
    };
    if let Ok(texts) = serde_json::from_str(text) {
        return Some(texts);
    }
    let (mut texts, mut rest) = (Vec::new(), inside.trim_start());
    while !rest.is_empty() {
        let (one, behind) = literal(rest)?;
        texts.push(one);
        let behind = behind.trim_start();
        // numpy writes none.
        rest = behind.strip_prefix(',').unwrap_or(behind).trim_start();
    }
    (!texts.is_empty()).then_some(texts)
}

/// A string as Python writes it at the start of `text`, and what is behind it.
fn literal(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (mut read, mut characters) = (String::new(), text[1..].char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next()?.1 {
                'n' => read.push('\n'),
                't' => read.push('\t'),
                'r' => read.push('\r'),
                code @ ('x' | 'u' | 'U') => {
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
    fn lists_of_python_numpy_and_json_are_told_from_captions_in_brackets() {
        for (text, expected) in [
            (r#"['a dog', "it's a dog"]"#, vec!["a dog", "it's a dog"]),
            (r#"["a \"dog\"", "b"]"#, vec!["a \"dog\"", "b"]),
            (r#" ['it\'s', 'caf\xe9 \u00e9\n'] "#, vec!["it's", "café é\n"]),
            ("['a'\n 'b']", vec!["a", "b"]),
            ("('a', 'b',)", vec!["a", "b"]),
            ("['one']", vec!["one"]),
            ("[laughs] a dog", vec!["[laughs] a dog"]),
            ("[a dog]", vec!["[a dog]"]),
            ("(a dog)", vec!["(a dog)"]),
            ("['a dog' and 'b']", vec!["['a dog' and 'b']"]),
            ("['a", vec!["['a"]),
            ("['a\\']", vec!["['a\\']"]),
            ("[1, 2]", vec!["[1, 2]"]),
            ("", vec![""]),
            ("[", vec!["["]),
            (r"['\U7fffffff1']", vec![r"['\U7fffffff1']"]),
        ] {
            let read = texts_of(Cow::Borrowed(text));
            assert_eq!(read, expected, "{text}");
        }
        assert!(texts_of("[]".into()).is_empty());
    }
}
