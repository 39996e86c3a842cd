//! Finds the image file that annotations mean: they write a bare name, a path from another machine, or a name without
//! its ending.

use std::collections::HashMap;

use crate::data::source::{Source, is_image_name, without_ending};

/// The image files of a source, by name.
pub(super) struct ImageIndex<'a> {
    source: &'a Source,
    images: Vec<usize>,
    by_path: HashMap<&'a str, usize>,
    by_name: HashMap<&'a str, Vec<usize>>,
    /// By name without ending.
    by_stem: HashMap<&'a str, Vec<usize>>,
}

/// What became of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The file.
    File(usize),
    /// The file, and others of that name and size.
    FirstOf(usize),
    /// Several files of that name that differ in size.
    Ambiguous(usize, usize),
    /// No such file.
    Missing,
}

impl<'a> ImageIndex<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        let images = source.find(|file| is_image_name(&file.path));
        let (mut by_name, mut by_stem): (HashMap<_, Vec<usize>>, HashMap<_, Vec<usize>>) = Default::default();
        let by_path = images.iter().map(|&image| (source.files()[image].path.as_str(), image)).collect();
        for &image in &images {
            let name = source.files()[image].name();
            by_name.entry(name).or_default().push(image);
            by_stem.entry(without_ending(name)).or_default().push(image);
        }
        Self { source, images, by_path, by_name, by_stem }
    }

    /// All image files.
    pub(super) fn images(&self) -> &[usize] {
        &self.images
    }

    /// The file that `reference` means: of those of its name the one whose folders agree most.
    pub(super) fn find(&self, reference: &str) -> Lookup {
        if let Some(&file) = self.by_path.get(reference) {
            return Lookup::File(file);
        }
        let reference = reference.replace('\\', "/");
        let name = reference.rsplit('/').next().unwrap_or(&reference);
        let candidates = match self.by_name.get(name) {
            Some(candidates) => candidates,
            None if is_image_name(name) => return Lookup::Missing,
            None => match self.by_stem.get(name) {
                Some(candidates) => candidates,
                None => return Lookup::Missing,
            },
        };
        let agreement = |&file: &usize| {
            let folders = |path: &'_ str| path.rsplit('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
            let (theirs, ours) = (folders(&reference), folders(&self.source.files()[file].path));
            theirs.iter().zip(&ours).take_while(|(theirs, ours)| theirs == ours).count()
        };
        let most = if candidates.len() == 1 { 0 } else { candidates.iter().map(agreement).max().unwrap_or(0) };
        let mut best = candidates.iter().filter(|file| candidates.len() == 1 || agreement(file) == most);
        let Some(&first) = best.next() else { return Lookup::Missing };
        let bytes = |file: usize| self.source.files()[file].bytes;
        match (best.next(), best.find(|&&file| bytes(file) != bytes(first))) {
            (None, _) => Lookup::File(first),
            (Some(&second), _) if bytes(second) != bytes(first) => Lookup::Ambiguous(first, second),
            (_, Some(&other)) => Lookup::Ambiguous(first, other),
            (Some(_), None) => Lookup::FirstOf(first),
        }
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
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let source = Source::open(folder.path()).unwrap();
        let index = ImageIndex::new(&source);
        assert_eq!(index.images().len(), 5);
        let found = |reference: &str| match index.find(reference) {
            Lookup::File(file) => source.files()[file].path.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(found("2.PNG"), "c/2.PNG");
        assert_eq!(found("/somewhere/else/2.PNG"), "c/2.PNG");
        assert_eq!(found("2"), "c/2.PNG");
        assert_eq!(found("b/1.jpg"), "b/1.jpg");
        assert_eq!(found(r"C:\data\a\1.jpg"), "a/1.jpg");
        assert!(found("1.jpg").starts_with("Ambiguous"));
        assert!(found("3.jpg").starts_with("FirstOf"));
        assert_eq!(found("d/3.jpg"), "c/d/3.jpg");
        assert_eq!((found("4.jpg"), found("notes"), found("")), ("Missing".into(), "Missing".into(), "Missing".into()));
    }
}
