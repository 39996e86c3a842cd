//! What a scan found in a shard, kept on the disk: a build that was stopped goes on with the next shard, and one that
//! is repeated reads only shards that are new or were changed.
//!
//! A part is a line about the shard and a line for each of its images.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::annotations::{Reject, Repair, SplitFrom};
use crate::caption_extras::{CaptionExtras, Weight, unless_usual};
use crate::column_names::ColumnNames;
use crate::image_id::ImageId;
use crate::output::{Options, explain_write};
use crate::prepare::shards::scan::{ScannedImage, ScannedShard};
use crate::prepared::Split;
use crate::shards::place::Place;
use crate::shards::read::Shard;
use base::bounded_file::MAX_DESCRIPTION_BYTES;
use base::digest::{hex, sha256};
use base::error::failure;
use base::{atomic_file, bounded_file};
use pixels::image_file::DECODER_VERSION;

/// The folder of the parts in that of the data set.
pub(super) const PARTS_FOLDER: &str = ".shards";
/// In that folder.
const OPTIONS_FILE: &str = "options.json";
const FORMAT_VERSION: u32 = 1;
/// Bytes of a line.
const MAX_LINE_BYTES: u64 = 1 << 30;

/// What a part says of its shard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartHead {
    format_version: u32,
    /// Version of the decoders that looked at the images.
    decoder: u32,
    shard: Shard,
    columns: ColumnNames,
    pub(super) images: usize,
    pub(super) form: String,
    pub(super) split_names: Vec<(Split, String)>,
    pub(super) rejects: Vec<Reject>,
    pub(super) repairs: Vec<Repair>,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    member: Cow<'a, str>,
    captions: Vec<String>,
    /// Prompt and weight of each caption.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extras: Vec<(Option<String>, f64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<ImageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<Split>,
    /// Of a split that a name speaks of, whether it has no other words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is_sure: Option<bool>,
    block: u64,
    /// Bytes of the block, unpacked; where the image begins in it; bytes of the image; codec.
    numbers: [u32; 5],
    digest: Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn of(image: &'a ScannedImage) -> Self {
        let ScannedImage { member, captions, extras, id, split, split_from, place } = image;
        Self {
            member: Cow::Borrowed(member),
            captions: captions.clone(),
            extras: extras.iter().map(|extras| (extras.prompt.clone(), extras.weight.value())).collect(),
            id: id.clone(),
            split: *split,
            is_sure: match split_from {
                SplitFrom::Annotations => None,
                SplitFrom::Name { is_sure } => Some(*is_sure),
            },
            block: place.block,
            numbers: [place.block_bytes, place.unpacked_bytes, place.offset, place.bytes, place.codec],
            digest: Cow::Owned(hex(&place.digest)),
        }
    }

    fn image(self) -> Option<ScannedImage> {
        let [block_bytes, unpacked_bytes, offset, bytes, codec] = self.numbers;
        let extra = |(prompt, weight)| Some(CaptionExtras { prompt, weight: Weight::new(weight)? });
        Some(ScannedImage {
            member: self.member.into_owned(),
            captions: self.captions,
            extras: unless_usual(self.extras.into_iter().map(extra).collect::<Option<_>>()?),
            id: self.id,
            split: self.split,
            split_from: self.is_sure.map_or(SplitFrom::Annotations, |is_sure| SplitFrom::Name { is_sure }),
            place: Place {
                block: self.block,
                shard: 0,
                block_bytes,
                unpacked_bytes,
                offset,
                bytes,
                codec,
                digest: bytes_of(&self.digest)?,
            },
        })
    }
}

