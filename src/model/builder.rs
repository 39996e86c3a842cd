//! One pass over a model's layers: each layer names its parameters once, with shape, first values and role. A
//! recording builder collects them; a builder over [`Parameters`] fetches them.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use candle_core::{DType, Device, Tensor};

use crate::model::initialization::Initializer;
use crate::model::lora::{DOWN, UP};
use crate::model::parameters::{AdapterArithmetic, Parameters};
use crate::model::role::{Kind, ParameterSpec, Part, Role};
use base::random::Stream;
use ops::{Dropout, GradientSink, LowRank, Packing, Precision, Weight, WeightLayout};

/// Where the gradient of the weight of this name goes.
pub type SinkOf<'a> = dyn Fn(&str) -> GradientSink + 'a;

#[derive(Clone, Copy)]
enum Source<'a> {
    /// Tensors of the right shape without values; what was asked for is kept.
    Recording(&'a RefCell<Vec<ParameterSpec>>),
    Parameters {
        parameters: &'a Parameters,
        tracked: bool,
    },
}

/// Hands a model's layers their parameters while they are built.
pub struct Builder<'a> {
    source: Source<'a>,
    precision: Precision,
    sinks: Option<&'a SinkOf<'a>>,
    prefix: String,
    part: Part,
    depth: usize,
    connects: bool,
    masks: Option<(Dropout, &'a [Arc<Packing>])>,
}

impl Parameters {
    /// For building a model whose trained parameters take part in the backward pass.
    pub fn tracked(&self) -> Builder<'_> {
        Builder::new(Source::Parameters { parameters: self, tracked: true })
    }

    /// For building a model that records no operations. It shares the storage and sees every update.
    pub fn detached(&self) -> Builder<'_> {
        Builder::new(Source::Parameters { parameters: self, tracked: false })
    }
}

