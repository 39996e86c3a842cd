//! What the columns of a Parquet file have: images by their content, everything else by name, as in other tables. A
//! list of texts is several captions, and so is a list of structures that have a text each.

use crate::annotations::fields::{Columns, Field, USUAL_NAMES, field_of};
use crate::column_names::{ColumnNames, are_same};
use crate::source::{ImageColumn, Leaf, Table, ValueKind};

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its place among the leaves of the file.
    pub(crate) leaf: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableColumns {
    /// All columns of the file.
    names: Vec<String>,
    /// Names under which the user may ask for a column.
    pub(crate) known: Vec<String>,
    pub(crate) image: ImageIn,
    pub(crate) captions: Vec<Column>,
    pub(crate) split: Option<Column>,
    pub(crate) maybe_split: Option<Column>,
    pub(crate) prediction: Option<Column>,
    pub(crate) prompt: Option<Column>,
    pub(crate) weight: Option<Column>,
    /// Columns that could contain captions too, and are not read.
    pub(crate) unused: Vec<String>,
    /// Other things than images have the name of the column of images as well.
    pub(crate) is_weak: bool,
}

/// Where the images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageIn {
    /// In the file itself, in the column of this name.
    File(String),
    /// Elsewhere: the columns with their names, and with the folders or paths beside these.
    Named(Column, Option<Column>),
    /// Several columns have images.
    Several(Vec<String>),
    Nowhere,
}

impl TableColumns {
    pub(crate) fn of(table: &Table, names: &ColumnNames) -> Self {
        let leaves = table.leaves();
        let embedded = match &table.images {
            ImageColumn::One { content, .. } => {
                let name = &leaves[*content].name;
                Some(name.strip_suffix(".bytes").unwrap_or(name).to_owned())
            }
            ImageColumn::None | ImageColumn::Several(_) => None,
        };
        let is_image = |leaf: &Leaf| {
            embedded.as_ref().is_some_and(|name| {
                leaf.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let mut all: Vec<String> = Vec::new();
        for leaf in leaves {
            if all.last().is_none_or(|last| last != leaf.column()) {
                all.push(leaf.column().to_owned());
            }
        }
        let mut header: Vec<Column> = Vec::new();
        for name in &all {
            let of_column = |(_, leaf): &(usize, &Leaf)| leaf.column() == name && !is_image(leaf);
            let own: Vec<(usize, &Leaf)> = leaves.iter().enumerate().filter(of_column).collect();
            let is_caption = matches!(field_of(name, names), Some(Field::Captions(_) | Field::Prediction));
            if let Some(leaf) = value_of(&own, names, is_caption) {
                header.push(Column { name: name.clone(), leaf });
            }
        }
        // A part of a column, such as `json.caption`.
        for (_, given) in names.all().filter(|(_, given)| given.contains('.')) {
            let part = leaves.iter().position(|leaf| are_same(&leaf.name, given) && leaf.repetition <= 1);
            header.extend(part.map(|leaf| Column { name: given.to_owned(), leaf }));
        }
        let columns = Columns::named(header.iter().map(|column| column.name.as_str()), names);
        let column = |place: Option<usize>| place.map(|place| header[place].clone());
        let image = match (&table.images, embedded) {
            (ImageColumn::Several(several), _) => ImageIn::Several(several.clone()),
            (_, Some(name)) => ImageIn::File(name),
            (_, None) => {
                column(columns.image).map_or(ImageIn::Nowhere, |image| ImageIn::Named(image, column(columns.place)))
            }
        };
        let mut known: Vec<String> = header.iter().map(|column| column.name.clone()).collect();
        known.extend(match &image {
            ImageIn::File(name) => Some(name.clone()),
            _ => None,
        });
        Self {
            names: all,
            known,
            is_weak: columns.is_weak && matches!(image, ImageIn::Named(..)),
            image,
            captions: columns.captions.iter().filter_map(|&place| column(Some(place))).collect(),
            split: column(columns.split),
            maybe_split: column(columns.maybe_split),
            prediction: column(columns.prediction),
            prompt: column(columns.prompt),
            weight: column(columns.weight),
            unused: columns.unused.iter().map(|&place| header[place].name.clone()).collect(),
        }
    }

    /// Whether an image has captions in it, or would have if it were clear which images are meant.
    pub(crate) fn is_complete(&self) -> bool {
        self.image != ImageIn::Nowhere && !self.captions.is_empty()
    }

    /// Whether a column says that images or captions are in it.
    pub(crate) fn is_near(&self) -> bool {
        self.image != ImageIn::Nowhere || !self.captions.is_empty()
    }

    /// What such a file lacks, in words.
    pub(crate) fn explain(&self) -> String {
        let missing = match (&self.image, self.captions.is_empty()) {
            (ImageIn::Nowhere, true) => "none of them for the image or for captions",
            (ImageIn::Nowhere, false) => "none of them for the image",
            (_, true) => "none of them for captions",
            (_, false) => "and is not read as captions",
        };
        format!("a Parquet file with the columns {}, {missing} (known names are {USUAL_NAMES})", self.names.join(", "))
    }

    /// What is read, in words: equal for files of one data set.
    pub(crate) fn describe(&self) -> String {
        let names =
            |columns: &[Column]| columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let mut text = match &self.image {
            ImageIn::File(name) => format!("images in {name}"),
            ImageIn::Named(column, _) => format!("names of images in {}", column.name),
            ImageIn::Several(several) => format!("images in {}", several.join(" and ")),
            ImageIn::Nowhere => "no images".to_owned(),
        };
        text.push_str(&format!(", captions in {}", names(&self.captions)));
        for (what, column) in [("prompts", &self.prompt), ("weights", &self.weight), ("splits", &self.split)] {
            text.extend(column.iter().map(|column| format!(", {what} in {}", column.name)));
        }
        text
    }
}

/// Of the leaves of one column the one that has its value: its only text or number; of several texts the one that is
/// called as captions are.
fn value_of(leaves: &[(usize, &Leaf)], names: &ColumnNames, is_caption: bool) -> Option<usize> {
    let of_kind = |kinds: &'static [ValueKind]| {
        let is_meant = |(_, leaf): &&(usize, &Leaf)| leaf.repetition <= 1 && kinds.contains(&leaf.kind);
        leaves.iter().filter(is_meant).map(|&(place, leaf)| (place, leaf)).collect::<Vec<_>>()
    };
    let mut texts = of_kind(&[ValueKind::Text]);
    if texts.is_empty() {
        // Some programs write texts as bytes.
        texts = of_kind(&[ValueKind::Bytes]);
        texts.retain(|(_, leaf)| !leaf.name.contains('.'));
    }
    if texts.len() > 1 {
        let rank = |leaf: &Leaf| match field_of(leaf.name.rsplit('.').next().unwrap_or_default(), names) {
            Some(Field::Captions(kind)) => Some(kind),
            _ => None,
        };
        return texts.into_iter().filter_map(|(place, leaf)| Some((rank(leaf)?, place))).min().map(|(_, place)| place);
    }
    const NUMBERS: &[ValueKind] =
        &[ValueKind::Int32, ValueKind::Int64, ValueKind::Float, ValueKind::Double, ValueKind::Bool];
    let number = || match of_kind(NUMBERS).as_slice() {
        [(place, leaf)] if leaves.len() == 1 && leaf.repetition == 0 && !is_caption => Some(*place),
        _ => None,
    };
    texts.first().map(|(place, _)| *place).or_else(number)
}
