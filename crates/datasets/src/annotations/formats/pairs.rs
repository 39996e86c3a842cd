//! Lines of an image and its caption without a header, with a tab or another separator between them, as `caption`
//! prints them.

use anyhow::Context as _;

use crate::annotations::backslash_quotes;
use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::format::{Certainty, Format, Match, grouped};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::layout::{Layout, PairLayout};
use crate::annotations::raw_dataset::{RawDataset, Repair};
use crate::annotations::text::lines;
use base::error::WithHint as _;

pub(crate) static FORMAT: Format =
    Format { name: "pairs", description: "lines of an image, a tab and its caption, without a header", find, read };

/// Bytes needed to recognize the layout.
const MAX_BYTES: usize = 1 << 16;

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let files = candidates.files(|content| matches!(content, Content::Text(Layout::Pairs(_))));
    Ok(grouped(candidates, &FORMAT, files, |_| Certainty::Near))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

fn parse(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    let start = text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or(text);
    let layout = match Layout::of(start, start.len() == text.len()) {
        Layout::Pairs(layout) => Some(layout),
        _ => PairLayout::of_any_names(text),
    };
    let mut has_backslashes = false;
    for (number, line) in lines(text) {
        let (name, caption) = layout
            .and_then(|layout| layout.parts(line))
            .with_context(|| format!("line {number} of {} has an unexpected form: {line:?}", file.path))
            .hint(|| "expected the name of an image, a separator and its caption, as in the lines before it")?;
        let image = file.image(builder, name);
        let caption = unquoted(caption, &mut has_backslashes);
        builder.cell(image, None, &caption, || format!("line {number} of {}", file.path));
    }
    builder.repairs.extend(has_backslashes.then(|| Repair::new(file.path, backslash_quotes::NOTE)));
    Ok(())
}

/// A value without the quotes around it, and with one quote for two in it, or for one after a backslash.
fn unquoted(value: &str, has_backslashes: &mut bool) -> String {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(inside) if !inside.replace("\"\"", "").contains('"') => inside.replace("\"\"", "\""),
        Some(inside) if !inside.replace("\\\"", "").contains('"') => {
            *has_backslashes = true;
            inside.replace("\\\"", "\"")
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn images(text: &str) -> Vec<String> {
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("t.txt"), text).unwrap();
        let images = builder.finish("").images;
        images.into_iter().map(|image| format!("{}: {}", image.filename, image.captions.join("|"))).collect()
    }

    #[test]
    fn images_and_captions_are_distinguished_whatever_is_between_them() {
        for text in [
            "a.jpg\tA, b\nb.jpg\t\"B\" c\na.jpg\tC\n",
            "a.jpg,\"A, b\"\nb.jpg,\"\"\"B\"\" c\"\na.jpg,C\n",
            "a.jpg|A, b\r\nb.jpg|\"B\" c\r\na.jpg|C",
            "a.jpg;0;A, b\nb.jpg;0;\"B\" c\na.jpg;1;C\n",
        ] {
            assert_eq!(images(text), ["a.jpg: A, b|C", "b.jpg: \"B\" c"], "{text}");
        }
        assert_eq!(images("7\tA\nseven\tB\n"), ["7: A", "seven: B"]);
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        let text = (0..60).map(|number| format!("{number}.jpg\tA\n")).collect::<String>() + "caption only\n";
        let text = describe(&parse(&mut Builder::default(), &AnnotationFile::single("t.txt"), &text).unwrap_err());
        assert!(
            text.contains("line 61 of t.txt has an unexpected form: \"caption only\"") && text.contains("hint: "),
            "{text}"
        );
    }
}
