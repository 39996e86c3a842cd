//! What the readers of text files share: lines with their numbers, tables with their columns, words for missing values.

use anyhow::Context as _;
use csv::{ByteRecord, ReaderBuilder};

use crate::annotations::fields::{Field, field};
use base::error::{WithHint as _, failure};
use pixels::picture_formats::is_image_name;

/// What pandas writes, and reads, in place of a value that is missing; in these letters and no others.
const MISSING: [&str; 18] = [
    "nan", "NaN", "-nan", "-NaN", "None", "null", "NULL", "<NA>", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A",
    "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN",
];

/// Whether this is all that stands in place of a value that is missing.
pub(crate) fn is_missing(text: &str) -> bool {
    MISSING.contains(&text.trim())
}

/// The text without the mark that some editors put in front.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The lines that are not blank, with their numbers from 1. They end as on Unix, on Windows or as on old Macs.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = if text.contains('\n') { '\n' } else { '\r' };
    let lines = text.split(end).enumerate().map(|(index, line)| (index + 1, line.trim_end_matches('\r')));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

/// What a JSON file contains, or what is wrong with it.
pub fn json<'a, T: serde::Deserialize<'a>>(file: &str, bytes: &'a [u8], form: &str) -> anyhow::Result<T> {
    serde_json::from_slice(without_mark(bytes))
        .with_context(|| format!("{file} does not have the expected form"))
        .hint(|| format!("expected {form}; download the file again if it was cut off"))
}

/// A table with a header: values separated by commas or tabs, with quotes where they are needed (RFC 4180).
pub struct Table<'a> {
    file: &'a str,
    separator: u8,
    bytes: &'a [u8],
    header: Vec<String>,
    reader: csv::Reader<&'a [u8]>,
}

impl<'a> Table<'a> {
    /// The table of a file's content, with this separator.
    pub fn new(file: &'a str, bytes: &'a [u8], separator: u8) -> anyhow::Result<Self> {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(separator).has_headers(false).flexible(true);
        let bytes = without_mark(bytes);
        let mut reader = builder.from_reader(bytes);
        let mut first = ByteRecord::new();
        let cannot = || format!("cannot read the header of {file}");
        reader.read_byte_record(&mut first).with_context(cannot)?;
        // Excel reads the separator from a separate line.
        if first.get(0).is_some_and(|cell| cell.to_ascii_lowercase().starts_with(b"sep=")) {
            reader.read_byte_record(&mut first).with_context(cannot)?;
        }
        let header = first.iter().map(|name| String::from_utf8_lossy(name).trim().to_lowercase()).collect();
        Ok(Self { file, separator, bytes, header, reader })
    }

    /// The table of a content that has no header: the columns are called as `header` says.
    pub fn headless(file: &'a str, bytes: &'a [u8], separator: u8, header: &[&str]) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(separator).has_headers(false).flexible(true);
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Self { file, separator, bytes, header, reader: builder.from_reader(bytes) }
    }

    /// The names of the columns, lower-cased.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The first column that has one of these names, in the order of the names.
    pub fn column(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.header.iter().position(|column| column == name))
    }

    /// Calls `row` with each row and a description of its place. Where a row has more values than columns, and only the
    /// last column holds captions, the last values are one caption that lacks its quotes.
    pub fn for_each_row(mut self, mut row: impl FnMut(&str, &[&str]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let separator = char::from(self.separator).to_string();
        let is_caption = |name: &String| matches!(field(name), Some(Field::Captions(_)));
        let only_last_is_caption = self.header.iter().position(is_caption) == self.header.len().checked_sub(1);
        let mut record = ByteRecord::new();
        let (file, bytes) = (self.file, self.bytes);
        while self.reader.read_byte_record(&mut record).with_context(|| format!("cannot read {file}"))? {
            // The reader leaves the second half of a line break to the next row.
            let line_of = |at: &csv::Position| at.line() + u64::from(bytes.get(at.byte() as usize) == Some(&b'\n'));
            let line = record.position().map_or(0, line_of);
            let place = format!("line {line} of {file}");
            let values: Vec<&str> = record.iter().map(|value| utf8(value, &place)).collect::<anyhow::Result<_>>()?;
            let (expected, found) = (self.header.len(), values.len());
            let swallowed = |value: &&str| {
                let mut lines = value.lines().skip(1);
                lines.any(|line| line.split(&separator).any(|part| is_image_name(part.trim_matches(['"', ' ']))))
            };
            if values.iter().any(swallowed) {
                let message = format!("{place} has a quote that is not closed: it includes the rows below it");
                return Err(failure(message, "double a quote within quotes, and close every quote"));
            }
            let joined;
            let mut values = values;
            if found > expected && expected > 0 && only_last_is_caption {
                joined = values[expected - 1..].join(&separator);
                values.truncate(expected - 1);
                values.push(&joined);
            }
            if values.len() != expected {
                let message = format!("{place} has {found} values, expected {expected} as in its header");
                return Err(failure(message, "put quotes around values that contain the separator or a line break"));
            }
            row(&place, &values)?;
        }
        Ok(())
    }
}

