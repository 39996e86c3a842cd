//! Splits that are only a word in the name of a file or folder, such as `val` in `captions_val.json`. It is believed
//! where names divide the images, and not where it would leave nothing to train on.
//! Files of the source that list images for splits, and were not given as the split file, are refused.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::annotations::{
    NamedSplit, RawDataset, RawImage, Repair, SplitFrom, TrainingFile, decode, split_of_folders, split_of_path,
};
use crate::name_forms::{last_part, loosest, tidy};
use crate::prepare::split_forms::{self, ENDINGS, SplitList};
use crate::prepared::Split;
use crate::source::Source;
use base::bounded_file::MAX_CAPTIONS_BYTES;
use base::error::failure;
use base::quoting::shell_path;

/// Makes sure that images for validation and testing do not become training images because a file for training is not
/// read, or says nothing. `read` are the paths of the files that are read, `unread` those for training that are not;
/// `is_drawn` says that the user asked for shares of all images.
pub(super) fn check_training<'a>(
    raw: &RawDataset,
    read: impl Iterator<Item = &'a str>,
    unread: &[TrainingFile],
    is_drawn: bool,
) -> anyhow::Result<()> {
    if raw.images.iter().any(|image| image.split == Some(Split::Train)) {
        return Ok(());
    }
    const MOVE: &str = "or move it out of the source to prepare the rest";
    let named: Vec<(&str, Split)> = read.filter_map(|path| Some((path, split_of_path(path)?.split))).collect();
    let held_out = named.iter().find(|(_, split)| *split != Split::Train);
    let nothing_is_said = raw.images.iter().all(|image| image.split.is_none());
    let meant = match held_out {
        Some(_) => unread.first(),
        None if nothing_is_said && !is_drawn => unread.first().filter(|file| file.is_sure),
        None => None,
    };
    let what = match held_out {
        Some((path, split)) => format!("{path} is for {} by its name", split.name()),
        None => "nothing that is read says which images are for training".to_owned(),
    };
    if let Some(file) = meant {
        let more = match unread.len() {
            0 | 1 => String::new(),
            2..10 => format!(" (nor are {} more)", unread.len() - 1),
            // Not all of them were counted.
            _ => " (nor are many more)".to_owned(),
        };
        let message = format!("{what}, and {}, which is for training by its name, {}{more}", file.path, file.reason);
        return Err(failure(message, format!("{}; {MOVE}", file.way_out)));
    }
    let empty = named.iter().find(|(_, split)| *split == Split::Train).filter(|_| held_out.is_some());
    let Some((path, _)) = empty else { return Ok(()) };
    let first =
        raw.rejects.first().map_or_else(String::new, |first| format!(", such as {}: {}", first.what, first.reason));
    let message = format!("{what}, and {path}, which is for training by its name, has no caption for any image{first}");
    Err(failure(message, format!("give its images captions, {MOVE}")))
}

/// Gives images of which nothing is said the splits that their folders speak of: as the annotations write them, else
/// where their files, at `paths`, are found.
pub(super) fn hear_folders(raw: &mut RawDataset, paths: &[Option<&str>]) {
    let RawDataset { images, split_names, .. } = raw;
    for (image, path) in images.iter_mut().zip(paths).filter(|(image, _)| image.split.is_none()) {
        let said = split_of_folders(&image.filename).or_else(|| split_of_folders((*path)?));
        let Some(NamedSplit { split, is_sure, name }) = said else { continue };
        if !split_names.iter().any(|(known, _)| *known == split) {
            split_names.push((split, name.to_owned()));
        }
        (image.split, image.split_from) = (Some(split), SplitFrom::Name { is_sure });
    }
}

