//! Simple JSON: an object from images (file names, or numbers) to a caption or a list of them, or a list of
//! `{"image_name", "captions"}`, as predictions with their references inline have it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::data::annotations::builder::Builder;
use crate::data::annotations::json_shape::{JsonFile, JsonShape};
use crate::data::annotations::text::{OneOrMany, json, split_of_path, split_of_word};
use crate::data::annotations::{Format, Found, RawDataset};
use crate::data::source::{Source, is_image_name, without_ending};

pub(super) fn find(source: &Source, json: &[JsonFile]) -> Vec<Found> {
    let images = source.files().iter().filter(|file| is_image_name(&file.path));
    let names: HashSet<&str> = images.flat_map(|file| [file.name(), without_ending(file.name())]).collect();
    let is_ours = |shape: &JsonShape| match shape {
        // Other files hold texts under names too: here the names are those of images, or of files that are there.
        JsonShape::Object { keys, has_texts, .. } => {
            let name = |key: &'_ String| key.rsplit('/').next().unwrap_or_default().to_owned();
            let is_there = |key: &String| names.contains(name(key).as_str());
            *has_texts && (keys.first().is_some_and(|key| is_image_name(key)) || keys.iter().any(is_there))
        }
        JsonShape::List(keys) => {
            let has = |wanted: &[&str]| keys.iter().any(|key| wanted.contains(&key.as_str()));
            has(&["image_name", "file_name", "filename"]) && has(&["captions", "caption"])
        }
        JsonShape::Other => false,
    };
    let files: Vec<usize> = json.iter().filter(|(_, shape)| is_ours(shape)).map(|&(file, _)| file).collect();
    let name = |&file: &usize| source.files()[file].name();
    if files.len() > 1 && !files.iter().all(|file| split_of_path(name(file)).is_some()) {
        return files.into_iter().map(|file| Found::new(Format::CaptionJson, None, vec![file])).collect();
    }
    Found::some(Format::CaptionJson, None, files)
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    Ok(Builder::read(source, files, parse)?.finish(""))
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, alias = "file_name", alias = "filename")]
    image_name: Cow<'a, str>,
    #[serde(borrow, alias = "caption")]
    captions: OneOrMany<'a>,
    #[serde(borrow, default)]
    split: Option<Cow<'a, str>>,
}

/// The entries of an object in the order of the file.
struct Entries<'a>(Vec<(Cow<'a, str>, OneOrMany<'a>)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object from images to captions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn parse(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let of_file = split_of_path(path.rsplit('/').next().unwrap_or(path));
    let mut add = |name: &str, captions: &OneOrMany<'_>, own: Option<&str>| {
        let image = builder.image(name);
        match own.and_then(split_of_word) {
            Some(split) => builder.split(image, split),
            None => of_file.into_iter().for_each(|named| builder.split(image, named)),
        }
        captions.iter().for_each(|caption| builder.caption(image, None, caption));
    };
    if matches!(JsonShape::of(bytes), JsonShape::List(_)) {
        let rows: Vec<Row<'_>> = json(path, bytes, r#"[{"image_name", "captions"}]"#)?;
        rows.iter().for_each(|row| add(&row.image_name, &row.captions, row.split.as_deref()));
    } else {
        let Entries(entries) = json(path, bytes, r#"{"1.jpg": "a caption", "2.jpg": ["one", "another"]}"#)?;
        entries.iter().for_each(|(name, captions)| add(name, captions, None));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(text: &str) -> Vec<(String, Vec<String>)> {
        let mut builder = Builder::default();
        parse(&mut builder, "c.json", text.as_bytes()).unwrap();
        builder.finish("").images.into_iter().map(|image| (image.filename, image.captions)).collect()
    }

    #[test]
    fn objects_and_lists_are_read_in_their_order() {
        let expected = [("b.jpg", vec!["B"]), ("a.jpg", vec!["A", "\"Q\""])];
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(name, captions)| (name.to_owned(), captions.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(images(r#"{"b.jpg":"B","a.jpg":["A","\"Q\""]}"#), expected);
        assert_eq!(
            images(
                r#"[{"image_name":"b.jpg","captions":["B"],"prediction":"x"},{"file_name":"a.jpg","caption":["A","\"Q\""]}]"#
            ),
            expected
        );
    }
}
