//! Assigns each image of the annotations its file, and each file to one image.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use crate::annotations::{Folders, RawDataset, RawImage, Reject, Repair, are_others};
use crate::name_forms::{Difference, last_part, tidy};
use crate::prepare::name_index::{Lookup, NameIndex, Scope};
use crate::source::Source;
use base::digest::Hasher;
use pixels::picture_formats::{format_of_name, how_to_convert_file, unread_format_of_name};

/// The files of a data set's images.
#[derive(Default)]
pub(super) struct FoundFiles {
    /// For each image that is kept, its file.
    pub(super) files: Vec<usize>,
    /// Files of images that are of formats that are not read.
    pub(super) unread: Vec<usize>,
    /// Images without a file.
    pub(super) num_missing: usize,
    /// What the first two of them are called.
    first_missing: Vec<String>,
    /// Images of which it is not clear which file they are.
    pub(super) num_unclear: usize,
    /// The first two of them, and why.
    pub(super) unclear: Vec<String>,
    /// Files that may be those of several images, or copies of those that are taken.
    pub(super) weighed: Vec<usize>,
}

impl FoundFiles {
    /// Names that were sought beside existing names that were not; nothing where every file was sought.
    pub(super) fn compare_names(&self, source: &Source, index: &ImageIndex<'_>) -> Option<String> {
        let taken: HashSet<usize> = self.files.iter().copied().collect();
        let others = index.images().iter().filter(|file| !taken.contains(file));
        let there = two_of(others.map(|&file| source.files()[file].path.as_str()));
        let sought = two_of(self.first_missing.iter().map(String::as_str));
        (!there.is_empty()).then(|| format!("the captions name {sought}, the files are called {there}"))
    }
}

/// Finds the file of each image. Images without one, and those whose file another image has, go to the rejects. A file
/// whose name is exactly the one sought goes to that image before it goes to any other. `settle` gets the data set
/// while all images are in it, and the path of each whose file is found.
pub(super) fn find_files(
    raw: &mut RawDataset,
    source: &Source,
    index: &ImageIndex<'_>,
    settle: impl FnOnce(&mut RawDataset, &[Option<&str>]),
) -> FoundFiles {
    let images = std::mem::take(&mut raw.images);
    let scopes = scopes(&images, raw.has_paths);
    let listed = Folders::of(images.iter().map(|image| image.filename.as_str()));
    let path = |file: usize| source.files()[file].path.as_str();
    let there = Folders::of(index.images().iter().map(|&file| path(file)));
    // A file of that name in the folder of other images is another image.
    let may_be =
        |image: &RawImage, found: Lookup| found.among(|file| !are_others(&image.filename, &listed, path(file), &there));
    let mut assignment =
        Assignment { source, taken: HashSet::new(), contents: Contents::default(), weighed: Vec::new() };
    let exactly = |(image, &scope): (&RawImage, &Scope)| may_be(image, index.exactly(&image.filename, scope));
    let exact: Vec<Lookup> = images.iter().zip(&scopes).map(exactly).collect();
    let mut chosen: Vec<Assigned> = exact.into_iter().map(|found| assignment.choose(found)).collect();
    let others = LazyCell::new(|| ImageIndex::others(source));
    for ((image, &scope), choice) in images.iter().zip(&scopes).zip(&mut chosen) {
        if matches!(choice, Assigned::Missing) {
            *choice = match may_be(image, index.loosely(&image.filename, scope)) {
                Lookup::Missing => {
                    let others = among_others(&others, source, &image.filename, scope);
                    assignment.choose_other(may_be(image, others))
                }
                found => assignment.choose(found),
            };
        }
    }
    let paths: Vec<Option<&str>> = chosen.iter().map(|choice| choice.file().map(path)).collect();
    raw.images = images;
    settle(raw, &paths);
    let images = std::mem::take(&mut raw.images);
    let mut notes = NameDifferences::default();
    let mut found = FoundFiles::default();
    for (image, choice) in images.into_iter().zip(chosen) {
        match choice {
            Assigned::File(chosen) => {
                notes.add(&image, chosen, source);
                found.files.push(chosen.file);
                raw.images.push(image);
            }
            Assigned::Unclear(reason) => {
                found.num_unclear += 1;
                if found.num_unclear <= 2 {
                    found.unclear.push(format!("{}: {reason}", image.filename));
                }
                raw.rejects.push(Reject::new(image.filename, reason));
            }
            Assigned::Unread(file, format) => {
                found.unread.push(file);
                let path = &source.files()[file].path;
                let convert = how_to_convert_file(path, format);
                let num_captions = image.captions.len();
                let reason = format!(
                    "the format {format} of {path} is not supported; {convert}; captions left out: {num_captions}"
                );
                raw.rejects.push(Reject::new(image.filename, reason));
            }
            Assigned::Missing => {
                found.num_missing += 1;
                if found.num_missing <= 2 {
                    found.first_missing.push(image.filename.clone());
                }
                let reason = missing(&image);
                raw.rejects.push(Reject::new(image.filename, reason));
            }
        }
    }
    notes.finish(&mut raw.repairs);
    found.weighed = assignment.weighed;
    found
}

