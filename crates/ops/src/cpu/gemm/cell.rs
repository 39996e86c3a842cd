//! A rectangle of the result, computed by one thread.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use super::blocking;
use super::kernel::{Dots, Kernel, Strip, Tile};

/// A product of (m, k) and (k, n) matrices.
pub(crate) struct Operands<T> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) scale: T,
    pub(super) left: *const T,
    pub(super) left_row_stride: usize,
    pub(super) left_column_stride: usize,
    pub(super) right: *const T,
    pub(super) right_row_stride: usize,
    pub(super) right_column_stride: usize,
    /// What the product is added to; null for zeros.
    pub(super) start: *const T,
    pub(super) start_stride: usize,
    pub(super) result: *mut T,
    pub(super) result_stride: usize,
}

// SAFETY: threads read the operands and write to parts of the result that do not overlap.
unsafe impl<T: Send + Sync> Sync for Operands<T> {}

/// Rows and columns of the result: first, and one after the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) rows: (usize, usize),
    pub(super) columns: (usize, usize),
}

/// With so few rows nothing is packed that can be read where it is: it is read once.
const FEW_ROWS: usize = 8;

/// Up to this many panels of columns, a left operand is read where it is.
const FEW_PANELS: usize = 4;

/// How many panels of the right operand are packed at a time where its columns lie side by side: each of its rows is on
/// a page of its own.
const PANELS_TOGETHER: usize = 4;

/// Steps from a prefetch to its use, of an operand that is packed, and of one that is not.
const PACKED_AHEAD: usize = 8;
const UNPACKED_AHEAD: usize = 16;

impl<T: Copy> Operands<T> {
    /// # Safety
    /// The processor has the kernel's instructions, the pointers reach what sizes and strides say, nobody else accesses
    /// the region of the result, and it overlaps no operand.
    pub(super) unsafe fn compute<K: Kernel<Element = T>>(&self, kernel: K, region: Region, buffer: &mut Buffer) {
        let (first, end) = region.columns;
        // SAFETY: as promised by the caller, for parts of the region.
        unsafe {
            // Decided by the whole product: the order of sums is another.
            if self.m <= FEW_ROWS
                && self.left_column_stride == 1
                && self.right_row_stride == 1
                && kernel.reads_unpacked()
            {
                self.dots(kernel, region);
                return;
            }
            for column in (first..end).step_by(blocking::COLUMNS) {
                let columns = (column, end.min(column + blocking::COLUMNS));
                self.tiles(kernel, Region { columns, ..region }, buffer);
            }
        }
    }

    unsafe fn dots<K: Kernel<Element = T>>(&self, kernel: K, Region { rows, columns }: Region) {
        // SAFETY: the region is inside the result, and the operands reach its rows and columns.
        unsafe {
            kernel.dots(&Dots {
                depth: self.k,
                rows: rows.1 - rows.0,
                columns: columns.1 - columns.0,
                left: self.left.wrapping_add(rows.0 * self.left_row_stride),
                left_stride: self.left_row_stride,
                right: self.right.wrapping_add(columns.0 * self.right_column_stride),
                right_stride: self.right_column_stride,
                scale: self.scale,
                start: self.start_at(rows.0, columns.0),
                start_stride: self.start_stride,
                result: self.result.add(rows.0 * self.result_stride + columns.0),
                result_stride: self.result_stride,
            });
        }
    }

    unsafe fn tiles<K: Kernel<Element = T>>(&self, kernel: K, region: Region, buffer: &mut Buffer) {
        let plan = Plan::new(self, kernel, &region);
        let packed: *mut K::Packed = buffer.reserve(plan.left_len + plan.right_len);
        for depth_block in 0..plan.depth_blocks {
            let steps = (self.k * depth_block / plan.depth_blocks, self.k * (depth_block + 1) / plan.depth_blocks);
            for (index, row) in (region.rows.0..region.rows.1).step_by(plan.block_rows).enumerate() {
                let rows = (row, region.rows.1.min(row + plan.block_rows));
                // SAFETY: the buffer has the planned size, and the region and its operands are as promised.
                unsafe {
                    let packed = (packed, packed.add(plan.left_len));
                    self.block(
                        kernel,
                        &plan,
                        Block { steps, rows, columns: region.columns, is_first: index == 0 },
                        packed,
                    );
                }
            }
        }
    }

