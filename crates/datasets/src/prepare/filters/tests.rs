//! Preparations with filters, of a small source.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use tempfile::TempDir;

use crate::output::{FilterCount, Preparation, Sameness};
use crate::prepare::filters::{FilterRequest, Filters};
use crate::prepare::{Done, Outcome, Request, prepare, summary};
use crate::prepared::{Dataset, IMAGE_FOLDER};
use base::error::describe;

/// Waves of a direction of their own for each seed, so that no two look alike.
fn jpeg(seed: u32, width: u32, height: u32, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (across, down) = ((1 + seed * 5 % 7) as f32, (1 + seed * 3 % 5) as f32);
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        let gray = 120.0 + 50.0 * (6.3 * across * x).sin() + 50.0 * (6.3 * (down * y + seed as f32 * 0.37 * x)).sin();
        image::Rgb([gray as u8; 3])
    });
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&image).unwrap();
    bytes
}

/// Images a to f, of which a has a copy "copy" in the test split and one of lower quality, "near".
fn source() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    for (seed, name) in (1..).zip(["b.jpg", "c.jpg", "d.jpg"]) {
        write(name, jpeg(seed, 90, 60, 90));
    }
    write("a.jpg", jpeg(9, 90, 60, 90));
    write("copy.jpg", jpeg(9, 90, 60, 90));
    write("near.jpg", jpeg(9, 90, 60, 70));
    write("small.jpg", jpeg(4, 40, 20, 90));
    write("wide.jpg", jpeg(5, 200, 50, 90));
    let table = "image,caption,split,weight\n\
        a.jpg,a dog runs over the grass,train,1\na.jpg,dog,train,0.5\n\
        b.jpg,собака бежит по траве,train,1\nb.jpg,two people sit,train,2\n\
        c.jpg,cat,train,1\n\
        d.jpg,a very long text about a cat and a dog and more,train,1\n\
        copy.jpg,the copy of a dog,test,1\n\
        near.jpg,nearly the same dog,train,1\n\
        small.jpg,a small picture here,val,1\n\
        wide.jpg,a wide picture here,train,1\n";
    write("captions.csv", table.as_bytes().to_vec());
    folder
}

fn request(source: &Path, filters: FilterRequest) -> (TempDir, Request) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let request = Request { source: Some(source.to_owned()), output: Some(output), filters, ..Request::default() };
    (folder, request)
}

/// Each image that is left, with its captions.
fn left(outcome: &Outcome) -> Vec<(String, Vec<String>)> {
    let dataset = Dataset::open(&outcome.directory).unwrap();
    let mut left: Vec<_> =
        dataset.images.iter().map(|image| (image.filename().to_owned(), image.owned_captions())).collect();
    left.sort();
    let mut files: Vec<String> = fs::read_dir(outcome.directory.join(IMAGE_FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, left.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), "no file of what was left out");
    left
}

/// Each filter, and the images and captions that it left out.
type Counts = Vec<(String, usize, usize)>;

/// The names of the images that are left, the counts, and what was left out with its reason.
fn filtered(filters: FilterRequest) -> (Vec<String>, Counts, Vec<(String, String)>) {
    let source = source();
    let (_folder, request) = request(source.path(), filters);
    let outcome = prepare(&request).unwrap();
    let Preparation { filtered, rejects, .. } = &outcome.report;
    let counts: Vec<_> =
        filtered.iter().map(|FilterCount { filter, images, captions }| (filter.clone(), *images, *captions)).collect();
    for (filter, images, captions) in &counts {
        let plural = |count: &usize| if *count == 1 { "" } else { "s" };
        let amount = format!("{images} image{} and {captions} caption{}", plural(images), plural(captions));
        assert!(summary(&outcome).contains(&format!("  {filter}: {amount} left out")), "{}", summary(&outcome));
    }
    let rejects = rejects.iter().map(|reject| (reject.what.clone(), reject.reason.clone())).collect();
    (left(&outcome).into_iter().map(|(name, _)| name).collect(), counts, rejects)
}

fn counts(all: &[(&str, usize, usize)]) -> Counts {
    all.iter().map(|&(filter, images, captions)| (filter.to_owned(), images, captions)).collect()
}

