//! Dropout whose mask is a function of its place, recomputed wherever it is needed and stored nowhere.
//!
//! Whether an element is dropped depends on the seed, the update, the site in the model, the position of the example in
//! the update and the position of the element in the example. So k micro-batches equal one batch, more padding changes
//! no mask, and a resumed run needs no generator state.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::dropout::DropoutSite;
use crate::types::packing::{Examples, Packing};
use crate::{cpu, cuda};

/// Sets values to 0 with the site's probability and scales the others by `1 / (1 - probability)`: x (B, ..), examples
/// first. With probability 0 the result is `x` itself.
///
/// # Errors
/// A probability outside [0, 1), types other than f32 and f64, a tensor without dimensions.
pub fn dropout(x: &Tensor, site: &DropoutSite) -> Result<Tensor> {
    drop_at(x, site, None)
}

/// [`dropout`] of packed sequences: x (T, ..), an example for each sequence. The mask of a sequence is the one that it has
/// with padding.
///
/// # Errors
/// As [`dropout`]; another number of rows; a GPU.
pub fn packed_dropout(x: &Tensor, site: &DropoutSite, packing: &Arc<Packing>) -> Result<Tensor> {
    drop_at(x, site, Some(packing))
}

fn drop_at(x: &Tensor, site: &DropoutSite, packing: Option<&Arc<Packing>>) -> Result<Tensor> {
    site.check()?;
    if site.is_off() {
        return Ok(x.clone());
    }
    x.contiguous()?.apply_op1(Op(DropoutAt { site: *site, packing: packing.cloned() }))
}

#[derive(Clone)]
struct DropoutAt {
    site: DropoutSite,
    packing: Option<Arc<Packing>>,
}

impl Operation<1> for DropoutAt {
    const NAME: &'static str = "dropout";

    type Sizes = Examples;

    fn check(&self, [x]: [&Shape; 1]) -> Result<(Examples, Shape)> {
        let Some(&rows) = x.dims().first() else { bail!("dropout: expected a dimension of examples") };
        let (width, examples) = match &self.packing {
            None => (x.elem_count() / rows.max(1), Examples::Equal(rows)),
            Some(packing) if packing.num_rows() == rows => {
                (x.elem_count() / rows.max(1) * packing.longest(), Examples::Packed(Arc::clone(packing)))
            }
            Some(packing) => bail!("dropout: expected {} rows of packed sequences, found {rows}", packing.num_rows()),
        };
        if u32::try_from(width).is_err() {
            bail!("dropout: expected at most {} elements for each example, found {width}", u32::MAX);
        }
        Ok((examples, x.clone()))
    }

