//! JSON Lines under any name: an object for each image, or for each caption, one after the other.

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::caption_json::Entries;
use crate::annotations::input::TheFile;
use crate::annotations::json_shape::JsonShape;
use crate::annotations::json_text::read_json;
use crate::annotations::json_walk::{Place, walk_lines};
use crate::annotations::{Certainty, Format, Found, Input, RawDataset};

pub(super) static FORMAT: Format = Format {
    name: "jsonl",
    description: "JSON Lines of objects with an image and its captions, in a file of any name",
    find,
    read,
};

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let is_ours = |content: &Content| match content {
        Content::Json(JsonShape::Lines(seen)) => {
            seen.is_complete() && seen.first_image.as_ref().is_some_and(|image| candidates.is_image(image))
        }
        _ => false,
    };
    Ok(candidates.grouped(&FORMAT, candidates.files(is_ours), |_| Certainty::Near))
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    let files = input.neighbours();
    Ok(Builder::read(input, |builder, path, text| parse(builder, &files.file(path), text))?.finish(""))
}

pub(super) fn parse(builder: &mut Builder, file: &TheFile<'_>, text: &str) -> anyhow::Result<()> {
    read_json(builder, file.path, text, |builder, text| {
        let mut entries = Entries::new(builder, file);
        walk_lines(text, |record| entries.add(Place::default(), &record))
    })
}
