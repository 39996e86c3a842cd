//! What a JSON file is about, told by its keys without keeping its content.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::data::annotations::text::without_mark;
use crate::data::source::{Source, is_image_name, without_ending};

/// Keys that a data set's JSON has at its top: more are not looked at.
const MOST_KEYS: usize = 20;

/// The outermost shape of a JSON file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonShape {
    /// An object with these first keys, the number of its keys, and the keys of the first object in the list `images`.
    Object {
        /// The first keys.
        keys: Vec<String>,
        /// Keys of the first element of `images`.
        image_keys: Vec<String>,
        /// Keys of the first element of `annotations`.
        annotation_keys: Vec<String>,
        /// Whether the first value is text or a list of texts.
        has_texts: bool,
    },
    /// A list, with the keys of its first element.
    List(Vec<String>),
    /// Anything else, or no JSON.
    Other,
}

impl JsonShape {
    /// The shape of a file's content.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut deserializer = serde_json::Deserializer::from_slice(without_mark(bytes));
        Look::Top.deserialize(&mut deserializer).map_or(Self::Other, Seen::into_shape)
    }
}

/// A JSON file of a source, and its shape.
pub(super) type JsonFile = (usize, JsonShape);

/// The JSON files that may hold a data set's annotations, with their shapes: none that lies beside an image of its name
/// or in a tar archive, and not COCO's other kinds.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn json_files(source: &Source) -> anyhow::Result<Vec<JsonFile>> {
    const OTHERS: [&str; 6] = ["instances_", "person_keypoints_", "stuff_", "panoptic_", "image_info_", "package"];
    /// So many in one folder are one for each image.
    const MOST: usize = 100;
    let stems: std::collections::HashSet<&str> =
        source.files().iter().filter(|file| is_image_name(&file.path)).map(|file| without_ending(&file.path)).collect();
    let found = source.find(|file| {
        let name = file.name();
        name.ends_with(".json")
            && !file.is_in_tar()
            && !OTHERS.iter().any(|other| name.starts_with(other))
            && !stems.contains(without_ending(&file.path))
    });
    let mut in_folder: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    found.iter().for_each(|&file| *in_folder.entry(source.files()[file].folder()).or_default() += 1);
    let is_few = |file: &usize| in_folder[source.files()[*file].folder()] <= MOST;
    found.into_iter().filter(is_few).map(|file| Ok((file, JsonShape::of(&source.glance(file, u64::MAX))))).collect()
}

/// What is looked at in a value.
#[derive(Clone, Copy)]
enum Look {
    /// The whole file.
    Top,
    /// The value of `images` or `annotations`.
    List,
    /// The first element of a list: its keys.
    Element,
    /// Whether it is text or a list of texts.
    Text,
}

enum Seen {
    Map { keys: Vec<String>, image_keys: Vec<String>, annotation_keys: Vec<String>, has_texts: bool },
    List(Vec<String>),
    Text,
    Other,
}

impl Seen {
    fn into_shape(self) -> JsonShape {
        match self {
            Self::Map { keys, image_keys, annotation_keys, has_texts } => {
                JsonShape::Object { keys, image_keys, annotation_keys, has_texts }
            }
            Self::List(keys) => JsonShape::List(keys),
            Self::Text | Self::Other => JsonShape::Other,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Look {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look {
    type Value = Seen;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let (mut keys, mut has_texts) = (Vec::new(), false);
        let (mut image_keys, mut annotation_keys) = (Vec::new(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            let look = match self {
                Self::Top if key == "images" || key == "annotations" => Some(Self::List),
                Self::Top if keys.is_empty() => Some(Self::Text),
                _ => None,
            };
            match look.map(|look| map.next_value_seed(look)).transpose()? {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(Seen::List(found)) if key == "images" => image_keys = found,
                Some(Seen::List(found)) => annotation_keys = found,
                Some(seen) => has_texts |= matches!(seen, Seen::Text),
            }
            if keys.len() < MOST_KEYS {
                keys.push(key);
            }
        }
        Ok(Seen::Map { keys, image_keys, annotation_keys, has_texts })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Seen, A::Error> {
        let inner = if matches!(self, Self::Text) { Self::Text } else { Self::Element };
        let first = elements.next_element_seed(inner)?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(match (self, first) {
            (Self::Text, Some(Seen::Text)) => Seen::Text,
            (Self::Text, _) => Seen::Other,
            (_, Some(Seen::Map { keys, .. })) => Seen::List(keys),
            _ => Seen::List(Vec::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    #[test]
    fn shapes_are_told_by_their_keys() {
        let object = |keys: &[&str], images: &[&str], has_texts| JsonShape::Object {
            keys: strings(keys),
            image_keys: strings(images),
            annotation_keys: if keys.contains(&"annotations") { strings(&["image_id", "caption"]) } else { Vec::new() },
            has_texts,
        };
        for (text, expected) in [
            (r#"{"dataset":"x","images":[{"filename":"a","sentences":[]},{"b":1}]}"#, {
                object(&["dataset", "images"], &["filename", "sentences"], true)
            }),
            (
                r#"{"images":[{"id":1}],"annotations":[{"image_id":1,"caption":"x"}]}"#,
                object(&["images", "annotations"], &["id"], false),
            ),
            (r#"[{"image":"a","caption":["x"]},{"y":1}]"#, JsonShape::List(strings(&["image", "caption"]))),
            (r#"{"a.jpg":["A","B"],"b.jpg":"C"}"#, object(&["a.jpg", "b.jpg"], &[], true)),
            (r#"{"a.jpg":{"x":1}}"#, object(&["a.jpg"], &[], false)),
            ("[1,2]", JsonShape::List(Vec::new())),
            ("7", JsonShape::Other),
            (r#"{"a":"#, JsonShape::Other),
        ] {
            assert_eq!(JsonShape::of(text.as_bytes()), expected, "{text}");
        }
    }
}
