//! Which repository of a Hub, and what depends on whether it is a model or a data set.

use std::path::Path;

/// The branch that is meant where none is named.
pub(super) const MAIN: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepositoryKind {
    Model,
    Dataset,
}

impl RepositoryKind {
    /// As people call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }

    /// As the Hub calls it, in its addresses and in its cache.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the id in the addresses of its page and of its files.
    pub(super) fn prefix(self) -> Option<&'static str> {
        (self == Self::Dataset).then(|| self.plural())
    }
}

/// A repository at one revision, and what to say about its download.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository<'a> {
    pub(super) kind: RepositoryKind,
    pub(super) id: &'a str,
    /// A branch, a tag, or the full name of a commit.
    pub(super) revision: &'a str,
    /// The terms of use, said before anything is fetched; may be empty.
    pub(super) terms: &'a str,
    /// What to do without a network, as the end of a hint.
    pub(super) manual: &'a str,
    /// Folder into which all that the files hold goes afterwards, a second time.
    pub(super) copied_to: Option<&'a Path>,
}

impl Repository<'_> {
    /// The address of its page on the Hub at `endpoint`.
    pub(super) fn page(&self, endpoint: &str) -> String {
        let prefix = self.kind.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        format!("{endpoint}/{prefix}{}", self.id)
    }
}
