//! The values of a column in a row group, row by row. Levels and values are decoded by the library, whose panics are
//! errors about the file.

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type as SchemaType};

use crate::source::limits::Limits;
use crate::source::parquet::footer::{Leaf, RowGroup, ValueKind};
use crate::source::parquet::pages::{Pages, Step};
use base::error::failure;
use pixels::image_file::guard::caught;

/// Reads a column of a row group from its first row on.
pub(crate) struct Values {
    leaf: Leaf,
    reader: ColumnReader,
    memory: u64,
    rows_at_a_time: usize,
    step: Arc<Step>,
}

/// What a text of a list counts beside its bytes: a dictionary has a text of one letter once for all lists.
const LIST_TEXT_BYTES: u64 = 16;

/// Why a value is no text.
enum NoText {
    NotUtf8,
    TooMuch,
}

impl Values {
    pub(super) fn open(
        file: File,
        leaf: &Leaf,
        group: &RowGroup,
        column: usize,
        limits: &Limits,
    ) -> anyhow::Result<Self> {
        let physical = match leaf.kind {
            ValueKind::Text | ValueKind::Bytes => PhysicalType::BYTE_ARRAY,
            ValueKind::Bool => PhysicalType::BOOLEAN,
            ValueKind::Int32 => PhysicalType::INT32,
            ValueKind::Int64 => PhysicalType::INT64,
            ValueKind::Float => PhysicalType::FLOAT,
            ValueKind::Double => PhysicalType::DOUBLE,
            ValueKind::Other => {
                let message = format!("its column {} has neither texts nor numbers", leaf.name);
                return Err(failure(message, "choose another column with `--columns`"));
            }
        };
        let pages = Pages::open(file, leaf, &group.chunks[column], limits)?;
        let (memory, rows_at_a_time, step) = (pages.memory(), pages.rows_at_a_time(), pages.step());
        let schema = SchemaType::primitive_type_builder("value", physical).build()?;
        let path = ColumnPath::new(vec!["value".to_owned()]);
        let description = ColumnDescriptor::new(Arc::new(schema), leaf.definition, leaf.repetition, path);
        let reader = get_column_reader(Arc::new(description), Box::new(pages));
        Ok(Self { leaf: leaf.clone(), reader, memory, rows_at_a_time, step })
    }

    /// Bytes of memory that reading takes, beside what is returned.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// What each of the next `count` rows has, as texts: none, one, or as many as its list has. `left` is how many
    /// bytes texts may still have: a dictionary has a text once that a million rows have.
    pub(crate) fn texts(&mut self, count: usize, left: &mut u64) -> anyhow::Result<Vec<Vec<String>>> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.step_of_texts((count - all.len()).min(self.rows_at_a_time), left)?);
        }
        Ok(all)
    }

    fn step_of_texts(&mut self, count: usize, left: &mut u64) -> anyhow::Result<Vec<Vec<String>>> {
        self.step.begin();
        let leaf = &self.leaf;
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                let (bytes_left, more) = (Cell::new(*left), if leaf.repetition > 0 { LIST_TEXT_BYTES } else { 0 });
                let text = |value: ByteArray| {
                    let bytes = value.data();
                    let taken = bytes.len() as u64 + more;
                    bytes_left.set(bytes_left.get().checked_sub(taken).ok_or(NoText::TooMuch)?);
                    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NoText::NotUtf8)
                };
                let rows = read(reader, leaf, count, text)?;
                let rows = rows.into_iter().map(|row| row.into_iter().collect::<Result<Vec<String>, NoText>>());
                let rows = rows.collect::<Result<Vec<Vec<String>>, NoText>>();
                *left = bytes_left.get();
                rows.map_err(|no_text| match no_text {
                    NoText::NotUtf8 => failure(
                        format!("its column {} is not UTF-8 text", leaf.name),
                        "write it as text, or choose another column with `--columns`",
                    ),
                    NoText::TooMuch => failure(
                        format!("the texts of its column {} take too much memory", leaf.name),
                        "split it into several files",
                    ),
                })
            }
            ColumnReader::BoolColumnReader(reader) => read(reader, leaf, count, |value| value.to_string()),
            ColumnReader::Int32ColumnReader(reader) => read(reader, leaf, count, |value| value.to_string()),
            ColumnReader::Int64ColumnReader(reader) => read(reader, leaf, count, |value| value.to_string()),
            ColumnReader::FloatColumnReader(reader) => read(reader, leaf, count, |value| value.to_string()),
            ColumnReader::DoubleColumnReader(reader) => read(reader, leaf, count, |value| value.to_string()),
            // They are never opened.
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                Ok(vec![Vec::new(); count])
            }
        }
    }

    /// The bytes that the next row has, for a column without lists: a part of a page, which is held as long.
    pub(super) fn bytes(&mut self) -> anyhow::Result<Option<ByteArray>> {
        self.step.begin();
        let ColumnReader::ByteArrayColumnReader(reader) = &mut self.reader else { return Ok(None) };
        let is_there = |value: ByteArray| {
            // Here the library panics where it set none.
            let _ = value.data();
            value
        };
        let mut rows = read(reader, &self.leaf, 1, is_there)?;
        Ok(rows.pop().and_then(|mut row| row.pop()))
    }

    /// Passes over rows of a column of bytes.
    pub(super) fn skip(&mut self, count: usize) -> anyhow::Result<()> {
        self.step.begin();
        let ColumnReader::ByteArrayColumnReader(reader) = &mut self.reader else { return Ok(()) };
        guarded(&self.leaf, || reader.skip_records(count)).map(drop)
    }
}

/// What `value` makes of the values of the next `count` rows.
fn read<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    leaf: &Leaf,
    count: usize,
    value: impl Fn(T::T) -> V,
) -> anyhow::Result<Vec<Vec<V>>> {
    let too_few = || ParquetError::General("it has fewer rows than it says".to_owned());
    guarded(leaf, || {
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (num_rows, _, num_levels) =
            reader.read_records(count, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        let mut rows: Vec<Vec<V>> = Vec::with_capacity(count);
        let mut values = values.into_iter();
        for level in 0..num_levels {
            if leaf.repetition == 0 || repetitions.get(level) == Some(&0) {
                rows.push(Vec::new());
            }
            if leaf.definition == 0 || definitions.get(level) == Some(&leaf.definition) {
                let (Some(row), Some(next)) = (rows.last_mut(), values.next()) else { return Err(too_few()) };
                row.push(value(next));
            }
        }
        if num_rows == count && rows.len() == count { Ok(rows) } else { Err(too_few()) }
    })
}

fn guarded<T>(leaf: &Leaf, work: impl FnOnce() -> Result<T, ParquetError>) -> anyhow::Result<T> {
    let what = match caught(work) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(ParquetError::General(what) | ParquetError::EOF(what))) => what,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(failure(format!("its column {} cannot be read: {what}", leaf.name), "the file is damaged: download it again"))
}
