//! From the file of an image to the normalized pixels that an encoder takes, equal to what Pillow and the image
//! processors of transformers compute. Imports go down: `picture_formats` < `image_file` < `image_processor`.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod image_file;
pub mod image_processor;
pub mod picture_formats;
