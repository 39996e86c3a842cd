//! What is in a shard: its images with their captions, each decoded once, and where each of them lies.

use std::path::Path;

use crate::annotations::{RawImage, Reject, Repair, Selector, SplitFrom, TableColumns, choose};
use crate::caption_extras::CaptionExtras;
use crate::column_names::ColumnNames;
use crate::image_id::ImageId;
use crate::name_forms::without_ending;
use crate::prepare::gather::{Matched, check_any, match_files};
use crate::prepare::guessed_splits::hear_folders;
use crate::prepare::images::reason;
use crate::prepared::{ImageRecord, Split};
use crate::shards::place::{Codec, Place, digest_of};
use crate::source::{ImageColumn, Source, Table, is_archive_name, is_packed_name, is_parquet_name};
use base::error::{failure, usage_error};
use pixels::image_file::decode_rgb;

/// An image of a shard that can be decoded and has a caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedImage {
    /// Its path in the shard.
    pub member: String,
    /// As [`ImageRecord::captions`].
    pub captions: Vec<String>,
    /// As [`ImageRecord::extras`].
    pub extras: Vec<CaptionExtras>,
    /// What the annotations call it, if they give ids.
    pub id: Option<ImageId>,
    /// What it is for, if anything says it, and what that is.
    pub split: Option<Split>,
    pub split_from: SplitFrom,
    /// With shard 0.
    pub place: Place,
}

impl ScannedImage {
    /// The image as a part of a data set: of the shard called `shard`, and at this position among all images.
    pub fn record(self, shard: &str, split: Split, position: u64) -> ImageRecord {
        ImageRecord {
            filename: format!("{shard}/{}", self.member),
            split,
            captions: self.captions,
            extras: self.extras,
            image_id: self.id.unwrap_or(ImageId::Natural(position)),
        }
    }
}

/// What is in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannedShard {
    pub images: Vec<ScannedImage>,
    /// For each split that names of files or folders speak of the first such name.
    pub split_names: Vec<(Split, String)>,
    pub rejects: Vec<Reject>,
    pub repairs: Vec<Repair>,
    /// How its captions are written, with the columns where it is a table.
    pub form: String,
}

/// Whether a file of this name may be a shard.
pub(crate) fn is_shard_name(name: &str) -> bool {
    is_tar_name(name) || is_parquet_name(name)
}

pub(crate) fn is_tar_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".tar")
}

/// Reads the shard at `path`. Each of its images is decoded; what cannot be used is among the rejects.
///
/// # Errors
/// A file that is neither a tar nor a Parquet file, or is damaged or cut; captions that are not found or not clear;
/// none of its images has a caption.
pub fn scan(path: &Path, columns: &ColumnNames) -> anyhow::Result<ScannedShard> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    check_name(path, &name)?;
    let source = Source::open_with(path, None, columns)?;
    if source.files().is_empty() {
        // Nothing of a part of a data set could be downloaded.
        let repairs = vec![Repair::new(name, "there are no files in it")];
        return Ok(ScannedShard { repairs, ..ScannedShard::default() });
    }
    let table = if is_parquet_name(&name) { source.table(0) } else { None };
    if table.is_some_and(|table| table.images == ImageColumn::None) {
        let message = format!("the shard {} has no column of images, so that they lie elsewhere", path.display());
        return Err(failure(
            message,
            "give shards that have the images themselves; name their column with `--columns image=NAME`",
        ));
    }
    let choice = choose(&source, Selector::Any)?;
    let mut raw = choice.found.read(&source)?;
    if let Some(missing) = raw.missing_columns.first() {
        let message = format!("--columns: no column or key is called {missing}, in {}", choice.found.describe(&source));
        return Err(usage_error(message, "give names as they are written in the file"));
    }
    raw.repairs.extend(choice.notes.iter().cloned());
    check_any(&mut raw, &source, &choice)?;
    let Matched { files, .. } = match_files(&mut raw, &source, hear_folders)?;
    let places = source.places(&files)?;
    let places = places.ok_or_else(|| failure("its images are packed", "give the tar file unpacked"))?;
    let checked = source.for_each(&files, |_, content| Ok(check(content)))?;
    let mut shard = ScannedShard {
        split_names: raw.split_names,
        rejects: raw.rejects,
        repairs: raw.repairs,
        form: match table {
            Some(table) => describe_columns(table, columns),
            None => choice.found.format.name.to_owned(),
        },
        ..ScannedShard::default()
    };
    for (((image, &file), found), checked) in raw.images.into_iter().zip(&files).zip(places).zip(checked) {
        let path = &source.files()[file].path;
        match checked {
            Checked::Sound(digest) => {
                if found.digest.is_some_and(|known| known != digest) {
                    let message = format!("{path} was read in two ways, and they differ");
                    return Err(failure(message, "the file was changed meanwhile, or is damaged: download it again"));
                }
                shard.images.push(scanned(image, member_name(path).to_owned(), Place { digest, ..found.place }));
            }
            Checked::Unusable(reason) => shard.rejects.push(Reject::new(path.clone(), reason)),
        }
    }
    shard.repairs.extend(slow_pages(&shard.images).map(|note| Repair::new(name, note)));
    Ok(shard)
}

