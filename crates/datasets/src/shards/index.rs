//! The index of a data set in place: a folder of columns, with [`INDEX_FILE`], which is written last and says what they
//! are.
//!
//! Opening it maps the columns, so that a data set of any size is there at once and takes memory only where it is used.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bytemuck::Pod;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::images::{Ids, Image, ImageRecord, Images, Texts};
use crate::shards::place::Place;
use base::atomic_file;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::column::{Column, ColumnFile, ColumnWriter, WrittenColumn, remove_unfinished};
use base::digest::Hasher;
use base::error::{WithHint as _, failure};
use base::lists::Lists;

/// The folder of the columns.
pub(crate) const COLUMN_FOLDER: &str = "index";
/// Says in it what they are.
const INDEX_FILE: &str = "index.json";
const FORMAT_VERSION: u32 = 1;
const REMOVE: &str =
    "remove index.json in that folder and prepare the data again: shards that were read are not read again";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexFile {
    format_version: u32,
    /// Of names, splits, captions and what is beside them, and the images' contents; not of where they lie.
    digest: String,
    columns: BTreeMap<String, ColumnFile>,
}

/// An index that was opened.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) digest: String,
    pub(crate) images: Images,
    /// Of each image.
    pub(crate) places: Column<Place>,
}

/// The names of the columns of a list of texts.
struct TextColumns {
    content: &'static str,
    ends: &'static str,
}

const FILENAMES: TextColumns = TextColumns { content: "filenames", ends: "filename_ends" };
const CAPTIONS: TextColumns = TextColumns { content: "captions", ends: "caption_ends" };
const PROMPTS: TextColumns = TextColumns { content: "prompts", ends: "prompt_ends" };
const ID_TEXTS: TextColumns = TextColumns { content: "id_texts", ends: "id_text_ends" };
const SPLITS: &str = "splits";
/// Where the captions of each image end.
const IMAGE_ENDS: &str = "image_ends";
const WEIGHTS: &str = "weights";
const ID_KINDS: &str = "id_kinds";
const ID_VALUES: &str = "id_values";
const PLACES: &str = "places";

impl Index {
    /// Opens the index of the data set in `directory`. All columns are read once, to check them.
    ///
    /// # Errors
    /// An index that is damaged, is not whole, or is of another version.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let folder = directory.join(COLUMN_FOLDER);
        let open = || {
            let file = read_index_file(&folder)?;
            let mut columns = Columns::open(&folder, &file.columns)?;
            let ids = Ids {
                kinds: columns.take(ID_KINDS)?,
                values: columns.take(ID_VALUES)?,
                texts: columns.texts(&ID_TEXTS)?,
            };
            let images = columns.images(ids)?;
            let places: Column<Place> = columns.take(PLACES)?;
            ensure!(places.len() == images.len(), "it has {} images and {} places", images.len(), places.len());
            ensure!(!images.is_empty(), "it has no images");
            Ok(Self { digest: file.digest, images, places })
        };
        open().with_context(|| format!("cannot use the index in {}", folder.display())).hint(|| REMOVE)
    }
}

/// The digest of the index in `directory`; `None` where there is none that can be used.
pub(crate) fn digest_in(directory: &Path) -> Option<String> {
    read_index_file(&directory.join(COLUMN_FOLDER)).ok().map(|file| file.digest)
}

fn read_index_file(folder: &Path) -> anyhow::Result<IndexFile> {
    let file: IndexFile =
        serde_json::from_slice(&bounded_file::read(&folder.join(INDEX_FILE), MAX_DESCRIPTION_BYTES)?)?;
    if file.format_version != FORMAT_VERSION {
        return Err(failure(
            format!("its format has version {}, this program reads version {FORMAT_VERSION}", file.format_version),
            "prepare the data again with this version of the program",
        ));
    }
    Ok(file)
}

/// Columns that were opened, by their names.
struct Columns(HashMap<String, Column<u8>>);