    /// Adds the products of a block of rows of the left and of columns of the right operand to the result.
    unsafe fn block<K: Kernel<Element = T>>(
        &self,
        kernel: K,
        plan: &Plan,
        block: Block,
        (packed_left, packed_right): (*mut K::Packed, *mut K::Packed),
    ) {
        let Block { steps, rows, columns, is_first } = block;
        let depth = (steps.1 - steps.0).div_ceil(K::STEPS);
        let left_strip = |values| Strip {
            values,
            lanes: rows.1 - rows.0,
            lane_stride: self.left_row_stride,
            depth: steps.1 - steps.0,
            depth_stride: self.left_column_stride,
            panel_lanes: plan.panel_rows,
            panel_len: plan.left_panel_len,
        };
        // SAFETY: rows, columns and steps are inside the operands (without steps nothing is read), and panels inside the
        // buffers, which have room for a vector more. Where something is read unpacked, `Packed` is the type of the elements.
        unsafe {
            let left = self.left.wrapping_add(rows.0 * self.left_row_stride + steps.0 * self.left_column_stride);
            if !plan.left_unpacked {
                kernel.pack_left(&left_strip(left), packed_left);
            }
            for (index, column) in (columns.0..columns.1).step_by(plan.columns).enumerate() {
                let right =
                    self.right.wrapping_add(steps.0 * self.right_row_stride + column * self.right_column_stride);
                let slot = if plan.keeps_right { index } else { index % plan.panels_together };
                let panel = packed_right.add(slot * plan.right_panel_len);
                if is_first && !plan.right_unpacked && index % plan.panels_together == 0 {
                    let strip = Strip {
                        values: right,
                        lanes: (plan.panels_together * K::COLUMNS).min(columns.1 - column),
                        lane_stride: self.right_column_stride,
                        depth: steps.1 - steps.0,
                        depth_stride: self.right_row_stride,
                        panel_lanes: K::COLUMNS,
                        panel_len: plan.right_panel_len,
                    };
                    kernel.pack_right(&strip, panel);
                }
                for (index, row) in (rows.0..rows.1).step_by(plan.panel_rows).enumerate() {
                    let (left, left_row_stride, left_step) = if plan.left_unpacked {
                        let offset = (row - rows.0) * self.left_row_stride;
                        (left.wrapping_add(offset).cast(), self.left_row_stride, self.left_column_stride)
                    } else {
                        (packed_left.add(index * plan.left_panel_len).cast_const(), 1, K::ROWS)
                    };
                    let reads_operand = plan.right_unpacked && (!plan.copies_right || is_first && index == 0);
                    let (right, right_step, right_ahead) = if reads_operand {
                        (right.cast(), self.right_row_stride, UNPACKED_AHEAD)
                    } else {
                        (panel.cast_const(), K::COLUMNS, PACKED_AHEAD)
                    };
                    let result = self.result.add(row * self.result_stride + column);
                    let (start, start_stride) = if steps.0 > 0 {
                        (result.cast_const(), self.result_stride)
                    } else {
                        (self.start_at(row, column), self.start_stride)
                    };
                    kernel.tile(&Tile {
                        depth,
                        rows: plan.panel_rows.min(rows.1 - row),
                        columns: plan.columns.min(columns.1 - column),
                        left,
                        left_row_stride,
                        left_step,
                        right,
                        right_step,
                        right_ahead,
                        right_copy: if reads_operand && plan.copies_right { panel } else { std::ptr::null_mut() },
                        scale: self.scale,
                        start,
                        start_stride,
                        result,
                        result_stride: self.result_stride,
                    });
                }
            }
        }
    }

    /// # Safety
    /// The row and the column are inside the result.
    unsafe fn start_at(&self, row: usize, column: usize) -> *const T {
        // SAFETY: what a product is added to has its size.
        if self.start.is_null() { self.start } else { unsafe { self.start.add(row * self.start_stride + column) } }
    }
}

