//! What a kernel is: the innermost loops of a product, for one instruction set.

#![expect(unsafe_code, reason = "kernels work on pointers")]

/// A tile of the result: a sum over `depth` steps of products of a column of `rows` and a row of `columns` elements.
pub(super) struct Tile<P, T> {
    pub(super) depth: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Either the rows or the steps of the left operand lie side by side.
    pub(super) left: *const P,
    pub(super) left_row_stride: usize,
    pub(super) left_step: usize,
    /// The columns of the right operand lie side by side.
    pub(super) right: *const P,
    pub(super) right_step: usize,
    /// How many steps ahead it is prefetched.
    pub(super) right_ahead: usize,
    /// Where to leave a packed copy of the right operand; null for nowhere.
    pub(super) right_copy: *mut P,
    pub(super) scale: T,
    /// What the products are added to; null for zeros.
    pub(super) start: *const T,
    pub(super) start_stride: usize,
    pub(super) result: *mut T,
    pub(super) result_stride: usize,
}

/// A part of the result as scalar products of rows of the left and columns of the right operand, whose elements lie
/// side by side.
pub(super) struct Dots<T> {
    pub(super) depth: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) left: *const T,
    pub(super) left_stride: usize,
    pub(super) right: *const T,
    pub(super) right_stride: usize,
    pub(super) scale: T,
    pub(super) start: *const T,
    pub(super) start_stride: usize,
    pub(super) result: *mut T,
    pub(super) result_stride: usize,
}

/// Rows of the left operand, or columns of the right one, that are packed: `lanes`, in panels of `panel_lanes`.
pub(super) struct Strip<T> {
    pub(super) values: *const T,
    pub(super) lanes: usize,
    pub(super) lane_stride: usize,
    pub(super) depth: usize,
    pub(super) depth_stride: usize,
    pub(super) panel_lanes: usize,
    /// From one packed panel to the next.
    pub(super) panel_len: usize,
}

/// # Safety
/// Of all functions that are unsafe: the processor has the kernel's instructions, sizes are at most those of the
/// kernel, and pointers reach what sizes and strides say.
pub(super) trait Kernel: Copy + Send + Sync {
    type Element: Copy + Send + Sync;
    /// What packed operands consist of.
    type Packed: Copy + Send + Sync;

    /// The largest tile.
    const ROWS: usize;
    const COLUMNS: usize;
    /// The largest tile of operands that are not packed, with adjacent steps on the left.
    const WIDE_ROWS: usize;
    const WIDE_COLUMNS: usize;
    /// How many steps of a sum one packed element holds.
    const STEPS: usize;

    /// Whether operands need not be packed: `Packed` is `Element` then.
    fn reads_unpacked(self) -> bool;

    /// `result = start + scale * (left @ right)` of a tile.
    unsafe fn tile(self, tile: &Tile<Self::Packed, Self::Element>);

    /// The same for any number of rows and columns, if the kernel reads what is not packed.
    unsafe fn dots(self, dots: &Dots<Self::Element>);

    /// Packs panels of [`Kernel::ROWS`] elements a step. May write up to a cache line beyond a panel.
    unsafe fn pack_left(self, strip: &Strip<Self::Element>, out: *mut Self::Packed);

    /// Packs panels of [`Kernel::COLUMNS`] elements a step, those beyond the strip zero.
    unsafe fn pack_right(self, strip: &Strip<Self::Element>, out: *mut Self::Packed);
}

impl<T: Copy> Dots<T> {
    /// The part from a row on, of at most `most` rows.
    ///
    /// # Safety
    /// There is such a row.
    pub(super) unsafe fn rows_from(&self, row: usize, most: usize) -> Self {
        // SAFETY: pointers reach all rows.
        unsafe {
            Self {
                rows: most.min(self.rows - row),
                left: self.left.wrapping_add(row * self.left_stride),
                start: if self.start.is_null() { self.start } else { self.start.add(row * self.start_stride) },
                result: self.result.add(row * self.result_stride),
                ..*self
            }
        }
    }
}
