//! Uploads the best model beside a run. A failure is a warning and does not stop the run: the model is on the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::commands::upload::{Publication, publish, repository_name};
use crate::config::{HubConfig, HubUpload};
use crate::run::checkpoint_names::best_file_name;
use crate::run::model_card::Card;
use crate::run::run_directory::{RunDirectory, upload_name};
use crate::run::session::Uploads;
use crate::training::checkpointer::SavePoint;
use crate::training::events::{Event, Observer};
use base::atomic_file;
use base::error::{describe, one_line};
use base::stop::StopFlag;
use base::{terminal, threads};

/// Between two questions whether to wait any longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A thread that uploads, and its queue.
pub(super) struct HubUploads {
    run: RunDirectory,
    config: HubConfig,
    work: Arc<Work>,
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
    /// Models that were queued: one checkpoint may be uploaded twice, and each time it has a name of its own.
    num_queued: u64,
}

#[derive(Default)]
struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The newest model; an older one that still waits is not worth uploading.
    waiting: Option<Model>,
    is_over: bool,
}

/// A model to be uploaded.
struct Model {
    /// A second name of the checkpoint: the first may be deleted meanwhile.
    path: PathBuf,
    card: Card,
}

impl Drop for Model {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            terminal::warning(&format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

impl HubUploads {
    /// Starts the thread; `None` where nothing is to be uploaded.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(super) fn start(run: &RunDirectory, config: &HubConfig) -> Result<Option<Box<dyn Uploads>>> {
        let Some(repo) = config.repo.clone().filter(|_| config.upload != HubUpload::Never) else { return Ok(None) };
        let (work, stop) = (Arc::<Work>::default(), StopFlag::default());
        let (theirs, stopped) = (Arc::clone(&work), stop.clone());
        let (is_private, include_checkpoint) = (config.private, config.include_checkpoint);
        let upload = move || {
            while let Some(model) = theirs.take() {
                let publication = Publication { repo: &repo, is_private, include_checkpoint };
                match publish(&model.path, &model.card, &publication, &stopped) {
                    Ok(uploaded) => terminal::message(&format!("uploaded    {}", uploaded.url)),
                    Err(_) if stopped.is_raised() => terminal::message("upload stopped"),
                    Err(error) => terminal::warning(&format!("cannot upload the model: {}", describe(&error))),
                }
            }
        };
        let thread = Some(threads::spawn("upload", upload)?);
        Ok(Some(Box::new(Self { run: run.clone(), config: config.clone(), work, stop, thread, num_queued: 0 })))
    }

    fn queue(&mut self, checkpoint: &Path) -> Result<()> {
        let title = self.config.repo.as_deref().map_or("", repository_name);
        let card = Card::of_checkpoint(title, checkpoint);
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        self.num_queued += 1;
        // By this ending a later process knows that it is not needed any more.
        let path = self.run.path().join(upload_name(self.num_queued, &name));
        atomic_file::link_or_copy(checkpoint, &path)
            .with_context(|| format!("cannot keep a copy of {} for the upload", checkpoint.display()))?;
        self.work.put(Model { path, card });
        Ok(())
    }

    fn give_up(&self) {
        self.stop.raise();
        self.work.clear();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            terminal::warning("the upload ended unexpectedly");
        }
    }
}

impl Drop for HubUploads {
    /// A run that was stopped, or failed, does not wait.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.give_up();
            self.work.end();
            self.join();
        }
    }
}

impl Work {
    fn put(&self, model: Model) {
        // What is replaced is dropped outside of the lock.
        let _replaced = self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.replace(model);
        self.changed.notify_all();
    }

    fn clear(&self) {
        let _cleared = self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.take();
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.changed.notify_all();
    }

    /// The next model; `None` when there will be no more.
    fn take(&self) -> Option<Model> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(model) = state.waiting.take() {
                return Some(model);
            }
            if state.is_over {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Observer for HubUploads {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        let Event::Saved { point: SavePoint::Best { .. }, state } = event else { return Ok(()) };
        let Some(name) = best_file_name(state) else { return Ok(()) };
        if self.config.upload != HubUpload::Best {
            return Ok(());
        }
        let path = self.run.checkpoints().join(name);
        if let Err(error) = self.queue(&path) {
            terminal::warning(&format!("cannot upload the best model: {}", one_line(&error)));
        }
        Ok(())
    }
}

impl Uploads for HubUploads {
    fn finish(mut self: Box<Self>, best: &Path, keep_going: &mut dyn FnMut() -> bool) {
        if let Err(error) = self.queue(best) {
            terminal::warning(&format!("cannot upload the model: {}", one_line(&error)));
        }
        terminal::message("waiting for the upload; Ctrl-C cancels it");
        self.work.end();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if !keep_going() {
                self.give_up();
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.join();
    }
}
