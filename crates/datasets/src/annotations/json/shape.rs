//! What a JSON file is about, judged by its keys without keeping its content.

use crate::annotations::json::columns::{is_table, rows};
use crate::annotations::json::record::{ListSummary, Record};
use crate::annotations::json::walk::{IsAll, Position, walk, walk_lines};
use crate::annotations::split_names::split_of_word;
use crate::column_names::ColumnNames;
use pixels::picture_formats::is_image_name;

/// Keys of entries that are kept.
const MAX_KEYS: usize = 20;
/// Lists that are kept.
const MAX_LISTS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JsonShape {
    /// One value.
    Document(Document),
    /// Objects one after the other, as in JSON Lines; what they contain.
    Lines(ListSummary),
}

/// A list, or an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// What the elements of lists hold, by the key of the list; the whole document has an empty one.
    pub(crate) lists: Vec<(String, ListSummary)>,
    /// What has a key of its own.
    pub(crate) entries: KeyedEntries,
    /// The first image of a table, where the keys are its columns.
    pub(crate) first_of_table: Option<String>,
    /// What the top-level keys say.
    whole: ListSummary,
}

/// The entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyedEntries {
    pub(crate) keys: Vec<String>,
    /// How many values there are, elements of lists counted each.
    pub(crate) count: usize,
    /// How many of them are captions, or objects with captions.
    pub(crate) with_captions: usize,
    /// How many of them name an image too, and the first such image.
    pub(crate) complete: usize,
    pub(crate) first_image: Option<String>,
    /// How many of them have the name of an image as their key.
    pub(crate) under_image_names: usize,
}

impl JsonShape {
    /// `names` are what the user calls keys.
    pub(crate) fn of(text: &str, names: &ColumnNames) -> Result<Self, serde_json::Error> {
        let mut document = Document::default();
        if walk(text, names, &mut |place, record| document.add(place, record))? == IsAll(false) {
            let mut seen = ListSummary::default();
            walk_lines(text, names, |record| seen.add(&record))?;
            return Ok(Self::Lines(seen));
        }
        // A file of JSON Lines may have one line.
        if text.trim_start().starts_with('{') {
            let whole = Record::parse(text, names)?;
            document.whole = ListSummary::of(&whole);
            if whole.has.name && whole.has.captions && !whole.is_lone {
                return Ok(Self::Lines(document.whole));
            }
            if is_table(&document.whole.keys, names) {
                let first = rows(text, names).into_iter().find(|row| row.has.both());
                document.first_of_table = first.and_then(|row| row.surely_image().map(str::to_owned));
            }
        }
        Ok(Self::Document(document))
    }
}

impl Document {
    fn add(&mut self, place: Position<'_>, record: Record<'_>) {
        let Some(key) = place.key else {
            let known = self.lists.iter().position(|(name, _)| name == place.list);
            match known {
                Some(known) => self.lists[known].1.add(&record),
                None if self.lists.len() < MAX_LISTS => {
                    self.lists.push((place.list.to_owned(), ListSummary::of(&record)));
                }
                None => {}
            }
            return;
        };
        let entries = &mut self.entries;
        entries.count += 1;
        entries.with_captions += usize::from(record.has.captions);
        entries.complete += usize::from(record.has.both());
        if record.has.both() {
            let first = || record.surely_image().map(str::to_owned);
            entries.first_image = entries.first_image.take().or_else(first);
        }
        entries.under_image_names += usize::from(is_image_name(key));
        if entries.keys.len() < MAX_KEYS && !entries.keys.iter().any(|known| known == key) {
            entries.keys.push(key.to_owned());
        }
    }

    /// What the elements of the list under `name` contain.
    pub(crate) fn list(&self, name: &str) -> Option<&ListSummary> {
        self.lists.iter().find(|(known, _)| known == name).map(|(_, seen)| seen)
    }

    /// The list `images` of a file in COCO's form, where captions are elsewhere.
    fn images(&self) -> Option<&ListSummary> {
        self.list("images").filter(|images| images.has.name && images.has.weak_id && !images.has.captions)
    }

    /// Whether images are in one list, and captions in another.
    pub(crate) fn is_coco(&self) -> bool {
        let has_captions = |(name, seen): &(String, ListSummary)| name != "images" && seen.has.id && seen.has.captions;
        self.images().is_some() && self.lists.iter().any(has_captions)
    }

    /// Whether there are images with their sentences in them.
    pub(crate) fn is_karpathy(&self) -> bool {
        self.list("images").is_some_and(|images| images.has.name && images.has.sentences)
    }

    /// The first image of a list in which images and their captions are together, or of an object whose values have
    /// both.
    pub(crate) fn first_image(&self) -> Option<&str> {
        let KeyedEntries { count, complete, first_image, .. } = &self.entries;
        let is_object = self.images().is_none() && 2 * complete >= *count;
        let of_list =
            self.lists.iter().find(|(_, seen)| seen.is_complete()).and_then(|(_, seen)| seen.first_image.as_ref());
        of_list.or(first_image.as_ref().filter(|_| is_object)).map(String::as_str)
    }

