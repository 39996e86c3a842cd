//! From a file or its bytes to RGB pixels: JPEG, PNG and WebP, told apart by content.
//!
//! What the decoders accept silently and should not (a truncated JPEG) is an error here. Resizing and normalisation
//! are in `image_processor`.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Luma, Pixel, Rgb, RgbImage};

use crate::base::bounded_file;
use crate::base::digest::Hasher;
use crate::base::fault::{WithHint as _, fault};

/// Pixels that an image may have; the number at which Pillow suspects a decompression bomb and refuses.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Of a JPEG that is written.
const JPEG_QUALITY: u8 = 95;

/// Bytes that a file may have.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Bytes that a decoder may ask for: four channels of 16 bits for every pixel.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8;

/// Reads an image file. The Exif orientation is applied; gray, palette, 16 bits, CMYK and alpha become 8-bit RGB as
/// Pillow's `convert("RGB")` does it: alpha is dropped, 16-bit gray is clipped at 255, other 16-bit images keep their
/// high bytes.
///
/// # Errors
/// A file that cannot be read, is no JPEG, PNG or WebP, is damaged or truncated, or has more than [`MAX_PIXELS`].
pub fn load_rgb(path: &Path) -> anyhow::Result<RgbImage> {
    read(path).and_then(|bytes| decode_rgb(&bytes)).with_context(|| format!("cannot read image {}", path.display()))
}

/// [`load_rgb`] of a file that must have this SHA-256.
///
/// # Errors
/// Also another content.
pub fn load_known_rgb(path: &Path, digest: &[u8; 32]) -> anyhow::Result<RgbImage> {
    let known = |bytes: Vec<u8>| {
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        if hasher.finish_bytes() != *digest {
            return Err(fault("it was changed while it was read", "begin again when the images are all in place"));
        }
        decode_rgb(&bytes)
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
    let decoded = read(path).and_then(|bytes| decode(&bytes));
    let decoded = decoded.with_context(|| format!("cannot read image {}", path.display()))?;
    let (width, height) = (decoded.image.width(), decoded.image.height());
    Ok(if swaps_sides(decoded.orientation) { (height, width) } else { (width, height) })
}

/// The pixels of an image file's content; see [`load_rgb`].
///
/// # Errors
/// As [`load_rgb`], except for those of reading.
pub fn decode_rgb(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    let Decoded { image, orientation } = decode(bytes)?;
    let mut upright = DynamicImage::ImageRgb8(to_rgb(image, is_16_bit_gray_png(bytes)));
    upright.apply_orientation(orientation);
    Ok(upright.into_rgb8())
}

struct Decoded {
    image: DynamicImage,
    orientation: Orientation,
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(fault("it is a folder, expected a JPEG, PNG or WebP file", "give the files inside it"));
    }
    // A device or a pipe might never end.
    anyhow::ensure!(metadata.is_file(), "it is no regular file, expected a JPEG, PNG or WebP file");
    let too_large = || fault(format!("it has more than {MAX_FILE_BYTES} bytes"), "store it smaller");
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    bounded_file::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let (format, name) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => (ImageFormat::Jpeg, "JPEG"),
        Ok(ImageFormat::Png) => (ImageFormat::Png, "PNG"),
        Ok(ImageFormat::WebP) => (ImageFormat::WebP, "WebP"),
        other => return Err(not_an_image(bytes, other.ok())),
    };
    let damaged = || format!("the {name} data are damaged");
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().hint(|| FETCH_AGAIN).with_context(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let message = format!("it declares {width}x{height} pixels, more than {MAX_PIXELS}");
        return Err(fault(message, "store it smaller"));
    }
    check_complete(bytes, format)?;
    // Damaged metadata beside sound pixels are no reason to refuse an image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).hint(|| FETCH_AGAIN).with_context(damaged)?;
    Ok(Decoded { image, orientation })
}

const FETCH_AGAIN: &str = "fetch the file again or leave it out";

