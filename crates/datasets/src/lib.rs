//! From the files that you have (annotations of many formats, folders, archives) to a prepared data set: `images/` and
//! `dataset.json`.
//!
//! Imports go down: `image_id`, `name_forms`, `caption_extras`, `column_names`, `split`, `stamp`, `compression` <
//! `dataset_file` < `dataset_reader`, `images` < `shards` < `picture_file` < `prepared` < `source` < `annotations` <
//! `output` < `shapes` < `prepare` < `look`. Every `mod.rs` with files below it says their order.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod annotations;
pub mod caption_extras;
pub mod column_names;
mod compression;
mod dataset_file;
mod dataset_reader;
pub mod image_id;
mod images;
pub mod look;
mod name_forms;
pub mod output;
pub mod picture_file;
pub mod prepare;
pub mod prepared;
pub mod shapes;
pub mod shards;
pub mod source;
mod split;
mod stamp;
