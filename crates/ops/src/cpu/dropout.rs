//! Dropout on the CPU, and the masks of a site.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, WithDType};

use super::buffer::{CHUNK, build};
use super::storage::{elements, for_float};
use super::vector_math::Element;
use crate::profile::Part;
use crate::types::Operand;
use crate::types::dropout::DropoutSite;
use crate::types::packing::Examples;
use base::random::{element_bits, mix_key};
use base::simd::{Kernel, vectorized};

/// The mask of one example, or of one head of it.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    key: u64,
    threshold: u32,
}

impl Mask {
    /// The mask of an example, by its position in the batch.
    pub(crate) fn of_example(site: &DropoutSite, example: usize) -> Self {
        Self { key: example_key(site, example), threshold: site.threshold() }
    }

    /// The mask of one attention head of an example.
    pub(crate) fn of_head(site: &DropoutSite, example: usize, head: usize) -> Self {
        Self { key: mix_key(&[example_key(site, example), head as u64]), threshold: site.threshold() }
    }

    /// The factor of an element: 0 or `kept`.
    #[inline(always)]
    pub(crate) fn factor<T: Element>(self, element: u32, kept: T) -> T {
        if element_bits(self.key, element) >= self.threshold { kept } else { T::zero() }
    }
}

fn example_key(site: &DropoutSite, example: usize) -> u64 {
    let [seed, update, place, first_example] = site.key_words();
    mix_key(&[seed, update, place, first_example + example as u64])
}

/// The values that are kept, scaled; x is divided among `examples`.
pub(crate) fn forward(site: &DropoutSite, x: Operand<'_, CpuStorage>, examples: &Examples) -> Result<CpuStorage> {
    for_float!(x.0.dtype(), Part::Dropout, T => {
        Ok(T::to_cpu_storage_owned(dropped(site, elements::<T>(x)?, examples)))
    })
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

/// Where each example ends among `len` elements.
fn ends(examples: &Examples, len: usize) -> Vec<usize> {
    match examples {
        Examples::Equal(examples) => (1..=*examples).map(|example| len / examples * example).collect(),
        Examples::Packed(packing) => {
            let width = len / packing.num_rows().max(1);
            packing.sequences().map(|rows| rows.end * width).collect()
        }
    }
}

fn dropped<T: Element>(site: &DropoutSite, x: &[T], examples: &Examples) -> Vec<T> {
    let ends = ends(examples, x.len());
    // A chunk may span several examples: it is cut into pieces of one example each.
    build(x.len(), CHUNK, |index, out| {
        let mut done = 0;
        while done < out.len() {
            let position = index * CHUNK + done;
            let example = ends.partition_point(|&end| end <= position);
            let element = position - if example == 0 { 0 } else { ends[example - 1] };
            let count = (ends[example] - position).min(out.len() - done);
            vectorized(Piece {
                mask: Mask::of_example(site, example),
                kept: T::of(site.kept()),
                first: element as u32,
                x: &x[position..position + count],
                out: &mut out[done..done + count],
            });
            done += count;
        }
    })
}
