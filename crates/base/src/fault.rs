//! How an error carries a way out and how it is shown.
//!
//! An error is an `anyhow` chain. A link that begins with `hint: ` says what to do and is shown last. A chain that
//! holds a [`UsageError`] is a mistake on the command line or in a config file: exit code 2.

use std::fmt::Display;

/// Characters of one link of a chain that are shown. A library that quotes what it found may quote a whole file.
const MOST_SHOWN: usize = 4000;
const HINT: &str = "hint: ";

/// A mistake in what a person wrote: the command line or a config file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// An error with a message and a way out.
pub fn fault(message: impl Display, hint: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{message}").context(format!("{HINT}{hint}"))
}

/// A mistake in what a person wrote, with a way out.
pub fn usage(message: impl Display, hint: impl Display) -> anyhow::Error {
    anyhow::Error::new(UsageError(message.to_string())).context(format!("{HINT}{hint}"))
}

/// The error with what it means and a way out.
pub fn explained(error: anyhow::Error, message: impl Display, hint: impl Display) -> anyhow::Error {
    error.context(message.to_string()).context(format!("{HINT}{hint}"))
}

/// Adds a way out to a failure.
pub trait WithHint<T> {
    /// Adds `hint: TEXT` to the error, if there is one.
    ///
    /// # Errors
    /// The error that was there.
    fn hint<D: Display>(self, text: impl FnOnce() -> D) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint<D: Display>(self, text: impl FnOnce() -> D) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(format!("{HINT}{}", text())))
    }
}

/// The text of an error: its first line, a `caused by:` for each deeper one, then the hints.
pub fn describe(error: &anyhow::Error) -> String {
    let links: Vec<String> = error.chain().map(|link| cut(link.to_string())).collect();
    let mut causes: Vec<&str> = links.iter().map(String::as_str).filter(|link| !link.starts_with(HINT)).collect();
    // Some libraries repeat the text of their source in their own.
    causes.dedup();
    let hints = links.iter().map(String::as_str).filter(|link| link.starts_with(HINT));
    let mut text = causes.first().copied().unwrap_or("unknown failure").to_owned();
    for cause in causes.iter().skip(1) {
        text.push_str("\n  caused by: ");
        text.push_str(cause);
    }
    for hint in hints {
        text.push_str("\n  ");
        text.push_str(hint);
    }
    text
}

fn cut(mut link: String) -> String {
    if let Some((end, _)) = link.char_indices().nth(MOST_SHOWN) {
        let left_out = link[end..].chars().count();
        link.truncate(end);
        link.push_str(&format!("… and {left_out} characters more"));
    }
    link
}

/// The text of an error in one line, its way out in brackets.
pub fn one_line(error: &anyhow::Error) -> String {
    let text = describe(error).replace("\n  caused by: ", ": ");
    let mut lines = text.split(&format!("\n  {HINT}")).map(str::to_owned).collect::<Vec<_>>().into_iter();
    let message = lines.next().unwrap_or_default();
    let hints: String = lines.map(|hint| format!(" ({hint})")).collect();
    format!("{message}{hints}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the error is a mistake of usage.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|link| link.downcast_ref::<UsageError>().is_some())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn one_line_holds_causes_and_the_way_out() {
        let error = fault("the file\nis empty", "make a new one").context("cannot read a.json");
        assert_eq!(one_line(&error), "cannot read a.json: the file is empty (make a new one)");
    }

    #[test]
    fn a_link_without_an_end_is_cut_and_its_hint_stays() {
        let text = describe(&fault("犬".repeat(5000), "make a new one"));
        assert_eq!(text, format!("{}… and 1000 characters more\n  hint: make a new one", "犬".repeat(4000)));
    }

    #[test]
    fn hints_come_last_and_causes_in_order() {
        let error = fault("the file is empty", "make a new one").context("cannot read a.json");
        assert_eq!(describe(&error), "cannot read a.json\n  caused by: the file is empty\n  hint: make a new one");
    }

    #[test]
    fn usage_is_seen_through_context() {
        let failed: anyhow::Result<()> = Err(usage("unknown key", "remove it"));
        assert!(is_usage(&failed.context("config run.toml").unwrap_err()));
        assert!(!is_usage(&fault("a", "b")));
    }
}
