//! The filters that a request asks for, and what each does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use unicode_script::Script;

use crate::annotations::{RawDataset, RawImage, Repair};
use crate::output::caption_statistics::num_words;
use crate::output::{FilterCount, FilterOptions, Sameness};
use crate::prepare::filters::duplicates::{Content, kept_instead};
use crate::prepare::filters::lists::{IdList, ScoreList};
use crate::prepare::filters::scripts;
use crate::prepare::filters::tally::{Filter, Tally};
use crate::prepared::Split;
use base::error::{failure, usage_error};

/// What the user asks to be left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterRequest {
    /// A text with the name or id of an image on each line.
    pub drop_ids: Option<PathBuf>,
    /// What `score-pairs` writes.
    pub scores: Option<PathBuf>,
    /// As [`FilterOptions::min_score`].
    pub min_score: Option<f64>,
    /// Names of Unicode scripts.
    pub scripts: Vec<String>,
    /// As [`FilterOptions::min_words`].
    pub min_words: Option<usize>,
    /// As [`FilterOptions::max_words`].
    pub max_words: Option<usize>,
    /// As [`FilterOptions::min_side`].
    pub min_side: Option<u32>,
    /// As [`FilterOptions::max_aspect`].
    pub max_aspect: Option<f64>,
    /// As [`FilterOptions::drop_duplicates`].
    pub drop_duplicates: Option<Sameness>,
}

/// The filters of a preparation, with what their files say.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    options: FilterOptions,
    scripts: Vec<Script>,
    ids: Option<IdList>,
    scores: Option<ScoreList>,
}

/// What an image may be called in a list.
pub(crate) struct Names<'a> {
    /// In the folder of images.
    pub(crate) stored: &'a str,
    /// Below the source.
    pub(crate) path: &'a str,
}

impl Filters {
    /// # Errors
    /// A value that leaves nothing or is none, an unknown script, a file that cannot be used.
    pub(crate) fn read(request: &FilterRequest) -> anyhow::Result<Self> {
        check(request)?;
        let mut scripts = Vec::new();
        for name in &request.scripts {
            scripts.push(scripts::parse(name)?);
        }
        let names: BTreeSet<&str> = scripts.iter().map(|script| script.full_name()).collect();
        let ids = request.drop_ids.as_deref().map(IdList::read).transpose()?;
        let scores = request.scores.as_deref().map(ScoreList::read).transpose()?;
        let options = FilterOptions {
            drop_ids_sha256: ids.as_ref().map(|list| list.digest.clone()),
            scores_sha256: scores.as_ref().map(|list| list.digest.clone()),
            min_score: request.min_score,
            scripts: names.into_iter().map(str::to_owned).collect(),
            min_words: request.min_words,
            max_words: request.max_words,
            min_side: request.min_side,
            max_aspect: request.max_aspect,
            drop_duplicates: request.drop_duplicates,
        };
        Ok(Self { options, scripts, ids, scores })
    }

    pub(crate) fn options(&self) -> &FilterOptions {
        &self.options
    }

