//! What the captions of a data set are like, and which of them are worth a look: by what `preparation.json` counts too,
//! and by what only reading them shows.

use std::cmp::Reverse;

use crate::output::caption_statistics::{CaptionSurvey, LengthStatistics, OutlierKind, Script, Usual};
use crate::prepared::Dataset;
use base::visible::is_hidden;

/// Captions that are listed of each kind, at most.
const NUM_LISTED: usize = 200;
/// Captions of several images that are listed.
const NUM_REPEATED: usize = 100;
/// Images that are listed of each of them.
const NUM_IMAGES: usize = 8;
const NUM_WORDS: usize = 40;

/// Why a caption is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// As [`OutlierKind`]; a caption is counted once, as the first of them.
    Outlier(OutlierKind),
    /// It has characters that nobody sees, or that stand for one that was lost.
    Hidden,
    /// It has an address, or a tag or a character entity of HTML.
    Markup,
}

/// A caption, by its image and its place among the captions of that image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddCaption {
    pub image: usize,
    pub caption: usize,
    /// In a few words.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddKind {
    pub oddity: Oddity,
    /// All of them.
    pub count: usize,
    /// The first 200.
    pub first: Vec<OddCaption>,
}

/// A caption that several images have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedCaption {
    pub num_images: usize,
    /// One (image, caption) of each of the first 8 images.
    pub first: Vec<(usize, usize)>,
}

/// A word, in lower case and without punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Times that it is there.
    pub count: usize,
    /// Images that have it in a caption.
    pub num_images: usize,
}

/// Numbers about all captions.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionFacts {
    pub num_captions: usize,
    /// In words.
    pub lengths: LengthStatistics,
    /// (words, captions of that many), by the number of words.
    pub num_of_length: Vec<(usize, usize)>,
    pub vocabulary: usize,
    /// The 40 most frequent words, from the most frequent.
    pub words: Vec<Word>,
    /// (script, captions whose letters are mostly of it), from the most frequent.
    pub scripts: Vec<(&'static str, usize)>,
    /// Captions that have a prompt of their own.
    pub num_prompts: usize,
    /// Captions of a weight other than 1.
    pub num_weights: usize,
    /// Each kind, also those without a caption.
    pub odd: Vec<OddKind>,
    /// Captions of any of these kinds.
    pub num_odd: usize,
    /// Captions whose words are also those of a caption of another image.
    pub num_repeated: usize,
    /// The 100 texts of most images, from the most frequent.
    pub repeated: Vec<RepeatedCaption>,
}

/// Reads all captions of `dataset`.
pub fn caption_facts(dataset: &Dataset) -> CaptionFacts {
    let survey = CaptionSurvey::of(dataset.images.iter().map(|image| image.captions()));
    let usual = Usual::of(&survey);
    let kinds = OutlierKind::ALL.map(Oddity::Outlier).into_iter().chain([Oddity::Hidden, Oddity::Markup]);
    let mut odd: Vec<OddKind> = kinds.map(|oddity| OddKind { oddity, count: 0, first: Vec::new() }).collect();
    let (mut num_prompts, mut num_weights, mut num_odd) = (0, 0, 0);
    // Of each caption, in their order.
    let mut places = Vec::with_capacity(survey.num_captions());
    for (image, record) in dataset.images.iter().enumerate() {
        for (caption, text) in record.captions().enumerate() {
            places.push((image, caption));
            num_prompts += usize::from(record.prompt(caption).is_some());
            num_weights += usize::from(!record.weight(caption).is_one());
            let outlier = usual.objection(text).map(|(kind, reason)| (Oddity::Outlier(kind), reason));
            let hidden = hidden(text).map(|reason| (Oddity::Hidden, reason));
            let markup = markup(text).map(|reason| (Oddity::Markup, reason.to_owned()));
            num_odd += usize::from(outlier.is_some() || hidden.is_some() || markup.is_some());
            for (oddity, reason) in [outlier, hidden, markup].into_iter().flatten() {
                let Some(kind) = odd.iter_mut().find(|kind| kind.oddity == oddity) else { continue };
                kind.count += 1;
                if kind.first.len() < NUM_LISTED {
                    kind.first.push(OddCaption { image, caption, reason });
                }
            }
        }
    }
    let (num_repeated, repeated) = repeated(&survey, &places);
    CaptionFacts {
        num_captions: survey.num_captions(),
        lengths: survey.lengths(),
        num_of_length: survey.num_of_length.iter().map(|(&length, &count)| (length, count)).collect(),
        vocabulary: survey.vocabulary.len(),
        words: frequent_words(&survey),
        scripts: scripts(&survey),
        num_prompts,
        num_weights,
        odd,
        num_odd,
        num_repeated,
        repeated,
    }
}

