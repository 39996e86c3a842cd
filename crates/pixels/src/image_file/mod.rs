//! From a file or its bytes to RGB pixels, whatever its format; formats are told apart by content.
//!
//! What the decoders accept silently and should not (a truncated JPEG) is an error here. All decoding goes through
//! [`guard`], and takes memory from [`budget`] before a decoder does. Resizing and normalisation are in
//! `image_processor`.

pub mod budget;
mod gif;
pub mod guard;
mod jpeg;
mod tiff;
mod webp;

use std::fs;
use std::io::{Cursor, Read};
use std::ops::Deref;
use std::path::Path;

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use self::budget::{Share, budgets};
use self::guard::guarded;
use super::picture_formats::{Format, READ, format_of_content, how_to_convert, unread_format_of_content};
use base::bounded_file;
use base::digest::Hasher;
use base::fault::{explained, fault};

/// To be raised whenever the same file may give other pixels than before: what was kept of images is then made again.
/// Version 2: JPEGs have the pixels of libjpeg-turbo.
pub const DECODER_VERSION: u32 = 2;

/// Pixels that an image may have; the number at which Pillow suspects a decompression bomb and refuses.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Pixels that a side may have, which is what a JPEG can have: the tables of a resize grow with the sides.
const MAX_SIDE: u64 = 65_535;

/// Of a JPEG that is written.
const JPEG_QUALITY: u8 = 95;

/// Bytes that a file may have.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Bytes that a decoder may take for what is not pixels: profiles, texts, tables.
const METADATA_BYTES: u64 = 16 << 20;

/// Bytes that a decoder takes in any case.
const LEAST_BYTES: u64 = 1 << 20;

/// A picture in memory, as long as which it has a share of what pictures may take.
#[derive(Debug)]
pub struct Picture {
    image: RgbImage,
    share: Share,
}

impl Deref for Picture {
    type Target = RgbImage;

    fn deref(&self) -> &RgbImage {
        &self.image
    }
}

impl PartialEq<RgbImage> for Picture {
    fn eq(&self, other: &RgbImage) -> bool {
        self.image == *other
    }
}

impl Picture {
    /// What `change` makes of the pixels, in their memory.
    #[must_use]
    pub fn map(self, change: impl FnOnce(RgbImage) -> RgbImage) -> Self {
        Self { image: change(self.image), share: self.share }
    }
}

/// What a decoder gives: the pixels as they are stored, and how they are to be turned.
struct Decoded {
    image: RgbImage,
    orientation: Orientation,
    share: Share,
}

/// The content of a file, as long as which it has a share of what files may take.
struct Content {
    bytes: Vec<u8>,
    _share: Share,
}

/// Reads an image file. The Exif orientation is applied; gray, palette, 16 bits, CMYK and alpha become 8-bit RGB as
/// Pillow's `convert("RGB")` does it: alpha is dropped, 16-bit gray is clipped at 255, other 16-bit images keep their
/// high bytes.
///
/// # Errors
/// A file that cannot be read, is of no format that is read, is damaged or truncated, has more than [`MAX_PIXELS`], or
/// takes more memory than there may be.
pub fn load_rgb(path: &Path) -> anyhow::Result<Picture> {
    read(path)
        .and_then(|content| decode_rgb(&content.bytes))
        .with_context(|| format!("cannot read image {}", path.display()))
}

/// [`load_rgb`] of a file that must have this SHA-256.
///
/// # Errors
/// Also another content.
pub fn load_known_rgb(path: &Path, digest: &[u8; 32]) -> anyhow::Result<Picture> {
    let known = |content: Content| {
        let mut hasher = Hasher::new();
        hasher.update(&content.bytes);
        if hasher.finish_bytes() != *digest {
            return Err(fault("it was changed while it was read", "begin again when the images are all in place"));
        }
        decode_rgb(&content.bytes)
    };
    read(path).and_then(known).with_context(|| format!("cannot read image {}", path.display()))
}

