//! Casts, biases and sums over rows.

use candle_core::{CudaDevice, DType, Result};

use super::array::{Array, Buffer};
use super::kernels::Module;
use super::launch::{Grid, THREADS, arguments, launch};

/// One thread adds up a stripe of rows; this many stripes keep a large GPU busy.
const MIN_ROWS_OF_STRIPE: usize = 32;
const MAX_STRIPES: usize = 256;

/// How many of `rows` rows one stripe of a sum has.
pub(crate) fn rows_of_stripe(rows: usize) -> usize {
    rows.div_ceil(MAX_STRIPES).max(MIN_ROWS_OF_STRIPE)
}

/// f32 as bf16, rounded to the nearest.
fn narrowed(device: &CudaDevice, x: Array) -> Result<Buffer> {
    x.expect(DType::F32)?;
    let out = Buffer::new(device, DType::BF16, x.len)?;
    let grid = Grid::over_elements(x.len);
    launch(device, Module::Convert, "f32_to_bf16", grid, arguments![x, out.array(), x.len])?;
    Ok(out)
}

/// Operands of a product: as they are, or converted for it.
pub(crate) enum Factors {
    AsTheyAre(Array),
    Made(Buffer),
}

impl Factors {
    /// f32 values as they are, or as bf16.
    pub(crate) fn of(device: &CudaDevice, values: Array, dtype: DType) -> Result<Self> {
        values.expect(DType::F32)?;
        if dtype == DType::BF16 { narrowed(device, values).map(Self::Made) } else { Ok(Self::AsTheyAre(values)) }
    }

    pub(crate) fn array(&self) -> Array {
        match self {
            Self::AsTheyAre(array) => *array,
            Self::Made(buffer) => buffer.array(),
        }
    }
}

/// bf16 as f32, with a bias added to each row.
pub(crate) fn widened(device: &CudaDevice, x: Array, bias: Array) -> Result<Buffer> {
    x.expect(DType::BF16)?;
    bias.expect(DType::F32)?;
    let out = Buffer::new(device, DType::F32, x.len)?;
    let (rows, width) = (x.len / bias.len.max(1), bias.len);
    let grid = Grid::over_elements(x.len);
    launch(device, Module::Rows, "widen_rows", grid, arguments![x, bias, out.array(), rows, width])?;
    Ok(out)
}

/// `rows` rows that are all `bias`.
pub(crate) fn filled(device: &CudaDevice, bias: Array, rows: usize) -> Result<Buffer> {
    bias.expect(DType::F32)?;
    let (width, out) = (bias.len, Buffer::new(device, DType::F32, rows * bias.len)?);
    let grid = Grid::over_elements(rows * width);
    launch(device, Module::Rows, "fill_rows_f32", grid, arguments![bias, out.array(), rows, width])?;
    Ok(out)
}

/// The sum over the rows of a matrix of `width` columns, in f32 and in a fixed order.
pub(crate) fn column_sums(device: &CudaDevice, x: Array, width: usize) -> Result<Buffer> {
    let rows = x.len / width.max(1);
    let stripe = rows_of_stripe(rows);
    let partial = sums_of_stripes(device, x, width, stripe)?;
    finish_sums(device, partial, rows.div_ceil(stripe), width)
}

/// The sum of the sums of all stripes.
pub(crate) fn finish_sums(device: &CudaDevice, partial: Buffer, stripes: usize, width: usize) -> Result<Buffer> {
    match stripes {
        0 => Buffer::zeros(device, DType::F32, width),
        1 => Ok(partial),
        _ => sums_of_stripes(device, partial.array(), width, stripes),
    }
}

fn sums_of_stripes(device: &CudaDevice, x: Array, width: usize, stripe: usize) -> Result<Buffer> {
    let rows = x.len / width.max(1);
    let stripes = rows.div_ceil(stripe);
    let partial = Buffer::new(device, DType::F32, stripes * width)?;
    let name = format!("column_sums_{}", x.suffix()?);
    let grid = Grid::blocks(width.div_ceil(THREADS), stripes);
    launch(device, Module::Rows, &name, grid, arguments![x, partial.array(), rows, width, stripe])?;
    Ok(partial)
}
