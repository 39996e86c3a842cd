//! COCO captions (Chen et al. 2015): `captions_train2014.json`, `captions_val2014.json` and those of 2017, and files of
//! a user's own in that form. The names of file and folders say the split.

use std::collections::BTreeMap;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::extras::add_captions;
use crate::annotations::format::{Format, Match};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::json::record::Record;
use crate::annotations::json::shape::JsonShape;
use crate::annotations::json::text::read_json;
use crate::annotations::json::walk::walk;
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::{RawDataset, Reject};
use crate::column_names::ColumnNames;
use crate::image_id::IdMap;
use base::error::failure;
use pixels::picture_formats::is_image_name;

pub(crate) static FORMAT: Format =
    Format { name: "coco-captions", description: "captions_*.json with images and annotations", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let source = candidates.source;
    let is_ours =
        |content: &Content| matches!(content, Content::Json(JsonShape::Document(document)) if document.is_coco());
    // The files of each year are a data set of their own.
    let mut of_year: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for file in candidates.files(is_ours) {
        let year = source.files()[file].name().chars().filter(char::is_ascii_digit).collect();
        of_year.entry(year).or_default().push(file);
    }
    // The usual folder of annotations holds both years: that one is meant whose images are there.
    let mut spare = Vec::new();
    if of_year.contains_key("2014") && of_year.contains_key("2017") {
        let images = |is_meant: fn(&str) -> bool| {
            !source.find(|file| is_image_name(&file.path) && is_meant(file.name())).is_empty()
        };
        let is_2014 = images(|name| name.starts_with("COCO_"));
        let is_2017 = images(|name| name.len() == 16 && name.bytes().take(12).all(|byte| byte.is_ascii_digit()));
        if is_2014 != is_2017 {
            let other = if is_2014 { "2017" } else { "2014" };
            spare = of_year.remove(other).unwrap_or_default();
        }
    }
    let found = |(year, files): (String, Vec<usize>)| {
        let is_official = ["2014", "2017"].contains(&year.as_str());
        Match::new(&FORMAT, is_official.then_some(KnownDataset::Coco), files)
    };
    let mut all: Vec<Match> = of_year.into_iter().map(found).collect();
    if let Some(first) = all.first_mut() {
        first.spare = spare;
    }
    Ok(all)
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(input.build(|builder, path, text| parse(builder, &files.file_of_folder(path), text))?.finish("coco"))
}

fn parse(builder: &mut Builder, file: &AnnotationFile<'_>, text: &str) -> anyhow::Result<()> {
    let (mut same, mut orphans) = (None, None);
    let names = builder.columns.clone();
    read_json(builder, file.path, text, |builder, text| {
        let mut set = Set {
            builder,
            file,
            text,
            of_id: IdMap::default(),
            same: None,
            without: (0, String::new()),
            listed: Vec::new(),
            num_found: 0,
            orphans: (0, Vec::new()),
        };
        let mut too_early = 0;
        walk(text, &names, &mut |place, record| match place.list {
            "images" if place.key.is_none() => set.image(&record),
            "" => {}
            _ if set.of_id.is_empty() => too_early += 1,
            _ => set.caption(&record),
        })?;
        // For files in which the images come after the captions.
        walk_again(text, &names, too_early, &mut |record| set.caption(record))?;
        set.note_those_without();
        orphans = set.describe_orphans();
        same = set.same;
        Ok(())
    })?;
    match same {
        Some(same) => {
            Err(failure(same, "give each image its own id: nothing else says which image a caption describes"))
        }
        None => orphans.map_or(Ok(()), |orphans| {
            Err(failure(orphans, "the image_id of each annotation must be the id of an image in the same file"))
        }),
    }
}

