//! The named tensors of a model: described by its layers, filled from a file or by initialisation, read by its layers.
//!
//! Names and layouts are those of the files that transformers writes. Iteration is in the order of the names, so that
//! sums over parameters do not depend on a hash.

use std::collections::BTreeMap;

use anyhow::bail;
use candle_core::{DType, Device, DeviceLocation, Tensor, Var};

use crate::model::role::{ParameterSpec, Role};
use crate::model::weight_fit::check_fit;

#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its values; an update changes them in place.
    pub var: Var,
    /// Whether training changes it.
    pub trainable: bool,
    /// What it is.
    pub role: Role,
}

/// All parameters of a model, by name.
#[derive(Clone, Debug)]
pub struct Parameters {
    entries: BTreeMap<String, Parameter>,
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
            let parameter = Parameter { var: Var::from_tensor(&tensor)?, trainable: spec.role.used, role: spec.role };
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
