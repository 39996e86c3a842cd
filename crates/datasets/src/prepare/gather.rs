//! Brings captions and image files together: the file of each image, which images are kept, and their names.

use std::collections::{HashMap, HashSet};

use crate::annotations::{Choice, KnownDataset, RawDataset, RawImage, Reject, Repair, SplitFrom, unnamed_pictures};
use crate::output::Options;
use crate::prepare::filters::{Filters, Names, Tally};
use crate::prepare::image_files::{Contents, FoundFiles, ImageIndex, find_files, shared_names, two_of};
use crate::prepare::split_file::{Answer, SplitFile};
use crate::prepare::splitting::{DEFAULT_VALIDATION, check_official};
use crate::prepare::{guessed_splits, images};
use crate::prepared::{Split, is_safe_relative};
use crate::source::{Source, UnreadPictures};
use base::error::failure;
use pixels::picture_formats::how_to_convert_file;

/// Images with captions whose files are there.
#[derive(Debug)]
pub(super) struct Resolved {
    /// With the names that the images get.
    pub(super) raw: RawDataset,
    pub(super) files: Vec<usize>,
    /// Files that might have been those of images.
    pub(super) weighed: Vec<usize>,
    /// The share to be drawn for validation where none is named and none is asked for.
    pub(super) default_validation: f64,
    pub(super) filters: Filters,
    /// What they left out so far.
    pub(super) tally: Tally,
}

/// Finds the files of the images of `raw`, which was read from what `choice` says, follows the user's split, applies the
/// filters that need no pixels, and keeps as many images as `options` say, evenly spread.
pub(super) fn gather(
    mut raw: RawDataset,
    source: &Source,
    dataset: Option<KnownDataset>,
    split_file: Option<&SplitFile>,
    options: &Options,
    filters: Filters,
    choice: &Choice,
) -> anyhow::Result<Resolved> {
    check_any(&mut raw, source, choice)?;
    let is_drawn = options.validation_fraction.or(options.test_fraction).is_some();
    match split_file {
        Some(split_file) => follow(&mut raw, split_file)?,
        None => {
            let read = choice.found.files.iter().map(|&file| source.files()[file].path.as_str());
            guessed_splits::check_training(&raw, read, &choice.training_files, is_drawn)?;
        }
    }
    let names: Vec<String> = raw.images.iter().map(|image| image.filename.clone()).collect();
    let Matched { mut files, weighed } = match_files(&mut raw, source, |raw, paths| {
        if split_file.is_none() {
            if dataset.is_none() {
                guessed_splits::hear_folders(raw, paths);
            }
            guessed_splits::settle(raw, dataset.is_some());
        }
    })?;
    if split_file.is_none() && !is_drawn && raw.images.iter().all(|image| image.split.is_none()) {
        guessed_splits::check_lists(source, &names, &choice.found.files)?;
    }
    if let Some(known) = dataset {
        let count = |split| raw.images.iter().filter(|image| image.split == Some(split)).count();
        check_official(known, Split::ALL.map(count), &mut raw.repairs);
    }
    let mut tally = filters.tally(&raw.images);
    if !tally.is_empty() {
        let stored = images::filenames(source, &files, options.resize.is_some());
        let path = |file: &usize| source.files()[*file].path.as_str();
        let names = stored.iter().zip(&files).map(|(stored, file)| Names { stored, path: path(file) });
        let names: Vec<Names<'_>> = names.collect();
        let is_kept = filters.apply_to_captions(&mut raw, &names, &mut tally)?;
        raw.images = keep(raw.images, |place| is_kept[place]);
        files = keep(files, |place| is_kept[place]);
        if raw.images.is_empty() {
            return Err(filters.nothing_left(&tally, 0));
        }
    }
    if let Some(limit) = options.limit.filter(|&limit| limit < raw.images.len()) {
        let num_there = raw.images.len();
        let is_kept = |place: usize| place * limit / num_there != (place + 1) * limit / num_there;
        raw.images = keep(raw.images, is_kept);
        files = keep(files, is_kept);
        let note = format!("kept of {num_there} with a file, as requested");
        raw.repairs.push(Repair::new(format!("{limit} images"), note));
    }
    let names = images::filenames(source, &files, options.resize.is_some());
    let mut is_safe = Vec::with_capacity(names.len());
    for (image, name) in raw.images.iter_mut().zip(names) {
        is_safe.push(is_safe_relative(&name));
        if !is_safe_relative(&name) {
            raw.rejects.push(Reject::new(name.clone(), "its name is not valid on every system"));
        }
        image.filename = name;
    }
    raw.images = keep(raw.images, |place| is_safe[place]);
    files = keep(files, |place| is_safe[place]);
    if let (true, Some(reject)) = (raw.images.is_empty(), raw.rejects.last()) {
        let message =
            format!("no image is left: {} and others have names that are not valid on every system", reject.what);
        return Err(failure(message, "give the image files other names"));
    }
    // A split that the user brings is whole as it is.
    let default_validation = if split_file.is_some() { 0.0 } else { DEFAULT_VALIDATION };
    Ok(Resolved { raw, files, weighed, default_validation, filters, tally })
}

