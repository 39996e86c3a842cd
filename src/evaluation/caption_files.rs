//! Files of captions to score: what a model wrote, and what people wrote about the same images.
//!
//! Candidates are a JSON list, as COCO results (`image_id`, `caption`) or with their references inline (`prediction` or
//! `caption`, and `references` or `captions`). References are COCO annotations or Karpathy's `dataset_*.json`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use crate::base::fault::{WithHint as _, fault};
use crate::metrics::corpus::Captions;

/// Images with a caption and references, in the order of the references.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionSet {
    /// Their captions.
    pub captions: Vec<Captions>,
    /// Images with references for which no caption was found.
    pub num_uncaptioned: usize,
}

/// Reads candidates, and their references from another file where `references` names one; of a file in Karpathy's schema
/// those of `split` alone, where one is named.
///
/// # Errors
/// A file that is missing, damaged or of another form; two captions of one image; a caption of an image without
/// references; references in neither or in both files.
pub fn read_caption_set(candidates: &Path, references: Option<&Path>, split: Option<&str>) -> Result<CaptionSet> {
    let found = read_candidates(candidates).with_context(|| format!("cannot use {}", candidates.display())).hint(|| {
        "expected a JSON list of {\"image_id\", \"caption\"}, as COCO results, or of {\"prediction\", \"references\"}"
    })?;
    match references {
        None => inline(found, candidates),
        Some(path) => {
            let references = read_references(path, split)?;
            join(found, references)
                .with_context(|| format!("{} does not fit {}", candidates.display(), path.display()))
                .hint(|| "captions and references must be of the same images, called by the same ids or file names")
        }
    }
}

/// The references of each image of a file, as [`read_caption_set`] reads them.
///
/// # Errors
/// As there.
pub fn read_reference_lists(path: &Path) -> Result<Vec<Vec<String>>> {
    Ok(read_references(path, None)?.into_iter().map(|image| image.texts).collect())
}

/// One caption of a model.
struct Candidate {
    name: Option<String>,
    caption: String,
    references: Option<Vec<String>>,
}

/// What people wrote about an image, and what it is called: by number and by file name.
struct References {
    names: Vec<String>,
    texts: Vec<String>,
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = bounded_file::read(path, MAX_CAPTIONS_BYTES)
        .with_context(|| format!("cannot read {}", path.display()))
        .hint(|| "name the file of the captions")?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
}

fn read_candidates(path: &Path) -> Result<Vec<Candidate>> {
    let value = read_json(path)?;
    let Value::Array(entries) = value else { bail!("expected a list, found {}", kind(&value)) };
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| candidate(entry).with_context(|| format!("entry {index}")))
        .collect()
}

fn candidate(entry: &Value) -> Result<Candidate> {
    let caption = first_of(entry, &["prediction", "caption"]);
    let caption = caption.and_then(Value::as_str).context("expected a text under \"caption\" or \"prediction\"")?;
    let references = match first_of(entry, &["references", "captions"]) {
        None => None,
        Some(value) => Some(texts(value).context("the references")?),
    };
    let name = first_of(entry, &["image_id", "image_name", "filename", "image"]).and_then(name_of);
    Ok(Candidate { name, caption: caption.to_owned(), references })
}

fn first_of<'a>(entry: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| entry.get(name).filter(|value| !value.is_null()))
}

fn texts(value: &Value) -> Result<Vec<String>> {
    let list = value.as_array().with_context(|| format!("expected a list of texts, found {}", kind(value)))?;
    let text = |value: &Value| {
        value.as_str().map(str::to_owned).with_context(|| format!("expected a text, found {}", kind(value)))
    };
    list.iter().map(text).collect()
}

fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn read_references(path: &Path, split: Option<&str>) -> Result<Vec<References>> {
    let read = || -> Result<Vec<References>> {
        let value = read_json(path)?;
        let found = match (value.get("annotations"), value.get("images")) {
            (Some(Value::Array(annotations)), images) => coco(annotations, images)?,
            (None, Some(Value::Array(images))) => karpathy(images, split)?,
            _ => bail!("it holds neither a list \"annotations\" nor a list \"images\""),
        };
        if let (Some(_), Some(split)) = (value.get("annotations"), split) {
            bail!("COCO annotations have no splits, and {split} was asked for");
        }
        if found.is_empty() {
            bail!("it holds no references{}", split.map_or_else(String::new, |split| format!(" of the split {split}")));
        }
        Ok(found)
    };
    read()
        .with_context(|| format!("cannot use {} as references", path.display()))
        .hint(|| "expected COCO annotations or a data set in Karpathy's schema, dataset_*.json")
}

fn coco(annotations: &[Value], images: Option<&Value>) -> Result<Vec<References>> {
    let mut file_names = HashMap::new();
    for image in images.and_then(Value::as_array).into_iter().flatten() {
        if let (Some(id), Some(name)) = (image.get("id").and_then(name_of), image.get("file_name").and_then(name_of)) {
            file_names.insert(id, name);
        }
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut found: Vec<References> = Vec::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let id = annotation.get("image_id").and_then(name_of);
        let id = id.with_context(|| format!("annotation {index} has no image_id"))?;
        let text = annotation.get("caption").and_then(Value::as_str);
        let text = text.with_context(|| format!("annotation {index} has no caption"))?;
        let place = *places.entry(id.clone()).or_insert_with(|| {
            let names = std::iter::once(id.clone()).chain(file_names.get(&id).cloned()).collect();
            found.push(References { names, texts: Vec::new() });
            found.len() - 1
        });
        found[place].texts.push(text.to_owned());
    }
    Ok(found)
}

