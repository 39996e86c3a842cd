//! TensorBoard's event files: scalars, text and images, written so that a crash loses at most the last record.
//!
//! A file is a sequence of records, each a length and a message, both followed by a checksum. The messages are
//! TensorFlow's `Event` (event.proto, summary.proto, tensor.proto). Every start of the program writes its own file into
//! the run's folder: TensorBoard reads the files of a folder in the order of their names, as one run.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use base::error::WithHint as _;
use base::protobuf::Message;
use base::system_usage;

const NAME_START: &str = "events.out.tfevents.";
const VERSION: &str = "brain.Event:2";
const UNWRITABLE: &str = "check free disk space and permissions";

// Fields of Event, Summary and Summary.Value.
const WALL_TIME: u32 = 1;
const STEP: u32 = 2;
const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
const SUMMARY_VALUE: u32 = 1;
const TAG: u32 = 1;
const SIMPLE_VALUE: u32 = 2;
const IMAGE: u32 = 4;
const TENSOR: u32 = 8;
const METADATA: u32 = 9;
const DT_STRING: u64 = 7;
const SESSION_STARTS: u64 = 1;
const COLOURS_RGB: u64 = 3;

/// An event file that is being written.
pub struct EventFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl EventFile {
    /// Opens a new file in `folder`, which is created if needed. `wall_time` is in seconds since 1970.
    pub fn create(folder: &Path, wall_time: f64) -> anyhow::Result<Self> {
        let opened = fs::create_dir_all(folder).and_then(|()| open_last(folder, wall_time));
        let opened = opened.with_context(|| format!("cannot create an event file in {}", folder.display()));
        let (file, path) = opened.hint(|| UNWRITABLE)?;
        let mut events = Self { file: BufWriter::new(file), path };
        events.event(wall_time, None, |event| event.text(FILE_VERSION, VERSION))?;
        events.flush()?;
        Ok(events)
    }

    /// Opens a new file in the folder of a run that resumes after step `done`: later steps in earlier files are no
    /// longer shown, because the run repeats them.
    pub fn resume(folder: &Path, wall_time: f64, done: u64) -> anyhow::Result<Self> {
        let mut events = Self::create(folder, wall_time)?;
        // TensorBoard drops earlier events from the step of this event on.
        let start = Message::new().unsigned(1, SESSION_STARTS);
        events.event(wall_time, Some(done.saturating_add(1)), |event| event.message(SESSION_LOG, &start))?;
        events.flush()?;
        Ok(events)
    }

    /// Writes one point of several curves.
    pub fn scalars(&mut self, step: u64, wall_time: f64, values: &[(&str, f64)]) -> anyhow::Result<()> {
        // The old format: the newer one, a tensor, is not among the scalars of TensorBoard's API for reading.
        let values = values.iter().map(|(tag, value)| Message::new().text(TAG, tag).float(SIMPLE_VALUE, *value as f32));
        self.summary(step, wall_time, values)
    }

    /// Writes a text, which is shown as Markdown.
    pub fn text(&mut self, step: u64, wall_time: f64, tag: &str, text: &str) -> anyhow::Result<()> {
        let plugin = Message::new().text(1, "text");
        let metadata = Message::new().message(1, &plugin);
        let shape = Message::new().message(2, &Message::new().unsigned(1, 1));
        let tensor = Message::new().unsigned(1, DT_STRING).message(2, &shape).text(8, text);
        let value = Message::new().text(TAG, tag).message(METADATA, &metadata).message(TENSOR, &tensor);
        self.summary(step, wall_time, [value])
    }

    /// Writes an RGB image; `png` is the content of the file, `width` and `height` are in pixels.
    pub fn image(
        &mut self,
        step: u64,
        wall_time: f64,
        tag: &str,
        width: u32,
        height: u32,
        png: &[u8],
    ) -> anyhow::Result<()> {
        let image = Message::new().unsigned(1, height.into()).unsigned(2, width.into());
        let image = image.unsigned(3, COLOURS_RGB).bytes(4, png);
        self.summary(step, wall_time, [Message::new().text(TAG, tag).message(IMAGE, &image)])
    }

    /// Hands buffered records to the system, so that TensorBoard sees them and a kill does not lose them.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = self.file.flush();
        flushed.with_context(|| format!("cannot write {}", self.path.display())).hint(|| UNWRITABLE)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn summary(&mut self, step: u64, wall_time: f64, values: impl IntoIterator<Item = Message>) -> anyhow::Result<()> {
        let summary = Message::new().messages(SUMMARY_VALUE, values);
        self.event(wall_time, Some(step), |event| event.message(SUMMARY, &summary))
    }

