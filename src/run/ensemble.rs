//! Models that caption together, or one alone: what `--checkpoint`, once or several times, stands for.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use candle_core::Device;

use crate::data::prompts::Prompt;
use crate::decoding::Decoding;
use crate::evaluation::captioning::{CaptionWriter, WritingModel};
use crate::run::captioning_model::CaptioningModel;
use crate::run::checkpoint::adapter_base::FindBase;
use crate::run::split_scores::EnsembleMember;
use crate::tokenizer::CaptionTokenizer;
use base::error::failure;
use base::terminal;
use pixels::image_processor::ImageProcessor;

/// Models with the same tokenizer. Whatever only one model can decide, such as settings and the prompt, is taken from the
/// first.
pub struct Ensemble {
    /// At least one.
    members: Vec<Member>,
    /// The ways in which images are processed for them, each once.
    pub processors: Vec<ImageProcessor>,
}

/// One of the models.
pub struct Member {
    /// Its checkpoint or folder.
    pub path: PathBuf,
    pub model: CaptioningModel,
    /// Which of the processors is its own.
    input: usize,
}

impl Ensemble {
    /// Opens checkpoint files and models' folders, and says what the user should know about them.
    ///
    /// # Errors
    /// As [`CaptioningModel::open_with`]; models with different tokenizers.
    pub fn open(paths: &[PathBuf], device: &Device, find: &FindBase<'_>) -> Result<Self> {
        let (mut members, mut processors): (Vec<Member>, Vec<ImageProcessor>) = (Vec::new(), Vec::new());
        for path in paths {
            let model = CaptioningModel::open_with(path, device, find)?;
            model.notes.iter().for_each(|note| terminal::message(note));
            if let Some(first) = members.first()
                && let Some(difference) = first.model.tokenizer.difference(&model.tokenizer)
            {
                return Err(failure(
                    format!("{} and {} cannot caption together: {difference}", first.path.display(), path.display()),
                    "models caption together if they were trained with the same tokenizer, which tokenizer.directory \
                     gives a run",
                ));
            }
            let input = processors.iter().position(|known| *known == model.processor).unwrap_or_else(|| {
                processors.push(model.processor.clone());
                processors.len() - 1
            });
            members.push(Member { path: path.clone(), model, input });
        }
        if members.is_empty() {
            bail!("no model was given");
        }
        Ok(Self { members, processors })
    }

    /// In the order in which they were given.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn first(&self) -> &CaptioningModel {
        &self.members[0].model
    }

    /// The only model's checkpoint or folder; `None` where there are several.
    pub fn path_of_one(&self) -> Option<&Path> {
        match &self.members[..] {
            [one] => Some(&one.path),
            _ => None,
        }
    }

    pub fn tokenizer(&self) -> &CaptionTokenizer {
        &self.first().tokenizer
    }

    /// Positions that the decoders of all have.
    pub fn num_positions(&self) -> usize {
        self.members.iter().map(|member| member.model.shape.decoder.num_positions()).min().unwrap_or(0)
    }

    /// The prompt of the run that trained the first model. A warning says so where other models had another.
    pub fn prompt_of_run(&self) -> Option<&str> {
        let prompt = self.first().prompt_of_run();
        if let Some(other) = self.members.iter().find(|member| member.model.prompt_of_run() != prompt) {
            let shown = |prompt: Option<&str>| prompt.map_or_else(|| "none".to_owned(), |prompt| format!("{prompt:?}"));
            terminal::warning(&format!(
                "{} was trained with another prompt ({}) than the one that is used ({}); --prompt sets it",
                other.path.display(),
                shown(other.model.prompt_of_run()),
                shown(prompt)
            ));
        }
        prompt
    }

    /// `text` as a prompt, or [`Self::prompt_of_run`] where there is none.
    ///
    /// # Errors
    /// As [`Prompt::new`].
    pub fn prompt(&self, text: Option<&str>) -> Result<Prompt> {
        let text = text.or_else(|| self.prompt_of_run()).unwrap_or_default();
        Prompt::new(text, self.tokenizer(), self.num_positions())
    }

    /// A writer whose inputs are the images as each of the processors makes them.
    pub fn writer(&self, decoding: Decoding) -> CaptionWriter<'_> {
        let models = self
            .members
            .iter()
            .map(|Member { model, input, .. }| WritingModel { model: &model.captioner, input: *input });
        CaptionWriter { models: models.collect(), tokenizer: self.tokenizer(), decoding }
    }

    /// What files with scores say of each model; nothing of one alone.
    pub fn origins(&self) -> Vec<EnsembleMember> {
        let members = self.members.iter().filter(|_| self.members.len() > 1);
        let origin = |Member { path, model, .. }: &Member| {
            let training = model.training.as_ref();
            EnsembleMember {
                checkpoint: path.to_string_lossy().into_owned(),
                epoch: training.map(|training| training.state.epoch),
                step: training.map(|training| training.state.global_step),
                tensors_digest: training.map(|training| training.tensors_digest.clone()),
            }
        };
        members.map(origin).collect()
    }
}
