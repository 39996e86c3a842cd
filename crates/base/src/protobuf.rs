//! Protobuf messages as bytes: as much of the format as TensorBoard's and Weights & Biases' files need.
//!
//! There are no schemas and no generated code: fields are written by number and read by iterating over them. Groups,
//! which are long deprecated, are not read.

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// A message that is being written. Fields are written in the order of the calls, including defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    /// A field of type `uint64`, `uint32` or an enum.
    #[must_use]
    pub fn unsigned(mut self, field: u32, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    /// A field of type `int64` or `int32`; negative numbers take ten bytes.
    #[must_use]
    pub fn signed(self, field: u32, value: i64) -> Self {
        self.unsigned(field, value.cast_unsigned())
    }

    /// A field of type `bool`.
    #[must_use]
    pub fn boolean(self, field: u32, value: bool) -> Self {
        self.unsigned(field, u64::from(value))
    }

    /// A field of type `float`.
    #[must_use]
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, FIXED_32);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A field of type `double`.
    #[must_use]
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, FIXED_64);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A field of type `bytes`.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A field of type `string`.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A field of type `string`, skipped if there is no value.
    #[must_use]
    pub fn optional_text(self, field: u32, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(field, value),
            None => self,
        }
    }

    /// A field of type `repeated string`.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, field: u32, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, |message, value| message.text(field, value.as_ref()))
    }

    /// A field that is a message.
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A repeated field of messages.
    #[must_use]
    pub fn messages(self, field: u32, values: impl IntoIterator<Item = Self>) -> Self {
        values.into_iter().fold(self, |message, value| message.message(field, &value))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    /// Seven bits per byte, the lowest first; the high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An integer, an enum or a boolean.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The fields of a message; none if this is not a message.
    pub fn fields(self) -> Fields<'a> {
        match self {
            Self::Bytes(bytes) => Fields::new(bytes),
            _ => Fields::new(&[]),
        }
    }

    /// The text; empty if this is not a text.
    pub fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    /// The integer; 0 if this is not an integer.
    pub fn signed(self) -> i64 {
        match self {
            Self::Varint(value) => value.cast_signed(),
            _ => 0,
        }
    }
}

/// The fields of a message, as number and value, up to the end or the first invalid byte.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads `bytes` as a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn next_field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Varint(self.varint()?),
            FIXED_64 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            LENGTH_DELIMITED => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED_32 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.next_field();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf's description of its encoding.
    #[test]
    fn fields_are_written_as_protobuf_describes_them() {
        assert_eq!(Message::new().unsigned(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").into_bytes(), b"\x12\x07testing");
        let inner = Message::new().unsigned(1, 150);
        assert_eq!(Message::new().message(3, &inner).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let minus_two = [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Message::new().signed(1, -2).into_bytes(), minus_two);
        assert_eq!(Message::new().float(1, 1.0).into_bytes(), [0x0d, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::new().double(1, 1.0).into_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        // A field number above 15 takes two bytes.
        assert_eq!(Message::new().boolean(16, true).into_bytes(), [0x80, 0x01, 0x01]);
    }

    #[test]
    fn what_was_written_is_read() {
        let inner = Message::new().texts(7, ["a", "b"]).optional_text(8, None).optional_text(9, Some("c"));
        let bytes = Message::new().signed(1, -3).messages(199, [inner.clone(), inner]).double(4, 2.5).into_bytes();
        let fields: Vec<_> = Fields::new(&bytes).collect();
        assert_eq!(fields.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 199, 199, 4]);
        assert_eq!(fields[0].1.signed(), -3);
        assert_eq!(fields[3].1, Value::Fixed64(2.5f64.to_bits()));
        let inner: Vec<_> = fields[2].1.fields().map(|(number, value)| (number, value.text())).collect();
        assert_eq!(inner, [(7, "a".to_owned()), (7, "b".to_owned()), (9, "c".to_owned())]);
    }

    #[test]
    fn bytes_that_are_not_a_message_end_the_fields() {
        for bytes in [&[0x08][..], &[0x12, 0x05, b'a'], &[0x0b, 0x01], &[0xff; 12], &[0x09, 1, 2], &[0x12, 0xff, 0xff]]
        {
            assert_eq!(Fields::new(bytes).count(), 0, "{bytes:?}");
        }
    }
}
