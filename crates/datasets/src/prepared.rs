//! A prepared data set: a folder with `images/` and `dataset.json`.
//!
//! What is read is checked whole at the start, so that a run does not stop at image 20,000. Pixels are not read here.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::caption_extras::{CaptionExtras, Weight, unless_usual};
use crate::dataset_file::{DatasetFile, ImageEntry, SentenceEntry};
use crate::image_id::ImageId;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::{WithHint as _, failure};
use base::{digest, terminal};

/// The folder of the images inside a prepared data set.
pub const IMAGE_FOLDER: &str = "images";
/// The file with splits and captions.
pub const DATASET_FILE: &str = "dataset.json";
/// The file that says how a data set was prepared; it is written last.
pub const PREPARATION_FILE: &str = "preparation.json";
/// Lies in the folder while it is being prepared, and lists what was written.
pub const MARKER_FILE: &str = ".preparing";
/// All files of the source as they were when the data set was prepared.
pub(crate) const RECORD_FILE: &str = "source.json";
/// The SHA-256 of each image, of `dataset.json` and of `samples.jpg`, as `sha256sum -c` reads them.
pub(crate) const SUMS_FILE: &str = "SHA256SUMS";
/// Some of the images with their captions, to look at.
pub const SAMPLES_FILE: &str = "samples.jpg";
/// Longest caption in characters: more than any description of a picture, and what a tokenizer still
/// takes in a moment.
pub(crate) const MAX_CAPTION_CHARS: usize = 10_000;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training. Karpathy's `restval` is training data too.
    #[serde(alias = "restval")]
    Train,
    Val,
    Test,
}

impl Split {
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The split that a file calls `name`; `restval` is [`Split::Train`].
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "train" | "restval" => Some(Self::Train),
            "val" => Some(Self::Val),
            "test" => Some(Self::Test),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub filename: String,
    pub split: Split,
    /// Captions, trimmed; at least one, none empty.
    pub captions: Vec<String>,
    /// What each caption has beside its text; none where no caption of the image has anything.
    pub extras: Vec<CaptionExtras>,
    /// `cocoid`, what the annotations called the image; else `imgid`; the position in the file where it has neither.
    /// Where two images would have the same, their file names.
    pub image_id: ImageId,
}

impl ImageRecord {
    /// The prompt of its own that the caption with this number has.
    pub fn prompt(&self, caption: usize) -> Option<&str> {
        self.extras.get(caption)?.prompt.as_deref()
    }

    /// The weight of the caption with this number.
    pub fn weight(&self, caption: usize) -> Weight {
        self.extras.get(caption).map_or_else(Weight::default, |extras| extras.weight)
    }
}

#[derive(Clone, Debug)]
pub struct Dataset {
    pub directory: PathBuf,
    /// The name in the file; that of the folder where it has none.
    pub name: String,
    pub images: Vec<ImageRecord>,
    /// SHA-256 of `dataset.json`, 64 hexadecimal characters.
    pub digest: String,
}

impl Dataset {
    /// Reads and checks `dataset.json` of `directory`. The images themselves are not looked at.
    ///
    /// # Errors
    /// A preparation that is not finished, a missing folder or file, broken JSON, a file name that leaves `images/` or
    /// appears twice, an image without captions, a caption that is empty or longer than [`MAX_CAPTION_CHARS`], an
    /// unknown split, no image at all. Control characters in captions are read as spaces, with a warning.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        // Old captions may lie beside new images.
        if directory.join(MARKER_FILE).exists() && !directory.join(PREPARATION_FILE).exists() {
            let message = format!("the preparation of {} was interrupted", directory.display());
            return Err(failure(
                message,
                "run the same `caption-train prepare-data` again: it continues where it stopped",
            ));
        }
        Self::open_unfinished(directory)
    }

    /// [`Dataset::open`] where a preparation may be under way.
    pub(crate) fn open_unfinished(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(DATASET_FILE);
        let bytes = read_dataset_file(directory, &path)?;
        let file: DatasetFile = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a data set in Karpathy's schema", path.display()))
            .hint(|| {
                "expected {\"images\": [{\"filename\", \"split\", \"sentences\": [{\"raw\"}]}]}; prepare the data \
                 again into an empty folder if the file was cut"
            })?;
        let images = check_images(file.images).with_context(|| format!("cannot use {}", path.display()))?;
        let folder_name = || directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            directory: directory.to_owned(),
            name: if file.dataset.is_empty() { folder_name() } else { file.dataset },
            images,
            digest: digest::sha256(&bytes),
        })
    }

    pub fn captions_of(&self, images: &[usize]) -> Vec<String> {
        images.iter().flat_map(|&image| self.images[image].captions.iter().cloned()).collect()
    }

    pub fn image_path(&self, image: usize) -> PathBuf {
        self.directory.join(IMAGE_FOLDER).join(&self.images[image].filename)
    }
}

