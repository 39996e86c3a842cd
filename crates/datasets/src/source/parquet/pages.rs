//! The pages of a column in a row group. All their headers are read first: a page that claims more than it may is
//! refused before memory is taken for it. The library that decodes pages takes what they claim.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

use crate::shards::place::Codec;
use crate::shards::unpack::unpack;
use crate::source::limits::Limits;
use crate::source::parquet::footer::{Chunk, Leaf, ValueKind};
use crate::source::parquet::thrift::{Kind, Reader};
use base::error::{WithHint as _, failure};

/// Bytes of a page, unpacked.
pub(super) const MAX_PAGE_BYTES: u64 = 1 << 30;
/// Values of a page, and pages of a column in a row group.
const MAX_VALUES: u64 = 4_000_000;
const MAX_PAGES: usize = 1_000_000;
/// Bytes of the pages that are held at a time beside the one that is read: their values are parts of them. The list of
/// one row may be in many.
const HELD_BYTES: u64 = 4 << 20;
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Rows that are read at a time.
const MAX_STEP: u64 = 1000;
/// Bytes that the header of a page usually takes, and takes at most: some have values of their page in them.
const USUAL_HEADER_BYTES: u64 = 1 << 10;
const MAX_HEADER_BYTES: u64 = 1 << 20;

const DAMAGED: &str = "the file is damaged: download it again";
const AS_DISTRIBUTED: &str = "use the file as it is distributed, or write it again with smaller row groups";

/// The codec of this number.
fn codec_of(code: i64) -> anyhow::Result<Codec> {
    const REWRITE: &str = "write the file again with snappy, gzip, zstd or no compression, for example with pandas";
    let other = match code {
        0 => return Ok(Codec::None),
        1 => return Ok(Codec::Snappy),
        2 => return Ok(Codec::Gzip),
        6 => return Ok(Codec::Zstd),
        3 => "LZO".to_owned(),
        4 => "Brotli".to_owned(),
        5 | 7 => "LZ4".to_owned(),
        other => format!("the codec {other}"),
    };
    Err(failure(format!("it is compressed with {other}, which is not read"), REWRITE))
}

/// A page as its header describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Where its content is.
    pub(super) start: u64,
    pub(super) bytes: usize,
    pub(super) unpacked: usize,
    pub(super) content: Content,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Dictionary {
        num_values: u32,
    },
    Data {
        num_values: u32,
        encoding: Encoding,
        definition: Encoding,
        repetition: Encoding,
    },
    /// The levels come first and are not packed.
    Data2 {
        num_values: u32,
        num_nulls: u32,
        num_rows: u32,
        encoding: Encoding,
        definition_bytes: u32,
        repetition_bytes: u32,
        is_packed: bool,
    },
}

/// The pages of a column in a row group, which are read one after the other.
pub(super) struct Pages {
    file: File,
    pub(super) codec: Codec,
    /// As [`Leaf::definition`].
    pub(super) definition: i16,
    headers: VecDeque<Header>,
    has_lists: bool,
    step: Arc<Step>,
}

/// Bytes and values of the pages that were read since a step began.
#[derive(Debug, Default)]
pub(super) struct Step {
    bytes: AtomicU64,
    values: AtomicU64,
}

impl Step {
    pub(super) fn begin(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.values.store(0, Ordering::Relaxed);
    }

    /// Counts a page, if those before it are no more than a step may hold.
    fn add(&self, header: &Header) -> Result<(), ParquetError> {
        let bytes = self.bytes.fetch_add(header.unpacked as u64, Ordering::Relaxed);
        let values = self.values.fetch_add(u64::from(header.content.num_values()), Ordering::Relaxed);
        if bytes > MAX_LIST_BYTES || values > MAX_VALUES {
            return Err(ParquetError::General(format!(
                "the list of a row has more than {MAX_LIST_BYTES} bytes or {MAX_VALUES} values"
            )));
        }
        Ok(())
    }
}