/// Says what was found where an image was expected.
fn not_an_image(bytes: &[u8], format: Option<ImageFormat>) -> anyhow::Error {
    const EXPECTED: &str = "expected a JPEG, PNG or WebP image, found";
    let start = &bytes[..bytes.len().min(256)];
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid()).trim_start();
    if let Some(format) = format {
        return fault(format!("{EXPECTED} one in the format {format:?}"), "convert it to JPEG or PNG");
    }
    if bytes.is_empty() {
        fault("the file is empty", FETCH_AGAIN)
    } else if text.starts_with("version https://git-lfs") {
        fault(format!("{EXPECTED} a Git LFS pointer"), "fetch the content with `git lfs pull`")
    } else if text.starts_with('<') {
        fault(format!("{EXPECTED} an HTML or XML page"), "the download gave a page instead of the file: fetch it again")
    } else if start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) {
        fault(format!("{EXPECTED} text"), FETCH_AGAIN)
    } else {
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        fault(format!("{EXPECTED} an unknown format that begins with the bytes {}", first.join(" ")), FETCH_AGAIN)
    }
}

/// Refuses files that were cut off: the JPEG decoder fills what is missing with gray, and a WebP may lose its end
/// unnoticed. A cut PNG fails in its decoder.
fn check_complete(bytes: &[u8], format: ImageFormat) -> anyhow::Result<()> {
    match format {
        ImageFormat::Jpeg if !has_end_of_image(bytes) => {
            Err(fault("the JPEG is truncated: it has no end-of-image marker", FETCH_AGAIN))
        }
        ImageFormat::WebP => {
            let declared = bytes.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
            let expected = u64::from(declared) + 8;
            if (bytes.len() as u64) < expected {
                let found = bytes.len();
                return Err(fault(format!("the WebP is truncated: it has {found} of {expected} bytes"), FETCH_AGAIN));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether the end-of-image marker follows the scans of a JPEG. Thumbnails have one too, inside a segment, which is
/// why the segments are walked (ITU-T T.81, annex B). Bytes behind the marker do not matter.
fn has_end_of_image(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Coded data between segments hold 0xff only before 0x00 or a restart marker.
    while let Some(found) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[found + 1..];
        match rest {
            [0xd9, ..] => return true,
            // Stuffing, a fill byte, TEM, restart markers and start of image have no length.
            [0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

/// Whether the file is a gray PNG of 16 bits. The header is read, since the decoder makes another type of one with
/// transparency.
fn is_16_bit_gray_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.get(24..26) == Some(&[16, 0])
}

fn to_rgb(image: DynamicImage, clip_gray: bool) -> RgbImage {
    let high = |value: u16| (value >> 8) as u8;
    let gray = |value: u16| if clip_gray { value.min(255) as u8 } else { high(value) };
    match image {
        DynamicImage::ImageLuma16(pixels) => map_pixels(&pixels, |&Luma([value])| Rgb([gray(value); 3])),
        DynamicImage::ImageLumaA16(pixels) => map_pixels(&pixels, |pixel| Rgb([gray(pixel.0[0]); 3])),
        DynamicImage::ImageRgb16(pixels) => map_pixels(&pixels, |pixel| Rgb(pixel.0.map(high))),
        DynamicImage::ImageRgba16(pixels) => map_pixels(&pixels, |pixel| Rgb(pixel.to_rgb().0.map(high))),
        other => other.into_rgb8(),
    }
}

fn map_pixels<P: Pixel<Subpixel = u16>>(
    pixels: &image::ImageBuffer<P, Vec<u16>>,
    convert: impl Fn(&P) -> Rgb<u8>,
) -> RgbImage {
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| convert(pixels.get_pixel(x, y)))
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
    use image::{ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder as _, LumaA, Rgba, RgbaImage};

    use super::*;
    use crate::base::fault::describe;

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
        assert!(refused(b"GIF89a\x01\x00\x01\x00").contains("found one in the format Gif"));
        assert!(refused(&[0, 1, 2, 0xfe]).contains("begins with the bytes 00 01 02 fe"));
    }

    #[test]
    fn folder_and_missing_file_are_errors_with_their_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(message(load_rgb(folder.path())).contains("it is a folder"));
        let missing = folder.path().join("missing.jpg");
        assert!(message(load_rgb(&missing)).starts_with(&format!("cannot read image {}", missing.display())));
    }

    /// Of 255: decoders of JPEG differ in their inverse transform.
    const JPEG_TOLERANCE: u8 = 4;

    #[test]
    fn every_mode_and_orientation_gives_the_rgb_of_pillow() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image_modes");
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!("{}: {error}; tests/reference/image_modes.py makes it", folder.display());
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
            let tolerance = if name.ends_with(".jpg") { JPEG_TOLERANCE } else { 0 };
            let difference = largest_difference(&found, &expected);
            assert!(difference <= tolerance, "{name}: off by {difference}");
            compared += 1;
        }
        assert_eq!(compared, 24);
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
