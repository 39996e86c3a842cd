//! Files of captions to score: captions of a model, and references for the same images.
//!
//! Both are read by the readers of `data::annotations`, in any form that can be prepared: COCO results and annotations,
//! Karpathy's files, tables, JSON, JSON Lines, and what `caption` prints. References may also be in the same file,
//! object by object.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use base::error::{WithHint as _, failure, usage_error};
use datasets::annotations::{Folders, RawDataset, RawImage, Reading, are_others, read_captions, read_scored};
use datasets::image_id::{IdMap, ImageId};
use datasets::prepared::Split;
use datasets::source::without_ending;
use metrics::corpus::Captions;
use pixels::picture_formats::is_image_name;

/// Images with a caption and references, in the order of the references.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionSet {
    /// Their captions.
    pub captions: Vec<Captions>,
    /// Images with references for which no caption was found.
    pub num_uncaptioned: usize,
    /// What was noticed in the files, a line each.
    pub notes: Vec<String>,
}

/// Reads candidates, and their references from another file where `references` names one; of a file that names splits
/// those of `split` only, where one is given.
///
/// # Errors
/// A file that is missing, damaged or of another form; several captions of one image; a caption of an image without
/// references, or whose image cannot be determined; references in neither file.
pub fn read_caption_set(candidates: &Path, references: Option<&Path>, split: Option<&str>) -> Result<CaptionSet> {
    let Some(path) = references else { return inline(candidates) };
    let mut set = CaptionSet::default();
    let references = read_references(path, split, &mut set.notes)?;
    let found = read_captions(candidates, Reading::Candidates)
        .with_context(|| format!("cannot use {}", candidates.display()))
        .hint(
            || "give COCO results, lines of PATH, a tab and the caption, or another form that `prepare-data` reads",
        )?;
    set.notes.extend(notes(&found, candidates));
    join(found.images, references, &mut set)
        .with_context(|| format!("{} does not fit {}", candidates.display(), path.display()))?;
    Ok(set)
}

/// The references of each image of a file, as [`read_caption_set`] reads them.
///
/// # Errors
/// As there.
pub fn read_reference_lists(path: &Path) -> Result<Vec<Vec<String>>> {
    Ok(read_references(path, None, &mut Vec::new())?.into_iter().map(|image| image.captions).collect())
}

fn read_references(path: &Path, split: Option<&str>, noticed: &mut Vec<String>) -> Result<Vec<RawImage>> {
    let known = |word: &str| {
        let unknown = || usage_error(format!("unknown split {word:?}"), "expected train, val or test");
        Split::parse(word).ok_or_else(unknown)
    };
    let split = split.map(known).transpose()?;
    let mut read = || -> Result<Vec<RawImage>> {
        let mut found = read_captions(path, Reading::References)?;
        noticed.extend(notes(&found, path));
        if let Some(split) = split {
            if !found.images.is_empty() && found.images.iter().all(|image| image.split.is_none()) {
                bail!("it names no splits, but {} was requested", split.name());
            }
            found.images.retain(|image| image.split == Some(split));
        }
        if found.images.is_empty() {
            let of_split = split.map_or_else(String::new, |split| format!(" of the split {}", split.name()));
            let first = found.rejects.first().map(|reject| format!(": {}: {}", reject.what, reject.reason));
            bail!("it contains no references{of_split}{}", first.unwrap_or_default());
        }
        Ok(found.images)
    };
    read().with_context(|| format!("cannot use {} as references", path.display())).hint(
        || "give COCO annotations, a dataset_*.json in Karpathy's schema, or another form that `prepare-data` reads",
    )
}

/// What was left out of a file or mended in it, counted.
fn notes(found: &RawDataset, path: &Path) -> Vec<String> {
    let count = |all: Vec<(&str, &str)>, done: &str| {
        let &(what, why) = all.first()?;
        Some(match all.len() {
            1 => format!("{}: {done}: {what}: {why}", path.display()),
            more => format!("{}: {done} {more} times, first {what}: {why}", path.display()),
        })
    };
    let rejects = found.rejects.iter().map(|reject| (reject.what.as_str(), reject.reason.as_str())).collect();
    let repairs = found.repairs.iter().map(|repair| (repair.what.as_str(), repair.repair.as_str())).collect();
    [count(rejects, "left out"), count(repairs, "noticed")].into_iter().flatten().collect()
}

