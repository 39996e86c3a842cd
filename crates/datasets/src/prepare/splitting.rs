//! Which image is for what: as the annotations say, as the user's file says, or drawn.

use std::collections::BTreeMap;

use crate::annotations::{KnownDataset, Repair};
use crate::prepared::Split;
use base::error::usage_error;
use base::random::Stream;

/// Share of the images that are drawn for validation if no list says which.
pub(super) const DEFAULT_VALIDATION: f64 = 0.1;

pub(super) struct Candidate<'a> {
    pub(super) filename: &'a str,
    pub(super) split: Option<Split>,
    /// Images of one content share a key, and with it a side.
    pub(super) content: [u8; 32],
}

/// The split of each image; images without one are for training, and of the training images the shares asked for are
/// drawn for validation and testing; `default` for validation where none is asked for. The draw depends on names and
/// contents only, and pictures of one content come to one side.
pub(super) fn assign(
    images: &[Candidate<'_>],
    validation: Option<f64>,
    test: Option<f64>,
    default: f64,
    repairs: &mut Vec<Repair>,
) -> anyhow::Result<Vec<Split>> {
    let has = |split| images.iter().any(|image| image.split == Some(split));
    for (flag, asked, split) in [("validation", validation, Split::Val), ("test", test, Split::Test)] {
        if asked.is_some() && has(split) {
            let message =
                format!("--{flag}-fraction was given, but the annotations already name {} images", split.name());
            return Err(usage_error(message, "leave it out, or give a split of your own with `--split-file`"));
        }
    }
    let mut splits: Vec<Split> = images.iter().map(|image| image.split.unwrap_or(Split::Train)).collect();
    let num_without = images.iter().filter(|image| image.split.is_none()).count();
    if num_without > 0 && num_without < images.len() {
        let note = "the annotations name no split for them: used for training";
        repairs.push(Repair::new(format!("{num_without} images"), note));
    }
    let share = validation.unwrap_or(if has(Split::Val) { 0.0 } else { default });
    let mut groups: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (index, image) in images.iter().enumerate().filter(|(index, _)| splits[*index] == Split::Train) {
        groups.entry(image.content).or_default().push(index);
    }
    let num_train: usize = groups.values().map(Vec::len).sum();
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_key(|group| group.iter().map(|&index| images[index].filename).min());
    Stream::new(0, "prepare", "split").shuffle(&mut groups);
    for (share, split) in [(test.unwrap_or(0.0), Split::Test), (share, Split::Val)] {
        if share <= 0.0 || groups.len() < 2 {
            continue;
        }
        let wanted = ((num_train as f64 * share).round() as usize).max(1);
        let mut taken = 0;
        while taken < wanted && groups.len() > 1 {
            let group = groups.pop().unwrap_or_default();
            taken += group.len();
            group.into_iter().for_each(|index| splits[index] = split);
        }
        let note = format!("drawn for {} from the training images, since no list says which", split.name());
        repairs.push(Repair::new(format!("{taken} images"), note));
    }
    Ok(splits)
}

/// Notes whether the annotated split is the one that papers report on. A split of which nothing is annotated
/// says nothing.
pub(super) fn check_official(known: KnownDataset, counts: [usize; 3], repairs: &mut Vec<Repair>) {
    let Some(expected) = known.official_sizes() else { return };
    let has_a_test = counts[1..].iter().any(|&count| count > 0);
    if !has_a_test || counts.iter().zip(expected).all(|(&count, expected)| count == expected || count == 0) {
        return;
    }
    let shown = |counts: [usize; 3]| counts.map(|count| count.to_string()).join(" / ");
    let other = known.other_sizes().iter().find(|(sizes, _)| *sizes == counts);
    let known_as = other.map_or_else(String::new, |(_, name)| format!(": it is the split of {name}"));
    let note = format!(
        "{} images, Karpathy's split, which papers report on, has {}{known_as}; scores are not comparable",
        shown(counts),
        shown(expected)
    );
    repairs.push(Repair::new(format!("the split of {}", known.name()), note));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(names: &[String], split: Option<Split>) -> Vec<Candidate<'_>> {
        let content = |name: &String| base::digest::sha256(name.as_bytes()).as_bytes()[..32].try_into().unwrap();
        names.iter().map(|name| Candidate { filename: name, split, content: content(name) }).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number}.jpg")).collect()
    }

    fn count(splits: &[Split], wanted: Split) -> usize {
        splits.iter().filter(|&&split| split == wanted).count()
    }

    #[test]
    fn a_tenth_is_drawn_for_validation_where_nobody_says_which() {
        let names = names(200);
        let mut repairs = Vec::new();
        let splits = assign(&candidates(&names, None), None, None, DEFAULT_VALIDATION, &mut repairs).unwrap();
        assert_eq!((count(&splits, Split::Val), count(&splits, Split::Test)), (20, 0));
        assert!(repairs[0].what == "20 images" && repairs[0].repair.contains("drawn for val"), "{repairs:?}");
        let mut backward: Vec<Candidate<'_>> = candidates(&names, None);
        backward.reverse();
        let mut again = assign(&backward, None, None, DEFAULT_VALIDATION, &mut repairs).unwrap();
        again.reverse();
        assert_eq!(splits, again);
    }

    #[test]
    fn shares_may_be_chosen_and_zero_is_none() {
        let names = names(100);
        let drawn = |validation, test| {
            let splits =
                assign(&candidates(&names, None), validation, test, DEFAULT_VALIDATION, &mut Vec::new()).unwrap();
            (count(&splits, Split::Val), count(&splits, Split::Test))
        };
        assert_eq!(drawn(Some(0.2), Some(0.3)), (20, 30));
        assert_eq!(drawn(Some(0.0), None), (0, 0));
        let one = &names[..1];
        assert_eq!(
            assign(&candidates(one, None), None, None, DEFAULT_VALIDATION, &mut Vec::new()).unwrap(),
            [Split::Train]
        );
    }

    #[test]
    fn pictures_of_one_content_come_to_one_side() {
        let names = names(40);
        let mut images = candidates(&names, None);
        for index in (0..40).step_by(2) {
            images[index + 1].content = images[index].content;
        }
        let splits = assign(&images, Some(0.3), Some(0.3), DEFAULT_VALIDATION, &mut Vec::new()).unwrap();
        assert!((0..40).step_by(2).all(|index| splits[index] == splits[index + 1]));
        assert_eq!((count(&splits, Split::Val), count(&splits, Split::Test)), (12, 12));
    }

    #[test]
    fn named_splits_are_kept_and_cannot_be_drawn_again() {
        let names = names(10);
        let mut images = candidates(&names, Some(Split::Train));
        images[3].split = Some(Split::Val);
        images[4].split = None;
        let mut repairs = Vec::new();
        let splits = assign(&images, None, None, DEFAULT_VALIDATION, &mut repairs).unwrap();
        assert_eq!((count(&splits, Split::Val), splits[3]), (1, Split::Val));
        assert_eq!(repairs[0].what, "1 images");
        assert!(base::error::is_usage_error(
            &assign(&images, Some(0.5), None, DEFAULT_VALIDATION, &mut repairs).unwrap_err()
        ));
        assert_eq!(count(&assign(&images, None, Some(0.5), DEFAULT_VALIDATION, &mut repairs).unwrap(), Split::Test), 5);
    }

    #[test]
    fn a_split_that_papers_do_not_report_on_is_noted() {
        let noted_of = |known, counts| {
            let mut repairs = Vec::new();
            check_official(known, counts, &mut repairs);
            repairs.pop().map(|repair| repair.repair)
        };
        let noted = |counts| noted_of(KnownDataset::Flickr30k, counts);
        assert_eq!(noted([29_000, 1_014, 1_000]), None);
        assert_eq!((noted([31_783, 0, 0]), noted([29_000, 1_014, 0])), (None, None));
        assert!(noted([29_783, 1_000, 1_000]).unwrap().contains("Flickr30k Entities"));
        assert!(noted([28_000, 1_014, 1_000]).unwrap().contains("29000 / 1014 / 1000"));
        assert!(noted_of(KnownDataset::Coco, [118_287, 5_000, 0]).unwrap().contains("COCO 2017"));
    }
}
