//! Paths searched by the names that captions use: exactly first, then as [`name_forms`] says that names are alike.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use crate::name_forms::{Difference, difference, last_part, loosest, number, tidy};
use pixels::picture_formats::is_image_name;

/// Paths that can be searched from their ends.
pub(super) struct NameIndex<'a> {
    exact: Order<'a>,
    /// By the loosest forms; built when an exact search fails for the first time.
    loose: OnceLock<Order<'static>>,
    /// By the numbers that names are.
    numbers: OnceLock<HashMap<String, Vec<usize>>>,
}

/// How much of a path a reference must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The name; folders decide between several.
    Name,
    /// The name and the folder it lies in, or the whole path.
    Folder,
    Path,
}

/// What became of a search: places in the list of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// One, and how its name differs from the one sought.
    One(usize, Difference),
    /// Several, of which nothing says which is meant.
    Several(Vec<usize>, Difference),
    Missing,
}

impl Lookup {
    fn of(found: Vec<usize>, difference: Difference) -> Self {
        match found.as_slice() {
            [] => Self::Missing,
            [one] => Self::One(*one, difference),
            _ => Self::Several(found, difference),
        }
    }

    /// What is left of it.
    pub(super) fn among(self, is_meant: impl Fn(usize) -> bool) -> Self {
        match self {
            Self::One(place, _) if !is_meant(place) => Self::Missing,
            Self::Several(places, difference) => {
                Self::of(places.into_iter().filter(|&place| is_meant(place)).collect(), difference)
            }
            other => other,
        }
    }
}

impl<'a> NameIndex<'a> {
    pub(super) fn new(paths: Vec<Cow<'a, str>>) -> Self {
        Self { exact: Order::new(paths), loose: OnceLock::new(), numbers: OnceLock::new() }
    }

    /// The path that has exactly the name that `reference` has, and of several the one whose folders agree most.
    pub(super) fn exactly(&self, reference: &str, scope: Scope) -> Lookup {
        let reference = tidy(reference);
        let ranges = self.exact.search(&reference);
        let num_parts = reference.split('/').count();
        if ranges.len() == num_parts
            && let Some(place) = self.exact.whole(&ranges[num_parts - 1], num_parts)
        {
            return Lookup::One(place, Difference::Habit);
        }
        match ranges.last() {
            Some(range) if scope == Scope::Name || scope == Scope::Folder && ranges.len() > 1 => {
                Lookup::of(self.exact.order[range.clone()].to_vec(), Difference::Habit)
            }
            Some(_) | None => Lookup::Missing,
        }
    }

    /// The path that has the name of `reference` but for the way in which it is written; of several the one whose
    /// folders agree most, then the one whose name differs least.
    pub(super) fn loosely(&self, reference: &str, scope: Scope) -> Lookup {
        let loose = self
            .loose
            .get_or_init(|| Order::new(self.exact.paths.iter().map(|path| Cow::Owned(loosest(&tidy(path)))).collect()));
        let key = loosest(reference);
        let ranges = loose.search(&key);
        let num_parts = key.split('/').count();
        let is_whole = |place: usize| loose.parts(place).count() == num_parts;
        for (depth, range) in ranges.iter().enumerate().rev() {
            let may_be = |place: usize| match scope {
                Scope::Name => true,
                Scope::Folder => depth > 0 || num_parts == 1 && is_whole(place),
                Scope::Path => depth + 1 == num_parts && is_whole(place),
            };
            let candidates = loose.order[range.clone()].iter().copied().filter(|&place| may_be(place));
            let found: Vec<(Difference, usize)> =
                candidates.filter_map(|place| Some((self.differs(reference, place)?, place))).collect();
            if let Some(least) = found.iter().map(|(difference, _)| *difference).min() {
                let least_of = found.into_iter().filter(|(difference, _)| *difference == least);
                return Lookup::of(least_of.map(|(_, place)| place).collect(), least);
            }
            if scope == Scope::Path {
                break;
            }
        }
        if scope == Scope::Name { self.by_number(reference) } else { Lookup::Missing }
    }

