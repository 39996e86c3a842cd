//! What a reader reads: files of a source, and what lies beside them.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{NamedSplit, split_of_path};
use crate::data::source::{Source, is_image_name};

/// What captions are read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// A data set: captions are cleaned, and those that nobody can have meant are left out.
    #[default]
    Preparation,
    /// What a model wrote, to be scored: captions stay as they are written.
    Candidates,
    /// What people wrote about the same images: likewise.
    References,
}

/// The files that one reader reads together.
pub(super) struct Input<'a> {
    pub(super) source: &'a Source,
    /// Indices into [`Source::files`].
    pub(super) files: &'a [usize],
    pub(super) reading: Reading,
}

impl<'a> Input<'a> {
    /// What is known of each file by where it lies.
    pub(super) fn neighbours(&self) -> Neighbours<'a> {
        let files = self.source.files();
        let is_in_folder = self.files.iter().any(|&file| !files[file].folder().is_empty());
        let images = files.iter().map(|file| file.path.as_str()).filter(|path| is_in_folder && is_image_name(path));
        Neighbours { images: images.collect(), has_several: self.files.len() > 1 }
    }
}

/// The images of a source, by their paths.
pub(super) struct Neighbours<'a> {
    images: HashSet<&'a str>,
    has_several: bool,
}

impl Neighbours<'_> {
    /// The file at `path`, whose name or folders tell its split.
    pub(super) fn file_of_folder<'p>(&'p self, path: &'p str) -> TheFile<'p> {
        TheFile { split: split_of_path(path), ..self.file(path) }
    }

    /// The file at `path`. Its name tells its split; where several are read together, its folder does so too.
    pub(super) fn file<'p>(&'p self, path: &'p str) -> TheFile<'p> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let of_folder = || split_of_path(folder).filter(|_| self.has_several);
        TheFile { path, split: split_of_path(name).or_else(of_folder), folder, beside: Beside::Images(&self.images) }
    }
}

/// A file that is read.
pub(super) struct TheFile<'p> {
    /// Its path below the source.
    pub(super) path: &'p str,
    /// The split of its images that have none of their own.
    pub(super) split: Option<NamedSplit<'p>>,
    folder: &'p str,
    beside: Beside<'p>,
}

/// What names of images are relative to.
enum Beside<'p> {
    /// Anything.
    Anything,
    /// The folder of the file.
    Folder,
    /// The folder of the file where the image is there; these are.
    Images(&'p HashSet<&'p str>),
}

impl<'p> TheFile<'p> {
    /// A file beside nothing. Its name tells its split.
    pub(super) fn alone(path: &'p str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self { path, split: split_of_path(name), folder: "", beside: Beside::Anything }
    }

    /// A file whose images lie beside it, and whose folder tells their split.
    pub(super) fn relative(path: &'p str) -> Self {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self { path, split: split_of_path(folder), folder, beside: Beside::Folder }
    }

    /// An image as the file calls it: where one of that name lies beside the file, one elsewhere is not meant.
    pub(super) fn reference<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let name = match self.beside {
            Beside::Folder => name.trim_start_matches("./"),
            Beside::Anything | Beside::Images(_) => name,
        };
        if self.folder.is_empty() {
            return Cow::Borrowed(name);
        }
        let beside = format!("{}/{}", self.folder, name.trim_start_matches("./"));
        match self.beside {
            Beside::Folder => Cow::Owned(beside),
            Beside::Images(images) if images.contains(beside.as_str()) => Cow::Owned(beside),
            Beside::Anything | Beside::Images(_) => Cow::Borrowed(name),
        }
    }

    /// The image that the file calls `name`, in the file's split.
    pub(super) fn image(&self, builder: &mut Builder, name: &str) -> usize {
        let image = builder.image(&self.reference(name));
        if let Some(split) = self.split {
            builder.split(image, split);
        }
        image
    }
}