impl Columns {
    /// Opens and checks those in a folder.
    fn open(folder: &Path, files: &BTreeMap<String, ColumnFile>) -> anyhow::Result<Self> {
        let all: Vec<(&String, &ColumnFile)> = files.iter().collect();
        let open = |(name, file): (&String, &ColumnFile)| {
            ensure!(is_column_name(name), "it names a column {name:?}");
            let column = Column::open(&folder.join(file_name(name)), *file, true);
            Ok((name.clone(), column.with_context(|| format!("cannot read its column {name}"))?))
        };
        Ok(Self(all.into_par_iter().map(open).collect::<anyhow::Result<_>>()?))
    }

    /// An empty one where there is none.
    fn take<T: Pod>(&mut self, name: &str) -> anyhow::Result<Column<T>> {
        let Some(column) = self.0.remove(name) else { return Ok(Column::default()) };
        column.cast().with_context(|| format!("cannot read its column {name}"))
    }

    fn texts(&mut self, TextColumns { content, ends }: &TextColumns) -> anyhow::Result<Texts> {
        let lists = Lists::in_files(self.take(content)?, self.take(ends)?);
        Ok(Texts(lists.with_context(|| format!("cannot use its column {content}"))?))
    }

    fn images(&mut self, ids: Ids) -> anyhow::Result<Images> {
        let (filenames, captions, prompts) = (self.texts(&FILENAMES)?, self.texts(&CAPTIONS)?, self.texts(&PROMPTS)?);
        let (splits, ends, weights) = (self.take(SPLITS)?, self.take::<u32>(IMAGE_ENDS)?, self.take(WEIGHTS)?);
        let num_images = filenames.0.len();
        let fit = splits.len() == num_images
            && ends.len() == num_images
            && ends.is_sorted()
            && ends.last().map_or(0, |&last| last as usize) == captions.0.len();
        ensure!(fit, "its columns do not fit together");
        Ok(Images { filenames, splits, ids, ends, captions, prompts, weights })
    }
}

/// A name in an index becomes part of a path.
fn is_column_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn file_name(column: &str) -> String {
    format!("{column}.bin")
}

/// Writes an index, image by image, in memory that does not grow with the texts.
pub(crate) struct IndexWriter {
    folder: PathBuf,
    filenames: TextsWriter,
    captions: TextsWriter,
    prompts: TextsWriter,
    splits: ColumnWriter,
    image_ends: ColumnWriter,
    weights: ColumnWriter,
    num_weights: u64,
    places: ColumnWriter,
    ids: Ids,
    num_images: usize,
    hasher: Hasher,
}

struct TextsWriter {
    columns: TextColumns,
    content: ColumnWriter,
    ends: ColumnWriter,
    /// Of the last text in the content.
    end: u64,
    count: u64,
}

impl TextsWriter {
    fn create(folder: &Path, columns: TextColumns) -> anyhow::Result<Self> {
        let (content, ends) = (create(folder, columns.content)?, create(folder, columns.ends)?);
        Ok(Self { columns, content, ends, end: 0, count: 0 })
    }

    fn push(&mut self, text: &str) -> std::io::Result<()> {
        self.content.write(text.as_bytes())?;
        self.end += text.len() as u64;
        self.count += 1;
        self.ends.write(&[self.end])
    }

