//! What people pay for later when nobody looks: pictures that stand in two splits, and captions of other pictures.

use std::path::Path;

use image::ImageFormat;

use crate::annotations::{RawDataset, Repair};
use crate::prepare::contact_sheet::{Cell, contact_sheet};
use crate::prepare::images;
use crate::prepare::near_duplicates::{MAX_DISTANCE, pairs_across, same_content};
use crate::prepare::ownership::Ours;
use base::digest::sha256;
use pixels::image_file::encode;

/// A picture of some of the images with their captions, to look at.
pub const SAMPLES_FILE: &str = "samples.jpg";

/// Notes pictures that stand, or seem to stand, in two splits.
pub(super) fn compare(raw: &mut RawDataset, stored: &[images::Stored]) {
    /// Pairs that are named.
    const MOST: usize = 20;
    let splits = || raw.images.iter().map(|image| image.split);
    let digests: Vec<_> = stored.iter().map(|stored| stored.digest).zip(splits()).collect();
    let same = same_content(&digests);
    let hashes: Vec<_> = stored.iter().map(|stored| stored.difference_hash).zip(splits()).collect();
    let is_same = |one: usize, other: usize| stored[one].digest == stored[other].digest;
    let near = pairs_across(&hashes, MAX_DISTANCE, is_same);
    let name = |index: usize| {
        let image = &raw.images[index];
        format!("{} ({})", image.filename, image.split.map_or("", |split| split.name()))
    };
    let mut repairs = Vec::new();
    for &(one, other) in same.iter().take(MOST) {
        repairs.push(Repair::new(name(one), format!("the same picture stands in another split: {}", name(other))));
    }
    if same.len() > MOST {
        repairs.push(Repair::new(format!("{} more", same.len() - MOST), "pictures stand in two splits"));
    }
    for &(one, other, distance) in near.closest.iter().take(MOST) {
        let note = format!("looks like {} of another split ({distance} of 64 bits differ)", name(other));
        repairs.push(Repair::new(name(one), note));
    }
    if near.count > MOST {
        repairs.push(Repair::new(format!("{} more pairs", near.count - MOST), "pictures of two splits look alike"));
    }
    if near.num_not_compared > 0 {
        let note = format!("{} not compared with those of other splits", near.num_not_compared);
        repairs.push(Repair::new("pictures without structure", note));
    }
    raw.repairs.extend(repairs);
}

/// Writes the sheet of the images that were kept for it.
///
/// # Errors
/// What writing gives.
pub(super) fn write_samples(
    raw: &RawDataset,
    stored: Vec<images::Stored>,
    directory: &Path,
    ours: &Ours,
) -> anyhow::Result<()> {
    let cells: Vec<Cell> = raw
        .images
        .iter()
        .zip(stored)
        .filter_map(|(image, stored)| {
            let caption = image.captions.first().cloned().unwrap_or_default();
            Some(Cell { image: stored.thumbnail?, caption, label: image.filename.clone() })
        })
        .collect();
    let sheet = encode(&contact_sheet(&cells), ImageFormat::Jpeg)?;
    ours.write(directory, SAMPLES_FILE, &sheet, &sha256(&sheet), false).map(drop)
}
