//! Attention on a GPU: products of all heads at once by cuBLAS, softmax and dropout by a kernel between them.
//!
//! Scores and probabilities of all heads are in memory during a pass, and the backward pass computes them again. Rows
//! of scores are padded so that tensor cores can read them; scores that a mask hides are computed and set to 0.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Tensor, bail};

use super::array::{Array, Buffer, Scratch, device_of};
use super::gemm::{Matrix, Product};
use super::kernels::Module;
use super::launch::{Argument, Grid, HeadLists, MAX_HEAD_LISTS, arguments, launch};
use super::rows::Factors;
use crate::types::Operand;
use crate::types::attention::Geometry;
use crate::types::precision::Precision;

/// Rows of scores start at multiples of this many elements: 16 bytes of bf16.
const ALIGNMENT: usize = 8;

/// The result (B, L, D), from the storages of one, two or three tensors.
pub(crate) fn forward(
    geometry: &Geometry,
    precision: Precision,
    tensors: &[Operand<'_, CudaStorage>],
) -> Result<CudaStorage> {
    let device = &tensors[0].0.device;
    let arrays = tensors.iter().map(|&tensor| Array::of_operand(tensor));
    let mut heads = Heads::new(device, geometry, precision, &arrays.collect::<Result<Vec<_>>>()?)?;
    let (scores, weights) = (heads.matrices(DType::F32)?, heads.matrices(heads.factor_type)?);
    let out = Buffer::new(device, DType::F32, geometry.batch * geometry.queries * geometry.hidden())?;
    let result = heads.part(out.array(), geometry.queries, 1, 0)?;

    let products = heads.products()?;
    products.scores(&scores)?;
    let given = arguments![scores.values.array(), weights.values.array(), products.rows()];
    products.softmax("attention_softmax", given, weights.values.array())?;
    products
        .write(products.size(geometry.queries, geometry.head_size, geometry.keys), [result, weights.part, heads.v])?;
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
    let mut heads = Heads::new(device, geometry, precision, &arrays)?;
    let (queries, keys, size) = (geometry.queries, geometry.keys, geometry.head_size);
    let grad_factors = Factors::of(device, Array::of(grad)?, heads.factor_type)?;
    let grad = heads.part(grad_factors.array(), queries, 1, 0)?;

    let mut gradients = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let wanted = tensor.track_op();
        gradients.push(wanted.then(|| Buffer::new(device, DType::F32, tensor.elem_count())).transpose()?);
    }
    let of_part = |part: usize, heads: &mut Heads<'_>| -> Result<Option<Part>> {
        let (tensor, parts, offset) = place_of(part, tensors.len());
        let Some(buffer) = &gradients[tensor] else { return Ok(None) };
        let rows = if part == 0 { queries } else { keys };
        heads.part(buffer.array(), rows, parts, offset).map(Some)
    };
    let (dq, dk, dv) = (of_part(0, &mut heads)?, of_part(1, &mut heads)?, of_part(2, &mut heads)?);
    let (scores, slopes_of_weights) = (heads.matrices(DType::F32)?, heads.matrices(DType::F32)?);
    let (weights, slopes) = (heads.matrices(heads.factor_type)?, heads.matrices(heads.factor_type)?);

    let products = heads.products()?;
    products.scores(&scores)?;
    products.write(products.size(queries, keys, size), [slopes_of_weights.part, grad, heads.v.transposed()])?;
    let given = arguments![
        scores.values.array(),
        slopes_of_weights.values.array(),
        weights.values.array(),
        slopes.values.array(),
        products.rows(),
    ];
    products.softmax("attention_softmax_backward", given, weights.values.array())?;
    if let Some(dv) = dv {
        products.write(products.size(keys, size, queries), [dv, weights.part.transposed(), grad])?;
    }
    if let Some(dq) = dq {
        products.write(products.scaled(queries, size, keys), [dq, slopes.part, heads.k])?;
    }
    if let Some(dk) = dk {
        products.write(products.scaled(keys, size, queries), [dk, slopes.part.transposed(), heads.q])?;
    }
    let gradients = gradients.into_iter().zip(tensors);
    Ok(gradients.map(|(gradient, tensor)| gradient.map(|gradient| gradient.into_tensor(tensor.shape()))).collect())
}