/// Settles which of the splits that are taken from names count. `is_known` says that the data set is one of which the
/// names of files are known.
pub(super) fn settle(raw: &mut RawDataset, is_known: bool) {
    let is_named = |image: &RawImage| image.split.is_some() && image.split_from != SplitFrom::Annotations;
    if !raw.images.iter().any(is_named) {
        return;
    }
    // Beside images that no name says anything of, a folder `test_tubes` is a folder like others.
    let all_have_one = raw.images.iter().all(|image| image.split.is_some());
    let is_doubtful = |image: &RawImage| !all_have_one && image.split_from == (SplitFrom::Name { is_sure: false });
    if forget(raw, is_doubtful) {
        let note = "it has other words too, and no name gives a split for the other images";
        refuse(raw, note);
    }
    let splits: BTreeSet<Option<Split>> = raw.images.iter().map(|image| image.split).collect();
    let has_training = splits.contains(&Some(Split::Train)) || splits.contains(&None);
    if !has_training && splits.len() == 1 && !is_known {
        forget(raw, is_named);
        refuse(raw, "all images would be in it and none left for training (to hold them all out, use `--split-file`)");
        return;
    }
    let named: BTreeSet<Split> =
        raw.images.iter().filter(|image| is_named(image)).filter_map(|image| image.split).collect();
    let names = raw.split_names.iter().filter(|(split, _)| named.contains(split));
    let names: Vec<String> = names.map(|(split, name)| format!("{} from {name:?}", split.name())).collect();
    if !names.is_empty() && (splits.len() > 1 || !has_training) {
        raw.repairs
            .push(Repair::new("the split", format!("taken from names of files and folders: {}", names.join(", "))));
    }
}

/// Removes the splits of some images; returns whether there were any.
fn forget(raw: &mut RawDataset, is_meant: impl Fn(&RawImage) -> bool) -> bool {
    let mut is_any = false;
    for image in raw.images.iter_mut().filter(|image| is_meant(image)) {
        (image.split, is_any) = (None, true);
    }
    is_any
}

/// Notes that names whose images have no split any more were not believed.
fn refuse(raw: &mut RawDataset, why: &str) {
    let kept: BTreeSet<Split> = raw.images.iter().filter_map(|image| image.split).collect();
    for (split, name) in raw.split_names.iter().filter(|(split, _)| !kept.contains(split)) {
        let note = format!("not used as the name of the split {}: {why}", split.name());
        raw.repairs.push(Repair::new(name.clone(), note));
    }
}

/// Files that are looked into.
const MAX_LISTS: usize = 50;

/// Checks that no file of the source except those in `read` holds out images called by `names`.
pub(super) fn check_lists(source: &Source, names: &[String], read: &[usize]) -> anyhow::Result<()> {
    let names: HashSet<String> = names.iter().map(|name| form(name)).collect();
    let may_be = |(file, path): &(usize, &str)| {
        let path = Path::new(path);
        let ending = path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase());
        // What is called like an image is about that one.
        !read.contains(file)
            && ENDINGS.contains(&ending.as_str())
            && !names.contains(&form(&split_forms::stem(path)))
            && source.files()[*file].bytes <= MAX_CAPTIONS_BYTES
    };
    let files = source.files().iter().enumerate().map(|(file, there)| (file, there.path.as_str()));
    for (file, path) in files.filter(may_be).take(MAX_LISTS) {
        let mut entries = SplitList::default();
        let Some(text) = source.read(file).ok().and_then(|bytes| decode(path, bytes).ok()) else { continue };
        if split_forms::parse(Path::new(path), &text, &mut entries).is_err() {
            continue;
        }
        let known: Vec<Split> =
            entries.named.iter().filter(|(name, _)| names.contains(&form(name))).map(|(_, split)| *split).collect();
        let num_held_out = known.iter().filter(|split| **split != Split::Train).count();
        if num_held_out == 0 || 2 * known.len() < entries.named.len() {
            continue;
        }
        let message = format!(
            "{path} says which split images are in, and nothing that is read does: {num_held_out} images that it \
             holds out would be trained on"
        );
        let is_whole = known.contains(&Split::Train);
        let what = match is_whole {
            true if !source.is_loose(file) => "unpack it and give it as `--split-file`".to_owned(),
            true => format!("give it as `--split-file {}`", shell_path(&source.locate(path))),
            false => "give the folder with the lists of all splits as `--split-file`".to_owned(),
        };
        return Err(failure(message, format!("{what}, or move it out of the source to prepare without it")));
    }
    Ok(())
}

