//! Where each image of a Parquet file lies in it: its page, and its bytes in the page. What the library decodes is a
//! copy of the values, of which it does not say where they were.

use crate::shards::place::{Codec, Place, digest_of};
use crate::source::limits::Member;
use crate::source::parquet::blocks::{Block, Form};
use crate::source::parquet::hybrid::hybrid;
use crate::source::parquet::images::share;
use crate::source::parquet::pages::Pages;
use crate::source::parquet::snappy::around;
use crate::source::parquet::table::{ImageColumn, Table};
use base::error::failure;

/// The places of `members`, all the images of `table` in their order, with the SHA-256 of what lies there.
pub(in crate::source) fn places(table: &Table, members: &[Member]) -> anyhow::Result<Vec<Place>> {
    let ImageColumn::One { content, .. } = table.images else { return Ok(Vec::new()) };
    let mut found = Found { members, row: 0, places: Vec::with_capacity(members.len()) };
    for group in 0..table.groups().len() {
        let mut pages = table.pages(group, content)?;
        let _share = share(pages.memory())?;
        found.group(&mut pages)?;
    }
    if found.places.len() == members.len() { Ok(found.places) } else { Err(damaged()) }
}

fn damaged() -> anyhow::Error {
    failure("the pages of its images do not fit together", "the file is damaged: download it again")
}

struct Found<'a> {
    members: &'a [Member],
    /// The next row of the file.
    row: u64,
    places: Vec<Place>,
}

/// A dictionary, and where the values in it are.
struct Dictionary {
    block: Block,
    values: Vec<(usize, usize)>,
}

impl Found<'_> {
    fn group(&mut self, pages: &mut Pages) -> anyhow::Result<()> {
        let mut dictionary: Option<Dictionary> = None;
        while let Some(block) = Block::next(pages)? {
            match block.form {
                Form::Dictionary => {
                    let mut texts = Texts { content: &block.content, at: block.start };
                    let values = (0..block.num_values).map(|_| texts.next()).collect::<Option<Vec<_>>>();
                    dictionary = Some(Dictionary { values: values.ok_or_else(damaged)?, block });
                }
                Form::Plain => {
                    let mut texts = Texts { content: &block.content, at: block.start };
                    for row in 0..block.num_values {
                        if block.is_there(row) {
                            let value = texts.next().ok_or_else(damaged)?;
                            self.add(&block, value)?;
                        }
                        self.row += 1;
                    }
                }
                Form::Numbers => {
                    let Dictionary { block: texts, values } = dictionary.as_ref().ok_or_else(damaged)?;
                    let num_there = (0..block.num_values).filter(|&row| block.is_there(row)).count();
                    let numbers = block.content.get(block.start..).ok_or_else(damaged)?;
                    let numbers = match numbers.split_first() {
                        Some((&width, rest)) => hybrid(rest, width, num_there),
                        None if num_there == 0 => Some(Vec::new()),
                        None => None,
                    };
                    let mut numbers = numbers.ok_or_else(damaged)?.into_iter();
                    for row in 0..block.num_values {
                        if block.is_there(row) {
                            let number = numbers.next().and_then(|number| values.get(number as usize));
                            self.add(texts, *number.ok_or_else(damaged)?)?;
                        }
                        self.row += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the value at (start, length) of `block`, if it is the image that is next.
    fn add(&mut self, block: &Block, (start, length): (usize, usize)) -> anyhow::Result<()> {
        let Some(member) = self.members.get(self.places.len()).filter(|member| member.place == self.row) else {
            return Ok(());
        };
        let content = block.content.get(start..start + length).ok_or_else(damaged)?;
        if member.bytes != length as u64 {
            return Err(damaged());
        }
        let place = block.place(start, length).ok_or_else(damaged)?;
        self.places.push(Place { digest: digest_of(content), ..place });
        Ok(())
    }
}

impl Block {
    /// Where the value at `start` of it lies, without its digest.
    fn place(&self, start: usize, length: usize) -> Option<Place> {
        let bytes = u32::try_from(length).ok()?;
        let plain = Place::plain(self.position + start as u64, bytes);
        if self.codec == Codec::None {
            return Some(plain);
        }
        if let Some((first, last)) = around(&self.cuts, start, start + length) {
            return Some(Place {
                block: self.position + first.packed as u64,
                block_bytes: u32::try_from(last.packed - first.packed).ok()?,
                unpacked_bytes: u32::try_from(last.unpacked - first.unpacked).ok()?,
                offset: u32::try_from(start - first.unpacked).ok()?,
                codec: Codec::SnappyPart as u32,
                ..plain
            });
        }
        Some(Place {
            block: self.position,
            block_bytes: u32::try_from(self.bytes).ok()?,
            unpacked_bytes: u32::try_from(self.content.len()).ok()?,
            offset: u32::try_from(start).ok()?,
            codec: self.codec as u32,
            ..plain
        })
    }
}

/// Texts or bytes with their lengths before them.
struct Texts<'a> {
    content: &'a [u8],
    at: usize,
}

impl Texts<'_> {
    /// Start and length of the next; nothing where it does not end in the page.
    fn next(&mut self) -> Option<(usize, usize)> {
        let length = self.content.get(self.at..)?.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let start = self.at + 4;
        self.at = start.checked_add(length).filter(|&end| end <= self.content.len())?;
        Some((start, length))
    }
}