/// Where part q, k or v (0, 1, 2) is among one (qkv), two (q, kv) or three tensors: the tensor, how many parts share
/// its rows, and the position of the part among them.
fn place_of(part: usize, tensors: usize) -> (usize, usize, usize) {
    match (tensors, part) {
        (1, _) => (0, 3, part),
        (2, 0) => (0, 1, 0),
        (2, _) => (1, 2, part - 1),
        _ => (part, 1, 0),
    }
}

/// The precision that the alignment of the heads allows: tensor cores need operands that start at multiples of 16
/// bytes, and cuBLAS does not check addresses.
fn allowed(precision: Precision, head_size: usize) -> Precision {
    match precision {
        Precision::Bf16 if !head_size.is_multiple_of(8) => Precision::Full,
        Precision::Tf32 if !head_size.is_multiple_of(4) => Precision::Full,
        other => other,
    }
}

/// A matrix for each head: the first one, and the list that has the addresses of all.
#[derive(Clone, Copy)]
struct Part {
    matrix: Matrix,
    list: usize,
}

impl Part {
    fn transposed(self) -> Self {
        Self { matrix: self.matrix.transposed(), ..self }
    }
}

/// A matrix of queries by keys for each head.
struct Matrices {
    values: Buffer,
    part: Part,
}

/// The operands of a call, split into heads, and where all matrices of its products are.
struct Heads<'a> {
    device: &'a CudaDevice,
    geometry: Geometry,
    tf32: bool,
    factor_type: DType,
    q: Part,
    k: Part,
    v: Part,
    _factors: Vec<Factors>,
    lists: HeadLists,
    num_lists: usize,
}

impl<'a> Heads<'a> {
    fn new(device: &'a CudaDevice, geometry: &Geometry, precision: Precision, tensors: &[Array]) -> Result<Self> {
        let precision = allowed(precision, geometry.head_size);
        let factor_type = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        let factors = tensors.iter().map(|&values| Factors::of(device, values, factor_type));
        let factors = factors.collect::<Result<Vec<_>>>()?;
        let nowhere = Part { matrix: Matrix::rows(factors[0].array(), 0), list: 0 };
        let mut heads = Self {
            device,
            geometry: *geometry,
            tf32: precision == Precision::Tf32,
            factor_type,
            q: nowhere,
            k: nowhere,
            v: nowhere,
            _factors: Vec::new(),
            lists: HeadLists::default(),
            num_lists: 0,
        };
        let mut of_part = |part: usize| {
            let (tensor, parts, offset) = place_of(part, tensors.len());
            let rows = if part == 0 { geometry.queries } else { geometry.keys };
            heads.part(factors[tensor].array(), rows, parts, offset)
        };
        let (q, k, v) = (of_part(0)?, of_part(1)?, of_part(2)?);
        Ok(Self { q, k, v, _factors: factors, ..heads })
    }

    /// One of `parts` side by side in rows of a tensor (B, rows, parts * D).
    fn part(&mut self, values: Array, rows: usize, parts: usize, offset: usize) -> Result<Part> {
        let (hidden, size) = (self.geometry.hidden(), self.geometry.head_size);
        let stride = parts * hidden;
        let list = self.list(values, offset * hidden, rows * stride, size)?;
        Ok(Part { matrix: Matrix::rows(values, stride), list })
    }

    /// Memory for a matrix of queries by keys for each head.
    fn matrices(&mut self, dtype: DType) -> Result<Matrices> {
        let Geometry { batch, heads, queries, keys, .. } = self.geometry;
        let stride = keys.next_multiple_of(ALIGNMENT);
        let values = Buffer::new(self.device, dtype, batch * heads * queries * stride)?;
        let list = self.list(values.array(), 0, heads * queries * stride, queries * stride)?;
        Ok(Matrices { part: Part { matrix: Matrix::rows(values.array(), stride), list }, values })
    }

