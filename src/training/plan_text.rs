//! What is printed of a plan: its lines and its warnings.

use crate::config::{BatchBy, BestMetric, EncoderTraining, Precision};
use crate::training::plan::{ImagePath, RunPlan};
use metrics::cider::FEW_IMAGES;

impl RunPlan {
    /// What the user should know before the run starts.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let warmup = self.config.schedule.warmup_steps as u64;
        if warmup >= self.total_updates {
            warnings.push(format!(
                "schedule.warmup_steps is {warmup} and the run has {} updates: the learning rate never reaches its peak",
                self.total_updates
            ));
        }
        if self.config.training.batch_size > self.counts.train_examples {
            warnings.push(format!(
                "training.batch_size is {} and there are {} training pairs: every batch is the whole data set",
                self.config.training.batch_size, self.counts.train_examples
            ));
        }
        warnings.extend(self.counts.captions.warning());
        warnings.extend(self.cider_complaint());
        let encoder = &self.config.model.encoder;
        if !encoder.pretrained && encoder.train == EncoderTraining::Frozen {
            warnings.push(
                "the encoder is random and is not trained: set model.encoder.train = \"full\" to train it".to_owned(),
            );
        }
        warnings
    }

    /// What is trained of an adapter, and what that saves.
    fn adapter_line(&self) -> Option<String> {
        let lora = self.config.model.lora.as_ref()?;
        let parts = match (lora.encoder, lora.decoder) {
            (true, true) => "encoder and decoder",
            (true, false) => "the encoder",
            (false, _) => "the decoder",
        };
        // A gradient and two moments.
        let gigabytes = |values: usize| (3 * size_of::<f32>() * values) as f64 / base::GIGABYTE;
        Some(format!(
            "lora        rank {}, alpha {}, in {} layers of {parts}; gradients and moments take {:.3} GB, those of all \
             parameters {:.3} GB",
            lora.rank,
            lora.alpha,
            self.num_adapted_layers,
            gigabytes(self.num_trainable_parameters),
            gigabytes(self.num_parameters)
        ))
    }

    /// Why the CIDEr-D of this run's validations means little or nothing.
    fn cider_complaint(&self) -> Option<String> {
        self.config.evaluation.metrics_interval?;
        let decides = self.config.training.best_metric == BestMetric::Cider;
        let key = if decides { "training.best_metric is \"cider\", and" } else { "in validations" };
        let way_out = if decides { "set it to \"val_loss\", or validate" } else { "validate" };
        let images = self.counts.val_images;
        if self.counts.val_references <= 1 {
            let of = if images == 1 { "one validation image" } else { "validation images that share their references" };
            let never = if decides { ", so that no epoch is better than the first" } else { "" };
            return Some(format!("{key} CIDEr-D of {of} is 0 by definition{never}: {way_out} on more images"));
        }
        (images < FEW_IMAGES).then(|| {
            format!(
                "{key} CIDEr-D of {images} validation images says little, since their references weigh its n-grams: \
                 {way_out} on more images"
            )
        })
    }

    /// The plan as lines to print.
    pub fn describe(&self) -> String {
        let (encoder, decoder) = (&self.shape.encoder, &self.shape.decoder);
        let training = &self.config.training;
        let images = match self.image_path {
            ImagePath::EncodedOnce => "frozen, each image encoded once",
            ImagePath::EncodedEachTime => "frozen, run in every update",
            ImagePath::Trained if self.config.model.lora.as_ref().is_some_and(|lora| lora.encoder) => {
                "adapted, run in every update"
            }
            ImagePath::Trained => "trained",
        };
        let cached = self.cache_bytes();
        let cache = if cached == 0 {
            "none".to_owned()
        } else {
            format!("{:.2} GB on disk in {}", cached as f64 / base::GIGABYTE, self.cache_folder().display())
        };
        let mut lines = vec![
            format!(
                "data        {} images with {} captions for training, {} with {} for validation",
                self.counts.train_images, self.counts.train_examples, self.counts.val_images, self.counts.val_examples
            ),
            format!(
                "encoder     {}, {} px, {} patches of {} px, {} wide, {} layers; {images}",
                encoder.family(),
                encoder.image_size(),
                encoder.grid() * encoder.grid(),
                encoder.patch_size(),
                encoder.hidden_size(),
                encoder.num_layers()
            ),
            format!("cache       {cache}"),
            format!(
                "decoder     {} wide, {} layers, {} heads, {} tokens, captions of at most {} tokens, dropout {}",
                decoder.hidden_size(),
                decoder.num_layers(),
                decoder.num_heads(),
                decoder.vocab_size(),
                self.config.model.decoder.max_seq_len,
                decoder.dropout()
            ),
        ];
        let weightless = self.counts.train_weightless;
        if weightless > 0 {
            lines.push(format!("weights     {weightless} more training captions have weight 0 and are not trained on"));
        }
        if let Some(prompt) = &self.config.data.prompt {
            lines.push(format!("prompt      {prompt:?} before captions that have none of their own"));
        }
        lines.extend(self.counts.captions.note().map(|text| format!("captions    {text}")));
        lines.extend(self.adapter_line());
        lines.extend([
            format!(
                "parameters  {}, of which {} are trained; matrix products in {}{}",
                self.num_parameters,
                self.num_trainable_parameters,
                match training.precision {
                    Precision::F32 => "f32",
                    Precision::Bf16 => "bf16",
                    Precision::Tf32 => "tf32",
                },
                self.gpu.as_ref().map_or(String::new(), |gpu| format!(" on {gpu}"))
            ),
            format!(
                "updates     {} x {} epochs of {} {} ({} x {}), {}",
                self.updates_per_epoch,
                training.num_epochs,
                training.batch_size * training.gradient_accumulation_steps,
                if training.scst.is_some() { "images" } else { "pairs" },
                training.batch_size,
                training.gradient_accumulation_steps,
                match self.batch_by {
                    BatchBy::Pair => "pair by pair",
                    BatchBy::Image => "image by image",
                }
            ),
        ]);
        if let Some(scst) = &training.scst {
            lines.push(format!(
                "rewards     CIDEr-D with the end as a word, of {} captions sampled of each image ({})",
                scst.samples,
                scst.reward_signature()
            ));
        }
        if self.num_processes > 1 {
            lines.push(format!(
                "processes   {}, each with {} of the {} parts of a batch, {}",
                self.num_processes,
                self.num_parts.div_ceil(self.num_processes),
                self.num_parts,
                match self.gpu {
                    Some(_) => "on a GPU of its own".to_owned(),
                    None => format!("in {} threads", self.num_pools * self.threads_each),
                }
            ));
        }
        lines.join("\n")
    }

    /// What each of the processes of the plan would compute and send, as lines to print.
    pub fn share_of_each(&self) -> String {
        let (fewest, most) = self.pairs_of_each();
        let pairs = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
        format!(
            "processes   {count} on machines like this one: each computes {pairs} of the {} pairs of a batch, {} of its {} \
             parts, in {} threads;\n            \
             in an update each sends {:.2} MB, to add up {:.2} MB of gradients: `mpirun -n {count} caption-train plan` \
             measures the time",
            self.config.training.batch_size,
            self.num_parts.div_ceil(self.num_processes),
            self.num_parts,
            self.num_pools * self.threads_each,
            self.bytes_sent() as f64 / 1e6,
            (size_of::<f32>() * self.num_trainable_parameters) as f64 / 1e6,
            count = self.num_processes,
        )
    }
}
