//! The names under which files keep an image, its captions and what else is known of it: one list for the columns of
//! tables and the keys of JSON. Case, blanks, underscores and hyphens do not count: `File Name` is `file_name`. Where
//! the user names a column for something, others of the usual names are not taken for it.

use crate::column_names::{ColumnNames, Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Reference(Reference),
    Folder,
    /// Captions; of several kinds that of the lowest rank is meant, and all fields of that kind.
    Captions(CaptionKind),
    Split,
    /// Perhaps which split the image is in: other things have this name as well.
    MaybeSplit,
    Prediction,
    /// References beside captions of a model.
    References,
    /// Text before the caption that a model is given.
    Prompt,
    /// The share of the caption in the loss.
    Weight,
}

/// A way to call an image; of several that of the lowest rank is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// The place in the order in which ways are preferred.
    pub(crate) rank: u8,
    pub(crate) by: By,
}

impl Reference {
    /// Whether other things than images have this name as well: `name`, `key`, `id`.
    pub(crate) fn is_weak(self) -> bool {
        self.rank >= FIRST_WEAK
    }

    /// Whether the value is a path, or a folder beside a name.
    pub(crate) fn is_path(self) -> bool {
        IMAGES[usize::from(self.rank)].0.ends_with("path")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// The name, the path or the address of its file.
    Name,
    Id,
}

/// A kind of captions, as names distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CaptionKind {
    /// The place in the order in which kinds are preferred.
    pub(crate) rank: u8,
    /// Whether the name says that there are several: `captions`.
    pub(crate) is_plural: bool,
}

const IMAGES: [(&str, By); 26] = [
    ("filename", By::Name),
    ("image", By::Name),
    ("imagefile", By::Name),
    ("imagefilename", By::Name),
    ("imagefilepath", By::Name),
    ("imagepath", By::Name),
    ("imagename", By::Name),
    ("filepath", By::Name),
    ("file", By::Name),
    ("path", By::Name),
    ("img", By::Name),
    ("imgfile", By::Name),
    ("imgpath", By::Name),
    ("imgname", By::Name),
    ("picture", By::Name),
    ("photo", By::Name),
    ("imageid", By::Id),
    ("cocoid", By::Id),
    ("imgid", By::Id),
    ("cocourl", By::Name),
    ("imageurl", By::Name),
    ("imgurl", By::Name),
    ("url", By::Name),
    ("name", By::Name),
    ("key", By::Id),
    ("id", By::Id),
];
/// The place of the first that has this name in other files too.
const FIRST_WEAK: u8 = 23;
/// Without their plural.
const CAPTIONS: [&str; 9] =
    ["caption", "sentence", "text", "comment", "description", "title", "rawcaption", "raw", "alttext"];
const FOLDERS: [&str; 8] =
    ["folder", "foldername", "imagefolder", "imgfolder", "directory", "dir", "imagedir", "subfolder"];
const SPLITS: [&str; 3] = ["split", "subset", "partition"];
const MAYBE_SPLITS: [&str; 6] = ["set", "phase", "fold", "usage", "mode", "type"];
const PREDICTIONS: [&str; 7] =
    ["prediction", "predictedcaption", "predicted", "generatedcaption", "generated", "hypothesis", "candidate"];
/// Not the caption, although it is elsewhere: beside a caption it is what comes before it.
const PROMPTS: [&str; 1] = ["prompt"];
const WEIGHTS: [&str; 1] = ["weight"];
const REFERENCES: [&str; 6] = ["references", "reference", "refs", "groundtruths", "groundtruth", "gts"];