    fn event(
        &mut self,
        wall_time: f64,
        step: Option<u64>,
        fill: impl FnOnce(Message) -> Message,
    ) -> anyhow::Result<()> {
        let event = Message::new().double(WALL_TIME, wall_time);
        let event = fill(if let Some(step) = step { event.unsigned(STEP, step) } else { event });
        let written = self.file.write_all(&framed(&event.into_bytes()));
        written.with_context(|| format!("cannot write {}", self.path.display())).hint(|| UNWRITABLE)
    }
}

/// A new file whose name sorts after those of all event files of the folder, even if the clock was set back or the
/// program was started twice in a second.
fn open_last(folder: &Path, wall_time: f64) -> io::Result<(File, PathBuf)> {
    let mut seconds = wall_time.max(0.0) as u64;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(NAME_START)?.split('.').next()?.parse().ok());
        seconds = seconds.max(rest.unwrap_or(0));
    }
    let mut number = 0;
    loop {
        let path = folder.join(format!("{NAME_START}{seconds:010}.{}.caption-train.{number:03}", host_name()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 999 => number += 1,
            opened => return opened.map(|file| (file, path)),
        }
    }
}

/// The host name for a file name. TensorBoard accepts anything there.
fn host_name() -> String {
    let name = system_usage::host_name().unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A record: length, checksum of the length, data, checksum of the data.
fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc32c(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset as in TensorFlow's record files, so that checksums of checksums stay sound.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::protobuf::{Fields, Value};

    /// The messages of a file; panics where a checksum or a length is wrong.
    fn events(path: &Path) -> Vec<Vec<u8>> {
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let (record, after) = rest.split_at(length + 16);
            assert_eq!(record, framed(&record[12..12 + length]));
            events.push(record[12..12 + length].to_vec());
            rest = after;
        }
        events
    }

    #[test]
    fn checksums_are_those_of_crc_32c() {
        // RFC 3720, B.4: 32 bytes of zeros and of ones.
        let masked = |crc: u32| crc.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc32c(&[0; 32]), masked(0x8a91_36aa));
        assert_eq!(masked_crc32c(&[0xff; 32]), masked(0x62a8_ab43));
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(&folder.path().join("tensorboard"), 1.5e9).unwrap();
        file.scalars(7, 1.5e9 + 1.0, &[("train/loss", 2.5), ("lr", f64::NAN)]).unwrap();
        file.text(7, 1.5e9, "caption", "a dog").unwrap();
        file.image(7, 1.5e9, "samples", 4, 3, b"png").unwrap();
        file.flush().unwrap();
        let events = events(file.path());
        assert_eq!(events.len(), 4);
        let version: Vec<_> = Fields::new(&events[0]).collect();
        assert_eq!(version, [(1, Value::Fixed64(1.5e9f64.to_bits())), (3, Value::Bytes(b"brain.Event:2"))]);
        let fields: Vec<_> = Fields::new(&events[1]).collect();
        assert_eq!(fields[1], (STEP, Value::Varint(7)));
        let loss: Vec<_> = fields[2].1.fields().next().unwrap().1.fields().collect();
        assert_eq!(loss, [(1, Value::Bytes(b"train/loss")), (2, Value::Fixed32(2.5f32.to_bits()))]);
    }

    #[test]
    fn files_of_a_resumed_run_sort_in_the_order_they_were_made() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventFile::create(folder.path(), 1_800_000_000.0).unwrap();
        // The same second, then a clock that was set back.
        let second = EventFile::resume(folder.path(), 1_800_000_000.0, 100).unwrap();
        let third = EventFile::resume(folder.path(), 1_700_000_000.0, 120).unwrap();
        assert!(first.path() < second.path() && second.path() < third.path());
        let purge = events(second.path()).pop().unwrap();
        let fields: Vec<_> = Fields::new(&purge).collect();
        assert_eq!(fields[1..], [(STEP, Value::Varint(101)), (SESSION_LOG, Value::Bytes(&[8, 1]))]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let failed = EventFile::create(&folder.path().join("file"), 0.0).err().unwrap();
        assert!(base::error::describe(&failed).contains("hint: "));
    }
}
