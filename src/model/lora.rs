//! LoRA: dense layers stay as they are, and beside each of those that are targeted a product of low rank is trained.
//!
//! The layer NAME with the weight `NAME.weight` gets `NAME.lora_A.weight` (R, in) and `NAME.lora_B.weight` (out, R), as
//! PEFT names them. The builder puts them beside the weight; the layers do not know of them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use regex_automata::hybrid::regex::Regex;
use serde::{Deserialize, Serialize};

use crate::model::initialization::Initializer;
use crate::model::role::{Kind, ParameterSpec, Part, Role};
use base::error::usage_error;
use ops::WeightLayout;

/// End of the name of A, (R, in), after that of its layer.
pub const DOWN: &str = ".lora_A.weight";
/// End of the name of B, (out, R), after that of its layer.
pub const UP: &str = ".lora_B.weight";
const WEIGHT: &str = ".weight";

/// Query and value of the attentions, as the families name them; where a layer makes keys too, that layer.
const DEFAULT_TARGETS: [&str; 7] = ["query", "value", "q_proj", "v_proj", "qkv", "c_attn", "q_attn"];

/// Section `[model.lora]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// R, the rank of what is added to a weight: 1 to 1024.
    pub rank: usize,
    /// What is added is scaled by this over the rank.
    pub alpha: f64,
    /// Scale by `alpha` over the root of the rank.
    pub use_rslora: bool,
    /// Dropout of the input of A: 0 to below 1.
    pub dropout: f64,
    /// The layers: a list of ends of their names, or one regular expression for whole names. Absent: the queries and
    /// values of all attentions.
    pub targets: Option<Targets>,
    /// Whether layers of the encoder are adapted.
    pub encoder: bool,
    /// Whether layers of the decoder are adapted, and of a projection that comes with it.
    pub decoder: bool,
}

/// Which layers are adapted, as `target_modules` of PEFT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// Ends of names: `c_attn` is `h.0.attn.c_attn`, and not `h.0.attn.xc_attn`.
    Ends(Vec<String>),
    /// A regular expression for the whole name.
    Expression(String),
}

impl Default for LoraConfig {
    fn default() -> Self {
        let (rank, alpha, dropout) = (8, 16.0, 0.0);
        Self { rank, alpha, use_rslora: false, dropout, targets: None, encoder: true, decoder: true }
    }
}

impl LoraConfig {
    /// The factor on B(A(x)).
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Whether layers of this part are adapted.
    pub fn adapts(&self, part: Part) -> bool {
        match part {
            Part::Encoder => self.encoder,
            Part::Projection | Part::Decoder => self.decoder,
        }
    }

    /// The parameters that the adapter adds to those of a model. `is_frozen` says which of these are not trained
    /// themselves: only beside such a one is there anything to train.
    ///
    /// # Errors
    /// A usage error for targets that no layer has.
    pub fn specs(&self, model: &[ParameterSpec], is_frozen: impl Fn(Role) -> bool) -> Result<Vec<ParameterSpec>> {
        let layers: Vec<(&str, &ParameterSpec)> = model
            .iter()
            .filter(|spec| spec.role.kind == Kind::Weight && spec.role.used && spec.shape.len() == 2)
            .filter(|spec| self.adapts(spec.role.part) && is_frozen(spec.role))
            .filter_map(|spec| Some((spec.name.strip_suffix(WEIGHT)?, spec)))
            .collect();
        let is_target = self.matcher(&layers)?;
        let chosen: Vec<_> = layers.iter().filter(|(name, _)| is_target(name)).collect();
        for (part, key) in [(Part::Encoder, "encoder"), (Part::Decoder, "decoder")] {
            if self.adapts(part) && !chosen.iter().any(|(_, spec)| spec.role.part == part) {
                let of_part: Vec<_> = layers.iter().filter(|(_, spec)| spec.role.part == part).copied().collect();
                return Err(usage_error(
                    format!("model.lora.targets match no dense layer of the {key}"),
                    format!("{}, or set model.lora.{key} = false", known(&of_part)),
                ));
            }
        }
        Ok(chosen.into_iter().flat_map(|(name, spec)| self.beside(name, spec)).collect())
    }

    /// A and B of one layer.
    fn beside(&self, name: &str, spec: &ParameterSpec) -> [ParameterSpec; 2] {
        let (inputs, outputs) = sizes(&spec.shape, spec.layout);
        let role = Role { kind: Kind::Adapter, ..spec.role };
        let spec = |end: &str, shape: [usize; 2], initializer| ParameterSpec {
            name: format!("{name}{end}"),
            shape: shape.to_vec(),
            initializer,
            role,
            layout: WeightLayout::OutIn,
        };
        // What torch's kaiming_uniform_ with a = sqrt(5) comes to.
        let uniform = Initializer::Uniform((inputs as f64).powf(-0.5));
        [spec(DOWN, [self.rank, inputs], uniform), spec(UP, [outputs, self.rank], Initializer::Zeros)]
    }

    fn matcher(&self, layers: &[(&str, &ParameterSpec)]) -> Result<Box<IsTarget>> {
        let has_end = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
        match &self.targets {
            None => Ok(Box::new(move |name| DEFAULT_TARGETS.iter().any(|end| has_end(name, end)))),
            Some(Targets::Ends(ends)) => {
                let is_known = |end: &String| layers.iter().any(|(name, _)| name == end || has_end(name, end));
                if let Some(unknown) = ends.iter().find(|end| !is_known(end)) {
                    return Err(usage_error(
                        format!("model.lora.targets: no dense layer of the adapted parts ends in {unknown:?}"),
                        known(layers),
                    ));
                }
                let ends = ends.clone();
                Ok(Box::new(move |name| ends.iter().any(|end| name == end || has_end(name, end))))
            }
            Some(Targets::Expression(expression)) => {
                let whole = expression_of(expression)?;
                Ok(Box::new(move |name| whole.is_match(&mut whole.create_cache(), name)))
            }
        }
    }
}

/// Whether the layer of a name is a target.
type IsTarget = dyn Fn(&str) -> bool;

/// The expression that matches whole names.
///
/// # Errors
/// One that cannot be read.
pub fn expression_of(text: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{text})$")).with_context(|| format!("is no regular expression: {text:?}"))
}

/// The layers that there are, by the ends of their names.
fn known(layers: &[(&str, &ParameterSpec)]) -> String {
    let ends: BTreeSet<&str> = layers.iter().filter_map(|(name, _)| name.rsplit('.').next()).collect();
    format!("choose from {}", ends.into_iter().collect::<Vec<_>>().join(", "))
}

/// Inputs and outputs of a weight of this shape.
fn sizes(shape: &[usize], layout: WeightLayout) -> (usize, usize) {
    match (shape, layout) {
        (&[outputs, inputs], WeightLayout::OutIn) | (&[inputs, outputs], WeightLayout::InOut) => (inputs, outputs),
        _ => (0, 0),
    }
}

/// The weight with what its adapter adds: W + scaling B A, in the layout of W.
///
/// # Errors
/// Shapes that do not fit.
pub fn merge(
    weight: &Tensor,
    layout: WeightLayout,
    [down, up]: [&Tensor; 2],
    scaling: f64,
) -> candle_core::Result<Tensor> {
    let product = (up.matmul(down)? * scaling)?; // (out, in)
    match layout {
        WeightLayout::OutIn => weight + product,
        WeightLayout::InOut => weight + product.t()?,
    }
}

/// The name of the layer that a parameter of an adapter belongs to.
pub fn layer_of(name: &str) -> Option<&str> {
    name.strip_suffix(DOWN).or_else(|| name.strip_suffix(UP))
}
