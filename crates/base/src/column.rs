//! Numbers one after the other: on the heap, or in a file that the system reads where it is used and forgets when memory
//! is short. Files are little-endian, written once and never changed.

#![expect(unsafe_code, reason = "a file that is mapped is ours, and never changed in place")]

use std::fs::File;
use std::io::{self, BufWriter, Error, ErrorKind, Read as _, Write as _};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, TEMPORARY_SUFFIX};
use crate::{bounded_file, place};

/// Numbers that are read as a slice. To change those in a file, they are copied first, as with `Cow`.
#[derive(Clone, Debug)]
pub enum Column<T> {
    Heap(Vec<T>),
    File(MappedColumn<T>),
}

/// A column in a file.
#[derive(Clone, Debug)]
pub struct MappedColumn<T> {
    file: Arc<Mmap>,
    number: PhantomData<T>,
}

/// What a finished file of a column must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnFile {
    pub bytes: u64,
    pub crc32: u32,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self::Heap(numbers)
    }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Heap(numbers) => numbers,
            Self::File(mapped) => bytemuck::cast_slice(&mapped.file),
        }
    }
}

impl<T: Pod> Column<T> {
    /// The column in the file at `path`. With `checks`, the whole file is read once, beside the memory that maps it.
    ///
    /// # Errors
    /// A file that cannot be read, or has another size or checksum than it should have.
    pub fn open(path: &Path, expected: ColumnFile, checks: bool) -> io::Result<Self> {
        let damaged = |message: String| Error::new(ErrorKind::InvalidData, message);
        if cfg!(target_endian = "big") {
            return Err(Error::new(ErrorKind::Unsupported, "columns are little-endian, and this machine is not"));
        }
        let mut file = bounded_file::open(path)?;
        let (found, size) = (file.metadata()?.len(), size_of::<T>() as u64);
        if found != expected.bytes || !found.is_multiple_of(size) {
            return Err(damaged(format!("it has {found} bytes, expected {} in numbers of {size}", expected.bytes)));
        }
        if checks && checksum(&mut file)? != expected.crc32 {
            return Err(damaged("its checksum is not that of what was written".to_owned()));
        }
        if found == 0 {
            return Ok(Self::default());
        }
        // SAFETY: files of columns appear whole under their names, and are replaced by renaming alone.
        let file = unsafe { Mmap::map(&file)? };
        Ok(Self::File(MappedColumn { file: Arc::new(file), number: PhantomData }))
    }

    /// The numbers on the heap.
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        if let Self::File(_) = self {
            *self = Self::Heap(self.to_vec());
        }
        match self {
            Self::Heap(numbers) => numbers,
            Self::File(_) => unreachable!("they were copied"),
        }
    }

    /// Bytes that it takes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Heap(numbers) => numbers.capacity() * size_of::<T>(),
            Self::File(_) => 0,
        }
    }
}

fn checksum(file: &mut File) -> io::Result<u32> {
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Writes the file of a column piece by piece; it has its name when it is finished.
pub struct ColumnWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl ColumnWriter {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = place::open_to_append(&temporary(path))?;
        // What an earlier attempt left.
        file.set_len(0)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), hasher: crc32fast::Hasher::new(), bytes: 0 })
    }

    pub fn write<T: Pod>(&mut self, numbers: &[T]) -> io::Result<()> {
        let bytes = bytemuck::cast_slice(numbers);
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    pub fn finish(self) -> io::Result<ColumnFile> {
        let Self { path, file, hasher, bytes } = self;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        atomic_file::finish(&temporary(&path), &path)?;
        Ok(ColumnFile { bytes, crc32: hasher.finalize() })
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path, numbers: &[u32]) -> ColumnFile {
        let mut writer = ColumnWriter::create(path).unwrap();
        numbers.chunks(3).for_each(|part| writer.write(part).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn a_column_comes_back_from_its_file_and_can_be_changed_in_memory_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        for numbers in [(0..1000).collect::<Vec<u32>>(), vec![]] {
            let file = written(&path, &numbers);
            let mut column = Column::<u32>::open(&path, file, true).unwrap();
            assert_eq!(*column, *numbers);
            column.to_mut().push(7);
            assert_eq!(column.len(), numbers.len() + 1);
            assert_eq!(*Column::<u32>::open(&path, file, true).unwrap(), *numbers);
        }
    }

    #[test]
    fn a_file_of_another_size_or_content_is_not_the_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        let file = written(&path, &[1, 2, 3]);
        let error = |checks| Column::<u32>::open(&path, file, checks).unwrap_err().to_string();
        std::fs::write(&path, [1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]).unwrap();
        assert!(error(true).contains("checksum"), "{}", error(true));
        std::fs::write(&path, [1, 0, 0, 0, 2]).unwrap();
        assert!(error(false).contains("it has 5 bytes, expected 12"), "{}", error(false));
        assert!(Column::<u64>::open(&path, ColumnFile { bytes: 5, crc32: 0 }, false).is_err());
    }

    #[test]
    fn a_column_that_is_written_again_stays_as_it_was_for_those_that_have_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        let column = Column::<u32>::open(&path, written(&path, &[1, 2, 3]), true).unwrap();
        written(&path, &[9]);
        assert_eq!(*column, [1, 2, 3]);
    }
}
