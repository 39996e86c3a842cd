//! The shards of a web data set: tar archives in which `KEY.jpg` stands beside `KEY.txt`, or beside `KEY.json` with the
//! caption under `caption`, `text` or `captions`. A key ends at the first dot of the file's name.

use anyhow::Context as _;
use serde::Deserialize;

use crate::base::fault::WithHint as _;
use crate::data::annotations::builder::Builder;
use crate::data::annotations::paired::{self, pairs};
use crate::data::annotations::text::{OneOrMany, without_mark};
use crate::data::annotations::{Format, Found, RawDataset};
use crate::data::source::{Source, SourceFile};

/// Text counts more than JSON, which many shards have beside it for other things.
const ENDINGS: [&str; 3] = [".txt", ".caption", ".json"];

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let pairs = pairs(source, SourceFile::is_in_tar, key, &ENDINGS);
    Ok(Found::some(Format::WebDataset, None, pairs.into_iter().map(|pair| pair.text).collect()))
}

pub(super) fn read(source: &Source, _: &[usize]) -> anyhow::Result<RawDataset> {
    let pairs = pairs(source, SourceFile::is_in_tar, key, &ENDINGS);
    paired::read(source, &pairs, |builder, image, path, content| match path.ends_with(".json") {
        true => parse_json(builder, image, path, content),
        false => paired::add_lines(builder, image, path, content),
    })
}

fn key(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |at| at + 1);
    path[name_at..].find('.').map_or(path, |dot| &path[..name_at + dot])
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow, default)]
    caption: Option<OneOrMany<'a>>,
    #[serde(borrow, default)]
    text: Option<OneOrMany<'a>>,
    #[serde(borrow, default)]
    captions: Option<OneOrMany<'a>>,
}

fn parse_json(builder: &mut Builder, image: usize, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let sample: Sample<'_> = serde_json::from_slice(without_mark(bytes))
        .with_context(|| format!("{path} holds no caption"))
        .hint(|| r#"expected {"caption": "a caption"}"#)?;
    for captions in [&sample.caption, &sample.text, &sample.captions].into_iter().flatten() {
        captions.iter().for_each(|caption| builder.caption(image, None, caption));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_name() {
        assert_eq!(key("a.b-0.tar/c.d/0001.seg.json"), "a.b-0.tar/c.d/0001");
        assert_eq!(key("0001"), "0001");
    }

    #[test]
    fn captions_are_under_any_of_their_names() {
        let mut builder = Builder::default();
        let image = builder.image("a");
        parse_json(&mut builder, image, "a.json", br#"{"caption":"A","url":1,"captions":["B","C"],"text":null}"#)
            .unwrap();
        assert_eq!(builder.finish("").images[0].captions, ["A", "B", "C"]);
        assert!(parse_json(&mut Builder::default(), 0, "a.json", b"{\"caption\":3}").is_err());
    }
}