/// The content of a file of this format: JPEG of quality 95, PNG, or WebP without loss.
///
/// # Errors
/// A picture that the format has no room for, or another format.
pub fn encode(image: &RgbImage, format: ImageFormat) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(image),
        format => image.write_to(&mut Cursor::new(&mut bytes), format),
    }
    .with_context(|| format!("cannot encode a picture of {}x{} pixels", image.width(), image.height()))?;
    Ok(bytes)
}

/// Checks an image file as [`load_rgb`] does, decoding it whole, and gives its (width, height) once turned upright.
///
/// # Errors
/// As [`load_rgb`].
pub fn inspect(path: &Path) -> anyhow::Result<(u32, u32)> {
    let decoded = read(path).and_then(|content| decode(&content.bytes));
    let decoded = decoded.with_context(|| format!("cannot read image {}", path.display()))?;
    let (width, height) = decoded.image.dimensions();
    Ok(if swaps_sides(decoded.orientation) { (height, width) } else { (width, height) })
}

/// The pixels of an image file's content; see [`load_rgb`].
///
/// # Errors
/// As [`load_rgb`], except for those of reading.
pub fn decode_rgb(bytes: &[u8]) -> anyhow::Result<Picture> {
    let Decoded { image, orientation, share } = decode(bytes)?;
    let mut upright = DynamicImage::ImageRgb8(image);
    upright.apply_orientation(orientation);
    Ok(Picture { image: upright.into_rgb8(), share })
}

/// The pixels of a JPEG as its fast decoder has them, which knows one kind, and as libjpeg-turbo has them. They must be
/// the same: fuzzing holds one against the other.
///
/// # Errors
/// As [`decode_rgb`], and a file of another format.
pub fn decode_jpeg_both_ways(bytes: &[u8]) -> anyhow::Result<(Option<RgbImage>, RgbImage)> {
    anyhow::ensure!(format_of_content(bytes) == Some(Format::Jpeg), "it is no JPEG");
    guarded(|| jpeg::decode_both_ways(bytes))
}

fn read(path: &Path) -> anyhow::Result<Content> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(fault(format!("it is a folder, expected a {READ} file"), "give the files inside it"));
    }
    // A device or a pipe might never end.
    anyhow::ensure!(metadata.is_file(), "it is no regular file, expected a {READ} file");
    let too_large = || fault(format!("it has more than {MAX_FILE_BYTES} bytes"), "store it smaller");
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let length = metadata.len();
    let share = budgets().files.take(length, || format!("reading its {length} bytes takes"))?;
    let mut bytes = Vec::with_capacity(length as usize);
    // One more, to see that it grew.
    bounded_file::open(path)?.take(length + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= length, "it grew while it was read");
    Ok(Content { bytes, _share: share })
}

fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let Some(format) = format_of_content(bytes) else { return Err(not_an_image(bytes)) };
    guarded(|| match format {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Tiff => tiff::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::Png => decode_with(bytes, ImageFormat::Png, "PNG"),
        Format::WebP => decode_with(bytes, ImageFormat::WebP, "WebP"),
        Format::Bmp => decode_with(bytes, ImageFormat::Bmp, "BMP"),
    })
}

