//! Flickr30k as its authors distribute it (Young et al. 2014): `results_20130124.token`, five captions per image with
//! spaces around punctuation. It names no splits.

use crate::data::annotations::builder::Builder;
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset, token_lines};
use crate::data::source::Source;

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let files = source.find(|file| file.name() == "results_20130124.token" || file.name() == "results.token");
    Ok(Found::some(Format::Flickr30kToken, Some(KnownDataset::Flickr30k), files.into_iter().take(1).collect()))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, token_lines::parse)?.finish("flickr30k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_kept_as_they_are_spaced() {
        let mut builder = Builder::default();
        let text = b"1000092795.jpg#0\tTwo young guys with shaggy hair look at their hands .\n1000092795.jpg#1\tHair , long .\n";
        token_lines::parse(&mut builder, "results_20130124.token", text).unwrap();
        let raw = builder.finish("flickr30k");
        assert_eq!(raw.images[0].captions[1], "Hair , long .");
        assert_eq!(raw.images[0].split, None);
    }
}
