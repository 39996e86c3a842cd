//! Cross-entropy of rows of logits against class numbers.

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::targets::Targets;
use crate::{cpu, cuda};

/// The sum of the losses of all rows: logits (R, V), `targets` of length R -> scalar, as
/// `torch.nn.functional.cross_entropy(reduction="sum", label_smoothing=..)`. `label_smoothing` is from 0 to 1.
///
/// # Errors
/// Shapes that do not fit, a target outside the vocabulary, types other than f32 and f64.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], label_smoothing: f64) -> Result<Tensor> {
    weighted_cross_entropy(logits, targets, None, label_smoothing)
}

/// [`cross_entropy`] with a factor for the loss of each row, which may be negative; without `weights` all are 1.
///
/// # Errors
/// As [`cross_entropy`]; weights that are not as many as the rows, or not finite.
pub fn weighted_cross_entropy(
    logits: &Tensor,
    targets: &[u32],
    weights: Option<&[f64]>,
    label_smoothing: f64,
) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if targets.len() != rows {
        bail!("cross_entropy: expected {rows} targets for logits {:?}, found {}", logits.shape(), targets.len());
    }
    if let Some(row) = targets.iter().position(|&target| target as usize >= vocabulary) {
        bail!("cross_entropy: target {} of row {row} is outside a vocabulary of {vocabulary}", targets[row]);
    }
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: expected a label smoothing from 0 to 1, found {label_smoothing}");
    }
    if let Some(weights) = weights {
        if weights.len() != rows {
            bail!("cross_entropy: expected {rows} weights for logits {:?}, found {}", logits.shape(), weights.len());
        }
        if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
            bail!("cross_entropy: expected finite weights, found {weight}");
        }
    }
    let targets = Targets { classes: targets.to_vec(), weights: weights.map(<[f64]>::to_vec), label_smoothing };
    logits.contiguous()?.apply_op1(Op(CrossEntropy(targets)))
}

struct CrossEntropy(Targets);

impl Operation<1> for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    type Sizes = ();

    fn check(&self, _: [&Shape; 1]) -> Result<((), Shape)> {
        Ok(((), Shape::from(())))
    }

    fn cpu_forward(&self, (): (), [logits]: [Operand<'_, CpuStorage>; 1]) -> Result<CpuStorage> {
        cpu::cross_entropy::forward(logits, &self.0)
    }

    fn cuda_forward(&self, (): (), [logits]: [Operand<'_, CudaStorage>; 1]) -> Result<CudaStorage> {
        cuda::cross_entropy::forward(logits, &self.0)
    }

    fn backward(&self, (): (), [logits]: [&Tensor; 1], grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let backward =
            if grad.device().is_cuda() { cuda::cross_entropy::backward } else { cpu::cross_entropy::backward };
        Ok([Some(backward(logits, &self.0, grad)?)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device, Var};

    use super::*;
    use crate::testing::{check, random, values};

    const TARGETS: [u32; 5] = [0, 10, 7, 3, 3];

    const WEIGHTS: [f64; 5] = [1.0, 0.25, 0.0, -3.0, 1.5];

    /// The definition, with the target distributions (R, V) times the rows' `weights`.
    fn composite(logits: &Tensor, weights: [f64; 5], label_smoothing: f64) -> Result<Tensor> {
        let (_, vocabulary) = logits.dims2()?;
        let mut shares = Vec::new();
        for (target, weight) in TARGETS.into_iter().zip(weights) {
            for class in 0..vocabulary {
                let peak = if class == target as usize { 1.0 - label_smoothing } else { 0.0 };
                shares.push(weight * (peak + label_smoothing / vocabulary as f64));
            }
        }
        let shares = Tensor::from_vec(shares, logits.shape(), &Device::Cpu)?.to_dtype(logits.dtype())?;
        let log_sum = logits.exp()?.sum_keepdim(D::Minus1)?.log()?;
        (logits.broadcast_sub(&log_sum)? * shares)?.sum_all()?.neg()
    }

    #[test]
    fn loss_and_gradient_equal_the_definition() {
        let logits = (random((5, 11), "logits") * 2.0).unwrap();
        for label_smoothing in [0.0, 0.1, 1.0] {
            check(
                std::slice::from_ref(&logits),
                |i| cross_entropy(&i[0], &TARGETS, label_smoothing),
                |i| composite(&i[0], [1.0; 5], label_smoothing),
            );
        }
    }

    #[test]
    fn a_weight_is_a_factor_of_its_rows_loss_and_gradient() {
        let logits = (random((5, 11), "logits") * 2.0).unwrap();
        for label_smoothing in [0.0, 0.1, 1.0] {
            check(
                std::slice::from_ref(&logits),
                |i| weighted_cross_entropy(&i[0], &TARGETS, Some(&WEIGHTS), label_smoothing),
                |i| composite(&i[0], WEIGHTS, label_smoothing),
            );
        }
    }

    #[test]
    fn weights_of_one_change_no_bit() {
        let logits = Var::from_tensor(&random((5, 11), "logits").to_dtype(DType::F32).unwrap()).unwrap();
        let run = |weights| {
            let loss = weighted_cross_entropy(&logits, &TARGETS, weights, 0.1).unwrap();
            (values(&loss), values(loss.backward().unwrap().get(&logits).unwrap()))
        };
        assert_eq!(run(Some(&[1.0; 5])), run(None));
    }

    #[test]
    fn a_nan_logit_gives_a_nan_loss() {
        for position in 0..40 {
            let mut logits = vec![0.5_f32; 40];
            logits[position] = f32::NAN;
            let logits = Tensor::from_vec(logits, (1, 40), &Device::Cpu).unwrap();
            assert!(cross_entropy(&logits, &[0], 0.0).unwrap().to_scalar::<f32>().unwrap().is_nan());
        }
    }

    #[test]
    fn large_logits_and_minus_infinity_are_fine() {
        let logits = Var::new(&[[1e30_f32, f32::NEG_INFINITY, 0.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[0], 0.0).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
        assert_eq!(values(loss.backward().unwrap().get(&logits).unwrap()), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn uniform_logits_cost_the_logarithm_of_the_vocabulary() {
        let logits = Tensor::zeros((600, 100), DType::F32, &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[5; 600], 0.0).unwrap().to_scalar::<f32>().unwrap();
        assert!((f64::from(loss) / 600.0 - 100_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn targets_that_do_not_fit_are_an_error() {
        let logits = random((2, 3), "logits");
        assert!(cross_entropy(&logits, &[0, 3], 0.0).unwrap_err().to_string().contains("target 3 of row 1"));
        assert!(cross_entropy(&logits, &[0], 0.0).is_err());
        assert!(cross_entropy(&logits, &[0, 1], 1.5).is_err());
        for weights in [&[1.0][..], &[f64::NAN, 1.0], &[1.0, f64::INFINITY]] {
            assert!(weighted_cross_entropy(&logits, &[0, 1], Some(weights), 0.0).is_err(), "{weights:?}");
        }
    }
}
