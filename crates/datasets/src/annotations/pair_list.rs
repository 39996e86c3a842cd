//! A file of images and their captions, pair by pair in its order: for what a model is asked about each of them.

use std::path::Path;

use anyhow::Context as _;

use crate::annotations::encoding::decode;
use crate::annotations::extras;
use crate::annotations::fields::{Columns, USUAL_NAMES};
use crate::annotations::json::record::Record;
use crate::annotations::json::text::{explain, without_nan};
use crate::annotations::json::walk::{walk, walk_lines};
use crate::annotations::layout::{Layout, TableLayout, token_parts};
use crate::annotations::references::{file_of, placed};
use crate::annotations::text::{Table, lines};
use crate::caption_extras::CaptionExtras;
use crate::column_names::ColumnNames;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::{WithHint as _, failure};

/// An image and a caption of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPair {
    /// As the file writes it.
    pub image: String,
    /// Trimmed.
    pub caption: String,
    pub extras: CaptionExtras,
}

const FORMS: &str = "give JSON Lines or a JSON list of {\"image\", \"caption\"}, a table with columns image and caption, \
                     or lines of an image, a tab and its caption";

/// The pairs of a file: JSON Lines or a list of objects, a table with a header, or lines `1.jpg<TAB>caption`.
///
/// # Errors
/// A file that is missing, damaged or of another form; an entry without an image or without a caption; a prompt or a
/// weight that cannot be used.
pub fn read_pair_list(path: &Path) -> anyhow::Result<Vec<ListedPair>> {
    let name = path.display().to_string();
    let bytes =
        bounded_file::read(path, MAX_CAPTIONS_BYTES).with_context(|| format!("cannot read {name}")).hint(|| FORMS)?;
    let pairs = parse(&name, &decode(&name, bytes)?)?;
    if pairs.is_empty() {
        return Err(failure(format!("{name} has no pairs of an image and a caption"), FORMS));
    }
    Ok(pairs)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Vec<ListedPair>> {
    if text.trim_start().starts_with(['{', '[']) {
        return parse_json(name, text);
    }
    match Layout::of(text, true) {
        Layout::Table(table) => parse_table(name, text, &table),
        Layout::Pairs(layout) => parse_lines(name, text, |line| layout.parts(line)),
        Layout::Tokens(_) => parse_lines(name, text, |line| token_parts(line).map(|(image, _, text)| (image, text))),
        Layout::Other(reason, _) => Err(failure(format!("cannot read {name}: {reason}"), FORMS)),
    }
}

fn parse_lines<'a>(
    name: &str,
    text: &'a str,
    parts: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> anyhow::Result<Vec<ListedPair>> {
    let pair = |(number, line): (usize, &'a str)| {
        let (image, caption) = parts(line)
            .with_context(|| format!("line {number} of {name} is no image with a caption"))
            .hint(|| FORMS)?;
        Ok(ListedPair { image: image.to_owned(), caption: caption.trim().to_owned(), extras: CaptionExtras::default() })
    };
    lines(text).map(pair).collect()
}

fn parse_table(name: &str, text: &str, layout: &TableLayout) -> anyhow::Result<Vec<ListedPair>> {
    let table = Table::new(name, text.as_bytes(), layout.separator)?;
    let columns = Columns::of(table.header().iter().map(String::as_str));
    let (Some(image), false) = (columns.image, columns.captions.is_empty()) else {
        let message = format!("{name} has no column for the image or none for the caption");
        return Err(failure(message, format!("known names of columns are {USUAL_NAMES}")));
    };
    let mut pairs = Vec::new();
    table.for_each_row(|place, values| {
        let named = values[image].trim();
        let is_blank = |column: &&usize| values[**column].trim().is_empty();
        if named.is_empty() || columns.captions.iter().all(|column| is_blank(&column)) {
            if values.iter().all(|value| value.trim().is_empty()) {
                return Ok(());
            }
            return Err(failure(format!("{place} has no image or no caption"), "fill in both, or remove the line"));
        }
        let named = columns.place.map_or(file_of(named).into(), |column| placed(named, values[column]));
        let cell = |column: Option<usize>| column.map(|column| values[column]);
        let extras = extras::of_cells(cell(columns.prompt), cell(columns.weight), place)?;
        for &column in columns.captions.iter().filter(|column| !is_blank(column)) {
            let (image, caption) = (named.clone().into_owned(), values[column].trim().to_owned());
            pairs.push(ListedPair { image, caption, extras: extras.clone() });
        }
        Ok(())
    })?;
    Ok(pairs)
}

fn parse_json(name: &str, text: &str) -> anyhow::Result<Vec<ListedPair>> {
    let (clean, _) = without_nan(text);
    let text: &str = &clean;
    let (mut pairs, mut fault, mut count) = (Vec::new(), None, 0);
    let mut add = |record: &Record<'_>| {
        count += 1;
        let added = pairs_of(record, name, text, count).map(|found| pairs.extend(found));
        if let Err(error) = added {
            fault.get_or_insert(error);
        }
    };
    let walked = match text.trim_start().starts_with('[') {
        true => walk(text, &ColumnNames::default(), &mut |_, record| add(&record)).map(drop),
        false => walk_lines(text, &ColumnNames::default(), |record| add(&record)),
    };
    walked.map_err(|error| failure(format!("{name} cannot be read: {}", explain(&error, text)), FORMS))?;
    fault.map_or(Ok(pairs), Err)
}

