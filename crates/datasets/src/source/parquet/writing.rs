//! Parquet files for tests, written by the library.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The values of a column in a row group, with their levels.
pub(crate) struct Column {
    values: Values,
    definitions: Vec<i16>,
    repetitions: Option<Vec<i16>>,
}

enum Values {
    Bytes(Vec<ByteArray>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
}

impl Column {
    /// With another definition for what is there.
    pub(crate) fn at_level(mut self, level: i16) -> Self {
        let max = self.definitions.iter().copied().max().unwrap_or(0);
        self.definitions.iter_mut().filter(|own| **own == max).for_each(|own| *own = level);
        self
    }

    /// With another repetition for elements that are not the first of their lists.
    pub(crate) fn at_repetition(mut self, repetition: i16) -> Self {
        self.repetitions.iter_mut().flatten().filter(|own| **own > 0).for_each(|own| *own = repetition);
        self
    }
}

/// Bytes or texts, of which some are absent; one that is there has the definition `level`.
pub(crate) fn bytes<T: AsRef<[u8]>>(all: &[Option<T>], level: i16) -> Column {
    let values = all.iter().flatten().map(|value| ByteArray::from(value.as_ref().to_vec())).collect();
    let definitions = all.iter().map(|value| if value.is_some() { level } else { 0 }).collect();
    Column { values: Values::Bytes(values), definitions, repetitions: None }
}

pub(crate) fn texts(all: &[&str]) -> Column {
    bytes(&all.iter().map(|text| Some(*text)).collect::<Vec<_>>(), 1)
}

pub(crate) fn int64(all: &[i64]) -> Column {
    Column { values: Values::Int64(all.to_vec()), definitions: vec![1; all.len()], repetitions: None }
}

pub(crate) fn double(all: &[Option<f64>]) -> Column {
    let definitions = all.iter().map(|value| i16::from(value.is_some())).collect();
    Column { values: Values::Double(all.iter().flatten().copied().collect()), definitions, repetitions: None }
}

/// Lists of texts; an element that is there has the definition `level`, an empty list 1.
pub(crate) fn lists(all: &[&[&str]], level: i16) -> Column {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for list in all {
        if list.is_empty() {
            definitions.push(1);
            repetitions.push(0);
        }
        for (place, text) in list.iter().enumerate() {
            values.push(ByteArray::from(text.as_bytes().to_vec()));
            definitions.push(level);
            repetitions.push(i16::from(place > 0));
        }
    }
    Column { values: Values::Bytes(values), definitions, repetitions: Some(repetitions) }
}

/// As `datasets` declares an image and its caption.
pub(crate) const IMAGES: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    optional binary caption (STRING);
}";

/// An image, its path and its caption.
type Row<'a> = (&'a [u8], &'a str, &'a str);

/// The columns of [`IMAGES`].
pub(crate) fn images(rows: &[Row<'_>]) -> Vec<Column> {
    let of = |part: fn(&Row<'_>) -> Vec<u8>| rows.iter().map(|row| Some(part(row))).collect::<Vec<_>>();
    vec![
        bytes(&of(|row| row.0.to_vec()), 2),
        bytes(&of(|row| row.1.as_bytes().to_vec()), 2),
        bytes(&of(|row| row.2.as_bytes().to_vec()), 1),
    ]
}

pub(crate) fn compressed(compression: Compression) -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(compression)
}

/// Writes row groups of these columns.
pub(crate) fn write(path: &Path, schema: &str, properties: WriterPropertiesBuilder, groups: Vec<Vec<Column>>) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for Column { values, definitions, repetitions } in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let (definitions, repetitions) = (Some(definitions.as_slice()), repetitions.as_deref());
            match &values {
                Values::Bytes(values) => {
                    column.typed::<ByteArrayType>().write_batch(values, definitions, repetitions).unwrap()
                }
                Values::Int64(values) => {
                    column.typed::<Int64Type>().write_batch(values, definitions, repetitions).unwrap()
                }
                Values::Double(values) => {
                    column.typed::<DoubleType>().write_batch(values, definitions, repetitions).unwrap()
                }
            };
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}
