//! Flickr30k as its authors distribute it (Young et al. 2014): `results_20130124.token`, five captions per image with
//! spaces around punctuation. It names no splits.

use crate::annotations::builder::Builder;
use crate::annotations::candidates::Candidates;
use crate::annotations::input::TheFile;
use crate::annotations::{Format, Found, Input, KnownDataset, RawDataset, token_lines};

const NAMES: [&str; 2] = ["results_20130124.token", "results.token"];

pub(super) static FORMAT: Format = Format { name: "flickr30k-token", description: NAMES[0], find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let files = candidates.source.find(|file| NAMES.iter().any(|name| file.name().eq_ignore_ascii_case(name)));
    Ok(Found::first(&FORMAT, Some(KnownDataset::Flickr30k), files))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let parse =
        |builder: &mut Builder, path: &str, text: &str| token_lines::parse(builder, &TheFile::alone(path), text);
    Ok(Builder::read(input, parse)?.finish("flickr30k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_kept_as_they_are_spaced() {
        let mut builder = Builder::default();
        let text = "1000092795.jpg#0\tTwo young guys with shaggy hair look at their hands .\n1000092795.jpg#1\tHair , long .\n";
        token_lines::parse(&mut builder, &TheFile::alone("results_20130124.token"), text).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions[1], "Hair , long .");
        assert_eq!(raw.images[0].split, None);
    }
}
