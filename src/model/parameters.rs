//! The named tensors of a model: declared by its layers, filled from a file or by initialisation, read by its layers.
//!
//! Names and layouts are those of the files that transformers writes. Iteration is in the order of the names, so that
//! sums over parameters do not depend on a hash.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use candle_core::{DType, Device, DeviceLocation, Tensor, Var};

use crate::model::initialization::Initializer;
use crate::model::weight_fit::check_fit;
use ops::{GradientSink, Precision, Weight};

/// What a layer needs: a tensor of this name and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name, as in the files of transformers.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// How it begins when nothing is loaded.
    pub initializer: Initializer,
    /// Whether the forward pass uses it; a stored parameter that it does not use (a pooler) gets no gradient.
    pub used: bool,
}

/// Collects the specifications of a model's layers under a common prefix.
pub struct Declaration<'a> {
    specs: &'a mut Vec<ParameterSpec>,
    prefix: String,
}

impl<'a> Declaration<'a> {
    /// Declares into `specs`, with no prefix.
    pub fn new(specs: &'a mut Vec<ParameterSpec>) -> Self {
        Self { specs, prefix: String::new() }
    }

    /// The same under `PREFIX.name`.
    pub fn under(&mut self, name: &str) -> Declaration<'_> {
        Declaration { prefix: join(&self.prefix, name), specs: self.specs }
    }

    /// Declares a parameter.
    pub fn add(&mut self, name: &str, shape: &[usize], initializer: Initializer) {
        let name = join(&self.prefix, name);
        self.specs.push(ParameterSpec { name, shape: shape.to_vec(), initializer, used: true });
    }

    /// Declares a parameter that is stored and exported but that the forward pass does not use.
    pub fn add_unused(&mut self, name: &str, shape: &[usize], initializer: Initializer) {
        self.add(name, shape, initializer);
        if let Some(spec) = self.specs.last_mut() {
            spec.used = false;
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its values; an update changes them in place.
    pub var: Var,
    /// Whether training changes it.
    pub trainable: bool,
}

/// All parameters of a model, by name.
#[derive(Clone, Debug)]
pub struct Parameters {
    entries: BTreeMap<String, Parameter>,
}

impl Parameters {
    /// Makes every declared parameter: from `loaded` where it has the name, else by initialisation. All are trainable
    /// that the forward pass uses.
    ///
    /// # Errors
    /// A tensor in `loaded` with another shape, or with a name that nothing declares.
    pub fn create(
        specs: &[ParameterSpec],
        loaded: BTreeMap<String, Tensor>,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> anyhow::Result<Self> {
        check_fit(specs, &loaded, |_| true)?;
        Self::fill(specs, loaded, seed, dtype, device)
    }

    /// As [`Parameters::create`], but every declared parameter must be in `loaded`.
    ///
    /// # Errors
    /// Also a parameter that is missing.
    pub fn from_complete(
        specs: &[ParameterSpec],
        loaded: BTreeMap<String, Tensor>,
        dtype: DType,
        device: &Device,
    ) -> anyhow::Result<Self> {
        check_fit(specs, &loaded, |_| false)?;
        Self::fill(specs, loaded, 0, dtype, device)
    }

    fn fill(
        specs: &[ParameterSpec],
        mut loaded: BTreeMap<String, Tensor>,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mut entries = BTreeMap::new();
        for spec in specs {
            let tensor = match loaded.remove(&spec.name) {
                Some(tensor) => tensor.to_dtype(dtype)?.to_device(device)?,
                None => spec.initializer.draw(seed, &spec.name, &spec.shape, dtype, device)?,
            };
            let parameter = Parameter { var: Var::from_tensor(&tensor)?, trainable: spec.used };
            if entries.insert(spec.name.clone(), parameter).is_some() {
                bail!("the parameter {} is declared twice", spec.name);
            }
        }
        Ok(Self { entries })
    }

    /// All parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// The parameters that training changes, in the order of their names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter().filter(|(_, parameter)| parameter.trainable).map(|(name, parameter)| (name, &parameter.var))
    }

    /// Freezes each parameter whose name `keep` refuses. Nothing is thawed.
    pub fn freeze_unless(&mut self, keep: impl Fn(&str) -> bool) {
        for (name, parameter) in &mut self.entries {
            parameter.trainable &= keep(name);
        }
    }

    /// The number of the GPU that they are on; none when they are on the CPU.
    pub fn gpu(&self) -> Option<usize> {
        match self.entries.values().next()?.var.device().location() {
            DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
            DeviceLocation::Cpu | DeviceLocation::Metal { .. } => None,
        }
    }

    /// Number of values in all parameters.
    pub fn num_values(&self) -> usize {
        self.entries.values().map(|parameter| parameter.var.elem_count()).sum()
    }

    /// Number of values in trained parameters.
    pub fn num_trainable_values(&self) -> usize {
        self.trainable().map(|(_, var)| var.elem_count()).sum()
    }

    /// A view for building a model whose trainable parameters take part in the backward pass.
    pub fn tracked(&self) -> ParameterView<'_> {
        ParameterView {
            parameters: self,
            tracked: true,
            precision: Precision::Full,
            sinks: None,
            prefix: String::new(),
        }
    }

    /// A view for building a model that records no operations. It shares the storage and sees every update.
    pub fn detached(&self) -> ParameterView<'_> {
        ParameterView {
            parameters: self,
            tracked: false,
            precision: Precision::Full,
            sinks: None,
            prefix: String::new(),
        }
    }
}

/// The parameters as a layer reads them while it is built.
pub struct ParameterView<'a> {
    parameters: &'a Parameters,
    tracked: bool,
    precision: Precision,
    sinks: Option<&'a SinkOf<'a>>,
    prefix: String,
}

/// Where the gradient of the weight of this name goes.
pub type SinkOf<'a> = dyn Fn(&str) -> GradientSink + 'a;

impl<'a> ParameterView<'a> {
    /// The same for a model whose matrix products are made in `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same for a model whose large weights hand their gradients to what `sinks` gives for their names.
    pub fn with_sinks(self, sinks: &'a SinkOf<'a>) -> Self {
        Self { sinks: Some(sinks), ..self }
    }

    /// What the model's matrix products are made in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same under `PREFIX.name`.
    pub fn under(&self, name: &str) -> Self {
        Self { prefix: join(&self.prefix, name), ..*self }
    }

    /// The parameter `PREFIX.name`.
    ///
    /// # Errors
    /// A name that was not declared.
    pub fn get(&self, name: &str) -> anyhow::Result<Tensor> {
        Ok(self.find(name)?.0)
    }

    /// The parameter `PREFIX.name` as the weight of a matrix product.
    ///
    /// # Errors
    /// A name that was not declared.
    pub fn weight(&self, name: &str) -> anyhow::Result<Weight> {
        let (values, tracked) = self.find(name)?;
        Ok(match self.sinks {
            Some(sinks) if tracked => Weight::with_sink(values, sinks(&join(&self.prefix, name))),
            _ => Weight::new(values),
        })
    }

    /// The parameter, and whether it takes part in the backward pass.
    fn find(&self, name: &str) -> anyhow::Result<(Tensor, bool)> {
        let name = join(&self.prefix, name);
        let parameter =
            self.parameters.entries.get(&name).with_context(|| format!("the parameter {name} was not declared"))?;
        // A frozen weight is handed out detached, or candle would compute its gradient all the same.
        let tracked = self.tracked && parameter.trainable;
        let values = if tracked { parameter.var.as_tensor().clone() } else { parameter.var.as_detached_tensor() };
        Ok((values, tracked))
    }
}
