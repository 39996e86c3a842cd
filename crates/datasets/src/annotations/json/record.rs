//! What one JSON object says of an image: `{"file_name": "1.jpg", "caption": "A dog."}` and all that means it
//! (`fields`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::annotations::fields::{By, CaptionKind, Field, Reference, field, field_of};
use crate::annotations::json::values::{Key, RawExtras, Sentence, entries, sentences, string, texts};
use crate::annotations::list_text::texts_of;
use crate::annotations::references::{file_of, placed};
use crate::column_names::ColumnNames;
use crate::image_id::ImageId;
use pixels::picture_formats::is_image_name;

/// Unknown keys that are kept, for a message.
const MAX_KEYS: usize = 12;

/// An object, or an element of a list that represents one.
#[derive(Debug, Default)]
pub(crate) struct Record<'a> {
    /// What the image is called: by the best of its names, addresses and ids.
    pub(crate) reference: Option<(Reference, Cow<'a, str>)>,
    ids: Vec<(Reference, ImageId)>,
    /// Where the image lies: its path beside its name, or its folder, as `filepath` is in Karpathy's file of COCO.
    place: Option<Cow<'a, str>>,
    captions: Vec<(CaptionKind, Sentence<'a>)>,
    /// Of all captions that have none of their own.
    extras: RawExtras<'a>,
    pub(crate) split: Option<Cow<'a, str>>,
    /// The key and the value of what may be its split.
    pub(crate) maybe_split: Option<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) prediction: Option<Cow<'a, str>>,
    /// References, if `captions` may be the model's.
    pub(crate) references: Vec<Cow<'a, str>>,
    /// A caption or reference that is not a text, and what it is.
    pub(crate) odd: Option<&'static str>,
    /// Its only key is the image, and the value of that its captions.
    pub(crate) is_lone: bool,
    keys: Vec<Cow<'a, str>>,
    /// Those of the keys that the user names.
    pub(crate) named: Vec<String>,
    /// What it is called is that of an image, not of something else.
    is_of_image: bool,
    pub(crate) has: Has,
}

/// What there is in an object, or in any object of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Has {
    pub(crate) name: bool,
    pub(crate) id: bool,
    /// There is an `id`, perhaps of something else.
    pub(crate) weak_id: bool,
    pub(crate) captions: bool,
    /// There is a list under `sentences`.
    pub(crate) sentences: bool,
}

impl Has {
    /// Whether it is of an image and its captions.
    pub(crate) fn both(self) -> bool {
        (self.name || self.id) && self.captions
    }

    fn or(self, other: Self) -> Self {
        Self {
            name: self.name || other.name,
            id: self.id || other.id,
            weak_id: self.weak_id || other.weak_id,
            captions: self.captions || other.captions,
            sentences: self.sentences || other.sentences,
        }
    }
}

/// What is known from the objects of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListSummary {
    pub(crate) has: Has,
    /// The first image that is named, or its id.
    pub(crate) first_image: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) count: usize,
}

impl ListSummary {
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.has = self.has.or(record.has);
        self.count += 1;
        if self.first_image.is_none() {
            self.first_image = record.surely_image().map(str::to_owned);
        }
        for key in &record.keys {
            if self.keys.len() < MAX_KEYS && !self.keys.iter().any(|known| known == key) {
                self.keys.push(key.clone().into_owned());
            }
        }
    }

    pub(crate) fn of(record: &Record<'_>) -> Self {
        let mut seen = Self::default();
        seen.add(record);
        seen
    }

    /// Whether they are of images and their captions.
    pub(crate) fn is_complete(&self) -> bool {
        self.has.both()
    }

    /// Whether this key is among the first.
    pub(crate) fn has_key(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.keys.iter().any(|key| key == name))
    }
}

impl<'a> Record<'a> {
    /// One of captions only, as a list of texts is.
    pub(crate) fn of_texts(texts: impl IntoIterator<Item = Cow<'a, str>>) -> Self {
        let kind = CaptionKind { rank: 0, is_plural: false };
        let captions: Vec<_> = texts.into_iter().map(|text| (kind, Sentence::from(text))).collect();
        let has = Has { captions: !captions.is_empty(), ..Has::default() };
        Self { captions, has, ..Self::default() }
    }

