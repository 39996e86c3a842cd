//! Parses the query of a request.

use std::ops::RangeInclusive;

use axum::http::StatusCode;

use super::describe::Request;
use super::problem::Problem;

const CAPTIONS: RangeInclusive<usize> = 1..=10;
const BEAMS: RangeInclusive<usize> = 1..=16;

/// Characters of a prompt.
const MAX_PROMPT: usize = 1000;

/// Reads `num_captions=3&num_beams=5&attention=true&prompt=a%20picture%20of`, all optional. Only a prompt is unescaped.
///
/// # Errors
/// Status 400: an unknown or repeated name, or a value out of range.
pub(super) fn parse(query: &str) -> Result<Request, Problem> {
    let (mut num_captions, mut num_beams, mut attention, mut prompt) = (None, None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_new = match name {
            "num_captions" => num_captions.replace(number(name, value, &CAPTIONS)?).is_none(),
            "num_beams" => num_beams.replace(number(name, value, &BEAMS)?).is_none(),
            "attention" => attention.replace(truth(name, value)?).is_none(),
            "prompt" => prompt.replace(text(name, value)?).is_none(),
            _ => return Err(bad(format!("expected num_captions, num_beams, attention or prompt, found {name:?}"))),
        };
        if !is_new {
            return Err(bad(format!("{name} is given twice")));
        }
    }
    let num_captions = num_captions.unwrap_or(1);
    if let Some(num_beams) = num_beams.filter(|&num_beams| num_beams < num_captions) {
        return Err(bad(format!("{num_captions} captions need at least as many beams, found num_beams={num_beams}")));
    }
    Ok(Request { num_captions, num_beams, attention: attention.unwrap_or(false), prompt })
}

fn number(name: &str, value: &str, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let found = value.parse().ok().filter(|number| range.contains(number));
    found.ok_or_else(|| bad(format!("{name}: expected {} to {}, found {value:?}", range.start(), range.end())))
}

fn truth(name: &str, value: &str) -> Result<bool, Problem> {
    value.parse().map_err(|_| bad(format!("{name}: expected true or false, found {value:?}")))
}

/// A text in which `%20` and `+` are spaces.
fn text(name: &str, value: &str) -> Result<String, Problem> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let escaped = digit().and_then(|high| Some(16 * high + digit()?));
                escaped.ok_or_else(|| bad(format!("{name}: expected two hexadecimal digits after %")))?
            }
            other => other,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(format!("{name}: expected UTF-8")))?;
    let length = text.chars().count();
    match length {
        0..=MAX_PROMPT => Ok(text),
        _ => Err(bad(format!("{name}: expected at most {MAX_PROMPT} characters, found {length}"))),
    }
}

fn bad(message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_has_its_default() {
        let plain = Request { num_captions: 1, num_beams: None, attention: false, prompt: None };
        assert_eq!(parse("").unwrap(), plain);
        assert_eq!(parse("&").unwrap(), plain);
        let prompt = Some("a é + of".to_owned());
        let full = Request { num_captions: 3, num_beams: Some(5), attention: true, prompt };
        assert_eq!(parse("attention=true&num_beams=5&prompt=a+%C3%A9%20%2B+of&num_captions=3").unwrap(), full);
        assert_eq!(parse("prompt=").unwrap().prompt.as_deref(), Some(""));
    }

    #[test]
    fn wrong_query_is_refused_with_what_was_expected() {
        let long = format!("prompt={}", "x".repeat(1001));
        for (query, expected) in [
            ("num_captions=0", "num_captions: expected 1 to 10, found \"0\""),
            ("num_captions=11", "found \"11\""),
            ("num_captions", "found \"\""),
            ("num_captions=99999999999999999999999", "expected 1 to 10"),
            ("num_beams=17", "num_beams: expected 1 to 16"),
            ("num_beams=-1", "found \"-1\""),
            ("attention=yes", "expected true or false, found \"yes\""),
            ("attention=true&attention=true", "attention is given twice"),
            ("prompt=%4", "prompt: expected two hexadecimal digits after %"),
            ("prompt=%g0", "expected two hexadecimal digits"),
            ("prompt=%FF", "prompt: expected UTF-8"),
            (long.as_str(), "prompt: expected at most 1000 characters, found 1001"),
            ("num_captions=3&num_beams=2", "3 captions need at least as many beams"),
            ("path=/etc/passwd", "found \"path\""),
            ("%6eum_captions=1", "found \"%6eum_captions\""),
        ] {
            let problem = parse(query).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST);
            assert!(problem.message.contains(expected), "{query}: {}", problem.message);
        }
    }
}