/// The files of the images that are left.
pub(super) struct Matched {
    pub(super) files: Vec<usize>,
    /// As [`Resolved::weighed`].
    pub(super) weighed: Vec<usize>,
}

/// Notes what was skipped, and makes sure that the annotations name an image with a caption.
pub(super) fn check_any(raw: &mut RawDataset, source: &Source, choice: &Choice) -> anyhow::Result<()> {
    for (path, reason) in source.skipped() {
        raw.repairs.push(Repair::new(path, format!("skipped: {reason}")));
    }
    if !raw.images.is_empty() {
        return Ok(());
    }
    let read = choice.found.describe(source);
    let left_out: Vec<String> =
        raw.rejects.iter().take(2).map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
    let left_out = match raw.rejects.len() {
        0 => String::new(),
        count => format!("; left out: {count}, such as {}", left_out.join(", and ")),
    };
    let aside = source.describe_skipped();
    let message = format!("the annotations name no image with a caption, in {read}{left_out}{aside}");
    Err(failure(message, "give at least one image a caption"))
}

/// Finds the files of the images of `raw`, and keeps those that have one. `settle` is as in [`find_files`].
pub(super) fn match_files(
    raw: &mut RawDataset,
    source: &Source,
    settle: impl FnOnce(&mut RawDataset, &[Option<&str>]),
) -> anyhow::Result<Matched> {
    let (num_images, num_captions) = (raw.images.len(), num_captions(&raw.images));
    let index = ImageIndex::new(source);
    let found = find_files(raw, source, &index, settle);
    if raw.images.is_empty() {
        return Err(no_image_left(&found, source, &index, [num_images, num_captions]));
    }
    check_clear(&found, num_images, &mut raw.repairs)?;
    if found.num_missing > found.files.len()
        && let Some(names) = found.compare_names(source, &index)
    {
        raw.repairs.push(Repair::new(
            format!("{} of {num_images} images", found.num_missing),
            format!("have no file: {names}"),
        ));
    }
    let (files, unread, weighed) = (found.files, found.unread, found.weighed);
    note_images_without_captions(&mut raw.rejects, source, &index, &files);
    note_unread_images(&mut raw.rejects, source, &unread);
    let taken: HashSet<usize> = files.iter().copied().collect();
    if let Some(unnamed) = unnamed_pictures(source, |file| taken.contains(&file)) {
        let reason = format!(
            "their names have no image extension, such as {}: give each an extension such as .jpg",
            unnamed.first
        );
        raw.rejects.push(Reject::new(format!("{} image files", unnamed.count), reason));
    }
    Ok(Matched { files, weighed })
}

/// Allows a few names that fit several files, and notes them: a mistake in a few names should not stop a preparation,
/// but a data set without a large part of its images is a different one.
///
/// # Errors
/// More than one image in twenty of `num_images`.
fn check_clear(found: &FoundFiles, num_images: usize, repairs: &mut Vec<Repair>) -> anyhow::Result<()> {
    const ONE_IN: usize = 20;
    if found.num_unclear == 0 {
        return Ok(());
    }
    let what = format!("{} of {num_images} images", found.num_unclear);
    let such = found.unclear.join(", and ");
    if found.num_unclear * ONE_IN > num_images {
        let message = format!("it is unclear which files belong to {what}, such as {such}");
        return Err(failure(message, NAME_WITH_FOLDERS));
    }
    repairs.push(Repair::new(what, format!("left out, since it is unclear which files are theirs, such as {such}")));
    Ok(())
}

const NAME_WITH_FOLDERS: &str = "name the images with their folders, or give only the folder with the files you mean";

/// Why none of the images with captions has a file; `counts` are those of images and captions.
fn no_image_left(found: &FoundFiles, source: &Source, index: &ImageIndex<'_>, counts: [usize; 2]) -> anyhow::Error {
    let [num_images, num_captions] = counts;
    if let Some(unclear) = found.unclear.first() {
        let message = format!(
            "none of the {num_images} annotated images has a file of its own, {} have none at all; such as {unclear}",
            found.num_missing
        );
        return failure(message, NAME_WITH_FOLDERS);
    }
    let annotated = format!("the annotations have {num_images} images with {num_captions} captions");
    let unread = source.unread_pictures();
    let unsupported: String = unread.iter().map(|unread| format!("; {unread}, are not supported")).collect();
    let skipped = source.describe_skipped();
    if let Some(first) = unread.first().filter(|_| !found.unread.is_empty()) {
        let message = format!("{annotated}, and none of their files is in a supported format{unsupported}{skipped}");
        return failure(message, how_to_convert_file(&first.first, first.format));
    }
    let unnamed = unnamed_pictures(source, |_| false).map_or_else(String::new, |unnamed| format!("; {unnamed}"));
    let message = format!(
        "{annotated}, and none of the image files was found: {} image files were found{}{unnamed}{unsupported}{skipped}",
        index.images().len(),
        found.compare_names(source, index).map_or_else(String::new, |names| format!("; {names}")),
    );
    failure(
        message,
        "put the images, or the archive that contains them, beside the captions, and name them as the captions do",
    )
}

