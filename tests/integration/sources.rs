//! Which file of a source is which image, what of a source decides about a data set, and what is reported of the rest.

use std::fs;
use std::path::Path;

use crate::captions::{reason, refused, source, table};
use crate::formats::{picture, prepare, prepared, put};
use crate::support::{binary, stderr};

#[track_caller]
fn again(source: &Path, output: &Path) -> String {
    let output = prepare(source, output, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

/// A source with a table of `0.jpg` to `29.jpg`, and these rows and pictures.
fn many(rows: &str, pictures: &[(&str, usize)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "captions.csv", format!("{}{rows}", table(0..30)));
    (0..30).for_each(|number| put(folder.path(), &format!("{number}.jpg"), picture(number)));
    pictures.iter().for_each(|(path, number)| put(folder.path(), path, picture(*number)));
    folder
}

#[test]
fn ids_that_are_numbers_find_the_only_file_of_that_number() {
    for (captions, text, files) in [
        ("c.csv", "image_id,caption\n1.0,A\n2.0,B\n", ["1.jpg", "2.jpg"]),
        ("c.csv", "image_id,caption\n1,A\n42,B\n", ["000000000001.jpg", "000000000042.jpg"]),
        ("c.json", r#"[{"image_id":1,"caption":"A"},{"image_id":42,"caption":"B"}]"#, ["01.png", "x/0042.png"]),
        ("c.json", r#"[{"image_id":"1.0","caption":"A"},{"image_id":2.0,"caption":"B"}]"#, ["001.png", "002.png"]),
    ] {
        let source = tempfile::tempdir().unwrap();
        put(source.path(), captions, text);
        files.iter().enumerate().for_each(|(number, path)| put(source.path(), path, picture(number)));
        let (_, images, report) = prepared(source.path(), &["--validation-fraction", "0"]);
        assert_eq!(images.len(), 2, "{text}: {:?}", report.rejects);
        let note = report.repairs.iter().find(|repair| repair.repair.contains("found by names that differ")).unwrap();
        assert!(note.what == "2 images" && note.repair.contains("how a number is written"), "{note:?}");
    }
    let unclear = source(&[("c.csv", b"image_id,caption\n7,A\n"), ("x/007.jpg", b"x"), ("x/07.jpg", b"yz")]);
    let text = refused(unclear.path(), &[]);
    assert!(text.contains("7: it may be x/007.jpg or x/07.jpg"), "{text}");
    // What is called like a file is that file and no other.
    let named = source(&[("c.csv", b"image,caption\n03.jpg,A\n")]);
    assert!(refused(named.path(), &[]).contains("none of the image files was found"));
}

#[test]
fn names_that_fit_several_files_cost_few_images_or_are_an_error() {
    let pictures = [("x/IMG.jpg", 31), ("y/img.jpg", 32)];
    let source = many("Img.jpg,A\n", &pictures);
    let (_, images, report) = prepared(source.path(), &[]);
    assert_eq!(images.len(), 30);
    let note = report.repairs.iter().find(|repair| repair.what == "1 of 31 images").unwrap();
    assert!(note.repair.contains("Img.jpg: it may be x/IMG.jpg or y/img.jpg"), "{note:?}");
    let source = many("Img.jpg,A\nIMG.JPG,B\n", &[("x/IMG.jpg", 31), ("y/img.jpg", 32), ("z/a.jpg", 33)]);
    let text = refused(source.path(), &[]);
    assert!(text.contains("it is unclear which files belong to 2 of 32 images, such as Img.jpg: it may be"), "{text}");
    assert!(text.contains("hint: name the images with their folders"), "{text}");
}

#[test]
fn files_that_were_looked_into_or_weighed_are_watched() {
    let out = tempfile::tempdir().unwrap();
    // Looked into, and not read.
    let source =
        self::source(&[("train.csv", table(0..4).as_bytes()), ("test.csv", b"image,label\n4.jpg,1\n5.jpg,2\n")]);
    let output = out.path().join("looked");
    again(source.path(), &output);
    assert!(again(source.path(), &output).contains("nothing to do"));
    put(source.path(), "test.csv", "image,label\n4.jpg,3\n5.jpg,4\n");
    assert!(again(source.path(), &output).contains("nothing to do"), "other labels are no captions either");
    put(source.path(), "test.csv", table(4..6));
    let text = again(source.path(), &output);
    assert!(text.contains("1 file was changed (test.csv)") && text.contains("test        2 images"), "{text}");

    // One of two files that an image may be.
    let source = many("Img.jpg,A\n", &[("x/IMG.jpg", 31), ("y/img.jpg", 32)]);
    let output = out.path().join("unclear");
    again(source.path(), &output);
    fs::remove_file(source.path().join("y/img.jpg")).unwrap();
    let text = again(source.path(), &output);
    assert!(text.contains("1 file was removed (y/img.jpg)") && text.contains("28 images"), "{text}");

    // A copy of a file that was taken.
    let source = many("a.jpg,A\n", &[("x/a.jpg", 31), ("y/a.jpg", 31)]);
    let output = out.path().join("copies");
    assert!(!again(source.path(), &output).contains("left out, since it is unclear"));
    put(source.path(), "y/a.jpg", picture(32));
    let text = again(source.path(), &output);
    assert!(text.contains("1 file was changed (y/a.jpg)") && text.contains("a.jpg: it may be x/a.jpg or"), "{text}");
}

#[test]
fn packed_files_are_watched_where_they_decide_something() {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("out");
    let source = source(&[("captions.csv", table(0..6).as_bytes()), ("photos.tar.xz", b"\xfd7zXZ")]);
    again(source.path(), &output);
    put(source.path(), "photos.tar.xz", b"\xfd7zXZ and more");
    assert!(again(source.path(), &output).contains("nothing to do"));
    fs::remove_file(source.path().join("photos.tar.xz")).unwrap();
    assert!(again(source.path(), &output).contains("nothing to do"));
    put(source.path(), "captions_train.csv.xz", b"\xfd7zXZ");
    let text = stderr(&prepare(source.path(), &output, &[]));
    assert!(text.contains("1 file was added (captions_train.csv.xz)") && text.contains("unpack it"), "{text}");
}

#[cfg(unix)]
#[test]
fn an_archive_that_is_not_read_may_get_another_owner_or_other_rights() {
    use std::os::unix::fs::PermissionsExt as _;

    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("out");
    let files: [(&str, &[u8]); 3] = [
        ("captions.csv", b"image,caption\n0.jpg,A\n1.jpg,B\n"),
        ("half.zip", b"half a zip"),
        ("more.tar.gz", b"\x1f\x8b"),
    ];
    let source = source(&files);
    again(source.path(), &output);
    for name in ["half.zip", "more.tar.gz"] {
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::set_permissions(source.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(again(source.path(), &output).contains("nothing to do"), "{name}");
    }
}

#[test]
fn an_unfinished_download_beside_files_that_are_read_is_an_error_unless_it_was_downloaded_again() {
    for ending in ["crdownload", "part", "download"] {
        let val = format!("val.csv.{ending}");
        let source = source(&[("train.csv", table(0..4).as_bytes()), (&val, b"image,caption\n4.j")]);
        let text = refused(source.path(), &[]);
        assert!(text.contains(&format!("train.csv can be used, but {val}")), "{text}");
        assert!(text.contains("its download is not finished"), "{text}");
        put(source.path(), "val.csv", table(4..6));
        let (_, images, report) = prepared(source.path(), &[]);
        assert_eq!((images.len(), report.images.val), (6, 2));
    }
}

#[test]
fn of_images_of_one_name_those_without_captions_are_counted_and_copies_are_not() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "captions.csv", "image,caption\nx/1.jpg,A\nx/2.bmp,B\n");
    for (path, number) in [("x/1.jpg", 0), ("y/1.jpg", 1), ("z/1.jpg", 0)] {
        put(source.path(), path, picture(number));
    }
    // Pictures of one size have files of one size.
    for (path, shade) in [("x/2.bmp", 10), ("y/2.bmp", 200), ("z/2.bmp", 10)] {
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([shade, 0, 0]));
        put(source.path(), path, "");
        picture.save(source.path().join(path)).unwrap();
    }
    let (_, images, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(images.len(), 2);
    assert_eq!(reason(&report, "2 image files"), "no captions name them, such as y/1.jpg");
}

#[test]
fn pictures_that_are_not_called_so_are_counted_and_named() {
    let source = source(&[("captions.csv", table(0..6).as_bytes())]);
    put(source.path(), "x/img_7", picture(7));
    put(source.path(), "x/img_8.photo", picture(8));
    put(source.path(), "x/notes", "words");
    let (_, _, report) = prepared(source.path(), &[]);
    let left_out = reason(&report, "2 image files");
    assert!(left_out.contains("such as x/img_7: give each an extension such as .jpg"), "{left_out}");
    // Where the captions name them just so, they are the images.
    put(source.path(), "captions.csv", "image,caption\nimg_7,A\nimg_8.photo,B\n");
    assert_eq!(prepared(source.path(), &["--validation-fraction", "0"]).1.len(), 2);
    for name in ["captions.csv", "0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"] {
        fs::remove_file(source.path().join(name)).unwrap();
    }
    let text = refused(source.path(), &[]);
    assert!(text.contains("2 files are pictures by their content and not by their names, such as x/img_7"), "{text}");
}

#[test]
fn names_that_differ_in_a_backslash_or_a_ligature_are_reported_so() {
    for (sought, there, told) in
        [("b.jpg", "img%5Cb.jpg", "percent escapes"), ("fi.jpg", "\u{fb01}.jpg", "ligatures, such as \u{fb01} for fi")]
    {
        let source = tempfile::tempdir().unwrap();
        put(source.path(), "captions.csv", format!("image,caption\n{sought},A\nplain.jpg,B\n"));
        put(source.path(), there, picture(0));
        put(source.path(), "plain.jpg", picture(1));
        let (_, images, report) = prepared(source.path(), &[]);
        assert_eq!(images.len(), 2, "{sought}: {:?}", report.rejects);
        assert!(report.repairs.iter().any(|repair| repair.repair.contains(told)), "{sought}: {:?}", report.repairs);
    }
}

#[test]
fn a_folder_of_the_users_own_is_not_a_known_data_set_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["coco", "flickr8k", "Flickr30k", "shapes"] {
        let source = folder.path().join("sources").join(name);
        put(&source, "captions.csv", table(0..4));
        (0..4).for_each(|number| put(&source, &format!("{number}.jpg"), picture(number)));
        let output =
            binary().arg("prepare-data").arg("--source").arg(&source).current_dir(folder.path()).output().unwrap();
        let text = stderr(&output);
        assert!(text.starts_with(&format!("data set {name}-own prepared in data/{name}-own\n")), "{text}");
        assert!(text.contains("the source has this name, but contains another data set"), "{text}");
        assert!(!folder.path().join("data").join(name).exists());
    }
    let own = folder.path().join("data/coco-own");
    let source = folder.path().join("sources/coco");
    let text = stderr(&prepare(&source, &own, &["--dataset", "coco"]));
    assert!(text.contains("contains data set coco-own, not coco"), "{text}");
}
