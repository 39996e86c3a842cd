//! What the user wants to know about a preparation, in a few lines.

use std::collections::BTreeMap;

use crate::output::{Counts, Origin};
use crate::prepare::request::{Done, Outcome};
use crate::prepared::PREPARATION_FILE;
use base::quoting::toml_line;
use base::visible::line;

/// The outcome as lines for the user. What happened to many is reported once, with an example.
pub fn summary(outcome: &Outcome) -> String {
    const NUM_SHOWN: usize = 12;
    let report = &outcome.report;
    let done = match outcome.done {
        Done::Prepared => "prepared in",
        Done::AlreadyPrepared => "was prepared before, nothing to do:",
        Done::DryRun => "would be prepared in",
    };
    let (images, captions) = (report.images, report.captions);
    let mut lines = vec![format!("data set {} {done} {}", report.dataset, outcome.directory.display())];
    if !report.format.is_empty() {
        lines.push(format!("  captions as {}", report.format));
    }
    if let Some(Origin { repository, revision, commit, config, .. }) = &report.origin {
        let revision = revision.as_ref().map_or_else(String::new, |revision| format!("{revision} at "));
        let config = config.as_ref().map_or_else(String::new, |config| format!(", config {config}"));
        lines.push(line(&format!("  from {repository}, {revision}commit {commit}{config}")).into_owned());
    }
    for (split, images, captions) in [
        ("train", images.train, captions.train),
        ("val", images.val, captions.val),
        ("test", images.test, captions.test),
    ] {
        lines.push(format!("  {split:<5} {images:>7} images {captions:>8} captions"));
    }
    if let Some(statistics) = &report.statistics {
        lines.extend(statistics.summary().lines().map(|line| format!("  {}", line.trim_start())));
    }
    for filter in &report.filtered {
        lines.push(format!("  {}: {} left out", filter.filter, filter.amount()));
    }
    let repairs = report.repairs.iter().map(|repair| (repair.what.as_str(), repair.repair.as_str()));
    let rejects = report.rejects.iter().map(|reject| (reject.what.as_str(), reject.reason.as_str()));
    let notes: [(&str, Vec<(&str, &str)>); 2] = [("note", repairs.collect()), ("left out", rejects.collect())];
    for (title, notes) in notes {
        let kinds = kinds(&notes);
        lines.extend(kinds.iter().take(NUM_SHOWN).map(|kind| format!("  {title}: {kind}")));
        if kinds.len() > NUM_SHOWN {
            let place = match outcome.done {
                Done::DryRun => format!("which {PREPARATION_FILE} would list"),
                Done::Prepared | Done::AlreadyPrepared => format!("listed in {PREPARATION_FILE}"),
            };
            lines.push(format!("  and {} more kinds, {place}", kinds.len() - NUM_SHOWN));
        }
    }
    lines.join("\n")
}

/// Why nothing can be trained on these images, and what to do about it; `None` where something can.
pub fn lack_of_images(images: &Counts) -> Option<String> {
    const WAY_OUT: &str =
        "to train on them, give a split with training images with `--split-file`, and another `--output`";
    if images.train == 0 {
        let Counts { val, test, .. } = images;
        return Some(format!("no image is for training, {val} are for validation and {test} for testing; {WAY_OUT}"));
    }
    (images.train == 1 && images.val == 0).then(|| "there is one image, which is too few to train on".to_owned())
}

/// That there are fewer images than were asked for, where more could be downloaded; `None` where there are enough.
pub fn lack_of_limit(images: &Counts, limit: usize) -> Option<String> {
    let left = images.train + images.val + images.test;
    (left < limit).then(|| {
        format!(
            "{left} images are left of the {limit} that `--limit` asks for: rows for so many were downloaded, and the \
             filters, images that cannot be used and images of several rows have taken from them; to have more, give a \
             larger `--limit` and another `--output`"
        )
    })
}

/// What to do after a preparation.
pub fn next_step(outcome: &Outcome) -> String {
    let Some(line) = toml_line("data.directory", &outcome.directory) else {
        return "next: rename the folder, since a config file cannot hold a path that is not UTF-8; then name it in \
                `data.directory`"
            .to_owned();
    };
    // A run needs validation images.
    let draw = if outcome.report.images.val == 0 { " and `data.split = \"random\"`" } else { "" };
    format!("next: train with `{line}`{draw} in a config file: caption-train --config run.toml")
}

/// What notes have in common that differ in numbers and names of files only.
pub(super) fn kind_of(text: &str) -> String {
    let is_plain = |word: &&str| !word.contains(|character: char| character.is_ascii_digit() || character == '.');
    text.split_whitespace().filter(is_plain).collect::<Vec<_>>().join(" ")
}

/// One line for each kind of note, in the order of their first.
fn kinds(notes: &[(&str, &str)]) -> Vec<String> {
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut kinds: Vec<(usize, &str, &str)> = Vec::new();
    for &(what, text) in notes {
        let next = kinds.len();
        let index = *place.entry(kind_of(text)).or_insert(next);
        if index == next {
            kinds.push((0, what, text));
        }
        kinds[index].0 += 1;
    }
    let shown = |(count, what, text): (usize, &str, &str)| match count {
        1 => format!("{}: {}", line(what), line(text)),
        _ => format!("{count} times, first {}: {}", line(what), line(text)),
    };
    kinds.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_cannot_be_trained_on_are_warned_of() {
        let lack = |train, val, test| lack_of_images(&Counts { train, val, test });
        assert!(lack(0, 5, 1).unwrap().contains("no image is for training, 5 are for validation and 1 for testing"));
        assert!(lack(1, 0, 0).unwrap().contains("too few"));
        assert_eq!((lack(1, 1, 0), lack(2, 0, 0)), (None, None));
    }

    #[test]
    fn what_happened_to_many_is_reported_once() {
        let notes = [
            ("a.jpg", "there is no such image file; captions left out: 5"),
            ("b.jpg\nerror: x", "the caption is empty"),
            ("c.jpg", "there is no such image file; captions left out: 4"),
        ];
        let expected = [
            "2 times, first a.jpg: there is no such image file; captions left out: 5",
            "b.jpg\\nerror: x: the caption is empty",
        ];
        assert_eq!(kinds(&notes), expected);
    }
}