impl Pages {
    /// Reads the headers of all pages of `chunk`.
    pub(super) fn open(mut file: File, leaf: &Leaf, chunk: &Chunk, limits: &Limits) -> anyhow::Result<Self> {
        let codec = codec_of(chunk.codec)?;
        let (mut at, end) = (chunk.start, chunk.start + chunk.bytes);
        let (mut headers, mut num_values, mut num_pages) = (VecDeque::new(), 0, 0);
        while at < end && num_values < chunk.num_values {
            num_pages += 1;
            if num_pages > MAX_PAGES {
                let message = format!("it has more than {MAX_PAGES} pages in a column of a row group");
                return Err(failure(message, AS_DISTRIBUTED));
            }
            let (raw, length) = RawHeader::read(&mut file, at, end - at)?;
            let start = at + length;
            at = raw.bytes.checked_add(start).filter(|next| *next <= end).ok_or_else(|| {
                failure(format!("a page claims {} bytes, more than its column has", raw.bytes), DAMAGED)
            })?;
            let Some(content) = raw.content()? else { continue };
            check_size(&raw, codec, limits)?;
            let claimed = u64::from(content.num_values());
            let is_dictionary = matches!(content, Content::Dictionary { .. });
            // A text takes four bytes at least, and so does a number.
            if claimed > MAX_VALUES || is_dictionary && claimed > raw.unpacked / 4 {
                let message = format!("a page of {} bytes claims {claimed} values", raw.unpacked);
                return Err(failure(message, DAMAGED));
            }
            check_encoding(&content, leaf)?;
            if !is_dictionary {
                num_values += claimed;
            }
            // The library takes a page without values for the last; a column of nulls has a dictionary without any.
            if claimed > 0 || is_dictionary {
                let (bytes, unpacked) = (raw.bytes as usize, raw.unpacked as usize);
                headers.push_back(Header { start, bytes, unpacked, content });
            }
        }
        if num_values != chunk.num_values {
            let message = format!("its pages have {num_values} values, expected {}", chunk.num_values);
            return Err(failure(message, DAMAGED));
        }
        let (definition, has_lists) = (leaf.definition, leaf.repetition > 0);
        Ok(Self { file, codec, definition, headers, has_lists, step: Arc::default() })
    }

    /// Bytes of memory that reading takes: the dictionary and the largest page, packed and unpacked, and other pages.
    pub(super) fn memory(&self) -> u64 {
        let is_dictionary = |header: &&Header| matches!(header.content, Content::Dictionary { .. });
        let of = |header: &Header| (header.bytes + header.unpacked) as u64;
        let dictionary = self.headers.iter().find(is_dictionary).map_or(0, of);
        let packed = self.data().map(|header| header.bytes as u64).max().unwrap_or(0);
        let unpacked: u64 = self.data().map(|header| header.unpacked as u64).sum();
        let (largest, most) = (self.largest(), if self.has_lists { MAX_LIST_BYTES } else { HELD_BYTES });
        dictionary + packed + largest + (unpacked - largest).min(most.max(largest))
    }

    /// Rows to read at a time, so that no more pages are held than [`Self::memory`] says.
    pub(super) fn rows_at_a_time(&self) -> usize {
        (HELD_BYTES / self.largest().max(1)).clamp(1, MAX_STEP) as usize
    }

    /// Counts the pages that are read. A list may not go on and on.
    pub(super) fn step(&self) -> Arc<Step> {
        Arc::clone(&self.step)
    }

    fn data(&self) -> impl Iterator<Item = &Header> {
        self.headers.iter().filter(|header| !matches!(header.content, Content::Dictionary { .. }))
    }

    /// Bytes of the largest page, unpacked.
    fn largest(&self) -> u64 {
        self.data().map(|header| header.unpacked as u64).max().unwrap_or(0)
    }

    /// The header and the bytes of the next page, as they are in the file.
    pub(super) fn next_packed(&mut self) -> Result<Option<(Header, Vec<u8>)>, ParquetError> {
        let Some(header) = self.headers.pop_front() else { return Ok(None) };
        let packed = self.packed(&header)?;
        Ok(Some((header, packed)))
    }

    fn packed(&mut self, header: &Header) -> Result<Vec<u8>, ParquetError> {
        let mut packed = Vec::with_capacity(header.bytes);
        self.file.seek(SeekFrom::Start(header.start))?;
        std::io::Read::by_ref(&mut self.file).take(header.bytes as u64).read_to_end(&mut packed)?;
        if packed.len() != header.bytes {
            return Err(ParquetError::EOF("the file became shorter while it was read".to_owned()));
        }
        Ok(packed)
    }

