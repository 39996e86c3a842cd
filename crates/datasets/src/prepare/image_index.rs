//! Finds the image file that annotations mean: they write a bare name, a path from another machine, or a name without
//! its ending.

use std::borrow::Cow;

use crate::prepare::name_index::{Lookup, NameIndex, Scope};
use crate::source::Source;
use pixels::picture_formats::format_of_name;

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

    /// All image files.
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
