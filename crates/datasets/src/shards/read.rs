//! Reads images where they lie, from many threads at once.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::shards::place::{Codec, Place, digest_of};
use crate::shards::unpack::unpack_start;
use crate::stamp::Stamp;
use base::bounded_file;
use base::error::{WithHint as _, failure};
use pixels::image_file::budget::budgets;

/// Files that are kept open: fewer than any system allows a program.
const MAX_OPEN: usize = 200;
/// Bytes of an image, and of a block before and after it is unpacked: no index has more.
const MAX_IMAGE_BYTES: u32 = 64 << 20;
const MAX_BLOCK_BYTES: u32 = 1 << 30;

/// Its size and time are as they were.
const TOUCH: &str = "restore the shard, or run `touch` on it and prepare the data again: it is then read again";
const DAMAGED: &str =
    "the index is damaged: remove index/index.json in the folder of the data set, and prepare the data again";
const PREPARE_AGAIN: &str =
    "prepare the data again with the same command: shards that are as they were are not read again";

/// A shard as it was when it was indexed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub path: PathBuf,
    pub bytes: u64,
    /// When its content was last changed, in nanoseconds since 1970; 0 where the system does not say.
    pub modified: i64,
}

impl Shard {
    /// The shard at `path` as it is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        Stamp::of(path).map(|Stamp { bytes, modified, .. }| Self { path: path.to_owned(), bytes, modified })
    }

    /// Why the file that is as `now` says is not the one that was indexed.
    fn change(&self, now: Stamp) -> Option<String> {
        if now.bytes != self.bytes {
            return Some(format!("it has {} bytes, and had {}", now.bytes, self.bytes));
        }
        (now.modified != self.modified).then(|| "it was written again, with as many bytes".to_owned())
    }

    fn open(&self) -> anyhow::Result<File> {
        let cannot = || format!("cannot open the shard {}", self.path.display());
        let file = bounded_file::open(&self.path).with_context(cannot).hint(|| "put it back where it was")?;
        let metadata = file.metadata().with_context(cannot)?;
        match self.change(Stamp::from(&metadata)) {
            Some(change) => Err(was_changed(&self.path, &change)),
            None => Ok(file),
        }
    }
}

fn was_changed(path: &Path, change: &str) -> anyhow::Error {
    let message = format!("the shard {} was changed since it was indexed: {change}", path.display());
    failure(message, PREPARE_AGAIN)
}

/// Reads images of the shards of a data set.
#[derive(Debug)]
pub struct ShardReader {
    shards: Vec<Shard>,
    open: Mutex<OpenFiles>,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<u32, Arc<File>>,
    /// In the order in which they were opened.
    order: VecDeque<u32>,
}

impl ShardReader {
    /// A reader of these shards, which the field `shard` of places counts.
    ///
    /// # Errors
    /// A shard that is not there or was changed since it was indexed.
    pub fn open(shards: Vec<Shard>) -> anyhow::Result<Self> {
        for shard in &shards {
            let now = Stamp::of(&shard.path);
            let now = now.with_context(|| format!("cannot access the shard {}", shard.path.display()));
            let now = now.hint(|| "put it back where it was, or prepare the data again from where it is now")?;
            if let Some(change) = shard.change(now) {
                return Err(was_changed(&shard.path, &change));
            }
        }
        Ok(Self { shards, open: Mutex::default() })
    }

    /// The path of the shard that a place is in; empty where there is none.
    pub fn path(&self, place: &Place) -> &Path {
        self.shards.get(place.shard as usize).map_or(Path::new(""), |shard| &shard.path)
    }

