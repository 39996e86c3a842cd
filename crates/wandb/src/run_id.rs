//! The names of runs: eight random base-36 characters, or what a person chose.

use anyhow::bail;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 8;
/// The official client's bounds.
const MOST_CHARACTERS: usize = 128;
const FORBIDDEN: &str = "/\\#?%:";

/// A name made from random bits. Names are drawn from 2.8 trillion, the unevenness from the division is below 1e-6.
pub(super) fn from_random(mut bits: u64) -> String {
    let mut name = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        name.push(char::from(DIGITS[(bits % 36) as usize]));
        bits /= 36;
    }
    name
}

/// Refuses a name that the server or the file system would refuse.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.trim() != name {
        bail!("a run id is not empty and neither begins nor ends with a space");
    }
    if name.chars().count() > MOST_CHARACTERS {
        bail!("a run id has at most {MOST_CHARACTERS} characters, {name} has {}", name.chars().count());
    }
    if let Some(found) = name.chars().find(|c| FORBIDDEN.contains(*c) || c.is_control()) {
        bail!("a run id may not have the character {found:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_eight_base_36_characters() {
        assert_eq!(from_random(0), "00000000");
        assert_eq!(from_random(35 + 36 * 10), "za000000");
        for bits in [1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let name = from_random(bits);
            assert!(name.len() == 8 && name.bytes().all(|byte| DIGITS.contains(&byte)), "{name}");
            check(&name).unwrap();
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_or_the_address_are_refused() {
        for name in ["", " a", "a/b", "..\\a", "a?b", "a#b", "50%", "a:b", "a\nb", &"a".repeat(129)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        check("my run-3.b").unwrap();
    }
}
