//! Which of the annotations in a source are meant.

use crate::annotations::candidates::{Candidates, unnamed_pictures};
use crate::annotations::format::{Format, Match};
use crate::annotations::formats::{FORMATS, beside_images};
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::Repair;
use crate::annotations::training_files::{self, TrainingFile};
use crate::annotations::unread::UnreadFiles;
use crate::source::Source;
use base::digest::sha256;
use base::error::{failure, usage_error};
use pixels::picture_formats::format_of_name;

/// What `--dataset` asks for: a known data set, whatever its format, or any data set of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    Any,
    Dataset(KnownDataset),
    Format(&'static Format),
}

impl Selector {
    /// What is called `name`. A name with a slash is that of a repository of the Hub, which may have any format.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        if name.contains('/') {
            return Ok(Self::Any);
        }
        if let Some(known) = KnownDataset::named(name) {
            return Ok(Self::Dataset(known));
        }
        let names = || {
            let datasets = KnownDataset::ALL.into_iter().map(KnownDataset::name);
            datasets.chain(FORMATS.iter().map(|format| format.name)).collect::<Vec<_>>().join(", ")
        };
        FORMATS.iter().find(|format| format.name == name).map(|format| Self::Format(format)).ok_or_else(|| {
            usage_error(format!("unknown data set or format {name:?}"), format!("known names: {}", names()))
        })
    }

    fn allows(self, found: &Match) -> bool {
        match self {
            Self::Any => true,
            // Annotations that name no data set may be of any.
            Self::Dataset(known) => found.dataset.is_none_or(|dataset| dataset == known),
            Self::Format(format) => found.format == format,
        }
    }
}

/// What is read of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub found: Match,
    /// Files that contain captions, or could, and are not read, with the reasons.
    pub notes: Vec<Repair>,
    /// Files for training that are not read.
    pub training_files: Vec<TrainingFile>,
}

/// The annotations in `source` that are meant.
pub fn choose(source: &Source, wanted: Selector) -> anyhow::Result<Choice> {
    let mut candidates = Candidates::of(source);
    let mut all = Vec::new();
    for format in FORMATS {
        let found = (format.find)(&candidates)?;
        found.iter().for_each(|found| candidates.claim(found.files.iter().chain(&found.spare).copied()));
        all.extend(found);
    }
    remove_copies(source, &mut all);
    let unread = UnreadFiles::of(&candidates);
    let found = meant(source, wanted, &all, &unread)?;
    let others: Vec<&Match> = all.iter().filter(|other| **other != found).collect();
    unread.check(&found, &others, matches!(wanted, Selector::Format(_)))?;
    let training_files = training_files::of(source, &found, &others, &unread);
    let mut notes = Vec::new();
    for other in others {
        let note = format!("also found, and not used: {}", other.describe(source));
        notes.push(Repair::new("other annotations", note));
    }
    for &spare in &found.spare {
        let path = source.files()[spare].path.as_str();
        let first = &source.files()[found.files[0]].path;
        notes.push(Repair::new(path, format!("not used: {first} is read instead")));
    }
    notes.extend(source.remarks().iter().map(|(path, remark)| Repair::new(path, remark)));
    notes.extend(unread.notes(&found));
    notes.extend(training_files::notes(&training_files));
    if !all.iter().any(|found| *found.format == beside_images::SIDECAR) {
        notes.extend(beside_images::without_captions(source).map(|what| Repair::new("files beside images", what)));
    }
    Ok(Choice { found, notes, training_files })
}

/// Those of `all` that are read.
fn meant(source: &Source, wanted: Selector, all: &[Match], unread: &UnreadFiles<'_>) -> anyhow::Result<Match> {
    let mut fitting: Vec<&Match> = all.iter().filter(|found| wanted.allows(found)).collect();
    if let Selector::Dataset(known) = wanted
        && fitting.iter().any(|found| found.dataset == Some(known))
    {
        fitting.retain(|found| found.dataset == Some(known));
        // The first is the one that has most to say, unless several are of one format.
        let first = fitting[0];
        if fitting.iter().filter(|found| found.format == first.format).count() == 1 {
            return Ok(first.clone());
        }
    }
    // What lies beside the images, or is nearly of a form, counts only where nothing surer speaks of them.
    let surest = fitting.iter().map(|found| found.certainty).min();
    fitting.retain(|found| Some(found.certainty) == surest);
    match fitting.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(nothing_found(source, wanted, all, unread)),
        [first, ..] => {
            let names: Vec<String> = fitting.iter().map(|found| found.describe(source)).collect();
            let message = format!("the source contains several kinds of annotations: {}", names.join(", "));
            let one_format = fitting.iter().all(|found| found.format == first.format);
            let choose = if one_format { "" } else { "choose one with `--dataset NAME`, or " };
            Err(usage_error(message, format!("{choose}give a folder that has only one")))
        }
    }
}

