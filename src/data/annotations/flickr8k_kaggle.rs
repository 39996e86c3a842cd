//! Flickr8k as it is on Kaggle: `captions.txt` with the header `image,caption`, quotes only where a caption holds a comma,
//! and the folder `Images/`. It names no splits.

use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{Table, without_mark};
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset};
use crate::data::source::Source;

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in source.find(|file| file.name() == "captions.txt") {
        let start = source.read_start(file, 100)?;
        if without_mark(&start).starts_with(b"image,caption") {
            found.push(file);
            break;
        }
    }
    Ok(Found::some(Format::Flickr8kKaggle, Some(KnownDataset::Flickr8k), found))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    let mut builder = Builder::default();
    for &file in files {
        parse(&mut builder, &source.files()[file].path, &source.read(file)?)?;
    }
    Ok(builder.finish("flickr8k"))
}

fn parse(builder: &mut Builder, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
    Table::new(file, bytes, b',')?.for_each_row(|_, values| {
        let image = builder.image(values[0].trim());
        builder.caption(image, None, values[1]);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_with_commas_stand_in_quotes() {
        let text = b"image,caption\r\n1.jpg,A dog runs .\r\n1.jpg,\"A dog , a cat , and a \"\"bird\"\" .\"\r\n";
        let mut builder = Builder::default();
        parse(&mut builder, "captions.txt", text).unwrap();
        let raw = builder.finish("flickr8k");
        assert_eq!(raw.images[0].captions, ["A dog runs .", "A dog , a cat , and a \"bird\" ."]);
    }
}
