//! Captions that several processes write together, in the order of the images.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::data::image_source::ImageSource;
use crate::data::prompts::Prompts;
use crate::decoding::DecodedCaption;
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings, WrittenCaption};
use crate::training::collective::Collective;
use base::worker_pools::WorkerPools;

/// A caption on its way. JSON knows no infinite numbers, so probabilities travel as bits.
#[derive(Serialize, Deserialize)]
struct Sent {
    place: usize,
    text: String,
    tokens: Vec<u32>,
    log_probabilities: Vec<u64>,
}

/// Who captions: threads, and processes.
#[derive(Clone, Copy)]
pub struct Team<'a> {
    pub pools: &'a WorkerPools,
    pub collective: &'a dyn Collective,
}

/// The best caption for each of the images with these indices, in every process. `advance` gets how many more are done,
/// and returns whether to continue; the result is `None` if it says no in any process. `sources` are those of
/// [`CaptionWriter::write_all`].
///
/// # Errors
/// What [`CaptionWriter::write_all`] and `advance` return; a process that is gone.
pub fn caption_together(
    writer: &CaptionWriter<'_>,
    sources: &[ImageSource],
    images: &[usize],
    prompts: &Prompts,
    settings: &CaptioningSettings,
    team: Team<'_>,
    mut advance: impl FnMut(usize) -> Result<bool>,
) -> Result<Option<Vec<WrittenCaption>>> {
    let Team { pools, collective } = team;
    let all_advance = |count| Ok(!collective.any(!advance(count)?)?);
    let own = writer.write_all(sources, images, prompts, settings, pools, collective.share(), all_advance)?;
    own.map(|own| gather(collective, own)).transpose()
}

/// All captions in the order of their places, of which each process has some.
fn gather(collective: &dyn Collective, own: Vec<(usize, WrittenCaption)>) -> Result<Vec<WrittenCaption>> {
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
    ensure!(all.iter().map(|(place, _)| *place).eq(0..all.len()), "captions of other processes are missing");
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
