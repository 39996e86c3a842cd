//! The pages of a column of bytes as what lies in the file: which rows have a value, and where the values begin.

use parquet::basic::Encoding;

use crate::shards::place::Codec;
use crate::shards::unpack::unpack;
use crate::source::parquet::hybrid::hybrid;
use crate::source::parquet::pages::{Content, Pages};
use crate::source::parquet::snappy::{Cut, cuts};
use base::error::failure;

const DAMAGED: &str = "the file is damaged: download it again";

/// What is unpacked at a time: a page, or what of it comes after the levels.
pub(super) struct Block {
    /// Where it begins in the file, and its bytes there.
    pub(super) position: u64,
    pub(super) bytes: usize,
    pub(super) codec: Codec,
    pub(super) content: Vec<u8>,
    /// Where the values begin in the content.
    pub(super) start: usize,
    pub(super) form: Form,
    /// Nulls counted, except in a dictionary, which has none.
    pub(super) num_values: usize,
    /// Where it can be cut; empty where it cannot.
    pub(super) cuts: Vec<Cut>,
    /// The definition of each value; none where all are there.
    definitions: Vec<u32>,
    /// That of one that is there.
    definition: u32,
}

/// How the values of a block are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Each with its length, to be named by its number.
    Dictionary,
    /// Each with its length.
    Plain,
    /// Numbers of values in the dictionary.
    Numbers,
}

impl Block {
    /// The next block of a column without lists.
    pub(super) fn next(pages: &mut Pages) -> anyhow::Result<Option<Self>> {
        let Some((header, packed)) = pages.next_packed()? else { return Ok(None) };
        let does_not_fit = || failure("the levels of a page do not fit into it", DAMAGED);
        let definition = pages.definition.unsigned_abs();
        let width = (u16::BITS - definition.leading_zeros()) as u8;
        let mut block = Self {
            position: header.start,
            bytes: header.bytes,
            codec: pages.codec,
            content: Vec::new(),
            start: 0,
            form: Form::Dictionary,
            num_values: 0,
            cuts: Vec::new(),
            definitions: Vec::new(),
            definition: definition.into(),
        };
        let cuts_of = |codec: Codec, packed: &[u8]| if codec == Codec::Snappy { cuts(packed) } else { None };
        match header.content {
            Content::Dictionary { num_values } => {
                block.num_values = num_values as usize;
                block.content = unpack(pages.codec, &packed, header.unpacked)?;
                block.cuts = cuts_of(pages.codec, &packed).unwrap_or_default();
            }
            Content::Data { num_values, encoding, definition: levels, .. } => {
                block.num_values = num_values as usize;
                block.form = form_of(encoding);
                block.content = unpack(pages.codec, &packed, header.unpacked)?;
                block.cuts = cuts_of(pages.codec, &packed).unwrap_or_default();
                if definition > 0 {
                    if levels != Encoding::RLE {
                        let message =
                            format!("its nulls are written with the encoding {levels}, as only old programs do");
                        return Err(failure(message, "write the file again, for example with pandas"));
                    }
                    let length = block.content.first_chunk::<4>().map(|length| u32::from_le_bytes(*length));
                    let end = length.and_then(|length| (length as usize).checked_add(4)).ok_or_else(does_not_fit)?;
                    let levels = block.content.get(4..end).ok_or_else(does_not_fit)?;
                    block.definitions = hybrid(levels, width, block.num_values).ok_or_else(does_not_fit)?;
                    block.start = end;
                }
            }
            Content::Data2 { num_values, encoding, definition_bytes, repetition_bytes, is_packed, .. } => {
                block.num_values = num_values as usize;
                block.form = form_of(encoding);
                // They are never packed, and were found to fit into the page.
                let (first, levels) = (repetition_bytes as usize, (repetition_bytes + definition_bytes) as usize);
                if definition > 0 {
                    let levels = packed.get(first..levels).ok_or_else(does_not_fit)?;
                    block.definitions = hybrid(levels, width, block.num_values).ok_or_else(does_not_fit)?;
                }
                let values = packed.get(levels..).ok_or_else(does_not_fit)?;
                let unpacked = header.unpacked.checked_sub(levels).ok_or_else(does_not_fit)?;
                block.codec = if is_packed && unpacked > 0 { pages.codec } else { Codec::None };
                (block.position, block.bytes) = (header.start + levels as u64, values.len());
                let size = if block.codec == Codec::None { values.len() } else { unpacked };
                block.content = unpack(block.codec, values, size)?;
                block.cuts = cuts_of(block.codec, values).unwrap_or_default();
            }
        }
        Ok(Some(block))
    }

    /// Whether the value at this place is no null.
    pub(super) fn is_there(&self, value: usize) -> bool {
        self.definitions.get(value).is_none_or(|definition| *definition == self.definition)
    }
}

fn form_of(encoding: Encoding) -> Form {
    // Others were refused.
    if encoding == Encoding::PLAIN { Form::Plain } else { Form::Numbers }
}
