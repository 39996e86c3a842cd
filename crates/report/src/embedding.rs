//! Embeds bytes, data and code in the page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use base::visible::is_hidden;

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The picture as a `data:` address; `None` if the bytes do not start like JPEG, PNG or WebP.
pub(super) fn picture_uri(bytes: &[u8]) -> Option<String> {
    let kind = match bytes {
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        _ => return None,
    };
    Some(format!("data:image/{kind};base64,{}", base64(bytes)))
}

/// JSON that is safe in a `<script>`: nothing in it ends the element, opens a comment, ends a line of a script, or hides
/// or turns around what follows it.
pub(super) fn script_json(value: &impl Serialize) -> anyhow::Result<String> {
    let json = serde_json::to_string(value)?;
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        // All of these only occur in strings.
        match character {
            '<' | '>' | '&' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ if is_hidden(character) => {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            }
            _ => text.push(character),
        }
    }
    Ok(text)
}

/// The source expression of a Content-Security-Policy that allows only this inline script or style.
pub(super) fn policy_source(code: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(code.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, expected) in cases {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[255, 239, 190]), "/+++");
    }

    #[test]
    fn only_pictures_become_pictures() {
        assert!(picture_uri(b"\xff\xd8\xff\xe0").unwrap().starts_with("data:image/jpeg;base64,/9j/"));
        assert!(picture_uri(b"RIFF....WEBPVP8 ").unwrap().starts_with("data:image/webp"));
        assert_eq!(picture_uri(b"<svg onload=alert(1)>"), None);
        assert_eq!(picture_uri(b""), None);
    }

    #[test]
    fn json_in_a_script_cannot_end_it_and_reads_back() {
        let text = "</script><!-- & \u{2028} \u{2029} \u{202e} \u{e0001} \" ' \\";
        let json = script_json(&[text]).unwrap();
        assert!(!json.contains(['<', '>', '&']) && !json.contains(is_hidden), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }

    #[test]
    fn the_policy_names_a_script_by_its_hash() {
        // The digest of nothing, of the test vectors of SHA-256.
        assert_eq!(policy_source(""), "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='");
    }
}
