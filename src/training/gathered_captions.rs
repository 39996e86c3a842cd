//! The captions that several processes wrote, in the order of the images.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::decoding::DecodedCaption;
use crate::evaluation::captioning::WrittenCaption;
use crate::training::collective::Collective;

/// A caption on its way. JSON knows no infinite numbers, so probabilities travel as bits.
#[derive(Serialize, Deserialize)]
struct Sent {
    place: usize,
    text: String,
    tokens: Vec<u32>,
    log_probabilities: Vec<u64>,
}

/// All captions in the order of their places, of which each process has some.
///
/// # Errors
/// A process that is gone; places that are missing.
pub fn gather_captions(collective: &dyn Collective, own: Vec<(usize, WrittenCaption)>) -> Result<Vec<WrittenCaption>> {
    let mut all = own;
    if collective.size() > 1 {
        let sent: Vec<Sent> = all.into_iter().map(Sent::new).collect();
        all = Vec::new();
        for bytes in collective.gather(&serde_json::to_vec(&sent)?)? {
            let received: Vec<Sent> = serde_json::from_slice(&bytes).context("captions of another process")?;
            all.extend(received.into_iter().map(Sent::open));
        }
        all.sort_by_key(|(place, _)| *place);
    }
    anyhow::ensure!(all.iter().map(|(place, _)| *place).eq(0..all.len()), "captions of other processes are missing");
    Ok(all.into_iter().map(|(_, caption)| caption).collect())
}

impl Sent {
    fn new((place, caption): (usize, WrittenCaption)) -> Self {
        let WrittenCaption { text, decoded: DecodedCaption { tokens, log_probabilities } } = caption;
        Self { place, text, tokens, log_probabilities: log_probabilities.into_iter().map(f64::to_bits).collect() }
    }

    fn open(self) -> (usize, WrittenCaption) {
        let log_probabilities = self.log_probabilities.into_iter().map(f64::from_bits).collect();
        let decoded = DecodedCaption { tokens: self.tokens, log_probabilities };
        (self.place, WrittenCaption { text: self.text, decoded })
    }
}
