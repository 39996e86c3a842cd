//! From the files that people have (annotations of many formats, folders, archives) to a prepared data set: `images/` and
//! `dataset.json`.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod annotations;
pub mod image_id;
mod name_forms;
pub mod prepare;
pub mod prepared;
pub mod shapes;
pub mod source;
mod write;
