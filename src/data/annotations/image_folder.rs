//! A folder of images with `metadata.jsonl` or `metadata.csv` beside them, as the library `datasets` reads it: `file_name`
//! relative to that file, and the captions in `text`, `caption`, `captions` or `caption_0`, `caption_1` and so on.
//! Folders called `train`, `validation` and `test` are splits.

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::base::fault::{WithHint as _, fault};
use crate::data::annotations::builder::Builder;
use crate::data::annotations::text::{Table, for_each_line, split_of_path, split_of_word};
use crate::data::annotations::{Format, Found, RawDataset};
use crate::data::source::Source;

const TEXTS: [&str; 3] = ["text", "caption", "captions"];

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    let mut files = Vec::new();
    for file in source.find(|file| matches!(file.name(), "metadata.jsonl" | "metadata.csv")) {
        // Other programs have files of these names.
        let start = source.glance(file, 1 << 16);
        if String::from_utf8_lossy(&start).contains("file_name") {
            files.push(file);
        }
    }
    Ok(Found::some(Format::ImageFolder, None, files))
}

pub(super) fn read(source: &Source, files: &[usize]) -> anyhow::Result<RawDataset> {
    let parse = |builder: &mut Builder, path: &str, bytes: &[u8]| match path.ends_with(".csv") {
        true => parse_csv(builder, path, bytes),
        false => parse_jsonl(builder, path, bytes),
    };
    Ok(Builder::read(source, files, parse)?.finish_with_paths())
}

fn is_text_key(key: &str) -> bool {
    TEXTS.contains(&key)
        || key.strip_prefix("caption_").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn add<'a>(
    builder: &mut Builder,
    path: &str,
    file_name: &str,
    split: Option<&str>,
    captions: impl Iterator<Item = &'a str>,
) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let file_name = file_name.trim_start_matches("./");
    let reference = if folder.is_empty() { file_name.to_owned() } else { format!("{folder}/{file_name}") };
    let image = builder.image(&reference);
    // A split of the row's own counts more than the folder's.
    match split.and_then(split_of_word) {
        Some(split) => builder.split(image, split),
        None => split_of_path(folder).into_iter().for_each(|named| builder.split(image, named)),
    }
    captions.for_each(|caption| builder.caption(image, None, caption));
}

fn parse_jsonl(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    for_each_line(path, bytes, |number, line| {
        let place = || format!("line {number} of {path}");
        let row: Map<String, Value> = serde_json::from_str(line)
            .with_context(|| format!("{} is no JSON object", place()))
            .hint(|| r#"expected {"file_name": "1.jpg", "text": "a caption"}"#)?;
        let Some(file_name) = row.get("file_name").and_then(Value::as_str) else {
            let message = format!("{} has no text under \"file_name\"", place());
            return Err(fault(message, "name the image, relative to this file"));
        };
        let mut captions = Vec::new();
        for (_, value) in row.iter().filter(|(key, _)| is_text_key(key)) {
            match value {
                Value::String(text) => captions.push(text.as_str()),
                Value::Array(texts) => captions.extend(texts.iter().filter_map(Value::as_str)),
                _ => {}
            }
        }
        add(builder, path, file_name, row.get("split").and_then(Value::as_str), captions.into_iter());
        Ok(())
    })
}

fn parse_csv(builder: &mut Builder, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let table = Table::new(path, bytes, b',')?;
    let Some(file_name) = table.column(&["file_name"]) else {
        return Err(fault(format!("{path} has no column file_name"), "name the image, relative to this file"));
    };
    let split = table.column(&["split"]);
    let texts: Vec<usize> = (0..table.header().len()).filter(|&column| is_text_key(&table.header()[column])).collect();
    if texts.is_empty() {
        let message = format!("{path} has no column with captions");
        return Err(fault(message, "call it text, caption, or caption_0, caption_1 and so on"));
    }
    table.for_each_row(|_, values| {
        let captions = texts.iter().map(|&column| values[column]).filter(|text| !text.trim().is_empty());
        add(builder, path, values[file_name].trim(), split.map(|column| values[column]), captions);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;
    use crate::data::dataset::Split;

    #[test]
    fn lines_of_json_name_images_beside_them() {
        let text = "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n\n{\"file_name\":\"b/2.jpg\",\"caption_0\":\"B\",\"caption_1\":\"C\",\"split\":\"test\"}\n{\"file_name\":\"3.jpg\",\"captions\":[\"D\",\"E\"],\"label\":3}\n";
        let mut builder = Builder::default();
        parse_jsonl(&mut builder, "train/metadata.jsonl", text.as_bytes()).unwrap();
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
        parse_csv(&mut builder, "metadata.csv", b"file_name,caption_0,caption_1\n1.jpg,A,\"B, b\"\n2.jpg,C,\n")
            .unwrap();
        let raw = builder.finish("");
        assert_eq!(raw.images[0].captions, ["A", "B, b"]);
        assert_eq!((raw.images[1].captions.len(), raw.images[1].split), (1, None));
    }

    #[test]
    fn what_is_missing_is_named() {
        let jsonl = |text: &str| describe(&parse_jsonl(&mut Builder::default(), "m", text.as_bytes()).unwrap_err());
        assert!(jsonl("{\"text\":\"A\"}").contains("line 1 of m has no text under \"file_name\""));
        assert!(jsonl("{").contains("line 1 of m is no JSON object"));
        let csv = describe(&parse_csv(&mut Builder::default(), "m", b"file_name,label\n1.jpg,3\n").unwrap_err());
        assert!(csv.contains("no column with captions"), "{csv}");
    }
}
