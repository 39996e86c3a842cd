//! The text of a config file, whatever an editor or a shell has encoded it in.

use std::path::Path;

use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::error::usage_error;
use base::visible;

/// Reads a config file: UTF-8, or UTF-16 with a byte order mark, as `>` of Windows PowerShell writes it.
///
/// # Errors
/// A usage error for a file that cannot be read or is not such a text.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = path.to_string_lossy();
    let name = visible::line(&name);
    let bytes = bounded_file::read(path, MAX_DESCRIPTION_BYTES).map_err(|error| {
        usage_error(
            format!("cannot read the config file {name}: {error}"),
            "give a TOML file that exists; configs/reference.toml shows every key",
        )
    })?;
    decode(&bytes).map_err(|what| {
        usage_error(
            format!("the config file {name} {what}"),
            "save it as UTF-8 in your editor, or in PowerShell with `Set-Content -Encoding utf8`",
        )
    })
}

fn decode(bytes: &[u8]) -> Result<String, String> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err("is UTF-32 text".to_owned()),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ if bytes.contains(&0) => {
            Err("contains zero bytes: it is UTF-16 without a byte order mark, or not text".to_owned())
        }
        _ => std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            format!("is not UTF-8 text, line {line}")
        }),
    }
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (units, rest) = bytes.as_chunks();
    let units: Vec<u16> = units.iter().copied().map(unit).collect();
    let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
    text.ok_or_else(|| "begins like UTF-16 text but is damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    const TEXT: &str = "name = \"кошка 🐈\"\r\nseed = 3\n";

    fn utf_16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    fn refusal(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, bytes).unwrap();
        let error = read_text(&path).unwrap_err();
        assert!(is_usage_error(&error));
        describe(&error)
    }

    #[test]
    fn utf_8_and_utf_16_of_either_order_give_the_same_text() {
        for bytes in [TEXT.as_bytes(), &utf_16_of(TEXT, u16::to_le_bytes), &utf_16_of(TEXT, u16::to_be_bytes)] {
            assert_eq!(decode(bytes).unwrap(), TEXT);
        }
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn what_is_not_such_a_text_is_refused_with_the_way_to_save_it() {
        let little = utf_16_of(TEXT, u16::to_le_bytes);
        for (bytes, expected) in [
            (&little[2..], "run.toml contains zero bytes: it is UTF-16 without"),
            (&little[..little.len() - 1], "run.toml begins like UTF-16 text but is damaged"),
            (b"\xff\xfe\x00\xd8a\0", "run.toml begins like UTF-16 text but is damaged"),
            (b"seed = 1\nname = \"caf\xe9\"\n", "run.toml is not UTF-8 text, line 2"),
        ] {
            let text = refusal(bytes);
            assert!(text.contains(expected) && text.contains("hint: save it as UTF-8"), "{text}");
        }
    }
}
