//! Finds the image file that annotations mean: they write a bare name, a path from another machine, or a name without
//! its ending.

use crate::data::picture_formats::format_of_name;
use crate::data::source::{Source, is_image_name, without_ending};

/// Image files of a source, by name.
pub(super) struct ImageIndex<'a> {
    source: &'a Source,
    images: Vec<usize>,
    by_path: Order<'a>,
    /// By the last folder and the name.
    by_place: Order<'a>,
    by_name: Order<'a>,
    /// By name without ending.
    by_stem: Order<'a>,
}

/// Files in the order of a part of their paths. A list that is searched takes a tenth of the memory of a map, of which
/// there would be four.
struct Order<'a> {
    source: &'a Source,
    key: fn(&str) -> &str,
    files: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(source: &'a Source, images: &[usize], key: fn(&str) -> &str) -> Self {
        let of_file = |file: usize| key(&source.files()[file].path);
        let mut files = images.to_vec();
        // The sort is stable: those of one key stay in the order of the source.
        files.sort_by(|&one, &other| of_file(one).cmp(of_file(other)));
        Self { source, key, files }
    }

    fn key_of(&self, file: usize) -> &'a str {
        (self.key)(&self.source.files()[file].path)
    }

    /// The files of this key; `None` where there is none.
    fn get(&self, key: &str) -> Option<&[usize]> {
        let first = self.files.partition_point(|&file| self.key_of(file) < key);
        let length = self.files[first..].partition_point(|&file| self.key_of(file) == key);
        (length > 0).then(|| &self.files[first..first + length])
    }
}

/// What became of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The file.
    File(usize),
    /// Several files of that name, of which nothing says which is meant.
    Several(usize, usize),
    /// No such file.
    Missing,
}

impl<'a> ImageIndex<'a> {
    /// The images of formats that are read.
    pub(super) fn new(source: &'a Source) -> Self {
        Self::of(source, source.find(|file| format_of_name(&file.path).is_some()))
    }

    /// All other files: pictures of formats that are not read, and what is not called like a picture.
    pub(super) fn others(source: &'a Source) -> Self {
        Self::of(source, source.find(|file| format_of_name(&file.path).is_none()))
    }

    fn of(source: &'a Source, images: Vec<usize>) -> Self {
        let order = |key: fn(&str) -> &str| Order::new(source, &images, key);
        let (by_path, by_place) = (order(|path| path), order(last_parts));
        let (by_name, by_stem) = (order(last_part), order(|path| without_ending(last_part(path))));
        Self { source, by_path, by_place, by_name, by_stem, images }
    }

    /// All image files.
    pub(super) fn images(&self) -> &[usize] {
        &self.images
    }

    /// The file whose path below the source is `path`.
    pub(super) fn at(&self, path: &str) -> Lookup {
        self.by_path.get(path).map_or(Lookup::Missing, |files| Lookup::File(files[0]))
    }

    /// The file that `reference` means: of those of its name the one whose folders agree most, and one whose last folder
    /// agrees where `needs_folder` says that names alone do not tell images apart.
    pub(super) fn find(&self, reference: &str, needs_folder: bool) -> Lookup {
        if let found @ Lookup::File(_) = self.at(reference) {
            return found;
        }
        let reference = reference.replace('\\', "/");
        let name = last_part(&reference);
        let placed = self.by_place.get(last_parts(&reference)).filter(|_| name.len() < reference.len());
        let named = || {
            let by_name = self.by_name.get(name).or_else(|| self.by_name.get(without_coco(name)));
            by_name.or_else(|| self.by_stem.get(name).filter(|_| !is_image_name(name)))
        };
        let candidates = match (placed, needs_folder) {
            (Some(placed), _) => placed,
            (None, true) => return Lookup::Missing,
            (None, false) => match named() {
                Some(named) => named,
                None => return Lookup::Missing,
            },
        };
        let theirs: Vec<&str> = reference.rsplit('/').skip(1).collect();
        let agreement = |&file: &usize| {
            let ours = self.source.files()[file].path.rsplit('/').skip(1);
            theirs.iter().zip(ours).take_while(|(theirs, ours)| *theirs == ours).count()
        };
        let (mut best, mut most, mut second) = (None, 0, None);
        for file in candidates {
            let agrees = agreement(file);
            match best {
                Some(_) if agrees < most => {}
                Some(_) if agrees == most => second = second.or(Some(*file)),
                _ => (best, most, second) = (Some(*file), agrees, None),
            }
        }
        match (best, second) {
            (None, _) => Lookup::Missing,
            (Some(file), None) => Lookup::File(file),
            (Some(one), Some(other)) => Lookup::Several(one, other),
        }
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The last folder and the name.
fn last_parts(path: &str) -> &str {
    path.rmatch_indices('/').nth(1).map_or(path, |(at, _)| &path[at + 1..])
}

/// COCO's files of 2017 are those of 2014 without what their names begin with: `COCO_val2014_`.
pub(super) fn without_coco(name: &str) -> &str {
    match name.strip_prefix("COCO_").and_then(|rest| rest.split_once('_')) {
        Some(("train2014" | "val2014" | "test2014" | "test2015", rest)) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_image_is_found_by_name_by_folders_and_without_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("a/1.jpg", "x"),
            ("b/1.jpg", "yy"),
            ("c/2.PNG", "z"),
            ("c/d/3.jpg", "same"),
            ("e/3.jpg", "same"),
            ("c/notes.txt", "t"),
            ("f/000000000007.jpg", "coco"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let source = Source::open(folder.path(), None).unwrap();
        let index = ImageIndex::new(&source);
        assert_eq!(index.images().len(), 6);
        let found = |reference: &str| match index.find(reference, false) {
            Lookup::File(file) => source.files()[file].path.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(found("2.PNG"), "c/2.PNG");
        assert_eq!(found("/somewhere/else/2.PNG"), "c/2.PNG");
        assert_eq!(found("2"), "c/2.PNG");
        assert_eq!(found("b/1.jpg"), "b/1.jpg");
        assert_eq!(found(r"C:\data\a\1.jpg"), "a/1.jpg");
        assert!(found("1.jpg").starts_with("Several") && found("3.jpg").starts_with("Several"));
        assert_eq!(found("val2014/COCO_val2014_000000000007.jpg"), "f/000000000007.jpg");
        assert_eq!(index.find("x/2.PNG", true), Lookup::Missing, "another folder is another image");
        assert_eq!((index.at("c/2.PNG"), index.at("2.PNG")), (index.find("2.PNG", false), Lookup::Missing));
        assert_eq!(found("d/3.jpg"), "c/d/3.jpg");
        assert_eq!((found("4.jpg"), found("notes"), found("")), ("Missing".into(), "Missing".into(), "Missing".into()));
    }
}
