//! The zip archive of a weight file: its members, and where the bytes of each lie. torch compresses nothing, so that a
//! member has no more bytes than the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use half::{bf16, f16};
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::element::Element;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::visible;

/// Characters of a member's name that are shown.
const MAX_NAME: usize = 100;
/// Members of an archive: a storage for each tensor, and a few files.
const MAX_MEMBERS: usize = 1 << 17;
/// Values that are converted at once.
const PIECE: usize = 1 << 16;

/// Where the bytes of a member lie in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    bytes: u64,
    /// The folder of all members.
    folder: String,
    members: HashMap<String, Place>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let file = bounded_file::open(path).with_context(failed)?;
        let bytes = file.metadata().with_context(failed)?.len();
        // torch puts nothing before the archive. Searching for its start finds a wrong one in some of torch's files.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipArchive::with_config(config, BufReader::new(file))
            .context("it is a truncated or damaged zip archive")?;
        ensure!(zip.len() <= MAX_MEMBERS, "it has {} members, expected at most {MAX_MEMBERS}", zip.len());
        ensure!(!zip.has_duplicate_names(), "two members of the zip archive have the same name");
        ensure!(!zip.has_overlapping_files()?, "members of the zip archive share bytes");
        let mut members = HashMap::new();
        for index in 0..zip.len() {
            let member = zip.by_index_raw(index).context("the zip archive is damaged")?;
            let name = String::from_utf8_lossy(member.name_raw()).into_owned();
            let shown = || visible::cut(&name, MAX_NAME);
            ensure!(!member.encrypted(), "its member {} is encrypted", shown());
            if member.compression() != CompressionMethod::Stored {
                ensure!(!is_of_script(&name), SCRIPT);
                bail!("its member {} is compressed: torch.save compresses nothing", shown());
            }
            let start = member.data_start().context("the zip archive is damaged")?;
            let place = Place { start, bytes: member.size() };
            let is_within = start.checked_add(place.bytes).is_some_and(|end| end <= bytes);
            ensure!(is_within, "its member {} ends after the file: it is truncated", shown());
            members.insert(name, place);
        }
        let folder = folder(&members)?;
        let mut archive = Self { file: zip.into_inner().into_inner(), bytes, folder, members };
        archive.check_byte_order()?;
        Ok(archive)
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The pickle that describes the tensors.
    pub(crate) fn pickle(&mut self) -> anyhow::Result<Vec<u8>> {
        self.small("data.pkl", MAX_DESCRIPTION_BYTES)?.context("the zip archive contains no data.pkl")
    }

    /// Bytes of the storage `key`.
    pub(crate) fn storage_bytes(&self, key: &str) -> anyhow::Result<u64> {
        Ok(self.storage(key)?.bytes)
    }

    /// `count` elements of the storage `key` from its element `start`, as f32.
    pub(crate) fn values(&mut self, key: &str, element: Element, start: u64, count: u64) -> anyhow::Result<Vec<f32>> {
        let place = self.storage(key)?;
        let end = start.checked_add(count).and_then(|end| end.checked_mul(element.bytes()));
        ensure!(end.is_some_and(|end| end <= place.bytes), "the storage {} is too short", visible::cut(key, MAX_NAME));
        self.file.seek(SeekFrom::Start(place.start.saturating_add(start * element.bytes())))?;
        let count = usize::try_from(count).context("a tensor is too large for this machine")?;
        let mut values: Vec<f32> = Vec::new();
        values.try_reserve_exact(count).context("a tensor does not fit into memory")?;
        match element {
            Element::F32 => {
                values.resize(count, 0.0);
                self.file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
                for value in &mut values {
                    *value = f32::from_bits(u32::from_le(value.to_bits()));
                }
            }
            Element::F16 => self.convert(count, &mut values, |bytes| f16::from_le_bytes(bytes).to_f32())?,
            Element::Bf16 => self.convert(count, &mut values, |bytes| bf16::from_le_bytes(bytes).to_f32())?,
            #[expect(clippy::cast_possible_truncation, reason = "rounds, as torch does")]
            Element::F64 => self.convert(count, &mut values, |bytes| f64::from_le_bytes(bytes) as f32)?,
            Element::Other(_) => bail!("the storage {} does not hold real numbers", visible::cut(key, MAX_NAME)),
        }
        Ok(values)
    }

    /// The next `count` elements of N bytes each.
    fn convert<const N: usize>(
        &mut self,
        count: usize,
        values: &mut Vec<f32>,
        to_f32: impl Fn([u8; N]) -> f32,
    ) -> anyhow::Result<()> {
        let mut buffer = vec![[0; N]; count.min(PIECE)];
        while values.len() < count {
            let length = buffer.len().min(count - values.len());
            let piece = &mut buffer[..length];
            self.file.read_exact(piece.as_flattened_mut())?;
            values.extend(piece.iter().map(|&bytes| to_f32(bytes)));
        }
        Ok(())
    }

    fn storage(&self, key: &str) -> anyhow::Result<Place> {
        let found = self.members.get(&format!("{}data/{key}", self.folder)).copied();
        found.with_context(|| format!("the zip archive lacks the storage {}", visible::cut(key, MAX_NAME)))
    }

    /// torch notes the order since 2.1; before, all its machines had the one that is read here.
    fn check_byte_order(&mut self) -> anyhow::Result<()> {
        match self.small("byteorder", 16)?.as_deref() {
            None | Some(b"little") => Ok(()),
            Some(b"big") => bail!("it was written on a big-endian machine"),
            Some(_) => bail!("its byteorder is neither little nor big"),
        }
    }

    /// A whole member of at most `most` bytes.
    fn small(&mut self, name: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(&Place { start, bytes }) = self.members.get(&format!("{}{name}", self.folder)) else {
            return Ok(None);
        };
        ensure!(bytes <= most, "its {name} has {bytes} bytes, expected at most {most}");
        self.file.seek(SeekFrom::Start(start))?;
        let mut content = Vec::new();
        self.file.by_ref().take(bytes).read_to_end(&mut content)?;
        ensure!(content.len() as u64 == bytes, "the file became shorter while it was read");
        Ok(Some(content))
    }
}

/// The folder of the pickle, with its slash: all members are in it.
fn folder(members: &HashMap<String, Place>) -> anyhow::Result<String> {
    let mut folders = members
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.strip_suffix('/').is_some_and(|name| !name.is_empty() && !name.contains('/')));
    let folder = folders.next().context("it is a zip archive without data.pkl, not one of torch")?;
    ensure!(folders.next().is_none(), "the zip archive contains more than one data.pkl");
    ensure!(!members.keys().any(|name| is_of_script(name)), SCRIPT);
    Ok(folder.to_owned())
}

const SCRIPT: &str = "it is a TorchScript archive, which contains a program";

/// Whether a member is one that only TorchScript writes.
fn is_of_script(name: &str) -> bool {
    name.split_once('/').is_some_and(|(_, name)| name == "constants.pkl" || name.starts_with("code/"))
}