fn lacks(names: &[String], absent: &[&str]) {
    let all = ["a", "b", "c", "copy", "d", "near", "small", "wide"].map(|name| format!("{name}.jpg"));
    let is_absent = |name: &&String| absent.iter().any(|absent| **name == format!("{absent}.jpg"));
    let expected: Vec<&String> = all.iter().filter(|name| !is_absent(name)).collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);
}

fn list(text: &str) -> (TempDir, Option<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    fs::write(&path, text).unwrap();
    (folder, Some(path))
}

#[test]
fn without_filters_nothing_is_left_out_or_counted() {
    let (names, found, rejects) = filtered(FilterRequest::default());
    lacks(&names, &[]);
    assert!(found.is_empty() && rejects.is_empty(), "{rejects:?}");
}

#[test]
fn images_with_a_short_side_below_the_least_are_left_out() {
    let (names, found, rejects) = filtered(FilterRequest { min_side: Some(50), ..FilterRequest::default() });
    lacks(&names, &["small"]);
    assert_eq!(found, counts(&[("--min-side 50", 1, 1)]));
    assert_eq!(rejects[0].0, "small.jpg");
    assert_eq!(rejects[0].1, "it has 40 x 20 pixels, a side below --min-side 50");
}

#[test]
fn images_that_are_too_long_are_left_out() {
    let (names, found, rejects) = filtered(FilterRequest { max_aspect: Some(2.0), ..FilterRequest::default() });
    lacks(&names, &["wide"]);
    assert_eq!(found, counts(&[("--max-aspect 2", 1, 1)]));
    assert!(rejects[0].1.contains("200 x 50 pixels"), "{rejects:?}");
}

#[test]
fn captions_of_too_few_or_too_many_words_are_left_out_and_images_without_one_too() {
    let filters = FilterRequest { min_words: Some(3), max_words: Some(10), ..FilterRequest::default() };
    let (names, found, rejects) = filtered(filters);
    lacks(&names, &["c", "d"]);
    assert_eq!(found, counts(&[("--min-words 3", 1, 2), ("--max-words 10", 1, 1)]));
    let reason =
        |what: &str| rejects.iter().filter(|(own, _)| own == what).map(|(_, reason)| reason.as_str()).collect();
    let reasons: Vec<&str> = reason("caption 1 of a.jpg");
    assert_eq!(reasons, ["it has 1 word, fewer than --min-words 3"]);
    let reasons: Vec<&str> = reason("c.jpg");
    assert_eq!(reasons, ["none of its captions is left"]);
}

#[test]
fn what_a_caption_has_beside_its_text_stays_with_it() {
    let source = source();
    let filters = FilterRequest { scripts: vec!["latin".to_owned()], ..FilterRequest::default() };
    let (_folder, request) = request(source.path(), filters);
    let outcome = prepare(&request).unwrap();
    let dataset = Dataset::open(&outcome.directory).unwrap();
    let image = dataset.images.iter().find(|image| image.filename() == "b.jpg").unwrap();
    assert_eq!((image.owned_captions(), image.weight(0).value()), (vec!["two people sit".to_owned()], 2.0));
    assert_eq!(outcome.report.filtered[0].filter, "--script Latin");
    assert_eq!((outcome.report.filtered[0].images, outcome.report.filtered[0].captions), (0, 1));
    assert_eq!(outcome.report.captions.train, 7);
}

#[test]
fn of_equal_files_one_is_kept_and_that_is_the_one_that_is_scored() {
    let filters = FilterRequest { drop_duplicates: Some(Sameness::Exact), ..FilterRequest::default() };
    let (names, found, rejects) = filtered(filters);
    lacks(&names, &["a"]);
    assert_eq!(found, counts(&[("--drop-duplicates exact", 1, 2)]));
    let expected = ("a.jpg".to_owned(), "it shows the same picture as copy.jpg (test), which is kept".to_owned());
    assert_eq!(rejects, [expected]);
}

#[test]
fn of_pictures_that_look_alike_one_is_kept_where_that_is_asked_for() {
    let filters = FilterRequest { drop_duplicates: Some(Sameness::Near), ..FilterRequest::default() };
    let (names, found, rejects) = filtered(filters);
    lacks(&names, &["a", "near"]);
    assert_eq!(found, counts(&[("--drop-duplicates near", 2, 3)]));
    let near = rejects.iter().find(|(what, _)| what == "near.jpg").unwrap();
    assert!(near.1.contains("copy.jpg (test), which is kept"), "{near:?}");
}

