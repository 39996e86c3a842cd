//! The forms of a split that the user brings: JSON in Karpathy's schema or as a list of images with their splits, a
//! JSON object from split to names or from name to split, lines of JSON, a table with a column for the image and one
//! for the split, or a list of names for each split, one to a line (`train.txt`, `val.txt`, `test.txt`).

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::annotations::{Columns, Table, json, separator, split_of_path, split_of_word};
use crate::dataset_file;
use crate::prepared::Split;
use base::error::failure;
use pixels::picture_formats::is_image_name;

pub(super) const FORMS: &str = "give a Karpathy JSON, a JSON object from split to names, a table with the columns image \
                                and split, or a folder with train.txt, val.txt and test.txt";
/// Endings of files that may be lists in a folder of them.
pub(super) const ENDINGS: [&str; 7] = ["txt", "lst", "list", "csv", "tsv", "json", "jsonl"];

/// What files say.
#[derive(Debug, Default)]
pub(super) struct SplitList {
    /// Names with their splits.
    pub(super) named: Vec<(String, Split)>,
    /// How many names have no split beside them.
    pub(super) num_without: usize,
    /// The first such name.
    pub(super) first_without: String,
}

impl SplitList {
    /// Adds what another file says.
    pub(super) fn add(&mut self, other: Self) {
        self.named.extend(other.named);
        if self.num_without == 0 {
            self.first_without = other.first_without;
        }
        self.num_without += other.num_without;
    }

    fn push(&mut self, name: String, split: Option<Split>) {
        match split {
            Some(split) => self.named.push((name, split)),
            None => {
                if self.num_without == 0 {
                    self.first_without = name;
                }
                self.num_without += 1;
            }
        }
    }
}

/// The name of a file without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// Adds what the file at `path` says.
pub(super) fn parse(path: &Path, text: &str, entries: &mut SplitList) -> anyhow::Result<()> {
    let name = path.to_string_lossy();
    let of_file = split_of_path(&stem(path)).map(|named| named.split);
    let ending = path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase());
    match ending.as_str() {
        "json" => return parse_json(&name, text, of_file, entries),
        "jsonl" | "ndjson" => return parse_lines(text, of_file, entries),
        _ => {}
    }
    let text = &*without_comments(text);
    match ending.as_str() {
        "csv" | "tsv" => parse_table(&name, text, of_file, entries),
        _ if is_table(text) => parse_table(&name, text, of_file, entries),
        _ => parse_list(text, of_file, entries),
    }
}

