//! Files that contain captions, or could, and that no reader takes: each is named with the reason. One that belongs to
//! files that are read, as `captions_train.json` does to `captions_val.json`, is an error: its captions would be
//! missing.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::family::Family;
use crate::annotations::file_names::{has_ending, has_word, may_hold_captions, unwrapped, wrapping};
use crate::annotations::format::{Certainty, Match};
use crate::annotations::formats::beside_images;
use crate::annotations::json::shape::JsonShape;
use crate::annotations::layout::Layout;
use crate::annotations::raw_dataset::Repair;
use crate::prepared::Split;
use crate::source::{Source, TEXTS};
use base::error::failure;
use pixels::picture_formats::is_image_name;

/// Files that are named in a message.
const MAX_IN_A_MESSAGE: usize = 5;
/// Files that are named in the notes; of each kind the rest are counted.
const MAX_IN_NOTES: usize = 50;
/// Words in the names of files that contain captions.
const WORDS: [&str; 6] = ["caption", "annotation", "metadata", "dataset", "sentence", "description"];

/// The files of a source that are not read.
pub(crate) struct UnreadFiles<'a> {
    source: &'a Source,
    files: Vec<UnreadFile<'a>>,
    /// What was skipped when the source was opened, which is reported elsewhere.
    skipped: Vec<UnreadFile<'a>>,
    /// Files too numerous in a folder to be looked into: the first, and their number.
    many: Vec<(&'a str, usize)>,
}

struct UnreadFile<'a> {
    path: Cow<'a, str>,
    reason: String,
    kind: Relevance,
    /// It is text or was meant to be.
    is_text: bool,
}

/// What is known of a file that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relevance {
    /// It cannot be read, and seems to contain captions.
    Broken,
    /// It can be read, and seems to have been meant to contain captions.
    Near,
    /// It says nothing of images or captions.
    Other,
}

impl<'a> UnreadFiles<'a> {
    /// What no format has claimed.
    pub(crate) fn of(candidates: &Candidates<'a>) -> Self {
        let source = candidates.source;
        let path = |file: usize| source.files()[file].path.as_str();
        let looked_at = candidates.open().iter().map(|(file, content)| UnreadFile::of(path(*file), content));
        let packed = source.packed().map(|path| {
            let kind = if is_packed_text(path) && names_captions(path) { Relevance::Broken } else { Relevance::Near };
            let reason = format!("cannot be read: {}", way_out(path));
            UnreadFile { path: path.into(), reason, kind, is_text: false }
        });
        let skipped = source.skipped().into_iter().filter(|(path, _)| !is_image_name(path));
        let skipped = skipped.map(|(path, reason)| {
            let is_meant = is_packed_text(&path) || may_hold_captions(&path);
            let kind = if is_meant && names_captions(&path) { Relevance::Broken } else { Relevance::Near };
            UnreadFile { path: path.into(), reason: format!("was skipped: {reason}"), kind, is_text: false }
        });
        let many = candidates.many.iter().map(|&(file, count)| (path(file), count)).collect();
        Self { source, files: looked_at.chain(packed).collect(), skipped: skipped.collect(), many }
    }

    /// Checks that nothing is missing of what is read.
    pub(crate) fn check(&self, found: &Match, others: &[&Match], is_asked_for: bool) -> anyhow::Result<()> {
        if found.certainty == Certainty::Beside {
            return self.check_beside(found, is_asked_for);
        }
        // Each image has its own file.
        if *found.format == beside_images::WEBDATASET {
            return Ok(());
        }
        self.check_sisters(found, others, is_asked_for)
    }

    /// [`UnreadFiles::check`] where texts beside the images were found.
    fn check_beside(&self, found: &Match, is_asked_for: bool) -> anyhow::Result<()> {
        let is_meant = |file: &UnreadFile<'_>| file.is_text || has_word(&file.path, "caption");
        let all = self.files.iter().chain(&self.skipped);
        let mut broken = all.filter(|file| file.kind == Relevance::Broken && is_meant(file));
        match broken.next().filter(|_| !is_asked_for) {
            None => Ok(()),
            Some(file) => {
                let message = format!("{} {}", file.path, file.reason);
                let hint = format!(
                    "repair it or move it out of the source; to use the files beside the images instead, give --dataset {}",
                    found.format.name
                );
                Err(failure(message, hint))
            }
        }
    }

