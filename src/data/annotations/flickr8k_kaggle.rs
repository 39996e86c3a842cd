//! Flickr8k as it is on Kaggle, and copies of Flickr30k there in the same form: `captions.txt` with the header
//! `image,caption` or `image_name,comment_number,comment`, quotes only where a caption holds a comma, and the folder
//! `Images/`. It names neither the data set nor splits.

use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{Table, without_mark};
use crate::data::annotations::{Format, Found, RawDataset};
use crate::data::source::Source;

const HEADERS: [&str; 2] = ["image,caption", "image_name,comment_number,comment"];

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in source.find(|file| file.name() == "captions.txt") {
        let start = source.glance(file, 100);
        if HEADERS.iter().any(|header| without_mark(&start).starts_with(header.as_bytes())) {
            found.push(file);
            break;
        }
    }
    Ok(Found::some(Format::Flickr8kKaggle, None, found))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, parse)?.finish(""))
}

fn parse(builder: &mut Builder, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let table = Table::new(file, bytes, b',')?;
    let caption = table.header().len().saturating_sub(1);
    table.for_each_row(|_, values| {
        let image = builder.image(values[0].trim());
        builder.caption(image, None, values[caption]);
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
        let mut builder = Builder::default();
        parse(&mut builder, "captions.txt", b"image_name,comment_number,comment\n1.jpg,0,A dog, brown .\n").unwrap();
        assert_eq!(builder.finish("").images[0].captions, ["A dog, brown ."]);
    }
}
