//! A repository of a Hub, and what depends on whether it is a model or a dataset.

use std::path::Path;

use hf_hub::RepoType;

/// The default branch.
pub(super) const MAIN: &str = "main";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepositoryKind {
    Model,
    Dataset,
}

impl RepositoryKind {
    /// Its name in messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// Its name in hf-hub.
    pub(super) fn repo_type(self) -> RepoType {
        match self {
            Self::Model => RepoType::Model,
            Self::Dataset => RepoType::Dataset,
        }
    }

    /// Its name in the Hub's addresses.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// The part before the id in the addresses of pages and files.
    pub(super) fn prefix(self) -> Option<&'static str> {
        (self == Self::Dataset).then(|| self.plural())
    }
}

/// A repository at one revision, and what messages about its download say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository<'a> {
    pub(super) kind: RepositoryKind,
    pub(super) id: &'a str,
    /// A branch, a tag, or the full hash of a commit.
    pub(super) revision: &'a str,
    /// What to do without a network, as the end of a hint.
    pub(super) manual: &'a str,
    /// Folder into which the content of the files is copied afterwards.
    pub(super) copied_to: Option<&'a Path>,
}

impl Repository<'_> {
    /// The address of its page on the Hub at `endpoint`.
    pub(super) fn page(&self, endpoint: &str) -> String {
        let prefix = self.kind.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        format!("{endpoint}/{prefix}{}", self.id)
    }
}