fn karpathy(images: &[Value], split: Option<&str>) -> Result<Vec<References>> {
    let mut found = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let of_image = || format!("image {index}");
        let own = image.get("split").and_then(Value::as_str);
        // Karpathy's `restval` belongs to the training.
        let own = if own == Some("restval") { Some("train") } else { own };
        if split.is_some_and(|split| own != Some(split)) {
            continue;
        }
        let sentences = image.get("sentences").and_then(Value::as_array).with_context(of_image)?;
        let raw = |sentence: &Value| sentence.get("raw").and_then(Value::as_str).map(str::to_owned);
        let texts = sentences.iter().map(raw).collect::<Option<Vec<_>>>();
        let texts = texts.context("a sentence has no text under \"raw\"").with_context(of_image)?;
        if texts.is_empty() {
            bail!("image {index} has no sentence");
        }
        let id = first_of(image, &["cocoid", "imgid"]).and_then(name_of).unwrap_or_else(|| index.to_string());
        let names = std::iter::once(id).chain(image.get("filename").and_then(name_of)).collect();
        found.push(References { names, texts });
    }
    Ok(found)
}

fn inline(candidates: Vec<Candidate>, path: &Path) -> Result<CaptionSet> {
    let mut set = CaptionSet::default();
    for (index, candidate) in candidates.into_iter().enumerate() {
        let references = candidate.references.filter(|references| !references.is_empty());
        let Some(references) = references else {
            return Err(fault(
                format!("entry {index} of {} has no references", path.display()),
                "name the file with the references: --references FILE",
            ));
        };
        set.captions.push(Captions { candidate: candidate.caption, references });
    }
    if set.captions.is_empty() {
        return Err(fault(format!("{} holds no caption", path.display()), "there is nothing to score"));
    }
    Ok(set)
}

fn join(candidates: Vec<Candidate>, references: Vec<References>) -> Result<CaptionSet> {
    let mut places = HashMap::new();
    for (place, image) in references.iter().enumerate() {
        for name in &image.names {
            // A number that is also the file name of another image is the number.
            places.entry(name.clone()).or_insert(place);
        }
    }
    let mut captions: Vec<Option<String>> = vec![None; references.len()];
    for (index, candidate) in candidates.into_iter().enumerate() {
        if candidate.references.is_some() {
            bail!("entry {index} brings references of its own");
        }
        let name = candidate.name.with_context(|| format!("entry {index} has no image_id"))?;
        let place = *places.get(&name).with_context(|| format!("there are no references for image {name}"))?;
        if captions[place].replace(candidate.caption).is_some() {
            bail!("image {name} has two captions");
        }
    }
    let mut set = CaptionSet::default();
    for (caption, image) in captions.into_iter().zip(references) {
        let Some(candidate) = caption else {
            set.num_uncaptioned += 1;
            continue;
        };
        set.captions.push(Captions { candidate, references: image.texts });
    }
    if set.captions.is_empty() {
        bail!("no image has a caption");
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use std::fs;

    use super::*;
    use crate::base::fault::describe;

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
        assert_eq!(set.captions, [captions("y", &["a", "c"]), captions("x", &["b"])]);
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
        assert!(text.contains("no references of the split dev"), "{text}");
    }

    #[test]
    fn references_may_stand_beside_the_predictions() {
        let inline = json!([{ "image_name": "a.jpg", "prediction": "x", "captions": ["a", "b"] }]);
        let set = read(&inline, None, None).unwrap();
        assert_eq!(set.captions, [captions("x", &["a", "b"])]);
    }

    #[test]
    fn files_that_cannot_be_scored_say_why() {
        let references = json!({ "annotations": [{ "image_id": 1, "caption": "a" }] });
        let one = |id: u32| json!({ "image_id": id, "caption": "x" });
        let cases = [
            (json!({}), None, "expected a list, found an object"),
            (json!([]), None, "holds no caption"),
            (json!([{ "image_id": 1 }]), None, "expected a text under \"caption\""),
            (json!([one(1)]), None, "has no references"),
            (json!([{ "caption": "x", "references": ["a", 5] }]), None, "expected a text, found a number"),
            (json!([one(1), one(1)]), Some(&references), "image 1 has two captions"),
            (json!([one(2)]), Some(&references), "no references for image 2"),
            (json!([]), Some(&references), "no image has a caption"),
        ];
        for (candidates, references, expected) in cases {
            let text = describe(&read(&candidates, references, None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{candidates}: {text}");
        }
        for (broken, expected) in [
            (json!([]), "holds neither a list"),
            (json!({ "annotations": [{ "image_id": 1 }] }), "annotation 0 has no caption"),
            (json!({ "images": [{ "filename": "a" }] }), "image 0"),
            (json!({ "images": [{ "filename": "a", "sentences": [] }] }), "image 0 has no sentence"),
            (json!({ "images": [] }), "no references"),
        ] {
            let text = describe(&read(&json!([one(1)]), Some(&broken), None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{broken}: {text}");
        }
    }
}
