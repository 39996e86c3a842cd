//! The JSON of BLIP and LAVIS (Li et al. 2022): `flickr30k_train.json`, a list of `{"image", "caption", "image_id"}` with a
//! line for each caption, and `flickr30k_val.json` and `flickr30k_test.json`, where `caption` is a list.

use crate::annotations::candidates::{Candidates, Content};
use crate::annotations::json_shape::JsonShape;
use crate::annotations::{Certainty, Format, Found, KnownDataset, caption_json};

pub(super) static FORMAT: Format =
    Format { name: "blip", description: "a JSON list of {\"image\", \"caption\"}", find, read: caption_json::read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let is_ours = |content: &Content| match content {
        Content::Json(JsonShape::Document(document)) => {
            document.list("").is_some_and(|list| list.has_key(&["image"]) && list.has_key(&["caption"]))
        }
        _ => false,
    };
    let files = candidates.files(is_ours);
    let mut all = candidates.by_family(&FORMAT, files, |_| Certainty::Sure);
    for found in &mut all {
        found.dataset = KnownDataset::of_path(&candidates.source.files()[found.files[0]].path);
    }
    Ok(all)
}
