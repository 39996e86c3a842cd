//! What a name of an image in annotations says: which file is meant, its split, and that it is not the image of that
//! name in other folders.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::annotations::split_names::{NamedSplit, split_of_path};
use crate::annotations::text::is_missing;
use crate::name_forms::{last_part, loosest, on_any_disk, tidy, without_coco};
use pixels::picture_formats::is_image_name;

/// The path of an image that is called `name` where something else beside it says where it lies: its whole path, or the
/// folder that it is in.
pub(crate) fn placed<'n>(name: &'n str, place: &'n str) -> Cow<'n, str> {
    let (name, place) = (file_of(name), place.trim());
    let of_place = last_part(&tidy(place)).to_owned();
    if place.is_empty() || is_missing(place) || name == place {
        return Cow::Borrowed(name);
    }
    if is_image_name(&of_place) || loosest(&of_place) == loosest(name) {
        // A path to a file of another name may be that of something else.
        let is_same = !is_image_name(name) || loosest(&of_place) == loosest(last_part(&tidy(name)));
        return Cow::Borrowed(if is_same { file_of(place) } else { name });
    }
    let folder = place.trim_end_matches(['/', '\\']);
    let is_inside = name.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '\\']));
    if is_inside { Cow::Borrowed(name) } else { Cow::Owned(format!("{folder}/{name}")) }
}

/// The file that a name is of: of an address what follows its last `/`, without its query.
pub(crate) fn file_of(name: &str) -> &str {
    if !name.starts_with("http://") && !name.starts_with("https://") {
        return name;
    }
    let path = name.split(['?', '#']).next().unwrap_or(name);
    path.rsplit('/').next().unwrap_or(path)
}

/// The split that the folders of a path speak of. A home folder on another machine speaks of none: of a path from
/// the root the last folder counts, or the one before where the last is called `images` or the like.
pub(crate) fn split_of_folders(reference: &str) -> Option<NamedSplit<'_>> {
    let folder = &reference[..reference.rfind(['/', '\\'])?];
    let is_from_root = folder.starts_with(['/', '\\', '~']) || folder.as_bytes().get(1) == Some(&b':');
    let is_usual = |name: &str| ["images", "imgs", "img", "jpegimages"].contains(&name.to_lowercase().as_str());
    let max = match folder.rsplit(['/', '\\']).next() {
        _ if !is_from_root => usize::MAX,
        Some(last) if is_usual(last) => 2,
        _ => 1,
    };
    folder.rsplit(['/', '\\']).take(max).find_map(split_of_path)
}

/// The folders that some paths lie in, to be asked for by their ends.
#[derive(Debug, Default)]
pub struct Folders(HashSet<String>);

impl Folders {
    /// Those of these paths.
    pub fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut ends = HashSet::new();
        for path in paths {
            let Some(end) = path.rfind(['/', '\\']) else { continue };
            if seen.insert(&path[..end]) {
                let parts = parts(path);
                ends.extend((0..parts.len()).map(|from| parts[from..].join("/")));
            }
        }
        Self(ends)
    }

    fn has(&self, parts: &[String]) -> bool {
        self.0.contains(&parts.join("/"))
    }
}

/// Whether folders say that `reference`, one of paths in the folders `listed`, is another image than the one of its
/// name at `path`, one of paths in the folders `there`: they are called by different splits, or the folder of the one
/// is among the folders of the other's paths, or they differ in their numbers only. A folder that is missing, or called
/// otherwise for all images, says nothing.
pub fn are_others(reference: &str, listed: &Folders, path: &str, there: &Folders) -> bool {
    let (one, other) = (parts(reference), parts(path));
    let name = tidy(reference);
    // Names of COCO's images are unique, and those of 2017 were split anew.
    if one.is_empty() || without_coco(last_part(&name)) != last_part(&name) {
        return false;
    }
    let splits = (split_of_folders(reference), split_of_folders(path));
    if let (Some(one), Some(other)) = splits
        && one.split != other.split
    {
        return true;
    }
    let num_shared = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let of_one = &one[(one.len() - num_shared).saturating_sub(1)..];
    let mut rest = other.iter();
    if num_shared == one.len() || one.iter().all(|part| rest.any(|other| other == part)) {
        return false;
    }
    if there.has(of_one) {
        return true;
    }
    let Some(from) = (other.len() - num_shared).checked_sub(1) else { return false };
    listed.has(&other[from..]) || num_shared == 0 && differ_in_numbers(&one[one.len() - 1], &other[from])
}

