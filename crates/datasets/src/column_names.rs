//! The columns, or keys of JSON, that the user names with `--columns image=photo,caption=text_en`.

use serde::{Deserialize, Serialize};

use base::error::usage_error;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnNames {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Several where each has a caption of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caption: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Image,
    Caption,
    Prompt,
    Weight,
    Split,
}

impl ColumnNames {
    /// The names of `given`, each as `ROLE=NAME`.
    ///
    /// # Errors
    /// Another role, no name, a role other than `caption` twice.
    pub fn parse<T: AsRef<str>>(given: &[T]) -> anyhow::Result<Self> {
        const HINT: &str = "give roles and names of columns, such as `--columns image=photo,caption=text`; roles are \
                            image, caption, prompt, weight and split";
        let mut names = Self::default();
        for pair in given.iter().map(AsRef::as_ref) {
            let Some((role, name)) = pair.split_once('=').map(|(role, name)| (role.trim(), name.trim())) else {
                return Err(usage_error(format!("--columns: expected ROLE=NAME, found {pair:?}"), HINT));
            };
            if name.is_empty() {
                return Err(usage_error(format!("--columns: {role} has no name"), HINT));
            }
            let place = match role {
                "image" => &mut names.image,
                "prompt" => &mut names.prompt,
                "weight" => &mut names.weight,
                "split" => &mut names.split,
                "caption" => {
                    names.caption.push(name.to_owned());
                    continue;
                }
                _ => return Err(usage_error(format!("--columns: unknown role {role:?}"), HINT)),
            };
            if let Some(first) = place.replace(name.to_owned()) {
                let message = format!("--columns: two columns are named for {role}: {first} and {name}");
                return Err(usage_error(message, "name one; only caption may have several"));
            }
        }
        Ok(names)
    }

    /// As [`Self::parse`] takes them.
    pub fn pairs(&self) -> Vec<String> {
        let name = |role: Role| match role {
            Role::Image => "image",
            Role::Caption => "caption",
            Role::Prompt => "prompt",
            Role::Weight => "weight",
            Role::Split => "split",
        };
        self.all().map(|(role, column)| format!("{}={column}", name(role))).collect()
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All names with what they are for.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Role, &str)> {
        let Self { image, caption, prompt, weight, split } = self;
        let single = [(Role::Image, image), (Role::Prompt, prompt), (Role::Weight, weight), (Role::Split, split)];
        let single = single.into_iter().filter_map(|(role, name)| Some((role, name.as_deref()?)));
        caption.iter().map(|name| (Role::Caption, name.as_str())).chain(single)
    }

    /// What the column called `name` is for, where the user names it.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        self.all().find(|(_, given)| are_same(given, name)).map(|(role, _)| role)
    }

    /// Whether the user names a column for this.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.all().any(|(given, _)| given == role)
    }
}

/// Readers of tables write the names of columns in small letters.
pub(crate) fn are_same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    #[test]
    fn names_have_roles_and_captions_may_have_several() {
        let names = ColumnNames::parse(&["image=photo", "caption=en", "caption = de", "split=part"]).unwrap();
        assert_eq!((names.image.as_deref(), names.split.as_deref()), (Some("photo"), Some("part")));
        assert_eq!(names.caption, ["en", "de"]);
        assert_eq!(
            (names.role("DE"), names.role("Photo "), names.role("fr")),
            (Some(Role::Caption), Some(Role::Image), None)
        );
        assert!(names.has(Role::Split) && !names.has(Role::Weight) && !names.is_empty());
        let text = serde_json::to_string(&names).unwrap();
        assert_eq!(serde_json::from_str::<ColumnNames>(&text).unwrap(), names);
        assert_eq!(serde_json::from_str::<ColumnNames>("{}").unwrap(), ColumnNames::parse::<&str>(&[]).unwrap());
    }

    #[test]
    fn what_names_no_column_is_a_mistake_of_usage() {
        for (given, expected) in [
            (&["photo"][..], "expected ROLE=NAME, found \"photo\""),
            (&["image="], "image has no name"),
            (&["picture=a"], "unknown role \"picture\""),
            (&["image=a", "image=b"], "two columns are named for image: a and b"),
        ] {
            let error = ColumnNames::parse(given).unwrap_err();
            assert!(is_usage_error(&error) && describe(&error).contains(expected), "{}", describe(&error));
        }
    }
}
