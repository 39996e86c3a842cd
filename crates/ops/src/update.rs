//! One update of all parameters: norm of the gradients, clipping, AdamW. Nothing changes if loss or norm is not finite.

use candle_core::{Result, Tensor};

use crate::cpu::adamw::{AdamW, adamw_update};
use crate::cpu::sum_of_squares::sum_of_squares;
use crate::cuda;
use crate::types::update::{UpdateReport, UpdateRule, UpdatedParameter};

/// Makes updates and counts them.
#[derive(Debug, Default)]
pub struct Updater {
    steps: u64,
    gpu: Option<cuda::update::GpuUpdater>,
}

/// An update that has been made, or that a GPU is going to make.
#[derive(Debug)]
pub struct PendingUpdate(Pending);

#[derive(Debug)]
enum Pending {
    Done(UpdateReport),
    OnGpu(cuda::update::PendingReport),
}

impl PendingUpdate {
    /// Waits for the update if a GPU has not made it yet.
    pub fn read(self) -> Result<UpdateReport> {
        match self.0 {
            Pending::Done(report) => Ok(report),
            Pending::OnGpu(pending) => pending.read(),
        }
    }
}

impl Updater {
    /// An updater that has made `steps` updates.
    pub fn new(steps: u64) -> Self {
        Self { steps, gpu: None }
    }

    /// Makes an update. `losses`, all scalars, are those of the parts of the step. On a GPU the caller does not wait.
    ///
    /// # Errors
    /// Tensors that do not fit, types other than f32 and f64 (other than f32 on a GPU).
    pub fn update(
        &mut self,
        parameters: &[UpdatedParameter<'_>],
        losses: &[Tensor],
        rule: &UpdateRule,
    ) -> Result<PendingUpdate> {
        if let Some(device) = losses.first().map(Tensor::device).filter(|device| device.is_cuda()) {
            let gpu = match self.gpu.take() {
                Some(gpu) => gpu,
                None => cuda::update::GpuUpdater::new(device.as_cuda_device()?, self.steps)?,
            };
            let pending = self.gpu.insert(gpu).update(parameters, losses, rule)?;
            return Ok(PendingUpdate(Pending::OnGpu(pending)));
        }
        self.update_on_cpu(parameters, losses, rule).map(|report| PendingUpdate(Pending::Done(report)))
    }

    fn update_on_cpu(
        &mut self,
        parameters: &[UpdatedParameter<'_>],
        losses: &[Tensor],
        rule: &UpdateRule,
    ) -> Result<UpdateReport> {
        let mut loss = 0.0;
        for part in losses {
            loss += part.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
        }
        let mut sum = 0.0;
        for parameter in parameters {
            sum += sum_of_squares(parameter.grad)?;
        }
        let grad_norm = sum.sqrt();
        let skipped = !(loss.is_finite() && grad_norm.is_finite());
        if !skipped {
            self.steps += 1;
            let scale = clip_factor(grad_norm, rule.max_grad_norm);
            for updated in parameters {
                let settings = AdamW {
                    learning_rate: updated.learning_rate,
                    beta1: rule.betas[0],
                    beta2: rule.betas[1],
                    eps: rule.eps,
                    weight_decay: updated.weight_decay,
                    step: self.steps,
                };
                let UpdatedParameter { parameter, grad, exp_avg, exp_avg_sq, .. } = *updated;
                adamw_update(parameter, grad, exp_avg, exp_avg_sq, scale, &settings)?;
            }
        }
        Ok(UpdateReport { loss, grad_norm, skipped, steps: self.steps })
    }
}

/// The factor of the gradients, as `torch.nn.utils.clip_grad_norm_` computes it.
fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::{random, values};

    const RULE: UpdateRule = UpdateRule { betas: [0.9, 0.999], eps: 1e-8, max_grad_norm: Some(1.0) };

    struct Fixture {
        parameter: Var,
        grad: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let zeros = || Tensor::zeros((3, 4), DType::F64, &Device::Cpu).unwrap();
            Self {
                parameter: Var::from_tensor(&random((3, 4), name)).unwrap(),
                grad: random((3, 4), &format!("gradient of {name}")),
                exp_avg: zeros(),
                exp_avg_sq: zeros(),
            }
        }

        fn updated(&self) -> UpdatedParameter<'_> {
            UpdatedParameter {
                parameter: &self.parameter,
                grad: &self.grad,
                exp_avg: &self.exp_avg,
                exp_avg_sq: &self.exp_avg_sq,
                learning_rate: 0.1,
                weight_decay: 0.01,
            }
        }
    }

    fn scalar(value: f64) -> Tensor {
        Tensor::new(value, &Device::Cpu).unwrap()
    }

    #[test]
    fn clipping_equals_torch() {
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(4.0, Some(1.0)) - 1.0 / 4.000_001).abs() < 1e-12);
        assert_eq!(clip_factor(4.0, None), 1.0);
    }

    #[test]
    fn the_norm_is_that_of_all_gradients_and_the_loss_the_sum_of_the_parts() {
        let (first, second) = (Fixture::new("first"), Fixture::new("second"));
        let mut updater = Updater::new(4);
        let pending = updater.update(&[first.updated(), second.updated()], &[scalar(1.5), scalar(2.0)], &RULE).unwrap();
        let report = pending.read().unwrap();
        let squares = |tensor: &Tensor| values(tensor).iter().map(|x| x * x).sum::<f64>();
        let expected = (squares(&first.grad) + squares(&second.grad)).sqrt();
        assert!((report.grad_norm - expected).abs() < 1e-12);
        assert_eq!((report.loss, report.skipped, report.steps), (3.5, false, 5));
    }

    #[test]
    fn an_update_that_is_not_finite_changes_nothing_and_does_not_count() {
        let mut fixture = Fixture::new("only");
        let before = values(&fixture.parameter);
        let mut updater = Updater::new(2);
        let report = updater.update(&[fixture.updated()], &[scalar(f64::NAN)], &RULE).unwrap().read().unwrap();
        assert!(report.skipped && report.steps == 2);
        fixture.grad = (fixture.grad * f64::INFINITY).unwrap();
        let report = updater.update(&[fixture.updated()], &[scalar(1.0)], &RULE).unwrap().read().unwrap();
        assert!(report.skipped && report.steps == 2);
        assert_eq!((values(&fixture.parameter), values(&fixture.exp_avg_sq)), (before, vec![0.0; 12]));
    }
}
