//! What a decoder keeps while it writes: the keys and values of the images and of the captions so far, so that at each
//! step only the new token passes through the decoder.

use candle_core::{Result, Tensor};

/// Keys and values of every block for B images with S captions each. All captions have the same length.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    /// Keys and values of the images, (B, N, ..): a tensor or more for each block, as the decoder makes them.
    images: Vec<Tensor>,
    /// Those of the captions, in as many tensors (B S, length, ..); none before the first token.
    captions: Vec<Option<Tensor>>,
    /// Out of which of them each caption grows with the next token; all of them in order when nothing was selected.
    selected: Option<Vec<u32>>,
    length: usize,
}

impl KeyValueCache {
    /// A cache of images whose captions begin, with their keys and values for every block.
    pub fn new(key_values: &[Tensor]) -> Self {
        Self { images: key_values.to_vec(), captions: vec![None; key_values.len()], selected: None, length: 0 }
    }

    /// Tokens of each caption that are kept.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Continues with other captions of the same images: caption i continues what was caption `captions[i]`. How many
    /// captions an image has may change.
    /// Call it once for each token.
    pub fn select_captions(&mut self, captions: Vec<u32>) {
        self.selected = Some(captions);
    }

    /// Keeps only these images; their captions are selected apart from them.
    ///
    /// # Errors
    /// An index outside of the images.
    pub fn select_images(&mut self, images: &[u32]) -> Result<()> {
        for kept in &mut self.images {
            *kept = kept.index_select(&Tensor::new(images, kept.device())?, 0)?;
        }
        Ok(())
    }

    /// The tensor of the images at this place.
    pub(in crate::model) fn images(&self, place: usize) -> &Tensor {
        &self.images[place]
    }

    /// Adds a token's keys or values (B S, 1, ..) to the tensor at this place and gives those of the captions so far.
    pub(in crate::model) fn append(&mut self, place: usize, key_values: &Tensor) -> Result<&Tensor> {
        let kept = &mut self.captions[place];
        let all = match (kept.take(), &self.selected) {
            (Some(past), Some(selected)) => ops::append(&past, selected, key_values)?,
            (Some(past), None) => ops::append(&past, &(0..past.dim(0)? as u32).collect::<Vec<_>>(), key_values)?,
            (None, _) => key_values.contiguous()?,
        };
        Ok(kept.insert(all))
    }

    /// Counts the token that every block has been given.
    pub(in crate::model) fn advance(&mut self) {
        self.length += 1;
        self.selected = None;
    }
}