/// What is found among the files that are not called like pictures that are read: a picture of another format, or a
/// file that is called just as the annotations say, whatever its ending.
fn among_others(others: &ImageIndex<'_>, source: &Source, reference: &str, scope: Scope) -> Lookup {
    let exactly = others.exactly(reference, scope);
    let name = tidy(reference);
    let is_called_so = |file: usize| source.files()[file].name() == last_part(&name);
    match &exactly {
        Lookup::One(file, _) if is_called_so(*file) => return exactly,
        Lookup::Several(files, _) if is_called_so(files[0]) => return exactly,
        _ => {}
    }
    let found = if exactly == Lookup::Missing { others.loosely(reference, scope) } else { exactly };
    if unread_file(&found, source).is_some() { found } else { Lookup::Missing }
}

/// The first file that was found, and its format, where that is one that is not read.
fn unread_file(found: &Lookup, source: &Source) -> Option<(usize, &'static str)> {
    let file = match found {
        Lookup::One(file, _) => *file,
        Lookup::Several(files, _) => *files.first()?,
        Lookup::Missing => return None,
    };
    Some((file, unread_format_of_name(&source.files()[file].path)?))
}

/// Two names, for a message; all of them where there are fewer.
pub(super) fn two_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.take(2).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ")
}

/// Where two images are called alike, each is the one in its own folder.
fn scopes(images: &[RawImage], has_paths: bool) -> Vec<Scope> {
    if has_paths {
        return vec![Scope::Path; images.len()];
    }
    shared_names(images.iter().map(|image| image.filename.as_str()))
        .into_iter()
        .map(|is_shared| if is_shared { Scope::Folder } else { Scope::Name })
        .collect()
}

/// For each reference whether another one has the same name.
pub(super) fn shared_names<'a>(references: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let name = |reference: &'a str| match tidy(reference) {
        Cow::Borrowed(path) => Cow::Borrowed(last_part(path)),
        Cow::Owned(path) => Cow::Owned(last_part(&path).to_owned()),
    };
    let names: Vec<Cow<'_, str>> = references.map(name).collect();
    let mut times: HashMap<&str, usize> = HashMap::new();
    names.iter().for_each(|name| *times.entry(name).or_default() += 1);
    names.iter().map(|name| times[&**name] > 1).collect()
}

fn missing(image: &RawImage) -> String {
    let split = image.split.map_or(String::new(), |split| format!(" (split {})", split.name()));
    format!("there is no such image file{split}; captions left out: {}", image.captions.len())
}

