//! A prepared data set: a folder with `images/` and `dataset.json`, or with the index of images that lie elsewhere.
//!
//! What is read is checked whole at the start, so that a run does not stop at image 20,000. Pixels are not read here.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::caption_extras::{CaptionExtras, Weight, unless_usual};
use crate::dataset_file::{ImageEntry, SentenceEntry};
use crate::dataset_reader::{self, FileFacts};
use crate::image_id::ImageId;
pub use crate::images::{Image, ImageRecord, Images};
use crate::picture_file::PictureFile;
use crate::shards::files::{SHARDS_FILE, ShardsFile};
use crate::shards::index::Index;
use crate::shards::place::Place;
use crate::shards::read::ShardReader;
pub use crate::split::Split;
use base::bounded_file::{self, MAX_DATASET_BYTES};
use base::column::Column;
use base::error::{WithHint as _, failure};
use base::terminal;

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
/// Longest file name in bytes, folders in `images/` included: no system opens a longer path.
const MAX_NAME_BYTES: usize = 1 << 15;

#[derive(Clone, Debug)]
pub struct Dataset {
    pub directory: PathBuf,
    /// The name in the file; that of the folder where it has none.
    pub name: String,
    pub images: Images,
    /// SHA-256 of `dataset.json`, or of what an index says of its images; 64 hexadecimal characters.
    pub digest: String,
    /// Where the images of an index are.
    pub in_shards: Option<InShards>,
}

/// The images of shards.
#[derive(Clone, Debug)]
pub struct InShards {
    reader: Arc<ShardReader>,
    places: Column<Place>,
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

    /// The index in `directory`, and the shards that it is of.
    ///
    /// # Errors
    /// An index that cannot be used; a shard that is gone, or was changed since.
    fn open_index(directory: &Path, file: ShardsFile) -> anyhow::Result<Self> {
        let Index { digest, images, places } = Index::open(directory)?;
        if digest != file.index_sha256 {
            let message = format!("{SHARDS_FILE} in {} belongs to another index", directory.display());
            return Err(failure(message, "prepare the data again: shards that were read are not read again"));
        }
        let shards = file.shards.into_iter().map(|indexed| indexed.shard).collect();
        let in_shards = Some(InShards { reader: Arc::new(ShardReader::open(shards)?), places });
        let name = directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { directory: directory.to_owned(), name, images, digest, in_shards })
    }

    /// [`Dataset::open`] where a preparation may be under way.
    pub(crate) fn open_unfinished(directory: &Path) -> anyhow::Result<Self> {
        if let Some(file) = ShardsFile::read(directory)? {
            return Self::open_index(directory, file);
        }
        let path = directory.join(DATASET_FILE);
        let input = open_dataset_file(directory, &path)?;
        let mut checked = CheckedImages::default();
        let read = dataset_reader::read(input.take(MAX_DATASET_BYTES), |entry| checked.push(entry));
        let FileFacts { name, digest } = match read {
            Err(error) if error.is_io() => return Err(cannot_read(&path, error.into())),
            read => read.with_context(|| format!("{} is not a data set in Karpathy's schema", path.display())).hint(
                || {
                    "expected {\"images\": [{\"filename\", \"split\", \"sentences\": [{\"raw\"}]}]}; prepare the \
                     data again into an empty folder if the file was cut"
                },
            )?,
        };
        let images = checked.finish().with_context(|| format!("cannot use {}", path.display()))?;
        let folder_name = || directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            directory: directory.to_owned(),
            name: if name.is_empty() { folder_name() } else { name },
            images,
            digest,
            in_shards: None,
        })
    }

    /// Images of these names in `directory`, to be trained on, with the caption "x" each.
    pub fn of_names<'a>(directory: &Path, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut images = Images::default();
        for (index, name) in names.into_iter().enumerate() {
            images.push(&ImageRecord {
                filename: name.to_owned(),
                split: Split::Train,
                captions: vec!["x".to_owned()],
                extras: Vec::new(),
                image_id: ImageId::Natural(index as u64),
            });
        }
        let (name, digest) = (String::new(), String::new());
        Self { directory: directory.to_owned(), name, images, digest, in_shards: None }
    }

    /// All captions of these images, one after the other.
    pub fn captions_of(&self, images: &[usize]) -> Vec<&str> {
        images.iter().flat_map(|&image| self.images.get(image).captions()).collect()
    }

    /// Where the picture of an image lies.
    pub fn picture(&self, image: usize) -> PictureFile {
        let name = self.images.get(image).filename();
        match &self.in_shards {
            None => PictureFile::File(self.directory.join(IMAGE_FOLDER).join(name)),
            Some(InShards { reader, places }) => {
                PictureFile::Shard { reader: Arc::clone(reader), place: places[image], name: name.to_owned() }
            }
        }
    }
}

/// A caption as it is used: without white space around it, and with a space in place of each control character, which
/// would run wild on a terminal. Also whether there was one that is more than white space.
pub(crate) fn clean_caption(raw: &str) -> (String, bool) {
    let space = |character: char| if character.is_control() { ' ' } else { character };
    (raw.chars().map(space).collect::<String>().trim().to_owned(), is_wild(raw))
}

/// Whether a caption contains a control character that is more than white space.
fn is_wild(raw: &str) -> bool {
    raw.contains(|character: char| character.is_control() && !character.is_whitespace())
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

fn open_dataset_file(directory: &Path, path: &Path) -> anyhow::Result<File> {
    let prepare = "create it with `caption-train prepare-data` (`--dataset NAME --output DIR`), or correct \
                   `data.directory`";
    if !directory.is_dir() {
        return Err(failure(format!("the data set folder {} does not exist", directory.display()), prepare));
    }
    match bounded_file::open_at_most(path, MAX_DATASET_BYTES) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(failure(
            format!("{} has no {DATASET_FILE}: it is not a prepared data set", directory.display()),
            prepare,
        )),
        Err(error) => Err(cannot_read(path, error)),
    }
}