/// What the column or key called `name` contains; `None` if the name says nothing.
pub(crate) fn field(name: &str) -> Option<Field> {
    // No known name is longer. This is asked for every key of files of millions.
    let (mut short, mut length) = ([0; 24], 0);
    for byte in name.bytes().filter(|byte| !matches!(byte, b' ' | b'_' | b'-')) {
        *short.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let name = std::str::from_utf8(&short[..length]).ok()?;
    if let Some(rank) = IMAGES.iter().position(|(known, _)| *known == name) {
        return Some(Field::Reference(Reference { rank: rank as u8, by: IMAGES[rank].1 }));
    }
    let others = [
        (&SPLITS[..], Field::Split),
        (&MAYBE_SPLITS, Field::MaybeSplit),
        (&FOLDERS, Field::Folder),
        (&PREDICTIONS, Field::Prediction),
        (&REFERENCES, Field::References),
        (&PROMPTS, Field::Prompt),
        (&WEIGHTS, Field::Weight),
    ];
    if let Some((_, field)) = others.iter().find(|(names, _)| names.contains(&name)) {
        return Some(*field);
    }
    if name.contains("split") {
        return Some(Field::MaybeSplit);
    }
    // `caption_0`, `caption_1`
    let stem = name.trim_end_matches(|character: char| character.is_ascii_digit());
    let singular = stem.strip_suffix('s').unwrap_or(stem);
    let rank = CAPTIONS.iter().position(|&known| known == singular)? as u8;
    Some(Field::Captions(CaptionKind { rank, is_plural: singular != name && stem == name }))
}

/// [`field`], where the user names columns.
pub(crate) fn field_of(name: &str, names: &ColumnNames) -> Option<Field> {
    let usual = field(name);
    if names.is_empty() {
        return usual;
    }
    let is_plural = matches!(usual, Some(Field::Captions(kind)) if kind.is_plural);
    match names.role(name) {
        Some(Role::Image) => Some(Field::Reference(Reference { rank: 0, by: By::Name })),
        Some(Role::Caption) => Some(Field::Captions(CaptionKind { rank: 0, is_plural })),
        Some(Role::Prompt) => Some(Field::Prompt),
        Some(Role::Weight) => Some(Field::Weight),
        Some(Role::Split) => Some(Field::Split),
        None => usual.filter(|field| !role_of(*field).is_some_and(|role| names.has(role))),
    }
}

/// What a field of a usual name is for, as far as the user may name another.
fn role_of(field: Field) -> Option<Role> {
    match field {
        Field::Reference(_) => Some(Role::Image),
        Field::Captions(_) | Field::Prediction => Some(Role::Caption),
        Field::Split | Field::MaybeSplit => Some(Role::Split),
        Field::Prompt => Some(Role::Prompt),
        Field::Weight => Some(Role::Weight),
        Field::Folder | Field::References => None,
    }
}

/// What the columns of a table contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The image, or its id where no column names the image.
    pub image: Option<usize>,
    /// Other things than images have this name as well.
    pub(crate) is_weak: bool,
    /// Where the image lies: its path or its folder, beside its name.
    pub(crate) place: Option<usize>,
    /// The captions; what a model wrote where there are no others.
    pub(crate) captions: Vec<usize>,
    pub split: Option<usize>,
    /// What may be the split, where no column surely is.
    pub maybe_split: Option<usize>,
    /// Columns that could contain captions too, and are not read.
    pub(crate) unused: Vec<usize>,
    pub(crate) prediction: Option<usize>,
    /// What comes before the captions.
    pub(crate) prompt: Option<usize>,
    /// What the captions count in the loss.
    pub(crate) weight: Option<usize>,
}

impl Columns {
    pub fn of<'a>(header: impl Iterator<Item = &'a str>) -> Self {
        Self::named(header, &ColumnNames::default())
    }

    /// [`Columns::of`], where the user names columns.
    pub(crate) fn named<'a>(header: impl Iterator<Item = &'a str>, names: &ColumnNames) -> Self {
        let fields: Vec<Option<Field>> = header.map(|name| field_of(name.trim(), names)).collect();
        let places = || fields.iter().enumerate().filter_map(|(place, field)| Some((place, (*field)?)));
        let image_rank = |field| match field {
            Field::Reference(reference) => Some(reference),
            _ => None,
        };
        let caption_rank = |field| match field {
            Field::Captions(kind) => Some(kind.rank),
            _ => None,
        };
        let ranked = |(place, field)| Some((image_rank(field)?, place));
        let kinds = || places().filter_map(|(place, field)| Some((caption_rank(field)?, place)));
        let best = kinds().map(|(rank, _)| rank).min();
        let (captions, unused): (Vec<_>, Vec<_>) = kinds().partition(|(rank, _)| Some(*rank) == best);
        let is_prediction = |(_, field): &(usize, Field)| *field == Field::Prediction;
        let prediction = places().find(is_prediction).map(|(place, _)| place);
        let image = places().filter_map(ranked).min();
        let is_place = |(_, field): &(usize, Field)| match field {
            Field::Reference(reference) => image.is_some_and(|(best, _)| best < *reference) && reference.is_path(),
            field => *field == Field::Folder,
        };
        let first = |wanted| places().find(|(_, field)| *field == wanted).map(|(place, _)| place);
        let split = first(Field::Split);
        let only_places = |all: Vec<(u8, usize)>| all.into_iter().map(|(_, place)| place).collect();
        Self {
            image: image.map(|(_, place)| place),
            is_weak: image.is_some_and(|(reference, _)| reference.is_weak()),
            captions: if captions.is_empty() { prediction.into_iter().collect() } else { only_places(captions) },
            place: places()
                .filter(|_| image.is_some_and(|(best, _)| best.by == By::Name))
                .find(is_place)
                .map(|(place, _)| place),
            split,
            maybe_split: first(Field::MaybeSplit).filter(|_| split.is_none()),
            unused: only_places(unused),
            prediction,
            prompt: first(Field::Prompt),
            weight: first(Field::Weight),
        }
    }

    /// Whether an image has captions in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.image.is_some() && !self.captions.is_empty()
    }
}