    /// Nothing is left out of these images yet.
    pub(crate) fn tally(&self, images: &[RawImage]) -> Tally {
        let options = &self.options;
        let asked = [
            (Filter::DropIds, options.drop_ids_sha256.is_some()),
            (Filter::MinScore, options.min_score.is_some()),
            (Filter::Script, !options.scripts.is_empty()),
            (Filter::MinWords, options.min_words.is_some()),
            (Filter::MaxWords, options.max_words.is_some()),
            (Filter::MinSide, options.min_side.is_some()),
            (Filter::MaxAspect, options.max_aspect.is_some()),
            (Filter::DropDuplicates, options.drop_duplicates.is_some()),
        ];
        Tally::new(images, asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(filter, _)| filter))
    }

    /// A filter as the user gives it.
    fn described(&self, filter: Filter) -> String {
        let options = &self.options;
        let value = match filter {
            Filter::DropIds => None,
            Filter::MinScore => options.min_score.map(|value| value.to_string()),
            Filter::Script => Some(options.scripts.join(",")),
            Filter::MinWords => options.min_words.map(|value| value.to_string()),
            Filter::MaxWords => options.max_words.map(|value| value.to_string()),
            Filter::MinSide => options.min_side.map(|value| value.to_string()),
            Filter::MaxAspect => options.max_aspect.map(|value| value.to_string()),
            Filter::DropDuplicates => options.drop_duplicates.map(|value| match value {
                Sameness::Exact => "exact".to_owned(),
                Sameness::Near => "near".to_owned(),
            }),
        };
        value.map_or_else(|| filter.option().to_owned(), |value| format!("{} {value}", filter.option()))
    }

    /// Applies the filters that need no pixels, in their order: leaves captions out of the images of `raw`, whose names
    /// are `names`, and gives for each image whether it is kept.
    ///
    /// # Errors
    /// A list or a file of scores that is of other images.
    pub(crate) fn apply_to_captions(
        &self,
        raw: &mut RawDataset,
        names: &[Names<'_>],
        tally: &mut Tally,
    ) -> anyhow::Result<Vec<bool>> {
        let mut is_kept = vec![true; raw.images.len()];
        if let Some(ids) = &self.ids {
            self.drop_listed(ids, raw, names, &mut is_kept, tally)?;
        }
        let (mut num_scored, mut num_without) = (0, 0);
        for ((image, names), is_kept) in raw.images.iter_mut().zip(names).zip(&mut is_kept).filter(|(_, kept)| **kept) {
            let own = self.scores.as_ref().map(|list| list.of([names.stored, &image.filename, names.path]));
            let scored = |caption: &str| own.flatten().and_then(|scores| scores.get(caption)).copied();
            let mut left = Vec::with_capacity(image.captions.len());
            let mut last = None;
            for (place, caption) in image.captions.iter().enumerate() {
                let score = scored(caption);
                if own.is_some() {
                    *(if score.is_some() { &mut num_scored } else { &mut num_without }) += 1;
                }
                if let Some((filter, reason)) = self.objection(caption, score) {
                    tally.leave_out_caption(filter, format!("caption {place} of {}", image.filename), reason);
                    last = Some(filter);
                } else {
                    left.push(place);
                }
            }
            if let (true, Some(filter)) = (left.is_empty(), last) {
                tally.leave_out_image(filter, &image.filename, 0, "none of its captions is left".to_owned());
                *is_kept = false;
            } else if left.len() < image.captions.len() {
                keep_captions(image, &left);
            }
        }
        if let Some(scores) = self.scores.as_ref().filter(|_| num_scored == 0 && is_kept.contains(&true)) {
            let message = format!(
                "--scores: none of its scores is of a caption of these images; it has images such as {}, the images are \
                 called such as {}",
                scores.first_image(),
                names.first().map_or("", |names| names.stored)
            );
            return Err(failure(message, "give the scores of this data set, by `caption-train score-pairs --data`"));
        }
        if num_without > 0 {
            raw.repairs.push(Repair::new(format!("{num_without} captions"), "have no score, and were kept"));
        }
        Ok(is_kept)
    }

    fn drop_listed(
        &self,
        ids: &IdList,
        raw: &mut RawDataset,
        names: &[Names<'_>],
        is_kept: &mut [bool],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for ((image, names), is_kept) in raw.images.iter().zip(names).zip(is_kept) {
            let id = image.cocoid.as_ref().map(ToString::to_string);
            let called = [Some(names.stored), Some(image.filename.as_str()), Some(names.path), id.as_deref()];
            let found: Vec<&str> =
                called.into_iter().flatten().filter_map(|name| ids.names.get(name).map(String::as_str)).collect();
            if !found.is_empty() {
                used.extend(found);
                *is_kept = false;
                let reason = "--drop-ids lists it".to_owned();
                tally.leave_out_image(Filter::DropIds, &image.filename, image.captions.len(), reason);
            }
        }
        let unused = || ids.names.iter().filter(|name| !used.contains(name.as_str()));
        let Some(first) = unused().next() else { return Ok(()) };
        if used.is_empty() {
            let such = names.first().map_or("", |names| names.stored);
            let message =
                format!("--drop-ids: no image is called {first} or one of its other lines; names are such as {such}");
            return Err(failure(
                message,
                "give names of images as the captions or the prepared data set have them, or ids",
            ));
        }
        let note = format!("{} of its {} lines name no image, such as {first}", unused().count(), ids.names.len());
        raw.repairs.push(Repair::new("--drop-ids", note));
        Ok(())
    }

    /// What speaks against a caption, of this score if it has one.
    fn objection(&self, caption: &str, score: Option<f64>) -> Option<(Filter, String)> {
        let options = &self.options;
        if let (Some(least), Some(score)) = (options.min_score, score)
            && score < least
        {
            return Some((Filter::MinScore, format!("its score is {score}, less than --min-score {least}")));
        }
        if !self.scripts.is_empty() && !scripts::is_mainly_in(caption, &self.scripts) {
            let reason = format!("its letters are not mainly of --script {}", options.scripts.join(","));
            return Some((Filter::Script, reason));
        }
        if options.min_words.is_none() && options.max_words.is_none() {
            return None;
        }
        let num_words = num_words(caption);
        let counted = if num_words == 1 { "it has 1 word".to_owned() } else { format!("it has {num_words} words") };
        if let Some(least) = options.min_words.filter(|&least| num_words < least) {
            return Some((Filter::MinWords, format!("{counted}, fewer than --min-words {least}")));
        }
        let most = options.max_words.filter(|&most| num_words > most)?;
        Some((Filter::MaxWords, format!("{counted}, more than --max-words {most}")))
    }

    /// What speaks against an image of this size in pixels.
    pub(crate) fn objection_to_size(&self, width: u32, height: u32) -> Option<(Filter, String)> {
        let (short, long) = (width.min(height), width.max(height));
        if let Some(least) = self.options.min_side.filter(|&least| short < least) {
            let reason = format!("it has {width} x {height} pixels, a side below --min-side {least}");
            return Some((Filter::MinSide, reason));
        }
        let most = self.options.max_aspect.filter(|&most| f64::from(long) > most * f64::from(short))?;
        let reason = format!("it has {width} x {height} pixels, its sides differ by more than --max-aspect {most}");
        Some((Filter::MaxAspect, reason))
    }

    /// Of each image of `raw` the one that shows the same picture and is kept in its place; `None` where it is kept.
    /// `pictures`: the SHA-256 of each file and the difference hash of its picture. What is left out is counted.
    pub(crate) fn duplicates(
        &self,
        raw: &RawDataset,
        pictures: &[([u8; 32], u64)],
        tally: &mut Tally,
    ) -> Vec<Option<usize>> {
        let Some(sameness) = self.options.drop_duplicates else { return vec![None; raw.images.len()] };
        let content = |(image, &(digest, difference_hash)): (&RawImage, &([u8; 32], u64))| Content {
            digest,
            difference_hash,
            split: image.split,
        };
        let contents: Vec<Content> = raw.images.iter().zip(pictures).map(content).collect();
        let instead = kept_instead(&contents, sameness);
        let name = |image: &RawImage| {
            image
                .split
                .map_or_else(|| image.filename.clone(), |split: Split| format!("{} ({})", image.filename, split.name()))
        };
        for (image, instead) in raw.images.iter().zip(&instead) {
            let Some((kept, distance)) = *instead else { continue };
            let other = name(&raw.images[kept]);
            let reason = match distance {
                0 => format!("it shows the same picture as {other}, which is kept"),
                bits => format!("it looks like {other}, which is kept ({bits} of 64 bits differ)"),
            };
            tally.leave_out_image(Filter::DropDuplicates, &image.filename, image.captions.len(), reason);
        }
        instead.into_iter().map(|instead| instead.map(|(kept, _)| kept)).collect()
    }

    /// The counts of each filter; what was left out becomes rejects of `raw`.
    pub(crate) fn finish(&self, tally: Tally, raw: &mut RawDataset) -> Vec<FilterCount> {
        tally.finish(raw, |filter| self.described(filter))
    }

    /// Why no image is left: which filter took what.
    pub(crate) fn nothing_left(&self, tally: &Tally, num_unreadable: usize) -> anyhow::Error {
        tally.nothing_left(num_unreadable, |filter| self.described(filter))
    }

    /// The filters that wait for the pixels, as the user gives them.
    pub(crate) fn of_pixels(&self) -> Vec<String> {
        let options = &self.options;
        let asked = [
            (Filter::MinSide, options.min_side.is_some()),
            (Filter::MaxAspect, options.max_aspect.is_some()),
            (Filter::DropDuplicates, options.drop_duplicates.is_some()),
        ];
        asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(filter, _)| self.described(filter)).collect()
    }
}