/// Steps, rows and columns of a block; `is_first`: whether it is the first one of these columns.
struct Block {
    steps: (usize, usize),
    rows: (usize, usize),
    columns: (usize, usize),
    is_first: bool,
}

/// What is packed, and the sizes of panels.
struct Plan {
    depth_blocks: usize,
    block_rows: usize,
    panel_rows: usize,
    columns: usize,
    left_unpacked: bool,
    right_unpacked: bool,
    /// Whether the first tile of a panel that it reads unpacked leaves a packed copy.
    copies_right: bool,
    /// Whether the packed right operand is kept for the next block of rows.
    keeps_right: bool,
    /// How many panels of the right operand are packed at a time.
    panels_together: usize,
    left_panel_len: usize,
    right_panel_len: usize,
    left_len: usize,
    right_len: usize,
}

impl Plan {
    fn new<K: Kernel>(operands: &Operands<K::Element>, kernel: K, region: &Region) -> Self {
        let (m, n) = (region.rows.1 - region.rows.0, region.columns.1 - region.columns.0);
        let depth_blocks = operands.k.div_ceil(blocking::DEPTH * K::STEPS).max(1);
        let depth = operands.k.div_ceil(depth_blocks).div_ceil(K::STEPS);
        let has_adjacent_steps = operands.left_column_stride == 1;
        // Rows a multiple of 4 KiB apart share a set of the first-level cache.
        let shares_set = (operands.left_row_stride * size_of::<K::Element>()).is_multiple_of(4096);
        let left_unpacked = kernel.reads_unpacked()
            && if has_adjacent_steps {
                m <= K::WIDE_ROWS || n <= FEW_PANELS * K::COLUMNS && !(shares_set && m > FEW_ROWS)
            } else {
                operands.left_row_stride == 1 && n <= FEW_PANELS * K::COLUMNS
            };
        let right_unpacked = kernel.reads_unpacked() && operands.right_column_stride == 1;
        let is_wide = left_unpacked && has_adjacent_steps && right_unpacked && m <= K::WIDE_ROWS;
        let columns = if is_wide { K::WIDE_COLUMNS } else { K::COLUMNS };

        // Panels as equal as can be.
        let most_rows =
            blocking::rows(depth * size_of::<K::Packed>(), K::COLUMNS * size_of::<K::Element>()).max(K::ROWS);
        let row_blocks = m.div_ceil(most_rows);
        let block_rows = m.div_ceil(row_blocks);
        let panel_rows = block_rows.div_ceil(block_rows.div_ceil(K::ROWS));
        let panels = block_rows.div_ceil(panel_rows);
        // Vectors are written whole, so the last one of a panel may reach beyond it.
        let left_panel_len = (depth * K::ROWS + LINE).next_multiple_of(LINE);
        let right_panel_len = depth * K::COLUMNS;
        let keeps_right = row_blocks > 1;
        let copies_right = right_unpacked && panels * row_blocks > 2;
        let panels_together = if operands.right_column_stride == 1 { PANELS_TOGETHER } else { 1 };
        let right_panels = match (right_unpacked && !copies_right, keeps_right) {
            (true, _) => 0,
            (_, true) => n.div_ceil(K::COLUMNS),
            (_, false) => panels_together,
        };
        Self {
            depth_blocks,
            block_rows,
            panel_rows,
            columns,
            left_unpacked,
            right_unpacked,
            copies_right,
            keeps_right,
            panels_together,
            left_panel_len,
            right_panel_len,
            left_len: if left_unpacked { 0 } else { panels * left_panel_len },
            right_len: right_panels * right_panel_len + LINE,
        }
    }
}

/// Packed elements of at most one cache line of 64 bytes.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct CacheLine(#[expect(dead_code, reason = "only its size counts")] [u8; 64]);

/// Memory for packed operands, aligned to cache lines.
#[derive(Default)]
pub(super) struct Buffer(Vec<CacheLine>);

impl Buffer {
    /// Memory for `len` elements that nobody has written yet.
    fn reserve<P>(&mut self, len: usize) -> *mut P {
        self.0.reserve((len * size_of::<P>()).div_ceil(size_of::<CacheLine>()));
        self.0.as_mut_ptr().cast()
    }
}
