//! Numbers one after the other: on the heap, or in a file that the system reads where it is used and forgets when memory
//! is short. Files are little-endian, written once and never changed.

#![expect(unsafe_code, reason = "a file that is mapped is ours, and never changed in place")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Error, ErrorKind, Read as _, Write as _};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::atomic_file::{self, TEMPORARY_SUFFIX, folder_of};
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

    /// The same file as numbers of another size.
    ///
    /// # Errors
    /// A file that does not end with a number.
    pub fn cast<U: Pod>(self) -> io::Result<Column<U>> {
        match self {
            Self::File(MappedColumn { file, .. }) if file.len().is_multiple_of(size_of::<U>()) => {
                Ok(Column::File(MappedColumn { file, number: PhantomData }))
            }
            Self::Heap(numbers) if numbers.is_empty() => Ok(Column::default()),
            _ => Err(Error::new(ErrorKind::InvalidData, format!("it has no whole numbers of {}", size_of::<U>()))),
        }
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

/// Writes the file of a column piece by piece; it has its name when it is finished, and is removed when it is not.
pub struct ColumnWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

/// A column that is whole, under a name that no other process uses.
pub struct WrittenColumn {
    path: PathBuf,
    file: NamedTempFile,
    description: ColumnFile,
}

impl ColumnWriter {
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let mut builder = tempfile::Builder::new();
        builder.prefix(name).suffix(TEMPORARY_SUFFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // As for other files: what the user's mask leaves. A temporary file is its owner's alone by default.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder_of(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), hasher: crc32fast::Hasher::new(), bytes: 0 })
    }

    pub fn write<T: Pod>(&mut self, numbers: &[T]) -> io::Result<()> {
        let bytes = bytemuck::cast_slice(numbers);
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Ends the column, which does not have its name yet.
    pub fn close(self) -> io::Result<WrittenColumn> {
        let Self { path, file, hasher, bytes } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(WrittenColumn { path, file, description: ColumnFile { bytes, crc32: hasher.finalize() } })
    }

    pub fn finish(self) -> io::Result<ColumnFile> {
        self.close()?.finish()
    }
}

impl WrittenColumn {
    pub fn open<T: Pod>(&self) -> io::Result<Column<T>> {
        Column::open(self.file.path(), self.description, false)
    }

    /// Gives the file its name.
    pub fn finish(self) -> io::Result<ColumnFile> {
        place::refuse_link(&self.path)?;
        let (_, temporary) = self.file.keep().map_err(|error| error.error)?;
        atomic_file::finish(&temporary, &self.path)?;
        Ok(self.description)
    }
}

/// Removes the columns in a folder that a process left unfinished when it was killed. No other may be writing there.
pub fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains(".bin") && name.ends_with(TEMPORARY_SUFFIX) && path.is_file() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
    fn a_column_that_is_not_finished_leaves_no_file_and_no_other_process_meets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.bin");
        let mut writers = [ColumnWriter::create(&path).unwrap(), ColumnWriter::create(&path).unwrap()];
        writers.iter_mut().zip([[1_u32, 2], [3, 4]]).for_each(|(writer, numbers)| writer.write(&numbers).unwrap());
        let [first, second] = writers;
        let file = first.finish().unwrap();
        drop(second);
        assert_eq!(*Column::<u32>::open(&path, file, true).unwrap(), [1, 2]);
        std::fs::write(folder.path().join("other.binx7.partial"), "killed").unwrap();
        remove_unfinished(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_column_may_be_read_by_those_who_may_read_other_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let paths = ["numbers", "other"].map(|name| folder.path().join(name));
        written(&paths[0], &[1, 2, 3]);
        atomic_file::write(&paths[1], b"x").unwrap();
        let [column, other] = paths.map(|path| std::fs::metadata(path).unwrap().permissions().mode());
        assert_eq!(column, other);
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