    fn read(&mut self, header: &Header) -> Result<Page, ParquetError> {
        let mut packed = self.packed(header)?;
        let unpacked = |packed: Vec<u8>| match self.codec {
            Codec::None => Ok(packed),
            codec => unpack(codec, &packed, header.unpacked).map_err(not_unpacked),
        };
        Ok(match header.content {
            Content::Dictionary { num_values } => Page::DictionaryPage {
                buf: Bytes::from(unpacked(packed)?),
                num_values,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            },
            Content::Data { num_values, encoding, definition, repetition } => Page::DataPage {
                buf: Bytes::from(unpacked(packed)?),
                num_values,
                encoding,
                def_level_encoding: definition,
                rep_level_encoding: repetition,
                statistics: None,
            },
            Content::Data2 {
                num_values,
                num_nulls,
                num_rows,
                encoding,
                definition_bytes,
                repetition_bytes,
                is_packed,
            } => {
                let levels = (definition_bytes + repetition_bytes) as usize;
                let buf = match self.codec {
                    codec if is_packed && codec != Codec::None && header.unpacked > levels => {
                        let values =
                            unpack(codec, &packed[levels..], header.unpacked - levels).map_err(not_unpacked)?;
                        packed.truncate(levels);
                        packed.extend(values);
                        packed
                    }
                    _ => packed,
                };
                Page::DataPageV2 {
                    buf: Bytes::from(buf),
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len: definition_bytes,
                    rep_levels_byte_len: repetition_bytes,
                    is_compressed: false,
                    statistics: None,
                }
            }
        })
    }
}

fn not_unpacked(error: io::Error) -> ParquetError {
    ParquetError::General(error.to_string())
}

fn check_size(raw: &RawHeader, codec: Codec, limits: &Limits) -> anyhow::Result<()> {
    if raw.unpacked > MAX_PAGE_BYTES {
        let message = format!("a page of it has {} bytes, at most {MAX_PAGE_BYTES} are accepted", raw.unpacked);
        return Err(failure(message, "write the file again with smaller row groups, such as 100 rows each"));
    }
    if codec == Codec::None && raw.unpacked != raw.bytes {
        return Err(failure("a page that is not compressed has two sizes", DAMAGED));
    }
    limits.check_ratio("a page of it", raw.unpacked, raw.bytes).hint(|| AS_DISTRIBUTED)
}

fn check_encoding(content: &Content, leaf: &Leaf) -> anyhow::Result<()> {
    let (encoding, levels) = match content {
        Content::Dictionary { .. } => return Ok(()),
        Content::Data { encoding, definition, repetition, .. } => (encoding, [Some(definition), Some(repetition)]),
        Content::Data2 { encoding, .. } => (encoding, [None, None]),
    };
    let is_bool = leaf.kind == ValueKind::Bool && *encoding == Encoding::RLE;
    if !matches!(encoding, Encoding::PLAIN | Encoding::RLE_DICTIONARY) && !is_bool {
        let message = format!("its column {} is written with the encoding {encoding}, which is not read", leaf.name);
        return Err(failure(message, "write the file again with the settings that pandas has by default"));
    }
    #[expect(deprecated, reason = "old files have it")]
    let is_known = |encoding: &&Encoding| matches!(encoding, Encoding::RLE | Encoding::BIT_PACKED);
    if !levels.iter().flatten().all(is_known) {
        return Err(failure("the levels of a page are written in no known way", DAMAGED));
    }
    Ok(())
}

