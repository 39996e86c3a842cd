//! Writes the event files that `tests/reference/tensorboard_reads.py --check` reads.

use anyhow::Context as _;
use tensorboard::EventFile;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("a folder")?;
    let png: Vec<u8> = PNG.to_vec();
    let mut events = EventFile::create(folder.as_ref(), 1.8e9)?;
    events.text(1, 1.8e9, "config", "**lr** 0.1, ein Hündchen")?;
    for step in 1..=13 {
        events.scalars(step, 1.8e9 + step as f64, &[("train/loss", 1.0), ("lr", 0.5)])?;
    }
    events.image(10, 1.8e9 + 10.0, "val/samples", 5, 4, &png)?;
    events.image(13, 1.8e9 + 13.0, "val/samples", 5, 4, &png)?;
    events.flush()?;
    let mut events = EventFile::resume(folder.as_ref(), 1.8e9, 10)?;
    events.text(11, 1.8e9 + 20.0, "config", "again")?;
    for step in 11..=20 {
        events.scalars(step, 1.8e9 + 20.0 + step as f64, &[("train/loss", 2.0)])?;
    }
    events.flush()
}

/// A black picture of 5 by 4 pixels.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x05\0\0\0\x04\x08\x02\0\0\0\xc9Qb\x17\0\0\0\x0cIDATx\x9cc`\xa0\x0c\0\0\0@\0\x01\xb74|\xef\0\0\0\0IEND\xaeB`\x82";