    /// [`UnreadFiles::check`] where files of captions were found.
    fn check_sisters(&self, found: &Match, others: &[&Match], is_asked_for: bool) -> anyhow::Result<()> {
        let path = |file: usize| self.source.files()[file].path.as_str();
        let read: Vec<(Family, &str)> = found.files.iter().map(|&file| (Family::of(path(file)), path(file))).collect();
        let missing = |other: &str| {
            let family = Family::of(other);
            let sister = read.iter().find(|(known, _)| known.is_sister(&family))?;
            let is_there = read.iter().any(|(known, _)| known.is_same_part(&family));
            (!is_there).then_some((family, sister.1))
        };
        let has_train = read.iter().any(|(family, _)| family.split == Some(Split::Train));
        for file in self.files.iter().chain(&self.skipped) {
            let Some((family, sister)) = missing(&file.path) else { continue };
            let lacks_train = family.split == Some(Split::Train) && !has_train;
            if file.kind == Relevance::Broken || file.kind == Relevance::Near && lacks_train {
                let message = format!(
                    "{sister} can be used, but {}, which belongs with it by its name, {}",
                    file.path, file.reason
                );
                return Err(failure(
                    message,
                    "repair the file, or move it out of the source to prepare the rest without it",
                ));
            }
        }
        let are_few =
            |other: &&&Match| other.certainty != Certainty::Beside && *other.format != beside_images::WEBDATASET;
        for other in others.iter().filter(are_few).filter(|_| !is_asked_for) {
            for &file in &other.files {
                if let Some((_, sister)) = missing(path(file)) {
                    let message = format!(
                        "{sister} is read as {}, and {}, which belongs with it by its name, as {}",
                        found.format.name,
                        path(file),
                        other.format.name
                    );
                    return Err(failure(
                        message,
                        "write both in one form, or move one out of the source to prepare the rest without it",
                    ));
                }
            }
        }
        Ok(())
    }

    /// What is known of the file at `path`, where it was looked at or skipped.
    pub(crate) fn reason(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().chain(&self.skipped).find(|file| file.path == path)?;
        Some(&file.reason)
    }

    /// A line for each file that has something to do with captions; the others are counted, and so are those like the
    /// texts beside images that are read.
    pub(crate) fn notes(&self, found: &Match) -> Vec<Repair> {
        let mut notes = Vec::new();
        let beside = self.beside_images(found);
        let is_orphan = |file: &&UnreadFile<'_>| {
            file.is_text
                && file.kind != Relevance::Broken
                && beside.contains(&folder_and_ending(&file.path))
                && !names_captions(&file.path)
        };
        let (orphans, files): (Vec<&UnreadFile<'_>>, Vec<&UnreadFile<'_>>) = self.files.iter().partition(is_orphan);
        if let Some(first) = orphans.first() {
            let note = format!("not used: no images with their names are beside them, such as {}", first.path);
            notes.push(Repair::new(format!("{} texts", orphans.len()), note));
        }
        let named: Vec<&UnreadFile<'_>> = files.iter().copied().filter(|file| file.kind != Relevance::Other).collect();
        for file in named.iter().take(MAX_IN_NOTES) {
            notes.push(Repair::new(&*file.path, file.reason.clone()));
        }
        if let Some(rest) = named.len().checked_sub(MAX_IN_NOTES).filter(|&rest| rest > 0) {
            notes.push(Repair::new(format!("{rest} more files"), "not used either"));
        }
        let others: Vec<&str> =
            files.iter().filter(|file| file.kind == Relevance::Other).map(|file| &*file.path).collect();
        if let Some(first) = others.first() {
            let what = format!("{} other files", others.len());
            notes.push(Repair::new(
                what,
                format!("not used: they contain no captions in a known format, such as {first}"),
            ));
        }
        for (first, count) in &self.many {
            let note = "not read: so many files of one kind in a folder should be one per image, but no images with \
                        their names are beside them";
            notes.push(Repair::new(format!("{count} files such as {first}"), note));
        }
        notes
    }

    /// The folders of texts beside images, and how these end.
    fn beside_images(&self, found: &Match) -> HashSet<(&str, &str)> {
        let is_beside = found.certainty == Certainty::Beside || *found.format == beside_images::WEBDATASET;
        let texts = found.files.iter().filter(|_| is_beside);
        texts.map(|&file| folder_and_ending(&self.source.files()[file].path)).collect()
    }

    /// What is wrong with the file where the source is that one.
    pub(crate) fn only_one(&self) -> Option<String> {
        let [only] = self.source.files() else { return None };
        let file = self.files.iter().find(|file| file.path == only.path)?;
        Some(format!("{} {}", file.path, file.reason))
    }

    /// The files in a message that says that nothing was found; what has something to do with captions comes first.
    pub(crate) fn in_a_message(&self) -> String {
        let mut files: Vec<&UnreadFile<'_>> = self.files.iter().collect();
        files.sort_by_key(|file| match file.kind {
            Relevance::Broken => 0,
            Relevance::Near => 1,
            Relevance::Other => 2,
        });
        let mut message = String::new();
        for file in files.iter().take(MAX_IN_A_MESSAGE) {
            message.push_str(&format!("; {} {}", file.path, file.reason));
        }
        if files.len() > MAX_IN_A_MESSAGE {
            message.push_str(&format!("; {} more files are not read either", files.len() - MAX_IN_A_MESSAGE));
        }
        if let Some((first, count)) = self.many.first() {
            message.push_str(&format!("; {count} files such as {first} have no images of the same names beside them"));
        }
        message
    }
}

