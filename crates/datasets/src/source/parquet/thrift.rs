//! The compact protocol of Thrift, in which Parquet describes a file and each of its pages. It is read where it stands:
//! what a text or a list claims to have is compared with the bytes that are there before anything is made of it.

/// Structures within one another that are skipped.
const MAX_DEPTH: usize = 16;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A field that is a truth value has no more than its kind.
    Bool(bool),
    Byte,
    /// Of 16, 32 or 64 bits.
    Int,
    Double,
    Bytes,
    List,
    Struct,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Bool(true),
            2 => Self::Bool(false),
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Bytes,
            9 => Self::List,
            12 => Self::Struct,
            // Parquet has no sets and no maps.
            _ => return None,
        })
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Every reading returns `None` where the bytes are not what they should be.
impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads a structure. `each` gets the number and the kind of each field, and says whether it has read its value;
    /// what it has not read is skipped.
    pub(super) fn fields(
        &mut self,
        kind: Kind,
        mut each: impl FnMut(&mut Self, i16, Kind) -> Option<bool>,
    ) -> Option<()> {
        if kind != Kind::Struct {
            return None;
        }
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            if !each(self, id, kind)? {
                self.skip(kind, 0)?;
            }
        }
        Some(())
    }

    /// Reads a list; `each` reads an element.
    pub(super) fn list(&mut self, kind: Kind, mut each: impl FnMut(&mut Self, Kind) -> Option<()>) -> Option<()> {
        let (element, count) = self.list_start(kind)?;
        (0..count).try_for_each(|_| each(self, element))
    }

    pub(super) fn int(&mut self, kind: Kind) -> Option<i64> {
        if kind != Kind::Int {
            return None;
        }
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that counts something.
    pub(super) fn count(&mut self, kind: Kind) -> Option<u64> {
        self.int(kind)?.try_into().ok()
    }

    pub(super) fn text(&mut self, kind: Kind) -> Option<&'a [u8]> {
        if kind != Kind::Bytes {
            return None;
        }
        let length = usize::try_from(self.unsigned()?).ok()?;
        self.take(length)
    }

    /// The kind of the next field, whose number replaces that of the one before; nothing at the end.
    #[expect(clippy::option_option, reason = "no field is left, and no field can be read")]
    fn field(&mut self, id: &mut i16) -> Option<Option<Kind>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let kind = Kind::of(byte & 0xf)?;
        *id = match byte >> 4 {
            0 => self.int(Kind::Int)?.try_into().ok()?,
            step => id.checked_add(i16::from(step))?,
        };
        Some(Some(kind))
    }

    fn list_start(&mut self, kind: Kind) -> Option<(Kind, usize)> {
        if kind != Kind::List {
            return None;
        }
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => usize::try_from(self.unsigned()?).ok()?,
            count => usize::from(count),
        };
        // Some programs give an empty list no kind.
        let element = if count == 0 { Kind::Byte } else { Kind::of(byte & 0xf)? };
        // No element takes less than a byte.
        (count <= self.bytes.len() - self.at).then_some((element, count))
    }

    /// Passes over a value that lies in `depth` others.
    pub(super) fn skip(&mut self, kind: Kind, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            Kind::Bool(_) => {}
            Kind::Byte => drop(self.byte()?),
            Kind::Int => drop(self.unsigned()?),
            Kind::Double => drop(self.take(8)?),
            Kind::Bytes => drop(self.text(kind)?),
            Kind::List => {
                let (element, count) = self.list_start(kind)?;
                for _ in 0..count {
                    match element {
                        Kind::Bool(_) => drop(self.byte()?),
                        _ => self.skip(element, depth + 1)?,
                    }
                }
            }
            Kind::Struct => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
            }
        }
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 1 is 3, field 3 a list of two texts, field 20 a structure with a number; what is between is skipped.
    const SOUND: &[u8] =
        &[0x15, 6, 0x11, 0x19, 0x28, 1, b'a', 2, b'b', b'c', 0x0c, 40, 0x15, 1, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn read(bytes: &[u8]) -> Option<(i64, Vec<&[u8]>, i64, usize)> {
        let (mut number, mut texts, mut inner) = (0, Vec::new(), 0);
        let mut reader = Reader::new(bytes);
        reader.fields(Kind::Struct, |reader, id, kind| {
            match id {
                1 => number = reader.int(kind)?,
                3 => reader.list(kind, |reader, kind| {
                    texts.push(reader.text(kind)?);
                    Some(())
                })?,
                20 => reader.fields(kind, |reader, id, kind| {
                    inner = reader.int(kind)?;
                    Some(id == 1)
                })?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some((number, texts, inner, reader.position()))
    }

    #[test]
    fn fields_are_read_by_their_numbers_and_others_are_skipped() {
        assert_eq!(read(SOUND), Some((3, vec![b"a".as_slice(), b"bc"], -1, SOUND.len())));
    }

    #[test]
    fn what_is_cut_or_claims_more_than_is_there_is_nothing() {
        for length in 0..SOUND.len() {
            assert_eq!(read(&SOUND[..length]), None, "{length}");
        }
        for (at, byte) in [(3, 0xf8), (4, 0xff), (4, 0x2b), (5, 0x7f), (0, 0x18), (3, 0x15), (10, 0x0d)] {
            let mut damaged = SOUND.to_vec();
            damaged[at] = byte;
            assert_eq!(read(&damaged), None, "byte {at} is {byte}");
        }
        // A list of two thousand million elements, and structures without an end.
        assert_eq!(read(&[0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]), None);
        assert_eq!(read(&[0x5c; 100_000]), None);
        assert_eq!(read(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]), None);
    }
}