/// Captions with their references in the same file.
fn inline(path: &Path) -> Result<CaptionSet> {
    let no_references = |what: &str| {
        failure(format!("{what} has no references"), "give the file with the references: --references FILE")
    };
    let Some((scored, lacking)) = read_scored(path).with_context(|| format!("cannot use {}", path.display()))? else {
        return Err(no_references(&path.display().to_string()));
    };
    let mut set = CaptionSet::default();
    if let Some(reject) = lacking.first() {
        let message = format!("{} of {} cannot be scored: {}", reject.what, path.display(), reject.reason);
        return Err(failure(message, "give the file with the references: --references FILE"));
    }
    for (index, scored) in scored.into_iter().enumerate() {
        let [candidate] = scored.candidates.as_slice() else {
            let message = format!("entry {index} of {} has {} captions", path.display(), scored.candidates.len());
            return Err(failure(message, "give one caption of the model for each image"));
        };
        set.captions.push(Captions { candidate: candidate.clone(), references: scored.references });
    }
    if set.captions.is_empty() {
        return Err(failure(format!("{} contains no captions", path.display()), "there is nothing to score"));
    }
    Ok(set)
}

fn several_captions(name: &str, number: usize) -> anyhow::Error {
    failure(
        format!("image {name} has {number} captions, but only one per image can be scored"),
        "keep the best one of each image; in the output of `caption --num-captions N --json` it is chosen for you",
    )
}

/// Where images are found that are called by their ids, or by the names of their files.
struct Places<'a> {
    images: &'a [RawImage],
    by_id: IdMap<usize>,
    /// By path, name, and name without ending; `None` where several images are called so.
    by_name: HashMap<&'a str, Option<usize>>,
    folders: Folders,
    /// Ids that two images have.
    shared: HashMap<String, [usize; 2]>,
    /// No image has an id: a number is the name of a file.
    has_no_ids: bool,
}

impl<'a> Places<'a> {
    fn of(images: &'a [RawImage]) -> Self {
        let has_no_ids = images.iter().all(|image| image.cocoid.is_none());
        let (mut by_id, mut by_name, mut shared) = (IdMap::default(), HashMap::new(), HashMap::new());
        for (place, image) in images.iter().enumerate() {
            if let Some(id) = &image.cocoid
                && let Some(other) = by_id.insert(id, place)
            {
                shared.insert(id.to_string(), [other, place]);
            }
            for name in forms(&image.filename, has_no_ids) {
                by_name.entry(name).and_modify(|known| *known = None).or_insert(Some(place));
            }
        }
        // A whole path is one image's, whatever others are called.
        by_name.extend(images.iter().enumerate().map(|(place, image)| (image.filename.as_str(), Some(place))));
        let folders = Folders::of(images.iter().map(|image| image.filename.as_str()));
        Self { images, by_id, by_name, folders, shared, has_no_ids }
    }

    /// The place of the image that a caption is of: by the name of its file, else by its id.
    fn find(&self, image: &RawImage) -> Result<usize> {
        let name = &image.filename;
        let forms = forms(name, self.has_no_ids);
        let named: Vec<&Option<usize>> = forms.iter().filter_map(|form| self.by_name.get(form)).collect();
        // An image with the same name in another folder is a different one.
        let is_other =
            |place: &usize| are_others(name, &Folders::default(), &self.images[*place].filename, &self.folders);
        let by_name = named.iter().find_map(|place| **place).filter(|place| !is_other(place));
        // A file of captions may call images by their ids without saying so.
        let id = image.cocoid.clone().or_else(|| ImageId::from_text(name));
        let by_id = id.as_ref().and_then(|id| self.by_id.get(id));
        match (by_name, by_id, &id) {
            (Some(one), Some(other), Some(id)) if one != other && image.cocoid.is_some() => {
                bail!("the caption of {name} has the id {id}, which belongs to {}", self.images[other].filename)
            }
            (Some(place), ..) => Ok(place),
            (None, Some(place), Some(id)) => match self.shared.get(&id.to_string()) {
                None => Ok(place),
                Some(places) => {
                    let [one, other] = places.map(|place| &self.images[place].filename);
                    bail!("two images have the id {id}: {one} and {other}")
                }
            },
            _ if named.iter().any(|place| place.is_none()) => bail!("several images with references are called {name}"),
            _ => bail!("there are no references for image {name}"),
        }
    }
}

/// What an image may be called: its path, the name of its file, and that name without its ending. Numbers are ids,
/// unless there are none.
fn forms(path: &str, with_numbers: bool) -> Vec<&str> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let mut forms = vec![path, name];
    if is_image_name(name) {
        forms.push(without_ending(name));
    }
    forms.dedup();
    forms.retain(|form| with_numbers || form.contains(|character: char| !character.is_ascii_digit()));
    forms
}

fn join(candidates: Vec<RawImage>, references: Vec<RawImage>, set: &mut CaptionSet) -> Result<()> {
    let places = Places::of(&references);
    let mut captions: Vec<Option<String>> = vec![None; references.len()];
    for image in candidates {
        let place = places.find(&image).hint(|| SAME_IMAGES)?;
        let name = &image.filename;
        match image.captions.as_slice() {
            [one] if captions[place].is_none() => captions[place] = Some(one.clone()),
            [_] => return Err(several_captions(name, 2)),
            several => return Err(several_captions(name, several.len())),
        }
    }
    for (caption, image) in captions.into_iter().zip(references) {
        match caption {
            Some(candidate) => set.captions.push(Captions { candidate, references: image.captions }),
            None => set.num_uncaptioned += 1,
        }
    }
    if set.captions.is_empty() {
        return Err(failure("no image has a caption", SAME_IMAGES));
    }
    Ok(())
}

