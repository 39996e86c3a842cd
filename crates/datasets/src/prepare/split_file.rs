//! A split that the user brings: `--split-file`, in one of the forms that [`split_forms`](super::split_forms) reads.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::annotations::{Folders, are_others, decode, split_of_path};
use crate::name_forms::{last_part, tidy};
use crate::prepare::name_index::{Lookup, NameIndex, Scope};
use crate::prepare::split_forms::{self, FORMS, SplitList};
use crate::prepared::Split;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::digest::Hasher;
use base::error::{WithHint as _, failure};

/// What each image is for.
pub(super) struct SplitFile {
    names: Vec<String>,
    splits: Vec<Split>,
    index: NameIndex<'static>,
    folders: Folders,
    /// SHA-256 of what it says.
    pub(super) digest: String,
    /// Files of the folder whose names say no split.
    pub(super) unused: Vec<String>,
    /// Names that have no split beside them.
    pub(super) num_without: usize,
    pub(super) first_without: String,
}

/// What a [`SplitFile`] says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its split, and the places of the names that say so.
    Split(Split, Vec<usize>),
    /// Names that may be the image's are in different splits.
    Unclear(String),
    /// No name is the image's.
    Unnamed,
}

impl SplitFile {
    /// Reads the file or folder at `path`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut entries = SplitList::default();
        let (mut files, unused) = files_of(path)?;
        // Beside `train` and `val` the list `trainval` says less.
        files.sort_by_key(|file| is_trainval(file));
        for file in files {
            let cannot = || format!("cannot use the split file {}", file.display());
            let bytes = bounded_file::read(&file, MAX_CAPTIONS_BYTES)
                .with_context(|| format!("cannot read the split file {}", file.display()))?;
            let text = decode(&file.to_string_lossy(), bytes).with_context(cannot)?;
            let mut of_file = SplitList::default();
            split_forms::parse(&file, &text, &mut of_file).with_context(cannot)?;
            if is_trainval(&file) {
                let known: HashSet<&str> = entries.named.iter().map(|(name, _)| name.trim()).collect();
                of_file.named.retain(|(name, _)| !known.contains(name.trim()));
            }
            entries.add(of_file);
        }
        let SplitList { named: mut entries, num_without, first_without } = entries;
        // Which images and for what: neither the order nor the division into files matters.
        entries.sort_unstable();
        let mut hasher = Hasher::new();
        entries.iter().for_each(|(name, split)| hasher.update(format!("{}\t{name}\n", split.name()).as_bytes()));
        let digest = hasher.finish();
        let mut split_of: HashMap<String, Split> = HashMap::new();
        let (mut names, mut splits) = (Vec::new(), Vec::new());
        for (name, split) in entries {
            let name = tidy(&name).into_owned();
            match split_of.insert(name.clone(), split) {
                Some(other) if other == split => {}
                Some(other) => {
                    let (first, second) = (other.name(), split.name());
                    let message = format!("{}: image {name} is in the splits {first} and {second}", path.display());
                    return Err(failure(message, "name each image in one split"));
                }
                None => {
                    names.push(name);
                    splits.push(split);
                }
            }
        }
        if names.is_empty() {
            return Err(failure(format!("the split file {} names no image", path.display()), FORMS));
        }
        let index = NameIndex::new(names.iter().cloned().map(Cow::Owned).collect());
        let folders = Folders::of(names.iter().map(String::as_str));
        Ok(Self { names, splits, index, folders, digest, unused, num_without, first_without })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What it says of the image that annotations call `reference`; `is_shared` says that they call others by the same
    /// name, in other folders.
    pub(super) fn of(&self, reference: &str, is_shared: bool) -> Answer {
        let path = tidy(reference);
        // A name without a folder means the images with this name in every folder.
        let (scope, bare) = if is_shared { (Scope::Folder, last_part(&path)) } else { (Scope::Name, &*path) };
        type Search<'a> = fn(&NameIndex<'a>, &str, Scope) -> Lookup;
        let searches: [Search<'static>; 2] = [NameIndex::exactly, NameIndex::loosely];
        let found =
            searches.iter().flat_map(|search| [search(&self.index, &path, scope), search(&self.index, bare, scope)]);
        let listed = Folders::default();
        let is_meant = |place: usize| !are_others(reference, &listed, &self.names[place], &self.folders);
        let mut found = found.map(|found| found.among(is_meant));
        let places = match found.find(|found| *found != Lookup::Missing) {
            Some(Lookup::One(place, _)) => vec![place],
            Some(Lookup::Several(places, _)) => places,
            Some(Lookup::Missing) | None => return Answer::Unnamed,
        };
        let first = self.splits[places[0]];
        let other = places.iter().copied().find(|&place| self.splits[place] != first);
        other.map_or_else(
            || Answer::Split(first, places.clone()),
            |other| {
                let named = |place: usize| format!("{:?} ({})", self.names[place], self.splits[place].name());
                Answer::Unclear(format!("the split file has {} and {}", named(places[0]), named(other)))
            },
        )
    }
}

fn is_trainval(file: &Path) -> bool {
    split_forms::stem(file).to_lowercase().contains("trainval")
}

