//! Which files are pictures, by name and by content: formats that are read, and formats that are known by name so that
//! they are not skipped.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    Jpeg,
    /// PNG; of an animation the first frame.
    Png,
    /// WebP; of an animation the first frame.
    WebP,
    Bmp,
    /// GIF; of an animation the first frame.
    Gif,
    /// TIFF; of several pages the first one.
    Tiff,
}

/// The formats that are read, for messages.
pub const READ: &str = "JPEG, PNG, WebP, BMP, GIF or TIFF";

/// How files of a format that is read are called.
const READ_ENDINGS: [(&str, PictureFormat); 18] = [
    ("jpg", PictureFormat::Jpeg),
    ("jpeg", PictureFormat::Jpeg),
    ("jpe", PictureFormat::Jpeg),
    ("jfif", PictureFormat::Jpeg),
    ("jfi", PictureFormat::Jpeg),
    ("jif", PictureFormat::Jpeg),
    // Photographs of two lenses: a JPEG with others after it.
    ("jps", PictureFormat::Jpeg),
    ("mpo", PictureFormat::Jpeg),
    ("pjpeg", PictureFormat::Jpeg),
    ("pjp", PictureFormat::Jpeg),
    ("png", PictureFormat::Png),
    ("apng", PictureFormat::Png),
    ("webp", PictureFormat::WebP),
    ("bmp", PictureFormat::Bmp),
    ("dib", PictureFormat::Bmp),
    ("gif", PictureFormat::Gif),
    ("tif", PictureFormat::Tiff),
    ("tiff", PictureFormat::Tiff),
];

struct Unread {
    name: &'static str,
    endings: &'static [&'static str],
    /// Whether a file that begins so is of this format.
    is_start: fn(&[u8]) -> bool,
}

const UNREAD: [Unread; 26] = [
    Unread { name: "AVIF", endings: &["avif", "avifs"], is_start: |start| has_brand(start, &[b"avif", b"avis"]) },
    Unread {
        name: "HEIC",
        endings: &["heic", "heif", "hif"],
        is_start: |start| has_brand(start, &[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]),
    },
    Unread {
        name: "JPEG XL",
        endings: &["jxl"],
        is_start: |start| start.starts_with(b"\xff\x0a") || start.starts_with(b"\0\0\0\x0cJXL \r\n"),
    },
    Unread {
        name: "JPEG 2000",
        endings: &["jp2", "j2k", "j2c", "jpf", "jpm", "jpx"],
        is_start: |start| start.starts_with(b"\0\0\0\x0cjP  \r\n") || start.starts_with(b"\xff\x4f\xff\x51"),
    },
    Unread { name: "JPEG XR", endings: &["jxr", "hdp", "wdp"], is_start: |start| start.starts_with(b"II\xbc") },
    Unread {
        name: "SVG",
        endings: &["svg", "svgz"],
        is_start: |start| start.trim_ascii_start().starts_with(b"<") && start.windows(4).any(|text| text == b"<svg"),
    },
    Unread { name: "PDF", endings: &["pdf"], is_start: |start| start.starts_with(b"%PDF") },
    Unread { name: "PostScript", endings: &["eps"], is_start: |start| start.starts_with(b"%!PS") },
    Unread { name: "Photoshop", endings: &["psd", "psb"], is_start: |start| start.starts_with(b"8BPS") },
    Unread { name: "GIMP", endings: &["xcf"], is_start: |start| start.starts_with(b"gimp xcf") },
    Unread {
        name: "icon",
        endings: &["ico", "cur"],
        is_start: |start| matches!(start, [0, 0, 1 | 2, 0, 1..=32, 0, ..]),
    },
    Unread {
        name: "Netpbm",
        endings: &["pbm", "pgm", "ppm", "pnm", "pam"],
        is_start: |start| matches!(start, [b'P', b'1'..=b'7', b' ' | b'\t' | b'\n' | b'\r', ..]),
    },
    Unread {
        name: "PCX",
        endings: &["pcx", "dcx"],
        is_start: |start| matches!(start, [0x0a, 0..=5, 0..=1, 1 | 2 | 4 | 8, ..]),
    },
    Unread {
        name: "Radiance",
        endings: &["hdr", "rgbe"],
        is_start: |start| start.starts_with(b"#?RADIANCE") || start.starts_with(b"#?RGBE"),
    },
    Unread { name: "Sun raster", endings: &["ras", "sun"], is_start: |start| start.starts_with(b"\x59\xa6\x6a\x95") },
    Unread { name: "SGI", endings: &["sgi"], is_start: |start| matches!(start, [1, 0xda, 0..=1, 1..=2, 0, ..]) },
    Unread { name: "X bitmap", endings: &["xbm"], is_start: |_| false },
    Unread { name: "X pixmap", endings: &["xpm"], is_start: |start| start.starts_with(b"/* XPM */") },
    Unread { name: "FLIF", endings: &["flif"], is_start: |start| start.starts_with(b"FLIF") },
    Unread { name: "BPG", endings: &["bpg"], is_start: |start| start.starts_with(b"BPG\xfb") },
    Unread {
        name: "DjVu",
        endings: &["djvu", "djv"],
        is_start: |start| start.starts_with(b"AT&TFORM") && start.get(12..15) == Some(b"DJV"),
    },
    Unread { name: "TGA", endings: &["tga"], is_start: |_| false },
    Unread { name: "DDS", endings: &["dds"], is_start: |start| start.starts_with(b"DDS ") },
    Unread { name: "QOI", endings: &["qoi"], is_start: |start| start.starts_with(b"qoif") },
    Unread { name: "OpenEXR", endings: &["exr"], is_start: |start| start.starts_with(b"\x76\x2f\x31\x01") },
    Unread {
        name: RAW,
        endings: &[
            "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "orf", "rw2", "raf", "pef", "srw", "sr2", "rwl", "iiq",
            "3fr", "erf", "kdc", "mrw", "x3f",
        ],
        is_start: |start| {
            let starts = [&b"FUJIFILMCCD-RAW"[..], b"IIRO", b"IIRS", b"MMOR", b"IIU\0"];
            starts.iter().any(|text| start.starts_with(text))
                || start.get(8..11) == Some(b"CR\x02")
                || has_brand(start, &[b"crx "])
        },
    },
];