    /// One of captions only, as a text is that may be a list.
    pub(crate) fn of_text(text: Cow<'a, str>) -> Self {
        match texts_of(text) {
            Ok(texts) => Self::of_texts(texts),
            Err(odd) => Self { odd: Some(odd), has: Has { captions: true, ..Has::default() }, ..Self::default() },
        }
    }

    /// The first keys, for a message.
    pub(crate) fn keys(&self) -> String {
        self.keys.iter().take(6).map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
    }

    /// The image that it names, unless the name may be that of something else.
    pub(crate) fn surely_image(&self) -> Option<&str> {
        self.reference.as_ref().filter(|_| self.is_of_image).map(|(_, name)| file_of(name))
    }

    /// The captions: those of the kind that is preferred, texts that are blank aside; what a model wrote where there
    /// are no others.
    pub(crate) fn captions(&self) -> Vec<&str> {
        let own = self.own_captions();
        if own.is_empty() { self.prediction.iter().map(AsRef::as_ref).collect() } else { own }
    }

    /// [`Self::captions`] with what is said of each beside its text.
    pub(crate) fn captions_and_extras(&self) -> Vec<(&str, RawExtras<'a>)> {
        let own: Vec<_> = self.own_sentences().map(|one| (one.text.as_ref(), one.extras.or(self.extras))).collect();
        if own.is_empty() { self.prediction.iter().map(|text| (text.as_ref(), self.extras)).collect() } else { own }
    }

    fn own_captions(&self) -> Vec<&str> {
        self.own_sentences().map(|sentence| sentence.text.as_ref()).collect()
    }

