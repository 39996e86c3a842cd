//! Image files to pixels, compared with Pillow.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder as _, ImageFormat, Luma, LumaA, Rgb,
    RgbImage, Rgba, RgbaImage,
};

use super::*;
use base::error::describe;

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
    JpegEncoder::new_with_quality(&mut bytes, 95).write_image(image, width, height, ExtendedColorType::Rgb8).unwrap();
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
fn format_is_known_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in_truth_a_png.jpg");
    fs::write(&path, encode(picture(), ImageFormat::Png)).unwrap();
    assert_eq!(load_rgb(&path).unwrap(), picture());
    assert_eq!(inspect(&path).unwrap(), (24, 16));
    assert_eq!(decode_rgb(&encode(picture(), ImageFormat::WebP)).unwrap(), picture());
}

#[test]
fn whole_jpeg_with_bytes_after_it_is_read() {
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
            assert!(text.contains("hint: download the file again"), "{text}");
        }
    }
}

#[test]
fn truncated_png_and_webp_are_refused() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let whole = encode(picture(), format);
        assert!(refused(&whole[..whole.len() / 2]).contains("hint: download the file again"));
    }
}

#[test]
fn damaged_jpeg_header_is_refused() {
    assert!(refused(b"\xff\xd8\xff\xe0\x00\x10JFIF\0").contains("the JPEG data are damaged"));
}

#[test]
fn what_is_not_an_image_is_named() {
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
    let stream =
        [&[0x78, 0x01, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), rows, &((b << 16) | a).to_be_bytes()]
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
