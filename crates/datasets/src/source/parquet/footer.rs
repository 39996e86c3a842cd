//! What a Parquet file says of itself at its end: its columns, and where the row groups have them. All of it is checked
//! against the file before anything is read.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use crate::source::parquet::thrift::{Kind, Reader};
use base::error::failure;

pub(super) const MAGIC: &[u8] = b"PAR1";
/// Of a file whose description is encrypted.
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// Bytes of the description: a terabyte in row groups of 100 MB is described in 16 MB.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
/// Groups of columns within one another.
const MAX_DEPTH: usize = 16;
const MAX_COLUMNS: usize = 10_000;

const DAMAGED: &str = "the file is damaged: download it again";

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Text,
    /// Bytes of which the file does not say what they are.
    Bytes,
    Bool,
    Int32,
    Int64,
    Float,
    Double,
    /// Dates, decimal numbers and others that are nothing to a caption.
    Other,
}

/// A column of values: the file's own, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its name and those of the columns that it is a part of, with dots between; lists have no names.
    pub(crate) name: String,
    pub(crate) kind: ValueKind,
    /// As Parquet counts: a value is there where its definition has this level.
    pub(super) definition: i16,
    /// Lists around a value.
    pub(crate) repetition: i16,
}

impl Leaf {
    /// The column of the file that it is, or is a part of.
    pub(crate) fn column(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }
}

/// The values of one column in a row group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) codec: i64,
    /// Values, nulls and empty lists counted.
    pub(super) num_values: u64,
}

#[derive(Debug)]
pub(super) struct RowGroup {
    pub(super) num_rows: u64,
    /// One for each of the leaves.
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Debug)]
pub(super) struct Footer {
    pub(super) leaves: Vec<Leaf>,
    pub(super) groups: Vec<RowGroup>,
}

impl Footer {
    /// Reads it from the end of the file.
    pub(super) fn read(file: &mut File) -> anyhow::Result<Self> {
        let length = file.metadata()?.len();
        let mut start = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(64).read_to_end(&mut start)?;
        if !start.starts_with(MAGIC) && !start.starts_with(MAGIC_ENCRYPTED) {
            return Err(not_parquet(&start));
        }
        let mut tail = [0; 8];
        if length < 12 {
            return Err(cut());
        }
        file.seek(SeekFrom::Start(length - 8))?;
        file.read_exact(&mut tail)?;
        let bytes = description_bytes(length, tail)?;
        let end = length - 8 - bytes;
        let mut description = Vec::new();
        file.seek(SeekFrom::Start(end))?;
        file.take(bytes).read_to_end(&mut description)?;
        Self::of(&description, end)
    }

    /// The footer that `description` is, of a file that has it from byte `end` on.
    pub(super) fn of(description: &[u8], end: u64) -> anyhow::Result<Self> {
        let raw = RawFooter::parse(description).ok_or_else(undescribed)?;
        raw.check(end)
    }
}

/// The length of the description of a file of `length` bytes, at least 12, by its last 8.
pub(super) fn description_bytes(length: u64, tail: [u8; 8]) -> anyhow::Result<u64> {
    let (size, magic) = tail.split_at(4);
    if magic == MAGIC_ENCRYPTED {
        return Err(encrypted());
    }
    if magic != MAGIC {
        return Err(cut());
    }
    let bytes = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    if bytes > length - 12 {
        let message = format!("its description claims {bytes} bytes, more than the file has");
        return Err(failure(message, DAMAGED));
    }
    if bytes > MAX_FOOTER_BYTES {
        let message = format!("its description has {bytes} bytes, at most {MAX_FOOTER_BYTES} are accepted");
        return Err(failure(message, "write the file again with larger row groups"));
    }
    Ok(bytes)
}

pub(super) fn undescribed() -> anyhow::Error {
    failure("its description cannot be read", DAMAGED)
}

pub(super) fn cut() -> anyhow::Error {
    failure("it is truncated: its end is missing", "download it again")
}

fn encrypted() -> anyhow::Error {
    failure("it is encrypted", "write it again without encryption")
}

fn not_parquet(start: &[u8]) -> anyhow::Error {
    let text = String::from_utf8_lossy(start).to_lowercase();
    if text.starts_with("version https://git-lfs") {
        return failure("it is a Git LFS pointer", "fetch the file with `git lfs pull`");
    }
    if ["<!doctype html", "<html"].iter().any(|tag| text.trim_start().starts_with(tag)) {
        return failure("it is a web page", "download the file itself");
    }
    if start.is_empty() {
        return failure("it is empty: it has 0 bytes", "download it again");
    }
    let shown: String = String::from_utf8_lossy(start).chars().take(4).collect();
    failure(format!("it is not a Parquet file: it begins with {shown:?}"), "download it again, or rename it")
}

