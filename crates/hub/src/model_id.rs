//! The name of a model on the Hub, with or without a revision: `owner/name`, `owner/name@v1.0`, `owner/name@refs/pr/4`,
//! `owner/name@COMMIT`.

use std::fmt::{self, Display};

use base::error::usage_error;

use crate::requests::{check_revision, is_id};

/// A repository of a model, at a branch, a tag, a pull request or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    id: String,
    revision: Option<String>,
}

impl ModelId {
    /// The id in front of an `@`, and the revision after it.
    pub fn split(name: &str) -> (&str, Option<&str>) {
        name.split_once('@').map_or((name, None), |(id, revision)| (id, Some(revision)))
    }

    /// Reads `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// An invalid id or revision.
    pub fn parse(name: &str) -> anyhow::Result<Self> {
        let (id, revision) = Self::split(name);
        Self::new(id, revision)
    }

    /// The repository `id` at `revision`; without one, at its branch `main`.
    ///
    /// # Errors
    /// An invalid id or revision.
    pub fn new(id: &str, revision: Option<&str>) -> anyhow::Result<Self> {
        if !is_id(id) {
            return Err(usage_error(
                format!("\"{id}\" is neither a folder that exists nor the id of a Hub repository"),
                "an id is owner/name, such as google/vit-base-patch16-224-in21k; for a folder check the path",
            ));
        }
        check_revision(id, revision)?;
        Ok(Self { id: id.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// `owner/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was asked for, if anything was.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }
}

impl Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// Whether a revision is the full hash of a commit, which always means the same files.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::is_usage_error;

    #[test]
    fn a_revision_follows_the_id() {
        for (text, id, revision) in [
            ("owner/name", "owner/name", None),
            ("gpt2@main", "gpt2", Some("main")),
            ("owner/name@refs/pr/4", "owner/name", Some("refs/pr/4")),
            ("owner/name@v1.0", "owner/name", Some("v1.0")),
            ("owner/name@a@b", "owner/name", Some("a@b")),
        ] {
            let found = ModelId::parse(text).unwrap();
            assert_eq!((found.id(), found.revision()), (id, revision), "{text}");
            assert_eq!(found.to_string(), text);
        }
    }

    #[test]
    fn a_revision_that_leads_out_of_the_folder_is_refused() {
        for text in ["a/b@", "a/b@..", "a/b@../../x", "a/b@/etc", "a/b@x//y", "a/b@x\\..\\y", "a/b@C:x", "a/b@x\ny"] {
            assert!(is_usage_error(&ModelId::parse(text).unwrap_err()), "{text:?}");
        }
        assert!(is_usage_error(&ModelId::parse("@main").unwrap_err()));
    }
}