/// The lists in a folder, and the other files in it; or the file itself.
fn files_of(path: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
    let cannot = || format!("cannot read the split file {}", path.display());
    let metadata = fs::metadata(path).with_context(cannot).hint(|| FORMS)?;
    // What is not a file is refused when it is read.
    if !metadata.is_dir() {
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    let cannot = || format!("cannot list {}", path.display());
    let (mut files, mut unused) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).with_context(cannot).hint(|| "give a folder that you may read")? {
        let file = entry.with_context(cannot)?.path();
        let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if !file.is_file() || name.starts_with('.') {
            continue;
        }
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let is_text = ending.is_none_or(|ending| split_forms::ENDINGS.contains(&ending.as_str()));
        if is_text && split_of_path(&split_forms::stem(&file)).is_some() {
            files.push(file);
        } else {
            unused.push(name);
        }
    }
    files.sort_unstable();
    unused.sort_unstable();
    if files.is_empty() {
        return Err(failure(format!("{} holds no lists of splits", path.display()), FORMS));
    }
    Ok((files, unused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    fn read(name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<SplitFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        SplitFile::read(&path)
    }

    fn split(file: &SplitFile, reference: &str) -> Option<Split> {
        match file.of(reference, false) {
            Answer::Split(split, _) => Some(split),
            Answer::Unclear(reason) => panic!("{reason}"),
            Answer::Unnamed => None,
        }
    }

    #[test]
    fn every_form_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.txt"), "1\n2\n").unwrap();
        fs::write(folder.path().join("Flickr_8k.devImages.txt"), "3.jpg\n").unwrap();
        fs::write(folder.path().join("README.txt"), "words").unwrap();
        let image = |name, split| format!(r#"{{"filename":"{name}","split":"{split}","sentences":[]}}"#);
        let (one, two, three) = (image("1.jpg", "train"), image("2.jpg", "restval"), image("3.jpg", "val"));
        for split_file in [
            SplitFile::read(folder.path()).unwrap(),
            read("dataset.json", format!(r#"{{"images":[{one},{two},{three}]}}"#)).unwrap(),
            read("splits.json", r#"{"train":["1.jpg","a/2.jpg"],"validation":["3"]}"#).unwrap(),
            read("splits.csv", "image,split\n1.jpg,train\n2.jpg,train\n3.jpg,val\n").unwrap(),
        ] {
            let of = |name| split(&split_file, name);
            assert_eq!(
                [of("x/1.jpg"), of("2.jpg"), of("3.jpg"), of("4.jpg")],
                [Some(Split::Train), Some(Split::Train), Some(Split::Val), None]
            );
        }
        assert_eq!(SplitFile::read(folder.path()).unwrap().unused, ["README.txt"]);
        let digest = |text: &str| read("s.json", text).unwrap().digest;
        assert_eq!(digest(r#"{"train":["1","2"],"val":["3"]}"#), digest(r#"{"val":["3"],"train":["2","1"]}"#));
        assert_ne!(digest(r#"{"train":["1"],"val":["2","3"]}"#), digest(r#"{"train":["1","2"],"val":["3"]}"#));
    }

    #[test]
    fn names_count_as_people_see_them_and_folders_decide_where_they_must() {
        let text =
            "image,split\nx/1.jpg,train\ny/1.jpg,val\nCAF\u{c9}.JPG,test\n2.jpeg,val\nmy%20dog.jpg,test\n3.jpg,train\n";
        let file = read("s.csv", text).unwrap();
        let of = |name| split(&file, name);
        assert_eq!((of("data/x/1.jpg"), of(r"y\1.jpg")), (Some(Split::Train), Some(Split::Val)));
        assert_eq!(of("cafe\u{301}.jpg"), Some(Split::Test));
        assert_eq!((of("2.jpg"), of("my dog.jpg"), of("4.jpg")), (Some(Split::Val), Some(Split::Test), None));
        let Answer::Unclear(reason) = file.of("z/1.jpg", false) else { panic!("either is as good") };
        assert_eq!(reason, r#"the split file has "x/1.jpg" (train) and "y/1.jpg" (val)"#);
        // Where other images have that name too, a name in another folder is another image's.
        assert_eq!(file.of("z/1.jpg", true), Answer::Unnamed);
        assert!(matches!(file.of("a/x/1.jpg", true), Answer::Split(Split::Train, _)));
        assert!(matches!(file.of("z/3.jpg", true), Answer::Split(Split::Train, _)), "a name without a folder");
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        for (name, text, expected) in [
            ("s.json", "{", "does not have the expected form"),
            ("s.json", r#"{"odd":["1"]}"#, "split \"odd\" is not known"),
            ("s.json", "[1, 2]", "does not have the expected form"),
            ("s.jsonl", "{\"image\":\"1\"}\n", "line 1"),
            ("s.csv", "image,part\n1,train\n", "no column for the image or none for the split"),
            ("s.csv", "image,split\n1,odd\n", "line 2"),
            ("s.csv", "image,split\n1,train\n1,val\n", "image 1 is in the splits train and val"),
            ("s.csv", "image,split\n./1.jpg,train\n1.jpg,val\n", "image 1.jpg is in the splits train and val"),
            ("s.csv", "image,split\n", "names no image"),
            ("s.csv", "image,split\n,train\n", "line 2"),
            ("s.csv", "image,split\n1.jpg,\n", "names no image"),
            ("s.json", r#"{"1.jpg":"odd"}"#, "the key \"1.jpg\""),
            ("names.txt", "1\n", "in no known format"),
            ("s.txt", "1.jpg train\n2.jpg\n", "line 2"),
        ] {
            let text = describe(&read(name, text).map(|file| file.names).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
        let text = describe(&read("train.txt", b"caf\xe9.jpg\n").map(|file| file.names).unwrap_err());
        assert!(text.contains("line 1") && text.contains("UTF-8"), "{text}");
        assert!(describe(&SplitFile::read(Path::new("absent.json")).map(|_| ()).unwrap_err()).contains("absent.json"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_neither_file_nor_folder_is_not_opened() {
        let text = describe(&SplitFile::read(Path::new("/dev/null")).map(|_| ()).unwrap_err());
        assert!(text.contains("expected a regular file"), "{text}");
    }
}