/// The description as it is written, before it is compared with the file.
#[derive(Default)]
struct RawFooter {
    elements: Vec<Element>,
    groups: Vec<RawGroup>,
}

/// A column, or a group of as many as follow.
#[derive(Default)]
struct Element {
    physical: Option<i64>,
    /// Required, optional or repeated.
    repetition: i64,
    name: String,
    num_children: u64,
    converted: Option<i64>,
    /// The number of the type that newer programs write beside `converted`.
    logical: Option<i16>,
}

#[derive(Default)]
struct RawGroup {
    num_rows: u64,
    chunks: Vec<RawChunk>,
}

#[derive(Default)]
struct RawChunk {
    is_encrypted: bool,
    is_elsewhere: bool,
    has_description: bool,
    codec: i64,
    num_values: u64,
    bytes: u64,
    data_start: u64,
    dictionary_start: u64,
}

impl RawFooter {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut footer = Self::default();
        Reader::new(bytes).fields(Kind::Struct, |reader, id, kind| {
            match id {
                2 => reader.list(kind, |reader, kind| {
                    footer.elements.push(Element::read(reader, kind)?);
                    (footer.elements.len() <= MAX_COLUMNS).then_some(())
                })?,
                4 => reader.list(kind, |reader, kind| {
                    footer.groups.push(RawGroup::read(reader, kind)?);
                    Some(())
                })?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(footer)
    }

    /// The footer, where everything in it lies before `end` and fits together.
    fn check(self, end: u64) -> anyhow::Result<Footer> {
        let Some(leaves) = leaves(&self.elements) else {
            return Err(failure("its columns do not fit together", DAMAGED));
        };
        let mut groups = Vec::with_capacity(self.groups.len());
        for (number, raw) in self.groups.into_iter().enumerate() {
            if raw.chunks.iter().any(|chunk| chunk.is_encrypted) {
                return Err(encrypted());
            }
            if raw.chunks.iter().any(|chunk| chunk.is_elsewhere) {
                return Err(failure("its columns lie in other files", "write it again as one file"));
            }
            if raw.chunks.len() != leaves.len() || raw.chunks.iter().any(|chunk| !chunk.has_description) {
                return Err(failure(format!("row group {number} does not have the columns of the file"), DAMAGED));
            }
            let chunks: Vec<Chunk> = raw.chunks.iter().map(RawChunk::chunk).collect();
            let is_inside = |chunk: &Chunk| {
                chunk.start >= MAGIC.len() as u64
                    && chunk.start.checked_add(chunk.bytes).is_some_and(|last| last <= end)
            };
            if let Some(place) = chunks.iter().position(|chunk| !is_inside(chunk)) {
                let (bytes, name) = (chunks[place].bytes, &leaves[place].name);
                let message = format!("the {bytes} bytes of {name} in row group {number} do not lie in the file");
                return Err(failure(message, DAMAGED));
            }
            let fits = |(leaf, chunk): (&Leaf, &Chunk)| leaf.repetition > 0 || chunk.num_values == raw.num_rows;
            if !leaves.iter().zip(&chunks).all(fits) {
                return Err(failure(format!("row group {number} has columns of different lengths"), DAMAGED));
            }
            groups.push(RowGroup { num_rows: raw.num_rows, chunks });
        }
        Ok(Footer { leaves, groups })
    }
}

impl Element {
    fn read(reader: &mut Reader<'_>, kind: Kind) -> Option<Self> {
        let mut element = Self::default();
        reader.fields(kind, |reader, id, kind| {
            match id {
                1 => element.physical = Some(reader.int(kind)?),
                3 => element.repetition = reader.int(kind)?,
                4 => element.name = String::from_utf8_lossy(reader.text(kind)?).into_owned(),
                5 => element.num_children = reader.count(kind)?,
                6 => element.converted = Some(reader.int(kind)?),
                10 => reader.fields(kind, |_, id, _| {
                    element.logical = Some(id);
                    Some(false)
                })?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(element)
    }

    fn value_kind(&self) -> Option<ValueKind> {
        const TEXTS: [i64; 3] = [0, 4, 19];
        const LOGICAL_TEXTS: [i16; 3] = [1, 4, 12];
        let is_text = self.logical.is_some_and(|kind| LOGICAL_TEXTS.contains(&kind))
            || self.converted.is_some_and(|kind| TEXTS.contains(&kind));
        // Whole numbers of any width stay what they are; decimal numbers, dates and times do not.
        let is_number =
            self.converted.is_none_or(|kind| (11..=18).contains(&kind)) && self.logical.is_none_or(|kind| kind == 10);
        Some(match self.physical? {
            0 => ValueKind::Bool,
            1 if is_number => ValueKind::Int32,
            2 if is_number => ValueKind::Int64,
            4 => ValueKind::Float,
            5 => ValueKind::Double,
            6 if is_text => ValueKind::Text,
            6 if self.converted.is_none() && self.logical.is_none() => ValueKind::Bytes,
            _ => ValueKind::Other,
        })
    }
}

impl RawGroup {
    fn read(reader: &mut Reader<'_>, kind: Kind) -> Option<Self> {
        let mut group = Self::default();
        reader.fields(kind, |reader, id, kind| {
            match id {
                1 => reader.list(kind, |reader, kind| {
                    group.chunks.push(RawChunk::read(reader, kind)?);
                    (group.chunks.len() <= MAX_COLUMNS).then_some(())
                })?,
                3 => group.num_rows = reader.count(kind)?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(group)
    }
}

impl RawChunk {
    fn read(reader: &mut Reader<'_>, kind: Kind) -> Option<Self> {
        let mut chunk = Self::default();
        reader.fields(kind, |reader, id, kind| {
            match id {
                1 => chunk.is_elsewhere = !reader.text(kind)?.is_empty(),
                3 => {
                    chunk.has_description = true;
                    chunk.read_description(reader, kind)?;
                }
                8 | 9 => {
                    chunk.is_encrypted = true;
                    return Some(false);
                }
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(chunk)
    }

    fn read_description(&mut self, reader: &mut Reader<'_>, kind: Kind) -> Option<()> {
        reader.fields(kind, |reader, id, kind| {
            match id {
                4 => self.codec = reader.int(kind)?,
                5 => self.num_values = reader.count(kind)?,
                7 => self.bytes = reader.count(kind)?,
                9 => self.data_start = reader.count(kind)?,
                11 => self.dictionary_start = reader.count(kind)?,
                _ => return Some(false),
            }
            Some(true)
        })
    }

    fn chunk(&self) -> Chunk {
        // Some programs write a 0 where there is no dictionary.
        let has_dictionary = self.dictionary_start > 0 && self.dictionary_start < self.data_start;
        let start = if has_dictionary { self.dictionary_start } else { self.data_start };
        Chunk { start, bytes: self.bytes, codec: self.codec, num_values: self.num_values }
    }
}

/// The columns that have values, in the order in which row groups have them; nothing where the elements are no tree.
fn leaves(elements: &[Element]) -> Option<Vec<Leaf>> {
    let root = elements.first()?;
    let (mut leaves, mut at) = (Vec::new(), 1);
    for _ in 0..root.num_children {
        let place = Place { depth: 0, name: String::new(), definition: 0, repetition: 0, is_in_list: false };
        add_leaves(elements, &mut at, &place, &mut leaves)?;
    }
    (at == elements.len()).then_some(leaves)
}

/// Where an element stands.
struct Place {
    depth: usize,
    name: String,
    definition: i16,
    repetition: i16,
    /// It is what a list consists of: its own name says nothing.
    is_in_list: bool,
}

fn add_leaves(elements: &[Element], at: &mut usize, place: &Place, leaves: &mut Vec<Leaf>) -> Option<()> {
    /// What the elements of lists are called.
    const ELEMENTS: [&str; 4] = ["element", "item", "array", "array_element"];
    let element = elements.get(*at)?;
    *at += 1;
    if place.depth > MAX_DEPTH {
        return None;
    }
    let (is_optional, is_repeated) = match element.repetition {
        0 => (0, 0),
        1 => (1, 0),
        2 => (1, 1),
        _ => return None,
    };
    let is_plumbing = place.depth > 0 && is_repeated == 1 || place.is_in_list && ELEMENTS.contains(&&*element.name);
    let name = match (is_plumbing, place.name.is_empty()) {
        (true, _) => place.name.clone(),
        (false, true) => element.name.clone(),
        (false, false) => format!("{}.{}", place.name, element.name),
    };
    let (definition, repetition) = (place.definition + is_optional, place.repetition + is_repeated);
    match element.value_kind() {
        Some(kind) if element.num_children == 0 => leaves.push(Leaf { name, kind, definition, repetition }),
        Some(_) => return None,
        None => {
            let is_in_list = is_repeated == 1;
            let inner = Place { depth: place.depth + 1, name, definition, repetition, is_in_list };
            for _ in 0..element.num_children {
                add_leaves(elements, at, &inner, leaves)?;
            }
        }
    }
    Some(())
}
