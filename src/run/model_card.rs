//! The `README.md` of an exported model: what the Hub reads at its top, and what its users should know.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::{self, DecodingConfig, RunConfig};
use crate::hf::layouts::Layout;
use crate::run::captioning_model::CaptioningModel;
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::markdown::plain as plain_markdown;
use crate::run::report::{read_scores, sample_captions};
use crate::run::run_directory::RunDirectory;
use base::{quoting, visible};
use report::SplitScores;

const FRONT_MATTER: &str = "---
library_name: transformers
pipeline_tag: image-to-text
tags:
- image-captioning
- LAYOUT
- caption-train
";

const WITHOUT_PYTHON: &str = "or, without Python:

```sh
caption-train caption --checkpoint FOLDER_OR_ID OPTIONS picture.jpg
```
";

/// What a card says beside what the model says of itself.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Its heading.
    pub title: String,
    /// What the model's captions of a split are worth.
    pub scores: Vec<SplitScores>,
    /// Some of them: file, caption, and a reference.
    pub samples: Vec<[String; 3]>,
}

impl Card {
    /// That of a checkpoint: with the scores in its run's folder that are its own, as far as there are any.
    pub fn of_checkpoint(title: &str, checkpoint: &Path) -> Self {
        let mut card = Self { title: title.to_owned(), ..Self::default() };
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let Some(run) = RunDirectory::of_checkpoint(checkpoint) else { return card };
        let scores = read_scores(&run).unwrap_or_default();
        card.scores = scores.into_iter().filter(|scores| scores.checkpoint == name).collect();
        if let Some(scores) = card.scores.first() {
            card.samples = sample_captions(&run, &scores.split).unwrap_or_default();
        }
        card
    }
}

/// The card of `model`, which writes captions as `decoding` says.
pub fn render(model: &CaptioningModel, layout: &Layout, decoding: &DecodingConfig, card: &Card) -> String {
    let title = plain_markdown(&card.title);
    let (encoder, decoder) = (&model.shape.encoder, &model.shape.decoder);
    let base = model.training.as_ref().map(base_models).unwrap_or_default();
    let base_lines: String = base.iter().map(|name| format!("- {}\n", yaml_string(name))).collect();
    let base_key = if base.is_empty() { String::new() } else { format!("base_model:\n{base_lines}") };
    let architecture = format!(
        "Describes images in one sentence: a {} encoder ({} px, patches of {} px, {} wide, {} layers) and a {} \
         decoder with cross-attention ({} wide, {} layers, {} heads, {} tokens, captions of at most {} tokens).\n",
        encoder.family(),
        encoder.image_size(),
        encoder.patch_size(),
        encoder.hidden_size(),
        encoder.num_layers(),
        decoder.family(),
        decoder.hidden_size(),
        decoder.num_layers(),
        decoder.num_heads(),
        decoder.vocab_size(),
        decoding.max_new_tokens.unwrap_or(decoder.num_positions())
    );
    let prompt = model.prompt_of_run().map(str::trim).filter(|prompt| !prompt.is_empty());
    let continued = prompt.map_or_else(String::new, |prompt| {
        format!("\nIts captions continue the prompt \"{}\": {}.\n", plain_markdown(prompt), layout.prompt_way)
    });
    let training = model.training.as_ref().map(training_section).unwrap_or_default();
    let dataset = model.training.as_ref().and_then(|training| training.config.data.dataset.as_deref());
    let index = model_index(card, dataset.unwrap_or("a data set of its own"));
    let scores = scores_section(card);
    let body = format!("# {title}\n\n{architecture}{continued}\n{}{scores}{training}", usage(layout, prompt));
    let front_matter = FRONT_MATTER.replace("LAYOUT", layout.model_type);
    format!("{front_matter}{base_key}{index}---\n\n{}", visible::lines(&body))
}

/// How a picture is captioned, after the prompt of the run.
fn usage(layout: &Layout, prompt: Option<&str>) -> String {
    let (python, without) = match prompt {
        None => (layout.python.to_owned(), WITHOUT_PYTHON.replace("OPTIONS ", "")),
        Some(prompt) => (
            layout.python_with_prompt.replace("PROMPT", &quoting::python_string(Path::new(prompt))),
            WITHOUT_PYTHON.replace("OPTIONS", &format!("--prompt {}", quoting::shell_word(prompt))),
        ),
    };
    format!("## Use\n\n```python\n{python}```\n\n{without}")
}

