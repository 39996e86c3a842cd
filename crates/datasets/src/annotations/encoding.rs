//! The text of a file, in the encodings that programs write by themselves: UTF-8, and UTF-16 as Excel and PowerShell
//! save it. An encoding that cannot be distinguished from others (Latin-1, Windows-1252) is refused, with the place.

use base::error::failure;

const SAVE: &str = "save the file as UTF-8, or use the file as it is distributed";

/// The text of a file's content, without the mark that says how it is encoded.
pub fn decode(file: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    decode_part(file, bytes, true)
}

/// [`decode`] for the first bytes of a file, which may end within a character.
pub(crate) fn decode_start(file: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    decode_part(file, bytes, false)
}

fn decode_part(file: &str, mut bytes: Vec<u8>, is_whole: bool) -> anyhow::Result<String> {
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Err(failure(format!("{file} is UTF-32 text, which is not supported"), SAVE));
    }
    if let Some(unit) = utf_16(&bytes) {
        return decode_utf_16(file, &bytes, unit, is_whole);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let (valid, is_cut) = (error.utf8_error().valid_up_to(), error.utf8_error().error_len().is_none());
    let mut bytes = error.into_bytes();
    if is_cut && !is_whole {
        bytes.truncate(valid);
        return String::from_utf8(bytes).map_err(anyhow::Error::new);
    }
    let line = 1 + bytes[..valid].iter().filter(|&&byte| byte == b'\n').count();
    if is_cut {
        let message = format!("line {line} of {file} ends within a character: the file was cut off");
        return Err(failure(message, "download the whole file again"));
    }
    let other = if bytes.contains(&0) { "" } else { ", perhaps Latin-1 or Windows-1252" };
    let message = format!("line {line} of {file} is not UTF-8 text: it has the byte 0x{:02X}{other}", bytes[valid]);
    Err(failure(message, SAVE))
}

/// How two bytes make a unit of UTF-16.
type Unit = fn([u8; 2]) -> u16;

/// UTF-16 begins with a mark, or is recognized by the zeros of its first letters.
fn utf_16(bytes: &[u8]) -> Option<Unit> {
    const LOOKED_AT: usize = 64;
    if bytes.starts_with(b"\xff\xfe") {
        return Some(u16::from_le_bytes);
    }
    if bytes.starts_with(b"\xfe\xff") {
        return Some(u16::from_be_bytes);
    }
    let units = bytes[..bytes.len().min(LOOKED_AT)].as_chunks::<2>().0;
    let all = |is_letter: fn(&[u8; 2]) -> bool| units.len() > 1 && units.iter().all(is_letter);
    if all(|unit| unit[0] != 0 && unit[1] == 0) {
        Some(u16::from_le_bytes)
    } else if all(|unit| unit[0] == 0 && unit[1] != 0) {
        Some(u16::from_be_bytes)
    } else {
        None
    }
}

fn decode_utf_16(file: &str, bytes: &[u8], unit: Unit, is_whole: bool) -> anyhow::Result<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len() / 2);
    let mut units = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).peekable();
    units.next_if(|first| *first == Ok('\u{feff}'));
    let mut is_cut = !rest.is_empty();
    while let Some(character) = units.next() {
        match character {
            Ok(character) => text.push(character),
            Err(_) if units.peek().is_none() => is_cut = true,
            Err(_) => {
                let line = 1 + text.matches('\n').count();
                let message = format!("line {line} of {file} is not UTF-16 text: it has half of a character");
                return Err(failure(message, SAVE));
            }
        }
    }
    if is_cut && is_whole {
        let message = format!("{file} ends within a character of UTF-16: the file was cut off");
        return Err(failure(message, "download the whole file again"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn utf_16(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn utf_8_and_utf_16_are_read_with_and_without_their_marks() {
        let text = "image,caption\r\n1.jpg,a 🐕 café\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf_16(text, b"\xff\xfe", u16::to_le_bytes),
            utf_16(text, b"\xfe\xff", u16::to_be_bytes),
            utf_16(text, b"", u16::to_le_bytes)[..40].to_vec(),
            utf_16(text, b"", u16::to_be_bytes)[..40].to_vec(),
        ] {
            let read = decode("t.csv", bytes).unwrap();
            assert!(text.starts_with(&read) && read.len() >= 20, "{read:?}");
        }
        for plain in ["", "a", "a\0\0", "一\0"] {
            assert_eq!(decode("t", plain.as_bytes().to_vec()).unwrap(), plain);
        }
    }

    #[test]
    fn other_encodings_and_cut_files_are_named_with_the_line() {
        for (bytes, expected) in [
            (b"a\nb caf\xe9 c\n".to_vec(), "line 2 of t.csv is not UTF-8 text: it has the byte 0xE9, perhaps Latin-1"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "t.csv is UTF-32"),
            (b"\x89PNG\0\0".to_vec(), "line 1 of t.csv is not UTF-8 text: it has the byte 0x89"),
            (b"a\ncaf\xc3".to_vec(), "line 2 of t.csv ends within a character: the file was cut off"),
            (b"\xff\xfea\0b".to_vec(), "t.csv ends within a character of UTF-16"),
            (b"\xff\xfea\0\n\0\x3d\xd8b\0".to_vec(), "line 2 of t.csv is not UTF-16 text"),
        ] {
            let text = describe(&decode("t.csv", bytes).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn the_start_of_a_file_may_end_within_a_character() {
        assert_eq!(decode_start("t", b"caf\xc3".to_vec()).unwrap(), "caf");
        assert_eq!(decode_start("t", b"\xff\xfea\0\x3d\xd8".to_vec()).unwrap(), "a");
        assert_eq!(decode_start("t", b"\xff\xfea\0b".to_vec()).unwrap(), "a");
        assert!(decode_start("t", b"caf\xe9 x".to_vec()).is_err());
    }
}
