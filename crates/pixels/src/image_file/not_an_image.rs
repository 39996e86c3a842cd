//! What a file is instead of an image that can be read.

use crate::image_file::decoded::FETCH_AGAIN;
use crate::picture_formats::{READ, how_to_convert, unread_format_of_content};
use base::error::failure;

/// Says what was found where an image was expected.
pub(super) fn not_an_image(bytes: &[u8]) -> anyhow::Error {
    let expected = format!("expected a {READ} image, found");
    let start = &bytes[..bytes.len().min(256)];
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid()).trim_start();
    if let Some(format) = unread_format_of_content(bytes) {
        failure(format!("not supported: a picture of the format {format}"), how_to_convert(format))
    } else if bytes.is_empty() {
        failure("the file is empty", FETCH_AGAIN)
    } else if text.starts_with("version https://git-lfs") {
        failure(format!("{expected} a Git LFS pointer"), "fetch the content with `git lfs pull`")
    } else if text.starts_with('<') {
        failure(
            format!("{expected} an HTML or XML page"),
            "a web page was downloaded instead of the file: download it again",
        )
    } else if start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) {
        failure(format!("{expected} text"), FETCH_AGAIN)
    } else {
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        failure(format!("{expected} an unknown format that begins with the bytes {}", first.join(" ")), FETCH_AGAIN)
    }
}
