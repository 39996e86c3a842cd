//! TensorBoard: the curves, the samples' pictures, and what the model writes about them, in `tensorboard/`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;

use crate::run::markdown::plain;
use crate::run::tracking::sample_pictures::{MAX_SHOWN, SamplePictures};
use crate::run::tracking::scalars::{Scalars, of_record};
use crate::run::tracking::tracker::{Tracker, TrackerContext, TrackerKind};
use crate::training::events::{Event, Sample};
use base::clock::unix_seconds;
use metrics::score::Scores;
use tensorboard::EventFile;

pub(super) const KIND: TrackerKind = TrackerKind {
    name: "TensorBoard",
    check: |_| Ok(()),
    start: |context| {
        let is_wanted = context.config.tracking.tensorboard;
        Ok(is_wanted.then(|| Box::new(TensorBoard::new(context)) as Box<dyn Tracker>))
    },
};

struct TensorBoard {
    folder: PathBuf,
    file: Option<EventFile>,
    pictures: Rc<RefCell<SamplePictures>>,
    has_pictures: bool,
    log_interval: u64,
    last_step: u64,
}

impl TensorBoard {
    /// Creates no file before the loop begins.
    fn new(context: &TrackerContext<'_>) -> Self {
        Self {
            folder: context.run.path().join("tensorboard"),
            file: None,
            pictures: Rc::clone(&context.pictures),
            has_pictures: false,
            log_interval: context.config.training.log_interval as u64,
            last_step: 0,
        }
    }

    fn scalars(&mut self, Scalars { step, values }: &Scalars) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        file.scalars(*step, unix_seconds(), &values)?;
        file.flush()
    }

    fn samples(&mut self, step: u64, samples: &[Sample<'_>]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if samples.is_empty() {
            return Ok(());
        }
        // The pictures do not change from one validation to the next.
        if !self.has_pictures {
            self.has_pictures = true;
            for (number, sample) in samples.iter().take(MAX_SHOWN).enumerate() {
                if let Some(picture) = self.pictures.borrow_mut().get(sample.image) {
                    let tag = format!("val/sample_{number}");
                    file.image(step, unix_seconds(), &tag, picture.width, picture.height, &picture.png)?;
                }
            }
        }
        file.text(step, unix_seconds(), "val/captions", &table(samples))?;
        file.flush()
    }
}

/// As a table in Markdown; the numbers are those of the pictures.
fn table(samples: &[Sample<'_>]) -> String {
    let mut lines = vec!["| sample | caption | one of the references |".to_owned(), "|---|---|---|".to_owned()];
    for (number, sample) in samples.iter().enumerate() {
        let reference = sample.references.first().map_or("", String::as_str);
        lines.push(format!("| {number} | {} | {} |", plain(&sample.caption.text), plain(reference)));
    }
    lines.join("\n")
}

impl Tracker for TensorBoard {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        if let Event::Started { state, .. } = event {
            self.last_step = state.global_step;
            self.file = Some(match state.global_step {
                0 => EventFile::create(&self.folder, unix_seconds())?,
                done => EventFile::resume(&self.folder, unix_seconds(), done)?,
            });
        }
        if let Event::Step(record) = event {
            self.last_step = record.step;
        }
        let record = event.record().filter(|record| record.is_logged(self.log_interval));
        if let Some(scalars) = record.as_ref().and_then(of_record) {
            self.scalars(&scalars)?;
        }
        if let Event::Validated { state, samples, .. } = event {
            self.samples(state.global_step, samples)?;
        }
        Ok(())
    }

    fn scores(&mut self, split: &str, scores: &Scores<f64>) -> Result<()> {
        let values = scores.named().map(|(name, value)| (format!("{split}/{name}"), value)).to_vec();
        self.scalars(&Scalars { step: self.last_step, values })
    }
}
