//! Cells of a table that hold several captions with the same between them, `one|two|three`.

use crate::annotations::Repair;
use crate::annotations::builder::is_missing;
use crate::annotations::entities;
use crate::annotations::fields::{Field, field};
use crate::annotations::list_text::texts_of;
use crate::annotations::text::Table;

/// What may stand between captions; of two that do the first counts.
const SEPARATORS: [&str; 5] = ["||", "|", "\n", "\t", ";"];
/// Cells that tell how a column is written.
const LEAST: usize = 2;

/// How the cells of a column are read.
pub(super) struct Cells {
    pub(super) column: usize,
    /// What stands between captions in each of them.
    separator: Option<&'static str>,
    /// Its name says that there are several in a cell.
    is_plural: bool,
}

impl Cells {
    /// The captions in a cell of the column.
    pub(super) fn captions<'a>(&self, cell: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_list = self.is_plural && !cell.trim().is_empty() && !is_missing(cell);
        let separator = self.separator.filter(|_| is_list);
        let whole = if separator.is_none() { Some(cell) } else { None };
        whole.into_iter().chain(separator.into_iter().flat_map(move |separator| parts(cell, separator)))
    }
}

fn parts<'a>(cell: &'a str, separator: &'static str) -> impl Iterator<Item = &'a str> {
    cell.split(separator).filter(|part| !part.trim().is_empty())
}

/// How the cells of these columns are read. A row that is of no form is told when it is read.
pub(super) fn of(table: Table<'_>, columns: &[usize]) -> Vec<Cells> {
    let is_plural =
        |column: usize| matches!(field(&table.header()[column]), Some(Field::Captions(kind)) if kind.is_plural);
    let mut cells: Vec<Cells> =
        columns.iter().map(|&column| Cells { column, separator: None, is_plural: is_plural(column) }).collect();
    let mut seen: Vec<(usize, Vec<&'static str>)> = columns.iter().map(|_| (0, SEPARATORS.to_vec())).collect();
    let all = table.for_each_row(|_, values| {
        for ((count, open), &column) in seen.iter_mut().zip(columns) {
            let cell = values[column];
            if cell.trim().is_empty() || is_missing(cell) {
                continue;
            }
            *count += 1;
            open.retain(|separator| is_between(separator, cell));
        }
        anyhow::ensure!(seen.iter().any(|(_, open)| !open.is_empty()), "nothing is in each");
        Ok(())
    });
    if all.is_ok() {
        for (cells, (count, open)) in cells.iter_mut().zip(seen) {
            cells.separator = open.first().copied().filter(|_| count >= LEAST);
        }
    }
    cells
}

/// Whether it stands between two texts, and not within a list that is written otherwise.
fn is_between(separator: &'static str, cell: &str) -> bool {
    // `&amp;`
    let is_of_entity = separator == ";" && entities::decode(cell) != cell;
    !is_of_entity
        && parts(cell, separator).filter(|part| part.chars().any(char::is_alphabetic)).count() > 1
        && texts_of(cell.into()).is_ok_and(|texts| matches!(texts.as_slice(), [one] if one == cell))
}

/// What is said of columns in whose cells there are several captions, or seem to be.
pub(super) fn notes(cells: &[Cells], header: &[String], path: &str) -> Vec<Repair> {
    let note = |cells: &Cells| {
        let (separator, name) = (cells.separator?, &header[cells.column]);
        let note = match cells.is_plural {
            true => format!("each cell of {name} is read as several captions with {separator:?} between them"),
            false if separator.starts_with('|') => format!(
                "each cell of {name} has {separator:?} in it and is read as one caption; if they are several, call the \
                 column captions"
            ),
            false => return None,
        };
        Some(Repair::new(path, note))
    };
    cells.iter().filter_map(note).collect()
}
