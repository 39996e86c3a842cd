//! The images in a Parquet file: which column has them, what each is called, and their contents. `datasets` writes an
//! image as a structure of `bytes` and `path`; others write the bytes alone. A column is one of images by what it has.
//!
//! An image is called by its path; a path that is absolute or leads out of a folder counts by its last name only, and
//! an image without one is called by its row. Rows with the same image under the same name share it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use parquet::data_type::ByteArray;

use crate::column_names::are_same;
use crate::name_forms::{on_any_disk, without_ending};
use crate::prepared::is_safe_relative;
use crate::source::limits::{Limits, Member};
use crate::source::parquet::footer::{Leaf, ValueKind};
use crate::source::parquet::table::{ImageColumn, RowImage, Table};
use crate::source::parquet::values::Values;
use base::error::failure;
use pixels::image_file::budget::{Share, budgets};
use pixels::picture_formats::{PictureFormat, format_of_content, is_image_name, unread_ending_of_content};

/// Bytes of a name: no system has files with longer ones.
const MAX_NAME_BYTES: usize = 200;

/// The images of a file, and what was noticed of them.
pub(in crate::source) struct Found {
    pub(in crate::source) members: Vec<Member>,
    pub(in crate::source) remark: Option<String>,
}

/// Opens the Parquet file at `path`, and lists the images in it: those of the column called `image`, where one is given.
pub(in crate::source) fn open(path: &Path, limits: Limits, image: Option<&str>) -> anyhow::Result<(Table, Found)> {
    let mut table = Table::open(path, limits)?;
    let found = list(&mut table, image)?;
    Ok((table, found))
}

/// Finds the column of images and lists them; `table` learns which row has which.
fn list(table: &mut Table, wanted: Option<&str>) -> anyhow::Result<Found> {
    table.images = column(table, wanted)?;
    let ImageColumn::One { content, path } = table.images else {
        return Ok(Found { members: Vec::new(), remark: None });
    };
    let mut names = Names { limits: table.limits, ..Names::new() };
    let groups: Vec<usize> = table.groups().collect();
    for (group, num_rows) in groups.into_iter().enumerate() {
        let mut contents = table.values(group, content)?;
        let mut paths = path.map(|path| table.values(group, path)).transpose()?;
        let memory = contents.memory() + paths.as_ref().map_or(0, Values::memory);
        // Held while the group is read.
        let _share = share(memory)?;
        table.memory = table.memory.max(memory);
        for _ in 0..num_rows {
            let path = match &mut paths {
                Some(paths) => paths.texts(1, &mut { table.limits.text_bytes })?.pop().unwrap_or_default(),
                None => Vec::new(),
            };
            let content = contents.bytes()?;
            let image = names.add(content.as_ref().map(ByteArray::data), path.first().map(String::as_str))?;
            table.rows.push(image);
        }
    }
    Ok(Found { remark: names.remark(), members: names.members })
}

/// Memory for reading a row group, held as long as it is read.
pub(crate) fn share(bytes: u64) -> anyhow::Result<Share> {
    budgets().files.take(bytes, || "a page of a row group takes".to_owned()).map_err(|error| {
        failure(format!("{error:#}"), "write the file again with smaller row groups, such as 100 rows each")
    })
}

/// The column that has images: the one called `wanted`, or the only one whose first value is a picture.
fn column(table: &Table, wanted: Option<&str>) -> anyhow::Result<ImageColumn> {
    let leaves = table.leaves();
    let mut found: Vec<(&str, usize)> = Vec::new();
    for (place, leaf) in leaves.iter().enumerate().filter(|(_, leaf)| leaf.kind == ValueKind::Bytes) {
        let name = leaf.name.strip_suffix(".bytes").unwrap_or(&leaf.name);
        let is_wanted = wanted.is_none_or(|wanted| are_same(wanted, name));
        if is_wanted && leaf.repetition > 0 && wanted.is_some() {
            let message = format!("its column {name} has a list for each row, expected one image");
            return Err(failure(message, "write one image in each row, or choose another column with `--columns`"));
        }
        // What the user names may have no image at all.
        let is_meant = wanted.is_some() && name.len() < leaf.name.len();
        if is_wanted && leaf.repetition == 0 && (is_meant || begins_with_picture(table, place)?) {
            found.push((name, place));
        }
    }
    Ok(match found.as_slice() {
        [] => ImageColumn::None,
        &[(name, content)] => ImageColumn::One { content, path: path_beside(leaves, name) },
        _ => ImageColumn::Several(found.into_iter().map(|(name, _)| name.to_owned()).collect()),
    })
}

