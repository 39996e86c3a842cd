//! A folder of images with `metadata.jsonl` or `metadata.csv` beside them, as the library `datasets` reads it:
//! `file_name` relative to that file, and the captions in `text`, `caption`, `captions` or `caption_0`, `caption_1` and
//! so on. Folders called `train`, `validation` and `test` are splits.

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::file_names::has_ending;
use crate::annotations::format::{Certainty, Format, Match};
use crate::annotations::formats::{caption_json, table};
use crate::annotations::input::{AnnotationFile, Input};
use crate::annotations::json::shape::JsonShape;
use crate::annotations::layout::Layout;
use crate::annotations::raw_dataset::RawDataset;

pub(crate) static FORMAT: Format =
    Format { name: "imagefolder", description: "metadata.jsonl or metadata.csv beside the images", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let files = candidates.source.files();
    // Other programs have files of these names.
    let is_ours = |content: &Content| match content {
        Content::Json(JsonShape::Lines(seen)) => seen.has_key(&["file_name"]) && seen.has.captions,
        Content::Text(Layout::Table(table)) => table.header.iter().any(|name| name == "file_name"),
        _ => false,
    };
    let is_named = |file: usize| {
        ["metadata.jsonl", "metadata.csv"].iter().any(|name| files[file].name().eq_ignore_ascii_case(name))
    };
    let mut found: Vec<usize> = candidates.files(is_ours).into_iter().filter(|&file| is_named(file)).collect();
    let lines: Vec<&str> = found
        .iter()
        .map(|&file| &files[file])
        .filter(|file| has_ending(file.name(), ".jsonl"))
        .map(|file| file.folder())
        .collect();
    // Both in one folder say the same.
    let is_spare = |file: usize| has_ending(files[file].name(), ".csv") && lines.contains(&files[file].folder());
    let spare: Vec<usize> = found.iter().copied().filter(|&file| is_spare(file)).collect();
    found.retain(|file| !spare.contains(file));
    let found = Match::some(&FORMAT, None, found);
    Ok(found.into_iter().map(|found| Match { spare: spare.clone(), certainty: Certainty::Sure, ..found }).collect())
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let parse = |builder: &mut Builder, path: &str, text: &str| {
        let file = AnnotationFile::relative(path);
        match has_ending(path, ".csv") {
            true => table::parse(builder, &file, text),
            false => caption_json::parse_lines(builder, &file, text),
        }
    };
    Ok(input.build(parse)?.finish_with_paths())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;
    use base::error::describe;

    #[test]
    fn lines_of_json_name_images_beside_them() {
        let text = "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n\n{\"file_name\":\"b/2.jpg\",\"caption_0\":\"B\",\"caption_1\":\"C\",\"split\":\"test\"}\n{\"file_name\":\"3.jpg\",\"captions\":[\"D\",\"E\"],\"label\":3}\n";
        let mut builder = Builder::default();
        caption_json::parse_lines(&mut builder, &AnnotationFile::relative("train/metadata.jsonl"), text).unwrap();
        let raw = builder.finish("");
        let found: Vec<_> =
            raw.images.iter().map(|image| (image.filename.as_str(), image.captions.len(), image.split)).collect();
        assert_eq!(
            found,
            [
                ("train/1.jpg", 1, Some(Split::Train)),
                ("train/b/2.jpg", 2, Some(Split::Test)),
                ("train/3.jpg", 2, Some(Split::Train))
            ]
        );
    }

    #[test]
    fn a_table_may_have_several_columns_of_captions() {
        let mut builder = Builder::default();
        let text = "file_name,caption_0,caption_1\n1.jpg,A,\"B, b\"\n2.jpg,C,\n";
        table::parse(&mut builder, &AnnotationFile::relative("metadata.csv"), text).unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["A", "B, b"]);
        assert_eq!((raw.images[1].captions.len(), raw.images[1].split), (1, None));
    }

    #[test]
    fn what_is_missing_is_named() {
        let file = AnnotationFile::relative("m");
        let mut builder = Builder::default();
        caption_json::parse_lines(&mut builder, &file, "{\"text\":\"A\"}").unwrap();
        assert_eq!(builder.rejects[0].what, "entry 0 of m");
        let cut = describe(&caption_json::parse_lines(&mut builder, &file, "{").unwrap_err());
        assert!(cut.contains("m cannot be read: it is cut off"), "{cut}");
        let csv = describe(&table::parse(&mut builder, &file, "file_name,label\n1.jpg,3\n").unwrap_err());
        assert!(csv.contains("none for the caption"), "{csv}");
    }
}