fn cannot_read(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot read {}", path.display()))
}

/// Images that are checked one by one, up to the first that cannot be used.
#[derive(Default)]
struct CheckedImages {
    images: Images,
    /// Of all images.
    num_wild: usize,
    problem: Option<anyhow::Error>,
    /// The name of the image that has the problem.
    odd: String,
}

impl CheckedImages {
    fn push(&mut self, entry: ImageEntry<'_>) {
        self.num_wild += entry.sentences.iter().filter(|sentence| is_wild(&sentence.raw)).count();
        if self.problem.is_some() {
            return;
        }
        let name = entry.filename.clone();
        match check_image(self.images.len(), entry) {
            Ok(record) => self.images.push(&record),
            Err(error) => (self.problem, self.odd) = (Some(error), name.into_owned()),
        }
    }

    fn finish(mut self) -> anyhow::Result<Images> {
        if self.num_wild > 0 {
            let count = self.num_wild;
            terminal::warning(&format!("{count} captions contain control characters, which are read as spaces"));
        }
        if let Some(filename) = self.first_repeated() {
            let message = format!("image {filename} is listed twice");
            return Err(failure(message, "list each image once, with all its captions"));
        }
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        if self.images.is_empty() {
            return Err(failure("it lists no images", "prepare the data again"));
        }
        self.images.tell_apart();
        Ok(self.images)
    }

    fn first_repeated(&self) -> Option<&str> {
        let repeated = self.images.first_repeated().map(Image::filename);
        let is_odd = || self.problem.is_some() && self.images.iter().any(|image| image.filename() == self.odd);
        repeated.or_else(|| is_odd().then_some(self.odd.as_str()))
    }
}

fn check_image(index: usize, entry: ImageEntry<'_>) -> anyhow::Result<ImageRecord> {
    let ImageEntry { filename, split, imgid, cocoid, sentences } = entry;
    if !is_safe_relative(&filename) {
        let message = format!("the file name {filename:?} of image {index} leaves the folder {IMAGE_FOLDER}/");
        return Err(failure(message, "use names relative to that folder, without `..`, `\\` or a leading `/`"));
    }
    if filename.len() > MAX_NAME_BYTES {
        let message =
            format!("the file name of image {index} has {} bytes, more than {MAX_NAME_BYTES}", filename.len());
        return Err(failure(message, "shorten it: no system has such a file"));
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
    Ok(ImageRecord { filename: filename.into_owned(), split, captions, extras: unless_usual(extras), image_id })
}

fn check_extras(sentence: SentenceEntry<'_>, place: impl Fn() -> String) -> anyhow::Result<CaptionExtras> {
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
        let (a, b) = (dataset.images.get(0), dataset.images.get(1));
        assert_eq!((a.filename(), a.split(), a.id()), ("a.jpg", Split::Train, ImageId::Natural(9)));
        assert_eq!(a.owned_captions(), ["A dog.", "Two"]);
        assert_eq!((b.split(), b.id()), (Split::Test, ImageId::Natural(1)));
        assert!(dataset.picture(1).to_string().ends_with("images/b.jpg"));
    }

    #[test]
    fn ids_may_be_anything_and_images_of_one_id_are_called_by_their_names() {
        let ids = |ids: [&str; 3]| {
            let image = |(name, id): (&str, &str)| {
                format!(r#"{{"filename":"{name}","split":"val","cocoid":{id},"sentences":[{{"raw":"x"}}]}}"#)
            };
            let images: Vec<String> = ["a.jpg", "b.jpg", "c.jpg"].into_iter().zip(ids).map(image).collect();
            let dataset = open(&format!(r#"{{"images":[{}]}}"#, images.join(","))).unwrap();
            dataset.images.iter().map(|image| serde_json::to_string(&image.id()).unwrap()).collect::<Vec<_>>()
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
            (image(&"a".repeat(40_000), "val", "x"), "the file name of image 0 has 40000 bytes"),
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
        let odd = r#"{"filename":"a.jpg","split":"dev","sentences":[{"raw":"x"}]}"#;
        let text = describe(&open(&format!(r#"{{"images":[{twice},{odd},{twice}]}}"#)).unwrap_err());
        assert!(text.contains("a.jpg is listed twice"), "the first problem: {text}");
        let text = describe(&open(&format!(r#"{{"images":[{odd},{twice}"#)).unwrap_err());
        assert!(text.contains("EOF while parsing a list"), "a cut file is the first problem: {text}");
    }

    #[test]
    fn prompts_and_weights_are_read_and_odd_ones_are_named() {
        let open = |extras: &str| {
            open(&format!(
                r#"{{"images":[{{"filename":"a.jpg","split":"val","sentences":[{{"raw":"x"}},{{"raw":"y",{extras}}}]}}]}}"#
            ))
        };
        let images = |extras: &str| open(extras).unwrap().images;
        let both = images(r#""prompt":" a picture\u0007of ","weight":2.5"#);
        let both = both.get(0);
        assert_eq!((both.prompt(0), both.prompt(1)), (None, Some("a picture of")));
        assert_eq!((both.weight(0).value(), both.weight(1).value()), (1.0, 2.5));
        for usual in [r#""prompt":" ","weight":1"#, r#""prompt":null,"weight":null"#] {
            let images = images(usual);
            assert_eq!((images.get(0).prompt(1), images.get(0).weight(1)), (None, Weight::default()));
        }
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
        let captions = |raw: &str| open(&image("a.jpg", "val", raw)).unwrap().images.get(0).owned_captions().remove(0);
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