/// The most frequent in the header: a tab, a semicolon or a comma.
pub fn separator(header: &[u8]) -> u8 {
    let count = |separator: u8| header.iter().filter(|&&byte| byte == separator).count();
    b",;\t".iter().copied().max_by_key(|&separator| count(separator)).unwrap_or(b',')
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> anyhow::Result<&'a str> {
    std::str::from_utf8(bytes)
        .with_context(|| format!("{what} is not UTF-8 text"))
        .hint(|| "save the file as UTF-8, or use the file as it is distributed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[test]
    fn lines_end_as_on_any_system() {
        for text in ["a\n\n b \nc", "a\r\n\r\n b \r\nc\r\n", "a\r\r b \rc"] {
            assert_eq!(lines(text).collect::<Vec<_>>(), [(1, "a"), (3, " b "), (4, "c")], "{text:?}");
        }
    }

    #[test]
    fn a_table_reads_quotes_line_breaks_and_the_mark_of_editors() {
        let bytes = b"\xef\xbb\xbfImage, Caption\r\na.jpg,\"A dog, running.\r\nFast \"\"dog\"\"\"\r\nb.jpg,B\n";
        let table = Table::new("t.csv", bytes, b',').unwrap();
        assert_eq!(table.header(), ["image", "caption"]);
        assert_eq!((table.column(&["file", "image"]), table.column(&["text"])), (Some(0), None));
        let mut rows = Vec::new();
        let row = |place: &str, values: &[&str]| {
            rows.push(format!("{place}: {}", values.join("|")));
            Ok(())
        };
        table.for_each_row(row).unwrap();
        assert_eq!(rows, ["line 2 of t.csv: a.jpg|A dog, running.\r\nFast \"dog\"", "line 4 of t.csv: b.jpg|B"]);
    }

    #[test]
    fn the_line_that_names_the_separator_to_excel_is_not_a_header() {
        let table = Table::new("t.csv", b"sep=;\r\nimage;caption\r\na.jpg;A\r\n", b';').unwrap();
        assert_eq!(table.header(), ["image", "caption"]);
        let row = |place: &str, values: &[&str]| {
            assert_eq!((place, values), ("line 3 of t.csv", ["a.jpg", "A"].as_slice()));
            Ok(())
        };
        table.for_each_row(row).unwrap();
    }

    #[test]
    fn a_caption_in_the_last_column_may_lack_its_quotes() {
        let table = Table::new("t.csv", b"image,caption\na.jpg,A dog, brown, runs\n", b',').unwrap();
        let row = |_: &str, values: &[&str]| {
            assert_eq!(values, ["a.jpg", "A dog, brown, runs"]);
            Ok(())
        };
        table.for_each_row(row).unwrap();
    }

    #[test]
    fn rows_that_cannot_be_read_are_named() {
        for (bytes, expected) in [
            (b"image,caption\na.jpg,A\nb.jpg\n".as_slice(), "line 3 of t.csv has 1 values, expected 2"),
            (b"image,caption\na.jpg,\xff\n", "line 2 of t.csv is not UTF-8 text"),
            (b"image,caption\na.jpg,\"A\nb.jpg,B\n", "line 2 of t.csv has a quote that is not closed"),
            (b"caption,image\nA, b,a.jpg\n", "line 2 of t.csv has 3 values, expected 2"),
            (b"image,caption_1,caption_2\na.jpg,A, b,C\n", "line 2 of t.csv has 4 values, expected 3"),
        ] {
            let table = Table::new("t.csv", bytes, b',').unwrap();
            let text = describe(&table.for_each_row(|_, _| Ok(())).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }
}