    /// The image at `place`, as its file was before it became a part of the shard.
    ///
    /// # Errors
    /// A shard that cannot be read or was changed, a place that is not in it, and content other than that which was
    /// indexed.
    pub fn read(&self, place: &Place) -> anyhow::Result<Vec<u8>> {
        let Some(shard) = self.shards.get(place.shard as usize) else {
            let message = format!("the index names shard {}, and lists {}", place.shard, self.shards.len());
            return Err(failure(message, DAMAGED));
        };
        let read = || -> anyhow::Result<Vec<u8>> {
            let codec = check(place, shard)?;
            let file = self.file(place.shard, shard)?;
            let image = image(&file, place, codec)?;
            if digest_of(&image) != place.digest {
                return Err(failure("its content is not the one that was indexed", TOUCH));
            }
            Ok(image)
        };
        let begin = place.block;
        read().with_context(|| format!("the image in the block at byte {begin} of the shard {}", shard.path.display()))
    }

    fn file(&self, number: u32, shard: &Shard) -> anyhow::Result<Arc<File>> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open().files.get(&number) {
            return Ok(Arc::clone(file));
        }
        // Others read meanwhile.
        let file = Arc::new(shard.open()?);
        let mut open = open();
        if open.files.insert(number, Arc::clone(&file)).is_none() {
            open.order.push_back(number);
            if open.order.len() > MAX_OPEN
                && let Some(first) = open.order.pop_front()
            {
                open.files.remove(&first);
            }
        }
        Ok(file)
    }
}

/// The codec of a place whose numbers fit together and the shard.
fn check(place: &Place, shard: &Shard) -> anyhow::Result<Codec> {
    let Place { block, block_bytes, unpacked_bytes, offset, bytes, .. } = *place;
    let codec = Codec::of(place.codec);
    let is_inside = block.checked_add(block_bytes.into()).is_some_and(|end| end <= shard.bytes)
        && offset.checked_add(bytes).is_some_and(|end| end <= unpacked_bytes);
    let is_small = bytes <= MAX_IMAGE_BYTES && block_bytes.max(unpacked_bytes) <= MAX_BLOCK_BYTES;
    let is_one_size = codec != Some(Codec::None) || block_bytes == unpacked_bytes;
    match codec {
        Some(codec) if is_inside && is_small && is_one_size => Ok(codec),
        _ => Err(failure(
            format!("{bytes} bytes from {offset} on of a block of {block_bytes} bytes do not lie in the shard"),
            DAMAGED,
        )),
    }
}

fn image(file: &File, place: &Place, codec: Codec) -> anyhow::Result<Vec<u8>> {
    let (offset, bytes) = (place.offset as usize, place.bytes as usize);
    if codec == Codec::None {
        return read_at(file, place.block + u64::from(place.offset), bytes);
    }
    let memory = u64::from(place.block_bytes) + u64::from(place.unpacked_bytes);
    let _share = budgets().files.take(memory, || format!("unpacking a page of {memory} bytes takes"))?;
    let packed = read_at(file, place.block, place.block_bytes as usize)?;
    let start = unpack_start(codec, &packed, place.unpacked_bytes as usize, offset + bytes);
    drop(packed);
    Ok(start.hint(|| PREPARE_AGAIN)?.split_off(offset))
}

fn read_at(file: &File, start: u64, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match read_some(file, &mut bytes[done..], start + done as u64) {
            Ok(0) => return Err(failure("the shard ends within it", PREPARE_AGAIN)),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("it cannot be read").hint(|| "make the shard readable"),
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, start)
}