    fn close(self, columns: &mut Vec<(&'static str, WrittenColumn)>) -> std::io::Result<()> {
        columns.push((self.columns.content, self.content.close()?));
        columns.push((self.columns.ends, self.ends.close()?));
        Ok(())
    }
}

fn create(folder: &Path, column: &str) -> anyhow::Result<ColumnWriter> {
    let path = folder.join(file_name(column));
    ColumnWriter::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

impl IndexWriter {
    /// Begins the index in `directory`, which is there. An index that is there already stays until this one is finished.
    pub(crate) fn create(directory: &Path) -> anyhow::Result<Self> {
        let folder = directory.join(COLUMN_FOLDER);
        if fs::symlink_metadata(&folder).is_ok_and(|there| !there.is_dir()) {
            let message = format!("{} is a link or a file", folder.display());
            return Err(failure(message, "remove it, or choose another folder for the data set"));
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        remove_unfinished(&folder)?;
        Ok(Self {
            filenames: TextsWriter::create(&folder, FILENAMES)?,
            captions: TextsWriter::create(&folder, CAPTIONS)?,
            prompts: TextsWriter::create(&folder, PROMPTS)?,
            splits: create(&folder, SPLITS)?,
            image_ends: create(&folder, IMAGE_ENDS)?,
            weights: create(&folder, WEIGHTS)?,
            num_weights: 0,
            places: create(&folder, PLACES)?,
            ids: Ids::default(),
            num_images: 0,
            hasher: Hasher::new(),
            folder,
        })
    }

    /// Appends an image. All together may have fewer than 2^32 captions.
    pub(crate) fn push(&mut self, image: &ImageRecord, place: &Place) -> anyhow::Result<()> {
        let written = self.push_columns(image, place);
        explained(written, &self.folder)
    }

    fn push_columns(&mut self, image: &ImageRecord, place: &Place) -> anyhow::Result<()> {
        let ImageRecord { filename, split, captions, extras, image_id } = image;
        self.ids.set(self.num_images, image_id);
        self.num_images += 1;
        self.filenames.push(filename)?;
        self.splits.write(&[*split as u8])?;
        let first = self.captions.count;
        for (caption, extras) in (first..).zip(extras) {
            if let Some(prompt) = &extras.prompt {
                for _ in self.prompts.count..caption {
                    self.prompts.push("")?;
                }
                self.prompts.push(prompt)?;
            }
            if !extras.weight.is_one() {
                for _ in self.num_weights..caption {
                    self.weights.write(&[1.0_f64])?;
                }
                self.weights.write(&[extras.weight.value()])?;
                self.num_weights = caption + 1;
            }
        }
        captions.iter().try_for_each(|caption| self.captions.push(caption))?;
        let end = u32::try_from(self.captions.count).context("a data set has fewer than 2^32 captions")?;
        self.image_ends.write(&[end])?;
        self.places.write(&[*place])?;
        self.hash(image, &place.digest);
        Ok(())
    }

    fn hash(&mut self, image: &ImageRecord, content: &[u8; 32]) {
        let mut text = |text: &str| {
            self.hasher.update(&(text.len() as u64).to_le_bytes());
            self.hasher.update(text.as_bytes());
        };
        text(&image.filename);
        text(&image.image_id.to_string());
        text(image.split.name());
        text(&format!("{} {}", image.captions.len(), image.extras.len()));
        image.captions.iter().for_each(|caption| text(caption));
        for extras in &image.extras {
            text(extras.prompt.as_deref().unwrap_or_default());
            text(&extras.weight.value().to_string());
        }
        self.hasher.update(content);
    }

    /// Makes the index the one in its folder; gives the digest of the data set.
    ///
    /// # Errors
    /// Two images of one name; a disk that is full.
    pub(crate) fn finish(self) -> anyhow::Result<String> {
        let folder = self.folder.clone();
        explained(self.finish_columns(), &folder)
    }

    fn finish_columns(self) -> anyhow::Result<String> {
        let folder = self.folder;
        let mut columns = Vec::new();
        for texts in [self.filenames, self.captions, self.prompts] {
            texts.close(&mut columns)?;
        }
        let others =
            [(SPLITS, self.splits), (IMAGE_ENDS, self.image_ends), (WEIGHTS, self.weights), (PLACES, self.places)];
        for (name, writer) in others {
            columns.push((name, writer.close()?));
        }
        let open = |(name, column): &(&str, WrittenColumn)| Ok(((*name).to_owned(), column.open()?));
        let mut opened = Columns(columns.iter().map(open).collect::<anyhow::Result<_>>()?);
        let mut images = opened.images(self.ids)?;
        if let Some(repeated) = images.first_repeated().map(Image::filename) {
            let message = format!("two images are called {repeated}");
            return Err(failure(message, "give each shard once, and shards whose images have names of their own"));
        }
        images.tell_apart();
        close_ids(&folder, &images.ids, &mut columns)?;
        // Until here the index before is as it was.
        let finish = |(name, column): (&str, WrittenColumn)| Ok((name.to_owned(), column.finish()?));
        let columns = columns.into_iter().map(finish).collect::<anyhow::Result<_>>()?;
        let file = IndexFile { format_version: FORMAT_VERSION, digest: self.hasher.finish(), columns };
        atomic_file::write(&folder.join(INDEX_FILE), &serde_json::to_vec(&file)?)?;
        Ok(file.digest)
    }
}

/// What to do where the disk is the reason.
fn explained<T>(written: anyhow::Result<T>, folder: &Path) -> anyhow::Result<T> {
    let is_of_disk = written.as_ref().is_err_and(|error| error.is::<std::io::Error>());
    let written = written.with_context(|| format!("cannot write the index in {}", folder.display()));
    if is_of_disk { written.hint(|| "free some disk space and make the folder writable") } else { written }
}

fn close_ids(folder: &Path, ids: &Ids, columns: &mut Vec<(&'static str, WrittenColumn)>) -> anyhow::Result<()> {
    let mut kinds = create(folder, ID_KINDS)?;
    kinds.write(&ids.kinds)?;
    columns.push((ID_KINDS, kinds.close()?));
    let mut values = create(folder, ID_VALUES)?;
    values.write(&ids.values)?;
    columns.push((ID_VALUES, values.close()?));
    let mut texts = TextsWriter::create(folder, ID_TEXTS)?;
    ids.texts.iter().try_for_each(|text| texts.push(text))?;
    Ok(texts.close(columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_extras::{CaptionExtras, Weight};
    use crate::image_id::ImageId;
    use crate::split::Split;
    use base::error::describe;

    fn record(number: usize) -> ImageRecord {
        let caption = |of: usize| format!("caption {of} of {number} é");
        let mut extras = Vec::new();
        if number == 3 {
            let weight = Weight::new(0.5).unwrap();
            extras = vec![CaptionExtras::default(), CaptionExtras { prompt: Some("what is it?".into()), weight }];
        }
        ImageRecord {
            filename: format!("00000/{number:06}.jpg"),
            split: Split::ALL[number % 3],
            captions: (0..1 + number % 3).map(caption).chain((number == 3).then(|| "more".to_owned())).collect(),
            extras,
            image_id: match number {
                2 => ImageId::Text("two".into()),
                5 => ImageId::Negative(-5),
                // As the image before it.
                6 => ImageId::Natural(4),
                _ => ImageId::Natural(number as u64),
            },
        }
    }

    fn place(number: usize) -> Place {
        Place { block: number as u64 * 1024, bytes: 7, digest: [number as u8; 32], ..bytemuck::Zeroable::zeroed() }
    }

    fn written(folder: &Path, records: &[ImageRecord]) -> anyhow::Result<String> {
        let mut writer = IndexWriter::create(folder)?;
        for (number, record) in records.iter().enumerate() {
            writer.push(record, &place(number))?;
        }
        writer.finish()
    }

    #[test]
    fn images_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let records: Vec<ImageRecord> = (0..8).map(record).collect();
        let digest = written(folder.path(), &records).unwrap();
        let index = Index::open(folder.path()).unwrap();
        assert_eq!(index.digest, digest);
        let expected: Images = records.iter().collect();
        for (number, (found, record)) in index.images.iter().zip(&records).enumerate() {
            assert_eq!((found.filename(), found.split()), (record.filename.as_str(), record.split));
            assert_eq!(found.owned_captions(), record.captions);
            for caption in 0..4 {
                let in_memory = expected.get(number);
                assert_eq!(
                    (found.prompt(caption), found.weight(caption)),
                    (in_memory.prompt(caption), in_memory.weight(caption))
                );
            }
            assert_eq!(index.places[number], place(number));
        }
        let ids: Vec<String> = index.images.iter().map(|image| image.id().to_string()).collect();
        assert_eq!(ids, ["0", "1", "two", "3", "00000/000004.jpg", "-5", "00000/000006.jpg", "7"]);
        assert_eq!(index.images.heap_bytes(), 0);
    }

    #[test]
    fn the_digest_is_of_what_images_are_and_not_of_where_they_lie() {
        let digest = |change: &dyn Fn(&mut ImageRecord, &mut Place)| {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = IndexWriter::create(folder.path()).unwrap();
            for number in 0..4 {
                let (mut record, mut place) = (record(number), place(number));
                change(&mut record, &mut place);
                writer.push(&record, &place).unwrap();
            }
            writer.finish().unwrap()
        };
        let usual = digest(&|_, _| ());
        assert_eq!(usual, digest(&|_, place| place.block += 512));
        assert_ne!(usual, digest(&|_, place| place.digest[0] ^= 1));
        assert_ne!(usual, digest(&|record, _| record.captions[0].push('!')));
        assert_ne!(usual, digest(&|record, _| record.split = Split::Val));
        assert_ne!(usual, digest(&|record, _| record.extras.clear()));
    }

    #[test]
    fn two_images_of_one_name_are_refused_and_the_index_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let digest = written(folder.path(), &[record(0)]).unwrap();
        let mut records: Vec<ImageRecord> = (0..4).map(record).collect();
        records[3].filename = records[1].filename.clone();
        let text = describe(&written(folder.path(), &records).unwrap_err());
        assert!(text.contains("two images are called 00000/000001.jpg"), "{text}");
        assert_eq!(Index::open(folder.path()).unwrap().digest, digest);
    }

    #[test]
    fn a_damaged_index_is_an_error_that_names_the_column() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &[record(0), record(1)]).unwrap();
        let columns = folder.path().join(COLUMN_FOLDER);
        let error = || describe(&Index::open(folder.path()).unwrap_err());
        let path = columns.join("captions.bin");
        let captions = fs::read(&path).unwrap();
        let mut changed = captions.clone();
        changed[3] ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(error().contains("column captions") && error().contains("its checksum"), "{}", error());
        fs::remove_file(&path).unwrap();
        assert!(error().contains("column captions") && error().contains("prepare the data again"), "{}", error());
        fs::write(&path, captions).unwrap();
        Index::open(folder.path()).unwrap();
        let path = columns.join(INDEX_FILE);
        let json = fs::read_to_string(&path).unwrap();
        for (from, to, expected) in [
            ("\"format_version\":1", "\"format_version\":2", "version 2"),
            ("\"splits\"", "\"../splits\"", "names a column"),
            ("{", "[", "invalid"),
        ] {
            fs::write(&path, json.replacen(from, to, 1)).unwrap();
            assert!(error().contains(expected), "{}", error());
        }
    }

    #[test]
    fn an_index_made_to_mislead_has_no_image_that_ends_a_run() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &[record(0), record(1)]).unwrap();
        // Columns with their checksums, of other content: texts that are not UTF-8, kinds and splits that are none.
        let columns = folder.path().join(COLUMN_FOLDER);
        let mut file = read_index_file(&columns).unwrap();
        for column in ["filenames", "captions", "splits", "id_kinds"] {
            let bytes = file.columns[column].bytes as usize;
            let mut writer = create(&columns, column).unwrap();
            writer.write(&vec![0xff_u8; bytes]).unwrap();
            file.columns.insert(column.to_owned(), writer.finish().unwrap());
        }
        fs::write(columns.join(INDEX_FILE), serde_json::to_vec(&file).unwrap()).unwrap();
        let index = Index::open(folder.path()).unwrap();
        for image in index.images.iter() {
            assert_eq!((image.split(), image.filename(), image.id()), (Split::Train, "\u{fffd}", image.id()));
            assert!(image.captions().all(|caption| caption == "\u{fffd}"));
        }
    }
}
