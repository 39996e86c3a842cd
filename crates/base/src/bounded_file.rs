//! Reads untrusted files: only regular ones, up to a size limit for their kind.
//!
//! A pipe waits for a writer that never comes, a device never ends, and a file of gigabytes instead of a short text
//! fills the memory. Links are followed, as everywhere.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Error, ErrorKind, Read as _};
use std::path::Path;

/// For a descriptive text: the config of a run, a model or an image processor. The largest in use name 22,000 classes
/// in 2 MB.
pub const MAX_DESCRIPTION_BYTES: u64 = 16 << 20;
/// For a tokenizer's file, or a table of a model's tensors. The largest in use have 35 MB.
pub const MAX_TABLE_BYTES: u64 = 64 << 20;
/// For a file of captions or of a run's records. All captions of COCO have 150 MB with their annotations.
pub const MAX_CAPTIONS_BYTES: u64 = 1 << 30;
/// For `dataset.json` of a prepared data set, which is read image by image. Twelve million captions have 3 to 4 GB.
pub const MAX_DATASET_BYTES: u64 = 16 << 30;

/// The content of a regular file of at most `max` bytes.
///
/// # Errors
/// Anything else than a regular file, or a larger one.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open_at_most(path, max)?;
    let bytes = file.metadata()?.len();
    let mut content = Vec::new();
    // The file may grow meanwhile.
    content.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    file.take(max.saturating_add(1)).read_to_end(&mut content)?;
    let read = content.len() as u64;
    if read > max { Err(too_large(read, max)) } else { Ok(content) }
}

/// Reads a UTF-8 text; see [`read`].
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, max)?);
    text.map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::new(ErrorKind::InvalidData, format!("it is not UTF-8 text: see its byte {place}"))
    })
}

/// At most the first `max` bytes of a regular file of any size.
pub fn read_start(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?.take(max).read_to_end(&mut start)?;
    Ok(start)
}

/// Opens a regular file of at most `max` bytes for reading.
///
/// # Errors
/// As [`read`].
pub fn open_at_most(path: &Path, max: u64) -> io::Result<File> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > max { Err(too_large(bytes, max)) } else { Ok(file) }
}

/// Opens a regular file of any size for reading, without blocking; an error for anything else.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening some devices has effects.
    check_kind(&std::fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // A pipe may have replaced the file by now.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    check_kind(&file.metadata()?)?;
    Ok(file)
}

fn check_kind(metadata: &Metadata) -> io::Result<()> {
    match () {
        () if metadata.is_file() => Ok(()),
        () if metadata.is_dir() => Err(Error::new(ErrorKind::IsADirectory, "it is a folder, expected a file")),
        () => Err(Error::new(ErrorKind::InvalidInput, "it is a pipe or a device, expected a regular file")),
    }
}

fn too_large(found: u64, max: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it has {found} bytes, expected at most {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"text");
        assert_eq!(read_text(&path, 5).unwrap(), "text");
        let error = read(&path, 3).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::FileTooLarge, "it has 4 bytes, expected at most 3")
        );
        std::fs::write(&path, b"te\xff").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("see its byte 2"));
        assert_eq!(read(&folder.path().join("absent"), 9).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(folder.path(), 9).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_file_without_content_that_claims_terabytes_is_refused_before_memory_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 42).unwrap();
        assert_eq!(read(file.path(), MAX_TABLE_BYTES).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link, socket) =
            (folder.path().join("pipe"), folder.path().join("link"), folder.path().join("socket"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [pipe.as_path(), &link, &socket, Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = read(path, 9).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
        }
    }
}