/// Decodes with the crate `image`.
fn decode_with(bytes: &[u8], format: ImageFormat, name: &str) -> anyhow::Result<Decoded> {
    let fault_of = |error: ImageError| match error {
        ImageError::Unsupported(what) => fault(format!("not supported: {what}"), CONVERT),
        ImageError::Limits(what) => fault(format!("the {name} is too large: {what}"), "store it smaller"),
        error => explained(error.into(), format!("the {name} data are damaged"), FETCH_AGAIN),
    };
    if let Some([width, height]) = png_size(bytes) {
        check_size(width.into(), height.into())?;
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(METADATA_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault_of)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    check_complete(bytes, format)?;
    let beside = match format {
        ImageFormat::WebP => webp::decoding_bytes(bytes, width.into(), height.into())?,
        ImageFormat::Png => METADATA_BYTES,
        _ => 0,
    };
    // Damaged metadata beside sound pixels are no reason to refuse an image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (kind, stored) = (decoder.color_type(), decoder.total_bytes());
    let num_pixels = u64::from(width) * u64::from(height);
    // Kinds of less than three bytes for a pixel become RGB elsewhere, others where they are.
    let converted = if kind.bytes_per_pixel() < 3 { 3 * num_pixels } else { 0 };
    let share = share_for([width, height], stored + beside.max(converted), stored.max(converted), orientation)?;
    let mut samples = vec![0; usize::try_from(stored)?];
    decoder.read_image(&mut samples).map_err(fault_of)?;
    let pixels = to_rgb(samples, kind, is_16_bit_gray_png(bytes))?;
    let image = RgbImage::from_raw(width, height, pixels).context("it has fewer samples than pixels")?;
    Ok(Decoded { image, orientation, share })
}

/// The share of a picture of this size: `decoding` are the bytes that its decoder takes, pixels included, and `kept` those
/// of the pixels when it has finished, which are as many again while they are turned.
///
/// # Errors
/// A picture that is too large.
fn share_for([width, height]: [u32; 2], decoding: u64, kept: u64, orientation: Orientation) -> anyhow::Result<Share> {
    check_size(width.into(), height.into())?;
    let turned = if swaps_sides(orientation) { 3 * u64::from(width) * u64::from(height) } else { 0 };
    let need = LEAST_BYTES + decoding.max(kept + turned);
    budgets().pixels.take(need, || format!("decoding its {width}x{height} pixels takes"))
}

fn check_size(width: u64, height: u64) -> anyhow::Result<()> {
    let smaller =
        |limit: String| fault(format!("it declares {width}x{height} pixels, more than {limit}"), "store it smaller");
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(smaller(MAX_PIXELS.to_string()));
    }
    if width.max(height) > MAX_SIDE {
        return Err(smaller(format!("{MAX_SIDE} along a side")));
    }
    anyhow::ensure!(width > 0 && height > 0, "it declares {width}x{height} pixels");
    Ok(())
}

fn round_up(value: u64, step: u64) -> u64 {
    value.div_ceil(step) * step
}

const FETCH_AGAIN: &str = "fetch the file again or leave it out";
const CONVERT: &str = "convert it to a usual JPEG or PNG, or leave it out";

/// Says what was found where an image was expected.
fn not_an_image(bytes: &[u8]) -> anyhow::Error {
    let expected = format!("expected a {READ} image, found");
    let start = &bytes[..bytes.len().min(256)];
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid()).trim_start();
    if let Some(format) = unread_format_of_content(bytes) {
        fault(format!("not supported: a picture of the format {format}"), how_to_convert(format))
    } else if bytes.is_empty() {
        fault("the file is empty", FETCH_AGAIN)
    } else if text.starts_with("version https://git-lfs") {
        fault(format!("{expected} a Git LFS pointer"), "fetch the content with `git lfs pull`")
    } else if text.starts_with('<') {
        fault(format!("{expected} an HTML or XML page"), "the download gave a page instead of the file: fetch it again")
    } else if start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) {
        fault(format!("{expected} text"), FETCH_AGAIN)
    } else {
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        fault(format!("{expected} an unknown format that begins with the bytes {}", first.join(" ")), FETCH_AGAIN)
    }
}

/// Refuses a WebP that was cut off, which may lose its end unnoticed. A cut PNG or BMP fails in its decoder.
fn check_complete(bytes: &[u8], format: ImageFormat) -> anyhow::Result<()> {
    if format != ImageFormat::WebP {
        return Ok(());
    }
    let declared = bytes.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (expected, found) = (u64::from(declared) + 8, bytes.len());
    if (found as u64) < expected {
        return Err(fault(format!("the WebP is truncated: it has {found} of {expected} bytes"), FETCH_AGAIN));
    }
    Ok(())
}

