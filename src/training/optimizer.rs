//! AdamW over the trainable parameters, with a learning-rate factor and a weight decay for each.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use candle_core::Tensor;

use crate::config::{DecayScope, OptimizerConfig};
use crate::model::captioner::CaptionerShape;
use crate::model::parameters::Parameters;
use crate::model::role::{Kind, Part, Role};
use crate::training::gradients::Gradients;
use ops::{PendingUpdate, UpdateRule, UpdatedParameter, Updater};

/// The two moments of one parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Running mean of the gradient.
    pub exp_avg: Tensor,
    /// Running mean of its square.
    pub exp_avg_sq: Tensor,
}

/// How one parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Factor on the scheduled learning rate.
    pub learning_rate_factor: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// AdamW as `torch.optim.AdamW`.
#[derive(Debug)]
pub struct Optimizer {
    moments: BTreeMap<String, Moments>,
    groups: BTreeMap<String, Group>,
    betas: [f64; 2],
    eps: f64,
    /// Number of updates, without skipped ones.
    step: u64,
    updater: Updater,
}

impl Optimizer {
    /// An optimizer before its first update.
    ///
    /// # Errors
    /// A device without memory for the moments.
    pub fn new(parameters: &Parameters, shape: &CaptionerShape, config: &OptimizerConfig) -> anyhow::Result<Self> {
        let mut moments = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for (name, parameter) in parameters.iter().filter(|(_, parameter)| parameter.trainable) {
            let zeros = || parameter.var.zeros_like();
            moments.insert(name.to_owned(), Moments { exp_avg: zeros()?, exp_avg_sq: zeros()? });
            groups.insert(name.to_owned(), group_of(parameter.role, shape.encoder.num_layers(), config));
        }
        Ok(Self { moments, groups, betas: config.betas, eps: config.eps, step: 0, updater: Updater::new(0) })
    }

    /// An optimizer with the moments and the number of updates of a checkpoint.
    ///
    /// # Errors
    /// Moments that are missing, left over or of another shape.
    pub fn restore(&mut self, mut moments: BTreeMap<String, Moments>, step: u64) -> anyhow::Result<()> {
        for (name, own) in &mut self.moments {
            let found = moments.remove(name).with_context(|| format!("the optimizer moments of {name} are missing"))?;
            for tensor in [&found.exp_avg, &found.exp_avg_sq] {
                if tensor.dims() != own.exp_avg.dims() {
                    bail!(
                        "the moments of {name}: expected the shape {:?}, found {:?}",
                        own.exp_avg.dims(),
                        tensor.dims()
                    );
                }
            }
            let device = own.exp_avg.device();
            *own =
                Moments { exp_avg: found.exp_avg.to_device(device)?, exp_avg_sq: found.exp_avg_sq.to_device(device)? };
        }
        if let Some(name) = moments.keys().next() {
            bail!("the optimizer moments of {name} belong to no trained parameter");
        }
        self.step = step;
        self.updater = Updater::new(step);
        Ok(())
    }

    /// Performs one update, or none if a loss or a gradient is not finite. `learning_rate` is the scheduled one;
    /// gradients are scaled down to the 2-norm `max_grad_norm`.
    ///
    /// # Errors
    /// A trainable parameter without a gradient.
    pub fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        losses: &[Tensor],
        learning_rate: f64,
        max_grad_norm: Option<f64>,
    ) -> anyhow::Result<PendingUpdate> {
        let mut updated = Vec::with_capacity(self.moments.len());
        for (name, var) in parameters.trainable() {
            let moments = self.moments.get(name).with_context(|| format!("no moments for {name}"))?;
            let group = self.groups.get(name).with_context(|| format!("no group for {name}"))?;
            updated.push(UpdatedParameter {
                parameter: var.as_tensor(),
                grad: gradients.get(name)?,
                exp_avg: &moments.exp_avg,
                exp_avg_sq: &moments.exp_avg_sq,
                learning_rate: learning_rate * group.learning_rate_factor,
                weight_decay: group.weight_decay,
            });
        }
        let rule = UpdateRule { betas: self.betas, eps: self.eps, max_grad_norm };
        Ok(self.updater.update(&updated, losses, &rule)?)
    }

    /// Records the number of updates, as the last one reported it.
    pub(crate) fn note_steps(&mut self, steps: u64) {
        self.step = steps;
    }

    /// Number of updates whose reports have been read.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The moments, in the order of the parameters' names.
    pub fn moments(&self) -> impl Iterator<Item = (&str, &Moments)> {
        self.moments.iter().map(|(name, moments)| (name.as_str(), moments))
    }
}

/// How a parameter is updated, in a model whose encoder has `num_blocks` blocks.
pub fn group_of(role: Role, num_blocks: usize, config: &OptimizerConfig) -> Group {
    let learning_rate_factor = match role.part {
        Part::Encoder => {
            let rate = config.encoder_learning_rate.unwrap_or(config.learning_rate) / config.learning_rate;
            let above = num_blocks + 1 - role.depth;
            rate * config.layer_decay.powi(i32::try_from(above).unwrap_or(i32::MAX))
        }
        Part::Projection | Part::Decoder => 1.0,
    };
    let decays = config.decay == DecayScope::All || matches!(role.kind, Kind::Weight | Kind::Embedding | Kind::Adapter);
    Group { learning_rate_factor, weight_decay: if decays { config.weight_decay } else { 0.0 } }
}