impl Content {
    fn num_values(&self) -> u32 {
        match self {
            Self::Dictionary { num_values } | Self::Data { num_values, .. } | Self::Data2 { num_values, .. } => {
                *num_values
            }
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let Some(header) = self.headers.pop_front() else { return Ok(None) };
        if !matches!(header.content, Content::Dictionary { .. }) {
            self.step.add(&header)?;
        }
        self.read(&header).map(Some)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let metadata = |header: &Header| match header.content {
            Content::Dictionary { .. } => PageMetadata { num_rows: None, num_levels: None, is_dict: true },
            Content::Data { num_values, .. } => {
                PageMetadata { num_rows: None, num_levels: Some(num_values as usize), is_dict: false }
            }
            Content::Data2 { num_values, num_rows, .. } => PageMetadata {
                num_rows: Some(num_rows as usize),
                num_levels: Some(num_values as usize),
                is_dict: false,
            },
        };
        Ok(self.headers.front().map(metadata))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.headers.pop_front();
        Ok(())
    }
}

/// A header as it is written.
#[derive(Default)]
struct RawHeader {
    kind: i64,
    bytes: u64,
    unpacked: u64,
    data: Option<[u64; 4]>,
    dictionary: Option<[u64; 2]>,
    /// With the flag that its values are packed.
    data2: Option<([u64; 6], bool)>,
}

impl RawHeader {
    /// The header at `at`, after which `left` bytes are left of the column, and its length.
    fn read(file: &mut File, at: u64, left: u64) -> anyhow::Result<(Self, u64)> {
        for length in [USUAL_HEADER_BYTES, MAX_HEADER_BYTES] {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            std::io::Read::by_ref(file).take(length.min(left)).read_to_end(&mut bytes)?;
            if let Some((header, length)) = Self::parse(&bytes) {
                return Ok((header, length as u64));
            }
            if left <= length {
                break;
            }
        }
        Err(failure("the header of a page cannot be read", DAMAGED))
    }

    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut header = Self::default();
        let mut reader = Reader::new(bytes);
        reader.fields(Kind::Struct, |reader, id, kind| {
            match id {
                1 => header.kind = reader.int(kind)?,
                2 => header.unpacked = reader.count(kind)?,
                3 => header.bytes = reader.count(kind)?,
                5 => header.data = Some(counts(reader, kind, &mut true)?),
                7 => header.dictionary = Some(counts(reader, kind, &mut true)?),
                8 => {
                    let mut is_packed = true;
                    header.data2 = Some((counts(reader, kind, &mut is_packed)?, is_packed));
                }
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some((header, reader.position()))
    }

    /// What is in the page; nothing where that is no part of the column.
    fn content(&self) -> anyhow::Result<Option<Content>> {
        let content = match self.kind {
            0 => self.data.and_then(|[num_values, encoding, definition, repetition]| {
                Some(Content::Data {
                    num_values: num_values.try_into().ok()?,
                    encoding: encoding_of(encoding)?,
                    definition: encoding_of(definition)?,
                    repetition: encoding_of(repetition)?,
                })
            }),
            1 => return Ok(None),
            2 => self
                .dictionary
                .and_then(|[num_values, _]| Some(Content::Dictionary { num_values: num_values.try_into().ok()? })),
            3 => self.data2.and_then(|(counts, is_packed)| {
                let [num_values, num_nulls, num_rows, encoding, definition, repetition] = counts;
                let levels = definition.checked_add(repetition)?;
                let fits = num_nulls <= num_values && num_rows <= num_values && levels <= self.unpacked.min(self.bytes);
                if !fits {
                    return None;
                }
                Some(Content::Data2 {
                    num_values: num_values.try_into().ok()?,
                    num_nulls: num_nulls.try_into().ok()?,
                    num_rows: num_rows.try_into().ok()?,
                    encoding: encoding_of(encoding)?,
                    definition_bytes: definition.try_into().ok()?,
                    repetition_bytes: repetition.try_into().ok()?,
                    is_packed,
                })
            }),
            _ => None,
        };
        content.map(Some).ok_or_else(|| failure("the header of a page does not fit its page", DAMAGED))
    }
}

/// The first numbers of a structure, each of which must be there; `flag` is set where the structure has one.
fn counts<const N: usize>(reader: &mut Reader<'_>, kind: Kind, flag: &mut bool) -> Option<[u64; N]> {
    let mut found = [None; N];
    reader.fields(kind, |reader, id, kind| {
        let place = usize::try_from(id).ok()?.checked_sub(1)?;
        match (found.get_mut(place), kind) {
            (Some(count), _) => *count = Some(reader.count(kind)?),
            (None, Kind::Bool(value)) => *flag = value,
            (None, _) => return Some(false),
        }
        Some(true)
    })?;
    let mut all = [0; N];
    for (count, found) in all.iter_mut().zip(found) {
        *count = found?;
    }
    Some(all)
}

/// The encoding of this number; what is not known counts as one that is not read.
fn encoding_of(number: u64) -> Option<Encoding> {
    #[expect(deprecated, reason = "old files have it")]
    let bit_packed = Encoding::BIT_PACKED;
    Some(match number {
        0 => Encoding::PLAIN,
        2 | 8 => Encoding::RLE_DICTIONARY,
        3 => Encoding::RLE,
        4 => bit_packed,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_before_it_takes_more_memory_than_a_step_may() {
        let page = |unpacked, num_values| {
            let (encoding, definition, repetition) = (Encoding::PLAIN, Encoding::RLE, Encoding::RLE);
            let content = Content::Data { num_values, encoding, definition, repetition };
            Header { start: 0, bytes: 10, unpacked, content }
        };
        for (unpacked, num_values) in [(30 << 20, 1), (100, 2_000_000)] {
            let (step, page) = (Step::default(), page(unpacked, num_values));
            for _ in 0..2 {
                step.begin();
                (0..3).for_each(|_| step.add(&page).unwrap());
                let error = step.add(&page).unwrap_err().to_string();
                assert!(error.contains("the list of a row has more than 67108864 bytes or 4000000 values"), "{error}");
            }
        }
    }
}