    /// What such a file resembles and what it lacks, in words.
    pub(crate) fn explain(&self) -> String {
        let quoted = |keys: &[String]| {
            let shown: Vec<&str> = keys.iter().take(6).map(String::as_str).collect();
            shown.join(", ")
        };
        if self.images().is_some() {
            return "it lists images as COCO's files do, but no captions for them".to_owned();
        }
        let largest = self.lists.iter().find(|(_, seen)| seen.has.captions || seen.has.name || seen.has.id);
        if let Some((name, seen)) = largest.or(self.lists.first()) {
            if seen.keys.is_empty() && self.lists.iter().all(|(name, _)| split_of_word(name).is_some()) {
                return "a JSON object from splits to names of images, without captions".to_owned();
            }
            if seen.keys.is_empty() {
                return "a JSON list without objects".to_owned();
            }
            let place = if name.is_empty() { String::new() } else { format!(" under {name:?}") };
            return format!("a JSON list{place} of objects with the keys {}: {}", quoted(&seen.keys), seen.lacks());
        }
        let keys = quoted(&self.whole.keys);
        if self.entries.under_image_names > 0 {
            format!("a JSON object whose keys are images and whose values are not captions: {keys}")
        } else if self.whole.has.name || self.whole.has.captions {
            let lacks = if self.whole.has.name { "it contains no captions" } else { "it names no image" };
            format!("a JSON object with the keys {keys}: {lacks}")
        } else if keys.is_empty() {
            "JSON without any object".to_owned()
        } else {
            format!("a JSON object with the keys {keys}: none of them is an image in the source")
        }
    }
}

impl ListSummary {
    pub(crate) fn lacks(&self) -> &'static str {
        match (self.has.name || self.has.id, self.has.captions) {
            (true, true) => "the images that they name are not in the source",
            (true, false) => "none of them contains captions",
            (false, true) => "none of them names the image",
            (false, false) => "none of them names an image or contains captions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Result<JsonShape, serde_json::Error> {
        JsonShape::of(text, &ColumnNames::default())
    }

    fn document(text: &str) -> Document {
        match shape(text).unwrap() {
            JsonShape::Document(document) => document,
            JsonShape::Lines(seen) => panic!("{text}: lines of {seen:?}"),
        }
    }

    /// What it is taken for: coco, karpathy, or images with captions.
    fn kinds(text: &str) -> String {
        let document = document(text);
        let kinds = [('c', document.is_coco()), ('k', document.is_karpathy()), ('i', document.first_image().is_some())];
        kinds.into_iter().filter(|(_, is_it)| *is_it).map(|(kind, _)| kind).collect()
    }

    #[test]
    fn shapes_are_known_by_all_of_their_objects() {
        for (text, expected) in [
            (r#"{"dataset":"x","images":[{"filename":"a","sentences":[]},{"b":1}]}"#, "ki"),
            (r#"{"images":[{"id":1,"file_name":"a"}],"annotations":[{"image_id":1,"caption":"x"}]}"#, "ci"),
            (
                r#"{"annotations":[{"image_id":1,"bbox":[]},{"image_id":1,"caption":"x"}],"images":[{"id":1,"file_name":"a"}]}"#,
                "ci",
            ),
            (
                r#"{"info":{"description":"x","url":"y"},"images":[{"id":1,"file_name":"a"}],"annotations":[{"image_id":1}]}"#,
                "",
            ),
            (r#"[{"image":"a","caption":["x"]},{"y":1}]"#, "i"),
            (r#"[{"y":1},{"image":"a","caption":["x"]}]"#, "i"),
            (r#"{"version":1,"data":[{"image":"a","caption":"x"}]}"#, "i"),
            (r#"{"images":[],"annotations":[{"image_id":1,"caption":"x"}]}"#, "i"),
            (r#"{"0":{"image":"a","caption":"x"},"1":{"image":"b","caption":"y"}}"#, "i"),
            (r#"{"pairs":[{"image":"a","caption":"x"}]}"#, "i"),
            (r#"{"a.jpg":["A","B"],"b.jpg":"C"}"#, ""),
            (r#"{"a.jpg":"A"}"#, ""),
            ("[1,2]", ""),
            ("7", ""),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
        let entries = document(r#"{"a.jpg":["A","B"],"train":{"b.jpg":{"caption":"C"}},"n":3}"#).entries;
        assert_eq!((entries.keys.join(","), entries.count, entries.with_captions), ("a.jpg,b.jpg".to_owned(), 3, 3));
        assert_eq!((entries.complete, entries.under_image_names), (0, 3));
    }

    #[test]
    fn objects_that_follow_one_another_are_lines_and_so_is_one_of_an_image_and_its_caption() {
        let keys = |text: &str| match shape(text).unwrap() {
            JsonShape::Lines(seen) => seen.keys.join(","),
            JsonShape::Document(document) => panic!("{text}: {document:?}"),
        };
        assert_eq!(keys("{\"image\":\"a\"}\n{\"caption\":\n\"b\"}\n\n"), "image,caption");
        assert_eq!(keys("{\"image\":\"a\",\"captions\":[\"b\"]}\n"), "image,captions");
        assert_eq!(keys("{\"a\":1}{\"a\":2}"), "a");
        assert!(shape("{\"a\":1}\n{\"a\":").is_err() && shape("[1] x").is_err());
        assert!(shape("{\"a\":").is_err() && shape("").is_err());
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, expected) in [
            (
                r#"[{"image":"a","label":1}]"#,
                "a JSON list of objects with the keys image, label: none of them contains captions",
            ),
            (
                r#"{"data":[{"caption":"a"}]}"#,
                "under \"data\" of objects with the keys caption: none of them names the image",
            ),
            (r#"{"images":[{"id":1,"file_name":"a"}],"annotations":[]}"#, "no captions for them"),
            (r#"{"name":"x"}"#, "a JSON object with the keys name: none of them is an image"),
            (
                r#"{"file_name":"x","prompt":"y"}"#,
                "a JSON object with the keys file_name, prompt: it contains no captions",
            ),
            (
                r#"{"a.jpg":{"en":["A"]}}"#,
                "a JSON object whose keys are images and whose values are not captions: a.jpg",
            ),
            ("[]", "JSON without any object"),
            ("[1]", "a JSON list without objects"),
        ] {
            let found = document(text).explain();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
