//! Attention on a GPU: products of all heads at once by cuBLAS, softmax and dropout by a kernel between them.
//!
//! Scores and probabilities of all heads stand in memory for a while, and the backward pass makes them again. Rows of
//! scores are padded, so that tensor cores can read them; what a mask hides is computed and set to 0.

use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Tensor};

use super::array::{Array, Buffer, Scratch, device_of};
use super::gemm::{Matrix, Product};
use super::kernels::Module;
use super::launch::{Argument, Grid, arguments, launch};
use super::rows::narrowed;
use crate::ops::attention::Geometry;
use crate::ops::narrow::Precision;

/// Rows of scores begin at multiples of so many elements: 16 bytes of bf16.
const ALIGNMENT: usize = 8;

/// The result (B, L, D), from the storages of one, two or three tensors.
pub(crate) fn forward(
    geometry: &Geometry,
    precision: Precision,
    tensors: &[(&CudaStorage, &Layout)],
) -> Result<CudaStorage> {
    let device = &tensors[0].0.device;
    let arrays = tensors.iter().map(|(storage, layout)| Array::of_storage(storage, layout));
    let heads = Heads::new(device, geometry, precision, &arrays.collect::<Result<Vec<_>>>()?)?;
    let scores = heads.scores()?;
    let weights = heads.matrices(heads.factor_type)?;
    let given = arguments![scores.values.array(), weights.values.array(), heads.rows()];
    let name = format!("attention_softmax_{}", weights.values.array().suffix()?);
    let grid = Grid::over_rows(heads.rows());
    launch(device, Module::Softmax, &name, grid, &[given.as_slice(), &heads.shape(&weights)].concat())?;

    let (queries, keys, size) = (geometry.queries, geometry.keys, geometry.head_size);
    let out = Buffer::new(device, DType::F32, geometry.batch * queries * geometry.hidden())?;
    let result = heads.part(out.array(), queries, 1, 0)?;
    Product::new(queries, size, keys, heads.tf32).write_batch(
        device,
        heads.count(),
        [result.matrix, weights.matrix(), heads.v.matrix],
        [result.addresses.address, weights.addresses.address, heads.v.addresses.address],
    )?;
    Ok(out.into_storage())
}

/// The gradient of each of the tensors that has one, from the gradient of the result (B, L, D).
pub(crate) fn backward(
    geometry: &Geometry,
    precision: Precision,
    tensors: &[&Tensor],
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let device = device_of(grad)?;
    let arrays = tensors.iter().map(|tensor| Array::of(tensor)).collect::<Result<Vec<_>>>()?;
    let heads = Heads::new(device, geometry, precision, &arrays)?;
    let (queries, keys, size) = (geometry.queries, geometry.keys, geometry.head_size);
    let grad_factors = heads.factors(Array::of(grad)?)?;
    let grad = heads.part(grad_factors.array(), queries, 1, 0)?;

    let mut gradients = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let wanted = tensor.track_op();
        gradients.push(wanted.then(|| Buffer::new(device, DType::F32, tensor.elem_count())).transpose()?);
    }
    let of_part = |part: usize| -> Result<Option<Part>> {
        let (tensor, parts, offset) = place_of(part, tensors.len());
        let Some(buffer) = &gradients[tensor] else { return Ok(None) };
        let rows = if part == 0 { queries } else { keys };
        Ok(Some(heads.part(buffer.array(), rows, parts, offset)?))
    };
    let (dq, dk, dv) = (of_part(0)?, of_part(1)?, of_part(2)?);

    let scores = heads.scores()?;
    let slopes_of_weights = heads.matrices(DType::F32)?;
    let product = |m, n, k, scale| Product { scale, ..Product::new(m, n, k, heads.tf32) };
    product(queries, keys, size, 1.0).write_batch(
        device,
        heads.count(),
        [slopes_of_weights.matrix(), grad.matrix, heads.v.matrix.transposed()],
        [slopes_of_weights.addresses.address, grad.addresses.address, heads.v.addresses.address],
    )?;
    let (weights, slopes) = (heads.matrices(heads.factor_type)?, heads.matrices(heads.factor_type)?);
    let given = arguments![
        scores.values.array(),
        slopes_of_weights.values.array(),
        weights.values.array(),
        slopes.values.array(),
        heads.rows(),
    ];
    let name = format!("attention_softmax_backward_{}", weights.values.array().suffix()?);
    let grid = Grid::over_rows(heads.rows());
    launch(device, Module::Softmax, &name, grid, &[given.as_slice(), &heads.shape(&weights)].concat())?;

    if let Some(dv) = dv {
        product(keys, size, queries, 1.0).write_batch(
            device,
            heads.count(),
            [dv.matrix, weights.matrix().transposed(), grad.matrix],
            [dv.addresses.address, weights.addresses.address, grad.addresses.address],
        )?;
    }
    if let Some(dq) = dq {
        product(queries, size, keys, heads.scale).write_batch(
            device,
            heads.count(),
            [dq.matrix, slopes.matrix(), heads.k.matrix],
            [dq.addresses.address, slopes.addresses.address, heads.k.addresses.address],
        )?;
    }
    if let Some(dk) = dk {
        product(keys, size, queries, heads.scale).write_batch(
            device,
            heads.count(),
            [dk.matrix, slopes.matrix().transposed(), heads.q.matrix],
            [dk.addresses.address, slopes.addresses.address, heads.q.addresses.address],
        )?;
    }
    let gradients = gradients.into_iter().zip(tensors);
    Ok(gradients.map(|(gradient, tensor)| gradient.map(|gradient| gradient.into_tensor(tensor.shape()))).collect())
}

