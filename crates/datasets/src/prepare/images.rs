//! Stores the images of a data set: reads and decodes each, writes it, and keeps what the checks need.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use image::{ImageFormat, RgbImage};

use crate::name_forms::on_any_disk;
use crate::output::FileDigest;
use crate::output::ownership::Ours;
use crate::prepare::filters::{Filter, Filters};
use crate::prepare::near_duplicates::difference_hash;
use crate::prepared::IMAGE_FOLDER;
use crate::shards::place::digest_of;
use crate::source::Source;
use base::digest::sha256;
use base::disk;
use base::error::failure;
use base::terminal::Progress;
use pixels::image_file::{self, encode};
use pixels::image_processor::{resize_rgb, shrink_rgb};
use pixels::picture_formats::{PictureFormat, format_of_name};

/// Longest side of what is kept of an image for the contact sheet.
const THUMBNAIL: u32 = 320;

/// An image to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageJob<'a> {
    /// Its place in the source.
    pub(super) file: usize,
    /// Its name in the folder of images.
    pub(super) filename: &'a str,
    /// Whether it is for the contact sheet.
    pub(super) is_sample: bool,
}

pub(super) enum StoreResult {
    Stored(StoredImage),
    /// It cannot be decoded.
    Broken {
        /// Why, in one line.
        reason: String,
        /// SHA-256 of the file in the source.
        digest: [u8; 32],
    },
    /// Its file cannot be read: why, in one line.
    Unreadable(String),
    /// A filter leaves it out.
    Filtered {
        filter: Filter,
        reason: String,
        /// SHA-256 of the file in the source.
        digest: [u8; 32],
    },
}

/// What is known of a stored image.
pub(super) struct StoredImage {
    /// SHA-256 of the file in the source.
    pub(super) digest: [u8; 32],
    /// SHA-256 of what is stored.
    pub(super) sum: String,
    /// Of its picture.
    pub(super) difference_hash: u64,
    /// Whether its file was there already.
    pub(super) was_there: bool,
    /// Small, for the contact sheet.
    pub(super) thumbnail: Option<RgbImage>,
}

