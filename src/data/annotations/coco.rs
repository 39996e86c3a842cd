//! COCO captions (Chen et al. 2015): `captions_train2014.json`, `captions_val2014.json` and those of 2017, and files of a
//! person's own in that form. The names of file and folders tell the split.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use crate::data::annotations::builder::Builder;
use crate::data::annotations::json_shape::{JsonFile, JsonShape};
use crate::data::annotations::text::{json, split_of_path};
use crate::data::annotations::{Format, Found, KnownDataset, RawDataset, Reject};
use crate::data::source::{Source, is_image_name};

pub(super) fn find(source: &Source, json: &[JsonFile]) -> Vec<Found> {
    // The files of each year are a data set of their own.
    let mut of_year: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (file, shape) in json {
        let JsonShape::Object { image_keys, annotation_keys, .. } = shape else { continue };
        let has = |keys: &[String], wanted: &str| keys.iter().any(|key| key == wanted);
        if has(annotation_keys, "caption") && has(image_keys, "file_name") {
            let name = source.files()[*file].name();
            let year = name.chars().filter(char::is_ascii_digit).collect();
            of_year.entry(year).or_default().push(*file);
        }
    }
    // The usual folder of annotations holds both years: that one is meant whose images are there.
    if of_year.contains_key("2014") && of_year.contains_key("2017") {
        let images = |is_meant: fn(&str) -> bool| {
            !source.find(|file| is_image_name(&file.path) && is_meant(file.name())).is_empty()
        };
        let is_2014 = images(|name| name.starts_with("COCO_"));
        let is_2017 = images(|name| name.len() == 16 && name.bytes().take(12).all(|byte| byte.is_ascii_digit()));
        of_year.retain(|year, _| !(year == "2017" && is_2014 && !is_2017 || year == "2014" && is_2017 && !is_2014));
    }
    let found = |(year, files): (String, Vec<usize>)| {
        let is_official = ["2014", "2017"].contains(&year.as_str());
        Found::new(Format::Coco, is_official.then_some(KnownDataset::Coco), files)
    };
    of_year.into_iter().map(found).collect()
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    let paths: HashSet<&str> =
        source.files().iter().map(|file| file.path.as_str()).filter(|path| is_image_name(path)).collect();
    let parse = |builder: &mut Builder, path: &str, bytes: &[u8]| parse(builder, &paths, path, bytes);
    Ok(Builder::read(source, files, parse)?.finish(""))
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    images: Vec<Image<'a>>,
    #[serde(borrow)]
    annotations: Vec<Annotation<'a>>,
}

#[derive(Deserialize)]
struct Image<'a> {
    id: u64,
    #[serde(borrow)]
    file_name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    image_id: u64,
    #[serde(borrow, default)]
    caption: Option<Cow<'a, str>>,
}

fn parse(builder: &mut Builder, paths: &HashSet<&str>, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let form = r#"{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}"#;
    let file: File<'_> = json(path, bytes, form)?;
    let (split, folder) = (split_of_path(path), path.rsplit_once('/').map_or("", |(folder, _)| folder));
    let mut of_id: HashMap<u64, usize> = HashMap::with_capacity(file.images.len());
    for image in &file.images {
        // Where the image lies beside the file, one of that name elsewhere is not meant.
        let beside = format!("{folder}/{}", image.file_name);
        let index = builder.image(if paths.contains(beside.as_str()) { &beside } else { &image.file_name });
        builder.cocoid(index, image.id);
        if let Some(split) = split {
            builder.split(index, split);
        }
        of_id.insert(image.id, index);
    }
    for annotation in &file.annotations {
        let what = || format!("a caption of image {}", annotation.image_id);
        match (of_id.get(&annotation.image_id), &annotation.caption) {
            (Some(&image), Some(caption)) => builder.caption(image, None, caption),
            (None, _) => builder.rejects.push(Reject::new(what(), format!("{path} lists no such image"))),
            (_, None) => builder.rejects.push(Reject::new(what(), "the annotation has no caption")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Split;

    #[test]
    fn annotations_find_their_images_by_number_and_the_name_tells_the_split() {
        let text = r#"{"info":{},"images":[{"id":9,"file_name":"000000000009.jpg","height":1,"width":2},{"id":7,"file_name":"x.jpg"}],
            "licenses":[],"annotations":[{"id":1,"image_id":9,"caption":"A \"bowl\"."},{"id":2,"image_id":9,"caption":"Two"},
            {"id":3,"image_id":8,"caption":"Nobody"},{"id":4,"image_id":7,"bbox":[]}]}"#;
        let mut builder = Builder::default();
        parse(&mut builder, &HashSet::new(), "annotations/captions_val2017.json", text.as_bytes()).unwrap();
        let raw = builder.finish("coco");
        assert_eq!(raw.images.len(), 1);
        assert_eq!(raw.images[0].captions, ["A \"bowl\".", "Two"]);
        assert_eq!((raw.images[0].split, raw.images[0].cocoid), (Some(Split::Val), Some(9)));
        let rejects: Vec<&str> = raw.rejects.iter().map(|reject| reject.what.as_str()).collect();
        assert_eq!(rejects, ["a caption of image 8", "a caption of image 7", "x.jpg"]);
    }
}