/// Keeps the captions at these places.
fn keep_captions(image: &mut RawImage, places: &[usize]) {
    let captions = std::mem::take(&mut image.captions);
    let extras = std::mem::take(&mut image.extras);
    image.captions = places.iter().filter_map(|&place| captions.get(place).cloned()).collect();
    // There are as many as captions, or none.
    image.extras = places.iter().filter_map(|&place| extras.get(place).cloned()).collect();
}

fn check(request: &FilterRequest) -> anyhow::Result<()> {
    if let Some(value) = request.max_aspect.filter(|value| !(value.is_finite() && *value >= 1.0)) {
        let message = format!("expected --max-aspect of 1 or more, found {value}");
        return Err(usage_error(message, "3 leaves out images that are more than three times as long as high"));
    }
    if let Some(value) = request.min_score.filter(|value| !value.is_finite()) {
        let message = format!("expected a number for --min-score, found {value}");
        return Err(usage_error(message, "scores are mean log-probabilities, such as -3.5"));
    }
    if request.scores.is_some() != request.min_score.is_some() {
        return Err(usage_error("--scores and --min-score need each other", "give both or neither"));
    }
    if let (Some(least), Some(most)) = (request.min_words, request.max_words)
        && least > most
    {
        let message = format!("--min-words {least} and --max-words {most} leave no caption");
        return Err(usage_error(message, "lower the one or raise the other"));
    }
    if request.max_words == Some(0) {
        return Err(usage_error("--max-words 0 leaves no caption", "raise it"));
    }
    Ok(())
}
