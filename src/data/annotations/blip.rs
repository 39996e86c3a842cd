//! The JSON of BLIP and LAVIS (Li et al. 2022): `flickr30k_train.json`, a list of `{"image", "caption", "image_id"}` with a
//! line for each caption, and `flickr30k_val.json` and `flickr30k_test.json`, where `caption` is a list.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::data::annotations::builder::Builder;
use crate::data::annotations::json_shape::{JsonFile, JsonShape};
use crate::data::annotations::text::{OneOrMany, json, split_of_path};
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset};
use crate::data::source::{Source, without_ending};

pub(super) fn find(source: &Source, json: &[JsonFile]) -> Vec<Found> {
    // `flickr30k_train.json` and `flickr30k_val.json` belong together.
    let mut of_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (file, shape) in json {
        let JsonShape::List(keys) = shape else { continue };
        if ["image", "caption"].iter().all(|wanted| keys.iter().any(|key| key == wanted)) {
            let path = without_ending(&source.files()[*file].path);
            let words: Vec<&str> = path.split(['_', '-', '.']).filter(|word| split_of_path(word).is_none()).collect();
            of_name.entry(words.join("_")).or_default().push(*file);
        }
    }
    let found = |(name, files): (String, _)| Found::new(Format::Blip, KnownDataset::of_path(&name), files);
    of_name.into_iter().map(found).collect()
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, parse)?.finish(""))
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    image: Cow<'a, str>,
    #[serde(borrow)]
    caption: OneOrMany<'a>,
}

fn parse(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let rows: Vec<Row<'_>> = json(path, bytes, r#"[{"image", "caption"}]"#)?;
    let split = split_of_path(path);
    for row in &rows {
        let image = builder.image(&row.image);
        if let Some(split) = split {
            builder.split(image, split);
        }
        row.caption.iter().for_each(|caption| builder.caption(image, None, caption));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Split;

    #[test]
    fn a_caption_on_each_line_and_lists_of_them_are_read() {
        let mut builder = Builder::default();
        let train = r#"[{"image":"flickr30k-images/1.jpg","caption":"A","image_id":0},
            {"image":"flickr30k-images/1.jpg","caption":"B \u00e9","image_id":0}]"#;
        parse(&mut builder, "flickr30k_train.json", train.as_bytes()).unwrap();
        let val = r#"[{"image":"flickr30k-images/2.jpg","caption":["C","D"]}]"#;
        parse(&mut builder, "flickr30k_val.json", val.as_bytes()).unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["A", "B é"]);
        assert_eq!(raw.images[1].captions, ["C", "D"]);
        assert_eq!((raw.images[0].split, raw.images[1].split), (Some(Split::Train), Some(Split::Val)));
    }
}