/// The column of the paths of the images in the column called `name`.
fn path_beside(leaves: &[Leaf], name: &str) -> Option<usize> {
    let is_path = |leaf: &Leaf| {
        matches!(leaf.kind, ValueKind::Text | ValueKind::Bytes)
            && leaf.repetition == 0
            && leaf.name.strip_suffix(".path") == Some(name)
    };
    leaves.iter().position(is_path)
}

/// Whether the first value that is there is a picture, of a format that is read or of another.
fn begins_with_picture(table: &Table, leaf: usize) -> anyhow::Result<bool> {
    let groups: Vec<usize> = table.groups().collect();
    for (group, num_rows) in groups.into_iter().enumerate() {
        let mut values = table.values(group, leaf)?;
        let _share = share(values.memory())?;
        for _ in 0..num_rows {
            let found = values.bytes()?;
            if let Some(first) = found.as_ref().map(ByteArray::data).filter(|bytes| !bytes.is_empty()) {
                return Ok(ending_of(first).is_some());
            }
        }
    }
    Ok(false)
}

/// The usual ending of a picture's name, by its content.
fn ending_of(content: &[u8]) -> Option<&'static str> {
    let ending = format_of_content(content).map(|format| match format {
        PictureFormat::Jpeg => "jpg",
        PictureFormat::Png => "png",
        PictureFormat::WebP => "webp",
        PictureFormat::Bmp => "bmp",
        PictureFormat::Gif => "gif",
        PictureFormat::Tiff => "tif",
    });
    ending.or_else(|| unread_ending_of_content(content))
}

/// The images so far, and what they are called.
struct Names {
    limits: Limits,
    members: Vec<Member>,
    taken: HashSet<String>,
    /// By a hash of name and content.
    known: HashMap<u64, u32>,
    hasher: RandomState,
    num_rows: u64,
    total_bytes: u64,
    num_shared: usize,
    /// Paths that do not count as they are, and names that two images have, with the first of each.
    odd_paths: (usize, String),
    repeated: (usize, String),
}

impl Names {
    fn new() -> Self {
        Self {
            limits: Limits::DATASET,
            members: Vec::new(),
            taken: HashSet::new(),
            known: HashMap::new(),
            hasher: RandomState::new(),
            num_rows: 0,
            total_bytes: 0,
            num_shared: 0,
            odd_paths: (0, String::new()),
            repeated: (0, String::new()),
        }
    }

    /// Adds the image of the next row.
    fn add(&mut self, content: Option<&[u8]>, path: Option<&str>) -> anyhow::Result<RowImage> {
        const SPLIT: &str = "split it into several files";
        let row = self.num_rows;
        self.num_rows += 1;
        let Some(content) = content.filter(|content| !content.is_empty()) else { return Ok(RowImage::ABSENT) };
        let bytes = content.len() as u64;
        let Limits { num_members, image_bytes, total_bytes, .. } = self.limits;
        if bytes > image_bytes {
            return Ok(RowImage::TOO_LARGE);
        }
        let path = path.map(str::trim).filter(|path| !path.is_empty());
        let hash = self.hasher.hash_one((path, content));
        if let Some(&member) = self.known.get(&hash) {
            self.num_shared += 1;
            return Ok(RowImage(member));
        }
        self.total_bytes += bytes;
        if self.total_bytes > total_bytes {
            return Err(failure(format!("its images have more than {total_bytes} bytes together"), SPLIT));
        }
        if self.members.len() >= num_members {
            return Err(failure(format!("it has more than the {num_members} images that are accepted"), SPLIT));
        }
        let name = self.free_name(path, row, content);
        let member = self.members.len() as u32;
        self.members.push(Member { name, bytes, place: row });
        self.known.insert(hash, member);
        Ok(RowImage(member))
    }