/// The text with blank lines in place of comments, and the header where it is written as one. A name of an image may
/// begin with `#`.
fn without_comments(text: &str) -> Cow<'_, str> {
    let is_comment = |line: &str| line.trim_start().starts_with('#') && !line.split(SEPARATORS).any(is_quoted_image);
    if !text.lines().any(is_comment) {
        return Cow::Borrowed(text);
    }
    let first = text.lines().position(|line| !line.trim().is_empty());
    let line = |(number, line): (usize, &'_ str)| {
        if !is_comment(line) {
            return line.to_owned();
        }
        let after = line.trim_start().trim_start_matches(['#', ' ']);
        let cells = cells(after);
        let found = columns(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        let is_header = Some(number) == first && found.image.is_some() && found.split.is_some();
        if is_header { after.to_owned() } else { String::new() }
    };
    Cow::Owned(text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n"))
}

/// Separators between a name and its value.
const SEPARATORS: [char; 5] = [' ', '\t', ',', ';', '|'];

fn is_quoted_image(part: &str) -> bool {
    is_image_name(unquoted(part.trim()))
}

fn known(word: &str) -> anyhow::Result<Split> {
    let unknown = || failure(format!("split {word:?} is not known"), "use train, val and test");
    split_of_word(word).ok_or_else(unknown)
}

/// The split that a value says; `None` where it says nothing.
fn said(word: Option<&str>) -> anyhow::Result<Option<Split>> {
    word.filter(|word| !word.trim().is_empty()).map(known).transpose()
}

/// Which of these columns or keys are the image and the split.
fn columns(names: &[&str]) -> Columns {
    let mut columns = Columns::of(names.iter().copied());
    columns.split = columns.split.or(columns.maybe_split);
    columns
}

fn parse_json(name: &str, text: &str, of_file: Option<Split>, entries: &mut SplitList) -> anyhow::Result<()> {
    if let Some(images) = dataset_file::splits(text) {
        for (filename, split) in images {
            entries.push(filename, said(Some(&split))?);
        }
        return Ok(());
    }
    const FORM: &str = r#"{"train": ["1.jpg"], "val": ["2.jpg"]}"#;
    let other = || failure(format!("{name} does not have the expected form"), format!("expected {FORM}; or {FORMS}"));
    match json::<Value>(name, text.as_bytes(), FORM)? {
        Value::Object(object) => {
            if let Some(Value::Array(images)) = object.get("images") {
                return images.iter().try_for_each(|image| add_value(image, of_file, entries)?.ok_or_else(other));
            }
            for (key, value) in &object {
                match value {
                    Value::Array(names) => {
                        let split = known(key)?;
                        let named = names.iter().map(|name| Some((image_of(name)?, split)));
                        entries.named.extend(named.collect::<Option<Vec<_>>>().ok_or_else(other)?);
                    }
                    Value::String(word) => {
                        let split = said(Some(word)).with_context(|| format!("the key {key:?}"))?;
                        entries.push(key.clone(), split);
                    }
                    Value::Null => entries.push(key.clone(), None),
                    _ => return Err(other()),
                }
            }
            Ok(())
        }
        Value::Array(images) => {
            images.iter().try_for_each(|image| add_value(image, of_file, entries)?.ok_or_else(other))
        }
        _ => Err(other()),
    }
}

fn parse_lines(text: &str, of_file: Option<Split>, entries: &mut SplitList) -> anyhow::Result<()> {
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("line {}", number + 1);
        let form = || failure("it does not have the expected form", r#"expected {"image": "1.jpg", "split": "train"}"#);
        let value: Value = serde_json::from_str(line).map_err(|_| form()).with_context(place)?;
        add_value(&value, of_file, entries).with_context(place)?.ok_or_else(form).with_context(place)?;
    }
    Ok(())
}

/// Adds an image with its split; `None` where the value says neither.
fn add_value(value: &Value, of_file: Option<Split>, entries: &mut SplitList) -> anyhow::Result<Option<()>> {
    let Some(image) = image_of(value) else { return Ok(None) };
    let object = value.as_object();
    let keys: Vec<&str> = object.map_or_else(Vec::new, |object| object.keys().map(String::as_str).collect());
    let value = columns(&keys).split.and_then(|place| object?.get(keys[place]));
    let split = match value {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) => said(Some(word))?,
        Some(_) => return Ok(None),
    };
    // What has no place for a split is of another form.
    if value.is_none() && of_file.is_none() {
        return Ok(None);
    }
    entries.push(image, split.or(of_file));
    Ok(Some(()))
}

/// The name of an image: a text, a number, or what an object has under one of the usual keys.
fn image_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(object) => {
            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
            let name = object.get(keys[columns(&keys).image?])?;
            if name.is_object() { None } else { image_of(name) }
        }
        _ => None,
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// The cells of a line, in lower case.
fn cells(line: &str) -> Vec<String> {
    let table = Table::new("", line.as_bytes(), separator(line.as_bytes()));
    table.map_or_else(|_| Vec::new(), |table| table.header().to_vec())
}

/// Whether a text has columns, one of them for the split.
fn is_table(text: &str) -> bool {
    let cells = cells(first_line(text));
    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
    cells.len() > 1 && (columns(&cells).split.is_some() || headless_columns(&cells).is_some())
}

/// The columns of a table whose first row is no header but an image and its split.
fn headless_columns(cells: &[&str]) -> Option<Vec<&'static str>> {
    let splits: Vec<usize> = (0..cells.len()).filter(|&cell| split_of_word(cells[cell]).is_some()).collect();
    let [split] = splits.as_slice() else { return None };
    let others: Vec<usize> = (0..cells.len()).filter(|cell| cell != split).collect();
    let image = match others.as_slice() {
        [image] => *image,
        _ => others.into_iter().find(|&cell| is_image_name(cells[cell]))?,
    };
    let is_header = columns(&cells[image..=image]).image.is_some();
    let name = |cell: usize| match cell {
        cell if cell == *split => "split",
        cell if cell == image => "image",
        _ => "",
    };
    (!is_header).then(|| (0..cells.len()).map(name).collect())
}

