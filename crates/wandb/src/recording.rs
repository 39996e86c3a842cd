//! A run that is being written: rows come together, go to the log once, and the end is waited for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::offline::LocalRun;
use super::records::Part;
use super::row::{self, Item, Tree};
use super::seen::Seen;
use super::shared::{Finish, Shared};
use super::surroundings::{Surroundings, Tone};
use base::quoting::shell_path;

/// How long a run that did not end well waits without progress.
const PATIENCE_OF_A_STOP: Duration = Duration::from_secs(10);

/// What there is of a run that is not disabled.
pub(super) struct Recording {
    pub(super) local: LocalRun,
    pub(super) seen: Seen,
    pub(super) summary: Tree,
    /// The row of the newest step: values of one step come in several calls and make one row.
    pub(super) pending: Option<Pending>,
    /// When the run would have begun had it run without a break.
    pub(super) started: f64,
    pub(super) surroundings: Surroundings,
    pub(super) is_silent: bool,
    /// What the thread shares, where there is one.
    pub(super) shared: Option<Arc<Shared>>,
}

pub(super) struct Pending {
    step: u64,
    time: f64,
    values: Map<String, Value>,
}

impl Recording {
    /// Tells the address of the run's page, where the server gives it soon.
    pub(super) fn greet(&self) {
        let Some(shared) = &self.shared else { return };
        if let Some(url) = shared.wait_for_connection(self.surroundings.pace.connect_wait) {
            self.say(Tone::Message, &format!("Weights & Biases: {url}"));
        }
    }

    fn say(&self, tone: Tone, text: &str) {
        if tone == Tone::Warning || !self.is_silent {
            (self.surroundings.say)(tone, text);
        }
    }

    /// Whether a value is to come into the history.
    pub(super) fn takes(&self, step: u64, key: &str) -> bool {
        self.pending.as_ref().is_none_or(|pending| pending.step <= step) && self.seen.is_new(step, key)
    }

    /// Adds values to the row of a step.
    pub(super) fn log(&mut self, step: u64, values: &Map<String, Value>) -> anyhow::Result<()> {
        let new: Vec<_> = values.iter().filter(|(key, _)| self.takes(step, key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        if self.pending.as_ref().is_some_and(|pending| pending.step != step) {
            self.commit()?;
        }
        let new: Vec<(String, Value)> = new.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let time = (self.surroundings.clock)();
        let pending = self.pending.get_or_insert_with(|| Pending { step, time, values: Map::new() });
        pending.values.extend(new);
        Ok(())
    }

    /// Writes the row that waits.
    pub(super) fn commit(&mut self) -> anyhow::Result<()> {
        let Some(Pending { step, time, values }) = self.pending.take() else { return Ok(()) };
        let mut items = row::items(&values);
        let seconds = (time - self.started).max(0.0);
        for (key, value) in [("_step", json!(step)), ("_timestamp", json!(time)), ("_runtime", json!(seconds))] {
            items.push(Item::new(key, &value));
        }
        // Before the history, as in the official client: no row is then without its summary.
        self.summarize(items.clone())?;
        self.write(&Part::History { step, items })?;
        self.seen.note(step, values.keys().map(String::as_str));
        Ok(())
    }

    /// Sets values of the summary.
    pub(super) fn summarize(&mut self, items: Vec<Item>) -> anyhow::Result<()> {
        items.iter().for_each(|item| self.summary.set(item));
        self.write(&Part::Summary(items))
    }

    /// Adds a record to the log.
    pub(super) fn write(&mut self, part: &Part) -> anyhow::Result<()> {
        self.local.write(part)?;
        self.publish();
        Ok(())
    }

    /// Tells the thread how far the log reaches.
    pub(super) fn publish(&self) {
        if let Some(shared) = &self.shared {
            shared.publish(self.local.position());
        }
    }

    /// Writes the end and waits for the thread.
    pub(super) fn finish(mut self, code: i32) -> anyhow::Result<()> {
        self.commit()?;
        let seconds = ((self.surroundings.clock)() - self.started).max(0.0) as u64;
        let runtime = Item { path: vec!["_wandb".to_owned(), "runtime".to_owned()], json: seconds.to_string() };
        self.summarize(vec![runtime])?;
        self.local.write_file("wandb-summary.json", self.summary.to_json().as_bytes())?;
        self.write(&Part::Exit { code, seconds })?;
        self.local.sync()?;
        // Whoever stops a run may end it by force soon.
        let patience = self.surroundings.pace.finish_wait;
        let patience = if code == 0 { patience } else { patience.min(PATIENCE_OF_A_STOP) };
        let sync = format!("`wandb sync {}`", shell_path(self.local.folder()));
        match &self.shared {
            None => self.say(Tone::Message, &format!("Weights & Biases: send the run with {sync}")),
            // It has said so when it ended.
            Some(shared) if shared.is_over() => {}
            Some(shared) if shared.finish(patience) != Finish::Unanswered => {}
            Some(_) => {
                self.say(Tone::Warning, &format!("Weights & Biases does not answer; send what is missing with {sync}"));
            }
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A destructor has nobody to tell of a failure.
        let _ = self.commit();
        if let Some(shared) = &self.shared {
            shared.abandon();
        }
    }
}