/// Stores the images in `directory/images`, at most `short_side` pixels high and wide where one is given: a larger one
/// is resized and encoded anew, any other is stored as it is; of formats that are not written all become PNG. Images
/// whose size `filters` object to are not stored.
pub(super) fn take(
    source: &Source,
    wanted: &[ImageJob<'_>],
    directory: &Path,
    ours: &Ours,
    short_side: Option<u32>,
    filters: &Filters,
) -> anyhow::Result<Vec<StoreResult>> {
    let progress = Progress::new("storing images", wanted.len() as u64, 0);
    let files: Vec<usize> = wanted.iter().map(|wanted| wanted.file).collect();
    source.for_each(&files, |position, content| {
        let wanted = &wanted[position];
        let taken = match content.map(|bytes| (image_file::decode_rgb(&bytes), bytes)) {
            Ok((Ok(image), bytes)) => match filters.objection_to_size(image.width(), image.height()) {
                Some((filter, reason)) => StoreResult::Filtered { filter, reason, digest: digest_of(&bytes) },
                None => {
                    let becomes_png = short_side.is_some() && becomes_png(&source.files()[wanted.file].path);
                    let encoding = Encoding { short_side, becomes_png };
                    let write = |name: &str, bytes: &[u8], sum: &str| ours.write(directory, name, bytes, sum, true);
                    StoreResult::Stored(store(&image, &bytes, wanted.filename, encoding, wanted.is_sample, write)?)
                }
            },
            Ok((Err(error), bytes)) => StoreResult::Broken { reason: reason(&error), digest: digest_of(&bytes) },
            Err(error) => StoreResult::Unreadable(reason(&error)),
        };
        if !matches!(taken, StoreResult::Stored(_)) {
            ours.remove_image(directory, wanted.filename)?;
        }
        progress.advance(1, "images");
        Ok(taken)
    })
}

/// Refuses to begin if the disk has too little space for what is missing in `folder`.
pub(super) fn check_room(source: &Source, wanted: &[ImageJob<'_>], folder: &Path) -> anyhow::Result<()> {
    let missing: u64 = wanted
        .iter()
        .map(|wanted| (source.files()[wanted.file].bytes, folder.join(wanted.filename)))
        .filter(|(bytes, path)| fs::metadata(path).map_or(true, |file| file.len() != *bytes))
        .map(|(bytes, _)| bytes)
        .sum();
    lack_of_room(missing, disk::free_bytes(disk::nearest_folder(folder)), folder)
}

fn lack_of_room(missing: u64, free: Option<u64>, folder: &Path) -> anyhow::Result<()> {
    let Some(free) = free.filter(|&free| missing > free) else { return Ok(()) };
    let message = format!(
        "the images take {:.2} GB more, and {:.2} GB are free where {} is",
        missing as f64 / base::GIGABYTE,
        free as f64 / base::GIGABYTE,
        folder.display()
    );
    Err(failure(message, "free some, choose another `--output`, or store smaller images with `--resize SHORT_SIDE`"))
}

/// When a picture is encoded again.
#[derive(Clone, Copy)]
struct Encoding {
    /// Where it is higher and wider than this.
    short_side: Option<u32>,
    /// Whatever its size.
    becomes_png: bool,
}

/// `write` takes the file's path in the data set's folder, its content and the SHA-256 of that.
fn store(
    image: &RgbImage,
    bytes: &[u8],
    filename: &str,
    encoding: Encoding,
    is_sample: bool,
    write: impl Fn(&str, &[u8], &str) -> anyhow::Result<bool>,
) -> anyhow::Result<StoredImage> {
    let smaller = encoding.short_side.filter(|&side| image.width().min(image.height()) > side);
    let encoded = match smaller {
        Some(side) => {
            let (width, height) = scaled(image, f64::from(side) / f64::from(image.width().min(image.height())));
            Some(encode(&resize_rgb(image, width, height)?, format_of(Path::new(filename)))?)
        }
        None if encoding.becomes_png => Some(encode(image, ImageFormat::Png)?),
        None => None,
    };
    let digest = digest_of(bytes);
    let sum = encoded.as_ref().map_or_else(|| hex(&digest), |encoded| sha256(encoded));
    let written = write(&format!("{IMAGE_FOLDER}/{filename}"), encoded.as_deref().unwrap_or(bytes), &sum)?;
    let thumbnail = if is_sample { Some(shrink_rgb(image, THUMBNAIL)?.into_owned()) } else { None };
    Ok(StoredImage { digest, sum, difference_hash: difference_hash(image), was_there: !written, thumbnail })
}

/// A digest as text.
pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scaled(image: &RgbImage, factor: f64) -> (u32, u32) {
    let side = |side: u32| (f64::from(side) * factor).round().max(1.0) as u32;
    (side(image.width()), side(image.height()))
}

/// The form of a file that has this name; JPEG for any other ending.
pub(super) fn format_of(path: &Path) -> ImageFormat {
    match ImageFormat::from_path(path) {
        Ok(format @ (ImageFormat::Png | ImageFormat::WebP)) => format,
        _ => ImageFormat::Jpeg,
    }
}

/// Why an image is left out, in one line: the chain of the error without hints and without what a link repeats of its
/// source.
pub(super) fn reason(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for link in base::error::causes(error) {
        let text = link.split_whitespace().collect::<Vec<_>>().join(" ");
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// The images that were taken from folders; nothing where all came from archives.
pub(super) fn loose(source: &Source, wanted: &[ImageJob<'_>], taken: &[StoreResult]) -> Option<Vec<FileDigest>> {
    let file = |(wanted, taken): (&ImageJob<'_>, &StoreResult)| match taken {
        StoreResult::Stored(stored) if source.is_loose(wanted.file) => Some(FileDigest {
            name: wanted.filename.to_owned(),
            bytes: source.files()[wanted.file].bytes,
            sha256: hex(&stored.digest),
        }),
        StoreResult::Stored(_)
        | StoreResult::Broken { .. }
        | StoreResult::Filtered { .. }
        | StoreResult::Unreadable(_) => None,
    };
    let files: Vec<FileDigest> = wanted.iter().zip(taken).filter_map(file).collect();
    (!files.is_empty()).then_some(files)
}

/// Removes those of the images in `directory` that the data set had before and has no longer.
pub(super) fn remove_others<'a>(
    directory: &Path,
    ours: &Ours,
    now: impl Iterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let now: HashSet<String> = now.map(on_any_disk).collect();
    ours.images()
        .filter(|name| !now.contains(&on_any_disk(name)))
        .try_for_each(|name| ours.remove_image(directory, name))
}

/// Whether a picture of this name is of a format that is not written, so that it cannot be stored smaller as it is.
fn becomes_png(name: &str) -> bool {
    matches!(format_of_name(name), Some(PictureFormat::Bmp | PictureFormat::Gif | PictureFormat::Tiff))
}

/// Names in the folder of images: the files' own where no two are alike (in letter case and Unicode form, which some
/// systems treat as one), else with their folders. Where images are resized, those that become PNG are called
/// `a.bmp.png`.
pub(super) fn filenames(source: &Source, files: &[usize], is_resized: bool) -> Vec<String> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for &file in files {
        *count.entry(on_any_disk(source.files()[file].name())).or_default() += 1;
    }
    let name = |&file: &usize| {
        let file = &source.files()[file];
        if count[&on_any_disk(file.name())] == 1 { file.name().to_owned() } else { file.path.clone() }
    };
    let mut names: Vec<String> = files.iter().map(name).collect();
    if is_resized {
        let mut taken: BTreeSet<String> = names.iter().map(|name| on_any_disk(name)).collect();
        for name in names.iter_mut().filter(|name| becomes_png(name)) {
            while !taken.insert(on_any_disk(name)) {
                name.push_str(".png");
            }
        }
    }
    names
}

/// What the user calls the file of an image that gets the name `filename` in the folder of images.
pub(super) fn own_name<'a>(source: &Source, file: usize, filename: &'a str) -> &'a str {
    let file = &source.files()[file];
    let own = [file.path.len(), file.name().len()].into_iter().find(|&length| {
        let is_own = |start: &str| start == file.path || start == file.name();
        filename.get(..length).is_some_and(is_own)
    });
    own.map_or(filename, |length| &filename[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[test]
    fn a_lack_of_room_is_reported_before_anything_is_written() {
        let folder = Path::new("data/x/images");
        let text = describe(&lack_of_room(3_000_000_000, Some(1_000_000_000), folder).unwrap_err());
        assert!(text.contains("take 3.00 GB more, and 1.00 GB are free where data/x/images is"), "{text}");
        assert!(lack_of_room(1, Some(1), folder).is_ok() && lack_of_room(1, None, folder).is_ok());
    }

    #[test]
    fn a_larger_image_is_stored_smaller_in_the_form_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(IMAGE_FOLDER)).unwrap();
        let write = |name: &str, bytes: &[u8], _: &str| {
            let path = folder.path().join(name);
            let is_new = !fs::read(&path).is_ok_and(|old| old == bytes);
            fs::write(path, bytes)?;
            Ok(is_new)
        };
        let image = RgbImage::from_fn(40, 80, |x, y| image::Rgb([x as u8 * 6, y as u8 * 3, 99]));
        for name in ["a.jpg", "a.png", "a.webp"] {
            let path = folder.path().join(IMAGE_FOLDER).join(name);
            let bytes = encode(&image, format_of(&path)).unwrap();
            let to = |side| Encoding { short_side: Some(side), becomes_png: false };
            let stored = store(&image, &bytes, name, to(20), true, write).unwrap();
            assert!(!stored.was_there && stored.thumbnail.unwrap().dimensions() == (40, 80));
            assert_eq!(image_file::inspect(&path).unwrap(), (20, 40));
            assert_eq!((hex(&stored.digest), stored.sum), (sha256(&bytes), sha256(&fs::read(&path).unwrap())));
            assert!(store(&image, &bytes, name, to(20), false, write).unwrap().was_there);
            let whole = store(&image, &bytes, name, to(40), false, write).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes, "an image that is small enough stays as it is");
            assert_eq!(whole.sum, sha256(&bytes));
        }
    }
}