fn keep<T>(all: Vec<T>, is_kept: impl Fn(usize) -> bool) -> Vec<T> {
    all.into_iter().enumerate().filter(|(place, _)| is_kept(*place)).map(|(_, one)| one).collect()
}

fn num_captions(images: &[RawImage]) -> usize {
    images.iter().map(|image| image.captions.len()).sum()
}

/// Assigns the images the splits of the user's split file; images that it does not name are left out.
fn follow(raw: &mut RawDataset, split_file: &SplitFile) -> anyhow::Result<()> {
    let shared = shared_names(raw.images.iter().map(|image| image.filename.as_str()));
    let mut is_used = vec![false; split_file.names().len()];
    let (mut kept, mut unnamed): (Vec<RawImage>, Vec<String>) = (Vec::new(), Vec::new());
    for (mut image, is_shared) in std::mem::take(&mut raw.images).into_iter().zip(shared) {
        match split_file.of(&image.filename, is_shared) {
            Answer::Split(split, places) => {
                places.into_iter().for_each(|place| is_used[place] = true);
                (image.split, image.split_from) = (Some(split), SplitFrom::Annotations);
                kept.push(image);
            }
            Answer::Unclear(reason) => raw.rejects.push(Reject::new(image.filename, reason)),
            Answer::Unnamed => unnamed.push(image.filename),
        }
    }
    raw.images = kept;
    let unused =
        || split_file.names().iter().zip(&is_used).filter(|(_, is_used)| !**is_used).map(|(name, _)| name.as_str());
    if raw.images.is_empty() {
        let message = match (unnamed.is_empty(), raw.rejects.last()) {
            (true, Some(last)) => {
                format!("the split file assigns no split to any image: of {}, {}", last.what, last.reason)
            }
            _ => format!(
                "the split file names none of the images: it has names such as {}, the images are called such as {}",
                two_of(unused()),
                two_of(unnamed.iter().map(String::as_str))
            ),
        };
        return Err(failure(message, "its names must be those of the image files"));
    }
    if let Some(first) = unnamed.first() {
        let reason = format!("the split file does not name them, such as {first}");
        raw.rejects.push(Reject::new(format!("{} images", unnamed.len()), reason));
    }
    if let Some(first) = unused().next() {
        let note = format!(
            "{} of its {} names match no image with a caption, such as {first}",
            unused().count(),
            is_used.len()
        );
        raw.repairs.push(Repair::new("the split file", note));
    }
    if split_file.num_without > 0 {
        let note =
            format!("{} of its names have no split, such as {}", split_file.num_without, split_file.first_without);
        raw.repairs.push(Repair::new("the split file", note));
    }
    for name in &split_file.unused {
        raw.repairs.push(Repair::new(name.clone(), "not used as a split list: its name contains no split"));
    }
    Ok(())
}

fn note_images_without_captions(rejects: &mut Vec<Reject>, source: &Source, index: &ImageIndex<'_>, files: &[usize]) {
    let all_taken: HashSet<usize> = files.iter().copied().collect();
    let alike = |file: usize| (source.files()[file].name(), source.files()[file].bytes);
    let taken_alike: HashMap<(&str, u64), usize> = files.iter().map(|&file| (alike(file), file)).collect();
    let mut contents = Contents::default();
    // A copy of a file that is used is not another image.
    let mut is_copy =
        |file: usize| taken_alike.get(&alike(file)).is_some_and(|&taken| contents.are_same(source, &[taken, file]));
    let without = index.images().iter().copied().filter(|file| !all_taken.contains(file));
    let without: Vec<usize> = without.filter(|&file| !is_copy(file)).collect();
    if let Some(&first) = without.first() {
        rejects.push(Reject::new(
            format!("{} image files", without.len()),
            format!("no captions name them, such as {}", source.files()[first].path),
        ));
    }
}

/// Pictures of formats that are not read, but for those in `named`, which were reported one by one.
fn note_unread_images(rejects: &mut Vec<Reject>, source: &Source, named: &[usize]) {
    let named: HashSet<usize> = named.iter().copied().collect();
    let files = source.files().iter().enumerate().filter(|(file, _)| !named.contains(file));
    for unread in UnreadPictures::among(files.map(|(_, file)| file.path.as_str())) {
        rejects.push(Reject::new(format!("{} image files", unread.count), unread.reason()));
    }
}
