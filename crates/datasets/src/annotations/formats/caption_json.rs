//! JSON from images to captions: an object from images (file names, or their ids) to a caption, a list of them or an
//! object that holds them; a list of objects that name an image and its captions, also under a key such as `data`, or
//! `train` and `val`; the columns of a table, as pandas writes them.
//!
//! Also JSON Lines, and the JSON of BLIP and LAVIS (Li et al. 2022): `flickr30k_train.json`, a list of `{"image",
//! "caption", "image_id"}` with an entry for each caption, and `flickr30k_val.json` and `flickr30k_test.json`, where
//! `caption` is a list.

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::extras::add_captions;
use crate::annotations::format::{Certainty, Format, Match, by_family, grouped};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::json::columns::rows;
use crate::annotations::json::record::{ListSummary, Record};
use crate::annotations::json::shape::{Document, JsonShape};
use crate::annotations::json::text::read_json;
use crate::annotations::json::walk::{Position, walk, walk_lines};
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::{RawDataset, Reject, Repair};
use crate::annotations::split_names::split_of_word;
use pixels::picture_formats::is_image_name;

pub(crate) static FORMAT: Format = Format {
    name: "json",
    description: "a JSON object from image to caption, or a JSON list of objects with an image and its captions",
    find,
    read,
};

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let certainty = |content: &Content| match content {
        Content::Json(JsonShape::Document(document)) => certainty(candidates, document),
        _ => None,
    };
    let files = candidates.files(|content| certainty(content).is_some());
    let of_file = |file| candidates.content(file).and_then(certainty).unwrap_or(Certainty::Near);
    Ok(grouped(candidates, &FORMAT, files, of_file))
}

fn certainty(candidates: &Candidates<'_>, document: &Document) -> Option<Certainty> {
    const NAMES: [&str; 3] = ["image_name", "file_name", "filename"];
    let entries = &document.entries;
    let is_usual = |list: &ListSummary| list.has_key(&NAMES) && list.has_key(&["captions", "caption"]);
    // Other files hold texts under names too: here the names are those of images, or of files that are there.
    let starts_with_image = || entries.keys.first().is_some_and(|key| is_image_name(key));
    let is_of_images = || starts_with_image() || entries.keys.iter().any(|key| candidates.has_image(key));
    let all_have_captions = entries.count > 0 && entries.with_captions == entries.count;
    if document.list("").is_some_and(is_usual) || entries.with_captions > 0 && is_of_images() {
        Some(Certainty::Sure)
    } else {
        let is_near = document.first_image().is_some_and(|image| candidates.is_image(image))
            || document.first_of_table.as_ref().is_some_and(|image| candidates.is_image(image))
            // Ids of images that are not listed.
            || candidates.is_alone && all_have_captions && document.lists.is_empty();
        is_near.then_some(Certainty::Near)
    }
}

pub(crate) fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

fn parse(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    let names = builder.columns.clone();
    read_json(builder, file.path, text, |builder, text| {
        let mut entries = EntryReader::new(builder, file, text);
        let JsonShape::Document(document) = JsonShape::of(text, &names)? else { return Ok(()) };
        if document.first_image().is_none() && document.first_of_table.is_some() {
            rows(text, &names).iter().for_each(|record| entries.add(Position::default(), record));
            return Ok(());
        }
        // Beside a list of captions a file may say other things under keys.
        let is_list = document.lists.iter().any(|(_, seen)| seen.is_complete());
        let is_meant = |place: &Position<'_>| !is_list || place.key.is_none_or(is_image_name);
        walk(text, &names, &mut |place, record| {
            if is_meant(&place) {
                entries.add(place, &record);
            }
        })
        .map(drop)
    })
}

/// Adds what a file says, object by object.
pub(crate) struct EntryReader<'b, 'f> {
    builder: &'b mut Builder,
    file: &'f AnnotationFile<'f>,
    /// The file's.
    text: &'f str,
    count: usize,
}

impl<'b, 'f> EntryReader<'b, 'f> {
    pub(crate) fn new(builder: &'b mut Builder, file: &'f AnnotationFile<'f>, text: &'f str) -> Self {
        Self { builder, file, text, count: 0 }
    }