/// The scores as the Hub reads them.
fn model_index(card: &Card, dataset: &str) -> String {
    if card.scores.is_empty() {
        return String::new();
    }
    let mut lines =
        vec!["model-index:".to_owned(), format!("- name: {}", yaml_string(&card.title)), "  results:".to_owned()];
    for scores in &card.scores {
        lines.push("  - task:".to_owned());
        lines.push("      type: image-to-text".to_owned());
        lines.push("    dataset:".to_owned());
        lines.push(format!("      name: {}", yaml_string(dataset)));
        lines.push(format!("      type: {}", yaml_string(dataset)));
        lines.push(format!("      split: {}", yaml_string(&scores.split)));
        lines.push("    metrics:".to_owned());
        for row in &scores.rows {
            lines.push(format!("    - type: {}", yaml_string(&row.name.to_lowercase())));
            lines.push(format!("      name: {}", yaml_string(&row.name)));
            lines.push(format!("      value: {:.4}", row.value));
        }
    }
    lines.join("\n") + "\n"
}

/// A JSON text is a YAML text too, whatever is in it.
fn yaml_string(text: &str) -> String {
    visible::json(&serde_json::Value::from(text).to_string()).into_owned()
}

fn scores_section(card: &Card) -> String {
    let mut text = String::new();
    for scores in &card.scores {
        let _ = write!(
            text,
            "\n## Scores of the split {}\n\n| | | {:.0} % of resamples |\n|---|---|---|\n",
            plain_markdown(&scores.split),
            100.0 * scores.confidence
        );
        for row in &scores.rows {
            let interval = row.interval.map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
            let _ = writeln!(text, "| {} | {:.3} | {interval} |", plain_markdown(&row.name), row.value);
        }
        for note in &scores.notes {
            let _ = write!(text, "\n{}.\n", plain_markdown(note));
        }
        let _ = write!(text, "\n`{}`\n", scores.signature.replace('`', "'"));
    }
    if !card.samples.is_empty() {
        text.push_str("\n## Some of its captions\n\n| image | model | reference |\n|---|---|---|\n");
        for sample in &card.samples {
            let [image, caption, reference] = sample.each_ref().map(|text| plain_markdown(text));
            let _ = writeln!(text, "| {image} | {caption} | {reference} |");
        }
    }
    text
}

/// The Hub's ids that the run began with.
fn base_models(training: &CheckpointMetadata) -> Vec<String> {
    let model = &training.config.model;
    let names = [&model.init_from, &model.encoder.name, &model.decoder.name];
    names.into_iter().flatten().filter(|name| is_id(name)).cloned().collect()
}

/// `owner/name` as the Hub has them, unless that is a folder here.
fn is_id(name: &str) -> bool {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed);
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 && parts.iter().all(|part| is_part(part)) && !Path::new(name).exists()
}

/// The config without the paths of this machine, which are private.
fn shared_config(training: &CheckpointMetadata) -> RunConfig {
    const LOCAL: &str = "a local folder";
    let mut config = training.config.clone();
    config.output_dir = RunConfig::default().output_dir;
    config.data.directory = None;
    config.data.source = None;
    config.data.cache_directory = None;
    config.evaluation.meteor_resources = None;
    config.tokenizer.directory = None;
    config.training.resume_from = None;
    config.tracking = RunConfig::default().tracking;
    config.hub = RunConfig::default().hub;
    let model = &mut config.model;
    for name in [&mut model.init_from, &mut model.encoder.name, &mut model.decoder.name].into_iter().flatten() {
        if !is_id(name) {
            LOCAL.clone_into(name);
        }
    }
    config
}

fn training_section(training: &CheckpointMetadata) -> String {
    let state = &training.state;
    let loss = |loss: Option<f64>| loss.map_or("not measured".to_owned(), |loss| format!("{loss:.4}"));
    let data = plain_markdown(training.config.data.dataset.as_deref().unwrap_or("a data set of its own"));
    let average = match training.average_of.len() {
        0 => String::new(),
        count => format!("| checkpoints of which the weights are the mean | {count} |\n"),
    };
    let config = config::to_toml(&shared_config(training));
    // A text of the config must not end the block that shows it.
    let fence = "`".repeat(3.max(1 + longest_run(&config, '`')));
    format!(
        "\n## Training\n\n\
         Trained on {data} by {}.\n\n\
         | | |\n|---|---|\n\
         | epochs | {} |\n| updates | {} |\n{average}\
         | training loss, nats per token | {} |\n| validation loss, nats per token | {} |\n\
         | `dataset.json`, SHA-256 | `{}` |\n\n\
         The config, which `caption-train --config FILE` trains:\n\n{fence}toml\n{config}{fence}\n",
        plain_markdown(&training.written_by),
        state.epoch,
        state.global_step,
        loss(state.train_loss),
        loss(state.val_loss),
        training.dataset_digest.replace('`', "'"),
    )
}

/// The most characters of this kind that stand side by side.
fn longest_run(text: &str, wanted: char) -> usize {
    text.split(|character| character != wanted).map(|run| run.chars().count()).max().unwrap_or(0)
}