/// The names that messages recommend.
pub(crate) const USUAL_NAMES: &str = "image or file_name for the image, caption or text for its caption; `--columns image=NAME,caption=NAME` names others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_blanks_and_underscores_do_not_count() {
        let reference = |rank, by| Some(Field::Reference(Reference { rank, by }));
        for (name, expected) in [
            ("file_name", reference(0, By::Name)),
            ("File Name", reference(0, By::Name)),
            ("fileName", reference(0, By::Name)),
            ("IMAGE", reference(1, By::Name)),
            ("image_id", reference(16, By::Id)),
            ("coco-url", reference(19, By::Name)),
            ("Captions", Some(Field::Captions(CaptionKind { rank: 0, is_plural: true }))),
            ("caption_12", Some(Field::Captions(CaptionKind { rank: 0, is_plural: false }))),
            ("Sentence 1", Some(Field::Captions(CaptionKind { rank: 1, is_plural: false }))),
            ("comment_number", None),
            ("image_1", None),
            ("captions_1", Some(Field::Captions(CaptionKind { rank: 0, is_plural: false }))),
            ("label", None),
            ("", None),
            ("12", None),
            ("s", None),
        ] {
            assert_eq!(field(name), expected, "{name:?}");
        }
    }

    #[test]
    fn every_name_means_one_thing() {
        let images = IMAGES.map(|(name, _)| name);
        let others = [&FOLDERS[..], &PREDICTIONS, &REFERENCES, &PROMPTS, &WEIGHTS].concat();
        let all = [&images[..], &CAPTIONS, &SPLITS, &MAYBE_SPLITS, &others].concat();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        assert_eq!(IMAGES[usize::from(FIRST_WEAK)].0, "name");
        assert!(all.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())), "else they are never found");
    }

    #[test]
    fn columns_are_those_of_the_best_names() {
        let columns = |header: &str| Columns::of(header.split(','));
        let found = columns("image_id,Title,file_name,caption_2,split,caption_1");
        let expected = Columns {
            image: Some(2),
            is_weak: false,
            place: None,
            captions: vec![3, 5],
            split: Some(4),
            maybe_split: None,
            unused: vec![1],
            prediction: None,
            prompt: None,
            weight: None,
        };
        assert_eq!(found, expected);
        assert!(columns("id,caption").is_complete() && !columns("id,label").is_complete());
        let both = columns("image,prediction,caption");
        assert_eq!((both.captions, both.prediction), (vec![2], Some(1)));
        assert_eq!(columns("image,prediction").captions, [1]);
        assert!(!columns("caption,split").is_complete());
    }

    #[test]
    fn columns_that_the_user_names_are_meant_and_no_others() {
        let columns =
            |header: &str, given: &[&str]| Columns::named(header.split(','), &ColumnNames::parse(given).unwrap());
        let found = columns("image,photo,caption,en,de,set,weight", &["image=photo", "caption=DE", "caption=en"]);
        assert_eq!((found.image, found.captions, found.place), (Some(1), vec![3, 4], None));
        assert_eq!((found.maybe_split, found.weight), (Some(5), Some(6)));
        let found = columns("image,caption,set,w,p", &["split=set", "weight=w", "prompt=p"]);
        assert_eq!((found.image, found.captions), (Some(0), vec![1]));
        assert_eq!((found.split, found.weight, found.prompt), (Some(2), Some(3), Some(4)));
        assert!(!columns("image,caption", &["caption=text"]).is_complete(), "another column is meant");
        assert_eq!(field_of("captions", &ColumnNames::parse(&["caption=captions"]).unwrap()), field("captions"));
    }

    #[test]
    fn a_prompt_and_a_weight_are_beside_captions_and_never_in_their_place() {
        let columns = |header: &str| Columns::of(header.split(','));
        let found = columns("image,Prompt,caption,weight");
        assert_eq!((found.captions, found.prompt, found.weight), (vec![2], Some(1), Some(3)));
        assert!(found.unused.is_empty());
        assert!(!columns("image,prompt").is_complete() && !columns("image,weight").is_complete());
        let none = columns("image,caption,prompts,weight_kg");
        assert_eq!((none.prompt, none.weight), (None, None));
    }
}