enum Assigned {
    File(FoundFile),
    /// Why it has no file of its own.
    Unclear(String),
    /// Its file is of a format that is not read.
    Unread(usize, &'static str),
    Missing,
}

impl Assigned {
    fn file(&self) -> Option<usize> {
        match self {
            Self::File(chosen) => Some(chosen.file),
            Self::Unclear(_) | Self::Unread(..) | Self::Missing => None,
        }
    }
}

#[derive(Clone, Copy)]
struct FoundFile {
    file: usize,
    difference: Difference,
    /// Whether other files are as good.
    is_one_of_several: bool,
}

struct Assignment<'a> {
    source: &'a Source,
    taken: HashSet<usize>,
    contents: Contents,
    weighed: Vec<usize>,
}

impl Assignment<'_> {
    /// The file of what was found among those that are not called like pictures that are read.
    fn choose_other(&mut self, found: Lookup) -> Assigned {
        match unread_file(&found, self.source) {
            Some((file, format)) => Assigned::Unread(file, format),
            None => self.choose(found),
        }
    }

    /// The file of what was found.
    fn choose(&mut self, found: Lookup) -> Assigned {
        let path = |file: usize| &self.source.files()[file].path;
        let (file, difference, is_one_of_several) = match found {
            Lookup::One(file, difference) => (file, difference, false),
            Lookup::Several(files, difference) => {
                self.weighed.extend(&files);
                if !self.contents.are_same(self.source, &files) {
                    let more = files.len() - 2;
                    let more = if more > 0 { format!(", or one of {more} more") } else { String::new() };
                    return Assigned::Unclear(format!("it may be {} or {}{more}", path(files[0]), path(files[1])));
                }
                (files[0], difference, true)
            }
            Lookup::Missing => return Assigned::Missing,
        };
        if !self.taken.insert(file) {
            return Assigned::Unclear(format!("its file {} also belongs to another image", path(file)));
        }
        Assigned::File(FoundFile { file, difference, is_one_of_several })
    }
}

/// Digests of files that were compared; each is read once.
#[derive(Default)]
pub(super) struct Contents(HashMap<usize, Option<[u8; 32]>>);

impl Contents {
    /// Whether these files have one content.
    pub(super) fn are_same(&mut self, source: &Source, files: &[usize]) -> bool {
        let bytes = |file: usize| source.files()[file].bytes;
        let Some((&first, others)) = files.split_first() else { return false };
        if others.iter().any(|&other| bytes(other) != bytes(first)) {
            return false;
        }
        let of_first = self.digest(source, first);
        of_first.is_some() && others.iter().all(|&other| self.digest(source, other) == of_first)
    }

    /// `None` where the file cannot be read.
    fn digest(&mut self, source: &Source, file: usize) -> Option<[u8; 32]> {
        *self.0.entry(file).or_insert_with(|| {
            let mut hasher = Hasher::new();
            hasher.update(&source.read(file).ok()?);
            Some(hasher.finish_bytes())
        })
    }
}

/// What the user should know about files that were found by other names, or several times.
#[derive(Default)]
struct NameDifferences {
    num_several: usize,
    several: String,
    /// For each difference that is reported, how many files have it and the first of them.
    loose: [(usize, String); Difference::TOLD.len()],
}

impl NameDifferences {
    fn add(&mut self, image: &RawImage, chosen: FoundFile, source: &Source) {
        let path = &source.files()[chosen.file].path;
        if chosen.is_one_of_several {
            self.num_several += 1;
            self.several.clone_from(path);
        }
        for ((count, example), difference) in self.loose.iter_mut().zip(Difference::TOLD) {
            if difference == chosen.difference {
                *count += 1;
                if *count == 1 {
                    *example = format!("{path} for {}", image.filename);
                }
            }
        }
    }

    fn finish(self, repairs: &mut Vec<Repair>) {
        for ((count, example), difference) in self.loose.into_iter().zip(Difference::TOLD) {
            if count > 0 {
                let note =
                    format!("their files were found by names that differ in {}: {example}", difference.description());
                repairs.push(Repair::new(format!("{count} images"), note));
            }
        }
        if self.num_several > 0 {
            let note = format!("their files exist several times: the first is used, such as {}", self.several);
            repairs.push(Repair::new(format!("{} images", self.num_several), note));
        }
    }
}