    fn own_sentences(&self) -> impl Iterator<Item = &Sentence<'a>> {
        let written = self.captions.iter().filter(|(_, sentence)| !sentence.text.trim().is_empty());
        let best = written.map(|(kind, _)| kind.rank).min().or(self.captions.iter().map(|(kind, _)| kind.rank).min());
        self.captions.iter().filter(move |(kind, _)| Some(kind.rank) == best).map(|(_, sentence)| sentence)
    }

    /// What a model wrote, where the object is one of its captions.
    pub(crate) fn candidates(&self) -> Vec<&str> {
        match (&self.prediction, self.single_beside_several()) {
            (Some(prediction), _) => vec![prediction],
            (None, Some((single, _))) => vec![single],
            (None, None) => self.captions(),
        }
    }

    /// References beside captions of a model.
    pub(crate) fn inline_references(&self) -> Option<Vec<&str>> {
        if !self.references.is_empty() {
            return Some(self.references.iter().map(AsRef::as_ref).collect());
        }
        let beside_prediction = || self.prediction.as_ref().map(|_| self.own_captions());
        let several = self.single_beside_several().map(|(_, several)| several);
        several.or_else(|| beside_prediction().filter(|captions| !captions.is_empty()))
    }

    /// The caption under a name that says there is one, where another name says that there are several: the first may
    /// be a model's.
    fn single_beside_several(&self) -> Option<(&str, Vec<&str>)> {
        let texts = |wanted: bool| {
            let of_kind = move |(kind, _): &&(CaptionKind, Sentence<'a>)| kind.is_plural == wanted;
            self.captions.iter().filter(of_kind).map(|(_, sentence)| sentence.text.as_ref())
        };
        let several: Vec<&str> = texts(true).collect();
        texts(false).next().filter(|_| !several.is_empty()).map(|single| (single, several))
    }

    /// The id of the image: the best of its ids.
    pub(crate) fn id(&self) -> Option<&ImageId> {
        self.ids.iter().min_by_key(|(reference, _)| *reference).map(|(_, id)| id)
    }

    /// The id under this name.
    pub(crate) fn id_called(&self, name: &str) -> Option<&ImageId> {
        self.ids.iter().find(|(reference, _)| field(name) == Some(Field::Reference(*reference))).map(|(_, id)| id)
    }

    /// The file that it names, else its id as a text.
    pub(crate) fn image(&self) -> Option<Cow<'_, str>> {
        let (reference, name) = self.reference.as_ref()?;
        Some(match (reference.by, &self.place) {
            (By::Name, Some(place)) => placed(name, place),
            _ => Cow::Borrowed(file_of(name)),
        })
    }

    /// The record that the text of one object is.
    pub(crate) fn parse(text: &'a str, names: &ColumnNames) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let record = Element(names).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(record)
    }

    pub(crate) fn set(&mut self, key: &str, raw: &'a str, names: &ColumnNames) {
        if names.role(key).is_some() {
            self.named.push(key.to_owned());
        }
        match field_of(key, names) {
            Some(Field::Reference(reference)) => self.set_reference(reference, raw),
            Some(Field::Captions(kind)) => self.add_captions(kind, key, raw),
            Some(Field::Folder) => self.place = name_of(raw).or(self.place.take()),
            Some(Field::Split) => self.split = string(raw).or(self.split.take()),
            Some(Field::MaybeSplit) => {
                let said = string(raw).map(|word| (Cow::Owned(key.to_owned()), word));
                self.maybe_split = self.maybe_split.take().or(said);
            }
            Some(Field::Prediction) => {
                self.prediction = string(raw).or(self.prediction.take());
                self.has.captions |= self.prediction.is_some();
            }
            Some(Field::References) => match texts(raw) {
                Ok(texts) => self.references.extend(texts),
                Err(what) => self.odd = Some(what),
            },
            Some(Field::Prompt) => self.extras.prompt = Some(raw),
            Some(Field::Weight) => self.extras.weight = Some(raw),
            None => {}
        }
    }

    fn set_reference(&mut self, reference: Reference, raw: &'a str) {
        let Some(name) = name_of(raw) else { return };
        // Other things have names and ids too.
        let is_meant = !reference.is_weak() || is_image_name(&name);
        if reference.by == By::Id {
            self.has.id |= is_meant;
            self.has.weak_id = true;
            self.ids.extend(ImageId::from_json(raw).map(|id| (reference, id)));
        } else {
            self.has.name |= is_meant;
        }
        if reference.is_path() {
            self.place = Some(name.clone());
        }
        if (is_meant || reference.by == By::Id) && self.reference.as_ref().is_none_or(|(known, _)| reference < *known) {
            self.is_of_image = is_meant;
            self.reference = Some((reference, name));
        }
    }

    /// Names its image.
    fn name(&mut self, name: Cow<'a, str>) {
        self.reference = Some((Reference { rank: 0, by: By::Name }, name));
        (self.has.name, self.is_of_image) = (true, true);
    }

    fn add_captions(&mut self, kind: CaptionKind, key: &str, raw: &'a str) {
        self.has.captions = true;
        self.has.sentences |= key == "sentences" && raw.starts_with('[');
        match sentences(raw) {
            Ok(sentences) => self.captions.extend(sentences.into_iter().map(|sentence| (kind, sentence))),
            Err(what) => self.odd = Some(what),
        }
    }
}

/// The text of a value that names an image: a text, a number, an object with a path, or a list of one text.
fn name_of(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' => string(raw).map(trimmed).filter(|name| !name.is_empty()),
        b'{' => {
            let named = entries(raw)?.into_iter().filter_map(|(key, value)| match field(&key) {
                Some(Field::Reference(reference)) => Some((reference, string(value).map(trimmed)?)),
                _ => None,
            });
            named.min_by_key(|(reference, _)| *reference).map(|(_, name)| name)
        }
        b'[' => match serde_json::from_str::<Vec<&RawValue>>(raw).ok()?.as_slice() {
            [one] => string(one.get()).map(trimmed),
            _ => None,
        },
        b'-' | b'0'..=b'9' => ImageId::from_json(raw).map(|id| Cow::Owned(id.to_string())),
        _ => None,
    }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// Reads an object, a list `["1.jpg", "a caption"]`, or a text as a [`Record`]; anything else is one that says nothing.
