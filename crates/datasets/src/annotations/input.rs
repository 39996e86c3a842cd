//! What a reader reads: files of a source, and what lies beside them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::encoding::decode;
use crate::annotations::file_names::as_unpacked;
use crate::annotations::references::file_of;
use crate::annotations::split_names::{NamedSplit, split_of_path};
use crate::name_forms::{difference, last_part, loosest, tidy};
use crate::source::Source;
use pixels::picture_formats::is_image_name;

/// The files that one reader reads together.
pub(crate) struct Input<'a> {
    pub(crate) source: &'a Source,
    /// Indices into [`Source::files`].
    pub(crate) files: &'a [usize],
    pub(crate) reading: Reading,
}

impl<'a> Input<'a> {
    pub(crate) fn build(
        &self,
        mut parse: impl FnMut(&mut Builder, &str, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Builder> {
        let mut builder = self.builder();
        for &file in self.files {
            let path = &self.source.files()[file].path;
            parse(&mut builder, path, &decode(path, self.source.read(file)?)?)?;
        }
        Ok(builder)
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::new(self.reading, self.source.columns().clone())
    }

    /// What is known of each file by where it lies.
    pub(crate) fn neighbours(&self) -> Neighbours<'a> {
        let files = self.source.files();
        let has_place = |&file: &usize| !files[file].folder().is_empty() || split_of_path(files[file].name()).is_some();
        let is_asked = self.files.iter().any(has_place);
        let (mut images, mut by_name) = (HashSet::new(), HashMap::new());
        for path in files.iter().map(|file| file.path.as_str()).filter(|path| is_asked && is_image_name(path)) {
            images.insert(path);
            by_name.entry(loosest(last_part(path))).or_insert_with(Vec::new).push(path);
        }
        Neighbours { images, by_name, has_several: self.files.len() > 1 }
    }
}

/// The images of a source, by their paths.
pub(crate) struct Neighbours<'a> {
    images: HashSet<&'a str>,
    /// By the loosest forms of their names.
    by_name: HashMap<String, Vec<&'a str>>,
    has_several: bool,
}

impl<'a> Neighbours<'a> {
    /// The only image called `name` in the folders of the split of `file`, else in the folder of `file` and not in
    /// those of another split.
    fn of_file(&self, file: &AnnotationFile<'_>, name: &str) -> Option<&'a str> {
        let name = tidy(name);
        let called = self.by_name.get(&loosest(last_part(&name)))?;
        let ends_so = |path: &&&str| path.strip_suffix(&*name).is_some_and(|folder| folder.ends_with('/'));
        let mut there: Vec<&'a str> = called.iter().filter(ends_so).copied().collect();
        if there.is_empty() && !name.contains('/') {
            there = called.iter().copied().filter(|path| difference(&name, last_part(path)).is_some()).collect();
        }
        let own = file.split.map(|named| named.split);
        let split = |path: &str| split_of_path(path.rsplit_once('/')?.0).map(|named| named.split);
        there.retain(|path| own.is_none() || split(path).is_none_or(|split| Some(split) == own));
        let is_inside = |path: &&&str| {
            let rest = path.strip_prefix(file.folder).filter(|_| !file.folder.is_empty());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let of_split: Vec<&'a str> = there.iter().copied().filter(|path| own.is_some() && split(path) == own).collect();
        let only = |paths: &[&'a str]| if let [one] = paths { Some(*one) } else { None };
        let inside = |paths: &[&'a str]| only(&paths.iter().filter(is_inside).copied().collect::<Vec<_>>());
        only(&of_split).or_else(|| inside(if of_split.is_empty() { &there } else { &of_split }))
    }

    /// The file at `path`, whose name or folders say its split.
    pub(crate) fn file_of_folder<'p>(&'p self, path: &'p str) -> AnnotationFile<'p> {
        AnnotationFile { split: split_of_path(path), ..self.file(path) }
    }

    /// The file at `path`. Its name says its split; if several are read together, so does its folder.
    pub(crate) fn file<'p>(&'p self, path: &'p str) -> AnnotationFile<'p> {
        let (folder, name) = as_unpacked(path).rsplit_once('/').unwrap_or(("", as_unpacked(path)));
        let of_folder = || split_of_path(folder).filter(|_| self.has_several);
        AnnotationFile { path, split: split_of_path(name).or_else(of_folder), folder, beside: Beside::Images(self) }
    }
}

pub(crate) struct AnnotationFile<'p> {
    pub(crate) path: &'p str,
    /// The split of its images that have none of their own.
    pub(crate) split: Option<NamedSplit<'p>>,
    folder: &'p str,
    beside: Beside<'p>,
}

/// What names of images are relative to.
enum Beside<'p> {
    Anything,
    Folder,
    /// The folder of the file, or of its split, where the image is there.
    Images(&'p Neighbours<'p>),
}

impl<'p> AnnotationFile<'p> {
    /// A file beside nothing. Its name says its split.
    pub(crate) fn single(path: &'p str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self { path, split: split_of_path(name), folder: "", beside: Beside::Anything }
    }

    /// A file whose images lie beside it, and whose folder says their split.
    pub(crate) fn relative(path: &'p str) -> Self {
        let folder = as_unpacked(path).rsplit_once('/').map_or("", |(folder, _)| folder);
        Self { path, split: split_of_path(folder), folder, beside: Beside::Folder }
    }

    /// An image as the file calls it: where one of that name lies beside the file, one elsewhere is not meant.
    pub(crate) fn reference<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let name = match self.beside {
            Beside::Folder => name.trim_start_matches("./"),
            Beside::Anything | Beside::Images(_) => file_of(name),
        };
        let beside = || format!("{}/{}", self.folder, name.trim_start_matches("./"));
        match self.beside {
            Beside::Folder if !self.folder.is_empty() => Cow::Owned(beside()),
            Beside::Images(near) if !self.folder.is_empty() && near.images.contains(beside().as_str()) => {
                Cow::Owned(beside())
            }
            Beside::Images(near) => near.of_file(self, name).map_or(Cow::Borrowed(name), |path| path.to_owned().into()),
            Beside::Anything | Beside::Folder => Cow::Borrowed(name),
        }
    }

    /// The image that the file calls `name`, in the file's split.
    pub(crate) fn image(&self, builder: &mut Builder, name: &str) -> usize {
        let image = builder.image(&self.reference(name));
        if let Some(split) = self.split {
            builder.split(image, split);
        }
        image
    }
}