/// What to know of images that lie in large pages: to read one of them, all before it in its page are unpacked.
fn slow_pages(images: &[ScannedImage]) -> Option<String> {
    /// Bytes that are unpacked for each byte of an image, and for an image.
    const MANY_TIMES: u64 = 8;
    const MANY_BYTES: u64 = 1 << 20;
    let packed = || images.iter().map(|image| image.place).filter(|place| place.codec != Codec::None as u32);
    let count = packed().count() as u64;
    let unpacked: u64 = packed().map(|place| u64::from(place.unpacked_bytes)).sum();
    let bytes: u64 = packed().map(|place| u64::from(place.bytes)).sum();
    let mean = unpacked.checked_div(count)?;
    (mean > MANY_BYTES && unpacked > MANY_TIMES * bytes).then(|| {
        format!(
            "its images lie in compressed pages of {:.1} MB on average, which are unpacked to read a single one; written \
             again without compression, as in `to_parquet(compression=None)` of pandas, they are read at once",
            mean as f64 / 1e6
        )
    })
}

fn scanned(image: RawImage, member: String, place: Place) -> ScannedImage {
    let RawImage { captions, extras, split, split_from, cocoid, .. } = image;
    ScannedImage { member, captions, extras, id: cocoid, split, split_from, place }
}

/// The columns that are read, and those that are not: two shards of one data set have the same.
fn describe_columns(table: &Table, columns: &ColumnNames) -> String {
    format!("parquet: {}", TableColumns::of(table, columns).describe())
}

enum Checked {
    /// The SHA-256 of an image that can be decoded.
    Sound([u8; 32]),
    /// Why it is left out.
    Unusable(String),
}

fn check(content: anyhow::Result<Vec<u8>>) -> Checked {
    match content.and_then(|bytes| decode_rgb(&bytes).map(|_| digest_of(&bytes))) {
        Ok(digest) => Checked::Sound(digest),
        Err(error) => Checked::Unusable(reason(&error)),
    }
}

/// The path of a file without the archive that it is in.
fn member_name(path: &str) -> &str {
    path.split_once('/').map_or(path, |(_, member)| member)
}

fn check_name(path: &Path, name: &str) -> anyhow::Result<()> {
    if is_shard_name(name) {
        return Ok(());
    }
    let is_packed = is_archive_name(name) || is_packed_name(name);
    let (what, hint) = if is_packed {
        let tar = without_ending(name);
        ("is compressed as a whole, so that no image in it can be read on its own", format!("unpack it to {tar}"))
    } else {
        ("is no shard: its name ends in neither .tar nor .parquet", "give tar files and Parquet files".to_owned())
    };
    Err(failure(format!("{} {what}", path.display()), hint))
}