/// The bytes of a digest that was written as text.
fn bytes_of(digest: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digest.len() != 64 || !digest.is_ascii() {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digest[place..place + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The parts of a data set.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    folder: PathBuf,
    columns: ColumnNames,
}

impl Parts {
    /// Those in the data set's folder `directory`, made with these names of columns. The folder for them is created.
    pub(super) fn of(directory: &Path, columns: &ColumnNames) -> anyhow::Result<Self> {
        let folder = directory.join(PARTS_FOLDER);
        match fs::symlink_metadata(&folder) {
            Ok(there) if !there.is_dir() => {
                let message = format!("{} is no folder: parts of the index would go there", folder.display());
                return Err(failure(message, "move it away, or choose another `--output`"));
            }
            _ => explain_write(fs::create_dir_all(&folder), &folder)?,
        }
        Ok(Self { folder, columns: columns.clone() })
    }

    /// Keeps what was asked for: a build that is stopped is continued alike.
    pub(super) fn record_options(&self, options: &Options) -> anyhow::Result<()> {
        let path = self.folder.join(OPTIONS_FILE);
        explain_write(atomic_file::write(&path, &serde_json::to_vec(options)?), &path)
    }

    fn path(&self, shard: &Shard) -> PathBuf {
        let name = sha256(shard.path.to_string_lossy().as_bytes());
        self.folder.join(format!("{}.part", &name[..32]))
    }

    /// Keeps what was found in a shard.
    pub(super) fn write(&self, shard: &Shard, found: &ScannedShard) -> anyhow::Result<()> {
        let head = PartHead {
            format_version: FORMAT_VERSION,
            decoder: DECODER_VERSION,
            shard: shard.clone(),
            columns: self.columns.clone(),
            images: found.images.len(),
            form: found.form.clone(),
            split_names: found.split_names.clone(),
            rejects: found.rejects.clone(),
            repairs: found.repairs.clone(),
        };
        let path = self.path(shard);
        let written = atomic_file::write_with(&path, |file| -> io::Result<()> {
            serde_json::to_writer(&mut *file, &head)?;
            file.write_all(b"\n")?;
            for image in &found.images {
                serde_json::to_writer(&mut *file, &Line::of(image))?;
                file.write_all(b"\n")?;
            }
            Ok(())
        });
        explain_write(written, &path)
    }

    /// What is kept of a shard; `None` where there is nothing, or it was kept of a shard that was other then.
    pub(super) fn head(&self, shard: &Shard) -> Option<PartHead> {
        let part = self.open(shard).ok()?;
        let is_same = part.head.format_version == FORMAT_VERSION
            && part.head.decoder == DECODER_VERSION
            && part.head.shard == *shard
            && part.head.columns == self.columns;
        is_same.then_some(part.head)
    }

    /// Reads a part that was kept.
    pub(super) fn open(&self, shard: &Shard) -> anyhow::Result<Part> {
        let path = self.path(shard);
        let file = bounded_file::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = Lines { file: BufReader::with_capacity(1 << 16, file), line: String::new() };
        let head = match lines.next()? {
            Some(line) => serde_json::from_str(line).ok(),
            None => None,
        };
        let head = head.ok_or_else(|| damaged(&path))?;
        Ok(Part { path, head, lines })
    }

    /// Removes the parts of all other shards.
    pub(super) fn keep_only<'a>(&self, shards: impl Iterator<Item = &'a Shard>) -> anyhow::Result<()> {
        let kept: HashSet<PathBuf> = shards.map(|shard| self.path(shard)).collect();
        let listed = || format!("cannot list {}", self.folder.display());
        for entry in fs::read_dir(&self.folder).with_context(listed)? {
            let path = entry.with_context(listed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = atomic_file::final_name(&name).unwrap_or(&name);
            let is_part = name.strip_suffix(".part").is_some_and(|stem| stem.len() == 32);
            if is_part && !kept.contains(&path) {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => explain_write(removed, &path)?,
                }
            }
        }
        Ok(())
    }
}

/// What [`Parts::record_options`] kept in the data set's folder `directory`.
pub(super) fn recorded_options(directory: &Path) -> Option<Options> {
    let path = directory.join(PARTS_FOLDER).join(OPTIONS_FILE);
    serde_json::from_slice(&bounded_file::read(&path, MAX_DESCRIPTION_BYTES).ok()?).ok()
}

fn damaged(path: &Path) -> anyhow::Error {
    let message = format!("{} is damaged", path.display());
    failure(message, "remove it and run the same command again: its shard is read again")
}

/// A part that is read.
pub(super) struct Part {
    path: PathBuf,
    pub(super) head: PartHead,
    lines: Lines,
}

struct Lines {
    file: BufReader<File>,
    line: String,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<&str>> {
        self.line.clear();
        let count = self.file.by_ref().take(MAX_LINE_BYTES).read_line(&mut self.line)?;
        Ok((count > 0).then_some(self.line.as_str()))
    }
}

impl Part {
    /// Gives each image to `work`, in their order.
    pub(super) fn for_each(mut self, mut work: impl FnMut(ScannedImage) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for _ in 0..self.head.images {
            let line = self.lines.next().with_context(|| format!("cannot read {}", self.path.display()))?;
            let image = line.and_then(|line| serde_json::from_str::<Line<'_>>(line).ok()).and_then(Line::image);
            work(image.ok_or_else(|| damaged(&self.path))?)?;
        }
        Ok(())
    }
}
