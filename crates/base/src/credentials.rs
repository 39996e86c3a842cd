//! Keeps passwords, keys and tokens out of what is shown and stored.
//!
//! Code that reads a secret registers it with [`keep`]; code that shows or stores text from elsewhere (a server's
//! answer, a library's error, the command line) passes it through [`hidden`]. `base::terminal` does so with everything
//! it prints.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

const HIDDEN: &str = "[hidden]";
/// A shorter secret occurs in many words by chance.
const MIN_CHARACTERS: usize = 8;

static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Registers a secret: from now on [`hidden`] removes it from texts.
pub fn keep(secret: &str) {
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    if secret.chars().count() >= MIN_CHARACTERS && !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
    }
}

/// The text without registered secrets, and without `user:password@` in addresses.
pub fn hidden(text: &str) -> Cow<'_, str> {
    let mut text = without_passwords(text);
    for secret in SECRETS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
        }
    }
    text
}

fn without_passwords(text: &str) -> Cow<'_, str> {
    const BEGINS: &str = "://";
    if !text.contains(BEGINS) || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(BEGINS) {
        let (before, address) = rest.split_at(at + BEGINS.len());
        plain.push_str(before);
        rest = &address[password_bytes(address)..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Bytes of `user:password@` before the host name.
fn password_bytes(address: &str) -> usize {
    let word = address.split(|c: char| c.is_whitespace() || c == '"').next().unwrap_or_default();
    let server = word.split(['/', '?', '#']).next().unwrap_or_default();
    // A password may contain such a character unescaped; a port is a number.
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let goes_on = server.split_once(':').is_some_and(|(_, port)| !server.starts_with('[') && !is_port(port));
    let at = server.rfind('@').or_else(|| word.rfind('@').filter(|_| goes_on));
    at.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_taken_out_of_a_text_and_the_rest_stays() {
        for (text, expected) in [
            ("error for url (https://me:SECRET@host/a?b=c)", "error for url (https://host/a?b=c)"),
            ("http://SECRET@host", "http://host"),
            ("http://:SECRET@[::1]:80/", "http://[::1]:80/"),
            ("http://me:a@SECRET@host http://me:SECRET@host", "http://host http://host"),
            ("http://me:SEC/RET@host:1/x", "http://host:1/x"),
            ("socks5h://me:SEC#RET@host", "socks5h://host"),
            ("\"http://me:SECRET@host\" and \"a@b\"", "\"http://host\" and \"a@b\""),
            ("git+ssh://git:SECRET@host/a@b", "git+ssh://host/a@b"),
        ] {
            assert_eq!(hidden(text), expected);
        }
        for text in [
            "",
            "a@b",
            "https://host/@name",
            "https://host:8080/a@b",
            "https://[::1]:80/a@b",
            "://",
            "a://@",
            "me@x ://",
        ] {
            assert_eq!(hidden(text), text.replace("://@", "://"), "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_kept_is_taken_out_wherever_it_stands() {
        keep("hf_kept_in_a_test");
        keep("short");
        assert_eq!(hidden("the token hf_kept_in_a_test is not short"), "the token [hidden] is not short");
    }
}