fn form(name: &str) -> String {
    loosest(last_part(&tidy(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(images: &[(Option<Split>, SplitFrom)]) -> RawDataset {
        let image = |&(split, split_from): &(Option<Split>, SplitFrom)| RawImage {
            filename: "a.jpg".into(),
            captions: vec!["A".into()],
            extras: Vec::new(),
            split,
            split_from,
            cocoid: None,
        };
        let split_names = [Split::Train, Split::Val, Split::Test].map(|split| (split, format!("x_{}", split.name())));
        let is_there = |split: Split| images.iter().any(|(own, _)| *own == Some(split));
        RawDataset {
            images: images.iter().map(image).collect(),
            split_names: split_names.into_iter().filter(|(split, _)| is_there(*split)).collect(),
            ..RawDataset::default()
        }
    }

    fn settled(images: &[(Option<Split>, SplitFrom)], is_known: bool) -> (Vec<Option<Split>>, Vec<String>) {
        let mut raw = raw(images);
        settle(&mut raw, is_known);
        let notes = raw.repairs.into_iter().map(|repair| format!("{}: {}", repair.what, repair.repair)).collect();
        (raw.images.into_iter().map(|image| image.split).collect(), notes)
    }

    const SURE: SplitFrom = SplitFrom::Name { is_sure: true };
    const DOUBTFUL: SplitFrom = SplitFrom::Name { is_sure: false };
    const STATED: SplitFrom = SplitFrom::Annotations;
    const TRAIN: Option<Split> = Some(Split::Train);
    const VAL: Option<Split> = Some(Split::Val);
    const TEST: Option<Split> = Some(Split::Test);

    #[test]
    fn one_split_for_all_that_is_not_for_training_is_not_believed() {
        for from in [SURE, DOUBTFUL] {
            for split in [VAL, TEST] {
                let (splits, notes) = settled(&[(split, from), (split, from)], false);
                assert_eq!(splits, [None, None]);
                assert!(notes.len() == 1 && notes[0].contains("none left for training"), "{notes:?}");
            }
        }
        let (splits, notes) = settled(&[(VAL, SURE), (VAL, SURE)], true);
        assert_eq!(splits, [VAL, VAL], "COCO's validation images are no training images");
        assert!(notes[0].contains("val from \"x_val\""), "{notes:?}");
        assert_eq!(settled(&[(TRAIN, DOUBTFUL), (TRAIN, SURE)], false), (vec![TRAIN, TRAIN], vec![]));
    }

    #[test]
    fn names_that_divide_the_images_are_believed_and_reported() {
        for images in [
            [(TRAIN, SURE), (VAL, SURE)],
            [(TRAIN, DOUBTFUL), (VAL, DOUBTFUL)],
            [(VAL, SURE), (TEST, DOUBTFUL)],
            [(None, STATED), (TEST, SURE)],
        ] {
            let (splits, notes) = settled(&images, false);
            assert_eq!(splits, images.map(|(split, _)| split));
            assert!(notes.len() == 1 && notes[0].starts_with("the split: taken from names"), "{notes:?}");
        }
    }

    #[test]
    fn a_word_among_others_counts_only_where_every_image_has_one() {
        let (splits, notes) = settled(&[(None, STATED), (TEST, DOUBTFUL), (VAL, SURE)], false);
        assert_eq!(splits, [None, None, VAL]);
        assert!(
            notes[0].starts_with("x_test: not used as the name of the split test") && notes[1].contains("val from"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_stated_of_an_image_stays() {
        assert_eq!(settled(&[(VAL, STATED), (VAL, STATED)], false), (vec![VAL, VAL], vec![]));
        let (splits, _) = settled(&[(VAL, STATED), (VAL, SURE)], false);
        assert_eq!(splits, [VAL, None]);
    }
}