/// Whether two names are equal but for the numbers in them, and both have some.
fn differ_in_numbers(one: &str, other: &str) -> bool {
    let is_digit = |character: char| character.is_ascii_digit();
    let letters = |name: &str| name.split(is_digit).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("0");
    one != other && one.contains(is_digit) && other.contains(is_digit) && letters(one) == letters(other)
}

/// The folders of a path, as any disk keeps them.
fn parts(path: &str) -> Vec<String> {
    let path = tidy(path);
    path.rsplit_once('/').map_or_else(Vec::new, |(folder, _)| folder.split('/').map(on_any_disk).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared::Split;

    #[test]
    fn folders_of_a_path_speak_of_a_split_and_the_home_of_a_person_does_not() {
        for (path, expected) in [
            ("val/1.jpg", Some(Split::Val)),
            (r"test\x\1.jpg", Some(Split::Test)),
            ("Training/1.jpg", Some(Split::Train)),
            ("/data/val/images/1.jpg", Some(Split::Val)),
            ("/home/dev/flickr/images/1.jpg", None),
            (r"C:\test\a\b\1.jpg", None),
            ("val.jpg", None),
        ] {
            assert_eq!(split_of_folders(path).map(|named| named.split), expected, "{path}");
        }
    }

    #[test]
    fn folders_that_contradict_are_distinguished_from_those_that_are_missing_or_renamed() {
        let are_others = |listed: &[&str], there: &[&str]| {
            let folders = |paths: &[&str]| Folders::of(paths.iter().copied());
            are_others(listed[0], &folders(listed), there[0], &folders(there))
        };
        for (listed, there) in [
            (&["val/6.jpg"][..], &["train/6.jpg"][..]),
            (&["val/images/6.jpg"], &["train/images/6.jpg"]),
            (&["2020/6.jpg"], &["2019/6.jpg"]),
            (&["x/cam2/6.jpg"], &["cam1/6.jpg"]),
            (&["b/6.jpg", "a/1.jpg"], &["a/6.jpg"]),
            (&["b/6.jpg"], &["a/6.jpg", "b/7.jpg"]),
            (&["b/6.jpg"], &["6.jpg", "B/7.jpg"]),
            (&["b/images/6.jpg", "a/images/1.jpg"], &["a/images/6.jpg"]),
        ] {
            assert!(are_others(listed, there), "{listed:?} {there:?}");
        }
        for (listed, there) in [
            (&["6.jpg"][..], &["train/6.jpg"][..]),
            (&["/home/dev/flickr/Images/6.jpg"], &["train/6.jpg"]),
            (&[r"D:\flickr\Images\6.jpg"], &["photos/6.jpg"]),
            (&["images/6.jpg"], &["6.jpg"]),
            (&["data/a/6.jpg", "data/b/1.jpg"], &["a/6.jpg", "b/1.jpg"]),
            (&["a/6.jpg", "b/1.jpg"], &["images/6.jpg"]),
            (&["images/6.jpg"], &["a/6.jpg", "b/1.jpg"]),
            (&["a/6.jpg"], &["a/x/6.jpg", "a/1.jpg"]),
            (&["v2/images/6.jpg"], &["v1/images/6.jpg"]),
            (&["val2014/COCO_val2014_000000000042.jpg"], &["train2017/000000000042.jpg"]),
        ] {
            assert!(!are_others(listed, there), "{listed:?} {there:?}");
        }
    }

    #[test]
    fn an_address_is_the_name_of_its_file() {
        for (name, expected) in [
            ("https://x.org/a/0.jpg?size=1#z", "0.jpg"),
            ("http://x.org/0.jpg", "0.jpg"),
            ("a/0.jpg", "a/0.jpg"),
            ("why?.jpg", "why?.jpg"),
            ("https://", ""),
        ] {
            assert_eq!(file_of(name), expected);
        }
    }
}
