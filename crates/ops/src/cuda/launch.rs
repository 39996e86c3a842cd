//! Launching kernels.
#![expect(unsafe_code, reason = "a kernel trusts its arguments")]

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg as _};
use candle_core::{CudaDevice, Result, bail};

use super::array::Array;
use super::kernels::{Module, ptx};

/// Threads of a block by default.
pub(crate) const THREADS: usize = 256;
/// Elements of a thread in element-wise kernels; `ELEMENTS` of the kernels.
pub(crate) const ELEMENTS_PER_THREAD: usize = 4;
/// Rows of a block with one warp for each row.
pub(crate) const ROWS_PER_BLOCK: usize = THREADS / 32;
const MAX_BLOCKS_X: usize = i32::MAX as usize;
const MAX_BLOCKS_Y: usize = 65_535;

/// An argument of a kernel, in the type that the kernel declares.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    /// An address or a size.
    Long(u64),
    Int(i32),
    Word(u32),
    Float(f32),
    Double(f64),
    Lists(Box<HeadLists>),
}

/// Lists of a launch of `head_pointers`; `LISTS` of the kernel.
pub(crate) const MAX_HEAD_LISTS: usize = 12;

/// Where the matrices of heads are, laid out as in the kernel: for each list the address of the first matrix, and the
/// distance in bytes to that of the next example and of the next head.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadLists {
    pub(crate) base: [u64; MAX_HEAD_LISTS],
    pub(crate) example_stride: [u64; MAX_HEAD_LISTS],
    pub(crate) head_stride: [u64; MAX_HEAD_LISTS],
}

// SAFETY: `repr(C)` and only numbers, without padding.
unsafe impl DeviceRepr for HeadLists {}

impl From<HeadLists> for Argument {
    fn from(lists: HeadLists) -> Self {
        Self::Lists(Box::new(lists))
    }
}

impl From<Array> for Argument {
    fn from(array: Array) -> Self {
        Self::Long(array.address)
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Self {
        Self::Long(value)
    }
}

impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        Self::Long(value as u64)
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Word(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<f64> for Argument {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

/// The arguments of a kernel, in order.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::cuda::launch::Argument::from($argument)),*]
    };
}
pub(crate) use arguments;

/// Blocks and threads of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    blocks: (usize, usize),
    threads: usize,
}

impl Grid {
    /// One thread for each of `count` items.
    pub(crate) fn over_items(count: usize) -> Self {
        Self { blocks: (count.div_ceil(THREADS), 1), threads: THREADS }
    }

    /// A few of `count` elements for each thread.
    pub(crate) fn over_elements(count: usize) -> Self {
        Self { blocks: (count.div_ceil(ELEMENTS_PER_THREAD * THREADS), 1), threads: THREADS }
    }

    /// One warp for each of `rows` rows.
    pub(crate) fn over_rows(rows: usize) -> Self {
        Self { blocks: (rows.div_ceil(ROWS_PER_BLOCK), 1), threads: THREADS }
    }

    pub(crate) fn blocks(x: usize, y: usize) -> Self {
        Self { blocks: (x, y), threads: THREADS }
    }

    /// The same with blocks of another size.
    pub(crate) fn of_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }
}

/// Launches the kernel `name`. An empty grid launches nothing.
pub(crate) fn launch(
    device: &CudaDevice,
    module: Module,
    name: &str,
    grid: Grid,
    arguments: &[Argument],
) -> Result<()> {
    let (x, y) = grid.blocks;
    if x == 0 || y == 0 {
        return Ok(());
    }
    if x > MAX_BLOCKS_X || y > MAX_BLOCKS_Y {
        bail!("{name}: {x} x {y} blocks are more than a GPU takes in one launch; train with smaller batches");
    }
    let function = device.get_or_load_custom_func(name, module.name(), ptx(module)?)?;
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Long(value) => builder.arg(value),
            Argument::Int(value) => builder.arg(value),
            Argument::Word(value) => builder.arg(value),
            Argument::Float(value) => builder.arg(value),
            Argument::Double(value) => builder.arg(value),
            Argument::Lists(value) => builder.arg(&**value),
        };
    }
    let config =
        LaunchConfig { grid_dim: (x as u32, y as u32, 1), block_dim: (grid.threads as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the callers, all in this folder, give each kernel the arguments that its source declares, and arrays of
    // the sizes that it reads and writes; tests compare each of them with its counterpart on the CPU.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
