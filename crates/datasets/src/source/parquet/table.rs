//! A Parquet file that was opened: what its columns are, which of them has images, and which rows have one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::source::limits::{Limits, Member};
use crate::source::parquet::footer::{Footer, Leaf};
use crate::source::parquet::pages::Pages;
use crate::source::parquet::values::Values;
use base::bounded_file;
use base::error::failure;

/// Rows of a file: nulls take no space in it.
const MAX_ROWS: u64 = 20_000_000;

#[derive(Debug)]
pub(crate) struct Table {
    path: PathBuf,
    footer: Footer,
    /// The first row of each row group.
    starts: Vec<u64>,
    pub(super) limits: Limits,
    pub(crate) images: ImageColumn,
    /// The image of each row, where the file has images.
    pub(super) rows: Vec<RowImage>,
    pub(super) memory: u64,
}

/// Which column has the images themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageColumn {
    /// None: another may have their names.
    None,
    /// The places of the leaves with the content of each image and, where there is one, its path.
    One { content: usize, path: Option<usize> },
    /// It is not clear which: their names.
    Several(Vec<String>),
}

/// What a row has for an image: the place among the members of the file, or why it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowImage(pub(super) u32);

impl RowImage {
    pub(super) const ABSENT: Self = Self(u32::MAX);
    pub(super) const TOO_LARGE: Self = Self(u32::MAX - 1);
}

/// Why a row has no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoImage {
    Absent,
    TooLarge,
}

impl Table {
    /// Opens the file at `path`, whatever images it has.
    pub(super) fn open(path: &Path, limits: Limits) -> anyhow::Result<Self> {
        let mut file = bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let footer = Footer::read(&mut file)?;
        let (mut starts, mut num_rows) = (Vec::with_capacity(footer.groups.len()), 0_u64);
        for group in &footer.groups {
            starts.push(num_rows);
            num_rows = num_rows.saturating_add(group.num_rows);
        }
        if num_rows > MAX_ROWS {
            let message = format!("it has {num_rows} rows, at most {MAX_ROWS} are accepted");
            return Err(failure(message, "split it into several files"));
        }
        let (images, rows) = (ImageColumn::None, Vec::new());
        Ok(Self { path: path.to_owned(), footer, starts, limits, images, rows, memory: 0 })
    }

    /// Bytes of memory that reading its images takes, beside the images.
    pub(in crate::source) fn memory(&self) -> u64 {
        self.memory
    }

    /// The columns that have values.
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.footer.leaves
    }

    /// How many rows each row group has.
    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        // All together are no more than `MAX_ROWS`.
        self.footer.groups.iter().map(|group| group.num_rows as usize)
    }

    /// The values of a leaf in a row group, both given by their places.
    pub(crate) fn values(&self, group: usize, leaf: usize) -> anyhow::Result<Values> {
        let file = bounded_file::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let values = Values::open(file, &self.footer.leaves[leaf], &self.footer.groups[group], leaf, &self.limits);
        values.with_context(|| format!("row group {group} of {}", self.path.display()))
    }

    /// The pages of a leaf in a row group, both given by their places.
    pub(super) fn pages(&self, group: usize, leaf: usize) -> anyhow::Result<Pages> {
        let file = bounded_file::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let chunk = &self.footer.groups[group].chunks[leaf];
        let pages = Pages::open(file, &self.footer.leaves[leaf], chunk, &self.limits);
        pages.with_context(|| format!("row group {group} of {}", self.path.display()))
    }

    /// The place of a row's image among the members of the file.
    pub(crate) fn image_of(&self, row: usize) -> Result<usize, NoImage> {
        match self.rows.get(row) {
            None | Some(&RowImage::ABSENT) => Err(NoImage::Absent),
            Some(&RowImage::TOO_LARGE) => Err(NoImage::TooLarge),
            Some(&RowImage(member)) => Ok(member as usize),
        }
    }

    /// Whether any row has an image in the file.
    pub(crate) fn has_images(&self) -> bool {
        self.rows.iter().any(|row| *row != RowImage::ABSENT)
    }

    /// The row group of an image, and its row in that group.
    pub(super) fn place_of(&self, member: &Member) -> Option<(usize, usize)> {
        let group = self.starts.partition_point(|start| *start <= member.place).checked_sub(1)?;
        Some((group, usize::try_from(member.place - self.starts[group]).ok()?))
    }
}
