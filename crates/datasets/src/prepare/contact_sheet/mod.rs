//! A sheet of small pictures with their captions, by which the user sees whether both belong together.
//!
//! Draws only: which images to show, and reading and writing them, is the business of others.

mod text;

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage, imageops};

use self::text::{Height, cut_beginning, draw, letters_in, wrap};
use crate::annotations::RawDataset;
use crate::output::ownership::Ours;
use crate::prepare::images;
use crate::prepared::SAMPLES_FILE;
use base::digest::sha256;
use pixels::image_file::encode;
use pixels::image_processor::resize_rgb;

/// Writes the sheet of the images that were kept for it.
pub(super) fn write_samples(
    raw: &RawDataset,
    stored: Vec<images::StoredImage>,
    directory: &Path,
    ours: &Ours,
) -> anyhow::Result<()> {
    let cells: Vec<Cell> = raw
        .images
        .iter()
        .zip(stored)
        .filter_map(|(image, stored)| {
            let caption = image.captions.first().cloned().unwrap_or_default();
            Some(Cell { image: stored.thumbnail?, caption, label: image.filename.clone() })
        })
        .collect();
    let sheet = encode(&contact_sheet(&cells), ImageFormat::Jpeg)?;
    ours.write(directory, SAMPLES_FILE, &sheet, &sha256(&sheet), false).map(drop)
}

/// Cells that a sheet shows; what is beyond is left out.
pub(super) const MAX_CELLS: usize = 25;
const COLUMNS: usize = 5;
/// Width and height in pixels of the place that a picture is fitted into.
const PLACE: (u32, u32) = (240, 180);
/// Pixels around cells.
const GAP: u32 = 16;
/// Pixels between a picture and the text below.
const TEXT_GAP: u32 = 8;
/// Pixels between the caption and the label.
const LABEL_GAP: u32 = 3;
/// Lines for the caption; the label has one more, of low letters.
const CAPTION_LINES: usize = 3;
const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
/// Shows where a picture ends that does not fill its place.
const MARGIN: Rgb<u8> = Rgb([226, 226, 226]);
const INK: Rgb<u8> = Rgb([24, 24, 24]);
const PALE_INK: Rgb<u8> = Rgb([120, 120, 120]);

/// A picture and the text below it.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// The picture, of any size; one without pixels leaves its place empty.
    pub image: RgbImage,
    /// Three lines of 30 characters are shown of it.
    pub caption: String,
    /// A name, small and pale; the last 30 characters are shown, since long file names differ at their ends.
    pub label: String,
}

/// Draws the first [`MAX_CELLS`] cells, five in a row: each picture as large as it fits into 240x180 pixels, below it
/// the caption and the label. Characters beyond Latin-1 are drawn as a box. No cells give an empty sheet.
pub(super) fn contact_sheet(cells: &[Cell]) -> RgbImage {
    let cells = &cells[..cells.len().min(MAX_CELLS)];
    let (num_columns, num_rows) = (cells.len().min(COLUMNS), cells.len().div_ceil(COLUMNS));
    let length = |num: usize, each: u32| GAP + num as u32 * (each + GAP);
    let mut sheet = RgbImage::from_pixel(length(num_columns, PLACE.0), length(num_rows, cell_height()), PAPER);
    for (index, cell) in cells.iter().enumerate() {
        let (left, top) = (length(index % COLUMNS, PLACE.0), length(index / COLUMNS, cell_height()));
        draw_picture(&mut sheet, (left, top), &cell.image);
        draw_text(&mut sheet, (left, top + PLACE.1 + TEXT_GAP), cell);
    }
    sheet
}

const fn cell_height() -> u32 {
    PLACE.1 + TEXT_GAP + CAPTION_LINES as u32 * Height::High.line() + LABEL_GAP + Height::Low.line()
}

fn draw_picture(sheet: &mut RgbImage, (left, top): (u32, u32), image: &RgbImage) {
    let place = RgbImage::from_pixel(PLACE.0, PLACE.1, MARGIN);
    imageops::replace(sheet, &place, left.into(), top.into());
    let Some((width, height)) = fitted(image.dimensions()) else { return };
    let picture = resize_rgb(image, width, height).expect("neither picture is empty");
    let (left, top) = (left + (PLACE.0 - width) / 2, top + (PLACE.1 - height) / 2);
    imageops::replace(sheet, &picture, left.into(), top.into());
}

/// The label follows the caption at once, so that it is seen what belongs together.
fn draw_text(sheet: &mut RgbImage, (left, top): (u32, u32), cell: &Cell) {
    let num_letters = letters_in(PLACE.0);
    let mut top = top;
    for line in wrap(&cell.caption, num_letters, CAPTION_LINES) {
        draw(sheet, (left, top), &line, Height::High, INK);
        top += Height::High.line();
    }
    draw(sheet, (left, top + LABEL_GAP), &cut_beginning(&cell.label, num_letters), Height::Low, PALE_INK);
}