#[test]
fn images_of_a_list_are_left_out_and_lines_that_name_none_are_noted() {
    let (_folder, drop_ids) = list("b.jpg\nabsent.jpg\nsmall.jpg\n");
    let (names, found, rejects) = filtered(FilterRequest { drop_ids, ..FilterRequest::default() });
    lacks(&names, &["b", "small"]);
    assert_eq!(found, counts(&[("--drop-ids", 2, 3)]));
    assert_eq!(rejects[0], ("b.jpg".to_owned(), "--drop-ids lists it".to_owned()));
    let source = source();
    let (_folder, drop_ids) = list("absent.jpg\n");
    let (_folder, request) = request(source.path(), FilterRequest { drop_ids, ..FilterRequest::default() });
    let text = describe(&prepare(&request).unwrap_err());
    assert!(text.contains("no image is called absent.jpg"), "{text}");
}

#[test]
fn captions_of_a_low_score_are_left_out_and_those_without_one_are_kept() {
    let scores = r#"{"image":"a.jpg","caption":"a dog runs over the grass","mean_log_probability":-2.0}
{"image":"a.jpg","caption":"dog","mean_log_probability":-7.5}
{"image":"c.jpg","caption":"cat","mean_log_probability":-8.0}
{"image":"b.jpg","caption":"two people sit","error":"too long"}
"#;
    let (_folder, scores) = list(scores);
    let filters = FilterRequest { scores, min_score: Some(-7.5), ..FilterRequest::default() };
    let source = source();
    let (_folder, request) = request(source.path(), filters);
    let outcome = prepare(&request).unwrap();
    let left = left(&outcome);
    assert!(!left.iter().any(|(name, _)| name == "c.jpg"), "{left:?}");
    assert_eq!(left[0].1.len(), 2, "a score that equals the least is enough");
    assert_eq!(outcome.report.filtered[0].filter, "--min-score -7.5");
    assert_eq!((outcome.report.filtered[0].images, outcome.report.filtered[0].captions), (1, 1));
    let notes = format!("{:?}", outcome.report.repairs);
    assert!(notes.contains("captions\", repair: \"have no score, and were kept"), "{notes}");
}

