//! Scaled dot-product attention (Vaswani et al. 2017) with several heads, for separate and for fused projections.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::attention::Geometry;
use crate::types::dropout::DropoutSite;
use crate::types::packing::Packing;
use crate::types::precision::Precision;
use crate::{cpu, cuda};

#[derive(Clone, Debug)]
pub struct AttentionOptions {
    /// Divides the hidden size.
    pub num_heads: usize,
    /// Query l of L sees only keys 0 to N - L + l.
    pub causal: bool,
    /// Dropout of the probabilities.
    pub dropout: Option<DropoutSite>,
    /// Precision of the matrix products on a GPU; on a CPU they multiply the operands as they are.
    pub precision: Precision,
    /// The sequences whose rows the queries are, where these are packed: q is (T, D) instead of (B, L, D). Keys and values
    /// are (T, D) too, and each sequence looks at its own, or (U, N, D), and each looks at those of its image.
    pub packing: Option<Arc<Packing>>,
}

/// `softmax(q k^T / sqrt(K)) v` per head: q (B, L, D), k (B, N, D), v (B, N, D) -> (B, L, D).
///
/// # Errors
/// Shapes that do not fit, more queries than keys in a causal attention, types other than f32 and f64, packed sequences
/// on a GPU.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Op(Attention(options.clone())))
}

/// [`attention`] of fused projections: qkv (B, L, 3D), in the order of GPT-2's `c_attn`: q, k, v -> (B, L, D).
///
/// # Errors
/// As [`attention`].
pub fn self_attention(qkv: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    qkv.contiguous()?.apply_op1(Op(Attention(options.clone())))
}

/// [`attention`] with fused keys and values: q (B, L, D), kv (B, N, 2D) -> (B, L, D).
///
/// # Errors
/// As [`attention`].
pub fn cross_attention(q: &Tensor, kv: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    q.contiguous()?.apply_op2(&kv.contiguous()?, Op(Attention(options.clone())))
}

struct Attention(AttentionOptions);

impl Attention {
    /// The geometry for the shapes of one (qkv), two (q, kv) or three (q, k, v) tensors.
    fn geometry(&self, shapes: &[&Shape]) -> Result<Geometry> {
        if let Some(packing) = &self.0.packing {
            return self.packed_geometry(packing, shapes);
        }
        let misfit = || candle_core::Error::Msg(format!("attention: tensors {shapes:?} do not fit together"));
        match shapes {
            [qkv] => {
                let (batch, rows, width) = dims(qkv, "qkv")?;
                if width % 3 != 0 {
                    return Err(misfit());
                }
                self.geometry_of_sizes((batch, rows, width / 3), rows)
            }
            [q, rest @ ..] => {
                let (batch, rows, hidden) = dims(q, "q")?;
                let (_, keys, _) = dims(rest.first().ok_or_else(misfit)?, "k")?;
                let width = if rest.len() == 1 { 2 * hidden } else { hidden };
                if rest.iter().any(|shape| shape.dims() != [batch, keys, width]) {
                    return Err(misfit());
                }
                self.geometry_of_sizes((batch, rows, hidden), keys)
            }
            [] => Err(misfit()),
        }
    }

    /// The same of packed sequences: the most queries and keys that one has, and the number of different keys.
    fn packed_geometry(&self, packing: &Packing, shapes: &[&Shape]) -> Result<Geometry> {
        let misfit = || candle_core::Error::Msg(format!("attention: tensors {shapes:?} and {packing:?} do not fit"));
        let (rows, longest) = (packing.num_rows(), packing.longest());
        let hidden = |shape: &Shape, parts: usize| match shape.dims() {
            &[found, width] if found == rows && width % parts == 0 => Ok(width / parts),
            _ => Err(misfit()),
        };
        match shapes {
            [qkv] => self.geometry_of_sizes((packing.num_sequences(), longest, hidden(qkv, 3)?), longest.max(1)),
            [q, rest @ ..] => {
                let hidden = hidden(q, 1)?;
                let width = if rest.len() == 1 { 2 * hidden } else { hidden };
                let first = rest.first().ok_or_else(misfit)?.dims();
                if rest.iter().any(|shape| shape.dims() != first) {
                    return Err(misfit());
                }
                match *first {
                    [keys, found] if keys == rows && found == width => {
                        self.geometry_of_sizes((packing.num_sequences(), longest, hidden), longest.max(1))
                    }
                    [images, keys, found] if found == width && packing.images().iter().all(|&image| image < images) => {
                        self.geometry_of_sizes((images, longest, hidden), keys)
                    }
                    _ => Err(misfit()),
                }
            }
            [] => Err(misfit()),
        }
    }

