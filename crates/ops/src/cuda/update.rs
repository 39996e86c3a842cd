//! An update of all parameters on a GPU: three launches for any number of parameters, and the GPU decides whether to
//! skip.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CudaDevice, Result, Tensor};

use super::array::{Array, Scratch};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use super::transfer::ReadBack;
use crate::types::update::{UpdateReport, UpdateRule, UpdatedParameter, check_alike};

/// Elements that one block handles: few enough that small models keep all of a GPU busy.
const CHUNK: usize = 1 << 15;

/// A piece of a parameter, laid out as in the kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::NoUninit)]
struct Chunk {
    parameter: u64,
    grad: u64,
    exp_avg: u64,
    exp_avg_sq: u64,
    count: u32,
    group: u32,
}

/// What parameters of a group have in common, laid out as in the kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::NoUninit)]
struct Group {
    learning_rate: f64,
    weight_decay: f64,
}

/// The state that the kernels keep between updates: loss, norm, clipping factor, two corrections, updates made, whether
/// this one was made. Numbers of f64 as their bits.
const STATE: usize = 7;
const LOSS: usize = 0;
const NORM: usize = 1;
const STEPS: usize = 5;
const FINITE: usize = 6;

#[expect(unsafe_code, reason = "plain data for kernels")]
// SAFETY: `repr(C)` and only numbers.
unsafe impl DeviceRepr for Chunk {}

#[expect(unsafe_code, reason = "plain data for kernels")]
// SAFETY: as above.
unsafe impl DeviceRepr for Group {}

pub(crate) struct GpuUpdater {
    device: CudaDevice,
    state: Scratch<u64>,
    reports: FreeReports,
}

/// Memory of reports that have been read: allocating it for each report would make the GPU wait.
type FreeReports = Arc<Mutex<Vec<ReadBack>>>;

impl fmt::Debug for GpuUpdater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GpuUpdater").field("device", &self.device).finish_non_exhaustive()
    }
}

impl GpuUpdater {
    /// An updater that has made `steps` updates.
    pub(crate) fn new(device: &CudaDevice, steps: u64) -> Result<Self> {
        let mut state = [0; STATE];
        state[STEPS] = steps;
        Ok(Self { device: device.clone(), state: Scratch::copy_of(device, &state)?, reports: Arc::default() })
    }

    pub(crate) fn update(
        &mut self,
        parameters: &[UpdatedParameter<'_>],
        losses: &[Tensor],
        rule: &UpdateRule,
    ) -> Result<PendingReport> {
        let device = &self.device;
        let (chunks, groups) = chunks_and_groups(parameters)?;
        let num_chunks = chunks.len();
        let (chunks, groups) = (Scratch::copy_of(device, &chunks)?, Scratch::copy_of(device, &groups)?);
        let partial = Scratch::<f64>::new(device, num_chunks)?;
        let grid = Grid::blocks(num_chunks, 1);
        let arguments = arguments![chunks.address, partial.address];
        launch(device, Module::Optimizer, "gradient_norm", grid, arguments)?;

        let losses = Tensor::stack(losses, 0)?;
        let [beta1, beta2] = rule.betas;
        let arguments = arguments![
            partial.address,
            num_chunks,
            Array::of_f32(&losses)?,
            losses.elem_count(),
            rule.max_grad_norm.unwrap_or(0.0),
            beta1,
            beta2,
            self.state.address,
        ];
        launch(device, Module::Optimizer, "begin_update", Grid::blocks(1, 1), arguments)?;

        let arguments = arguments![chunks.address, groups.address, self.state.address, beta1, beta2, rule.eps];
        launch(device, Module::Optimizer, "adamw", grid, arguments)?;

        let free = self.reports.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = free.map_or_else(|| ReadBack::new(device, STATE), Ok)?;
        state.start(device, &self.state.slice)?;
        Ok(PendingReport { state, free: Arc::clone(&self.reports) })
    }
}

/// What the GPU writes after the update.
pub(crate) struct PendingReport {
    state: ReadBack,
    free: FreeReports,
}

impl fmt::Debug for PendingReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PendingReport").finish_non_exhaustive()
    }
}

impl PendingReport {
    /// Waits for this update, not for later launches.
    pub(crate) fn read(self) -> Result<UpdateReport> {
        let state = self.state.wait()?;
        let report = UpdateReport {
            loss: f64::from_bits(state[LOSS]),
            grad_norm: f64::from_bits(state[NORM]),
            skipped: state[FINITE] == 0,
            steps: state[STEPS],
        };
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.state);
        Ok(report)
    }
}

fn chunks_and_groups(parameters: &[UpdatedParameter<'_>]) -> Result<(Vec<Chunk>, Vec<Group>)> {
    let (mut chunks, mut groups) = (Vec::new(), Vec::<Group>::new());
    for updated in parameters {
        let UpdatedParameter { parameter, grad, exp_avg, exp_avg_sq, learning_rate, weight_decay } = *updated;
        check_alike(parameter, [("gradient", grad), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)])?;
        let arrays = [parameter, grad, exp_avg, exp_avg_sq].map(Array::of_f32);
        let [parameter, grad, exp_avg, exp_avg_sq] = arrays;
        let (parameter, grad, exp_avg, exp_avg_sq) = (parameter?, grad?, exp_avg?, exp_avg_sq?);
        let group = Group { learning_rate, weight_decay };
        let index = groups.iter().position(|known| *known == group).unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        });
        for first in (0..parameter.len).step_by(CHUNK) {
            let bytes = (first * size_of::<f32>()) as u64;
            chunks.push(Chunk {
                parameter: parameter.address + bytes,
                grad: grad.address + bytes,
                exp_avg: exp_avg.address + bytes,
                exp_avg_sq: exp_avg_sq.address + bytes,
                count: CHUNK.min(parameter.len - first) as u32,
                group: index as u32,
            });
        }
    }
    Ok((chunks, groups))
}
