//! The `README.md` of an exported model: what the Hub reads at its top, and what a person should know.

use std::path::Path;

use crate::config;
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
        model.max_new_tokens
    );
    let training = model.training.as_ref().map(training_section).unwrap_or_default();
    format!("{FRONT_MATTER}{base_key}---\n\n# {title}\n\n{architecture}\n{USE}{training}")
}

/// The Hub's ids that the run began with; a local folder is nobody else's business.
fn base_models(training: &CheckpointMetadata) -> Vec<String> {
    let model = &training.config.model;
    let names = [&model.init_from, &model.encoder.name, &model.decoder.name];
    let is_id = |name: &&String| {
        let looks_local = Path::new(name.as_str()).is_absolute() || name.starts_with('.') || name.ends_with('/');
        !looks_local && name.matches('/').count() <= 1 && !Path::new(name.as_str()).exists()
    };
    names.into_iter().flatten().filter(is_id).cloned().collect()
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
        config::to_toml(&training.config)
    )
}