    /// The call as the CPU's kernels take it.
    fn layout<'a>(&'a self, geometry: Geometry, first_keys_rank: Option<usize>) -> cpu::attention::Layout<'a> {
        let keys_are_packed = first_keys_rank.is_none_or(|rank| rank == 2);
        cpu::attention::Layout { geometry, packing: self.0.packing.as_deref(), keys_are_packed }
    }

    fn refuse_packing(&self) -> Result<()> {
        match self.0.packing {
            Some(_) => bail!("attention: sequences are packed on a CPU only; pad them for a GPU"),
            None => Ok(()),
        }
    }

    fn geometry_of_sizes(&self, (batch, queries, hidden): (usize, usize, usize), keys: usize) -> Result<Geometry> {
        let AttentionOptions { num_heads: heads, causal, dropout, .. } = &self.0;
        let (heads, causal, dropout) = (*heads, *causal, *dropout);
        if heads == 0 || hidden == 0 || hidden % heads != 0 {
            bail!("attention: a hidden size of {hidden} cannot be split into {heads} heads");
        }
        if causal && queries > keys {
            bail!("attention: {queries} causal queries need at least as many keys, found {keys}");
        }
        if keys == 0 {
            bail!("attention: expected at least one key");
        }
        if let Some(site) = &dropout {
            site.check()?;
            if queries > 1 << 16 || keys > 1 << 16 {
                bail!("attention: dropout supports at most 65536 queries and keys, found {queries} and {keys}");
            }
        }
        let dropout = dropout.filter(|site| !site.is_off());
        Ok(Geometry { batch, heads, queries, keys, head_size: hidden / heads, causal, dropout })
    }
}

fn dims(shape: &Shape, what: &str) -> Result<(usize, usize, usize)> {
    match shape.dims() {
        &[batch, rows, width] => Ok((batch, rows, width)),
        other => bail!("attention: expected three dimensions of {what}, found {other:?}"),
    }
}

/// Of one (qkv), two (q, kv) or three (q, k, v) tensors.
impl<const N: usize> Operation<N> for Attention {
    const NAME: &'static str = "attention";

    type Sizes = Geometry;

    fn check(&self, shapes: [&Shape; N]) -> Result<(Geometry, Shape)> {
        let geometry = self.geometry(&shapes)?;
        let shape = match &self.0.packing {
            Some(packing) => (packing.num_rows(), geometry.hidden()).into(),
            None => (geometry.batch, geometry.queries, geometry.hidden()).into(),
        };
        Ok((geometry, shape))
    }

