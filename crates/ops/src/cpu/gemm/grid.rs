//! The division of a product among threads: each computes a rectangle of the result from operands that it packs itself.

use std::cell::RefCell;

use rayon::prelude::*;

use super::cell::{Buffer, Operands, Region};
use super::kernel::Kernel;

/// From this many multiplications of a thread on, its part is cut in two, so that a thread that started late or was
/// interrupted leaves work to the others.
const LARGE: usize = 1 << 25;

/// What packing an element costs, in multiplications by a vector: it makes long cells cost more than square ones.
const PACKING: usize = 12;

thread_local! {
    /// Memory for packed operands, kept from one product to the next.
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

/// # Safety
/// The processor has the kernel's instructions, the pointers reach what sizes and strides say, and the result overlaps
/// no operand.
#[expect(unsafe_code, reason = "kernels work on pointers")]
pub(super) unsafe fn multiply<K: Kernel>(operands: &Operands<K::Element>, kernel: K, num_threads: usize) {
    if operands.m == 0 || operands.n == 0 {
        return;
    }
    // A buffer is borrowed while a kernel computes, which starts no other product on this thread.
    let compute = |region: Region| {
        BUFFER.with_borrow_mut(|buffer| {
            // SAFETY: as promised by the caller; regions do not overlap each other.
            unsafe { operands.compute(kernel, region, buffer) };
        });
    };
    if num_threads <= 1 {
        compute(Region { rows: (0, operands.m), columns: (0, operands.n) });
        return;
    }
    let cells_each = if operands.m * operands.n * operands.k / num_threads >= LARGE { 2 } else { 1 };
    let grid = Grid::new(operands.m, operands.n, (K::ROWS, K::COLUMNS), num_threads * cells_each);
    (0..grid.rows * grid.columns).into_par_iter().with_max_len(1).for_each(|cell| compute(grid.cell(cell)));
}

/// Rows and columns of cells.
struct Grid {
    size: (usize, usize),
    tile: (usize, usize),
    rows: usize,
    columns: usize,
}

impl Grid {
    /// The grid of at most `cells` cells whose largest costs least.
    fn new(m: usize, n: usize, tile: (usize, usize), cells: usize) -> Self {
        let (row_tiles, column_tiles) = (m.div_ceil(tile.0), n.div_ceil(tile.1));
        let cost = |rows: usize| {
            let height = row_tiles.div_ceil(rows) * tile.0;
            let width = column_tiles.div_ceil(cells / rows) * tile.1;
            height * width + PACKING * (height + width)
        };
        let rows = (1..=cells).min_by_key(|&rows| cost(rows)).unwrap_or(1);
        Self { size: (m, n), tile, rows: rows.min(row_tiles), columns: (cells / rows).min(column_tiles) }
    }

    fn cell(&self, index: usize) -> Region {
        let piece = |len: usize, tile: usize, pieces: usize, index: usize| {
            let tiles = len.div_ceil(tile);
            let at = |index: usize| (tiles * index / pieces * tile).min(len);
            (at(index), at(index + 1))
        };
        Region {
            rows: piece(self.size.0, self.tile.0, self.rows, index % self.rows),
            columns: piece(self.size.1, self.tile.1, self.columns, index / self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_the_result_once() {
        for (m, n) in [(1, 1), (14, 32), (15, 33), (788, 3072), (1, 10_000), (10_000, 1), (197, 64)] {
            for cells in 1..=9 {
                let grid = Grid::new(m, n, (14, 32), cells);
                assert!(grid.rows * grid.columns <= cells);
                let regions: Vec<Region> = (0..grid.rows * grid.columns).map(|cell| grid.cell(cell)).collect();
                let area: usize = regions.iter().map(|r| (r.rows.1 - r.rows.0) * (r.columns.1 - r.columns.0)).sum();
                assert_eq!(area, m * n, "{m} x {n} in {cells}");
                for (index, a) in regions.iter().enumerate() {
                    let apart = |b: &Region| {
                        a.rows.1 <= b.rows.0
                            || b.rows.1 <= a.rows.0
                            || a.columns.1 <= b.columns.0
                            || b.columns.1 <= a.columns.0
                    };
                    assert!(regions[index + 1..].iter().all(apart));
                }
            }
        }
    }

    #[test]
    fn a_cell_is_as_square_as_it_can_be() {
        let grid = Grid::new(768, 3072, (14, 32), 4);
        assert_eq!((grid.rows, grid.columns), (1, 4));
        let grid = Grid::new(10_000, 512, (14, 32), 4);
        assert_eq!((grid.rows, grid.columns), (4, 1));
    }
}
