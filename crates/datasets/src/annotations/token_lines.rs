//! Lines `NAME.jpg#N<TAB>caption`, in a file of any name: as in Flickr8k's `Flickr8k.token.txt` and Flickr30k's
//! `results_20130124.token`.

use anyhow::Context as _;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::layout::Layout;
use crate::annotations::text::lines;
use crate::annotations::{Certainty, Format, Found, Input, RawDataset, TheFile};
use crate::source::is_image_name;
use base::fault::WithHint as _;

pub(super) static FORMAT: Format =
    Format { name: "token-lines", description: "a text file with lines NAME.jpg#N, a tab and a caption", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let is_ours =
        |content: &Content| matches!(content, Content::Text(Layout::Tokens(first)) if candidates.is_image(first));
    Ok(candidates.grouped(&FORMAT, candidates.files(is_ours), |_| Certainty::Near))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(Builder::read(input, |builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

/// Adds the captions of a token file.
///
/// # Errors
/// A line of another form, with its number.
pub(super) fn parse(builder: &mut Builder, file: &TheFile<'_>, text: &str) -> anyhow::Result<()> {
    for (number, line) in lines(text) {
        let (name, caption_number, caption) = parts(line)
            .with_context(|| format!("line {number} of {} has another form: {line:?}", file.path))
            .hint(|| "expected NAME.jpg#N, a tab and the caption")?;
        let image = file.image(builder, name);
        builder.cell(image, Some(caption_number), caption, || format!("line {number} of {}", file.path));
    }
    Ok(())
}

/// The name, the number and the caption of a line. Where a blank is in place of the tab, the name must be an image's.
pub(super) fn parts(line: &str) -> Option<(&str, u32, &str)> {
    let of_key = |key: &'_ str| {
        let (name, number) = key.trim().rsplit_once('#')?;
        (!name.is_empty()).then_some((name.len(), number.parse().ok()?))
    };
    if let Some((key, caption)) = line.split_once('\t') {
        let (length, number) = of_key(key)?;
        return Some((&key.trim()[..length], number, caption));
    }
    let at = line.match_indices('#').map(|(at, _)| at).find(|&at| is_image_name(line[..at].trim()))?;
    let behind = &line[at + 1..];
    let digits = behind.find(|character: char| !character.is_ascii_digit())?;
    let caption = behind[digits..].strip_prefix([' ', ',', ';', '|'])?;
    Some((line[..at].trim(), behind[..digits].parse().ok()?, caption))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_by_its_number() {
        for (line, expected) in [
            ("a.jpg#0\tA dog", Some(("a.jpg", 0, "A dog"))),
            (" a b.jpg.1#12 \tA # dog", Some(("a b.jpg.1", 12, "A # dog"))),
            ("a.jpg#3 A dog", Some(("a.jpg", 3, "A dog"))),
            ("a.jpg#3,A dog", Some(("a.jpg", 3, "A dog"))),
            ("a#3 A dog", None),
            ("a.jpg#x\tA", None),
            ("a.jpg\tA #1", None),
            ("#1\tA", None),
            ("a.jpg#1", None),
            ("a.jpg#1A dog", None),
            ("", None),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
    }
}