const SAME_IMAGES: &str = "captions and references must be of the same images, with the same ids or file names";

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use base::error::describe;

    fn read(candidates: &Value, references: Option<&Value>, split: Option<&str>) -> Result<CaptionSet> {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("candidates.json"), folder.path().join("references.json"));
        fs::write(&first, candidates.to_string()).unwrap();
        let second = references.map(|value| {
            fs::write(&second, value.to_string()).unwrap();
            second.as_path()
        });
        read_caption_set(&first, second, split)
    }

    fn captions(candidate: &str, references: &[&str]) -> Captions {
        let references = references.iter().map(|text| (*text).to_owned()).collect();
        Captions { candidate: candidate.to_owned(), references }
    }

    #[test]
    fn coco_results_find_their_annotations_by_number_or_file_name() {
        let references = json!({
            "images": [{ "id": 7, "file_name": "seven.jpg" }, { "id": 9, "file_name": "nine.jpg" }],
            "annotations": [
                { "image_id": 9, "id": 1, "caption": "a" },
                { "image_id": 7, "id": 2, "caption": "b" },
                { "image_id": 9, "id": 3, "caption": "c" }
            ]
        });
        let results = json!([{ "image_id": "seven.jpg", "caption": "x" }, { "image_id": 9, "caption": "y" }]);
        let set = read(&results, Some(&references), None).unwrap();
        assert_eq!(set.captions, [captions("x", &["b"]), captions("y", &["a", "c"])]);
        assert_eq!(set.num_uncaptioned, 0);
    }

    #[test]
    fn karpathys_schema_is_read_by_split_and_images_without_a_caption_are_counted() {
        let image = |name: &str, id: u32, split: &str| json!({ "filename": name, "imgid": id, "split": split, "sentences": [{ "raw": name }] });
        let mut first = image("a.jpg", 0, "test");
        first["cocoid"] = 40.into();
        let references = json!({ "images": [first, image("b.jpg", 1, "test"), image("c.jpg", 2, "val")] });
        let results = json!([{ "image_id": 40, "caption": "x" }]);
        let set = read(&results, Some(&references), Some("test")).unwrap();
        assert_eq!((set.captions, set.num_uncaptioned), (vec![captions("x", &["a.jpg"])], 1));
        let text = describe(&read(&results, Some(&references), Some("val")).unwrap_err());
        assert!(text.contains("there are no references for image 40"), "{text}");
        let text = describe(&read(&results, Some(&references), Some("dev")).unwrap_err());
        assert!(text.contains("unknown split \"dev\""), "{text}");
    }

    #[test]
    fn references_may_be_in_the_file_of_the_predictions() {
        let inline = json!([{ "image_name": "a.jpg", "prediction": "x", "captions": ["a", "b"] }]);
        let set = read(&inline, None, None).unwrap();
        assert_eq!(set.captions, [captions("x", &["a", "b"])]);
    }

    #[test]
    fn files_that_cannot_be_scored_say_why() {
        let references = json!({ "annotations": [{ "image_id": 1, "caption": "a" }] });
        let one = |id: u32| json!({ "image_id": id, "caption": "x" });
        let cases = [
            (json!({}), None, "contains no captions"),
            (json!([]), None, "contains no captions"),
            (json!([{ "image_id": 1 }]), None, "it has no text under \"caption\""),
            (json!([one(1)]), None, "has no references"),
            (json!([{ "caption": "x", "references": ["a", 5] }]), None, "its references are a list of something other"),
            (json!([{ "prediction": "x", "captions": "a" }, { "prediction": "x" }]), None, "entry 1 of"),
            (json!([one(1), one(1)]), Some(&references), "image 1 has 2 captions"),
            (json!([one(2)]), Some(&references), "no references for image 2"),
            (json!([]), Some(&references), "contains no captions that can be read"),
        ];
        for (candidates, references, expected) in cases {
            let text = describe(&read(&candidates, references, None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{candidates}: {text}");
        }
        for (broken, expected) in [
            (json!([]), "contains no captions that can be read"),
            (json!({ "annotations": [{ "image_id": 1 }] }), "none of them contains captions"),
            (json!({ "images": [{ "filename": "a" }] }), "none of them contains captions"),
            (
                json!({ "images": [{ "filename": "a", "sentences": [] }] }),
                "it contains no references: a: has no caption",
            ),
            (json!({ "images": [] }), "contains no captions that can be read"),
        ] {
            let text = describe(&read(&json!([one(1)]), Some(&broken), None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{broken}: {text}");
        }
    }
}
