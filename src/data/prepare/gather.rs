//! Brings captions and image files together: which file each image is, which are kept, and how they are called.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use crate::base::fault::fault;
use crate::data::annotations::{KnownDataset, RawDataset, RawImage, Reject, Repair};
use crate::data::dataset::{Split, is_safe_relative};
use crate::data::picture_formats::{how_to_convert, unread_format_of_name};
use crate::data::prepare::image_index::{ImageIndex, Lookup};
use crate::data::prepare::images;
use crate::data::prepare::report::Options;
use crate::data::prepare::split_file::SplitFile;
use crate::data::prepare::splitting::{DEFAULT_VALIDATION, check_official};
use crate::data::source::{Source, UnreadPictures};

/// Images with captions whose files are there.
#[derive(Debug)]
pub(super) struct Gathered {
    /// With the names that the images get.
    pub(super) raw: RawDataset,
    /// The file of each image.
    pub(super) files: Vec<usize>,
    /// The share to be drawn for validation where none is named and none is asked for.
    pub(super) default_validation: f64,
}

/// Finds the files of the images of `raw`, follows a person's split, and keeps as many images as `options` say, evenly
/// spread.
///
/// # Errors
/// No image left.
pub(super) fn gather(
    mut raw: RawDataset,
    source: &Source,
    dataset: Option<KnownDataset>,
    split_file: Option<&SplitFile>,
    options: &Options,
) -> anyhow::Result<Gathered> {
    for (path, reason) in source.left_aside() {
        raw.repairs.push(Repair::new(path, format!("left aside: {reason}")));
    }
    if let Some(split_file) = split_file {
        follow(&mut raw, split_file)?;
    }
    let (num_images, num_captions) = (raw.images.len(), num_captions(&raw.images));
    let index = ImageIndex::new(source);
    let (mut files, unread) = find_files(&mut raw, source, &index)?;
    if raw.images.is_empty() {
        return Err(no_image_left(source, num_images, num_captions, index.images().len()));
    }
    if let Some(known) = dataset {
        let count = |split| raw.images.iter().filter(|image| image.split == Some(split)).count();
        check_official(known, Split::ALL.map(count), &mut raw.repairs);
    }
    note_images_without_captions(&mut raw.rejects, source, &index, &files);
    note_unread_images(&mut raw.rejects, source, &unread);
    if let Some(limit) = options.limit.filter(|&limit| limit < raw.images.len()) {
        let num_there = raw.images.len();
        let is_kept = |place: usize| place * limit / num_there != (place + 1) * limit / num_there;
        raw.images = keep(raw.images, is_kept);
        files = keep(files, is_kept);
        let note = format!("kept of {num_there} with a file, as was asked for");
        raw.repairs.push(Repair::new(format!("{limit} images"), note));
    }
    let names = images::filenames(source, &files, options.resize.is_some());
    let mut is_safe = Vec::with_capacity(names.len());
    for (image, name) in raw.images.iter_mut().zip(names) {
        is_safe.push(is_safe_relative(&name));
        if !is_safe_relative(&name) {
            raw.rejects.push(Reject::new(name.clone(), "its name cannot be kept on every system"));
        }
        image.filename = name;
    }
    raw.images = keep(raw.images, |place| is_safe[place]);
    files = keep(files, |place| is_safe[place]);
    // A split that a person brings is whole as it is.
    let default_validation = if split_file.is_some() { 0.0 } else { DEFAULT_VALIDATION };
    Ok(Gathered { raw, files, default_validation })
}

/// Why none of the images with captions has a file.
fn no_image_left(source: &Source, num_images: usize, num_captions: usize, num_files: usize) -> anyhow::Error {
    let unread = source.unread_pictures();
    let annotated = format!("{num_images} images with {num_captions} captions are annotated");
    let (mut message, hint) = match (num_images, unread.first()) {
        (0, _) => ("the annotations name no image with a caption".to_owned(), None),
        (_, None) => (format!("{annotated}, and none of the image files is there ({num_files} were found)"), None),
        (_, Some(first)) => {
            let message = format!("{annotated}, and none of their files is there in a format that is read");
            (message, Some(how_to_convert(first.format)))
        }
    };
    unread.iter().for_each(|unread| message.push_str(&format!("; {unread}, are not read")));
    for (path, reason) in source.left_aside() {
        message.push_str(&format!("; {path} was left aside: {reason}"));
    }
    fault(message, hint.as_deref().unwrap_or("put the images, or the archive that holds them, beside the captions"))
}

fn keep<T>(all: Vec<T>, is_kept: impl Fn(usize) -> bool) -> Vec<T> {
    all.into_iter().enumerate().filter(|(place, _)| is_kept(*place)).map(|(_, one)| one).collect()
}

fn num_captions(images: &[RawImage]) -> usize {
    images.iter().map(|image| image.captions.len()).sum()
}

