//! What the processes of a run must have in common, compared before the first update.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::config::{self, RunConfig};
use crate::data::example_list::ExampleList;
use crate::run::setup::Setup;
use crate::training::collective::{AnotherFailed, Collective};
use base::digest::{self, Hasher};
use base::error::failure;
use base::system_usage::processor_name;
use base::terminal;

/// A fact, by the name that an error gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fact {
    name: String,
    value: String,
    /// What to do about a difference.
    hint: String,
}

/// Compares what the processes are going to do.
///
/// # Errors
/// A process that has something else than the main one, by name; [`AnotherFailed`] in all processes but the main one.
pub fn check(setup: &Setup, collective: &dyn Collective, written_by: &str) -> Result<()> {
    if collective.size() == 1 {
        return Ok(());
    }
    let processor = processor_name().unwrap_or_default();
    let own = serde_json::to_vec(&(facts(setup, written_by)?, processor))?;
    let all: Vec<(Vec<Fact>, String)> = collective
        .gather(&own)?
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).context("the facts that another process sent"))
        .collect::<Result<_>>()?;
    let Some(((expected, processor), others)) = all.split_first() else { return Ok(()) };
    for (index, (found, _)) in others.iter().enumerate() {
        let Some((expected, found)) = expected.iter().zip(found).find(|(expected, found)| expected != found) else {
            continue;
        };
        let message = format!(
            "process {} has another {} than process 0: expected {}, found {}",
            index + 1,
            expected.name,
            expected.value,
            found.value
        );
        // Once is enough.
        return Err(if collective.is_main() {
            failure(message, &expected.hint)
        } else {
            AnotherFailed(message).into()
        });
    }
    if let Some((_, other)) = others.iter().find(|(_, other)| other != processor) {
        terminal::warning(&format!(
            "the processes run on different processors ({processor}; {other}): another distribution of the work may give \
             other last digits"
        ));
    }
    Ok(())
}

fn facts(setup: &Setup, written_by: &str) -> Result<Vec<Fact>> {
    let fact = |name: &str, value: String, hint: &str| Fact { name: name.to_owned(), value, hint: hint.to_owned() };
    let plan = &setup.plan;
    let program = std::env::current_exe().ok().and_then(|path| digest::sha256_file(&path).ok()).unwrap_or_default();
    Ok(vec![
        fact("version of the program", written_by.to_owned(), "install the same binary on all machines"),
        fact("binary (SHA-256)", program, "install the same binary on all machines"),
        fact("number of processes", plan.num_processes.to_string(), "start all processes with one mpirun or srun"),
        fact(
            "number of parts of a batch (training.parts)",
            plan.num_parts.to_string(),
            "set training.parts, or give all processes as many threads",
        ),
        fact("config", common(&plan.config), "give all processes the same config file and the same --set"),
        fact(
            "data set (SHA-256 of its captions and images)",
            setup.dataset.digest.clone(),
            "copy the data set from one machine to the others, or prepare it from the same source",
        ),
        fact(
            "captions as tokens (SHA-256)",
            digest_of_examples([&setup.train, &setup.val]),
            "give all machines the same tokenizer: tokenizer.directory",
        ),
        fact(
            "parameters (SHA-256)",
            digest_of_parameters(setup)?,
            "give all machines the same model folders and checkpoints",
        ),
    ])
}

/// The config without what may differ from machine to machine.
fn common(config: &RunConfig) -> String {
    let mut config = config.clone();
    config.output_dir = Path::new("").to_owned();
    config.name = None;
    config.data.directory = None;
    config.data.source = None;
    config.data.shards = Vec::new();
    config.data.cache_directory = None;
    config.data.workers = None;
    config.tokenizer.directory = None;
    config.training.device = String::new();
    config.training.resume_from = None;
    config.evaluation.meteor_resources = None;
    config.model.init_from = None;
    config.model.encoder.name = None;
    config.model.decoder.name = None;
    config::to_toml(&config)
}

fn digest_of_examples(splits: [&ExampleList; 2]) -> String {
    let mut hasher = Hasher::new();
    for example in splits.into_iter().flat_map(ExampleList::iter) {
        hasher.update(bytemuck::cast_slice(&[example.image as u64, example.prompt_length as u64]));
        hasher.update(bytemuck::bytes_of(&example.weight));
        hasher.update(bytemuck::cast_slice(&example.tokens));
    }
    hasher.finish()
}

fn digest_of_parameters(setup: &Setup) -> Result<String> {
    let mut hasher = Hasher::new();
    for (name, parameter) in setup.parameters.iter() {
        hasher.update(name.as_bytes());
        let values: Vec<f32> = parameter.var.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        hasher.update(bytemuck::cast_slice(&values));
    }
    Ok(hasher.finish())
}
