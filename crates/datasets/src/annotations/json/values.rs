//! Values of JSON as they are written, and the texts in them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::annotations::fields::{Field, field};
use crate::annotations::list_text::texts_of;

/// The string that a JSON token writes; `None` where it is not a text, as one with half of a character.
pub(crate) fn string(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Key<'_>>(raw).ok().map(|text| text.0)
}

/// The texts of a JSON value: a text, a list of them, or of objects that hold one each; and a text that is a list
/// itself. What it is instead, where it is something else.
pub(crate) fn texts(raw: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    texts_within(raw, 0)
}

fn texts_within(raw: &str, depth: usize) -> Result<Vec<Cow<'_, str>>, &'static str> {
    /// Lists within one another.
    const MAX_DEPTH: usize = 4;
    match raw.as_bytes().first() {
        Some(b'"') => match string(raw) {
            Some(text) => texts_of(text),
            None => Err("half of a character"),
        },
        Some(b'n') => Ok(Vec::new()),
        Some(b'[') if depth >= MAX_DEPTH => Err("nested too deep"),
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| "nested too deep")?;
            let mut all = Vec::with_capacity(list.len());
            for one in list {
                match one.get().as_bytes().first() {
                    Some(b'"') => all.push(string(one.get()).ok_or("half of a character")?),
                    Some(b'{') => all.extend(texts_within(one.get(), depth + 1)?),
                    Some(b'n') => {}
                    // Several texts may be captions, or the words of one.
                    Some(b'[') => match texts_within(one.get(), depth + 1)?.as_mut_slice() {
                        [] => {}
                        [only] => all.push(std::mem::take(only)),
                        _ => return Err("lists within a list"),
                    },
                    _ => return Err("a list of something other than texts"),
                }
            }
            Ok(all)
        }
        Some(b'{') => sentence(raw).map(|text| vec![text]).ok_or("an object without a text"),
        Some(b't' | b'f') => Err("a truth value"),
        _ => Err("a number"),
    }
}

/// The text of a caption that is an object, as in Karpathy's files: `raw`, or its words.
fn sentence(raw: &str) -> Option<Cow<'_, str>> {
    let (mut best, mut tokens) = (None, None);
    for (key, value) in entries(raw)? {
        match field(&key) {
            Some(Field::Captions(kind)) if best.as_ref().is_none_or(|(known, _)| kind < *known) => {
                best = string(value).map(|text| (kind, text)).or(best);
            }
            // Read one by one they would take several times the memory of the captions.
            _ if key == "tokens" => tokens = Some(value),
            _ => {}
        }
    }
    let words = |tokens| serde_json::from_str::<Vec<String>>(tokens).ok();
    best.map(|(_, text)| text).or_else(|| Some(Cow::Owned(words(tokens?)?.join(" "))))
}

/// The keys and values of an object, as they are written. It does not look into values, so that no nesting is too deep.
pub(crate) fn entries(raw: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    struct Entries<'a>(Vec<(Cow<'a, str>, &'a str)>);
    impl<'de> Deserialize<'de> for Entries<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;
            impl<'de> Visitor<'de> for InOrder {
                type Value = Entries<'de>;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut entries = Vec::new();
                    while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                        entries.push((key.0, value.get()));
                    }
                    Ok(Entries(entries))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }
    serde_json::from_str::<Entries<'_>>(raw).ok().map(|entries| entries.0)
}

/// A key or another text, borrowed where it can be.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