/// Image files of a source, by name.
pub(super) struct ImageIndex<'a> {
    images: Vec<usize>,
    names: NameIndex<'a>,
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
        let names = images.iter().map(|&file| Cow::Borrowed(source.files()[file].path.as_str())).collect();
        Self { images, names: NameIndex::new(names) }
    }

    pub(super) fn images(&self) -> &[usize] {
        &self.images
    }

    /// As [`NameIndex::exactly`], in files of the source.
    pub(super) fn exactly(&self, reference: &str, scope: Scope) -> Lookup {
        self.in_source(self.names.exactly(reference, scope))
    }

    /// As [`NameIndex::loosely`], in files of the source.
    pub(super) fn loosely(&self, reference: &str, scope: Scope) -> Lookup {
        self.in_source(self.names.loosely(reference, scope))
    }

    fn in_source(&self, lookup: Lookup) -> Lookup {
        let file = |place: usize| self.images[place];
        match lookup {
            Lookup::One(place, difference) => Lookup::One(file(place), difference),
            Lookup::Several(places, difference) => Lookup::Several(places.into_iter().map(file).collect(), difference),
            Lookup::Missing => Lookup::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::annotations::SplitFrom;

    fn source(files: &[(&str, &str)]) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let source = Source::open(folder.path(), None).unwrap();
        (folder, source)
    }

    fn raw(names: &[&str]) -> RawDataset {
        let image = |name: &&str| RawImage {
            filename: (*name).to_owned(),
            captions: vec!["A".into()],
            extras: Vec::new(),
            split: None,
            split_from: SplitFrom::default(),
            cocoid: None,
        };
        RawDataset { images: names.iter().map(image).collect(), ..RawDataset::default() }
    }

    /// The path that each image got, or why it has none.
    fn found(files: &[(&str, &str)], names: &[&str]) -> (Vec<String>, RawDataset) {
        let (_folder, source) = source(files);
        let mut raw = raw(names);
        let index = ImageIndex::new(&source);
        let files = find_files(&mut raw, &source, &index, |_, _| ()).files;
        (files.iter().map(|&file| source.files()[file].path.clone()).collect(), raw)
    }

    #[test]
    fn an_exact_name_gets_its_file_before_one_that_is_alike() {
        let (files, raw) = found(&[("a.jpg", "1"), ("b.jpeg", "2")], &["A.jpg", "a.jpg", "b.jpg"]);
        assert_eq!(files, ["a.jpg", "b.jpeg"]);
        assert_eq!(raw.images.iter().map(|image| image.filename.as_str()).collect::<Vec<_>>(), ["a.jpg", "b.jpg"]);
        assert!(
            raw.rejects[0].what == "A.jpg" && raw.rejects[0].reason.contains("also belongs to another image"),
            "{raw:?}"
        );
        let note =
            "their files were found by names that differ in their extensions, which mean the same: b.jpeg for b.jpg";
        assert_eq!((raw.repairs.len(), raw.repairs[0].repair.as_str()), (1, note));
    }

    #[test]
    fn files_that_are_all_the_same_are_one_and_others_are_named() {
        let same = [("x/a.jpg", "one"), ("y/a.jpg", "one"), ("z/b.jpg", "one"), ("w/b.jpg", "two"), ("v/b.jpg", "one")];
        let (files, raw) = found(&same, &["a.jpg", "b.jpg"]);
        assert_eq!(files, ["x/a.jpg"]);
        assert_eq!(raw.rejects[0].reason, "it may be v/b.jpg or w/b.jpg, or one of 1 more");
        assert!(raw.repairs[0].repair.contains("several times"), "{raw:?}");
    }

    #[test]
    fn each_file_is_compared_once() {
        let files = [("x/a.jpg", "one"), ("y/a.jpg", "one")];
        let (_folder, source) = source(&files);
        let mut contents = Contents::default();
        assert!(contents.are_same(&source, &[0, 1]));
        fs::write(source.locate("x/a.jpg"), "two").unwrap();
        assert!(contents.are_same(&source, &[0, 1]), "what is known is not read again");
    }
}