#[test]
fn scores_of_other_images_are_an_error() {
    let (_folder, scores) = list(r#"{"image":"x/y.jpg","caption":"cat","mean_log_probability":-8.0}"#);
    let source = source();
    let filters = FilterRequest { scores, min_score: Some(-9.0), ..FilterRequest::default() };
    let (_folder, request) = request(source.path(), filters);
    let text = describe(&prepare(&request).unwrap_err());
    assert!(text.contains("it has images such as x/y.jpg, the images are called such as a.jpg"), "{text}");
}

#[test]
fn filters_that_leave_nothing_say_which_of_them_took_what() {
    let source = source();
    let failed = |filters: FilterRequest| {
        let (folder, request) = request(source.path(), filters);
        let text = describe(&prepare(&request).unwrap_err());
        assert!(!folder.path().join("out/dataset.json").exists());
        text
    };
    let text = failed(FilterRequest {
        min_words: Some(4),
        max_words: Some(4),
        scripts: vec!["Cyrl".into()],
        min_side: Some(61),
        ..FilterRequest::default()
    });
    let expected = "no image is left of 8 with 10 captions: --script Cyrillic took 7 images and 9 captions, --min-side 61 \
                    took 1 image and 1 caption";
    assert!(text.contains(expected) && text.contains("hint: relax the filter"), "{text}");
    let text = failed(FilterRequest { min_words: Some(99), ..FilterRequest::default() });
    assert!(text.contains("--min-words 99 took 8 images and 10 captions"), "{text}");
}

#[test]
fn filters_work_in_their_order_and_what_one_takes_the_next_does_not_see() {
    let (_folder, drop_ids) = list("copy.jpg\n");
    let filters = FilterRequest {
        drop_ids,
        min_words: Some(2),
        max_aspect: Some(3.0),
        min_side: Some(30),
        drop_duplicates: Some(Sameness::Near),
        ..FilterRequest::default()
    };
    let (names, found, _) = filtered(filters);
    lacks(&names, &["copy", "c", "small", "wide", "near"]);
    let expected = [
        ("--drop-ids", 1, 1),
        ("--min-words 2", 1, 2),
        ("--min-side 30", 1, 1),
        ("--max-aspect 3", 1, 1),
        ("--drop-duplicates near", 1, 1),
    ];
    assert_eq!(found, counts(&expected));
}

#[test]
fn a_limit_counts_what_filters_of_captions_left() {
    let source = source();
    let filters = FilterRequest { min_words: Some(3), ..FilterRequest::default() };
    let (_folder, mut request) = request(source.path(), filters);
    request.limit = Some(7);
    let outcome = prepare(&request).unwrap();
    assert_eq!(left(&outcome).len(), 7, "c.jpg was gone before");
}

#[test]
fn the_same_filters_again_have_nothing_to_do_and_others_are_refused() {
    let source = source();
    let filters = FilterRequest { min_words: Some(3), min_side: Some(30), ..FilterRequest::default() };
    let (_folder, mut request) = request(source.path(), filters);
    assert_eq!(prepare(&request).unwrap().done, Done::Prepared);
    assert_eq!(prepare(&request).unwrap().done, Done::AlreadyPrepared);
    request.filters.min_words = Some(4);
    let text = describe(&prepare(&request).unwrap_err());
    assert!(text.contains("was prepared with other options") && text.contains("\"min_words\":3"), "{text}");
}

#[test]
fn a_second_preparation_removes_the_files_of_what_is_left_out_now() {
    let source = source();
    let filters =
        FilterRequest { drop_duplicates: Some(Sameness::Exact), min_side: Some(30), ..FilterRequest::default() };
    let (_folder, request) = request(source.path(), filters);
    prepare(&request).unwrap();
    fs::write(source.path().join("d.jpg"), jpeg(9, 90, 60, 90)).unwrap();
    fs::write(source.path().join("b.jpg"), jpeg(1, 29, 60, 90)).unwrap();
    let outcome = prepare(&request).unwrap();
    let names: Vec<String> = left(&outcome).into_iter().map(|(name, _)| name).collect();
    lacks(&names, &["a", "b", "d", "small"]);
}

#[test]
fn a_dry_run_says_which_filters_wait_for_the_images() {
    let source = source();
    let filters = FilterRequest { min_words: Some(3), max_aspect: Some(2.5), ..FilterRequest::default() };
    let (_folder, mut request) = request(source.path(), filters);
    request.is_dry_run = true;
    let text = summary(&prepare(&request).unwrap());
    assert!(text.contains("--min-words 3: 1 image and 2 captions left out"), "{text}");
    assert!(text.contains("--max-aspect 2.5: works when images are read"), "{text}");
}

#[test]
fn a_filter_that_leaves_nothing_or_is_none_is_a_mistake_of_usage() {
    let path = || Some(PathBuf::from("absent"));
    let cases = [
        (FilterRequest { max_aspect: Some(0.5), ..FilterRequest::default() }, "--max-aspect of 1 or more, found 0.5"),
        (FilterRequest { max_aspect: Some(f64::NAN), ..FilterRequest::default() }, "found NaN"),
        (FilterRequest { min_words: Some(5), max_words: Some(4), ..FilterRequest::default() }, "leave no caption"),
        (FilterRequest { max_words: Some(0), ..FilterRequest::default() }, "--max-words 0"),
        (FilterRequest { min_score: Some(-1.0), ..FilterRequest::default() }, "need each other"),
        (
            FilterRequest { min_score: Some(f64::INFINITY), scores: path(), ..FilterRequest::default() },
            "expected a number",
        ),
        (FilterRequest { scripts: vec!["Klingon".to_owned()], ..FilterRequest::default() }, "Klingon is not the name"),
        (FilterRequest { drop_ids: path(), ..FilterRequest::default() }, "cannot read absent"),
    ];
    for (request, expected) in cases {
        let text = describe(&Filters::read(&request).unwrap_err());
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
    }
}