/// What the data of a camera's sensor are called; many are TIFF files with a small picture in front.
pub(crate) const RAW: &str = "camera raw";

/// Whether a file of this name is taken for a picture, be its format read or not.
pub fn is_image_name(name: &str) -> bool {
    format_of_name(name).is_some() || unread_format_of_name(name).is_some()
}

/// The format that is read of a file that has this name.
pub fn format_of_name(name: &str) -> Option<PictureFormat> {
    let ending = ending(name)?;
    READ_ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map(|(_, format)| *format)
}

/// The format that is not read of a picture that has this name.
pub fn unread_format_of_name(name: &str) -> Option<&'static str> {
    let ending = ending(name)?;
    let is_named = |format: &&Unread| format.endings.iter().any(|known| known.eq_ignore_ascii_case(ending));
    UNREAD.iter().find(is_named).map(|format| format.name)
}

/// What to do about a picture of a format that is not read.
pub fn how_to_convert(format: &str) -> String {
    how_to_convert_file("", format)
}

/// What to do about the picture at `path`, which is of a format that is not read.
pub fn how_to_convert_file(path: &str, format: &str) -> String {
    let endings = UNREAD.iter().find(|unread| unread.name == format).map_or(&[][..], |unread| unread.endings);
    let of_path = ending(path).filter(|own| endings.iter().any(|known| known.eq_ignore_ascii_case(own)));
    let ending = of_path.or(endings.first().copied()).unwrap_or_default();
    format!("convert it to JPEG or PNG, for example with ImageMagick: `magick a.{ending} a.png`")
}

/// The format that is read of a file that begins so.
pub fn format_of_content(bytes: &[u8]) -> Option<PictureFormat> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some(PictureFormat::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(PictureFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(PictureFormat::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(PictureFormat::Gif),
        // The size of the second header distinguishes a BMP from a text that begins with BM.
        [b'B', b'M', _, _, _, _, _, _, _, _, _, _, _, _, 12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..] => {
            Some(PictureFormat::Bmp)
        }
        // What cameras write may begin as a TIFF does.
        [b'I', b'I', 0x2a | 0x2b, 0, ..] | [b'M', b'M', 0, 0x2a | 0x2b, ..] => {
            unread_format_of_content(bytes).is_none().then_some(PictureFormat::Tiff)
        }
        _ => None,
    }
}

/// The format that is not read of a file that begins so.
pub(crate) fn unread_format_of_content(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(512)];
    UNREAD.iter().find(|format| (format.is_start)(start)).map(|format| format.name)
}