/// It has what the user calls keys.
pub(crate) struct Element<'n>(pub(crate) &'n ColumnNames);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Record<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Record<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Record<'de>, E> {
        Ok(Record::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Record<'de>, E> {
        Ok(Record::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Record<'de>, E> {
        Ok(Record::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Record<'de>, E> {
        Ok(Record::default())
    }

    fn visit_unit<E>(self) -> Result<Record<'de>, E> {
        Ok(Record::default())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Record<'de>, E> {
        Ok(Record::of_texts([Cow::Borrowed(text)]))
    }

    fn visit_str<E>(self, text: &str) -> Result<Record<'de>, E> {
        Ok(Record::of_texts([Cow::Owned(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Record<'de>, A::Error> {
        let mut parts: Vec<&'de RawValue> = Vec::new();
        while let Some(part) = elements.next_element()? {
            parts.push(part);
        }
        let Some((first, rest)) = parts.split_first() else { return Ok(Record::default()) };
        let name = string(first.get()).filter(|name| is_image_name(name.trim()));
        let all = rest.iter().map(|part| texts(part.get())).collect::<Result<Vec<_>, _>>();
        let (Some(name), Ok(all)) = (name, all) else { return Ok(Record::default()) };
        let mut record = Record::of_texts(all.into_iter().flatten());
        record.name(name);
        Ok(record)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record<'de>, A::Error> {
        let (mut record, mut lone, mut count) = (Record::default(), None, 0);
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            count += 1;
            match field_of(&key, self.0) {
                None if is_image_name(&key) => lone = Some((key.clone(), map.next_value::<&'de RawValue>()?.get())),
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(_) => record.set(&key, map.next_value::<&'de RawValue>()?.get(), self.0),
            }
            if record.keys.len() < MAX_KEYS {
                record.keys.push(key);
            }
        }
        // `{"1.jpg": "a caption"}`
        if let (Some((name, raw)), 1) = (lone, count) {
            record.is_lone = true;
            record.add_captions(CaptionKind { rank: 0, is_plural: false }, &name, raw);
            record.name(name);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record<'_> {
        Record::parse(text, &ColumnNames::default()).unwrap()
    }

    fn captions(text: &str) -> Vec<String> {
        record(text).captions().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn an_image_is_called_by_the_best_of_its_names() {
        for (text, expected) in [
            (r#"{"image_id": 7, "File Name": " a.jpg ", "url": "http://x/b.jpg"}"#, Some("a.jpg")),
            (r#"{"filepath": "val2014", "filename": "a.jpg"}"#, Some("val2014/a.jpg")),
            (r#"{"filepath": "x/a.jpg"}"#, Some("x/a.jpg")),
            (r#"{"url": "https://x.org/y/b.jpg?size=1#z"}"#, Some("b.jpg")),
            (r#"{"image_id": 1.0}"#, Some("1")),
            (r#"{"name": "dog", "id": 1}"#, Some("1")),
            (r#"{"name": "dog.png", "id": 1}"#, Some("dog.png")),
            (r#"{"id": 3, "image_id": "img_1"}"#, Some("img_1")),
            (r#"{"image": {"path": "c.jpg", "bytes": null}}"#, Some("c.jpg")),
            (r#"{"image": ["d.jpg"]}"#, Some("d.jpg")),
            (r#"{"image": ["d.jpg", "e.jpg"]}"#, None),
            (r#"{"image": [["d.jpg"]]}"#, None),
            (r#"{"image": null, "label": 3}"#, None),
            (r#"{"image": "  "}"#, None),
            (r#"["f.jpg", "A dog"]"#, Some("f.jpg")),
            (r#"{"g.jpg": "A dog"}"#, Some("g.jpg")),
            (r#"{"g.jpg": "A dog", "h.jpg": "B"}"#, None),
            (r#"["A dog", "f.jpg"]"#, None),
            ("7", None),
        ] {
            assert_eq!(record(text).image().as_deref(), expected, "{text}");
        }
        let both = record(r#"{"id": 3, "file_name": "a.jpg", "image_id": 4.0}"#);
        assert_eq!((both.id(), both.id_called("id")), (Some(&ImageId::Natural(4)), Some(&ImageId::Natural(3))));
        assert_eq!(both.id_called("cocoid"), None);
    }

    #[test]
    fn captions_are_texts_lists_and_objects_under_their_best_name() {
        for (text, expected) in [
            (r#"{"caption": "A", "captions": ["B", "C"], "text": "other"}"#, vec!["A", "B", "C"]),
            (r#"{"caption": " ", "text": "T"}"#, vec!["T"]),
            (r#"{"caption": null, "title": "T", "url": "x"}"#, vec!["T"]),
            (r#"{"caption_0": "A", "caption_1": "B \u00e9"}"#, vec!["A", "B é"]),
            (r#"{"sentences": [{"raw": "A.", "tokens": ["a"]}, {"tokens": ["b", "c"]}]}"#, vec!["A.", "b c"]),
            (r#"{"captions": "['A dog', \"it's\"]"}"#, vec!["A dog", "it's"]),
            (r#"["f.jpg", "A", ["B"]]"#, vec!["A", "B"]),
            (r#""A""#, vec!["A"]),
            (r#"{"caption": 3}"#, vec![]),
            (r#"{"image": "a.jpg", "generated_caption": "P"}"#, vec!["P"]),
        ] {
            assert_eq!(captions(text), expected, "{text}");
        }
        assert_eq!(captions(r#"{"captions": [["A"], ["B"], []]}"#), ["A", "B"]);
        let deep = format!("{{\"captions\": {}\"A\"{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(record(&deep).odd, Some("nested too deep"));
        assert_eq!(record(r#"{"captions": [["a", "dog"], ["B"]]}"#).odd, Some("lists within a list"));
        assert_eq!(record(r#"{"captions": "['A', 3]"}"#).odd, Some("a list of something other than texts"));
        assert_eq!(record(r#"{"caption": 3}"#).odd, Some("a number"));
        assert_eq!(record(r#"{"caption": ["A", 3]}"#).odd, Some("a list of something other than texts"));
        assert_eq!(record(r#"{"caption": "\ud83d"}"#).odd, Some("half of a character"));
    }

    #[test]
    fn what_is_beside_a_caption_is_its_own_or_that_of_the_object() {
        let text =
            r#"{"sentences": [{"raw": "A", "weight": 2}, {"raw": "B", "prompt": "p"}], "weight": 3, "prompt": "q"}"#;
        let record = record(text);
        let found: Vec<_> = record
            .captions_and_extras()
            .into_iter()
            .map(|(text, extras)| (text, extras.prompt.unwrap(), extras.weight.unwrap()))
            .collect();
        assert_eq!(found, [("A", "\"q\"", "2"), ("B", "\"p\"", "3")]);
    }

    #[test]
    fn what_a_model_wrote_is_kept_apart() {
        let inline = record(r#"{"image_name": "a", "captions": ["A", "B"], "prediction": "P", "split": "val"}"#);
        assert_eq!((inline.prediction.as_deref(), inline.split.as_deref()), (Some("P"), Some("val")));
        assert_eq!((inline.candidates(), inline.inline_references()), (vec!["P"], Some(vec!["A", "B"])));
        let other = record(r#"{"caption": "P", "references": ["A", "B"]}"#);
        assert_eq!((other.candidates(), other.inline_references()), (vec!["P"], Some(vec!["A", "B"])));
        let both = record(r#"{"caption": "P", "captions": ["A", "B"]}"#);
        assert_eq!((both.candidates(), both.inline_references()), (vec!["P"], Some(vec!["A", "B"])));
        let plain = record(r#"{"image": "a", "captions": ["A", "B"]}"#);
        assert_eq!((plain.candidates(), plain.inline_references()), (vec!["A", "B"], None));
    }
}
