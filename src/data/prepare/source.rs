//! Where the files of Flickr8k are in a person's folder: in the two archives, or unpacked from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rayon::prelude::*;

use crate::base::digest;
use crate::base::fault::fault;
use crate::base::terminal::Progress;
use crate::data::annotations::flickr8k::{TOKEN_FILE, Texts, list_file};
use crate::data::archive::{Archive, Extraction, Limits, Member, write_if_changed};
use crate::data::dataset::Split;
use crate::data::prepare::report::SourceFile;

/// The archive of the images; the folder inside is spelled `Flicker8k_Dataset`, and some people's archives are too.
const IMAGE_ARCHIVES: [&str; 2] = ["Flickr8k_Dataset.zip", "Flicker8k_Dataset.zip"];
const IMAGE_FOLDERS: [&str; 4] = [
    "Flicker8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "Flickr8k_Dataset/Flickr8k_Dataset",
    "Flickr8k_Dataset",
];
const TEXT_ARCHIVE: &str = "Flickr8k_text.zip";
const TEXT_FOLDERS: [&str; 2] = [".", "Flickr8k_text"];

/// The files of Flickr8k that a person has.
pub(super) struct Source {
    images: Images,
    texts: Texts,
    text_files: BTreeSet<PathBuf>,
}

enum Images {
    Archive(Archive, PathBuf),
    Folder { path: PathBuf, names: BTreeSet<String> },
}

/// What was taken from a source.
pub(super) struct Taken {
    pub(super) extraction: Extraction,
    pub(super) sources: Vec<SourceFile>,
}

impl Source {
    /// Finds and opens the files in `directory`, and reads the texts. A text file that lies in the folder counts more
    /// than one in the archive, an archive of images more than a folder.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        if !directory.is_dir() {
            let message = format!("the source {} is not a folder", directory.display());
            return Err(fault(message, format!("give the folder with {} and {TEXT_ARCHIVE}", IMAGE_ARCHIVES[0])));
        }
        let (texts, text_files) = read_texts(directory)?;
        Ok(Self { images: open_images(directory)?, texts, text_files })
    }

    /// The text files.
    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Names of the image files.
    pub(super) fn image_names(&self) -> BTreeSet<String> {
        match &self.images {
            Images::Archive(archive, _) => {
                let names = archive.members().iter().map(|member| member.file_name());
                names.filter(|name| is_image_name(name)).map(str::to_owned).collect()
            }
            Images::Folder { names, .. } => names.clone(),
        }
    }

    /// Whether these are the files that `recorded` names: by name and, for files, by size.
    pub(super) fn is_the_one_of(&self, recorded: &[SourceFile]) -> anyhow::Result<bool> {
        let mut files: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for path in self.paths() {
            let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name_of(path), metadata.is_file().then_some(metadata.len()));
        }
        let same = |source: &SourceFile| match files.get(&source.name) {
            Some(bytes) => bytes.is_none_or(|bytes| bytes == source.bytes),
            None => false,
        };
        Ok(recorded.len() == files.len() && recorded.iter().all(same))
    }

    /// Brings the images called `wanted` into `output`, and digests what they come from.
    pub(super) fn take_images(&self, wanted: &BTreeSet<&str>, output: &Path) -> anyhow::Result<Taken> {
        let progress = Progress::new("extracting", wanted.len() as u64, 0);
        let mut sources = Vec::new();
        let extraction = match &self.images {
            Images::Archive(archive, path) => {
                let select = |member: &Member| wanted.get(member.file_name()).map(PathBuf::from);
                let extraction = archive.extract(output, &select, &progress)?;
                sources.push(digest_file(path)?);
                extraction
            }
            Images::Folder { path, .. } => {
                let (extraction, source) = copy_images(path, wanted, output, &progress)?;
                sources.push(source);
                extraction
            }
        };
        for path in &self.text_files {
            sources.push(digest_file(path)?);
        }
        Ok(Taken { extraction, sources })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (Images::Archive(_, images) | Images::Folder { path: images, .. }) = &self.images;
        std::iter::once(images).chain(&self.text_files).map(PathBuf::as_path)
    }
}

