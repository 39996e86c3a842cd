//! `dataset_flickr8k.json`, `dataset_flickr30k.json` and `dataset_coco.json` as Karpathy and Fei-Fei (2015) distribute
//! them, and files of your own in that schema. COCO's add `filepath` and `cocoid`; `restval` is training data.

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::extras::add_captions;
use crate::annotations::format::{Format, Match};
use crate::annotations::input::Input;
use crate::annotations::json::shape::JsonShape;
use crate::annotations::json::text::read_json;
use crate::annotations::json::walk::walk;
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::{RawDataset, Reject};
use crate::image_id::ImageId;

pub(crate) static FORMAT: Format =
    Format { name: "karpathy", description: "dataset_*.json in Karpathy's schema", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours =
        |content: &Content| matches!(content, Content::Json(JsonShape::Document(document)) if document.is_karpathy());
    let of_file = |file: usize| {
        let dataset = KnownDataset::of_path(candidates.source.files()[file].name());
        Match::new(&FORMAT, dataset, vec![file])
    };
    Ok(candidates.files(is_ours).into_iter().map(of_file).collect())
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let mut name = String::new();
    let read = |builder: &mut Builder, path: &str, text: &str| {
        name = parse(builder, path, text)?;
        Ok(())
    };
    let builder = input.build(read)?;
    Ok(builder.finish(&name))
}

fn parse(builder: &mut Builder, path: &str, text: &str) -> anyhow::Result<String> {
    let (mut name, mut position) = (String::new(), 0);
    let names = builder.columns.clone();
    read_json(builder, path, text, |builder, text| {
        walk(text, &names, &mut |place, record| {
            record.named.iter().for_each(|key| builder.hear(key));
            if place.key == Some("dataset") {
                name = record.captions().concat();
            }
            if place.list != "images" || place.key.is_some() {
                return;
            }
            position += 1;
            let Some(reference) = record.image() else {
                let what = format!("image {} of {path}", position - 1);
                builder.rejects.push(Reject::new(what, "it has no file name"));
                return;
            };
            let image = builder.image(&reference);
            builder.split_as_written(image, record.split.as_deref(), None);
            if let Some((key, word)) = record.maybe_split.as_ref().filter(|_| record.split.is_none()) {
                builder.maybe_split(image, key, word);
            }
            // `evaluate` calls an image by its `imgid` or its place where it has no id in COCO.
            let is_scored = builder.reading != Reading::Preparation;
            let other = || record.id_called("imgid").cloned().unwrap_or(ImageId::Natural(position - 1));
            let id = record.id_called("cocoid").cloned().or_else(|| is_scored.then(other));
            if let Some(id) = id {
                builder.id(image, id);
            }
            add_captions(builder, image, &record, path, text);
        })
        .map(drop)
    })?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;
    use base::error::describe;

    #[test]
    fn the_file_of_coco_is_read_with_its_folders_numbers_and_restval() {
        let text = r#"{"dataset":"coco","images":[
            {"filepath":"val2014","filename":"COCO_val2014_000000391895.jpg","imgid":0,"split":"restval","cocoid":391895,
             "sentids":[0,1],"sentences":[{"tokens":["a","man"],"raw":"A man.","imgid":0,"sentid":0},{"tokens":["two","men"]}]},
            {"filename":"b.jpg","split":"odd","sentences":[{"raw":"B"}]},
            {"filename":"c.jpg","split":"test","sentences":[]}]}"#;
        let mut builder = Builder::default();
        let name = parse(&mut builder, "dataset_coco.json", text).unwrap();
        let raw = builder.finish(&name);
        assert_eq!((raw.name.as_str(), raw.images.len()), ("coco", 2));
        assert_eq!(raw.images[0].filename, "val2014/COCO_val2014_000000391895.jpg");
        assert_eq!(raw.images[0].captions, ["A man.", "two men"]);
        assert_eq!(
            (raw.images[0].split, raw.images[0].cocoid.clone()),
            (Some(Split::Train), Some(ImageId::Natural(391_895)))
        );
        assert_eq!(raw.images[1].split, None);
        assert!(raw.repairs[0].repair.contains(r#""odd""#));
        assert_eq!(raw.rejects[0].what, "c.jpg");
    }

    #[test]
    fn a_cut_file_is_named() {
        let text = describe(&parse(&mut Builder::default(), "dataset.json", "{\"images\":[").unwrap_err());
        assert!(text.contains("dataset.json cannot be read: it is cut off: it ends at byte 11"), "{text}");
        assert!(text.contains("hint: "), "{text}");
    }
}