/// Of annotation files of one name and content the first is kept, as an archive may lie beside some of its files.
fn remove_copies(source: &Source, all: &mut Vec<Match>) {
    // More are one for each image.
    const MAX_COMPARED: usize = 200;
    let mut seen: Vec<(&str, u64, Option<String>, usize)> = Vec::new();
    for found in all.iter_mut().filter(|found| found.files.len() <= MAX_COMPARED) {
        let mut kept = Vec::new();
        for &index in &found.files {
            let file = &source.files()[index];
            let mut is_copy = false;
            let alike = |(name, bytes, ..): &&mut (&str, u64, _, _)| *name == file.name() && *bytes == file.bytes;
            // Whole Parquet files are not compared for nothing.
            let is_elsewhere =
                |(.., other): &&mut (&str, u64, _, usize)| source.is_loose(*other) != source.is_loose(index);
            for (.., digest, other) in seen.iter_mut().filter(alike).filter(is_elsewhere) {
                let theirs = match digest {
                    Some(digest) => digest.clone(),
                    None => digest.insert(sha256(&source.glance(*other, u64::MAX))).clone(),
                };
                is_copy |= theirs == sha256(&source.glance(index, u64::MAX));
            }
            if !is_copy {
                seen.push((file.name(), file.bytes, None, index));
                kept.push(index);
            }
        }
        found.files = kept;
    }
    all.retain(|found| !found.files.is_empty());
}

fn nothing_found(source: &Source, wanted: Selector, all: &[Match], unread: &UnreadFiles<'_>) -> anyhow::Error {
    let num_images = source.find(|file| format_of_name(&file.path).is_some()).len();
    let (what, forms): (String, Vec<&str>) = match wanted {
        Selector::Format(format) => (format!("of format {}", format.name), vec![format.description]),
        Selector::Dataset(known) => {
            (format!("of {}", known.name()), FORMATS.iter().map(|format| format.description).collect())
        }
        Selector::Any => ("in a known format".to_owned(), FORMATS.iter().map(|format| format.description).collect()),
    };
    let known = forms.join("; ");
    if let Some(reason) = unread.only_one().filter(|_| all.is_empty()) {
        return failure(reason, format!("known formats: {known}"));
    }
    let mut message =
        format!("found no captions {what} among {} files, {num_images} of them images", source.files().len());
    if !all.is_empty() {
        let others: Vec<String> = all.iter().map(|found| found.describe(source)).collect();
        message.push_str(&format!("; found {}", others.join(", ")));
    }
    message.push_str(&unread.in_a_message());
    message.extend(beside_images::without_captions(source).map(|what| format!("; {what}")));
    message.push_str(&source.describe_skipped());
    message.extend(source.remarks().iter().map(|(path, remark)| format!("; {path}: {remark}")));
    message.extend(unnamed_pictures(source, |_| false).map(|unnamed| format!("; {unnamed}")));
    for unread in source.unread_pictures() {
        message.push_str(&format!("; {unread}, are not supported: convert them to JPEG or PNG"));
    }
    failure(message, format!("put the captions beside the images, as one of: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    #[test]
    fn an_unknown_name_is_a_mistake_of_usage_and_all_names_are_reported() {
        let error = Selector::named("flickr9k").unwrap_err();
        let text = describe(&error);
        assert!(is_usage_error(&error) && text.contains("flickr30k") && text.contains("webdataset"), "{text}");
        assert_eq!(Selector::named("coco").unwrap(), Selector::Dataset(KnownDataset::Coco));
        assert_eq!(
            Selector::named("table").unwrap(),
            Selector::Format(FORMATS.iter().find(|format| format.name == "table").unwrap())
        );
    }

    #[test]
    fn every_name_means_one_thing() {
        let mut names: Vec<&str> = KnownDataset::ALL.into_iter().map(KnownDataset::name).collect();
        names.extend(FORMATS.iter().map(|format| format.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
