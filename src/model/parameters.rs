//! The named tensors of a model: described by its layers, filled from a file or by initialisation, read by its layers.
//!
//! Names and layouts are those of the files that transformers writes. Iteration is in the order of the names, so that
//! sums over parameters do not depend on a hash.

use std::collections::BTreeMap;

use anyhow::bail;
use candle_core::{DType, Device, DeviceLocation, Tensor, Var};

use crate::model::lora::{DOWN, LoraConfig, UP, merge};
use crate::model::role::{Kind, ParameterSpec, Role};
use crate::model::weight_fit::check_fit;
use ops::WeightLayout;

#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its values; an update changes them in place.
    pub var: Var,
    /// Whether training changes it.
    pub trainable: bool,
    /// What it is.
    pub role: Role,
    /// The order of the dimensions of a weight.
    pub layout: WeightLayout,
    /// Whether it is, unchanged, in the files that an adapter was trained for, and in no checkpoint.
    pub in_base: bool,
}

impl Parameter {
    /// Whether it is the weight (in, out) of a dense layer, as those of GPT-2.
    pub fn is_in_out(&self) -> bool {
        self.layout == WeightLayout::InOut
    }
}

/// How the adapter among the parameters is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterArithmetic {
    /// Factor on its products.
    pub scaling: f64,
    /// Dropout of their input while training.
    pub dropout: f64,
}

/// All parameters of a model, by name.
#[derive(Clone, Debug)]
pub struct Parameters {
    entries: BTreeMap<String, Parameter>,
    adapter: Option<AdapterArithmetic>,
}

impl Parameters {
    /// Creates every parameter of `specs`: from `loaded` if it has the name, else by initialisation. All are trainable
    /// that the forward pass uses.
    ///
    /// # Errors
    /// A tensor in `loaded` with another shape, or with a name that is not in `specs`.
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

    /// As [`Parameters::create`], but every one of `specs` must be in `loaded`.
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
            let parameter = Parameter {
                var: Var::from_tensor(&tensor)?,
                trainable: spec.role.used,
                role: spec.role,
                layout: spec.layout,
                in_base: false,
            };
            if entries.insert(spec.name.clone(), parameter).is_some() {
                bail!("the parameter {} is declared twice", spec.name);
            }
        }
        Ok(Self { entries, adapter: None })
    }

    /// All parameters in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// The parameters that training changes, in the order of their names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter().filter(|(_, parameter)| parameter.trainable).map(|(name, parameter)| (name, &parameter.var))
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.entries.values().next().map_or(Device::Cpu, |parameter| parameter.var.device().clone())
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.entries.get(name)
    }

    /// Freezes each parameter whose role `keep` refuses. Nothing is thawed.
    pub fn freeze_unless(&mut self, keep: impl Fn(Role) -> bool) {
        for parameter in self.entries.values_mut() {
            parameter.trainable &= keep(parameter.role);
        }
    }

    /// The same, whose adapter is computed as `lora` says.
    #[must_use]
    pub fn adapted_by(self, lora: &LoraConfig) -> Self {
        Self { adapter: Some(AdapterArithmetic { scaling: lora.scaling(), dropout: lora.dropout }), ..self }
    }

    /// How the adapter is computed, where there is one.
    pub fn adapter(&self) -> Option<AdapterArithmetic> {
        self.adapter
    }

    /// Marks the parameters that are, unchanged, in the files that the adapter is trained for.
    pub fn mark_base(&mut self, is_in_base: impl Fn(&str, &Parameter) -> bool) {
        for (name, parameter) in &mut self.entries {
            parameter.in_base = is_in_base(name, parameter);
        }
    }

    /// Takes over the base of `other`, with its storage.
    pub fn share_base(&mut self, other: &Self) {
        let base = other.entries.iter().filter(|(_, parameter)| parameter.in_base);
        self.entries.extend(base.map(|(name, parameter)| (name.clone(), parameter.clone())));
    }

    /// Takes over the parameters that `other` does not train, with their storage: those of both must be equal.
    pub fn share_frozen(&mut self, other: &Self) {
        let frozen = other.entries.iter().filter(|(_, parameter)| !parameter.trainable);
        self.entries.extend(frozen.map(|(name, parameter)| (name.clone(), parameter.clone())));
    }

    /// The parameters without the adapter, whose products are added to the weights if `merged`. All others are shared.
    ///
    /// # Errors
    /// Half an adapter; no memory for the changed weights.
    pub fn without_adapter(&self, merged: bool) -> anyhow::Result<Self> {
        let mut entries = self.entries.clone();
        entries.retain(|_, parameter| parameter.role.kind != Kind::Adapter);
        for (layer, [down, up]) in self.adapters().filter(|_| merged) {
            let (Some(adapter), Some(parameter)) = (self.adapter, entries.get_mut(&format!("{layer}.weight"))) else {
                bail!("the adapter of {layer} has nothing beside it");
            };
            let factors = [down.as_detached_tensor(), up.as_detached_tensor()];
            let weight = parameter.var.as_detached_tensor();
            let weight = merge(&weight, parameter.layout, factors.each_ref(), adapter.scaling)?;
            parameter.var = Var::from_tensor(&weight)?;
        }
        Ok(Self { entries, adapter: None })
    }

    /// The adapted layers, each with A and B.
    pub fn adapters(&self) -> impl Iterator<Item = (&str, [&Var; 2])> {
        self.entries.iter().filter_map(|(name, down)| {
            let layer = name.strip_suffix(DOWN)?;
            Some((layer, [&down.var, &self.entries.get(&format!("{layer}{UP}"))?.var]))
        })
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
}