    /// What the image of a row is called.
    fn free_name(&mut self, path: Option<&str>, row: u64, content: &[u8]) -> String {
        let ending = ending_of(content).unwrap_or("bin");
        let mut name = match path {
            Some(path) => self.name_of(path).unwrap_or_else(|| format!("{row:09}")),
            None => format!("{row:09}"),
        };
        // Without an ending it would be taken for no image.
        if !is_image_name(&name) {
            name = format!("{name}.{ending}");
        }
        if self.taken.insert(on_any_disk(&name)) {
            return name;
        }
        if self.repeated.0 == 0 {
            self.repeated.1.clone_from(&name);
        }
        self.repeated.0 += 1;
        let (stem, ending) = name.split_at(without_ending(&name).len());
        let (stem, ending) = (stem.to_owned(), ending.to_owned());
        let mut name = format!("{stem}_row{row}{ending}");
        while !self.taken.insert(on_any_disk(&name)) {
            name = format!("{}_{ending}", without_ending(&name));
        }
        name
    }

    /// The name that a path gives: the path itself, or its last part where that alone is safe.
    fn name_of(&mut self, path: &str) -> Option<String> {
        let slashed = path.replace('\\', "/");
        let relative = slashed.trim_start_matches("./");
        if is_safe_relative(relative) && relative.len() <= MAX_NAME_BYTES {
            return Some(relative.to_owned());
        }
        if self.odd_paths.0 == 0 {
            self.odd_paths.1 = path.chars().take(MAX_NAME_BYTES).collect();
        }
        self.odd_paths.0 += 1;
        // What follows a question mark is no part of the name of what an address leads to.
        let is_address = slashed.starts_with("http://") || slashed.starts_with("https://");
        let whole = if is_address { slashed.split(['?', '#']).next().unwrap_or_default() } else { &slashed };
        let last = whole.rsplit('/').next().unwrap_or_default();
        (is_safe_relative(last) && last.len() <= MAX_NAME_BYTES).then(|| last.to_owned())
    }

    fn remark(&self) -> Option<String> {
        let mut remarks = Vec::new();
        if self.num_shared > 0 {
            let (shared, images) = (self.num_shared, self.members.len());
            remarks.push(format!("{shared} of its rows have an image of another row: it has {images} images"));
        }
        let (count, first) = &self.odd_paths;
        if *count > 0 {
            remarks.push(format!(
                "{count} of its paths are absolute or lead out of a folder: only the names at their ends count, such as \
                 that of {first:?}"
            ));
        }
        let (count, first) = &self.repeated;
        if *count > 0 {
            remarks.push(format!(
                "{count} of its images have the name of another image, such as {first}: their rows are added to it"
            ));
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// Reads images of a file. It is fast where they are asked for in their order.
#[derive(Default)]
pub(in crate::source) struct ImageReader(Option<Open>);

struct Open {
    group: usize,
    next_row: usize,
    contents: Values,
}

impl ImageReader {
    /// The first `max` bytes of an image.
    pub(in crate::source) fn read(&mut self, table: &Table, member: &Member, max: u64) -> anyhow::Result<Vec<u8>> {
        let is_gone =
            || failure("it is no longer in the file", "the file was changed meanwhile: run the command again");
        let ImageColumn::One { content, .. } = table.images else { return Err(is_gone()) };
        let (group, row) = table.place_of(member).ok_or_else(is_gone)?;
        // After an error nothing is where it should be.
        let open = self.0.take().filter(|open| open.group == group && open.next_row <= row);
        let mut open = match open {
            Some(open) => open,
            None => Open { group, next_row: 0, contents: table.values(group, content)? },
        };
        if open.next_row < row {
            open.contents.skip(row - open.next_row)?;
        }
        let image = open.contents.bytes()?;
        open.next_row = row + 1;
        self.0 = Some(open);
        let image = image.as_ref().map(ByteArray::data).filter(|image| image.len() as u64 == member.bytes);
        let image = image.ok_or_else(is_gone)?;
        let length = usize::try_from(max).map_or(image.len(), |max| max.min(image.len()));
        Ok(image[..length].to_vec())
    }
}