/// The largest size of this shape in a place, at least one pixel; `None` for a picture without pixels.
fn fitted((width, height): (u32, u32)) -> Option<(u32, u32)> {
    if width.min(height) == 0 {
        return None;
    }
    let scaled = |length: u32, to: u32, from: u32| {
        let (length, to, from) = (u64::from(length), u64::from(to), u64::from(from));
        ((length * to + from / 2) / from).max(1) as u32
    };
    let is_wider = u64::from(width) * u64::from(PLACE.1) > u64::from(height) * u64::from(PLACE.0);
    Some(if is_wider { (PLACE.0, scaled(height, PLACE.0, width)) } else { (scaled(width, PLACE.1, height), PLACE.1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Rgb<u8> = Rgb([200, 30, 30]);

    fn cell(size: (u32, u32), colour: Rgb<u8>) -> Cell {
        let image = RgbImage::from_pixel(size.0, size.1, colour);
        Cell { image, caption: "A dog runs".into(), label: "a.jpg".into() }
    }

    fn sheet_of(num: usize) -> RgbImage {
        contact_sheet(&vec![cell((4, 3), RED); num])
    }

    fn with_text(caption: &str, label: &str) -> RgbImage {
        contact_sheet(&[Cell { caption: caption.into(), label: label.into(), ..cell((4, 3), RED) }])
    }

    /// The first and last row and column that have this colour: (left, top, right, bottom).
    fn extent(sheet: &RgbImage, colour: Rgb<u8>) -> Option<(u32, u32, u32, u32)> {
        let places = sheet.enumerate_pixels().filter(|(.., pixel)| **pixel == colour).map(|(x, y, _)| (x, y, x, y));
        places.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2), a.3.max(b.3)))
    }

    #[test]
    fn a_sheet_is_as_large_as_its_cells_need() {
        let sizes = [0, 1, 2, 5, 6, 25, 26].map(|num| sheet_of(num).dimensions());
        let row = |num: u32| 16 + 277 * num;
        let wide = 16 + 5 * 256;
        let expected =
            [(16, 16), (272, row(1)), (528, row(1)), (wide, row(1)), (wide, row(2)), (wide, row(5)), (wide, row(5))];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn each_picture_stands_at_its_place() {
        let colour = |index: u8| Rgb([10 * index, 200 - 5 * index, 90]);
        let cells: Vec<Cell> = (0..25).map(|index| cell((40, 30), colour(index))).collect();
        let sheet = contact_sheet(&cells);
        for index in 0..25 {
            let (left, top) = (16 + 256 * (u32::from(index) % 5), 16 + 277 * (u32::from(index) / 5));
            let expected = Some((left, top, left + 239, top + 179));
            assert_eq!(extent(&sheet, colour(index)), expected, "{index}");
        }
    }

    #[test]
    fn a_picture_of_another_shape_is_centred_in_its_place() {
        for (size, expected) in [
            ((160, 160), (46, 16, 225, 195)),
            ((1, 1), (46, 16, 225, 195)),
            ((640, 320), (16, 46, 255, 165)),
            ((30, 90), (106, 16, 165, 195)),
            ((10_000, 1), (16, 105, 255, 105)),
            ((1, 10_000), (135, 16, 135, 195)),
        ] {
            let sheet = contact_sheet(&[cell(size, RED)]);
            assert_eq!(extent(&sheet, RED), Some(expected), "{size:?}");
            assert_eq!(extent(&sheet, MARGIN), Some((16, 16, 255, 195)), "{size:?}");
        }
    }

    #[test]
    fn a_picture_without_pixels_leaves_its_place_empty() {
        for size in [(0, 0), (0, 7), (7, 0)] {
            let sheet = contact_sheet(&[cell(size, RED)]);
            assert_eq!(sheet.dimensions(), (272, 293));
            assert_eq!(extent(&sheet, MARGIN), Some((16, 16, 255, 195)));
        }
    }

    #[test]
    fn the_label_stands_below_the_lines_of_the_caption() {
        let tops = ["", "one", "one two three four five six seven eight"].map(|caption| {
            let sheet = with_text(caption, "L");
            let bottom = extent(&sheet, INK).map(|(.., bottom)| bottom);
            (bottom, extent(&sheet, PALE_INK).unwrap().1)
        });
        assert_eq!(tops, [(None, 207), (Some(217), 227), (Some(239), 247)]);
    }

    #[test]
    fn text_of_any_length_stays_below_its_picture() {
        for caption in ["M".repeat(500), "gj ".repeat(500)] {
            let sheet = with_text(&caption, &"folder/".repeat(50));
            for ink in [INK, PALE_INK] {
                let (left, top, right, bottom) = extent(&sheet, ink).unwrap();
                assert!(left >= 16 && top > 195 && right < 256 && bottom < 293 - 16, "{left} {top} {right} {bottom}");
            }
        }
    }
}
