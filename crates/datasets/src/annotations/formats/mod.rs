//! One reader for each format. A new format is a file with its `FORMAT`, declared here, and a line in [`FORMATS`].

pub(crate) mod beside_images;
mod caption_json;
mod coco;
pub mod flickr30k_hub;
mod flickr30k_kaggle;
pub mod flickr8k;
mod image_folder;
mod karpathy;
mod pairs;
mod parquet;
mod table;
mod token_lines;

use crate::annotations::format::Format;

/// All formats; of two for one known data set the earlier has more to say.
pub static FORMATS: &[&Format] = &[
    &karpathy::FORMAT,
    &flickr30k_hub::FORMAT,
    &flickr8k::FORMAT,
    &token_lines::FLICKR30K,
    &flickr30k_kaggle::FORMAT,
    &table::FLICKR8K_KAGGLE,
    &coco::FORMAT,
    &caption_json::BLIP,
    &image_folder::FORMAT,
    &beside_images::WEBDATASET,
    &parquet::FORMAT,
    &table::FORMAT,
    &caption_json::FORMAT,
    &caption_json::JSON_LINES,
    &token_lines::FORMAT,
    &pairs::FORMAT,
    &beside_images::SIDECAR,
];