/// A caption as it is used: without white space around it, and with a space in place of each control character, which
/// would run wild on a terminal. Also whether there was one that is more than white space.
pub(crate) fn clean_caption(raw: &str) -> (String, bool) {
    let is_wild = |character: char| character.is_control() && !character.is_whitespace();
    let space = |character: char| if character.is_control() { ' ' } else { character };
    (raw.chars().map(space).collect::<String>().trim().to_owned(), raw.contains(is_wild))
}

/// Whether `name` stays below the folder it is joined to, on every system: no root, no drive, no `..`, no backslash.
pub(crate) fn is_safe_relative(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    !name.is_empty()
        && !drive
        && !name.chars().any(|character| character == '\\' || character.is_control())
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn read_dataset_file(directory: &Path, path: &Path) -> anyhow::Result<Vec<u8>> {
    let prepare = "create it with `caption-train prepare-data` (`--dataset NAME --output DIR`), or correct \
                   `data.directory`";
    if !directory.is_dir() {
        return Err(failure(format!("the data set folder {} does not exist", directory.display()), prepare));
    }
    match bounded_file::read(path, MAX_CAPTIONS_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(failure(
            format!("{} has no {DATASET_FILE}: it is not a prepared data set", directory.display()),
            prepare,
        )),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display()))),
    }
}

fn check_images(entries: Vec<ImageEntry>) -> anyhow::Result<Vec<ImageRecord>> {
    if entries.is_empty() {
        return Err(failure("it lists no images", "prepare the data again"));
    }
    let wild = entries.iter().flat_map(|entry| &entry.sentences).filter(|sentence| clean_caption(&sentence.raw).1);
    let num_wild = wild.count();
    if num_wild > 0 {
        terminal::warning(&format!("{num_wild} captions contain control characters, which are read as spaces"));
    }
    let mut seen = HashSet::with_capacity(entries.len());
    let mut images = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        if !seen.insert(entry.filename.clone()) {
            let message = format!("image {} is listed twice", entry.filename);
            return Err(failure(message, "list each image once, with all its captions"));
        }
        images.push(check_image(index, entry)?);
    }
    tell_apart(&mut images);
    Ok(images)
}

/// Calls images by their file names where others have the same id: captions are matched to images by it.
fn tell_apart(images: &mut [ImageRecord]) {
    let mut times: HashMap<String, usize> = HashMap::with_capacity(images.len());
    images.iter().for_each(|image| *times.entry(image.image_id.to_string()).or_default() += 1);
    for image in images.iter_mut().filter(|image| times[&image.image_id.to_string()] > 1) {
        image.image_id = ImageId::Text(image.filename.clone());
    }
}

fn check_image(index: usize, entry: ImageEntry) -> anyhow::Result<ImageRecord> {
    let ImageEntry { filename, split, imgid, cocoid, sentences, .. } = entry;
    if !is_safe_relative(&filename) {
        let message = format!("the file name {filename:?} of image {index} leaves the folder {IMAGE_FOLDER}/");
        return Err(failure(message, "use names relative to that folder, without `..`, `\\` or a leading `/`"));
    }
    let Some(split) = Split::parse(&split) else {
        let message = format!("image {filename}: expected split train, restval, val or test, found {split:?}");
        return Err(failure(message, "correct `split` of that image"));
    };
    if sentences.is_empty() {
        return Err(failure(format!("image {filename} has no captions"), "give it a caption or remove it"));
    }
    let captions: Vec<String> = sentences.iter().map(|sentence| clean_caption(&sentence.raw).0).collect();
    if let Some(empty) = captions.iter().position(String::is_empty) {
        let message = format!("caption {empty} of image {filename} is empty");
        return Err(failure(message, "remove that caption, or prepare the data again"));
    }
    if let Some(long) = captions.iter().position(|caption| caption.chars().count() > MAX_CAPTION_CHARS) {
        let message = format!(
            "caption {long} of image {filename} has {} characters, more than {MAX_CAPTION_CHARS}",
            captions[long].chars().count()
        );
        return Err(failure(message, "shorten or remove that caption, or prepare the data again"));
    }
    let mut extras = Vec::with_capacity(sentences.len());
    for (caption, sentence) in sentences.into_iter().enumerate() {
        extras.push(check_extras(sentence, || format!("caption {caption} of image {filename}"))?);
    }
    let image_id = cocoid.or(imgid).unwrap_or(ImageId::Natural(index as u64));
    Ok(ImageRecord { filename, split, captions, extras: unless_usual(extras), image_id })
}

