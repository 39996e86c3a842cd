//! Prompts and weights of captions, as columns and keys have them.

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::entities;
use crate::annotations::json::record::Record;
use crate::annotations::json::values::{RawExtras, string};
use crate::annotations::text::is_missing;
use crate::caption_extras::{CaptionExtras, Weight};
use crate::prepared::{MAX_CAPTION_CHARS, clean_caption};
use base::error::failure;

/// What a row of a table has beside its captions; a blank cell is one of a caption as usual.
///
/// # Errors
/// A weight that is not [`Weight::EXPECTED`], an overlong prompt; `place` is that of the row.
pub(crate) fn of_cells(prompt: Option<&str>, weight: Option<&str>, place: &str) -> anyhow::Result<CaptionExtras> {
    let place = || place.to_owned();
    let mut extras = CaptionExtras::default();
    if let Some(text) = prompt.filter(|text| !is_missing(text)) {
        extras.prompt = self::prompt(text, place)?;
    }
    if let Some(text) = weight.filter(|text| !text.trim().is_empty()) {
        extras.weight = self::weight(text, place)?;
    }
    Ok(extras)
}

/// Adds the captions of a JSON object for a data set; `text` is that of the file. The first prompt or weight that
/// cannot be used is noted in [`Builder::fault`].
pub(crate) fn add_captions(builder: &mut Builder, image: usize, record: &Record<'_>, path: &str, text: &str) {
    for (caption, extras) in record.captions_and_extras() {
        let extras = match builder.reading {
            Reading::Preparation => of_json(extras, path, text),
            Reading::Candidates | Reading::References => Ok(CaptionExtras::default()),
        };
        match extras {
            Ok(extras) => builder.caption_with(image, None, caption, extras),
            Err(error) => drop(builder.fault.get_or_insert(error)),
        }
    }
}

/// What a JSON object has beside a caption.
///
/// # Errors
/// As [`of_cells`]; a prompt that is not a text.
pub(crate) fn of_json(raw: RawExtras<'_>, path: &str, text: &str) -> anyhow::Result<CaptionExtras> {
    let place = |raw: &str| format!("line {} of {path}", line_of(raw, text));
    let mut extras = CaptionExtras::default();
    if let Some(raw) = raw.prompt.filter(|raw| *raw != "null") {
        let Some(text) = string(raw) else {
            let message = format!("the prompt on {} is {}: expected a text", place(raw), shown(raw));
            return Err(failure(message, HINT));
        };
        extras.prompt = prompt(&text, || place(raw))?;
    }
    if let Some(raw) = raw.weight.filter(|raw| *raw != "null") {
        extras.weight = weight(string(raw).as_deref().unwrap_or(raw), || place(raw))?;
    }
    Ok(extras)
}

const HINT: &str = "correct it; if it is something else, call the column or key otherwise than prompt or weight";

fn prompt(text: &str, place: impl Fn() -> String) -> anyhow::Result<Option<String>> {
    let (prompt, _) = clean_caption(&entities::decode(text));
    let length = prompt.chars().count();
    if length > MAX_CAPTION_CHARS {
        let message = format!("the prompt on {} has {length} characters, more than {MAX_CAPTION_CHARS}", place());
        return Err(failure(message, HINT));
    }
    Ok(Some(prompt).filter(|prompt| !prompt.is_empty()))
}

fn weight(text: &str, place: impl Fn() -> String) -> anyhow::Result<Weight> {
    let weight = text.trim().parse::<f64>().ok().and_then(Weight::new);
    weight.ok_or_else(|| {
        failure(format!("the weight on {} is {}: expected {}", place(), shown(text), Weight::EXPECTED), HINT)
    })
}

fn shown(text: &str) -> String {
    let text = text.trim();
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start}...") } else { start }
}

/// The number of the line in `text` that begins before its part `part`.
fn line_of(part: &str, text: &str) -> usize {
    let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn extras(prompt: Option<&str>, weight: f64) -> CaptionExtras {
        CaptionExtras { prompt: prompt.map(str::to_owned), weight: Weight::new(weight).unwrap() }
    }

    #[test]
    fn blank_cells_are_those_of_a_usual_caption() {
        let of = |prompt, weight| of_cells(Some(prompt), Some(weight), "line 2 of t.csv").unwrap();
        for blank in ["", "  ", "nan", "None"] {
            assert_eq!(of(blank, ""), CaptionExtras::default(), "{blank}");
        }
        assert_eq!(of(" a picture of ", " 0.5 "), extras(Some("a picture of"), 0.5));
        assert_eq!(of("a &amp; b", "0"), extras(Some("a & b"), 0.0));
        assert_eq!(of_cells(None, None, "").unwrap(), CaptionExtras::default());
    }

    #[test]
    fn a_weight_that_cannot_count_is_an_error_that_says_where() {
        for (weight, shown) in [
            ("-1", "-1"),
            ("nan", "nan"),
            ("inf", "inf"),
            ("1e999", "1e999"),
            ("1e39", "1e39"),
            ("1e-50", "1e-50"),
            ("0,5", "0,5"),
            ("12 kg", "12 kg"),
            (&*"9kg".repeat(30), "9kg9kg9kg9kg9kg9kg9kg9kg9kg9kg9kg9kg9kg9..."),
        ] {
            let text = describe(&of_cells(None, Some(weight), "line 7 of t.csv").unwrap_err());
            let expected = format!("the weight on line 7 of t.csv is {shown}: expected 0 or a number from 1e-6 to 1e6");
            assert!(text.starts_with(&expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn values_of_json_are_texts_and_numbers_and_their_line_is_found() {
        let of = |prompt, weight, text: &str| of_json(RawExtras { prompt, weight }, "c.json", text);
        let file = "{\n\"prompt\": \"a \\u00e9\",\n\"weight\": 2.5, \"n\": [3], \"w\": \"0.5\"}";
        let part = |wanted: &str| file.find(wanted).map(|at| &file[at..at + wanted.len()]);
        assert_eq!(of(part("\"a \\u00e9\""), part("2.5"), file).unwrap(), extras(Some("a é"), 2.5));
        assert_eq!(of(Some("null"), part("\"0.5\""), file).unwrap(), extras(None, 0.5));
        let text = describe(&of(part("[3]"), None, file).unwrap_err());
        assert!(text.starts_with("the prompt on line 3 of c.json is [3]: expected a text"), "{text}");
        let text = describe(&of(None, part("[3]"), file).unwrap_err());
        assert!(text.starts_with("the weight on line 3 of c.json is [3]: expected 0 or a number"), "{text}");
    }
}
