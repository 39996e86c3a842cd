//! Assembles the page of a data set: its images with their captions to be searched, numbers, odd captions, pictures that
//! are there twice, and what was left out.
//!
//! Image files stay where they are; the page links to them. Its script builds the cards from a block of JSON, as many as
//! are seen, so that a page of a hundred thousand images opens as fast as one of ten.

mod data;
mod sizes;

use serde::Serialize;

use super::addresses::folder_address;
use super::charts::{ChartData, Drawing, Series, Style};
use super::downsample::Point;
use super::filling::{Frame, fill};
use super::histogram::chart_of_lengths;
use super::text::{self, MAX_CAPTION, MAX_WORD, counted, grouped, percentage};

pub use data::{
    LookCaption, LookData, LookImage, LookPair, LookPairs, OddCaptions, OddListed, RepeatedCaption, SplitCounts,
    WordCount,
};

/// In the head of each page of a data set: distinguishes it from other files.
pub const LOOK_GENERATOR: &str = "<meta name=\"generator\" content=\"caption-train look\">";

const FRAME: Frame = Frame {
    template: concat!(include_str!("../parts.html"), include_str!("look.html")),
    style: concat!(
        include_str!("../page.css"),
        include_str!("../tables.css"),
        include_str!("../charts.css"),
        include_str!("../pictures.css"),
        include_str!("look.css")
    ),
    script: concat!(include_str!("../page.js"), include_str!("look.js")),
    // The files beside the page, opened from a disk or a server.
    picture_sources: "data: 'self' file:",
};
/// Captions with this many or more words share a bar.
const MAX_LENGTH: usize = 40;
/// Notes of the preparation that are listed of each kind.
const MAX_NOTES: usize = 500;
/// Images that cannot be read and are listed, as look.js has it.
const MAX_UNREADABLE: usize = 1000;

#[derive(Serialize)]
struct Page {
    dataset: String,
    num_images: String,
    num_captions: String,
    vocabulary: String,
    median_length: String,
    /// Images that are in another split too, or look like one there.
    leaks: String,
    num_odd: String,
    splits: Vec<SplitRow>,
    lengths: Option<Drawing>,
    tables: Vec<BarTable>,
    extras: Option<String>,
    odd: Vec<Folded>,
    repeated: Option<Folded>,
    pairs: Vec<Folded>,
    not_compared: Option<String>,
    unreadable: Option<Folded>,
    is_prepared: bool,
    rejects: Notes,
    repairs: Notes,
}

#[derive(Serialize)]
struct SplitRow {
    name: String,
    images: String,
    share: String,
    captions: String,
    captions_each: String,
}

/// A table whose rows have a bar each.
#[derive(Serialize)]
struct BarTable {
    title: &'static str,
    unit: &'static str,
    rows: Vec<BarRow>,
}

#[derive(Serialize)]
struct BarRow {
    name: String,
    count: String,
    share: String,
    /// The bar's width.
    bar: String,
}

/// A list that is built once it is unfolded.
#[derive(Serialize)]
struct Folded {
    title: String,
    meaning: String,
    /// All of them, and how many are listed where these are fewer.
    count: String,
    is_open: bool,
}

/// What a preparation noted.
#[derive(Default, Serialize)]
struct Notes {
    rows: Vec<(String, String)>,
    num_hidden: Option<String>,
}

/// What the script of the page shows.
#[derive(Serialize)]
struct ScriptData<'a> {
    charts: Vec<&'a ChartData>,
    folder: String,
    splits: Vec<String>,
    images: Vec<ImageData<'a>>,
    /// Of each list of odd captions: image, caption, reason.
    odd: Vec<Vec<(usize, usize, String)>>,
    /// Number of images, and (image, caption) of some.
    repeated: Vec<(usize, &'a [(usize, usize)])>,
    /// Of each list: two images, and how they differ.
    pairs: Vec<Vec<(usize, usize, String)>>,
}

#[derive(Serialize)]
struct ImageData<'a> {
    name: String,
    /// The name of the file where `name` does not show it as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    split: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    captions: Vec<String>,
    /// Of each caption; absent where none has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompts: Option<Vec<Option<String>>>,
    /// Of each caption; absent where all are 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<Option<f64>>>,
}

/// The page, as HTML. Arbitrary texts are not errors; indices must be those of images and captions.
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub fn render_look(data: &LookData) -> anyhow::Result<String> {
    let page = page(data);
    fill(&FRAME, LOOK_GENERATOR, &page, &script_data(data, page.lengths.as_ref()))
}

/// A text in one line, uncut.
fn whole(text: &str) -> String {
    text::line(text, usize::MAX)
}