fn check_extras(sentence: SentenceEntry, place: impl Fn() -> String) -> anyhow::Result<CaptionExtras> {
    let prompt = sentence.prompt.map(|prompt| clean_caption(&prompt).0).filter(|prompt| !prompt.is_empty());
    if let Some(length) = prompt.as_ref().map(|prompt| prompt.chars().count()).filter(|&it| it > MAX_CAPTION_CHARS) {
        let message = format!("the prompt of {} has {length} characters, more than {MAX_CAPTION_CHARS}", place());
        return Err(failure(message, "shorten or remove that prompt, or prepare the data again"));
    }
    let weight = sentence.weight.map_or_else(|| Some(Weight::default()), Weight::new);
    let Some(weight) = weight else {
        let found = sentence.weight.unwrap_or_default();
        let message = format!("the weight of {} is {found}: expected {}", place(), Weight::EXPECTED);
        return Err(failure(message, "correct that weight, or prepare the data again"));
    };
    Ok(CaptionExtras { prompt, weight })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use base::error::describe;

    fn open(json: &str) -> anyhow::Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DATASET_FILE), json).unwrap();
        Dataset::open(folder.path())
    }

    fn image(filename: &str, split: &str, raw: &str) -> String {
        format!(r#"{{"images":[{{"filename":"{filename}","split":"{split}","sentences":[{{"raw":"{raw}"}}]}}]}}"#)
    }

    #[test]
    fn a_data_set_in_the_making_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DATASET_FILE), image("a.jpg", "val", "x")).unwrap();
        fs::write(folder.path().join(MARKER_FILE), b"").unwrap();
        let text = describe(&Dataset::open(folder.path()).unwrap_err());
        assert!(text.contains("was interrupted") && text.contains("hint: run the same"), "{text}");
        fs::write(folder.path().join(PREPARATION_FILE), b"{}").unwrap();
        Dataset::open(folder.path()).unwrap();
    }

    #[test]
    fn karpathy_file_is_read_with_keys_of_other_tools() {
        let dataset = open(
            r#"{"dataset":"coco","extra":1,"images":[
                {"filename":"a.jpg","filepath":"x","cocoid":9,"split":"restval","imgid":7,"sentids":[0,1],
                 "sentences":[{"raw":" A dog. ","tokens":["a","dog"],"sentid":0,"imgid":7},{"raw":"Two"}]},
                {"filename":"b.jpg","split":"test","sentences":[{"raw":"A cat"}]}]}"#,
        )
        .unwrap();
        assert_eq!(dataset.name, "coco");
        assert_eq!(dataset.digest.len(), 64);
        let expected = ImageRecord {
            filename: "a.jpg".into(),
            split: Split::Train,
            captions: vec!["A dog.".into(), "Two".into()],
            extras: Vec::new(),
            image_id: ImageId::Natural(9),
        };
        assert_eq!(dataset.images[0], expected);
        assert_eq!((dataset.images[1].split, &dataset.images[1].image_id), (Split::Test, &ImageId::Natural(1)));
        assert!(dataset.image_path(1).ends_with("images/b.jpg"));
    }

    #[test]
    fn ids_may_be_anything_and_images_of_one_id_are_called_by_their_names() {
        let ids = |ids: [&str; 3]| {
            let image = |(name, id): (&str, &str)| {
                format!(r#"{{"filename":"{name}","split":"val","cocoid":{id},"sentences":[{{"raw":"x"}}]}}"#)
            };
            let images: Vec<String> = ["a.jpg", "b.jpg", "c.jpg"].into_iter().zip(ids).map(image).collect();
            let dataset = open(&format!(r#"{{"images":[{}]}}"#, images.join(","))).unwrap();
            dataset.images.iter().map(|image| serde_json::to_string(&image.image_id).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ids(["\"img_0\"", "-1", "7.0"]), ["\"img_0\"", "-1", "7"]);
        assert_eq!(ids(["7", "8", "\"7\""]), ["\"a.jpg\"", "8", "\"c.jpg\""]);
    }

    #[test]
    fn missing_folder_and_missing_file_say_how_to_prepare() {
        let folder = tempfile::tempdir().unwrap();
        for directory in [folder.path().to_owned(), folder.path().join("absent")] {
            let text = describe(&Dataset::open(&directory).unwrap_err());
            assert!(text.contains("hint: create it with `caption-train prepare-data`"), "{text}");
        }
    }

    #[test]
    fn unusable_content_is_an_error_that_names_the_image() {
        for (json, expected) in [
            (r#"{"images":[{"filename":"a.jp"#.to_owned(), "Karpathy's schema"),
            (r#"{"images":[]}"#.to_owned(), "lists no images"),
            (image("a.jpg", "dev", "x"), r#"a.jpg: expected split train, restval, val or test, found "dev""#),
            (image("a.jpg", "val", "  "), "caption 0 of image a.jpg is empty"),
            (image("a.jpg", "val", r"\u0000\u001b \n"), "caption 0 of image a.jpg is empty"),
            (image("a.jpg", "val", &"dog ".repeat(250_000)), "caption 0 of image a.jpg has 999999 characters"),
            (r#"{"images":[{"filename":"a.jpg","split":"val","sentences":[]}]}"#.to_owned(), "a.jpg has no captions"),
        ] {
            let text = describe(&open(&json).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
        let twice = r#"{"filename":"a.jpg","split":"val","sentences":[{"raw":"x"}]}"#;
        let text = describe(&open(&format!(r#"{{"images":[{twice},{twice}]}}"#)).unwrap_err());
        assert!(text.contains("a.jpg is listed twice"), "{text}");
    }

    #[test]
    fn prompts_and_weights_are_read_and_odd_ones_are_named() {
        let open = |extras: &str| {
            open(&format!(
                r#"{{"images":[{{"filename":"a.jpg","split":"val","sentences":[{{"raw":"x"}},{{"raw":"y",{extras}}}]}}]}}"#
            ))
        };
        let image = |extras: &str| open(extras).unwrap().images.remove(0);
        let both = image(r#""prompt":" a picture\u0007of ","weight":2.5"#);
        assert_eq!((both.prompt(0), both.prompt(1)), (None, Some("a picture of")));
        assert_eq!((both.weight(0).value(), both.weight(1).value()), (1.0, 2.5));
        assert!(image(r#""prompt":" ","weight":1"#).extras.is_empty());
        assert!(image(r#""prompt":null,"weight":null"#).extras.is_empty());
        let long = format!(r#""prompt":"{}""#, "x".repeat(10_001));
        for (extras, expected) in [
            (r#""weight":-0.5"#, "the weight of caption 1 of image a.jpg is -0.5"),
            (r#""weight":1e39"#, "the weight of caption 1 of image a.jpg is 1"),
            (r#""weight":"2""#, "line 1 column"),
            (r#""prompt":3"#, "expected a string"),
            (&long, "the prompt of caption 1 of image a.jpg has 10001 characters"),
        ] {
            let text = describe(&open(extras).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn control_characters_become_spaces_and_every_script_stays_as_it_is() {
        let captions = |raw: &str| open(&image("a.jpg", "val", raw)).unwrap().images[0].captions[0].clone();
        assert_eq!(captions(r"a \u001b[31mred\u0007 dog\nruns\u0000"), "a  [31mred  dog runs");
        for text in
            ["كلب يجري على العشب", "כלב רץ", "犬が走る", "a 🐕\u{200d}🦺 runs 👩‍👩‍👧", "e\u{301}te\u{301}", "\u{202e}god"]
        {
            assert_eq!(captions(text), text);
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let json = [image("a.jpg", "val", "caf").as_bytes(), b"\xe9"].concat();
        fs::write(folder.path().join(DATASET_FILE), json).unwrap();
        let text = describe(&Dataset::open(folder.path()).unwrap_err());
        assert!(text.contains(DATASET_FILE) && text.contains("hint: "), "{text}");
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "", "a//b.jpg", "C:/a.jpg", r"..\\a.jpg", "."] {
            let text = describe(&open(&image(name, "train", "x")).unwrap_err());
            assert!(text.contains("leaves the folder"), "{name}: {text}");
        }
        open(&image("folder/a..b.jpg", "train", "x")).unwrap();
    }
}