/// Cyan, magenta, yellow and black to red, green and blue, as Pillow does it.
fn rgb_of_inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - black;
    [cyan, magenta, yellow].map(|ink| {
        let covered = u32::from(ink) * u32::from(light) + 128;
        light.saturating_sub((((covered >> 8) + covered) >> 8) as u8)
    })
}

/// Whether the file is a gray PNG of 16 bits. The header is read, since the decoder makes another type of one with
/// transparency.
fn is_16_bit_gray_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.get(24..26) == Some(&[16, 0])
}

/// Width and height in the header of a PNG, whose lines its decoder makes room for before it tells.
fn png_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(8..16)?;
    let (sides, _) = header.as_chunks::<4>();
    Some([u32::from_be_bytes(*sides.first()?), u32::from_be_bytes(*sides.get(1)?)])
}

/// Samples of this kind, as the crate `image` has them, to RGB.
fn to_rgb(samples: Vec<u8>, kind: ColorType, clip_gray: bool) -> anyhow::Result<Vec<u8>> {
    let high = |[first, second]: [u8; 2]| (u16::from_ne_bytes([first, second]) >> 8) as u8;
    let clipped = |sample: [u8; 2]| u16::from_ne_bytes(sample).min(255) as u8;
    let gray = |sample: [u8; 2]| [if clip_gray { clipped(sample) } else { high(sample) }; 3];
    Ok(match kind {
        ColorType::Rgb8 => samples,
        ColorType::L8 => widened(&samples, |&[gray]: &[u8; 1]| [gray; 3]),
        ColorType::La8 => widened(&samples, |&[gray, _]: &[u8; 2]| [gray; 3]),
        ColorType::L16 => widened(&samples, |&sample: &[u8; 2]| gray(sample)),
        ColorType::Rgba8 => narrowed(samples, |[red, green, blue, _]: [u8; 4]| [red, green, blue]),
        ColorType::La16 => narrowed(samples, |[a, b, _, _]: [u8; 4]| gray([a, b])),
        ColorType::Rgb16 => narrowed(samples, |[a, b, c, d, e, f]: [u8; 6]| [[a, b], [c, d], [e, f]].map(high)),
        ColorType::Rgba16 => narrowed(samples, |[a, b, c, d, e, f, ..]: [u8; 8]| [[a, b], [c, d], [e, f]].map(high)),
        other => return Err(fault(format!("not supported: samples of the kind {other:?}"), CONVERT)),
    })
}

/// RGB of pixels that are smaller.
fn widened<const N: usize>(samples: &[u8], convert: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    samples.as_chunks().0.iter().flat_map(convert).collect()
}

/// RGB of pixels that are larger, in their memory.
fn narrowed<const N: usize>(mut samples: Vec<u8>, convert: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    const { assert!(N > 3) };
    let num_pixels = samples.len() / N;
    for pixel in 0..num_pixels {
        let Some(&found) = samples[N * pixel..].first_chunk() else { break };
        samples[3 * pixel..3 * pixel + 3].copy_from_slice(&convert(found));
    }
    samples.truncate(3 * num_pixels);
    samples
}

fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder as _, Luma, LumaA, Rgb, Rgba, RgbaImage};

    use super::*;
    use base::fault::describe;

    /// 24 x 16, red grows to the right, green downwards.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 10) as u8, (y * 15) as u8, 40]))
    }

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = image.dimensions();
        JpegEncoder::new_with_quality(&mut bytes, 95)
            .write_image(image, width, height, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    /// The JPEG with an Exif segment that holds the orientation and, as a thumbnail would, an end-of-image marker.
    fn jpeg_with_orientation(image: &RgbImage, orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0xff, 0xd9]);
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend(&jpeg(image)[2..]);
        bytes
    }

    fn message(result: anyhow::Result<impl Sized>) -> String {
        describe(&result.err().unwrap())
    }

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.jpg");
        fs::write(&path, bytes).unwrap();
        let loaded = message(load_rgb(&path));
        assert_eq!(loaded, message(inspect(&path)), "both ways to read refuse for the same reason");
        assert!(loaded.starts_with("cannot read image "), "{loaded}");
        assert!(loaded.contains("bad.jpg"), "{loaded}");
        loaded
    }

    fn largest_difference(left: &RgbImage, right: &RgbImage) -> u8 {
        assert_eq!(left.dimensions(), right.dimensions());
        left.as_raw().iter().zip(right.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn format_is_told_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in_truth_a_png.jpg");
        fs::write(&path, encode(picture(), ImageFormat::Png)).unwrap();
        assert_eq!(load_rgb(&path).unwrap(), picture());
        assert_eq!(inspect(&path).unwrap(), (24, 16));
        assert_eq!(decode_rgb(&encode(picture(), ImageFormat::WebP)).unwrap(), picture());
    }

    #[test]
    fn whole_jpeg_with_bytes_behind_it_is_read() {
        let mut bytes = jpeg(&picture());
        bytes.extend(b"\0\0 something else");
        assert!(largest_difference(&decode_rgb(&bytes).unwrap(), &picture()) < 20);
    }

    #[test]
    fn truncated_jpeg_is_refused_even_where_its_thumbnail_ends() {
        for whole in [jpeg(&picture()), jpeg_with_orientation(&picture(), 1)] {
            decode_rgb(&whole).unwrap();
            for missing in [1, 2, 10, 100] {
                let text = refused(&whole[..whole.len() - missing]);
                assert!(text.contains("the JPEG is truncated"), "{missing} bytes less: {text}");
                assert!(text.contains("hint: fetch the file again"), "{text}");
            }
        }
    }

    #[test]
    fn truncated_png_and_webp_are_refused() {
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let whole = encode(picture(), format);
            assert!(refused(&whole[..whole.len() / 2]).contains("hint: fetch the file again"));
        }
    }

    #[test]
    fn damaged_jpeg_header_is_refused() {
        assert!(refused(b"\xff\xd8\xff\xe0\x00\x10JFIF\0").contains("the JPEG data are damaged"));
    }

    #[test]
    fn what_is_no_image_is_named() {
        assert!(refused(b"").contains("the file is empty"));
        assert!(refused(b"a dog runs\n").contains("found text"));
        assert!(refused(b"\n<!DOCTYPE html><html>").contains("found an HTML or XML page"));
        assert!(refused(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        assert!(refused(&[0, 1, 2, 0xfe]).contains("begins with the bytes 00 01 02 fe"));
    }

    #[test]
    fn folder_and_missing_file_are_errors_with_their_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(message(load_rgb(folder.path())).contains("it is a folder"));
        let missing = folder.path().join("missing.jpg");
        assert!(message(load_rgb(&missing)).starts_with(&format!("cannot read image {}", missing.display())));
    }

    /// Compares each file of a folder of tests/fixtures with its NAME.rgb.png, and says how many there were.
    fn compare_with_pillow(folder: &str) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(folder);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!("{}: {error}; a script in tests/reference makes it", folder.display());
        });
        let mut compared = 0;
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".rgb.png") {
                continue;
            }
            let expected = image::open(folder.join(format!("{name}.rgb.png"))).unwrap().into_rgb8();
            let found = load_rgb(&path).unwrap();
            assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
            assert_eq!(largest_difference(&found, &expected), 0, "{name}");
            assert_eq!(inspect(&path).unwrap(), expected.dimensions(), "{name}");
            compared += 1;
        }
        compared
    }

    #[test]
    fn every_mode_and_orientation_gives_the_rgb_of_pillow() {
        assert_eq!(compare_with_pillow("image_modes"), 47);
    }

    #[test]
    fn every_kind_of_jpeg_gives_the_rgb_of_pillow() {
        assert_eq!(compare_with_pillow("jpeg_kinds"), 27);
    }

    /// The JPEG with the frame header's marker and these of its bytes changed.
    fn jpeg_with_frame(marker: u8, changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = jpeg(&picture());
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 1] = marker;
        changes.iter().for_each(|&(place, value)| bytes[frame + 2 + place] = value);
        bytes
    }

    #[test]
    fn kinds_that_are_not_read_are_named_and_not_called_damaged() {
        for (bytes, what) in [
            (jpeg_with_frame(0xc1, &[(2, 12)]), "a JPEG with 12 bits for each sample"),
            (jpeg_with_frame(0xc3, &[]), "a JPEG with lossless coding"),
            (jpeg_with_frame(0xcb, &[]), "a JPEG with lossless coding"),
            (jpeg_with_frame(0xc5, &[]), "a JPEG with hierarchical coding"),
            (jpeg_with_frame(0xf7, &[]), "a JPEG with the coding of JPEG-LS"),
            (jpeg_with_frame(0xc0, &[(3, 0), (4, 0)]), "a JPEG with a height that is given after its data"),
            (jpeg_with_frame(0xc0, &[(7, 2)]), "a JPEG with 2 colour components"),
            (jpeg_with_frame(0xc0, &[(9, 0x31), (12, 0x21)]), "a JPEG with components whose sizes"),
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec(), "a picture of the format AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "a picture of the format HEIC"),
            (b"\xff\x0a\xfa\x1f".to_vec(), "a picture of the format JPEG XL"),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "a picture of the format SVG"),
            (b"II*\0\x10\0\0\0CR\x02\0".to_vec(), "a picture of the format camera raw"),
            (tiff_of_floats(), "this kind of TIFF"),
        ] {
            let text = refused(&bytes);
            assert!(text.contains(&format!("not supported: {what}")) && !text.contains("damaged"), "{what}: {text}");
            assert!(text.contains("hint: convert it"), "{text}");
        }
    }

    fn tiff_of_floats() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
        encoder.write_image::<::tiff::encoder::colortype::Gray32Float>(2, 1, &[0.5, 1.0]).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn data_that_are_damaged_are_called_so() {
        let huffman = jpeg(&picture()).windows(2).position(|pair| pair == [0xff, 0xc4]).unwrap();
        let mut bytes = jpeg(&picture());
        bytes[huffman + 5] = 0xff;
        assert!(refused(&bytes).contains("the JPEG data are damaged"));
        for format in [ImageFormat::Bmp, ImageFormat::Png] {
            let whole = encode(picture(), format);
            assert!(refused(&whole[..whole.len() / 2]).contains("data are damaged"), "{format:?}");
        }
        for name in ["palette.gif", "rgb.tiff"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/image_modes").join(name);
            let whole = fs::read(path).unwrap();
            assert!(refused(&whole[..whole.len() / 2]).contains("data are damaged"), "{name}");
        }
    }

    #[test]
    fn a_scan_for_each_bit_of_a_bomb_is_refused() {
        let mut bytes = jpeg(&picture());
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let copy: Vec<u8> = bytes[scan..bytes.len() - 2].to_vec();
        let end = bytes.split_off(bytes.len() - 2);
        (0..500).for_each(|_| bytes.extend(&copy));
        bytes.extend(end);
        assert!(refused(&bytes).contains("the JPEG has 501 scans, more than 500"));
    }

    #[test]
    fn sixteen_bit_gray_is_clipped_and_sixteen_bit_colour_keeps_its_high_bytes() {
        let gray = ImageBuffer::from_fn(4, 1, |x, _| Luma([[0u16, 200, 255, 40_000][x as usize]]));
        let values = |bytes: &[u8]| decode_rgb(bytes).unwrap().pixels().map(|pixel| pixel.0).collect::<Vec<_>>();
        let expected = vec![[0; 3], [200; 3], [255; 3], [255; 3]];
        assert_eq!(values(&encode(DynamicImage::ImageLuma16(gray), ImageFormat::Png)), expected);
        let colour = ImageBuffer::from_pixel(1, 1, Rgb([0x1234u16, 0xfe99, 0x00ff]));
        assert_eq!(values(&encode(DynamicImage::ImageRgb16(colour), ImageFormat::Png)), [[0x12, 0xfe, 0x00]]);
        let colour = ImageBuffer::from_pixel(1, 1, Rgba([0x1234u16, 0xfe99, 0x00ff, 0x8000]));
        assert_eq!(values(&encode(DynamicImage::ImageRgba16(colour), ImageFormat::Png)), [[0x12, 0xfe, 0x00]]);
        let gray = ImageBuffer::from_pixel(1, 1, LumaA([0x1234u16, 7]));
        assert_eq!(values(&encode(DynamicImage::ImageLumaA16(gray), ImageFormat::Png)), [[0x12; 3]]);
    }

    #[test]
    fn gray_and_alpha_become_rgb() {
        let gray = GrayImage::from_fn(3, 2, |x, y| Luma([(x * 50 + y) as u8]));
        let expected = RgbImage::from_fn(3, 2, |x, y| Rgb([(x * 50 + y) as u8; 3]));
        assert_eq!(decode_rgb(&encode(gray, ImageFormat::Png)).unwrap(), expected);
        let transparent = RgbaImage::from_fn(3, 2, |x, y| Rgba([9, x as u8, y as u8, 0]));
        let expected = RgbImage::from_fn(3, 2, |x, y| Rgb([9, x as u8, y as u8]));
        assert_eq!(decode_rgb(&encode(transparent, ImageFormat::Png)).unwrap(), expected);
    }

    /// A PNG with stored (uncompressed) image data.
    fn png(width: u32, height: u32, depth_and_colour: [u8; 2], palette: &[u8], rows: &[u8]) -> Vec<u8> {
        fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
            let named: Vec<u8> = name.iter().chain(data).copied().collect();
            let crc = !named.iter().fold(!0u32, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
            });
            [&(data.len() as u32).to_be_bytes()[..], &named, &crc.to_be_bytes()].concat()
        }
        let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), &byte| {
            let a = (a + u32::from(byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        let length = rows.len() as u16;
        let stream = [
            &[0x78, 0x01, 1][..],
            &length.to_le_bytes(),
            &(!length).to_le_bytes(),
            rows,
            &((b << 16) | a).to_be_bytes(),
        ]
        .concat();
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &depth_and_colour, &[0, 0, 0]].concat();
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend(chunk(b"IHDR", &header));
        if !palette.is_empty() {
            bytes.extend(chunk(b"PLTE", palette));
        }
        bytes.extend(chunk(b"IDAT", &stream));
        bytes.extend(chunk(b"IEND", b""));
        bytes
    }

    #[test]
    fn palette_becomes_rgb() {
        let bytes = png(3, 1, [8, 3], &[1, 2, 3, 200, 100, 0], &[0, 1, 0, 1]);
        let pixels: Vec<_> = decode_rgb(&bytes).unwrap().pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[200, 100, 0], [1, 2, 3], [200, 100, 0]]);
    }

    #[test]
    fn huge_declared_size_is_refused_before_decoding() {
        let text = refused(&png(1_000_000, 1_000_000, [8, 2], &[], &[0]));
        assert!(text.contains("it declares 1000000x1000000 pixels"), "{text}");
        let mut bytes = jpeg(&picture());
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].fill(0xff);
        assert!(refused(&bytes).contains("it declares 65535x65535 pixels"));
    }

    #[test]
    fn exif_orientation_is_applied() {
        let source = picture();
        let turned: [(u8, RgbImage); 4] = [
            (1, source.clone()),
            (3, image::imageops::rotate180(&source)),
            (6, image::imageops::rotate90(&source)),
            (8, image::imageops::rotate270(&source)),
        ];
        for (orientation, expected) in turned {
            let bytes = jpeg_with_orientation(&source, orientation);
            let upright = decode_rgb(&bytes).unwrap();
            assert!(largest_difference(&upright, &expected) < 20, "orientation {orientation}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("turned.jpg");
            fs::write(&path, &bytes).unwrap();
            assert_eq!(inspect(&path).unwrap(), expected.dimensions());
        }
    }
}
