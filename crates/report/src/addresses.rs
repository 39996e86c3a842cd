//! Addresses of files as a page has them: relative to its folder, with everything percent-encoded that is not a plain
//! letter, digit or sign.

use std::path::{Component, Path};

/// The path as an address relative to the page's folder, whatever it contains: `javascript:x` is the name of a file.
pub(super) fn relative_address(path: &str) -> String {
    address(path.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").map(str::as_bytes))
}

/// [`relative_address`] of a folder's path, with a slash at its end; it may lead upwards.
pub(super) fn folder_address(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        Component::ParentDir => Some(b"..".as_slice()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    address(parts) + "/"
}

fn address<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut address = ".".to_owned();
    for part in parts {
        address.push('/');
        for &byte in part {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                address.push(char::from(byte));
            } else {
                address.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_below_the_page_and_are_not_schemes() {
        let cases = [
            ("checkpoints/last.safetensors", "./checkpoints/last.safetensors"),
            ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
            ("//host/a b", "./host/a%20b"),
            ("a\\ü", "./a/%C3%BC"),
            ("", "."),
        ];
        for (path, expected) in cases {
            assert_eq!(relative_address(path), expected);
        }
    }

    #[test]
    fn the_address_of_a_folder_may_lead_upwards() {
        for (path, expected) in [("images", "./images/"), ("../a b/images", "./../a%20b/images/"), ("", "./")] {
            assert_eq!(folder_address(Path::new(path)), expected);
        }
    }
}
