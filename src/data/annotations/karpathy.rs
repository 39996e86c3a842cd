//! `dataset_flickr8k.json`, `dataset_flickr30k.json` and `dataset_coco.json` as Karpathy and Fei-Fei (2015) distribute
//! them, and files of a person's own in that schema. COCO's add `filepath` and `cocoid`; `restval` is training data.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::data::annotations::builder::Builder;
use crate::data::annotations::json_shape::{JsonFile, JsonShape};
use crate::data::annotations::text::{json, split_of_word};
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset, Repair};
use crate::data::source::Source;

pub(super) fn find(source: &Source, json: &[JsonFile]) -> Vec<Found> {
    let is_ours = |shape: &JsonShape| match shape {
        JsonShape::Object { image_keys, .. } => image_keys.iter().any(|key| key == "sentences"),
        JsonShape::List(_) | JsonShape::Other => false,
    };
    json.iter()
        .filter(|(_, shape)| is_ours(shape))
        .map(|&(file, _)| Found::new(Format::Karpathy, KnownDataset::of_path(source.files()[file].name()), vec![file]))
        .collect()
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    let mut builder = Builder::default();
    let mut name = String::new();
    for &file in files {
        name = parse(&mut builder, &source.files()[file].path, &source.read(file)?)?;
    }
    Ok(builder.finish(&name))
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    dataset: String,
    #[serde(borrow)]
    images: Vec<Image<'a>>,
}

#[derive(Deserialize)]
struct Image<'a> {
    filename: String,
    #[serde(default)]
    filepath: Option<String>,
    #[serde(default)]
    split: Option<String>,
    #[serde(default)]
    cocoid: Option<u64>,
    #[serde(borrow)]
    sentences: Vec<Sentence<'a>>,
}

#[derive(Deserialize)]
struct Sentence<'a> {
    #[serde(borrow, default)]
    raw: Option<Cow<'a, str>>,
    /// As they stand in the file: read one by one they would take several times the room of the captions.
    #[serde(borrow, default)]
    tokens: Option<&'a RawValue>,
}

fn parse(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<String> {
    let form = r#"{"images": [{"filename", "split", "sentences": [{"raw"}]}]}"#;
    let file: File<'_> = json(path, bytes, form)?;
    for image in file.images {
        let reference = match &image.filepath {
            Some(folder) if !folder.is_empty() => format!("{folder}/{}", image.filename),
            _ => image.filename.clone(),
        };
        let index = builder.image(&reference);
        match image.split.as_deref().map(|word| (word, split_of_word(word))) {
            Some((_, Some(split))) => builder.split(index, split),
            Some((word, None)) => {
                let note = format!("split {word:?} is none of train, restval, val, test: counted as without a split");
                builder.repairs.push(Repair::new(reference, note));
            }
            None => {}
        }
        if let Some(cocoid) = image.cocoid {
            builder.cocoid(index, cocoid);
        }
        for sentence in image.sentences {
            let tokens = || sentence.tokens.and_then(|tokens| serde_json::from_str::<Vec<String>>(tokens.get()).ok());
            let raw = sentence.raw.or_else(|| Some(tokens()?.join(" ").into()));
            builder.caption(index, None, raw.as_deref().unwrap_or_default());
        }
    }
    Ok(file.dataset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;
    use crate::data::dataset::Split;

    #[test]
    fn the_file_of_coco_is_read_with_its_folders_numbers_and_restval() {
        let text = r#"{"dataset":"coco","images":[
            {"filepath":"val2014","filename":"COCO_val2014_000000391895.jpg","imgid":0,"split":"restval","cocoid":391895,
             "sentids":[0,1],"sentences":[{"tokens":["a","man"],"raw":"A man.","imgid":0,"sentid":0},{"tokens":["two","men"]}]},
            {"filename":"b.jpg","split":"odd","sentences":[{"raw":"B"}]},
            {"filename":"c.jpg","split":"test","sentences":[]}]}"#;
        let mut builder = Builder::default();
        let name = parse(&mut builder, "dataset_coco.json", text.as_bytes()).unwrap();
        let raw = builder.finish(&name);
        assert_eq!((raw.name.as_str(), raw.images.len()), ("coco", 2));
        assert_eq!(raw.images[0].filename, "val2014/COCO_val2014_000000391895.jpg");
        assert_eq!(raw.images[0].captions, ["A man.", "two men"]);
        assert_eq!((raw.images[0].split, raw.images[0].cocoid), (Some(Split::Train), Some(391_895)));
        assert_eq!(raw.images[1].split, None);
        assert!(raw.repairs[0].repair.contains(r#""odd""#));
        assert_eq!(raw.rejects[0].what, "c.jpg");
    }

    #[test]
    fn a_cut_file_is_named() {
        let text = describe(&parse(&mut Builder::default(), "dataset.json", b"{\"images\":[").unwrap_err());
        assert!(text.contains("dataset.json") && text.contains("hint: expected"), "{text}");
    }
}