/// The pairs of the object with this number, from 1.
fn pairs_of(record: &Record<'_>, name: &str, text: &str, number: usize) -> anyhow::Result<Vec<ListedPair>> {
    let mut captions = record.captions_and_extras();
    captions.retain(|(caption, _)| !caption.trim().is_empty());
    let (Some(image), None, false) = (record.image(), record.odd, captions.is_empty()) else {
        return Err(failure(format!("entry {number} of {name} has no image or no caption"), FORMS));
    };
    let pair = |(caption, raw): (&str, _)| {
        let extras = extras::of_json(raw, name, text)?;
        Ok(ListedPair { image: image.clone().into_owned(), caption: caption.trim().to_owned(), extras })
    };
    captions.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn shown(text: &str) -> Vec<String> {
        let pairs = parse("p", text).unwrap();
        let shown = |pair: ListedPair| {
            let prompt = pair.extras.prompt.map_or(String::new(), |prompt| format!(" after {prompt}"));
            format!("{}: {}{prompt}", pair.image, pair.caption)
        };
        pairs.into_iter().map(shown).collect()
    }

    #[test]
    fn pairs_come_in_the_order_of_the_file_in_any_form() {
        for text in [
            "{\"image\":\"b.jpg\",\"caption\":\"B \"}\n{\"image\":\"a.jpg\",\"caption\":\"A\"}\n{\"image\":\"b.jpg\",\"caption\":\"C\"}",
            r#"[{"file_name":"b.jpg","text":"B "},{"image":"a.jpg","caption":"A"},{"image":"b.jpg","caption":"C"}]"#,
            "image,caption\nb.jpg,B \na.jpg,A\n\nb.jpg,C\n",
            "b.jpg\tB \na.jpg\tA\nb.jpg\tC\n",
        ] {
            assert_eq!(shown(text), ["b.jpg: B", "a.jpg: A", "b.jpg: C"], "{text}");
        }
        let several = "image\tprompt\tcaption_1\tcaption_2\na.jpg\tp q\tA\tB\nb.jpg\t\tC\t\n";
        assert_eq!(shown(several), ["a.jpg: A after p q", "a.jpg: B after p q", "b.jpg: C"]);
        assert_eq!(
            shown(r#"{"image":"a.jpg","prompt":"p","captions":["A","B"]}"#),
            ["a.jpg: A after p", "a.jpg: B after p"]
        );
        assert_eq!(shown(r#"{"image":"a.jpg","captions":["A",""," "]}"#), ["a.jpg: A"]);
    }

    #[test]
    fn what_is_no_pair_is_an_error_that_says_where() {
        for (text, expected) in [
            ("image,caption\na.jpg,\n", "line 2 of p has no image or no caption"),
            ("{\"image\":\"a.jpg\",\"caption\":\"A\"}\n{\"caption\":\"B\"}", "entry 2 of p has no image"),
            (
                "{\"image\":\"a.jpg\",\"caption\":\"A\"}\n{\"image\":\"a.jpg\",\"caption\":\" \"}",
                "entry 2 of p has no image or no caption",
            ),
            ("[{\"image\":\"a.jpg\",\"captions\":[\"\",\" \"]}]", "entry 1 of p has no image or no caption"),
            ("[{\"image\":\"a.jpg\",\"caption\":3}]", "entry 1 of p has no image or no caption"),
            ("{\"image\":\"a.jpg\",\"caption\":\"A\",\n\"prompt\":3}", "the prompt on line 2 of p is 3"),
            ("{\"image\":", "p cannot be read: it is cut off"),
            ("hello world", "cannot read p"),
        ] {
            let text = describe(&parse("p", text).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }
}