fn parse_table(name: &str, text: &str, of_file: Option<Split>, entries: &mut SplitList) -> anyhow::Result<()> {
    let separator = separator(first_line(text).as_bytes());
    let cells = cells(first_line(text));
    let table = match headless_columns(&cells.iter().map(String::as_str).collect::<Vec<_>>()) {
        Some(header) => Table::headless(name, text.as_bytes(), separator, &header),
        None => Table::new(name, text.as_bytes(), separator)?,
    };
    let header: Vec<&str> = table.header().iter().map(String::as_str).collect();
    let Columns { image, split, .. } = columns(&header);
    if let (None, Some(_), [_]) = (split, of_file, header.as_slice()) {
        return parse_list(text, of_file, entries);
    }
    let (Some(image), true) = (image, split.is_some() || of_file.is_some()) else {
        return Err(failure("it has no column for the image or none for the split", FORMS));
    };
    table.for_each_row(|place, values| {
        let split = said(split.map(|split| values[split])).with_context(|| place.to_owned())?;
        match values[image].trim() {
            // Spreadsheets have rows of nothing at their ends.
            "" if values.iter().all(|value| value.trim().is_empty()) => {}
            "" => return Err(failure(format!("{place} names no image"), "name the image, or remove the line")),
            name => entries.push(name.to_owned(), split.or(of_file)),
        }
        Ok(())
    })
}

/// A name on each line. A label may follow it, as image classifiers have it, or the split where the file's name says
/// none.
fn parse_list(text: &str, of_file: Option<Split>, entries: &mut SplitList) -> anyhow::Result<()> {
    let lines: Vec<(usize, &str)> =
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()).collect();
    let is_header = |line: &str| lines.len() > 1 && !is_image_name(line) && columns(&[line]).image.is_some();
    for (place, &(number, line)) in lines.iter().enumerate() {
        if place == 0 && is_header(unquoted(line)) {
            continue;
        }
        let ends = || line.rmatch_indices(SEPARATORS).map(|(at, _)| at);
        let end = ends().find(|&at| is_quoted_image(&line[..at])).filter(|_| !is_quoted_image(line));
        let (name, rest) = line.split_at(end.unwrap_or(line.len()));
        let said = || {
            let mut splits = rest.split(SEPARATORS).filter_map(|word| split_of_word(unquoted(word.trim())));
            splits.next().filter(|_| splits.next().is_none())
        };
        let Some(split) = of_file.or_else(said) else {
            let message = if place == 0 {
                "it is in no known format".to_owned()
            } else {
                format!("line {} names no split", number + 1)
            };
            return Err(failure(message, FORMS));
        };
        entries.push(unquoted(name.trim()).to_owned(), Some(split));
    }
    Ok(())
}

