//! Dropout whose mask is a function of its place, recomputed wherever it is needed and stored nowhere.
//!
//! The bit of an element depends on the seed, the update, the site in the model, the example's position in the update
//! and the element's position in the example. So k micro-batches equal one batch, more padding changes no mask, and a
//! resumed run needs no generator state.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::{CHUNK, build};
#[cfg(feature = "cuda")]
use super::cuda;
use super::operand::{elements, for_float};
use super::profile::Part;
use super::vector_math::Element;
use base::random::{element_bits, mix_key};
use base::simd::{Kernel, vectorized};

/// The dropout of one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a value is set to 0: 0 to below 1.
    pub probability: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the update.
    pub update: u64,
    /// Position in the update of the first example of this batch.
    pub first_example: u64,
}

impl Dropout {
    /// The dropout of one place in the model; every place has its own number.
    pub fn site(&self, site: u64) -> DropoutSite {
        DropoutSite { dropout: *self, site }
    }
}

/// The dropout of one place in the model in one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutSite {
    dropout: Dropout,
    site: u64,
}

/// The mask of one example, or of one head of it.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    key: u64,
    /// Bits below this drop the element.
    threshold: u32,
}

impl Mask {
    /// The factor of an element: 0 or `kept`.
    #[inline(always)]
    pub(crate) fn factor<T: Element>(self, element: u32, kept: T) -> T {
        if element_bits(self.key, element) >= self.threshold { kept } else { T::zero() }
    }
}

impl DropoutSite {
    /// Whether nothing is dropped.
    pub fn is_off(&self) -> bool {
        self.dropout.probability == 0.0
    }

    /// The factor of what is kept.
    pub(crate) fn kept<T: Element>(&self) -> T {
        T::of(1.0 / (1.0 - self.dropout.probability))
    }

    /// The mask of an example, by its position in the batch.
    pub(crate) fn example_mask(&self, example: usize) -> Mask {
        self.mask(self.example_key(example))
    }

    /// The mask of one attention head of an example.
    pub(crate) fn head_mask(&self, example: usize, head: usize) -> Mask {
        self.mask(mix_key(&[self.example_key(example), head as u64]))
    }

    /// What the keys of all masks begin with: seed, update, place in the model, position of the first example.
    #[cfg(feature = "cuda")]
    pub(crate) fn key_words(&self) -> [u64; 4] {
        let Dropout { seed, update, first_example, .. } = self.dropout;
        [seed, update, self.site, first_example]
    }

    fn example_key(&self, example: usize) -> u64 {
        let Dropout { seed, update, first_example, .. } = self.dropout;
        mix_key(&[seed, update, self.site, first_example + example as u64])
    }

    fn mask(&self, key: u64) -> Mask {
        Mask { key, threshold: self.threshold() }
    }

    /// Random bits below this drop an element.
    pub(crate) fn threshold(&self) -> u32 {
        (self.dropout.probability * 4_294_967_296.0).round() as u32
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.dropout.probability) {
            bail!("dropout: expected a probability from 0 to below 1, found {}", self.dropout.probability);
        }
        Ok(())
    }
}

/// Sets values to 0 with the site's probability and scales the others by `1 / (1 - probability)`: x (B, ..), examples
/// first. With probability 0 the result is `x` itself.
///
/// # Errors
/// A probability outside [0, 1), types other than f32 and f64, a tensor without dimensions.
pub fn dropout(x: &Tensor, site: &DropoutSite) -> Result<Tensor> {
    site.check()?;
    if site.is_off() {
        return Ok(x.clone());
    }
    x.contiguous()?.apply_op1(Op { site: *site })
}

struct Op {
    site: DropoutSite,
}

/// Elements of one example from number `first` on.
struct Piece<'a, T> {
    mask: Mask,
    kept: T,
    first: u32,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (index, (out, &x)) in self.out.iter_mut().zip(self.x).enumerate() {
            *out = x * self.mask.factor(self.first.wrapping_add(index as u32), self.kept);
        }
    }
}

impl Op {
    /// The number of examples.
    fn check_width(layout: &Layout) -> Result<usize> {
        let Some(&examples) = layout.dims().first() else { bail!("dropout: expected a dimension of examples") };
        let width = layout.shape().elem_count() / examples.max(1);
        if u32::try_from(width).is_err() {
            bail!("dropout: an example of {width} elements is more than a mask can number");
        }
        Ok(examples)
    }

    fn apply<T: Element>(&self, x: &[T], examples: usize) -> Vec<T> {
        let width = x.len() / examples.max(1);
        // Chunks may cross examples: pieces of one example each.
        build(x.len(), CHUNK, |index, out| {
            let mut done = 0;
            while done < out.len() {
                let position = index * CHUNK + done;
                let (example, element) = (position / width, position % width);
                let count = (width - element).min(out.len() - done);
                vectorized(Piece {
                    mask: self.site.example_mask(example),
                    kept: self.site.kept(),
                    first: element as u32,
                    x: &x[position..position + count],
                    out: &mut out[done..done + count],
                });
                done += count;
            }
        })
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let examples = Self::check_width(layout)?;
        let storage = for_float!(storage.dtype(), Part::Dropout, T => {
            T::to_cpu_storage_owned(self.apply(elements::<T>(storage, layout)?, examples))
        });
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let examples = Self::check_width(layout)?;
        Ok((cuda::dropout::forward(&self.site, storage, layout, examples)?, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(self)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::{check, random, values};

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
