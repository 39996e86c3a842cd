//! Reads `dataset.json` image by image, so that only a part of the file is in memory at a time.
//!
//! Values are parsed by `serde_json`, each from a window of the file that has it whole; what is around the images is
//! parsed here. Errors are those of parsing the whole file at once, places included.

use std::collections::BTreeMap;
use std::io::Read;

use serde::de::{Deserialize, DeserializeOwned, Error as _, IgnoredAny};
use serde_json::{Error, Result};

use crate::dataset_file::ImageEntry;
use base::bounded_file::MAX_CAPTIONS_BYTES;
use base::digest::Hasher;

/// What is known of a file beside its images.
#[derive(Debug)]
pub(crate) struct FileFacts {
    /// The name of the data set; empty where the file has none.
    pub(crate) name: String,
    /// The SHA-256 of the file.
    pub(crate) digest: String,
}

/// How much of a file is in memory.
#[derive(Clone, Copy)]
struct Limits {
    /// Bytes that are read at once.
    chunk: usize,
    /// Bytes of the largest value, such as an image with its captions.
    value: usize,
}

const LIMITS: Limits = Limits { chunk: 1 << 20, value: MAX_CAPTIONS_BYTES as usize };

/// Gives each image of a file to `each`.
///
/// # Errors
/// A file that cannot be read or is not JSON in this schema; a value of more than [`MAX_CAPTIONS_BYTES`].
pub(crate) fn read(input: impl Read, each: impl FnMut(ImageEntry<'_>)) -> Result<FileFacts> {
    read_within(LIMITS, input, each)
}

fn read_within(limits: Limits, input: impl Read, mut each: impl FnMut(ImageEntry<'_>)) -> Result<FileFacts> {
    let mut window = Window::new(input, limits);
    let (mut name, mut has_images) = (None, false);
    window.object(|window, key| {
        let is_repeated = key == "dataset" && name.is_some() || key == "images" && has_images;
        if is_repeated {
            return Err(window.wrong_at(window.at, &format!("duplicate field `{key}`")));
        }
        window.colon()?;
        match key {
            "dataset" => name = Some(window.value::<String>()?),
            "images" => {
                has_images = true;
                window.list(|window| {
                    window.parse(|bytes| {
                        let (image, length) = first::<ImageEntry<'_>>(bytes)?;
                        each(image);
                        Ok(((), length))
                    })
                })?;
            }
            _ => drop(window.value::<IgnoredAny>()?),
        }
        Ok(())
    })?;
    if !has_images {
        return Err(window.wrong_at(window.at, "missing field `images`"));
    }
    if window.peek()?.is_some() {
        return Err(window.wrong("trailing characters"));
    }
    Ok(FileFacts { name: name.unwrap_or_default(), digest: window.hasher.finish() })
}

/// The first value in `bytes`, and where it ends.
fn first<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<T>();
    let value = values.next().unwrap_or_else(|| Err(Error::custom(NO_VALUE)))?;
    Ok((value, values.byte_offset()))
}

/// What is missing at the end of a file, in the words of `serde_json`, as all messages here.
const NO_VALUE: &str = "EOF while parsing a value";

/// A part of a file.
struct Window<R> {
    input: R,
    limits: Limits,
    bytes: Vec<u8>,
    /// What comes before is parsed.
    at: usize,
    /// Whether the part goes to the end of the file.
    is_last: bool,
    /// The place of its first byte: the line, from 1, and the bytes before it in that line.
    start: (usize, usize),
    /// Of everything that was read.
    hasher: Hasher,
}

impl<R: Read> Window<R> {
    fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, bytes: Vec::new(), at: 0, is_last: false, start: (1, 0), hasher: Hasher::new() }
    }

    /// Drops what is parsed, and reads more.
    fn read_more(&mut self) -> Result<()> {
        self.start = self.place(self.at);
        self.bytes.drain(..self.at);
        self.at = 0;
        let rest = self.bytes.len();
        if rest > self.limits.value {
            return Err(self.wrong(&format!("a value of more than {} bytes", self.limits.value)));
        }
        // The window doubles for a value that is larger, so that few bytes are parsed more than twice.
        let wanted = self.limits.chunk.max(rest);
        let read = self.input.by_ref().take(wanted as u64).read_to_end(&mut self.bytes).map_err(Error::io)?;
        self.is_last = read < wanted;
        self.hasher.update(&self.bytes[rest..]);
        Ok(())
    }

    /// The next byte that is not white space, if there is one.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let is_white = |byte: u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
            let next = self.bytes[self.at..].iter().position(|&byte| !is_white(byte));
            self.at = next.map_or(self.bytes.len(), |spaces| self.at + spaces);
            if next.is_some() || self.is_last {
                return Ok(self.bytes.get(self.at).copied());
            }
            self.read_more()?;
        }
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.parse(|bytes| first(bytes))
    }

    /// What `parse` makes of the next value. It is given bytes that begin with the value, and returns where it ends.
    fn parse<T>(&mut self, mut parse: impl FnMut(&[u8]) -> Result<(T, usize)>) -> Result<T> {
        if self.peek()?.is_none() {
            return Err(self.wrong(NO_VALUE));
        }
        loop {
            match parse(&self.bytes[self.at..]) {
                Ok((value, length)) if self.is_whole(length) => {
                    self.at += length;
                    return Ok(value);
                }
                Ok(_) => self.read_more()?,
                Err(error) => {
                    let error = self.moved(&error);
                    let is_at_end = (error.line(), error.column()) == self.place(self.bytes.len());
                    if self.is_last || !is_at_end {
                        return Err(error);
                    }
                    self.read_more()?;
                }
            }
        }
    }

    /// Whether the value of this length is; a number at the end of the window may go on after it.
    fn is_whole(&self, length: usize) -> bool {
        let value = &self.bytes[self.at..self.at + length];
        self.is_last || self.at + length < self.bytes.len() || value.ends_with(b"}") || value.ends_with(b"]")
    }

    /// Calls `each` for each key of an object, in front of the colon.
    fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        if self.peek()?.is_some_and(|byte| byte != b'{') {
            self.value::<BTreeMap<String, IgnoredAny>>()?;
        }
        self.items(*b"{}", "an object", |window| {
            match window.peek()? {
                Some(b'"') => {}
                Some(_) => return Err(window.wrong("key must be a string")),
                None => return Err(window.wrong(NO_VALUE)),
            }
            let key = window.value::<String>()?;
            window.peek()?;
            each(window, &key)
        })
    }

    fn colon(&mut self) -> Result<()> {
        match self.peek()? {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.wrong("expected `:`")),
            None => return Err(self.wrong("EOF while parsing an object")),
        }
        Ok(())
    }

    /// Calls `each` in front of each element of a list.
    fn list(&mut self, each: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.peek()?.is_some_and(|byte| byte != b'[') {
            self.value::<Vec<IgnoredAny>>()?;
        }
        self.items(*b"[]", "a list", each)
    }

    /// Calls `each` in front of each item between two brackets.
    fn items(
        &mut self,
        [open, close]: [u8; 2],
        kind: &str,
        mut each: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.peek()? != Some(open) {
            return Err(self.wrong(NO_VALUE));
        }
        self.at += 1;
        if self.peek()? == Some(close) {
            self.at += 1;
            return Ok(());
        }
        if self.peek()?.is_none() {
            return Err(self.wrong(&format!("EOF while parsing {kind}")));
        }
        loop {
            each(self)?;
            match self.peek()? {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => break,
                Some(_) => return Err(self.wrong(&format!("expected `,` or `{}`", char::from(close)))),
                None => return Err(self.wrong(&format!("EOF while parsing {kind}"))),
            }
            if self.peek()? == Some(close) {
                return Err(self.wrong("trailing comma"));
            }
        }
        self.at += 1;
        Ok(())
    }

    /// The place of a byte in the file: its line, from 1, and the bytes before it in that line.
    fn place(&self, byte: usize) -> (usize, usize) {
        let before = &self.bytes[..byte];
        let (line, column) = self.start;
        // Counted first, since that is quick and most files are one line.
        match before.iter().filter(|&&byte| byte == b'\n').count() {
            0 => (line, column + byte),
            lines => (line + lines, before.iter().rev().take_while(|&&byte| byte != b'\n').count()),
        }
    }

    /// An error at the next byte.
    fn wrong(&self, message: &str) -> Error {
        self.wrong_at((self.at + 1).min(self.bytes.len()), message)
    }

    fn wrong_at(&self, byte: usize, message: &str) -> Error {
        let (line, column) = self.place(byte);
        Error::custom(format!("{message} at line {line} column {column}"))
    }

    /// An error of parsing what comes next, with its place in the file.
    fn moved(&self, error: &Error) -> Error {
        let (line, column) = self.place(self.at);
        let column = if error.line() == 1 { column + error.column() } else { error.column() };
        let text = error.to_string();
        let message = text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column()));
        let line = line + error.line().saturating_sub(1);
        Error::custom(format!("{} at line {line} column {column}", message.unwrap_or(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest;

    const FILE: &str = r#"{"info": {"year": 2026, "of": [1, -2.5, null]}, "images": [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a \"dog\" \u00e9", "tokens": ["a"]}]},
        {"filename": "b.jpg", "split": "val", "cocoid": -9, "sentences": [{"raw": "x", "weight": 2}, {"raw": "犬"}]}
    ], "dataset": "two", "version": 12}
"#;

    /// The file as text, read in chunks of this size.
    fn read_in(chunk: usize, file: &str) -> Result<(FileFacts, Vec<String>)> {
        let mut images = Vec::new();
        let facts = read_within(Limits { chunk, value: 1000 }, file.as_bytes(), |image| {
            let sentences: Vec<_> = image.sentences.iter().map(|one| (&one.raw, &one.prompt, one.weight)).collect();
            images.push(format!("{} {} {:?} {sentences:?}", image.filename, image.split, image.cocoid));
        })?;
        Ok((facts, images))
    }

    #[test]
    fn a_file_is_the_same_whatever_is_read_at_once() {
        let (facts, images) = read_in(1 << 20, FILE).unwrap();
        assert_eq!((facts.name.as_str(), facts.digest), ("two", digest::sha256(FILE.as_bytes())));
        assert_eq!(images[0], r#"a.jpg train None [("a \"dog\" é", None, None)]"#);
        assert_eq!(images[1], r#"b.jpg val Some(Negative(-9)) [("x", None, Some(2.0)), ("犬", None, None)]"#);
        for chunk in 1..FILE.len() + 2 {
            assert_eq!(read_in(chunk, FILE).unwrap().1, images, "{chunk} bytes at once");
        }
    }

    #[test]
    fn an_error_is_that_of_the_whole_file_and_says_the_same_place() {
        /// As the file is read where it is in memory.
        #[derive(serde::Deserialize)]
        struct Whole<'a> {
            #[serde(default)]
            #[expect(dead_code, reason = "only errors are compared")]
            dataset: String,
            #[serde(borrow)]
            #[expect(dead_code, reason = "only errors are compared")]
            images: Vec<ImageEntry<'a>>,
        }
        let places = [
            ("{\"info\"", "{info"),
            ("\"info\":", "\"info\" "),
            ("2.5", "x"),
            ("null]", "null"),
            ("\"images\"", "\"dataset\": \"x\", \"images\""),
            ("\"images\"", "\"pictures\""),
            ("\"images\": [", "\"images\": {"),
            ("a.jpg\",", "a.jpg\""),
            ("\"split\": \"val\",", ""),
            ("\"a.jpg\"", "7"),
            ("\\u00e9", "\\u00"),
            ("[\"a\"]}]},", "[\"a\"]}]}"),
            ("[\"a\"]}]},", "[\"a\"]}]},,"),
            ("}]}\n    ]", "}]},\n    ]"),
            ("\"two\"", "[]"),
            ("12}", "12"),
            ("12}", "12,}"),
            ("12}", "12}]"),
        ];
        let cut = [0, 1, 8, 50, 70, 100, 150, 200, FILE.len() - 2].map(|length| FILE[..length].to_owned());
        for file in places.iter().map(|(from, to)| FILE.replacen(from, to, 1)).chain(cut) {
            assert_ne!(file, FILE);
            let expected = serde_json::from_str::<Whole<'_>>(&file).err().expect("the file is broken").to_string();
            for chunk in [1, 7, 64, 1 << 20] {
                let found = read_in(chunk, &file).expect_err("the file is broken").to_string();
                assert_eq!(found, expected, "{chunk} bytes at once of {file}");
            }
        }
    }

    #[test]
    fn a_value_that_would_fill_the_memory_is_an_error() {
        let file = FILE.replacen("dog", &"dog ".repeat(1000), 1);
        let text = read_in(64, &file).unwrap_err().to_string();
        assert!(text.starts_with("a value of more than 1000 bytes at line 2 column"), "{text}");
        assert!(read_in(64, &FILE.replacen("dog", &"dog ".repeat(100), 1)).is_ok());
    }
}
