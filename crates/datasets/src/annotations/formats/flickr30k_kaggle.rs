//! Flickr30k as it is on Kaggle: `results.csv`, `|` between the columns `image_name| comment_number| comment`, a space
//! in front of names and values, no quotes. One row of the distributed file lacks a delimiter (`2199200615.jpg| 4   A
//! dog runs across the grass .`) and is mended. It names no splits.

use anyhow::Context as _;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::format::{Format, Match};
use crate::annotations::input::Input;
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::layout::Layout;
use crate::annotations::raw_dataset::{RawDataset, Repair};
use crate::annotations::text::lines;
use base::error::WithHint as _;

const HEADER: [&str; 3] = ["image_name", "comment_number", "comment"];

pub(crate) static FORMAT: Format =
    Format { name: "flickr30k-kaggle", description: "results.csv with | between its columns", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours = |content: &Content| matches!(content, Content::Text(Layout::Table(table)) if table.separator == b'|' && table.header == HEADER);
    let mut files = candidates.files(is_ours);
    files.retain(|&file| candidates.source.files()[file].name().eq_ignore_ascii_case("results.csv"));
    Ok(Match::first(&FORMAT, Some(KnownDataset::Flickr30k), files))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    Ok(input.build(parse)?.finish("flickr30k"))
}

fn parse(builder: &mut Builder, file: &str, text: &str) -> anyhow::Result<()> {
    for (line_number, line) in lines(text).skip(1) {
        let row = parts(line)
            .with_context(|| format!("line {line_number} of {file} has an unexpected form: {line:?}"))
            .hint(|| "expected NAME.jpg| N| caption")?;
        if row.is_mended {
            let note = format!("line {line_number} was missing the delimiter after its number: it was added");
            builder.repairs.push(Repair::new(format!("{}#{}", row.name, row.number), note));
        }
        let image = builder.image(row.name);
        builder.cell(image, Some(row.number), row.caption, || format!("line {line_number} of {file}"));
    }
    Ok(())
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
    let after = &rest[digits..];
    match after.trim_start().strip_prefix('|') {
        Some(caption) => Some(Row { name, number, caption, is_mended: false }),
        None if after.starts_with(char::is_whitespace) => Some(Row { name, number, caption: after, is_mended: true }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[test]
    fn the_row_without_a_delimiter_is_mended_and_reported() {
        let text = "image_name| comment_number| comment\n2199200615.jpg| 3| A dog .\n2199200615.jpg| 4   A dog runs across the grass .\nb.jpg| 0| One | two\n";
        let mut builder = Builder::default();
        parse(&mut builder, "results.csv", text).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions, ["A dog .", "A dog runs across the grass ."]);
        assert_eq!(raw.images[1].captions, ["One | two"]);
        assert_eq!(raw.repairs.len(), 1);
        assert_eq!(raw.repairs[0].what, "2199200615.jpg#4");
        assert!(raw.repairs[0].repair.starts_with("line 3 was missing"), "{:?}", raw.repairs);
    }

    #[test]
    fn a_row_of_another_form_is_named() {
        for row in ["a.jpg", "a.jpg| x| A", "| 1| A", "a.jpg| 1A"] {
            let text = format!("image_name| comment_number| comment\n{row}\n");
            let text = describe(&parse(&mut Builder::default(), "results.csv", &text).unwrap_err());
            assert!(text.contains("line 2 of results.csv"), "{text}");
        }
    }
}