    fn cpu_forward(&self, geometry: Geometry, operands: [Operand<'_, CpuStorage>; N]) -> Result<CpuStorage> {
        let keys = operands.get(1).map(|(_, layout)| layout.dims().len());
        cpu::attention::forward(self.layout(geometry, keys), &operands)
    }

    fn cuda_forward(&self, geometry: Geometry, operands: [Operand<'_, CudaStorage>; N]) -> Result<CudaStorage> {
        self.refuse_packing()?;
        cuda::attention::forward(&geometry, self.0.precision, &operands)
    }

    fn backward(&self, geometry: Geometry, operands: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut gradients = if grad.device().is_cuda() {
            self.refuse_packing()?;
            cuda::attention::backward(&geometry, self.0.precision, &operands, grad)?
        } else {
            let keys = operands.get(1).map(|tensor| tensor.rank());
            cpu::attention::backward(self.layout(geometry, keys), &operands, grad)?
        };
        Ok(std::array::from_fn(|index| gradients[index].take()))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use candle_core::{D, DType, Device, Var};

    use super::*;
    use crate::cpu::dropout::Mask;
    use crate::testing::{check, random, values};
    use crate::types::dropout::Dropout;

    const HEADS: usize = 2;
    const PLAIN: AttentionOptions =
        AttentionOptions { num_heads: HEADS, causal: false, dropout: None, precision: Precision::Full, packing: None };
    const CAUSAL: AttentionOptions = AttentionOptions { causal: true, ..PLAIN };
    const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 5, update: 2, first_example: 4 };

    /// The definition in candle's own operations; `factors` (B, H, L, N) multiplies the probabilities.
    fn composite(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool, factors: Option<&Tensor>) -> Result<Tensor> {
        let (batch, queries, hidden) = q.dims3()?;
        let keys = k.dim(1)?;
        let split = |x: &Tensor, rows| x.reshape((batch, rows, HEADS, hidden / HEADS))?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
        let mut scores = (q.matmul(&k.t()?)? / ((hidden / HEADS) as f64).sqrt())?; // (B, H, L, N)
        if causal {
            let hidden_from = |query: usize| keys - queries + query + 1;
            let mask = (0..queries).flat_map(|l| (0..keys).map(move |n| if n < hidden_from(l) { 0.0 } else { -1e30 }));
            let mask = Tensor::from_vec(mask.collect::<Vec<f64>>(), (queries, keys), &Device::Cpu)?;
            scores = scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?;
        }
        let largest = scores.max_keepdim(D::Minus1)?.detach();
        let exponentials = scores.broadcast_sub(&largest)?.exp()?;
        let mut probabilities = exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)?;
        if let Some(factors) = factors {
            probabilities = (probabilities * factors)?;
        }
        probabilities.matmul(&v)?.transpose(1, 2)?.reshape((batch, queries, hidden))
    }

    /// The factors of the dropout of every head.
    fn factors(site: &DropoutSite, batch: usize, queries: usize, keys: usize) -> Tensor {
        let mut factors = Vec::new();
        for (example, head) in (0..batch).flat_map(|example| (0..HEADS).map(move |head| (example, head))) {
            let mask = Mask::of_head(site, example, head);
            for query in 0..queries {
                factors.extend((0..keys).map(|key| mask.factor((query << 16 | key) as u32, site.kept())));
            }
        }
        Tensor::from_vec(factors, (batch, HEADS, queries, keys), &Device::Cpu).unwrap()
    }

    fn tensors(queries: usize, keys: usize) -> [Tensor; 3] {
        [random((2, queries, 10), "q"), random((2, keys, 10), "k"), random((2, keys, 10), "v")]
    }

    #[test]
    fn attention_equals_the_definition() {
        for (queries, keys) in [(1, 7), (3, 7), (4, 4), (5, 1)] {
            check(
                &tensors(queries, keys),
                |i| attention(&i[0], &i[1], &i[2], &PLAIN),
                |i| composite(&i[0], &i[1], &i[2], false, None),
            );
        }
    }

    #[test]
    fn causal_attention_equals_the_definition_with_cached_keys_too() {
        for (queries, keys) in [(1, 1), (5, 5), (2, 6), (1, 4)] {
            check(
                &tensors(queries, keys),
                |i| attention(&i[0], &i[1], &i[2], &CAUSAL),
                |i| composite(&i[0], &i[1], &i[2], true, None),
            );
        }
    }

    #[test]
    fn dropout_multiplies_the_probabilities() {
        let site = DROPOUT.site(9);
        let factors = factors(&site, 2, 4, 6);
        for causal in [false, true] {
            let options = AttentionOptions { causal, dropout: Some(site), ..PLAIN };
            let reference =
                |i: &[Tensor]| composite(&i[0], &i[1], &i[2], causal, Some(&factors.to_dtype(i[0].dtype())?));
            check(&tensors(4, 6), |i| attention(&i[0], &i[1], &i[2], &options), reference);
        }
    }

    /// Each sequence by itself, one after the other.
    fn sequence_by_sequence(
        packing: &Packing,
        q: &Tensor,
        keys_of: impl Fn(usize, &Range<usize>) -> Result<[Tensor; 2]>,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let longest = packing.longest();
        let site = options.dropout.as_ref();
        let sequence = |(example, rows): (usize, Range<usize>)| {
            let [k, v] = keys_of(example, &rows)?;
            let q = q.narrow(0, rows.start, rows.len())?.unsqueeze(0)?;
            let most_keys = k.dim(1)?.max(longest);
            let factors = site.map(|site| factors(site, packing.num_sequences(), longest, most_keys));
            let factors = match factors {
                Some(all) => Some(
                    all.narrow(0, example, 1)?
                        .narrow(2, 0, rows.len())?
                        .narrow(3, 0, k.dim(1)?)?
                        .to_dtype(q.dtype())?,
                ),
                None => None,
            };
            composite(&q, &k, &v, options.causal, factors.as_ref())?.squeeze(0)
        };
        Tensor::cat(&packing.sequences().enumerate().map(sequence).collect::<Result<Vec<_>>>()?, 0)
    }

    #[test]
    fn packed_sequences_look_at_their_own_rows() {
        let packing = Arc::new(Packing::new([3, 1, 5, 2], vec![0; 4]));
        let part = |x: &Tensor, part: usize| x.narrow(1, part * 10, 10);
        for dropout in [None, Some(DROPOUT.site(9))] {
            let options = AttentionOptions { dropout, packing: Some(Arc::clone(&packing)), ..CAUSAL };
            check(
                &[random((11, 30), "qkv")],
                |i| self_attention(&i[0], &options),
                |i| {
                    let of = |_: usize, rows: &Range<usize>| {
                        let rows = |x: Tensor| x.narrow(0, rows.start, rows.len())?.unsqueeze(0);
                        Ok([rows(part(&i[0], 1)?)?, rows(part(&i[0], 2)?)?])
                    };
                    sequence_by_sequence(&packing, &part(&i[0], 0)?, of, &options)
                },
            );
            check(
                &[random((11, 10), "q"), random((11, 10), "k"), random((11, 10), "v")],
                |i| attention(&i[0], &i[1], &i[2], &options),
                |i| self_attention(&Tensor::cat(&[&i[0], &i[1], &i[2]], 1)?, &options),
            );
        }
    }

    #[test]
    fn packed_sequences_look_at_their_images() {
        // The second image has no sequence, and those of the first do not follow each other.
        let packing = Arc::new(Packing::new([3, 1, 4], vec![0, 2, 0]));
        for dropout in [None, Some(DROPOUT.site(9))] {
            let options = AttentionOptions { dropout, packing: Some(Arc::clone(&packing)), ..PLAIN };
            let image = |x: &Tensor, example: usize| x.narrow(0, [0, 2, 0][example], 1);
            check(
                &[random((8, 10), "q"), random((3, 6, 10), "k"), random((3, 6, 10), "v")],
                |i| attention(&i[0], &i[1], &i[2], &options),
                |i| {
                    let of = |example: usize, _: &Range<usize>| Ok([image(&i[1], example)?, image(&i[2], example)?]);
                    sequence_by_sequence(&packing, &i[0], of, &options)
                },
            );
            check(
                &[random((8, 10), "q"), random((3, 6, 20), "kv")],
                |i| cross_attention(&i[0], &i[1], &options),
                |i| attention(&i[0], &i[1].narrow(2, 0, 10)?, &i[1].narrow(2, 10, 10)?, &options),
            );
        }
    }

    #[test]
    fn packed_sequences_that_do_not_fit_are_errors() {
        let options = |images| {
            let packing = Some(Arc::new(Packing::new([3, 1], images)));
            AttentionOptions { packing, ..PLAIN }
        };
        let (q, k) = (random((4, 10), "q"), random((2, 6, 20), "kv"));
        assert!(cross_attention(&q, &k, &options(vec![0, 1])).is_ok());
        assert!(cross_attention(&q, &k, &options(vec![0, 2])).is_err(), "there is no third image");
        assert!(cross_attention(&q.narrow(0, 0, 3).unwrap(), &k, &options(vec![0, 1])).is_err());
        assert!(self_attention(&q, &options(vec![0, 1])).is_err(), "a width of 10 is not three times the same");
    }

    #[test]
    fn fused_projections_equal_separate_ones() {
        let site = Some(DROPOUT.site(9));
        for options in [PLAIN, CAUSAL, AttentionOptions { dropout: site, ..PLAIN }] {
            let part = |x: &Tensor, part: usize| x.narrow(2, part * 10, 10);
            check(
                &[random((2, 5, 30), "qkv")],
                |i| self_attention(&i[0], &options),
                |i| attention(&part(&i[0], 0)?, &part(&i[0], 1)?, &part(&i[0], 2)?, &options),
            );
            check(
                &[random((2, 3, 10), "q"), random((2, 7, 20), "kv")],
                |i| cross_attention(&i[0], &i[1], &options),
                |i| attention(&i[0], &part(&i[1], 0)?, &part(&i[1], 1)?, &options),
            );
        }
    }

    /// Result and gradients in f64, for sizes where finite differences take too long.
    fn results(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Vec<Tensor> {
        let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
        let operands: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let result = f(&operands).unwrap();
        let gradients = result.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let mut all = vec![result];
        all.extend(operands.iter().map(|operand| gradients.get(operand).unwrap().clone()));
        all
    }

    #[test]
    fn several_blocks_of_queries_equal_the_definition() {
        for (queries, keys, causal) in [(150, 160, true), (100, 1000, false)] {
            let inputs = tensors(queries, keys);
            let options = AttentionOptions { causal, ..PLAIN };
            let found = results(|i| attention(&i[0], &i[1], &i[2], &options), &inputs);
            let expected = results(|i| composite(&i[0], &i[1], &i[2], causal, None), &inputs);
            for (found, expected) in found.iter().zip(&expected) {
                crate::testing::assert_close(found, expected, crate::testing::F64_TOLERANCE, "block");
            }
        }
    }

    #[test]
    fn a_later_key_changes_no_earlier_query() {
        let qkv = random((1, 6, 30), "qkv");
        let longer = Tensor::cat(&[&qkv, &random((1, 2, 30), "more")], 1).unwrap();
        let options = AttentionOptions { dropout: Some(DROPOUT.site(9)), ..CAUSAL };
        let found = self_attention(&longer, &options).unwrap().narrow(1, 0, 6).unwrap();
        let expected = self_attention(&qkv, &options).unwrap();
        crate::testing::assert_close(&found, &expected, 1e-14, "padding");
    }

    #[test]
    fn micro_batches_equal_one_batch() {
        let qkv = random((3, 4, 30), "qkv");
        let run = |first: usize, count: usize| {
            let site = Dropout { first_example: first as u64, ..DROPOUT }.site(9);
            let options = AttentionOptions { dropout: Some(site), ..CAUSAL };
            values(&self_attention(&qkv.narrow(0, first, count).unwrap(), &options).unwrap())
        };
        assert_eq!([run(0, 1), run(1, 2)].concat(), run(0, 3));
    }

    #[test]
    fn two_runs_give_the_same_bits() {
        let qkv = random((8, 40, 3 * 64), "qkv").to_dtype(DType::F32).unwrap();
        let run = || results(|i| self_attention(&i[0], &CAUSAL), std::slice::from_ref(&qkv));
        for (first, second) in run().iter().zip(run()) {
            assert_eq!(values(first), values(&second));
        }
    }

    #[test]
    fn tensors_that_do_not_fit_are_errors() {
        let [q, k, v] = tensors(3, 7);
        assert!(attention(&q, &k, &v.narrow(1, 0, 6).unwrap(), &PLAIN).is_err());
        assert!(attention(&q, &k, &v, &AttentionOptions { num_heads: 3, ..PLAIN }).is_err());
        assert!(attention(&k, &q, &q, &CAUSAL).is_err(), "more causal queries than keys");
        assert!(cross_attention(&q, &k, &PLAIN).is_err());
        assert!(self_attention(&q, &PLAIN).is_err(), "a width of 10 is not three times the same");
    }
}
