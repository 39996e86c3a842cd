//! Pictures of every format and kind through the program: prepared, captioned, left out by name.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use datasets::output::Preparation;
use datasets::prepared::Dataset;
use pixels::image_file::inspect;

use crate::commands::trained;
use crate::support::{binary, last_checkpoint, shapes_folder, stderr};

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// A drawn picture, each of another content.
fn jpeg(number: usize) -> Vec<u8> {
    let dataset = Dataset::open(shapes_folder()).unwrap();
    fs::read(dataset.picture(number).path()).unwrap()
}

fn put(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The names of the images that were made of a source, the report, and the folder they are in.
#[track_caller]
fn prepared(source: &Path, extra: &[&str]) -> (Vec<String>, Preparation, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let result =
        binary().arg("prepare-data").arg("--source").arg(source).arg("--output").arg(&output).args(extra).output();
    let result = result.unwrap();
    assert!(result.status.success(), "{}", stderr(&result));
    let report = serde_json::from_slice(&fs::read(output.join("preparation.json")).unwrap()).unwrap();
    let dataset = Dataset::open(&output).unwrap();
    for image in 0..dataset.images.len() {
        inspect(dataset.picture(image).path()).unwrap();
    }
    let mut names: Vec<String> = dataset.images.iter().map(|image| image.filename().to_owned()).collect();
    names.sort();
    (names, report, folder)
}

fn left_out(report: &Preparation) -> Vec<String> {
    report.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect()
}

const FORMATS: [(&str, &str); 7] = [
    ("a.jfif", "image_modes/rgb.jpg"),
    ("b.JPE", "jpeg_kinds/arithmetic_2x2_20x12.jpg"),
    ("c.bmp", "image_modes/palette.bmp"),
    ("d.gif", "image_modes/animated.gif"),
    ("e.TIFF", "image_modes/lzw.tiff"),
    ("f.tif", "image_modes/pages.tiff"),
    ("g.webp", "image_modes/rgb.webp"),
];

#[test]
fn pictures_of_every_format_are_prepared_whatever_names_them() {
    let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
    let beside = tempfile::tempdir().unwrap();
    let table = tempfile::tempdir().unwrap();
    let shards = tempfile::tempdir().unwrap();
    let mut csv = "image,caption\n".to_owned();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, file) in FORMATS {
        let text = format!("{}.txt", &name[..1]);
        put(beside.path(), name, fixture(file));
        put(beside.path(), &text, "A picture.\n");
        csv.push_str(&format!("{name},A picture.\n"));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&fixture(file)).unwrap();
        for (name, bytes) in [(name, fixture(file)), (text.as_str(), b"A picture.\n".to_vec())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
    }
    put(table.path(), "captions.csv", csv);
    put(table.path(), "pictures.zip", zip.finish().unwrap().into_inner());
    put(shards.path(), "00000.tar", tar.into_inner().unwrap());
    for source in [&beside, &table, &shards] {
        let (found, report, output) = prepared(source.path(), &[]);
        assert_eq!(found, names, "{:?}", report.rejects);
        assert!(report.rejects.is_empty());
        for (name, file) in FORMATS {
            assert_eq!(fs::read(output.path().join("out/images").join(name)).unwrap(), fixture(file), "{name}");
        }
    }
    // A smaller picture is written in a format that can be.
    let (found, report, output) = prepared(beside.path(), &["--resize", "10"]);
    assert_eq!(found, ["a.jfif", "b.JPE", "c.bmp.png", "d.gif.png", "e.TIFF.png", "f.tif.png", "g.webp"]);
    assert!(report.rejects.is_empty() && report.decoder.is_some());
    let images = output.path().join("out/images");
    assert!(fs::read(images.join("c.bmp.png")).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(inspect(&images.join("d.gif.png")).unwrap(), (15, 10));
}

#[test]
fn every_kind_of_jpeg_is_prepared() {
    let source = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg_kinds");
    let mut names = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".jpg") {
            put(source.path(), &name, fs::read(&path).unwrap());
            put(source.path(), &format!("{stem}.txt"), "A picture.\n");
            names.push(name);
        }
    }
    names.sort();
    let (found, report, _) = prepared(source.path(), &[]);
    assert_eq!(found, names, "{:?}", report.rejects);
}

