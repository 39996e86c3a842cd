//! Lines `NAME.jpg#N<TAB>caption`, in a file of any name: as in Flickr8k's `Flickr8k.token.txt` and Flickr30k's
//! `results_20130124.token`.
//! The latter is Flickr30k as its authors distribute it (Young et al. 2014), with spaces around punctuation and without
//! splits.

use anyhow::Context as _;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::format::{Certainty, Format, Match, grouped};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::layout::{Layout, token_parts};
use crate::annotations::raw_dataset::RawDataset;
use crate::annotations::text::lines;
use base::error::WithHint as _;

pub(crate) static FORMAT: Format =
    Format { name: "token-lines", description: "a text file with lines NAME.jpg#N, a tab and a caption", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours =
        |content: &Content| matches!(content, Content::Text(Layout::Tokens(first)) if candidates.is_image(first));
    Ok(grouped(candidates, &FORMAT, candidates.files(is_ours), |_| Certainty::Near))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

pub(crate) fn parse(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    for (number, line) in lines(text) {
        let (name, caption_number, caption) = token_parts(line)
            .with_context(|| format!("line {number} of {} has an unexpected form: {line:?}", file.path))
            .hint(|| "expected NAME.jpg#N, a tab and the caption")?;
        let image = file.image(builder, name);
        builder.cell(image, Some(caption_number), caption, || format!("line {number} of {}", file.path));
    }
    Ok(())
}

const NAMES: [&str; 2] = ["results_20130124.token", "results.token"];

pub(crate) static FLICKR30K: Format =
    Format { name: "flickr30k-token", description: NAMES[0], find: find_flickr30k, read: read_flickr30k };

fn find_flickr30k(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let files = candidates.source.find(|file| NAMES.iter().any(|name| file.name().eq_ignore_ascii_case(name)));
    Ok(Match::first(&FLICKR30K, Some(KnownDataset::Flickr30k), files))
}

fn read_flickr30k(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let parse_alone =
        |builder: &mut Builder, path: &str, text: &str| parse(builder, &AnnotationFile::single(path), text);
    Ok(input.build(parse_alone)?.finish("flickr30k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_by_its_number() {
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
            assert_eq!(token_parts(line), expected, "{line}");
        }
    }
}

#[cfg(test)]
mod flickr30k_tests {
    use super::*;

    #[test]
    fn captions_are_kept_as_they_are_spaced() {
        let mut builder = Builder::default();
        let text = "1000092795.jpg#0\tTwo young guys with shaggy hair look at their hands .\n1000092795.jpg#1\tHair , long .\n";
        parse(&mut builder, &AnnotationFile::single("results_20130124.token"), text).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions[1], "Hair , long .");
        assert_eq!(raw.images[0].split, None);
    }
}