    /// Notes where the matrices of all heads start; those of examples and heads are this many elements apart.
    fn list(&mut self, values: Array, first: usize, of_example: usize, of_head: usize) -> Result<usize> {
        let (list, size) = (self.num_lists, values.dtype.size_in_bytes());
        if list == MAX_HEAD_LISTS {
            bail!("an attention has at most {MAX_HEAD_LISTS} kinds of matrices");
        }
        self.lists.base[list] = values.address + (first * size) as u64;
        self.lists.example_stride[list] = (of_example * size) as u64;
        self.lists.head_stride[list] = (of_head * size) as u64;
        self.num_lists += 1;
        Ok(list)
    }

    /// Writes all addresses in one launch; products can be made after it.
    fn products(&self) -> Result<Products<'a>> {
        let Geometry { batch, heads, .. } = self.geometry;
        let addresses = Scratch::new(self.device, self.num_lists * batch * heads)?;
        let [num_lists, examples, num_heads] = [self.num_lists, batch, heads].map(|count| count as i32);
        let arguments = arguments![self.lists, addresses.address, num_lists, examples, num_heads];
        let grid = Grid::over_items(self.num_lists * batch * heads);
        launch(self.device, Module::Heads, "head_pointers", grid, arguments)?;
        let (q, k) = (self.q, self.k.transposed());
        Ok(Products { device: self.device, geometry: self.geometry, tf32: self.tf32, operands: (q, k), addresses })
    }
}

struct Products<'a> {
    device: &'a CudaDevice,
    geometry: Geometry,
    tf32: bool,
    operands: (Part, Part),
    addresses: Scratch<u64>,
}

impl Products<'_> {
    /// The number of rows of scores.
    fn rows(&self) -> usize {
        self.geometry.batch * self.geometry.heads * self.geometry.queries
    }

    fn size(&self, m: usize, n: usize, k: usize) -> Product {
        Product::new(m, n, k, self.tf32)
    }

    /// The same, multiplied by the factor of the scores.
    fn scaled(&self, m: usize, n: usize, k: usize) -> Product {
        Product { scale: self.geometry.scale() as f32, ..self.size(m, n, k) }
    }

    /// The product of each head: result, left and right.
    fn write(&self, product: Product, parts: [Part; 3]) -> Result<()> {
        let count = self.geometry.batch * self.geometry.heads;
        let list = |part: Part| self.addresses.address + (part.list * count * size_of::<u64>()) as u64;
        product.write_batch(self.device, count, parts.map(|part| part.matrix), parts.map(list))
    }

    /// `q k^T / sqrt(K)` of each head, in f32.
    fn scores(&self, scores: &Matrices) -> Result<()> {
        let Geometry { queries, keys, head_size, .. } = self.geometry;
        self.write(self.scaled(queries, keys, head_size), [scores.part, self.operands.0, self.operands.1])
    }

    /// A kernel over all rows of scores: `given` are its first arguments, and `weights` is its output.
    fn softmax(&self, name: &str, given: &[Argument], weights: Array) -> Result<()> {
        let Geometry { heads, queries, keys, causal, dropout, .. } = self.geometry;
        let ([seed, update, site, first_example], threshold, kept) = match dropout {
            Some(site) => (site.key_words(), site.threshold(), site.kept() as f32),
            None => ([0; 4], 0, 1.0),
        };
        let stride = keys.next_multiple_of(ALIGNMENT);
        let [heads, queries, keys, stride] = [heads, queries, keys, stride].map(|size| size as i32);
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
        let name = format!("{name}_{}", weights.suffix()?);
        launch(self.device, Module::Softmax, &name, Grid::over_rows(self.rows()), &[given, shape].concat())
    }
}