#[test]
fn pictures_in_formats_that_are_not_read_are_named_or_counted() {
    let beside = tempfile::tempdir().unwrap();
    for (number, name) in ["a.jpg", "b.png"].iter().enumerate() {
        put(beside.path(), name, jpeg(number));
    }
    for stem in ["a", "b", "h", "i"] {
        put(beside.path(), &format!("{stem}.txt"), "A picture.\nAnother.\n");
    }
    for name in ["h.heic", "i.avif", "a.psd", "x/1.dng", "x/2.NEF"] {
        put(beside.path(), name, b"something");
    }
    let (found, report, _) = prepared(beside.path(), &[]);
    assert_eq!(found, ["a.jpg", "b.png"]);
    let texts = left_out(&report);
    let has = |parts: &[&str]| texts.iter().any(|text| parts.iter().all(|part| text.contains(part)));
    assert!(has(&["h.heic: the format HEIC", "not supported", "magick", "captions left out: 2"]), "{texts:#?}");
    assert!(has(&["i.avif: the format AVIF", "captions left out: 2"]), "{texts:#?}");
    // Its text belongs to the JPEG beside it.
    assert!(has(&["1 image files: the format Photoshop is not supported, such as a.psd"]), "{texts:#?}");
    assert!(has(&["2 image files: the format camera raw is not supported, such as x/1.dng"]), "{texts:#?}");

    let table = tempfile::tempdir().unwrap();
    put(
        table.path(),
        "captions.csv",
        "image,caption\na.jpg,A.\nh.heic,B.\nold/v.svg,C.\nj,D.\ngone.jxl,E.\nk.data,F.\n",
    );
    put(table.path(), "a.jpg", jpeg(0));
    put(table.path(), "k.data", jpeg(1));
    for name in ["h.heic", "v.svg", "j.jxl"] {
        put(table.path(), name, b"something");
    }
    let (found, report, _) = prepared(table.path(), &[]);
    assert_eq!(found, ["a.jpg", "k.data"], "a file that is named is an image, whatever its ending");
    let texts = left_out(&report);
    let has = |parts: &[&str]| texts.iter().any(|text| parts.iter().all(|part| text.contains(part)));
    assert!(has(&["h.heic: the format HEIC of h.heic is not supported"]), "{texts:#?}");
    assert!(has(&["old/v.svg: the format SVG of v.svg is not supported"]), "{texts:#?}");
    assert!(has(&["j: the format JPEG XL of j.jxl is not supported"]), "{texts:#?}");
    assert!(has(&["gone.jxl: there is no such image file"]), "{texts:#?}");
    assert_eq!(texts.len(), 4, "{texts:#?}");
}

#[test]
fn a_source_of_nothing_but_pictures_that_are_not_read_says_so() {
    let source = tempfile::tempdir().unwrap();
    for stem in ["a", "b"] {
        put(source.path(), &format!("{stem}.heic"), b"something");
        put(source.path(), &format!("{stem}.txt"), "A picture.\n");
    }
    let run = |extra: &str| {
        if !extra.is_empty() {
            put(source.path(), "captions.csv", extra);
        }
        let output = source.path().join("out");
        let result =
            binary().arg("prepare-data").arg("--source").arg(source.path()).arg("--output").arg(output).output();
        let result = result.unwrap();
        assert_eq!(result.status.code(), Some(1));
        stderr(&result)
    };
    for text in [run(""), run("image,caption\na.heic,A.\nb.heic,B.\n")] {
        assert!(text.contains("2 HEIC pictures, such as a.heic, are not supported"), "{text}");
    }
}

/// A folder of two pictures and of what is none.
fn folder_of_pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "1.jpg", jpeg(0));
    put(folder.path(), "2.tiff", fixture("image_modes/rgb.tiff"));
    put(folder.path(), "h.avif", b"something");
    put(folder.path(), "._1.jpg", b"something");
    put(folder.path(), "sub/3.jpg", jpeg(1));
    folder
}

#[test]
fn a_folder_is_captioned_and_what_is_skipped_is_reported() {
    let checkpoint: PathBuf = last_checkpoint(&trained().join("run"));
    let folder = folder_of_pictures();
    let caption = || binary().arg("caption").arg("--checkpoint").arg(&checkpoint).arg(folder.path()).output().unwrap();
    let names = |output: &[u8]| -> Vec<String> {
        let text = String::from_utf8(output.to_vec()).unwrap();
        let name = |line: &str| {
            let path = line.split('\t').next().unwrap();
            Path::new(path).file_name().unwrap().to_str().unwrap().to_owned()
        };
        text.lines().map(name).collect()
    };
    let output = caption();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(names(&output.stdout), ["1.jpg", "2.tiff"]);
    assert!(text.contains("1 AVIF picture, such as h.avif, is skipped"), "{text}");
    assert!(text.contains("1 subfolder is not searched"), "{text}");
    // One that is damaged costs itself alone.
    let whole = jpeg(2);
    put(folder.path(), "0.jpg", &whole[..whole.len() / 2]);
    let output = caption();
    let text = stderr(&output);
    assert_eq!((output.status.code(), names(&output.stdout)), (Some(1), vec!["1.jpg".into(), "2.tiff".into()]));
    assert!(text.contains("0.jpg") && text.contains("1 of 3 images could not be captioned"), "{text}");
}