    fn cpu_forward(&self, examples: Examples, [x]: [Operand<'_, CpuStorage>; 1]) -> Result<CpuStorage> {
        cpu::dropout::forward(&self.site, x, &examples)
    }

    fn cuda_forward(&self, examples: Examples, [x]: [Operand<'_, CudaStorage>; 1]) -> Result<CudaStorage> {
        cuda::dropout::forward(&self.site, x, &examples)
    }

    fn backward(&self, _: Examples, _: [&Tensor; 1], grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(grad.apply_op1_no_bwd(&Op(self.clone()))?)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::{check, random, values};
    use crate::types::dropout::Dropout;

    const DROPOUT: Dropout = Dropout { probability: 0.25, seed: 7, update: 3, first_example: 0 };

    fn ones(shape: (usize, usize, usize)) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn backward_uses_the_mask_of_forward() {
        let mask = dropout(&ones((2, 3, 5)).to_dtype(DType::F64).unwrap(), &DROPOUT.site(1)).unwrap();
        check(&[random((2, 3, 5), "x")], |i| dropout(&i[0], &DROPOUT.site(1)), |i| &i[0] * &mask);
    }

    #[test]
    fn the_share_and_the_scale_of_what_is_kept() {
        let found = values(&dropout(&ones((8, 100, 100)), &DROPOUT.site(1)).unwrap());
        let kept = found.iter().filter(|&&x| x != 0.0).count();
        assert!(found.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        // Four standard deviations of a binomial distribution: 4 sqrt(80000 x 0.25 x 0.75).
        assert!((59_500..60_500).contains(&kept), "{kept} of 80000 kept, 60000 expected");
    }

    #[test]
    fn padding_changes_no_mask() {
        let short = dropout(&ones((3, 4, 6)), &DROPOUT.site(1)).unwrap();
        let long = dropout(&ones((3, 9, 6)), &DROPOUT.site(1)).unwrap();
        assert_eq!(values(&long.narrow(1, 0, 4).unwrap()), values(&short));
    }

    #[test]
    fn micro_batches_equal_one_batch() {
        let whole = dropout(&ones((5, 4, 6)), &DROPOUT.site(1)).unwrap();
        let first = dropout(&ones((2, 4, 6)), &DROPOUT.site(1)).unwrap();
        let rest = dropout(&ones((3, 4, 6)), &Dropout { first_example: 2, ..DROPOUT }.site(1)).unwrap();
        assert_eq!(values(&Tensor::cat(&[first, rest], 0).unwrap()), values(&whole));
    }

    #[test]
    fn examples_longer_than_a_chunk_equal_short_ones_at_their_start() {
        let long = dropout(&ones((3, 400, 70)), &DROPOUT.site(1)).unwrap();
        let short = dropout(&ones((3, 2, 70)), &DROPOUT.site(1)).unwrap();
        assert_eq!(values(&long.narrow(1, 0, 2).unwrap()), values(&short));
    }

    #[test]
    fn a_packed_sequence_has_the_mask_that_it_has_with_padding() {
        let lengths = [3, 1, 0, 4];
        let packing = Arc::new(Packing::new(lengths, vec![0; 4]));
        let padded = dropout(&ones((4, 4, 6)).to_dtype(DType::F64).unwrap(), &DROPOUT.site(1)).unwrap();
        let rows = lengths.iter().enumerate().map(|(example, &length)| {
            padded.narrow(0, example, 1).unwrap().squeeze(0).unwrap().narrow(0, 0, length).unwrap()
        });
        let expected = Tensor::cat(&rows.collect::<Vec<_>>(), 0).unwrap();
        let x = Tensor::ones((8, 6), DType::F64, &Device::Cpu).unwrap();
        assert_eq!(values(&packed_dropout(&x, &DROPOUT.site(1), &packing).unwrap()), values(&expected));
        check(&[random((8, 6), "x")], |i| packed_dropout(&i[0], &DROPOUT.site(1), &packing), |i| &i[0] * &expected);
        let short = x.narrow(0, 0, 7).unwrap();
        assert!(packed_dropout(&short, &DROPOUT.site(1), &packing).unwrap_err().to_string().contains("8 rows"));
    }

    #[test]
    fn seed_update_site_and_example_each_change_the_mask() {
        let mask = |dropout_: Dropout, site| values(&dropout(&ones((1, 8, 8)), &dropout_.site(site)).unwrap());
        let base = mask(DROPOUT, 1);
        assert_eq!(base, mask(DROPOUT, 1));
        assert_ne!(base, mask(DROPOUT, 2));
        assert_ne!(base, mask(Dropout { seed: 8, ..DROPOUT }, 1));
        assert_ne!(base, mask(Dropout { update: 4, ..DROPOUT }, 1));
        assert_ne!(base, mask(Dropout { first_example: 1, ..DROPOUT }, 1));
    }

    #[test]
    fn probability_zero_is_the_tensor_itself_and_one_is_an_error() {
        let x = Var::from_tensor(&ones((2, 3, 4))).unwrap();
        let same = dropout(&x, &Dropout { probability: 0.0, ..DROPOUT }.site(1)).unwrap();
        assert_eq!(same.id(), x.as_tensor().id());
        assert!(dropout(&x, &Dropout { probability: 1.0, ..DROPOUT }.site(1)).is_err());
    }
}