fn open_images(directory: &Path) -> anyhow::Result<Images> {
    for path in IMAGE_ARCHIVES.map(|name| directory.join(name)) {
        if path.is_file() {
            return Ok(Images::Archive(Archive::open(&path, Limits::IMAGES)?, path));
        }
    }
    for path in IMAGE_FOLDERS.map(|name| directory.join(name)) {
        let names = if path.is_dir() { list_images(&path)? } else { BTreeSet::new() };
        if !names.is_empty() {
            return Ok(Images::Folder { path, names });
        }
    }
    let message = format!(
        "{} has neither {} nor a folder {} with images",
        directory.display(),
        IMAGE_ARCHIVES[0],
        IMAGE_FOLDERS[0]
    );
    Err(fault(message, "give the folder with the archives as they are distributed with `--source DIR`"))
}

fn list_images(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        if let Ok(name) = entry.file_name().into_string()
            && is_image_name(&name)
            && entry.path().is_file()
        {
            names.insert(name);
        }
    }
    Ok(names)
}

fn is_image_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.starts_with("._") && [".jpg", ".jpeg", ".png"].iter().any(|ending| name.ends_with(ending))
}

fn read_texts(directory: &Path) -> anyhow::Result<(Texts, BTreeSet<PathBuf>)> {
    let archive_path = directory.join(TEXT_ARCHIVE);
    let archive = if archive_path.is_file() { Some(Archive::open(&archive_path, Limits::ANNOTATIONS)?) } else { None };
    let mut used = BTreeSet::new();
    let mut read = |name: &str| -> anyhow::Result<Option<Vec<u8>>> {
        for path in TEXT_FOLDERS.map(|folder| directory.join(folder).join(name)) {
            if path.is_file() {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                used.insert(path);
                return Ok(Some(bytes));
            }
        }
        let Some(archive) = &archive else { return Ok(None) };
        let Some(member) = archive.members().iter().find(|member| member.file_name() == name) else { return Ok(None) };
        used.insert(archive_path.clone());
        archive.read(member).map(Some)
    };
    let token = read(TOKEN_FILE)?;
    let (train, val) = (read(list_file(Split::Train))?, read(list_file(Split::Val))?);
    let test = read(list_file(Split::Test))?;
    let Some(token) = token else {
        let message = format!("{} has neither {TEXT_ARCHIVE} nor {TOKEN_FILE}", directory.display());
        return Err(fault(message, "the captions are distributed apart from the images: put both into the folder"));
    };
    Ok((Texts { token, train, val, test }, used))
}

fn copy_images(
    folder: &Path,
    wanted: &BTreeSet<&str>,
    output: &Path,
    progress: &Progress,
) -> anyhow::Result<(Extraction, SourceFile)> {
    let copied: Vec<(String, u64, bool)> = wanted
        .par_iter()
        .map(|name| -> anyhow::Result<(String, u64, bool)> {
            let path = folder.join(name);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let written = write_if_changed(&output.join(name), &bytes)?;
            progress.advance(1, "");
            Ok((format!("{}  {name}\n", digest::sha256(&bytes)), bytes.len() as u64, written))
        })
        .collect::<anyhow::Result<_>>()?;
    let mut hasher = digest::Hasher::new();
    copied.iter().for_each(|(line, _, _)| hasher.update(line.as_bytes()));
    let num_written = copied.iter().filter(|(_, _, written)| *written).count();
    let extraction = Extraction { num_written, num_kept: copied.len() - num_written, num_left_out: 0 };
    let bytes = copied.iter().map(|(_, bytes, _)| bytes).sum();
    Ok((extraction, SourceFile { name: name_of(folder), bytes, sha256: hasher.finish() }))
}

fn digest_file(path: &Path) -> anyhow::Result<SourceFile> {
    let read = || format!("cannot read {}", path.display());
    let bytes = fs::metadata(path).with_context(read)?.len();
    Ok(SourceFile { name: name_of(path), bytes, sha256: digest::sha256_file(path).with_context(read)? })
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