fn unquoted(text: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn entries(name: &str, text: &str) -> Vec<(String, &'static str)> {
        let mut entries = SplitList::default();
        parse(Path::new(name), text, &mut entries).unwrap();
        entries.named.into_iter().map(|(name, split)| (name, split.name())).collect()
    }

    #[track_caller]
    fn assert_entries(name: &str, text: &str, expected: &[(&str, &str)]) {
        let found = entries(name, text);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, split)| (name.as_str(), *split)).collect();
        assert_eq!(found, expected, "{name}: {text}");
    }

    #[test]
    fn a_line_is_a_name() {
        let dogs = [("my dog 0.jpg", "train"), ("my dog 1.jpg", "train")];
        for text in [
            "my dog 0.jpg\nmy dog 1.jpg\n",
            "\r\n my dog 0.jpg \r\n\r\nmy dog 1.jpg",
            "filename\nmy dog 0.jpg\nmy dog 1.jpg\n",
            "\"my dog 0.jpg\"\n\"my dog 1.jpg\"\n",
            "my dog 0.jpg 3\nmy dog 1.jpg\tspaniel\n",
            "my dog 0.jpg,1\nmy dog 1.jpg,0\n",
            "my dog 0.jpg;1;0.5\nmy dog 1.jpg;0;\n",
            "\"my dog 0.jpg\",1\n\"my dog 1.jpg\",2\n",
            "# made by hand\nmy dog 0.jpg\n#\nmy dog 1.jpg\n",
        ] {
            assert_entries("train.txt", text, &dogs);
        }
        assert_entries("train.txt", "#1.jpg\n# 2\n3, 4.jpg\n", &[("#1.jpg", "train"), ("3, 4.jpg", "train")]);
        assert_entries("split.txt", "# all\nb.jpg 1 train\n", &[("b.jpg", "train")]);
        assert_entries("val.lst", "my dog\nimage\n", &[("my dog", "val"), ("image", "val")]);
        assert_entries("test.csv", "image\nmy dog 0.jpg\n", &[("my dog 0.jpg", "test")]);
        assert_entries("split.txt", "my dog 0.jpg train\nmy dog 1.jpg dev\n", &[dogs[0], ("my dog 1.jpg", "val")]);
    }

    #[test]
    fn tables_have_any_of_the_usual_columns_and_separators_or_no_header() {
        let expected = [("my dog, 0.jpg", "train"), ("b.jpg", "val")];
        for (name, text) in [
            ("s.csv", "image;split\nmy dog, 0.jpg;train\nb.jpg;val\n"),
            ("s.csv", "Split,File Name,label\ntrain,\"my dog, 0.jpg\",1\nvalidation,b.jpg,2\n"),
            ("s.tsv", "path\tsubset\nmy dog, 0.jpg\ttraining\nb.jpg\tdev\n"),
            ("s.csv", "\"my dog, 0.jpg\";train\nb.jpg;val\n"),
            ("s.csv", "train\tmy dog, 0.jpg\nval\tb.jpg\n"),
            ("s.csv", "1,\"my dog, 0.jpg\",train\n2,b.jpg,val\n"),
            ("s.txt", "image;split\nmy dog, 0.jpg;train\nb.jpg;val\n"),
            ("s.csv", "# image;split\nmy dog, 0.jpg;train\n# later\nb.jpg;val\n"),
            ("s.csv", "# by hand\nimage;split\nmy dog, 0.jpg;train\nc.jpg;\nb.jpg;val\n;\n"),
            ("S.CSV", "image;split\nmy dog, 0.jpg;train\nb.jpg;val\n"),
        ] {
            assert_entries(name, text, &expected);
        }
        assert_entries("train.csv", "image,label\na.jpg,1\n", &[("a.jpg", "train")]);
    }

    #[test]
    fn names_without_a_split_are_counted() {
        for (name, text) in [
            ("s.csv", "image,split\na.jpg,train\nb.jpg,\nc.jpg, \n"),
            ("s.json", r#"{"a.jpg":"train","b.jpg":null,"c.jpg":""}"#),
            (
                "s.jsonl",
                "{\"image\":\"a.jpg\",\"split\":\"train\"}\n{\"image\":\"b.jpg\",\"split\":null}\n{\"image\":\"c.jpg\",\"split\":\"\"}\n",
            ),
        ] {
            let mut entries = SplitList::default();
            parse(Path::new(name), text, &mut entries).unwrap();
            assert_eq!(entries.named, [("a.jpg".to_owned(), Split::Train)], "{name}");
            assert_eq!((entries.num_without, entries.first_without.as_str()), (2, "b.jpg"), "{name}");
        }
    }

    #[test]
    fn json_lists_either_way() {
        let expected = [("a.jpg", "train"), ("b.jpg", "val")];
        for (name, text) in [
            ("s.json", r#"{"images":[{"filename":"a.jpg","split":"train"},{"filename":"b.jpg","split":"val"}]}"#),
            (
                "s.json",
                r#"{"images":[{"file_name":"a.jpg","subset":"train"},{"id":3,"file_name":"b.jpg","subset":"val"}]}"#,
            ),
            ("s.json", r#"{"a.jpg":"train","b.jpg":"validation"}"#),
            ("s.json", r#"{"train":["a.jpg"],"val":[{"image":"b.jpg"}]}"#),
            ("s.json", r#"[{"image":"a.jpg","split":"train"},{"image":"b.jpg","split":"val"}]"#),
            ("s.jsonl", "{\"image\":\"a.jpg\",\"split\":\"train\"}\n\n{\"image\":\"b.jpg\",\"split\":\"val\"}\n"),
        ] {
            assert_entries(name, text, &expected);
        }
        assert_entries("test.json", r#"["a.jpg", 7]"#, &[("a.jpg", "test"), ("7", "test")]);
    }
}