fn page(data: &LookData) -> Page {
    let num_captions: usize = data.splits.iter().map(|split| split.captions).sum();
    let num_leaks: usize = data.pairs.iter().filter(|pairs| pairs.is_leak).map(|pairs| pairs.count).sum();
    let num_unreadable = data.images.iter().filter(|image| image.size.is_err()).count();
    Page {
        dataset: if data.dataset.trim().is_empty() {
            "Data set".to_owned()
        } else {
            text::line(&data.dataset, MAX_CAPTION)
        },
        num_images: grouped(data.images.len() as u64),
        num_captions: grouped(num_captions as u64),
        vocabulary: grouped(data.vocabulary as u64),
        median_length: counted(data.median_length as u64, "word"),
        leaks: counted(num_leaks as u64, "pair"),
        num_odd: grouped(data.num_odd as u64),
        splits: data.splits.iter().map(|split| split_row(split, data.images.len())).collect(),
        lengths: length_chart(&data.num_of_length),
        tables: tables(data, num_captions),
        extras: extras(data, num_captions),
        odd: data.odd.iter().map(|odd| folded(&odd.title, &odd.meaning, odd.count, odd.first.len(), false)).collect(),
        repeated: (data.num_repeated > 0).then(|| Folded {
            title: "Captions of several images".to_owned(),
            meaning: "Their words, in their order, are those of a caption of another image; the texts of most images \
                      come first."
                .to_owned(),
            count: counted(data.num_repeated as u64, "caption"),
            is_open: false,
        }),
        pairs: data
            .pairs
            .iter()
            .map(|pairs| folded(&pairs.title, &pairs.meaning, pairs.count, pairs.first.len(), pairs.is_leak))
            .collect(),
        not_compared: (data.num_not_compared > 0).then(|| counted(data.num_not_compared as u64, "picture")),
        unreadable: (num_unreadable > 0).then(|| {
            let meaning = "They are listed in the data set, and their files are missing or damaged.";
            folded("Images that cannot be read", meaning, num_unreadable, num_unreadable.min(MAX_UNREADABLE), true)
        }),
        is_prepared: data.is_prepared,
        rejects: notes(&data.rejects),
        repairs: notes(&data.repairs),
    }
}

fn split_row(split: &SplitCounts, num_images: usize) -> SplitRow {
    let each = if split.images == 0 { 0.0 } else { split.captions as f64 / split.images as f64 };
    SplitRow {
        name: text::line(&split.name, MAX_WORD),
        images: grouped(split.images as u64),
        share: percentage(split.images as f64 / num_images.max(1) as f64),
        captions: grouped(split.captions as u64),
        captions_each: format!("{each:.1}"),
    }
}

fn folded(title: &str, meaning: &str, count: usize, num_listed: usize, opens: bool) -> Folded {
    let all = grouped(count as u64);
    Folded {
        title: text::line(title, MAX_CAPTION),
        meaning: text::line(meaning, MAX_CAPTION),
        count: if num_listed < count { format!("{all}, {} listed", grouped(num_listed as u64)) } else { all },
        is_open: opens && count > 0,
    }
}

fn notes(notes: &[(String, String)]) -> Notes {
    let line = |text: &str| text::line(text, MAX_CAPTION);
    let num_hidden = notes.len().saturating_sub(MAX_NOTES);
    Notes {
        rows: notes.iter().take(MAX_NOTES).map(|(what, text)| (line(what), line(text))).collect(),
        num_hidden: (num_hidden > 0).then(|| grouped(num_hidden as u64)),
    }
}