fn follow(raw: &mut RawDataset, split_file: &SplitFile) -> anyhow::Result<()> {
    let (mut kept, mut num_left_out) = (Vec::new(), 0);
    for mut image in std::mem::take(&mut raw.images) {
        match split_file.of(&image.filename) {
            Some(split) => {
                image.split = Some(split);
                kept.push(image);
            }
            None => num_left_out += 1,
        }
    }
    if num_left_out > 0 {
        raw.rejects.push(Reject::new(format!("{num_left_out} images"), "the split file does not name them"));
    }
    raw.images = kept;
    if raw.images.is_empty() {
        let message = "the split file names none of the images";
        return Err(fault(message, "its names must be those of the image files"));
    }
    Ok(())
}

/// The file of each image; images without one, those whose file another image has and those of a format that is not read
/// go to the rejects. The files of the latter are the second list.
fn find_files(
    raw: &mut RawDataset,
    source: &Source,
    index: &ImageIndex<'_>,
) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    let others = LazyCell::new(|| ImageIndex::others(source));
    let images = std::mem::take(&mut raw.images);
    let mut times: HashMap<&str, usize> = HashMap::new();
    images.iter().for_each(|image| *times.entry(name_of(&image.filename)).or_default() += 1);
    // Where two images are called alike, each is the one in its own folder.
    let needs_folder: Vec<bool> = images.iter().map(|image| times[name_of(&image.filename)] > 1).collect();
    let (mut kept, mut files, mut taken, mut num_several) = (Vec::new(), Vec::new(), HashSet::new(), 0usize);
    let mut unread = Vec::new();
    let mut example = String::new();
    for (image, needs_folder) in images.into_iter().zip(needs_folder) {
        let path = |file: usize| &source.files()[file].path;
        let find = |index: &ImageIndex<'_>| match raw.has_paths {
            true => index.at(&image.filename),
            false => index.find(&image.filename, needs_folder),
        };
        let found = match find(index) {
            Lookup::Missing => only_named(find(&others), &image.filename, source),
            found => found,
        };
        let reason = match found {
            Lookup::File(file) | Lookup::Several(file, _) if unread_format_of_name(path(file)).is_some() => {
                unread.push(file);
                let format = unread_format_of_name(path(file)).unwrap_or_default();
                let (path, convert, num_captions) = (path(file), how_to_convert(format), image.captions.len());
                format!("the format {format} of {path} is not read; {convert}; captions left out: {num_captions}")
            }
            Lookup::File(file) | Lookup::Several(file, _) if taken.contains(&file) => {
                format!("its file {} is that of another image too", path(file))
            }
            Lookup::Several(one, other) if !is_same(source, one, other)? => {
                format!("it may be {} or {}", path(one), path(other))
            }
            Lookup::Missing => {
                let split = image.split.map_or(String::new(), |split| format!(" (split {})", split.name()));
                format!("there is no such image file{split}; captions left out: {}", image.captions.len())
            }
            found @ (Lookup::File(file) | Lookup::Several(file, _)) => {
                if matches!(found, Lookup::Several(..)) {
                    num_several += 1;
                    example.clone_from(path(file));
                }
                taken.insert(file);
                files.push(file);
                kept.push(image);
                continue;
            }
        };
        raw.rejects.push(Reject::new(image.filename, reason));
    }
    if num_several > 0 {
        let note = format!("their files are there several times: the first is taken, such as {example}");
        raw.repairs.push(Repair::new(format!("{num_several} images"), note));
    }
    raw.images = kept;
    Ok((files, unread))
}

/// What was found among the files that are not called like pictures that are read: a picture of another format, or a file
/// that is called just as the annotations say, whatever its ending.
fn only_named(found: Lookup, reference: &str, source: &Source) -> Lookup {
    let is_meant = |file: usize| {
        let file = &source.files()[file];
        file.name() == name_of(reference) || unread_format_of_name(&file.path).is_some()
    };
    match found {
        Lookup::File(file) | Lookup::Several(file, _) if is_meant(file) => found,
        _ => Lookup::Missing,
    }
}

fn name_of(reference: &str) -> &str {
    reference.rsplit(['/', '\\']).next().unwrap_or(reference)
}

fn is_same(source: &Source, one: usize, other: usize) -> anyhow::Result<bool> {
    let bytes = |file: usize| source.files()[file].bytes;
    Ok(bytes(one) == bytes(other) && source.read(one)? == source.read(other)?)
}

fn note_images_without_captions(rejects: &mut Vec<Reject>, source: &Source, index: &ImageIndex<'_>, files: &[usize]) {
    let names: HashSet<&str> = files.iter().map(|&file| source.files()[file].name()).collect();
    let mut without =
        index.images().iter().map(|&file| source.files()[file].name()).filter(|name| !names.contains(name));
    if let Some(first) = without.next() {
        let count = 1 + without.count();
        rejects.push(Reject::new(
            format!("{count} image files"),
            format!("no image with captions has them, such as {first}"),
        ));
    }
}

/// Pictures of formats that are not read, but for those in `named`, which were told of one by one.
fn note_unread_images(rejects: &mut Vec<Reject>, source: &Source, named: &[usize]) {
    let named: HashSet<usize> = named.iter().copied().collect();
    let files = source.files().iter().enumerate().filter(|(file, _)| !named.contains(file));
    for unread in UnreadPictures::among(files.map(|(_, file)| file.path.as_str())) {
        rejects.push(Reject::new(format!("{} image files", unread.count), unread.reason()));
    }
}