/// Where q, k and v (0, 1, 2) are among one (qkv), two (q, kv) or three tensors: the tensor, how many parts share its
/// rows, and which of them it is.
fn place_of(part: usize, tensors: usize) -> (usize, usize, usize) {
    match (tensors, part) {
        (1, _) => (0, 3, part),
        (2, 0) => (0, 1, 0),
        (2, _) => (1, 2, part - 1),
        _ => (part, 1, 0),
    }
}

/// One of q, k, v, their gradients or the result, split into heads: the matrix of the first head, and the addresses of
/// those of all heads of all examples.
struct Part {
    matrix: Matrix,
    addresses: Scratch<u64>,
}

/// A matrix of queries by keys for each head.
struct Matrices {
    values: Buffer,
    stride: usize,
    addresses: Scratch<u64>,
}

impl Matrices {
    fn matrix(&self) -> Matrix {
        Matrix::rows(self.values.array(), self.stride)
    }
}

/// The operands of a call, split into heads.
struct Heads<'a> {
    device: &'a CudaDevice,
    geometry: Geometry,
    tf32: bool,
    scale: f32,
    factor_type: DType,
    q: Part,
    k: Part,
    v: Part,
    _factors: Vec<Factors>,
}

/// An operand as it is, or as bf16.
enum Factors {
    AsTheyAre(Array),
    Made(Buffer),
}

impl Factors {
    fn new(device: &CudaDevice, values: Array, precision: Precision) -> Result<Self> {
        values.expect(DType::F32)?;
        Ok(match precision {
            Precision::Bf16 => Self::Made(narrowed(device, values)?),
            Precision::Full | Precision::Tf32 => Self::AsTheyAre(values),
        })
    }

    fn array(&self) -> Array {
        match self {
            Self::AsTheyAre(array) => *array,
            Self::Made(buffer) => buffer.array(),
        }
    }
}