    /// Adds an image with its captions. Its key counts as its name where it has no other; a key around it that is the
    /// name of a split is its split.
    pub(crate) fn add(&mut self, place: Position<'_>, record: &Record<'_>) {
        self.count += 1;
        record.named.iter().for_each(|key| self.builder.hear(key));
        let (builder, file) = (&mut *self.builder, self.file);
        // Beside the captions a file may say other things.
        let is_other = !record.has.captions && record.prediction.is_none() && record.references.is_empty();
        if is_other && (place.key.is_some() || !record.has.name && !record.has.id) {
            return;
        }
        let what = || format!("entry {} of {}", self.count - 1, file.path);
        let Some(name) = record.image().or(place.key.map(Into::into)) else {
            builder.rejects.push(Reject::new(what(), "it names no image"));
            return;
        };
        let image = builder.image(&file.reference(&name));
        let own = record.split.as_deref().or(Some(place.list).filter(|list| split_of_word(list).is_some()));
        builder.split_as_written(image, own, file.split);
        if let Some((key, word)) = record.maybe_split.as_ref().filter(|_| own.is_none()) {
            builder.maybe_split(image, key, word);
        }
        if let Some(odd) = record.odd {
            builder.rejects.push(Reject::new(format!("a caption of {name}"), format!("it is {odd}, not a text")));
        }
        if builder.reading != Reading::Preparation
            && let Some(id) = record.id()
        {
            builder.id(image, id.clone());
        }
        let captions = match builder.reading {
            Reading::Preparation => {
                add_captions(builder, image, record, file.path, self.text);
                return;
            }
            Reading::Candidates => record.candidates(),
            Reading::References => record.inline_references().unwrap_or_else(|| record.captions()),
        };
        captions.into_iter().for_each(|caption| builder.caption(image, None, caption));
        if builder.reading == Reading::Candidates && record.inline_references().is_some() {
            builder.repairs.push(Repair::new(what(), "the references beside its caption are not used"));
        }
    }
}

pub(crate) static JSON_LINES: Format = Format {
    name: "jsonl",
    description: "JSON Lines of objects with an image and its captions, in a file of any name",
    find: find_lines,
    read: read_lines,
};

fn find_lines(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours = |content: &Content| match content {
        Content::Json(JsonShape::Lines(seen)) => {
            seen.is_complete() && seen.first_image.as_ref().is_some_and(|image| candidates.is_image(image))
        }
        _ => false,
    };
    Ok(grouped(candidates, &JSON_LINES, candidates.files(is_ours), |_| Certainty::Near))
}

fn read_lines(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse_lines(builder, &files.file(path), text))?.finish(""))
}

pub(crate) fn parse_lines(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    let names = builder.columns.clone();
    read_json(builder, file.path, text, |builder, text| {
        let mut entries = EntryReader::new(builder, file, text);
        walk_lines(text, &names, |record| entries.add(Position::default(), &record))
    })
}

pub(crate) static BLIP: Format =
    Format { name: "blip", description: "a JSON list of {\"image\", \"caption\"}", find: find_blip, read };

