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

/// A caption as a JSON value holds it.
#[derive(Debug, Default)]
pub(crate) struct Sentence<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) extras: RawExtras<'a>,
}

impl<'a> From<Cow<'a, str>> for Sentence<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self { text, extras: RawExtras::default() }
    }
}

/// What an object says of a caption beside its text: values as they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawExtras<'a> {
    pub(crate) prompt: Option<&'a str>,
    pub(crate) weight: Option<&'a str>,
}

impl RawExtras<'_> {
    /// With those of `other` where these are absent.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { prompt: self.prompt.or(other.prompt), weight: self.weight.or(other.weight) }
    }
}

/// The texts of [`sentences`].
pub(crate) fn texts(raw: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    Ok(sentences(raw)?.into_iter().map(|sentence| sentence.text).collect())
}

/// The texts of a JSON value: a text, a list of them, or of objects that hold one each; and a text that is a list
/// itself. What it is instead, where it is something else.
pub(crate) fn sentences(raw: &str) -> Result<Vec<Sentence<'_>>, &'static str> {
    sentences_within(raw, 0)
}

fn sentences_within(raw: &str, depth: usize) -> Result<Vec<Sentence<'_>>, &'static str> {
    /// Lists within one another.
    const MAX_DEPTH: usize = 4;
    match raw.as_bytes().first() {
        Some(b'"') => match string(raw) {
            Some(text) => Ok(texts_of(text)?.into_iter().map(Sentence::from).collect()),
            None => Err("half of a character"),
        },
        Some(b'n') => Ok(Vec::new()),
        Some(b'[') if depth >= MAX_DEPTH => Err("nested too deep"),
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| "nested too deep")?;
            let mut all = Vec::with_capacity(list.len());
            for one in list {
                match one.get().as_bytes().first() {
                    Some(b'"') => all.push(string(one.get()).ok_or("half of a character")?.into()),
                    Some(b'{') => all.extend(sentences_within(one.get(), depth + 1)?),
                    Some(b'n') => {}
                    // Several texts may be captions, or the words of one.
                    Some(b'[') => match sentences_within(one.get(), depth + 1)?.as_mut_slice() {
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

/// A caption that is an object, as in Karpathy's files: `raw`, or its words.
fn sentence(raw: &str) -> Option<Sentence<'_>> {
    let (mut best, mut tokens, mut extras) = (None, None, RawExtras::default());
    for (key, value) in entries(raw)? {
        match field(&key) {
            Some(Field::Captions(kind)) if best.as_ref().is_none_or(|(known, _)| kind < *known) => {
                best = string(value).map(|text| (kind, text)).or(best);
            }
            Some(Field::Prompt) => extras.prompt = Some(value),
            Some(Field::Weight) => extras.weight = Some(value),
            // Read one by one they would take several times the memory of the captions.
            _ if key == "tokens" => tokens = Some(value),
            _ => {}
        }
    }
    let words = |tokens| serde_json::from_str::<Vec<String>>(tokens).ok();
    let text = best.map(|(_, text)| text).or_else(|| Some(Cow::Owned(words(tokens?)?.join(" "))))?;
    Some(Sentence { text, extras })
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