impl<'a> Heads<'a> {
    fn new(device: &'a CudaDevice, geometry: &Geometry, precision: Precision, tensors: &[Array]) -> Result<Self> {
        let factors = tensors.iter().map(|&values| Factors::new(device, values, precision));
        let factors = factors.collect::<Result<Vec<_>>>()?;
        let of_part = |part: usize| {
            let (tensor, parts, offset) = place_of(part, tensors.len());
            let rows = if part == 0 { geometry.queries } else { geometry.keys };
            split(device, geometry, factors[tensor].array(), rows, parts, offset)
        };
        Ok(Self {
            device,
            geometry: *geometry,
            tf32: precision == Precision::Tf32,
            scale: geometry.scale(),
            factor_type: if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 },
            q: of_part(0)?,
            k: of_part(1)?,
            v: of_part(2)?,
            _factors: factors,
        })
    }

    /// Heads of all examples.
    fn count(&self) -> usize {
        self.geometry.batch * self.geometry.heads
    }

    /// Rows of scores.
    fn rows(&self) -> usize {
        self.count() * self.geometry.queries
    }

    fn factors(&self, values: Array) -> Result<Factors> {
        let precision = if self.factor_type == DType::BF16 { Precision::Bf16 } else { Precision::Full };
        Factors::new(self.device, values, precision)
    }

    fn part(&self, values: Array, rows: usize, parts: usize, offset: usize) -> Result<Part> {
        split(self.device, &self.geometry, values, rows, parts, offset)
    }

    /// Memory for a matrix of queries by keys for each head.
    fn matrices(&self, dtype: DType) -> Result<Matrices> {
        let stride = self.geometry.keys.next_multiple_of(ALIGNMENT);
        let values = Buffer::new(self.device, dtype, self.rows() * stride)?;
        let of_head = self.geometry.queries * stride;
        let of_example = self.geometry.heads * of_head;
        let addresses = addresses(self.device, &self.geometry, values.array(), 0, of_example, of_head)?;
        Ok(Matrices { values, stride, addresses })
    }

    /// `q k^T / sqrt(K)` of each head, in f32.
    fn scores(&self) -> Result<Matrices> {
        let Geometry { queries, keys, head_size, .. } = self.geometry;
        let scores = self.matrices(DType::F32)?;
        let product = Product { scale: self.scale, ..Product::new(queries, keys, head_size, self.tf32) };
        product.write_batch(
            self.device,
            self.count(),
            [scores.matrix(), self.q.matrix, self.k.matrix.transposed()],
            [scores.addresses.address, self.q.addresses.address, self.k.addresses.address],
        )?;
        Ok(scores)
    }

    /// What the kernels are told behind the number of rows; all matrices are of one stride.
    fn shape(&self, matrices: &Matrices) -> Vec<Argument> {
        let Geometry { heads, queries, keys, causal, dropout, .. } = self.geometry;
        let ([seed, update, site, first_example], threshold, kept) = match dropout {
            Some(site) => (site.key_words(), site.threshold(), site.kept::<f32>()),
            None => ([0; 4], 0, 1.0),
        };
        let [heads, queries, keys, stride] = [heads, queries, keys, matrices.stride].map(|size| size as i32);
        let causal = i32::from(causal);
        let shape = arguments![
            heads,
            queries,
            keys,
            stride,
            stride,
            causal,
            seed,
            update,
            site,
            first_example,
            threshold,
            kept
        ];
        shape.to_vec()
    }
}

/// One of `parts` side by side in rows of a tensor (B, rows, parts * D).
fn split(
    device: &CudaDevice,
    geometry: &Geometry,
    values: Array,
    rows: usize,
    parts: usize,
    offset: usize,
) -> Result<Part> {
    let stride = parts * geometry.hidden();
    let first = offset * geometry.hidden();
    let addresses = addresses(device, geometry, values, first, rows * stride, geometry.head_size)?;
    Ok(Part { matrix: Matrix::rows(values, stride), addresses })
}

/// The address of each head of each example, which lie so many elements apart.
fn addresses(
    device: &CudaDevice,
    geometry: &Geometry,
    values: Array,
    first: usize,
    of_example: usize,
    of_head: usize,
) -> Result<Scratch<u64>> {
    let (count, size) = (geometry.batch * geometry.heads, values.dtype.size_in_bytes());
    let addresses = Scratch::new(device, count)?;
    let (base, batch, heads) = (values.address + (first * size) as u64, geometry.batch as i32, geometry.heads as i32);
    let arguments = arguments![base, addresses.address, batch, heads, of_example * size, of_head * size];
    launch(device, Module::Heads, "head_pointers", Grid::over_items(count), arguments)?;
    Ok(addresses)
}