fn frequent_words(survey: &CaptionSurvey) -> Vec<Word> {
    let mut words: Vec<_> = survey.vocabulary.iter().collect();
    words.sort_unstable_by_key(|(text, word)| (Reverse(word.count), *text));
    words.truncate(NUM_WORDS);
    let words = words.into_iter();
    words.map(|(text, word)| Word { text: text.to_string(), count: word.count, num_images: word.num_images }).collect()
}

fn scripts(survey: &CaptionSurvey) -> Vec<(&'static str, usize)> {
    let name = |script: Script| if script == Script::Other { "another script" } else { script.name() };
    let mut scripts: Vec<_> = survey.num_in_script.iter().map(|(&script, &count)| (name(script), count)).collect();
    let num_without = survey.num_captions() - scripts.iter().map(|(_, count)| count).sum::<usize>();
    if num_without > 0 {
        scripts.push(("several, or no letters", num_without));
    }
    scripts.sort_by_key(|(_, count)| Reverse(*count));
    scripts
}

/// Captions of several images: their number, and the most frequent texts. `places` has the (image, caption) of each.
fn repeated(survey: &CaptionSurvey, places: &[(usize, usize)]) -> (usize, Vec<RepeatedCaption>) {
    let mut texts: Vec<(u64, usize)> = survey.texts.iter().map(|(hash, _)| *hash).zip(0..).collect();
    texts.sort_unstable();
    let (mut count, mut repeated) = (0, Vec::new());
    for group in texts.chunk_by(|one, other| one.0 == other.0) {
        let mut first: Vec<(usize, usize)> = group.iter().map(|(_, caption)| places[*caption]).collect();
        first.dedup_by_key(|(image, _)| *image);
        let num_images = first.len();
        if num_images > 1 {
            count += group.len();
            first.truncate(NUM_IMAGES);
            repeated.push(RepeatedCaption { num_images, first });
        }
    }
    repeated.sort_by_key(|caption| (Reverse(caption.num_images), caption.first[0]));
    repeated.truncate(NUM_REPEATED);
    (count, repeated)
}

