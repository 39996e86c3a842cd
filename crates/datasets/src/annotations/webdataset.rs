//! The shards of a web data set: tar archives in which `KEY.jpg` stands beside `KEY.txt`, or beside `KEY.json` with the
//! caption under `caption`, `text` or another of its names. A key ends at the first dot of the file's name, or at
//! the last one where an image and a text have all before it in common.

use crate::annotations::candidates::Candidates;
use crate::annotations::chosen::{Chosen, KINDS, chosen};
use crate::annotations::paired::{self, pairs};
use crate::annotations::{Format, Found, Input, RawDataset};
use crate::source::{Source, SourceFile};

pub(super) static FORMAT: Format =
    Format { name: "webdataset", description: "tar archives with KEY.jpg and KEY.txt or KEY.json", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let texts = found(candidates.source)?.pairs.into_iter().map(|pair| pair.text).collect();
    Ok(Found::some(&FORMAT, None, texts))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    paired::read(input, found(input.source)?)
}

/// What is read of the shards; where no text has words in it, those that say so when they are read.
fn found(source: &Source) -> anyhow::Result<Chosen> {
    let kinds = KINDS.map(|endings| pairs(source, SourceFile::is_in_tar, endings));
    let chosen = chosen(source, &kinds)?;
    let of_any = || kinds.into_iter().find(|pairs| !pairs.is_empty()).unwrap_or_default();
    Ok(if chosen.pairs.is_empty() { Chosen { pairs: of_any(), note: None } } else { chosen })
}

#[cfg(test)]
mod tests {
    use crate::annotations::builder::Builder;
    use crate::annotations::paired::captions_of_json;
    use base::fault::describe;

    #[test]
    fn captions_are_under_any_of_their_names() {
        for (text, expected) in [
            (r#"{"caption":"A","url":1,"captions":["B","C"],"text":null}"#, vec!["A", "B", "C"]),
            (r#"{"Caption":"A","similarity":NaN}"#, vec!["A"]),
            (r#"{"sentence_1":"A","sentence_2":"B"}"#, vec!["A", "B"]),
        ] {
            let mut builder = Builder::default();
            assert_eq!(captions_of_json(&mut builder, "a.json", text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_caption_is_told() {
        let mut builder = Builder::default();
        let mut read = |text| captions_of_json(&mut builder, "a.json", text).map_err(|error| describe(&error));
        assert!(read(r#"{"caption":3}"#).unwrap().is_empty());
        assert!(read("[\"A\"]").unwrap_err().contains("a.json is no JSON object"));
        assert!(read(r#"{"caption":"#).unwrap_err().contains("cut off"));
        assert!(
            read(r#"{"label":1,"size":2}"#)
                .unwrap_err()
                .contains("holds no captions: a JSON object with the keys label, size")
        );
        assert_eq!(builder.rejects[0].reason, "it is a number, not a text");
    }
}