fn extras(data: &LookData, num_captions: usize) -> Option<String> {
    let of = |count: usize, what: &str| {
        (count > 0)
            .then(|| format!("{} of {} captions have {what}", grouped(count as u64), grouped(num_captions as u64)))
    };
    let parts = [of(data.num_prompts, "a prompt of their own"), of(data.num_weights, "a weight other than 1")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn length_chart(num_of_length: &[(usize, usize)]) -> Option<Drawing> {
    let total: usize = num_of_length.iter().map(|(_, count)| count).sum();
    let longest = num_of_length.iter().map(|(length, _)| *length).max()?.min(MAX_LENGTH);
    let mut bins = vec![0; longest + 1];
    for &(length, count) in num_of_length {
        bins[length.min(longest)] += count;
    }
    let share = |(length, count): (usize, usize)| Point::new(length as f64, 100.0 * count as f64 / total.max(1) as f64);
    let points = bins.into_iter().enumerate().map(share).collect();
    chart_of_lengths(vec![Series { name: "captions".to_owned(), style: Style::Bars, run: None, points }], MAX_LENGTH)
}

fn tables(data: &LookData, num_captions: usize) -> Vec<BarTable> {
    let num_images = data.images.len();
    let readable: Vec<(u32, u32)> = data.images.iter().filter_map(|image| image.size.as_ref().ok()).copied().collect();
    let words = data.words.iter().map(|word| (word.text.clone(), word.num_images));
    let scripts = data.scripts.iter().map(|(name, count)| (name.clone(), *count));
    let of_sizes = |classes: Vec<(&'static str, usize)>| {
        bar_rows(classes.into_iter().map(|(name, count)| (name.to_owned(), count)), num_images)
    };
    let tables = [
        ("Most frequent words", "images with the word", bar_rows(words, num_images)),
        ("Short side", "images, in pixels", of_sizes(sizes::by_short_side(&readable))),
        ("Shape", "images, width to height", of_sizes(sizes::by_shape(&readable))),
        ("Script", "captions by most of their letters", bar_rows(scripts, num_captions)),
    ];
    let tables = tables.into_iter().map(|(title, unit, rows)| BarTable { title, unit, rows });
    tables.filter(|table| !table.rows.is_empty()).collect()
}

fn bar_rows(counts: impl Iterator<Item = (String, usize)>, total: usize) -> Vec<BarRow> {
    let counts: Vec<(String, usize)> = counts.collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let row = |(name, count): &(String, usize)| BarRow {
        name: text::line(name, MAX_WORD),
        count: grouped(*count as u64),
        share: percentage(*count as f64 / total.max(1) as f64),
        bar: format!("{:.1}%", 100.0 * *count as f64 / most),
    };
    counts.iter().map(row).collect()
}

fn script_data<'a>(data: &'a LookData, lengths: Option<&'a Drawing>) -> ScriptData<'a> {
    ScriptData {
        charts: lengths.map(|drawing| &drawing.data).into_iter().collect(),
        folder: folder_address(&data.image_folder),
        splits: data.splits.iter().map(|split| text::line(&split.name, MAX_WORD)).collect(),
        images: data.images.iter().map(image_data).collect(),
        odd: data
            .odd
            .iter()
            .map(|odd| odd.first.iter().map(|odd| (odd.image, odd.caption, whole(&odd.reason))).collect())
            .collect(),
        repeated: data.repeated.iter().map(|caption| (caption.num_images, caption.first.as_slice())).collect(),
        pairs: data
            .pairs
            .iter()
            .map(|pairs| pairs.first.iter().map(|pair| (pair.one, pair.other, whole(&pair.note))).collect())
            .collect(),
    }
}

fn image_data(image: &LookImage) -> ImageData<'_> {
    let name = whole(&image.name);
    let captions = &image.captions;
    let prompt = |caption: &LookCaption| caption.prompt.as_deref().map(whole);
    let prompts = captions.iter().any(|caption| caption.prompt.is_some());
    let weights = captions.iter().any(|caption| caption.weight.is_some());
    ImageData {
        file: (name != image.name).then_some(image.name.as_str()),
        name,
        split: image.split,
        size: image.size.as_ref().ok().copied(),
        problem: image.size.as_ref().err().map(|problem| whole(problem)),
        captions: captions.iter().map(|caption| whole(&caption.text)).collect(),
        prompts: prompts.then(|| captions.iter().map(prompt).collect()),
        weights: weights.then(|| captions.iter().map(|caption| caption.weight).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HOSTILE, assert_no_markup};

    /// A page in which every text is `text`.
    fn all_of(text: &str) -> LookData {
        let owned = || text.to_owned();
        let image = |size| LookImage {
            name: owned(),
            split: 0,
            size,
            captions: vec![LookCaption { text: owned(), prompt: Some(owned()), weight: Some(0.5) }],
        };
        LookData {
            dataset: owned(),
            image_folder: text.replace('/', "").into(),
            splits: vec![SplitCounts { name: owned(), images: 2, captions: 2 }],
            images: vec![image(Ok((30, 20))), image(Err(owned()))],
            num_of_length: vec![(3, 2)],
            median_length: 3,
            vocabulary: 1,
            words: vec![WordCount { text: owned(), count: 2, num_images: 2 }],
            scripts: vec![(owned(), 2)],
            num_prompts: 2,
            num_weights: 2,
            odd: vec![OddCaptions {
                title: owned(),
                meaning: owned(),
                count: 1,
                first: vec![OddListed { image: 0, caption: 0, reason: owned() }],
            }],
            num_repeated: 2,
            num_odd: 3,
            repeated: vec![RepeatedCaption { num_images: 2, first: vec![(0, 0), (1, 0)] }],
            pairs: vec![LookPairs {
                title: owned(),
                meaning: owned(),
                is_leak: true,
                count: 1,
                first: vec![LookPair { one: 0, other: 1, note: owned() }],
            }],
            num_not_compared: 1,
            rejects: vec![(owned(), owned())],
            repairs: vec![(owned(), owned())],
            is_prepared: true,
        }
    }

    fn script_data_of(page: &str) -> serde_json::Value {
        let json = page.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nothing_that_a_data_set_says_becomes_markup() {
        let (hostile, plain) = (render_look(&all_of(HOSTILE)).unwrap(), render_look(&all_of("plain")).unwrap());
        assert_no_markup(&hostile, &plain);
    }

    #[test]
    fn images_that_cannot_be_read_are_listed_up_to_the_number_that_the_page_says() {
        assert!(include_str!("look.js").contains(&format!("const MAX_UNREADABLE = {MAX_UNREADABLE};")));
        let mut data = all_of("plain");
        let mut image = data.images.remove(0);
        image.size = Err("missing".to_owned());
        data.images = vec![image; MAX_UNREADABLE + 1];
        assert_eq!(page(&data).unreadable.unwrap().count, "1,001, 1,000 listed");
    }

    #[test]
    fn the_script_sets_texts_as_texts() {
        let script = include_str!("look.js");
        for sign in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http:", "https:"] {
            assert!(!script.contains(sign), "{sign}");
        }
    }

    #[test]
    fn images_and_captions_read_back_and_a_name_that_is_not_shown_as_it_is_comes_whole() {
        let data = script_data_of(&render_look(&all_of(HOSTILE)).unwrap());
        let image = &data["images"][0];
        assert_eq!(image["file"], HOSTILE);
        assert_eq!(image["captions"][0], "</script><img src=x onerror=alert(1)>\"'&⟨U+2028⟩⟨U+202E⟩");
        assert_eq!((image["size"][0].as_u64(), image["weights"][0].as_f64()), (Some(30), Some(0.5)));
        assert_eq!(data["images"][1]["size"], serde_json::Value::Null);
        assert_eq!(data["pairs"][0][0][1], 1);
        let data = script_data_of(&render_look(&all_of("plain")).unwrap());
        assert_eq!(data["images"][0]["file"], serde_json::Value::Null);
        assert_eq!((&data["folder"], &data["images"][0]["name"]), (&"./plain/".into(), &"plain".into()));
    }

    #[test]
    fn counts_are_those_of_the_data() {
        let image = |split, size| LookImage { name: "a.jpg".to_owned(), split, size, captions: Vec::new() };
        let split = |name: &str, images, captions| SplitCounts { name: name.to_owned(), images, captions };
        let data = LookData {
            dataset: "dogs".to_owned(),
            images: vec![image(0, Ok((100, 50))), image(0, Ok((500, 500))), image(1, Err("gone".to_owned()))],
            splits: vec![split("train", 2, 1_200), split("val", 1, 34)],
            num_of_length: vec![(2, 600), (9, 600), (99, 34)],
            pairs: vec![
                LookPairs { title: "leaks".to_owned(), is_leak: true, count: 3, ..LookPairs::default() },
                LookPairs { title: "twice".to_owned(), count: 9, ..LookPairs::default() },
            ],
            ..LookData::default()
        };
        let page = page(&data);
        assert_eq!(
            (page.num_images.as_str(), page.num_captions.as_str(), page.leaks.as_str()),
            ("3", "1,234", "3 pairs")
        );
        assert_eq!((page.splits[0].share.as_str(), page.splits[0].captions_each.as_str()), ("66.7 %", "600.0"));
        assert_eq!(page.pairs[0].count, "3, 0 listed");
        assert!(page.pairs[0].is_open && !page.pairs[1].is_open && page.unreadable.is_some());
        let side = page.tables.iter().find(|table| table.title == "Short side").unwrap();
        let rows: Vec<_> =
            side.rows.iter().map(|row| (row.name.as_str(), row.count.as_str(), row.share.as_str())).collect();
        assert_eq!(rows, [("below 64", "1", "33.3 %"), ("256 to 511", "1", "33.3 %")]);
        let html = render_look(&data).unwrap();
        assert!(html.contains("<title>dogs – data set</title>") && html.contains("1,234"));
    }

    #[test]
    fn a_page_of_nothing_says_what_is_missing() {
        let page = render_look(&LookData::default()).unwrap();
        assert!(page.contains("No odd captions") && page.contains("not known how this data set was prepared"));
        assert!(page.contains(LOOK_GENERATOR));
    }

    #[test]
    fn the_page_asks_for_nothing_but_its_images() {
        let page = render_look(&all_of("plain")).unwrap();
        for sign in ["http://", "https://", "@import", "url(", " style=", " onclick="] {
            assert!(!page.contains(sign), "{sign}");
        }
        assert!(page.contains("default-src &#x27;none&#x27;; img-src data: &#x27;self&#x27; file:;"));
    }
}