fn find_blip(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let is_ours = |content: &Content| match content {
        Content::Json(JsonShape::Document(document)) => {
            document.list("").is_some_and(|list| list.has_key(&["image"]) && list.has_key(&["caption"]))
        }
        _ => false,
    };
    let files = candidates.files(is_ours);
    let mut all = by_family(candidates, &BLIP, files, |_| Certainty::Sure);
    for found in &mut all {
        found.dataset = KnownDataset::of_path(&candidates.source.files()[found.files[0]].path);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;

    fn images(text: &str) -> Vec<(String, Vec<String>)> {
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("c.json"), text).unwrap();
        builder.finish("").images.into_iter().map(|image| (image.filename, image.captions)).collect()
    }

    #[test]
    fn lists_of_blip_have_a_caption_in_each_object_or_a_list_of_them() {
        let mut builder = Builder::default();
        let train = r#"[{"image":"flickr30k-images/1.jpg","caption":"A","image_id":0},
            {"image":"flickr30k-images/1.jpg","caption":"B \u00e9","image_id":0}]"#;
        parse(&mut builder, &AnnotationFile::single("flickr30k_train.json"), train).unwrap();
        let val = r#"[{"image":"flickr30k-images/2.jpg","caption":["C","D"]}]"#;
        parse(&mut builder, &AnnotationFile::single("flickr30k_val.json"), val).unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["A", "B é"]);
        assert_eq!(raw.images[1].captions, ["C", "D"]);
        assert_eq!((raw.images[0].split, raw.images[1].split), (Some(Split::Train), Some(Split::Val)));
        assert_eq!(raw.images[0].cocoid, None, "numbers of a file of its own");
    }

    #[test]
    fn images_and_captions_are_read_wherever_they_stand() {
        for text in [
            r#"[{"image":"b.jpg","text":"B"},{"image":"a.jpg","text":["A","C"]}]"#,
            r#"[["b.jpg","B"],["a.jpg","A","C"]]"#,
            r#"[{"b.jpg":"B"},{"a.jpg":["A","C"]}]"#,
            r#"{"version":1,"data":[{"File Name":"b.jpg","Caption":"B"},{"File Name":"a.jpg","Caption":"['A', 'C']"}]}"#,
            r#"{"annotations":[{"image":"b.jpg","caption":"B"},{"image":"a.jpg","caption":"A"},{"image":"a.jpg","caption":"C"}]}"#,
            r#"{"images":{"b.jpg":"B","a.jpg":["A","C"]}}"#,
            r#"{"b.jpg":{"caption":"B","tags":"x, y"},"a.jpg":{"captions":["A","C"]}}"#,
            r#"{"b.jpg":[{"raw":"B"}],"a.jpg":[{"raw":"A"},{"raw":"C"}]}"#,
            r#"{"0":{"path":"b.jpg","caption":"B"},"1":{"path":"a.jpg","caption_0":"A","caption_1":"C"}}"#,
            r#"{"pairs":[{"img":"b.jpg","sentence":"B"},{"img":"a.jpg","sentences":["A","C"]}],"n":2}"#,
            r#"{"image":{"0":"b.jpg","1":"a.jpg"},"caption":{"0":"B","1":["A","C"]}}"#,
            r#"{"columns":["caption","image"],"data":[["B","b.jpg"],["A","a.jpg"],["C","a.jpg"]]}"#,
        ] {
            let expected =
                [("b.jpg".to_owned(), vec!["B".to_owned()]), ("a.jpg".to_owned(), vec!["A".into(), "C".into()])];
            assert_eq!(images(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_that_are_splits_are_those_of_what_is_under_them() {
        for text in [
            r#"{"train":[{"image":"a","caption":"A"}],"validation":[{"image":"b","caption":"B"}]}"#,
            r#"{"train":{"a":"A"},"val":{"b":["B"]}}"#,
        ] {
            let mut builder = Builder::default();
            parse(&mut builder, &AnnotationFile::single("c.json"), text).unwrap();
            let splits: Vec<_> = builder.finish("").images.into_iter().map(|image| image.split).collect();
            assert_eq!(splits, [Some(Split::Train), Some(Split::Val)], "{text}");
        }
    }

    #[test]
    fn what_is_not_a_caption_and_what_names_no_image_is_reported() {
        let mut builder = Builder::default();
        let text = r#"[{"image":"a.jpg","caption":3},{"caption":"B"},{"image":"c.jpg","caption":NaN},{"image":"d.jpg"},{"n":1}]"#;
        parse(&mut builder, &AnnotationFile::single("c.json"), text).unwrap();
        let raw = builder.finish("");
        let rejects: Vec<String> =
            raw.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
        let empty = |name: &str| format!("{name}: has no caption left");
        let expected = [
            "a caption of a.jpg: it is a number, not a text".to_owned(),
            "entry 1 of c.json: it names no image".to_owned(),
            empty("a.jpg"),
            empty("c.jpg"),
            empty("d.jpg"),
        ];
        assert_eq!(rejects, expected);
        assert!(raw.repairs[0].repair.contains("NaN or Infinity") && raw.repairs[0].what == "c.json", "{raw:?}");
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