    /// The path whose name is the number that `reference` is, where one of the two is an id: it has no ending.
    fn by_number(&self, reference: &str) -> Lookup {
        let name = |place: usize| last_part(&self.exact.paths[place]);
        let numbers = self.numbers.get_or_init(|| {
            let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
            for place in 0..self.exact.paths.len() {
                if let Some(number) = number(name(place)) {
                    numbers.entry(number.to_owned()).or_default().push(place);
                }
            }
            numbers
        });
        let found = number(reference.trim()).and_then(|number| numbers.get(number));
        let is_id = |name: &str| !is_image_name(name);
        let may_be = |&place: &usize| is_id(reference.trim()) || is_id(name(place));
        Lookup::of(found.into_iter().flatten().copied().filter(may_be).collect(), Difference::Number)
    }

    fn differs(&self, reference: &str, place: usize) -> Option<Difference> {
        let (reference, path) = (tidy(reference), tidy(&self.exact.paths[place]));
        difference(last_part(&reference), last_part(&path))
    }
}

/// Paths in the order of their parts from the last on: all that end alike lie side by side.
struct Order<'a> {
    paths: Vec<Cow<'a, str>>,
    order: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(paths: Vec<Cow<'a, str>>) -> Self {
        let mut order: Vec<usize> = (0..paths.len()).collect();
        // The sort is stable: equal paths stay in their order.
        order.sort_by(|&one, &other| paths[one].rsplit('/').cmp(paths[other].rsplit('/')));
        Self { paths, order }
    }

    /// The parts of a path from its end.
    fn parts(&self, place: usize) -> impl Iterator<Item = &str> {
        self.paths[place].rsplit('/')
    }

    /// For the name of `reference`, and for its name with one, two and more of its folders, the paths that end so; as
    /// far as there are any.
    fn search(&self, reference: &str) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (depth, part) in reference.rsplit('/').enumerate() {
            let within = ranges.last().cloned().unwrap_or(0..self.order.len());
            let part_of = |place: &usize| self.parts(*place).nth(depth);
            let order = &self.order[within.clone()];
            let first = order.partition_point(|place| part_of(place) < Some(part));
            let length = order[first..].partition_point(|place| part_of(place) == Some(part));
            if length == 0 {
                break;
            }
            ranges.push(within.start + first..within.start + first + length);
        }
        ranges
    }

    /// The first path of a range with this many parts, which all of the range share.
    fn whole(&self, range: &Range<usize>, num_parts: usize) -> Option<usize> {
        // One that has no further part comes before those that have.
        let first = *self.order.get(range.start)?;
        (self.parts(first).count() == num_parts).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 12] = [
        "a/1.jpg",
        "b/1.jpg",
        "1.jpg",
        "c/2.PNG",
        "c/d/3.jpg",
        "e/3.jpg",
        "f/COCO_val2014_000000000007.jpg",
        "caf\u{e9}/Dog.JPG",
        "x/IMG.jpeg",
        "y/img.jpg",
        "y/IMG.JPG",
        "z/a%20b.jpg",
    ];

    fn index() -> NameIndex<'static> {
        NameIndex::new(PATHS.iter().map(|&path| path.into()).collect())
    }

    fn exactly(reference: &str, scope: Scope) -> Vec<&'static str> {
        named(index().exactly(reference, scope))
    }

    fn loosely(reference: &str, scope: Scope) -> Vec<&'static str> {
        named(index().loosely(reference, scope))
    }

    fn named(lookup: Lookup) -> Vec<&'static str> {
        match lookup {
            Lookup::One(place, _) => vec![PATHS[place]],
            Lookup::Several(places, _) => places.into_iter().map(|place| PATHS[place]).collect(),
            Lookup::Missing => Vec::new(),
        }
    }

    #[test]
    fn folders_decide_between_files_of_one_name() {
        assert_eq!(exactly("1.jpg", Scope::Name), ["1.jpg"], "the whole path");
        assert_eq!(exactly("b/1.jpg", Scope::Name), ["b/1.jpg"]);
        assert_eq!(exactly(r"C:\data\a\1.jpg", Scope::Name), ["a/1.jpg"]);
        assert_eq!(exactly("q/1.jpg", Scope::Name), ["1.jpg", "a/1.jpg", "b/1.jpg"]);
        assert_eq!(exactly("d/3.jpg", Scope::Name), ["c/d/3.jpg"]);
        assert_eq!(exactly("3.jpg", Scope::Name), ["c/d/3.jpg", "e/3.jpg"]);
        assert_eq!(exactly("2.png", Scope::Name), [""; 0]);
    }

    #[test]
    fn a_reference_must_name_as_much_as_is_asked_for() {
        assert_eq!(exactly("x/2.PNG", Scope::Folder), [""; 0], "another folder is another image");
        assert_eq!(exactly("q/c/2.PNG", Scope::Folder), ["c/2.PNG"]);
        assert_eq!(exactly("1.jpg", Scope::Folder), ["1.jpg"]);
        assert_eq!(exactly("q/c/2.PNG", Scope::Path), [""; 0]);
        assert_eq!(exactly("c/2.PNG", Scope::Path), ["c/2.PNG"]);
        assert_eq!(loosely("C/2.png", Scope::Path), ["c/2.PNG"]);
        assert_eq!(loosely("q/C/2.png", Scope::Path), [""; 0]);
        assert_eq!(loosely("2.png", Scope::Path), [""; 0]);
        assert_eq!(loosely("q/2.png", Scope::Folder), [""; 0]);
        assert_eq!(loosely("q/C/2.png", Scope::Folder), ["c/2.PNG"]);
    }

    #[test]
    fn a_name_that_is_written_otherwise_is_found_by_what_differs_least() {
        assert_eq!(loosely("2", Scope::Name), ["c/2.PNG"]);
        assert_eq!(loosely("val2014/COCO_val2014_000000000007.jpg", Scope::Name), [PATHS[6]]);
        assert_eq!(loosely("000000000007.jpg", Scope::Name), [PATHS[6]]);
        assert_eq!(loosely("CAFE\u{301}/dog.jpg", Scope::Folder), [PATHS[7]]);
        assert_eq!(loosely("img.JPEG", Scope::Name), ["x/IMG.jpeg"], "case before ending");
        assert_eq!(loosely("y/Img.jpg", Scope::Name), ["y/img.jpg", "y/IMG.JPG"], "either");
        assert_eq!(loosely("a b.jpg", Scope::Name), ["z/a%20b.jpg"]);
        assert_eq!(loosely("A%20B.jpg", Scope::Name), ["z/a%20b.jpg"]);
        assert_eq!(loosely("1.png", Scope::Name), [""; 0], "another kind of file");
        assert_eq!(loosely("a/1.png", Scope::Name), [""; 0]);
        assert_eq!(loosely("", Scope::Name), [""; 0]);
        assert_eq!(index().loosely("dog.jpg", Scope::Name), Lookup::One(7, Difference::Case));
    }

    #[test]
    fn an_id_is_found_by_its_number_and_a_name_is_not() {
        let index =
            NameIndex::new(["x/000000000042.jpg", "x/7.jpg", "07.png", "9.jpg", "10"].map(Cow::Borrowed).to_vec());
        let found = |reference: &str| index.loosely(reference, Scope::Name);
        assert_eq!(
            (found("42"), found("42.0")),
            (Lookup::One(0, Difference::Number), Lookup::One(0, Difference::Number))
        );
        assert_eq!(found("007"), Lookup::Several(vec![1, 2], Difference::Number));
        assert_eq!(found("9.0"), Lookup::One(3, Difference::Number));
        assert_eq!(found("10.jpg"), Lookup::One(4, Difference::Habit));
        assert_eq!(found("010.jpg"), Lookup::One(4, Difference::Number));
        assert_eq!((found("42.jpg"), found("042.png")), (Lookup::Missing, Lookup::Missing), "names of files");
        assert_eq!((found("42.5"), index.loosely("42", Scope::Path)), (Lookup::Missing, Lookup::Missing));
    }

    #[test]
    fn a_folder_with_another_kind_of_file_does_not_hide_the_right_one() {
        let index = NameIndex::new(["x/a.png", "y/A.jpg"].map(Cow::Borrowed).to_vec());
        assert_eq!(index.loosely("x/a.jpg", Scope::Name), Lookup::One(1, Difference::Case));
    }
}