/// The parameters that the layers built by `build` need, in the order in which they request them. The layers get
/// tensors without values.
///
/// # Errors
/// Errors of `build`.
pub fn record<T>(build: impl FnOnce(&Builder<'_>) -> anyhow::Result<T>) -> anyhow::Result<Vec<ParameterSpec>> {
    let specs = RefCell::new(Vec::new());
    build(&Builder::new(Source::Recording(&specs)))?;
    Ok(specs.into_inner())
}

impl<'a> Builder<'a> {
    fn new(source: Source<'a>) -> Self {
        let (part, depth) = (Part::Decoder, 0);
        let (precision, prefix, connects) = (Precision::Full, String::new(), false);
        Self { source, precision, sinks: None, prefix, part, depth, connects, masks: None }
    }

    /// The same for a model whose matrix products have this `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same for a model whose large weights pass their gradients to the sinks that `sinks` returns for their names.
    pub fn with_sinks(self, sinks: &'a SinkOf<'a>) -> Self {
        Self { sinks: Some(sinks), ..self }
    }

    /// The same for a model whose adapter drops values with the seed, update and examples of `masks`, of captions that may
    /// be packed like one of `packings`.
    pub fn with_masks(self, masks: Dropout, packings: &'a [Arc<Packing>]) -> Self {
        Self { masks: Some((masks, packings)), ..self }
    }

    /// Precision of the model's matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same under `PREFIX.name`.
    pub fn under(&self, name: &str) -> Self {
        Self { prefix: self.full_name(name), ..*self }
    }

    /// The same for a part of the model, under `PREFIX.name`.
    pub fn part(&self, part: Part, name: &str) -> Self {
        Self { part, ..self.under(name) }
    }

    /// The same at another depth: see [`Role::depth`].
    pub fn at_depth(&self, depth: usize) -> Self {
        Self { prefix: self.prefix.clone(), depth, ..*self }
    }

    /// The same for parameters that connect encoder and decoder.
    pub fn connecting(&self) -> Self {
        Self { prefix: self.prefix.clone(), connects: true, ..*self }
    }

    /// The parameter `PREFIX.name`.
    ///
    /// # Errors
    /// A parameter that does not exist or has another shape.
    pub fn tensor(&self, name: &str, shape: &[usize], initializer: Initializer, kind: Kind) -> anyhow::Result<Tensor> {
        Ok(self.get(name, shape, initializer, kind, WeightLayout::OutIn)?.0)
    }

    /// The parameter `PREFIX.name` as the weight (out, in) of a matrix product.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn weight(&self, name: &str, shape: &[usize], initializer: Initializer) -> anyhow::Result<Weight> {
        self.weight_of(name, shape, initializer, WeightLayout::OutIn)
    }

    /// The same of a weight (in, out), as GPT-2 has it.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn weight_in_out(&self, name: &str, shape: &[usize], initializer: Initializer) -> anyhow::Result<Weight> {
        self.weight_of(name, shape, initializer, WeightLayout::InOut)
    }

    fn weight_of(
        &self,
        name: &str,
        shape: &[usize],
        initializer: Initializer,
        layout: WeightLayout,
    ) -> anyhow::Result<Weight> {
        let found = self.get(name, shape, initializer, Kind::Weight, layout)?;
        let weight = self.with_sink(name, found);
        Ok(match self.beside(name)? {
            Some(low_rank) => weight.with_low_rank(low_rank),
            None => weight,
        })
    }

    /// The adapter of the layer whose weight is called `name`.
    fn beside(&self, name: &str) -> anyhow::Result<Option<LowRank>> {
        let Source::Parameters { parameters, .. } = self.source else { return Ok(None) };
        let Some(AdapterArithmetic { scaling, dropout }) = parameters.adapter() else { return Ok(None) };
        let name = self.full_name(name);
        let Some(layer) = name.strip_suffix(".weight") else { return Ok(None) };
        let (down, up) = (format!("{layer}{DOWN}"), format!("{layer}{UP}"));
        if parameters.get(&down).is_none() {
            return Ok(None);
        }
        // A site for each layer that no other drawing knows; sites of layers of a decoder are small numbers.
        let site = |masks: Dropout| {
            let number = Stream::new(0, "dropout site", layer).next_u64() | 1 << 63;
            Dropout { probability: dropout, ..masks }.site(number)
        };
        let (down, _) = self.fetch_whole(&down)?;
        let (up, _) = self.fetch_whole(&up)?;
        let packings = self.masks.map(|(_, packings)| packings.to_vec()).unwrap_or_default();
        Ok(Some(LowRank { down, up, scaling, dropout: self.masks.map(|(masks, _)| site(masks)), packings }))
    }

    /// The bias `PREFIX.name`.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn bias(&self, name: &str, size: usize, initializer: Initializer) -> anyhow::Result<Tensor> {
        self.tensor(name, &[size], initializer, Kind::Bias)
    }

    /// A table of tokens or positions, or a token of its own.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn embedding(&self, name: &str, shape: &[usize], initializer: Initializer) -> anyhow::Result<Tensor> {
        self.tensor(name, shape, initializer, Kind::Embedding)
    }

    /// A parameter `PREFIX.name` that was asked for before, as the weight of a matrix product: a tied head.
    ///
    /// # Errors
    /// A parameter that does not exist.
    pub fn shared_weight(&self, name: &str) -> anyhow::Result<Weight> {
        let found = match self.source {
            Source::Recording(specs) => {
                let name = self.full_name(name);
                let specs = specs.borrow();
                let spec = specs.iter().find(|spec| spec.name == name);
                let spec = spec.with_context(|| format!("the parameter {name} is shared before it is declared"))?;
                (without_values(&spec.shape)?, false)
            }
            Source::Parameters { .. } => self.fetch(name)?,
        };
        Ok(self.with_sink(name, found))
    }

    /// Keeps a parameter that the forward pass does not use, for export.
    pub fn store(&self, name: &str, shape: &[usize], initializer: Initializer, kind: Kind) {
        self.record(name, shape, initializer, kind, WeightLayout::OutIn, false);
    }

    fn record(
        &self,
        name: &str,
        shape: &[usize],
        initializer: Initializer,
        kind: Kind,
        layout: WeightLayout,
        used: bool,
    ) {
        if let Source::Recording(specs) = self.source {
            let role = Role { part: self.part, depth: self.depth, kind, used, connects: self.connects };
            let spec = ParameterSpec { name: self.full_name(name), shape: shape.to_vec(), initializer, role, layout };
            specs.borrow_mut().push(spec);
        }
    }

    /// The parameter, and whether it takes part in the backward pass.
    fn get(
        &self,
        name: &str,
        shape: &[usize],
        initializer: Initializer,
        kind: Kind,
        layout: WeightLayout,
    ) -> anyhow::Result<(Tensor, bool)> {
        if let Source::Recording(_) = self.source {
            self.record(name, shape, initializer, kind, layout, true);
            return Ok((without_values(shape)?, false));
        }
        let found = self.fetch(name)?;
        if found.0.dims() != shape {
            bail!("the parameter {} has the shape {:?}, expected {shape:?}", self.full_name(name), found.0.dims());
        }
        Ok(found)
    }

    fn fetch(&self, name: &str) -> anyhow::Result<(Tensor, bool)> {
        self.fetch_whole(&self.full_name(name))
    }

    fn fetch_whole(&self, name: &str) -> anyhow::Result<(Tensor, bool)> {
        let Source::Parameters { parameters, tracked } = self.source else { bail!("{name}: nothing to fetch from") };
        let parameter = parameters.get(name).with_context(|| format!("the model has no parameter {name}"))?;
        // A frozen weight is handed out detached, or candle would compute its gradient all the same.
        let tracked = tracked && parameter.trainable;
        let values = if tracked { parameter.var.as_tensor().clone() } else { parameter.var.as_detached_tensor() };
        Ok((values, tracked))
    }

    fn with_sink(&self, name: &str, (values, tracked): (Tensor, bool)) -> Weight {
        match self.sinks {
            Some(sinks) if tracked => Weight::with_sink(values, sinks(&self.full_name(name))),
            _ => Weight::new(values),
        }
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

/// One value, seen as a tensor of this shape: takes no memory, whatever the shape.
fn without_values(shape: &[usize]) -> anyhow::Result<Tensor> {
    Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
}