/// The first `count` captions.
fn walk_again(
    text: &str,
    names: &ColumnNames,
    count: usize,
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<(), serde_json::Error> {
    let mut left = count;
    if left == 0 {
        return Ok(());
    }
    walk(text, names, &mut |place, record| {
        if place.list != "images" && !place.list.is_empty() && left > 0 {
            left -= 1;
            each(&record);
        }
    })
    .map(drop)
}

/// Images and captions of a file.
struct Set<'b, 'f> {
    builder: &'b mut Builder,
    file: &'f AnnotationFile<'f>,
    text: &'f str,
    of_id: IdMap<usize>,
    /// Two images of one id.
    same: Option<String>,
    /// Annotations without a caption, and which image the first is of.
    without: (usize, String),
    /// The first two images.
    listed: Vec<String>,
    /// Captions whose image is listed.
    num_found: usize,
    /// Captions whose image is not, and the first two ids of such images.
    orphans: (usize, Vec<String>),
}

impl Set<'_, '_> {
    fn image(&mut self, record: &Record<'_>) {
        record.named.iter().for_each(|key| self.builder.hear(key));
        let path = self.file.path;
        let (Some(id), Some(name)) = (record.id_called("id").or(record.id()), record.image()) else {
            let what = format!("an image of {path}");
            self.builder.rejects.push(Reject::new(what, "it has no id or no file name"));
            return;
        };
        let image = self.file.image(self.builder, &name);
        if self.listed.len() < 2 {
            self.listed.push(format!("{id} ({name})"));
        }
        if record.split.is_some() {
            self.builder.split_as_written(image, record.split.as_deref(), None);
        } else if let Some((key, word)) = &record.maybe_split {
            self.builder.maybe_split(image, key, word);
        }
        self.builder.id(image, id.clone());
        if let Some(other) = self.of_id.insert(id, image).filter(|&other| other != image) {
            let (one, other) = (self.builder.reference(other), self.builder.reference(image));
            self.same.get_or_insert_with(|| format!("the images {one} and {other} of {path} have the same id {id}"));
        }
    }

    fn caption(&mut self, record: &Record<'_>) {
        record.named.iter().for_each(|key| self.builder.hear(key));
        let id = record.id();
        let captions = record.captions();
        if captions.is_empty() && record.odd.is_none() {
            if self.without.0 == 0 {
                self.without.1 = id.map_or_else(String::new, |id| format!(", first one of image {id}"));
            }
            self.without.0 += 1;
            return;
        }
        let image = id.and_then(|id| self.of_id.get(id));
        match image {
            Some(_) => self.num_found += 1,
            None => {
                self.orphans.0 += 1;
                let id = id.map_or_else(|| "none".to_owned(), ToString::to_string);
                if self.orphans.1.len() < 2 && !self.orphans.1.contains(&id) {
                    self.orphans.1.push(id);
                }
            }
        }
        let reason = match (image, record.odd) {
            (Some(image), None) => {
                add_captions(self.builder, image, record, self.file.path, self.text);
                return;
            }
            (Some(_), Some(odd)) => format!("it is {odd}, not a text"),
            (None, _) => format!("{} lists no such image", self.file.path),
        };
        let what = match id {
            Some(id) => format!("a caption of image {id}"),
            None => "a caption without an image".to_owned(),
        };
        self.builder.rejects.push(Reject::new(what, reason));
    }

    /// What is wrong where no caption is of an image that is listed.
    fn describe_orphans(&self) -> Option<String> {
        let (count, ids) = &self.orphans;
        (*count > 0 && self.num_found == 0).then(|| {
            format!(
                "none of the {count} captions of {} is of an image that it lists: their image_id is {}, the ids of its \
                 images are {}",
                self.file.path,
                ids.join(" and "),
                self.listed.join(" and ")
            )
        })
    }

    fn note_those_without(&mut self) {
        let (count, first) = &self.without;
        if *count > 0 {
            let what = format!("{count} annotations of {}", self.file.path);
            self.builder.rejects.push(Reject::new(what, format!("they have no caption{first}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_id::ImageId;
    use crate::prepared::Split;
    use base::error::describe;

    #[test]
    fn annotations_find_their_images_by_number_and_the_name_says_the_split() {
        let text = r#"{"info":{},"images":[{"id":9,"file_name":"000000000009.jpg","height":1,"width":2},{"id":7,"file_name":"x.jpg"}],
            "licenses":[],"annotations":[{"id":1,"image_id":9,"caption":"A \"bowl\"."},{"id":2,"image_id":9,"caption":"Two"},
            {"id":3,"image_id":8,"caption":"Nobody"},{"id":4,"image_id":7,"bbox":[]}]}"#;
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("annotations/captions_val2017.json"), text).unwrap();
        let raw = builder.finish("coco");
        assert_eq!(raw.images.len(), 1);
        assert_eq!(raw.images[0].captions, ["A \"bowl\".", "Two"]);
        assert_eq!((raw.images[0].split, &raw.images[0].cocoid), (Some(Split::Val), &Some(ImageId::Natural(9))));
        let rejects: Vec<&str> = raw.rejects.iter().map(|reject| reject.what.as_str()).collect();
        assert_eq!(rejects, ["a caption of image 8", "1 annotations of annotations/captions_val2017.json", "x.jpg"]);
    }

    fn read(ids: [&str; 3], image_ids: [&str; 3]) -> anyhow::Result<Vec<(String, String)>> {
        let list = |objects: [String; 3]| objects.join(",");
        let images = [0, 1, 2].map(|place| format!(r#"{{"file_name":"{place}.jpg","id":{}}}"#, ids[place]));
        let captions =
            [0, 1, 2].map(|place| format!(r#"{{"caption":"{place}","id":9,"image_id":{}}}"#, image_ids[place]));
        let (captions, images) = (list(captions), list(images));
        let text = format!(r#"{{"annotations":[{captions}],"images":[{images}],"captions":[{{"image_id":8}}]}}"#);
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("c.json"), &text)?;
        Ok(builder.finish("").images.into_iter().map(|image| (image.filename, image.captions.join("|"))).collect())
    }

    #[test]
    fn ids_are_keys_whatever_they_are() {
        let expected = [0, 1, 2].map(|place| (format!("{place}.jpg"), place.to_string()));
        for (ids, image_ids) in [
            (["1.0", "2.0", "3.0"], ["1", "2", "3"]),
            (["\"a\"", "\"b\"", "\"c d\""], ["\"a\"", "\"b\"", "\"c d\""]),
            (["1", "\"2\"", "3"], ["\"1\"", "2", "\"3.0\""]),
            (["-1", "0", "1"], ["-1", "0", "1"]),
            (["\"0001\"", "\"0002\"", "\"0003\""], ["1", "2", "3"]),
            (
                ["123456789012345678901", "123456789012345678902", "123456789012345678903"],
                ["\"123456789012345678901\"", "123456789012345678902", "123456789012345678903.0"],
            ),
            (["0.5", "1e2", "1E3"], ["0.5", "100", "1000"]),
        ] {
            assert_eq!(read(ids, image_ids).unwrap(), expected, "{ids:?}");
        }
    }

    #[test]
    fn two_images_of_one_id_are_an_error_that_names_both() {
        for ids in [["1", "2", "1"], ["1", "2", "1.0"], ["\"x\"", "2", "\"x\""], ["7", "2", "\"7\""]] {
            let text = describe(&read(ids, ["2", "2", "2"]).unwrap_err());
            assert!(text.contains("the images 0.jpg and 2.jpg of c.json have the same id"), "{text}");
            assert!(text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn ids_that_fit_no_image_are_an_error_that_shows_those_of_both_sides() {
        let text = describe(&read(["1", "2", "3"], ["1001", "1002", "\"x\""]).unwrap_err());
        let expected = "none of the 3 captions of c.json is of an image that it lists: their image_id is 1001 and 1002, \
                        the ids of its images are 1 (0.jpg) and 2 (1.jpg)";
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
    }

    #[test]
    fn annotations_that_are_boxes_are_counted() {
        let text = r#"{"images":[{"id":1,"file_name":"a.jpg"}],"annotations":[{"image_id":1,"bbox":[1]},
            {"image_id":1,"caption":"A"},{"image_id":1,"caption":null},{"image_id":1,"caption":4}]}"#;
        let mut builder = Builder::default();
        parse(&mut builder, &AnnotationFile::single("c.json"), text).unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["A"]);
        let rejects: Vec<String> =
            raw.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
        let expected = [
            "a caption of image 1: it is a number, not a text",
            "2 annotations of c.json: they have no caption, first one of image 1",
        ];
        assert_eq!(rejects, expected);
    }
}