#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, start)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use base::error::describe;

    const CONTENT: &[u8] = b"before THE IMAGE after";

    fn place_of(content: &[u8]) -> Place {
        Place { digest: digest_of(content), ..Place::plain(7, content.len() as u32) }
    }

    fn shard(content: &[u8]) -> (TempDir, ShardReader, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, content).unwrap();
        let reader = ShardReader::open(vec![Shard::of(&path).unwrap()]).unwrap();
        (folder, reader, path)
    }

    fn refusal(reader: &ShardReader, place: &Place) -> String {
        let text = describe(&reader.read(place).unwrap_err());
        assert!(text.contains("a.tar") && text.contains("hint: "), "{text}");
        text
    }

    #[test]
    fn an_image_is_read_from_a_plain_block_or_out_of_a_packed_one() {
        let (_folder, reader, _) = shard(CONTENT);
        let place = place_of(b"THE IMAGE");
        assert_eq!(reader.read(&place).unwrap(), b"THE IMAGE");
        let packed = snap::raw::Encoder::new().compress_vec(CONTENT).unwrap();
        let (_folder, reader, _) = shard(&[b"1234567".to_vec(), packed.clone()].concat());
        let place = Place {
            block_bytes: packed.len() as u32,
            unpacked_bytes: CONTENT.len() as u32,
            offset: 7,
            codec: Codec::Snappy as u32,
            ..place
        };
        assert_eq!(reader.read(&place).unwrap(), b"THE IMAGE");
        let lies = Place { unpacked_bytes: CONTENT.len() as u32 + 1, ..place };
        assert!(refusal(&reader, &lies).contains("does not unpack to the 23 bytes that it claims"));
    }

    #[test]
    fn a_place_that_is_not_in_the_shard_is_refused_before_memory_is_taken() {
        let (_folder, reader, _) = shard(CONTENT);
        let place = place_of(b"THE IMAGE");
        let zstd = Codec::Zstd as u32;
        for lies in [
            Place { block: 14, ..place },
            Place { block: u64::MAX, ..place },
            Place { bytes: 10, ..place },
            Place { offset: u32::MAX, ..place },
            Place { block_bytes: 8, ..place },
            Place { codec: 5, ..place },
            Place { codec: zstd, unpacked_bytes: u32::MAX, ..place },
            Place { codec: zstd, unpacked_bytes: 1 << 28, bytes: 1 << 27, ..place },
        ] {
            assert!(refusal(&reader, &lies).contains("do not lie in the shard"), "{lies:?}");
        }
        let text = describe(&reader.read(&Place { shard: 1, ..place }).unwrap_err());
        assert!(text.contains("names shard 1, and lists 1") && text.contains("hint: "), "{text}");
    }

    #[test]
    fn content_that_is_not_the_indexed_one_is_an_error() {
        let (_folder, reader, _) = shard(CONTENT);
        let text = refusal(&reader, &Place { block: 6, ..place_of(b"THE IMAGE") });
        assert!(text.contains("its content is not the one that was indexed") && text.contains("byte 6"), "{text}");
    }

    #[test]
    fn a_shard_that_was_changed_since_it_was_indexed_is_an_error_before_training() {
        let (_folder, reader, path) = shard(CONTENT);
        let shards = reader.shards.clone();
        let refused = |expected: &str| {
            let text = describe(&ShardReader::open(shards.clone()).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
            // Also of a shard that is opened later.
            assert!(refusal(&reader, &place_of(b"THE IMAGE")).contains("a.tar"));
        };
        let older = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().append(true).open(&path).unwrap().set_modified(older).unwrap();
        refused("a.tar was changed since it was indexed: it was written again");
        fs::write(&path, b"short").unwrap();
        refused("a.tar was changed since it was indexed: it has 5 bytes, and had 22");
        fs::remove_file(&path).unwrap();
        refused("cannot access the shard");
    }

    #[test]
    fn a_shard_that_becomes_shorter_while_it_is_open_is_an_error() {
        let (_folder, reader, path) = shard(CONTENT);
        let place = place_of(b"THE IMAGE");
        reader.read(&place).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(9).unwrap();
        assert!(refusal(&reader, &place).contains("the shard ends within it"));
    }

    #[test]
    fn more_shards_than_may_be_open_are_read_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let shards = (0..MAX_OPEN + 20).map(|number| {
            let path = folder.path().join(format!("{number}.tar"));
            fs::write(&path, format!("1234567{number}")).unwrap();
            Shard::of(&path).unwrap()
        });
        let reader = ShardReader::open(shards.collect()).unwrap();
        for round in 0..2 {
            for number in (0..reader.shards.len()).rev() {
                let content = number.to_string();
                let place = Place { shard: number as u32, ..place_of(content.as_bytes()) };
                assert_eq!(reader.read(&place).unwrap(), content.as_bytes(), "{round}");
            }
        }
        let open = reader.open.lock().unwrap();
        assert!(open.files.len() == MAX_OPEN && open.order.len() == MAX_OPEN);
    }
}