/// The code of the first character that nobody sees, or that stands for one that was lost.
fn hidden(caption: &str) -> Option<String> {
    let is_odd = |character: &char| {
        is_hidden(*character)
            || matches!(character, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{fffd}' | '\u{e000}'..='\u{f8ff}')
    };
    let character = caption.chars().find(is_odd)?;
    Some(format!("U+{:04X}", u32::from(character)))
}

fn markup(caption: &str) -> Option<&'static str> {
    let lower = caption.to_ascii_lowercase();
    if ["http://", "https://", "www."].iter().any(|start| lower.contains(start)) {
        return Some("an address");
    }
    let is_tag = |rest: &str| {
        let inside = rest.strip_prefix('/').unwrap_or(rest);
        inside.starts_with(|first: char| first.is_ascii_alphabetic()) && inside.contains('>')
    };
    if lower.split('<').skip(1).any(is_tag) {
        return Some("a tag");
    }
    let is_entity = |rest: &str| {
        let name = rest.split_once(';').map_or("", |(name, _)| name);
        let digits = name.strip_prefix('#').unwrap_or(name);
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    lower.split('&').skip(1).any(is_entity).then_some("a character entity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption_extras::{CaptionExtras, Weight};
    use crate::image_id::ImageId;
    use crate::prepared::{ImageRecord, Images, Split};

    fn facts(images: &[&[&str]]) -> CaptionFacts {
        let record = |(index, captions): (usize, &&[&str])| ImageRecord {
            filename: format!("{index}.jpg"),
            split: Split::Train,
            captions: captions.iter().map(|&caption| caption.to_owned()).collect(),
            extras: Vec::new(),
            image_id: ImageId::Natural(index as u64),
        };
        of(&images.iter().enumerate().map(record).collect::<Vec<_>>())
    }

    fn of(records: &[ImageRecord]) -> CaptionFacts {
        caption_facts(&Dataset {
            directory: "absent".into(),
            name: "x".to_owned(),
            images: records.iter().collect::<Images>(),
            digest: String::new(),
            in_shards: None,
        })
    }

    fn listed(facts: &CaptionFacts, oddity: Oddity) -> Vec<(usize, usize, &str)> {
        let kind = facts.odd.iter().find(|kind| kind.oddity == oddity).unwrap();
        assert_eq!(kind.count, kind.first.len());
        kind.first.iter().map(|odd| (odd.image, odd.caption, odd.reason.as_str())).collect()
    }

    #[test]
    fn odd_captions_are_named_by_image_and_place() {
        let found = facts(&[
            &["a dog runs home", "dogs"],
            &["a dog\u{200b} runs", "a <b>dog</b> runs", "dogs &amp; cats &#39; x", "see WWW.example.org now"],
            &["I <3 dogs & cats; they run", "a < b > c is no tag"],
        ]);
        assert_eq!(listed(&found, Oddity::Outlier(OutlierKind::Short)), [(0, 1, "1 word")]);
        assert_eq!(listed(&found, Oddity::Hidden), [(1, 0, "U+200B")]);
        let expected = [(1, 1, "a tag"), (1, 2, "a character entity"), (1, 3, "an address")];
        assert_eq!(listed(&found, Oddity::Markup), expected);
        assert!(listed(&found, Oddity::Outlier(OutlierKind::Long)).is_empty());
    }

    #[test]
    fn a_caption_of_several_kinds_is_one_odd_caption() {
        let num_odd = |first: &str| facts(&[&[first, "a cat sits there", "a bird flies off"]]).num_odd;
        assert_eq!(num_odd("a <b>dog</b> \u{200b}runs"), num_odd("a dog runs by") + 1);
    }

    #[test]
    fn captions_of_several_images_are_listed_from_the_most_frequent() {
        let found =
            facts(&[&["two cats", "A dog runs."], &["a dog runs", "a dog runs"], &["two cats"], &["two cats!"]]);
        assert_eq!(found.num_repeated, 6);
        let repeated: Vec<_> = found.repeated.iter().map(|it| (it.num_images, it.first.as_slice())).collect();
        assert_eq!(repeated, [(3, &[(0, 0), (2, 0), (3, 0)][..]), (2, &[(0, 1), (1, 0)])]);
    }

    #[test]
    fn words_lengths_and_scripts_are_counted() {
        let found = facts(&[&["a dog runs", "A dog."], &["собака бежит домой", "12"]]);
        assert_eq!((found.num_captions, found.vocabulary, found.lengths.max), (4, 7, 3));
        assert_eq!(found.num_of_length, [(1, 1), (2, 1), (3, 2)]);
        let words: Vec<_> = found.words.iter().map(|word| (word.text.as_str(), word.count, word.num_images)).collect();
        assert_eq!(words[..3], [("a", 2, 1), ("dog", 2, 1), ("12", 1, 1)]);
        assert_eq!(found.scripts, [("Latin", 2), ("Cyrillic", 1), ("several, or no letters", 1)]);
    }

    #[test]
    fn prompts_and_weights_are_counted() {
        let extras = |prompt: Option<&str>, weight| CaptionExtras {
            prompt: prompt.map(str::to_owned),
            weight: Weight::new(weight).unwrap(),
        };
        let found = of(&[ImageRecord {
            filename: "a.jpg".to_owned(),
            split: Split::Val,
            captions: vec!["one two three".to_owned(), "four five six".to_owned()],
            extras: vec![extras(Some("x"), 0.5), extras(None, 1.0)],
            image_id: ImageId::Natural(0),
        }]);
        assert_eq!((found.num_prompts, found.num_weights), (1, 1));
    }
}
