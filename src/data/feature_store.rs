//! Encoder outputs of many images in memory, as f32, found by the image's index in the data set.

use std::collections::HashMap;

use anyhow::{Context as _, bail};

/// Rows of equal size, one for each stored image.
#[derive(Clone, Debug)]
pub struct FeatureTable {
    shape: (usize, usize),
    values: Vec<f32>,
    rows: HashMap<usize, usize>,
}

impl FeatureTable {
    /// An empty table for `capacity` images of `shape` (N, D). All memory is taken now.
    pub fn new(shape: (usize, usize), capacity: usize) -> Self {
        Self { shape, values: Vec::with_capacity(capacity * shape.0 * shape.1), rows: HashMap::with_capacity(capacity) }
    }

    /// (N, D) of one image.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Adds the features of `images`, one after the other in `values`.
    ///
    /// # Errors
    /// A number of values that does not fit; an image that is there already.
    pub fn insert(&mut self, images: &[usize], values: &[f32]) -> anyhow::Result<()> {
        let size = self.shape.0 * self.shape.1;
        if values.len() != images.len() * size {
            bail!(
                "features of {} images: expected {} values, found {}",
                images.len(),
                images.len() * size,
                values.len()
            );
        }
        for &image in images {
            if self.rows.insert(image, self.rows.len()).is_some() {
                bail!("image {image} was encoded twice");
            }
        }
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// The features of an image: N x D values.
    ///
    /// # Errors
    /// An image that is not there.
    pub fn get(&self, image: usize) -> anyhow::Result<&[f32]> {
        let row = self.rows.get(&image).with_context(|| format!("image {image} was not encoded"))?;
        let size = self.shape.0 * self.shape.1;
        Ok(&self.values[row * size..(row + 1) * size])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_by_image() {
        let mut table = FeatureTable::new((1, 2), 2);
        table.insert(&[7, 3], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(table.get(3).unwrap(), [3.0, 4.0]);
        assert!(table.get(1).is_err());
        assert!(table.insert(&[3], &[0.0, 0.0]).is_err());
        assert!(table.insert(&[4], &[0.0]).is_err());
    }
}
