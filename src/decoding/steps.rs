//! A step of decoding: from the newest tokens to the logits of the next ones, by one decoder or by several together.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use crate::model::decoders::{KeyValueCache, TextDecoder};

/// A decoder that writes captions, alone or with others, and what it sees of the images: their keys and values for each
/// of its blocks.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub decoder: &'a dyn TextDecoder,
    pub key_values: &'a [Tensor],
}

/// The decoders while they write, each with its cache.
#[derive(Clone)]
pub(super) struct Steps<'a> {
    members: Vec<(&'a dyn TextDecoder, KeyValueCache)>,
    device: Device,
}

impl<'a> Steps<'a> {
    /// Captions of `num_images` images begin.
    ///
    /// # Errors
    /// No decoder; one that sees another number of images.
    pub(super) fn new(members: &[Member<'a>], num_images: usize) -> Result<Self> {
        let mut device = None;
        for member in members {
            let Some(first) = member.key_values.first() else { bail!("a decoder without blocks cannot caption") };
            if first.dim(0)? != num_images {
                bail!("expected a prompt for each of {} images, found {num_images}", first.dim(0)?);
            }
            device.get_or_insert_with(|| first.device().clone());
        }
        let Some(device) = device else { bail!("captions need a decoder") };
        let members = members.iter().map(|member| (member.decoder, KeyValueCache::new(member.key_values))).collect();
        Ok(Self { members, device })
    }

    /// Positions that all of them have.
    pub(super) fn num_positions(&self) -> usize {
        self.members.iter().map(|(decoder, _)| decoder.num_positions()).min().unwrap_or(0)
    }

    /// As [`KeyValueCache::select_images`].
    pub(super) fn select_images(&mut self, images: &[u32]) -> Result<()> {
        self.members.iter_mut().try_for_each(|(_, cache)| cache.select_images(images))
    }

    /// As [`KeyValueCache::select_captions`].
    pub(super) fn select_captions(&mut self, captions: &[u32]) {
        self.members.iter_mut().for_each(|(_, cache)| cache.select_captions(captions.to_vec()));
    }

    /// Reads the newest token of each caption, of as many for each image.
    pub(super) fn read(&mut self, newest: Vec<u32>, num_images: usize) -> Result<()> {
        self.hidden_states(newest, num_images).map(drop)
    }

    /// Reads them and gives the logits of the next tokens, row by row, and the length of a row. Of several decoders they
    /// are the mean of the logits. After normalization that is the mean of the log-probabilities, since the logits of a
    /// row and its log-probabilities differ by a constant. A token that one decoder does not have is left out.
    pub(super) fn next_logits(&mut self, newest: Vec<u32>, num_images: usize) -> Result<(Vec<f32>, usize)> {
        let hidden_states = self.hidden_states(newest, num_images)?;
        let mut mean: Option<Tensor> = None; // (B, S, V)
        for (place, ((decoder, _), hidden_states)) in self.members.iter().zip(&hidden_states).enumerate() {
            let logits = decoder.logits(hidden_states)?;
            mean = Some(match mean {
                None => logits,
                Some(mean) => {
                    let vocabulary = mean.dim(D::Minus1)?.min(logits.dim(D::Minus1)?);
                    let known = |logits: &Tensor| logits.narrow(D::Minus1, 0, vocabulary);
                    let (mean, logits) = (known(&mean)?, known(&logits)?);
                    // Logits that are equal stay as they are.
                    (&mean + ((logits - &mean)? / (place + 1) as f64)?)?
                }
            });
        }
        let Some(logits) = mean else { bail!("captions need a decoder") };
        Ok((logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?, logits.dim(D::Minus1)?))
    }

    /// Of each decoder: (B, S, D).
    fn hidden_states(&mut self, newest: Vec<u32>, num_images: usize) -> Result<Vec<Tensor>> {
        let shape = (num_images, newest.len() / num_images.max(1));
        let input_ids = Tensor::from_vec(newest, shape, &self.device)?;
        self.members.iter_mut().map(|(decoder, cache)| decoder.next_hidden_states(&input_ids, cache)).collect()
    }
}
