//! Errors with a hint, and how an error is shown.
//!
//! An error is an `anyhow` chain. A [`Hint`] in it says what to do and is shown last. A chain that holds a
//! [`UsageError`] is a mistake on the command line or in a config file: exit code 2.

use std::error::Error;
use std::fmt::{self, Display};

/// Characters shown of one link of a chain. A library that quotes what it found may quote a whole file.
const MAX_SHOWN: usize = 4000;

/// A mistake on the command line or in a config file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What to do about the error below it in the chain.
#[derive(Debug)]
pub struct Hint {
    text: String,
    error: anyhow::Error,
}

impl Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hint: {}", self.text)
    }
}

impl Error for Hint {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

/// An error with a hint.
pub fn failure(message: impl Display, hint: impl Display) -> anyhow::Error {
    with_hint(anyhow::anyhow!("{message}"), hint)
}

/// A mistake on the command line or in a config file, with a hint.
pub fn usage_error(message: impl Display, hint: impl Display) -> anyhow::Error {
    with_hint(UsageError(message.to_string()).into(), hint)
}

/// The error with its meaning and a hint.
pub fn explained(error: anyhow::Error, message: impl Display, hint: impl Display) -> anyhow::Error {
    with_hint(error.context(message.to_string()), hint)
}

/// The error with a hint.
pub fn with_hint(error: anyhow::Error, hint: impl Display) -> anyhow::Error {
    Hint { text: hint.to_string(), error }.into()
}

/// Adds a hint to the error of a result.
pub trait WithHint<T> {
    /// Adds a hint to the error, if there is one.
    fn hint<D: Display>(self, text: impl FnOnce() -> D) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint<D: Display>(self, text: impl FnOnce() -> D) -> anyhow::Result<T> {
        self.map_err(|error| with_hint(error.into(), text()))
    }
}

/// The links of a chain that are no hints, each cut to a length that can be shown.
pub fn causes(error: &anyhow::Error) -> Vec<String> {
    error.chain().filter(|link| !link.is::<Hint>()).map(|link| cut(link.to_string())).collect()
}

fn hints(error: &anyhow::Error) -> impl Iterator<Item = String> {
    error.chain().filter_map(|link| link.downcast_ref::<Hint>()).map(|hint| cut(hint.text.clone()))
}

/// The text of an error: its first line, a `caused by:` for each deeper one, then the hints.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = message(error, "\n  caused by: ");
    for hint in hints(error) {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

/// The text of an error in one line, its hints in brackets.
pub fn one_line(error: &anyhow::Error) -> String {
    let hints: String = hints(error).map(|hint| format!(" ({hint})")).collect();
    format!("{}{hints}", message(error, ": ")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn message(error: &anyhow::Error, separator: &str) -> String {
    let mut causes = causes(error);
    // Some libraries repeat the text of their source in their own.
    causes.dedup();
    causes.join(separator)
}

fn cut(mut link: String) -> String {
    if let Some((end, _)) = link.char_indices().nth(MAX_SHOWN) {
        let left_out = link[end..].chars().count();
        link.truncate(end);
        link.push_str(&format!("… and {left_out} more characters"));
    }
    link
}

/// Whether the error is a mistake on the command line or in a config file.
pub fn is_usage_error(error: &anyhow::Error) -> bool {
    error.chain().any(|link| link.is::<UsageError>())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn one_line_holds_causes_and_the_way_out() {
        let error = failure("the file\nis empty", "make a new one").context("cannot read a.json");
        assert_eq!(one_line(&error), "cannot read a.json: the file is empty (make a new one)");
    }

    #[test]
    fn a_link_without_an_end_is_cut_and_its_hint_stays() {
        let text = describe(&failure("犬".repeat(5000), "make a new one"));
        assert_eq!(text, format!("{}… and 1000 more characters\n  hint: make a new one", "犬".repeat(4000)));
    }

    #[test]
    fn hints_come_last_and_causes_in_order() {
        let error = failure("the file is empty", "make a new one").context("cannot read a.json");
        assert_eq!(describe(&error), "cannot read a.json\n  caused by: the file is empty\n  hint: make a new one");
    }

    #[test]
    fn a_text_that_begins_like_a_hint_is_none() {
        let error = failure("hint: not one", "a real one");
        assert_eq!(describe(&error), "hint: not one\n  hint: a real one");
        assert_eq!(one_line(&error), "hint: not one (a real one)");
    }

    #[test]
    fn usage_is_seen_through_context() {
        let failed: anyhow::Result<()> = Err(usage_error("unknown key", "remove it"));
        assert!(is_usage_error(&failed.context("config run.toml").unwrap_err()));
        assert!(!is_usage_error(&failure("a", "b")));
    }
}