/// The usual ending of names of pictures that begin so, of a format that is not read.
pub fn unread_ending_of_content(bytes: &[u8]) -> Option<&'static str> {
    let name = unread_format_of_content(bytes)?;
    UNREAD.iter().find(|format| format.name == name)?.endings.first().copied()
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending)
}

/// Whether the file is one of ISO base media with one of these brands.
fn has_brand(start: &[u8], brands: &[&[u8; 4]]) -> bool {
    start.get(4..8) == Some(b"ftyp") && start.get(8..12).is_some_and(|brand| brands.iter().any(|known| *known == brand))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_distinguish_formats_that_are_read_from_those_that_are_known_and_from_others() {
        for name in ["a/b.JPG", "x.webp", "x.jfif", "x.JPE", "a.b.tiff", "x.gif", "x.Bmp"] {
            assert!(is_image_name(name) && format_of_name(name).is_some(), "{name}");
            assert_eq!(unread_format_of_name(name), None);
        }
        for (name, format) in [
            ("x.HEIC", "HEIC"),
            ("a/x.avif", "AVIF"),
            ("x.nef", RAW),
            ("x.svg", "SVG"),
            ("x.PCX", "PCX"),
            ("x.hdr", "Radiance"),
        ] {
            assert!(is_image_name(name) && format_of_name(name).is_none(), "{name}");
            assert_eq!(unread_format_of_name(name), Some(format));
        }
        for name in ["a.jpg/b", "jpg", "x.txt", "x.mp4", "x.", ""] {
            assert!(!is_image_name(name), "{name}");
        }
    }

    #[test]
    fn a_picture_is_converted_from_the_ending_that_it_has() {
        for (path, format, expected) in [
            ("x/b.HIF", "HEIC", "`magick a.HIF a.png`"),
            ("c.heif", "HEIC", "`magick a.heif a.png`"),
            ("c.jpg", "HEIC", "`magick a.heic a.png`"),
            ("", "JPEG 2000", "`magick a.jp2 a.png`"),
        ] {
            assert!(how_to_convert_file(path, format).ends_with(expected), "{path}");
        }
    }

    #[test]
    fn every_ending_means_one_format() {
        let mut endings: Vec<&str> = READ_ENDINGS.iter().map(|(ending, _)| *ending).collect();
        endings.extend(UNREAD.iter().flat_map(|format| format.endings));
        let count = endings.len();
        endings.sort_unstable();
        endings.dedup();
        assert_eq!(endings.len(), count);
        assert!(endings.iter().all(|ending| ending.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
    }

    #[test]
    fn content_distinguishes_formats() {
        for (start, format) in [
            (&b"\0\0\0\x1cftypavif\0\0\0\0"[..], "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
            (b"<?xml version=\"1.0\"?>\n<svg width=\"3\">", "SVG"),
            (b"%PDF-1.7", "PDF"),
            (b"8BPS\0\x01", "Photoshop"),
            (b"P6\n3 2\n255\n", "Netpbm"),
            (b"II*\0\x10\0\0\0CR\x02\0", RAW),
            (b"\0\0\x01\0\x02\0 ", "icon"),
            (b"\x0a\x05\x01\x08\0\0", "PCX"),
            (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance"),
        ] {
            assert_eq!(unread_format_of_content(start), Some(format));
        }
        for other in [&b""[..], b"BMW is a brand of cars and", b"Paris", b"<html><body>", b"\0\0\0\x18ftypmp42"] {
            assert_eq!((format_of_content(other), unread_format_of_content(other)), (None, None), "{other:?}");
        }
        assert_eq!(format_of_content(b"GIF89a\x01"), Some(PictureFormat::Gif));
        assert_eq!(format_of_content(b"MM\0\x2a\0\0\0\x08"), Some(PictureFormat::Tiff));
    }
}
