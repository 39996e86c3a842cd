//! TensorBoard: the curves, the samples' pictures, and what the model writes about them, in `tensorboard/`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use crate::run::markdown::plain;
use crate::run::run_directory::RunDirectory;
use crate::run::tracking::sample_pictures::{MOST, SamplePictures};
use crate::run::tracking::scalars::{Scalars, is_logged, of_event};
use crate::training::events::{Event, Observer, Sample};
use base::clock::unix_seconds;
use tensorboard::EventFile;

/// The observer.
pub struct TensorBoard {
    folder: PathBuf,
    file: Option<EventFile>,
    pictures: Rc<RefCell<SamplePictures>>,
    has_pictures: bool,
    log_interval: u64,
    last_step: u64,
}

impl TensorBoard {
    /// Writes into the run's folder, once the run begins.
    pub fn new(run: &RunDirectory, pictures: Rc<RefCell<SamplePictures>>, log_interval: usize) -> Self {
        let folder = run.path().join("tensorboard");
        Self { folder, file: None, pictures, has_pictures: false, log_interval: log_interval as u64, last_step: 0 }
    }

    /// Numbers that are known behind the last update.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn at_the_end(&mut self, values: &[(String, f64)]) -> anyhow::Result<()> {
        self.scalars(&Scalars { step: self.last_step, values: values.to_vec() })
    }

    fn scalars(&mut self, Scalars { step, values }: &Scalars) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        file.scalars(*step, unix_seconds(), &values)?;
        file.flush()
    }

    fn samples(&mut self, step: u64, samples: &[Sample<'_>]) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if samples.is_empty() {
            return Ok(());
        }
        // The pictures do not change from one validation to the next.
        if !self.has_pictures {
            self.has_pictures = true;
            for (number, sample) in samples.iter().take(MOST).enumerate() {
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

impl Observer for TensorBoard {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if let Event::Started { state, .. } = event {
            self.last_step = state.global_step;
            self.file = Some(match state.global_step {
                0 => EventFile::create(&self.folder, unix_seconds())?,
                done => EventFile::resume(&self.folder, unix_seconds(), done)?,
            });
        }
        if let Event::Step(report) = event {
            self.last_step = report.global_step;
        }
        if let Some(scalars) = of_event(event).filter(|_| is_logged(event, self.log_interval)) {
            self.scalars(&scalars)?;
        }
        if let Event::Validated { state, samples, .. } = event {
            self.samples(state.global_step, samples)?;
        }
        Ok(())
    }
}
