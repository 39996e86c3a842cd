//! What annotations call an image: a key that ties captions to images, and nothing that is computed with.
//!
//! JSON writers spell one key in several ways: `7`, `7.0` (pandas), `"7"`. They are one key here; so is `"007"` where
//! no other image has it.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum ImageId {
    /// A whole number of 0 or more.
    Natural(u64),
    /// A whole number below 0.
    Negative(i64),
    /// A text, or a number that is not whole or has more digits than an integer can have.
    Text(String),
}

impl ImageId {
    /// The id that a JSON token writes: a number or a text. `None` for anything else, and for a blank text.
    pub fn from_json(token: &str) -> Option<Self> {
        if token.starts_with('"') {
            let text: String = serde_json::from_str(token).ok()?;
            return Self::from_text(&text);
        }
        token.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| Self::of_digits(whole(token)))
    }

    /// The id that a text is; `None` where it is blank.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self::Text(text.to_owned()))
    }

    fn of_digits(digits: String) -> Self {
        if let Ok(number) = digits.parse() {
            Self::Natural(number)
        } else if let Ok(number) = digits.parse() {
            Self::Negative(number)
        } else {
            Self::Text(digits)
        }
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural(number) => number.fmt(formatter),
            Self::Negative(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = ImageId;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number or a text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<ImageId, E> {
                Ok(ImageId::Natural(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<ImageId, E> {
                Ok(ImageId::of_digits(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<ImageId, E> {
                Ok(ImageId::of_digits(whole(&number.to_string())))
            }

            fn visit_str<E>(self, text: &str) -> Result<ImageId, E> {
                Ok(ImageId::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// A number without what changes nothing of its value: `1.0` and `1e0` are `1`. Digits are never lost: a number of more
/// digits than a float holds stays as it is written.
fn whole(token: &str) -> String {
    /// Up to here every whole number is a distinct float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let plain = match token.split_once('.') {
        Some((digits, fraction)) if fraction.bytes().all(|byte| byte == b'0') => digits,
        _ => token,
    };
    match plain.parse::<f64>() {
        Ok(0.0) => "0".to_owned(),
        Ok(number) if plain.contains(['e', 'E']) && number.fract() == 0.0 && number.abs() < EXACT => number.to_string(),
        _ => plain.to_owned(),
    }
}

/// Things by the ids of their images.
#[derive(Debug)]
pub struct IdMap<T> {
    exact: HashMap<String, T>,
    /// By the value of ids that are numbers; `None` where two ids have one value.
    by_value: HashMap<String, Option<T>>,
}

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), by_value: HashMap::new() }
    }
}

impl<T: Copy> IdMap<T> {
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }

    /// Adds what belongs to `id`, unless something does already: then that is given.
    pub fn insert(&mut self, id: &ImageId, thing: T) -> Option<T> {
        let key = id.to_string();
        if let Some(&other) = self.exact.get(&key) {
            return Some(other);
        }
        if let Some(value) = value(&key) {
            self.by_value.entry(value).and_modify(|known| *known = None).or_insert(Some(thing));
        }
        self.exact.insert(key, thing);
        None
    }

    /// What belongs to `id`: to the same number or text, else to the only id that is the same number.
    pub fn get(&self, id: &ImageId) -> Option<T> {
        let key = id.to_string();
        self.exact.get(&key).copied().or_else(|| *self.by_value.get(&value(&key)?)?)
    }
}

/// The number that a text of digits is, without leading zeros.
fn value(key: &str) -> Option<String> {
    let (sign, digits) = key.strip_prefix('-').map_or(("", key), |digits| ("-", digits));
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let whole = whole(digits);
    let digits = whole.trim_start_matches('0');
    is_number.then(|| if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(token: &str) -> ImageId {
        ImageId::from_json(token).unwrap()
    }

    #[test]
    fn one_number_is_one_id_however_json_writes_it() {
        for (token, expected) in [
            ("7", ImageId::Natural(7)),
            ("7.0", ImageId::Natural(7)),
            ("7e0", ImageId::Natural(7)),
            ("1.5e1", ImageId::Natural(15)),
            ("-1.00", ImageId::Negative(-1)),
            ("-0.0", ImageId::Natural(0)),
            ("18446744073709551615", ImageId::Natural(u64::MAX)),
            ("9007199254740993.0", ImageId::Natural(9_007_199_254_740_993)),
            ("12345678901234567890123", ImageId::Text("12345678901234567890123".into())),
            ("0.5", ImageId::Text("0.5".into())),
            ("\" img_0 \"", ImageId::Text("img_0".into())),
        ] {
            assert_eq!(id(token), expected, "{token}");
        }
        for token in ["null", "true", "[1]", "{}", "\"  \""] {
            assert_eq!(ImageId::from_json(token), None, "{token}");
        }
        for text in ["7", "-3", "\"x\"", "18446744073709551615"] {
            let read: ImageId = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<ImageId>("7.0").unwrap(), ImageId::Natural(7));
    }

    #[test]
    fn an_id_is_found_as_number_or_text_and_never_as_another_one() {
        let mut map = IdMap::default();
        for (place, token) in ["1", "\"007\"", "\"x\"", "-2", "\"000000000139\"", "0.5"].into_iter().enumerate() {
            assert_eq!(map.insert(&id(token), place), None);
        }
        for (token, expected) in [
            ("\"1\"", Some(0)),
            ("1.0", Some(0)),
            ("\"1.0\"", Some(0)),
            ("7", Some(1)),
            ("\"x\"", Some(2)),
            ("\"-2\"", Some(3)),
            ("139", Some(4)),
            ("\"0.5\"", Some(5)),
            ("2", None),
            ("\"X\"", None),
            ("\"-\"", None),
            ("\".\"", None),
        ] {
            assert_eq!(map.get(&id(token)), expected, "{token}");
        }
        assert_eq!(map.insert(&id("\"1\""), 9), Some(0), "one id");
        assert_eq!(map.insert(&id("7"), 6), None, "007 and 7 are two ids");
        assert_eq!((map.get(&id("7")), map.get(&id("\"007\"")), map.get(&id("\"07\""))), (Some(6), Some(1), None));
    }
}
