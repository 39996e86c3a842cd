//! Flickr30k as it is on Kaggle: `results.csv`, `|` between the columns `image_name| comment_number| comment`, a space in
//! front of names and values, no quotes. One row of the distributed file lacks a delimiter
//! (`2199200615.jpg| 4   A dog runs across the grass .`) and is mended. It names no splits.

use anyhow::Context as _;

use crate::base::fault::WithHint as _;
use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{for_each_line, without_mark};
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset, Repair};
use crate::data::source::Source;

const HEADER: [&str; 3] = ["image_name", "comment_number", "comment"];

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in source.find(|file| file.name() == "results.csv") {
        let start = source.glance(file, 200);
        let first = without_mark(&start).split(|&byte| byte == b'\n').next().unwrap_or_default();
        if String::from_utf8_lossy(first).split('|').map(str::trim).eq(HEADER) {
            // A copy often lies inside the folder of the images too.
            found.push(file);
            break;
        }
    }
    Ok(Found::some(Format::Flickr30kKaggle, Some(KnownDataset::Flickr30k), found))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, parse)?.finish("flickr30k"))
}

fn parse(builder: &mut Builder, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut is_header = true;
    for_each_line(file, bytes, |line_number, line| {
        if std::mem::take(&mut is_header) {
            return Ok(());
        }
        let row = parts(line)
            .with_context(|| format!("line {line_number} of {file} has another form: {line:?}"))
            .hint(|| "expected NAME.jpg| N| caption")?;
        if row.is_mended {
            let note = format!("line {line_number} lacked the delimiter behind its number, which was put in");
            builder.repairs.push(Repair::new(format!("{}#{}", row.name, row.number), note));
        }
        let image = builder.image(row.name);
        builder.caption(image, Some(row.number), row.caption);
        Ok(())
    })
}

struct Row<'a> {
    name: &'a str,
    number: u32,
    caption: &'a str,
    is_mended: bool,
}

fn parts(line: &str) -> Option<Row<'_>> {
    let (name, rest) = line.split_once('|')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..digits].parse().ok().filter(|_| !name.is_empty())?;
    let behind = &rest[digits..];
    match behind.trim_start().strip_prefix('|') {
        Some(caption) => Some(Row { name, number, caption, is_mended: false }),
        None if behind.starts_with(char::is_whitespace) => Some(Row { name, number, caption: behind, is_mended: true }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    #[test]
    fn the_row_without_a_delimiter_is_mended_and_reported() {
        let text = b"image_name| comment_number| comment\n2199200615.jpg| 3| A dog .\n2199200615.jpg| 4   A dog runs across the grass .\nb.jpg| 0| One | two\n";
        let mut builder = Builder::default();
        parse(&mut builder, "results.csv", text).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions, ["A dog .", "A dog runs across the grass ."]);
        assert_eq!(raw.images[1].captions, ["One | two"]);
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "2199200615.jpg#4");
        assert!(raw.repairs[0].repair.starts_with("line 3 lacked"), "{:?}", raw.repairs);
    }

    #[test]
    fn a_row_of_another_form_is_named() {
        for row in ["a.jpg", "a.jpg| x| A", "| 1| A", "a.jpg| 1A"] {
            let text = format!("image_name| comment_number| comment\n{row}\n");
            let text = describe(&parse(&mut Builder::default(), "results.csv", text.as_bytes()).unwrap_err());
            assert!(text.contains("line 2 of results.csv"), "{text}");
        }
    }
}
