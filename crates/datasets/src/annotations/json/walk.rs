//! Goes through a JSON file and finds the objects in it that describe images, wherever they are: in a list, in a list
//! under a key, under a key each, or one after the other (JSON Lines). Nothing of the file is kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::annotations::json::record::{Element, Record};
use crate::annotations::json::values::Key;
use crate::annotations::split_names::split_of_word;
use crate::column_names::ColumnNames;

/// Keys whose value is a set of entries, not one entry.
const WRAPPERS: [&str; 14] = [
    "data",
    "images",
    "annotations",
    "captions",
    "items",
    "samples",
    "rows",
    "records",
    "entries",
    "examples",
    "results",
    "dataset",
    "metadata",
    "predictions",
];

/// Where an object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position<'p> {
    /// The key of the list or object that it is in; empty at the top.
    pub(crate) list: &'p str,
    /// Its own key, where it has one.
    pub(crate) key: Option<&'p str>,
}

/// Whether a key at the top has a set of entries under it: a word such as `data`, or a split.
pub(crate) fn is_wrapper(key: &str) -> bool {
    WRAPPERS.contains(&key) || split_of_word(key).is_some()
}

/// Calls `each` with every object of a document: the elements of a list, and the values of an object, each list among
/// which counts element by element.
pub(crate) fn walk<'a>(
    text: &'a str,
    names: &ColumnNames,
    each: &mut dyn FnMut(Position<'_>, Record<'a>),
) -> Result<IsAll, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk { names, place: Position::default(), is_set: true, each }.deserialize(&mut deserializer)?;
    Ok(IsAll(deserializer.end().is_ok()))
}

/// Whether nothing followed the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsAll(pub(crate) bool);

/// Calls `each` with every one of the objects that follow one another, as in JSON Lines; they may go over several
/// lines.
pub(crate) fn walk_lines<'a>(
    text: &'a str,
    names: &ColumnNames,
    mut each: impl FnMut(Record<'a>),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    while deserializer.end().is_err() {
        each(Element(names).deserialize(&mut deserializer)?);
    }
    Ok(())
}

/// Goes through one value.
struct Walk<'c, 'a> {
    /// What the user calls keys.
    names: &'c ColumnNames,
    place: Position<'c>,
    /// The keys of an object lead to entries; else the object is one.
    is_set: bool,
    each: &'c mut dyn FnMut(Position<'_>, Record<'a>),
}

impl<'a> Walk<'_, 'a> {
    /// A text is the caption of its key, also where the key could have had a set of entries.
    fn text(self, text: Cow<'a, str>) {
        let place = match (self.place.key, self.place.list) {
            (None, "") => return,
            (None, key) => Position { list: "", key: Some(key) },
            (Some(_), _) => self.place,
        };
        (self.each)(place, Record::of_text(text));
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.text(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.text(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(record) = elements.next_element_seed(Element(self.names))? {
            (self.each)(self.place, record);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.is_set {
            (self.each)(self.place, Element(self.names).visit_map(map)?);
            return Ok(());
        }
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            let is_split = || split_of_word(&key).is_some() && split_of_word(self.place.list).is_none();
            let is_set = if self.place.list.is_empty() { is_wrapper(&key) } else { is_split() };
            let place = match is_set {
                true => Position { list: &key, key: None },
                false => Position { list: self.place.list, key: Some(&key) },
            };
            map.next_value_seed(Walk { names: self.names, place, is_set, each: &mut *self.each })?;
        }
        Ok(())
    }
}