impl<'a> UnreadFile<'a> {
    fn of(path: &'a str, content: &Content) -> Self {
        let near = |is_near: bool| if is_near || names_captions(path) { Relevance::Near } else { Relevance::Other };
        let (reason, kind) = match content {
            Content::Broken { reason, speaks_of_captions } => {
                // Notes about images come as texts.
                let is_meant = *speaks_of_captions && !has_ending(path, ".txt") || names_captions(path);
                let kind = if is_meant { Relevance::Broken } else { Relevance::Other };
                let reason = format!("cannot be read: {reason}");
                return Self { path: path.into(), reason, kind, is_text: true };
            }
            Content::NotRead(what) => {
                let kind = if names_captions(path) { Relevance::Broken } else { Relevance::Other };
                let reason = format!("cannot be read: it is {what}");
                return Self { path: path.into(), reason, kind, is_text: false };
            }
            Content::Foreign(what) => ((*what).to_owned(), Relevance::Near),
            Content::Json(JsonShape::Lines(seen)) => {
                let keys = seen.keys.join(", ");
                let is_near = seen.has.captions || seen.has.name;
                (format!("JSON Lines of objects with the keys {keys}: {}", seen.lacks()), near(is_near))
            }
            Content::Json(JsonShape::Document(document)) => {
                let is_near = document.lists.iter().any(|(_, seen)| seen.has.captions || seen.has.name);
                (document.explain(), near(is_near))
            }
            Content::Text(Layout::Other(reason, is_near)) => {
                // Lists of the images of a split are often beside captions.
                let is_list = has_ending(path, ".txt") && !WORDS.iter().any(|word| has_word(path, word));
                (reason.clone(), if is_list && !is_near { Relevance::Other } else { near(*is_near) })
            }
            Content::Text(_) => ("the images that it names are not in the source".to_owned(), Relevance::Near),
            Content::Parquet(columns) => (columns.explain(), near(columns.is_near())),
        };
        let reason = format!("contains no captions that can be read: {reason}");
        Self { path: path.into(), reason, kind, is_text: true }
    }
}

fn folder_and_ending(path: &str) -> (&str, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    (folder, name.rsplit_once('.').map_or("", |(_, ending)| ending))
}

/// Whether the name of a file says that it contains captions, or a split.
fn names_captions(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    WORDS.iter().any(|word| has_word(name, word)) || Family::of(name).split.is_some()
}

/// Whether a packed file is not an archive, in which images may lie as well.
fn is_packed_text(path: &str) -> bool {
    const TABLES: [&str; 5] = [".parquet", ".arrow", ".pkl", ".pickle", ".p"];
    let inside = unwrapped(path);
    TABLES.iter().any(|ending| has_ending(path, ending))
        || wrapping(path).is_some() && TEXTS.iter().any(|ending| has_ending(inside, ending))
}

/// What can be done about a file that is packed or of a kind that is not read.
fn way_out(path: &str) -> &'static str {
    if has_ending(path, ".arrow") {
        "turn it into Parquet, CSV or JSON Lines"
    } else if [".pkl", ".pickle", ".p"].iter().any(|ending| has_ending(path, ending)) {
        "a pickle can run any program; turn it into CSV or JSON Lines"
    } else {
        "unpack it"
    }
}
