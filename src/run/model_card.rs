//! The `README.md` of an exported model: what the Hub reads at its top, and what a person should know.

use std::path::Path;

use crate::config::{self, RunConfig};
use crate::run::captioning_model::CaptioningModel;
use crate::run::checkpoint::layout::CheckpointMetadata;

const FRONT_MATTER: &str = "---
library_name: transformers
pipeline_tag: image-to-text
tags:
- image-captioning
- vision-encoder-decoder
- caption-train
";

const USE: &str = r#"## Use

```python
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

folder = "FOLDER_OR_ID"
model = VisionEncoderDecoderModel.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

pixel_values = processor(Image.open("picture.jpg").convert("RGB"), return_tensors="pt").pixel_values
print(tokenizer.decode(model.generate(pixel_values)[0], skip_special_tokens=True))
```

or, without Python:

```sh
caption-train caption --checkpoint FOLDER_OR_ID picture.jpg
```
"#;

/// The card of `model`, headed `title`.
pub fn render(model: &CaptioningModel, title: &str) -> String {
    let (encoder, decoder) = (&model.shape.encoder, &model.shape.decoder);
    let base = model.training.as_ref().map(base_models).unwrap_or_default();
    let base_lines: String = base.iter().map(|name| format!("- {name}\n")).collect();
    let base_key = if base.is_empty() { String::new() } else { format!("base_model:\n{base_lines}") };
    let architecture = format!(
        "Describes images in one sentence: a {:?} encoder ({} px, patches of {} px, {} wide, {} layers) and a GPT-2 \
         decoder with cross-attention ({} wide, {} layers, {} heads, {} tokens, captions of at most {} tokens).\n",
        encoder.kind,
        encoder.image_size,
        encoder.patch_size,
        encoder.hidden_size,
        encoder.num_hidden_layers,
        decoder.hidden_size,
        decoder.num_layers,
        decoder.num_heads,
        decoder.vocab_size,
        model.decoding.max_new_tokens.unwrap_or(decoder.num_positions)
    );
    let training = model.training.as_ref().map(training_section).unwrap_or_default();
    format!("{FRONT_MATTER}{base_key}---\n\n# {title}\n\n{architecture}\n{USE}{training}")
}

/// The Hub's ids that the run began with.
fn base_models(training: &CheckpointMetadata) -> Vec<String> {
    let model = &training.config.model;
    let names = [&model.init_from, &model.encoder.name, &model.decoder.name];
    names.into_iter().flatten().filter(|name| is_id(name)).cloned().collect()
}

/// `owner/name`, unless that is a folder here.
fn is_id(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 && parts.iter().all(|part| is_part(part)) && !Path::new(name).exists()
}

/// The config without the paths of one machine, which are nobody else's business.
fn shared_config(training: &CheckpointMetadata) -> RunConfig {
    const LOCAL: &str = "a local folder";
    let mut config = training.config.clone();
    config.output_dir = RunConfig::default().output_dir;
    config.data.directory = None;
    config.data.source = None;
    config.tokenizer.directory = None;
    config.training.resume_from = None;
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
    let data = training.config.data.dataset.as_deref().unwrap_or("a data set of its own");
    format!(
        "\n## Training\n\n\
         Trained on {data} by {}.\n\n\
         | | |\n|---|---|\n\
         | epochs | {} |\n| updates | {} |\n\
         | training loss, nats per token | {} |\n| validation loss, nats per token | {} |\n\
         | `dataset.json`, SHA-256 | `{}` |\n\n\
         The config:\n\n```toml\n{}```\n",
        training.written_by,
        state.epoch,
        state.global_step,
        loss(state.train_loss),
        loss(state.val_loss),
        training.dataset_digest,
        config::to_toml(&shared_config(training))
    )
}
