//! How parameters begin, as transformers initialises each family. Each is drawn from a stream of its own name.

use candle_core::{DType, Device, Result, Tensor};

use base::random::Stream;

/// A distribution of first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All this.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Normal with mean 0 and this standard deviation, redrawn beyond two of them.
    TruncatedNormal(f64),
    /// Uniform between minus this and this.
    Uniform(f64),
}

impl Initializer {
    /// `torch.nn.init.xavier_uniform_` of a weight `[output, input]`.
    pub fn xavier_uniform(input: usize, output: usize) -> Self {
        Self::Uniform((6.0 / (input + output) as f64).sqrt())
    }

    /// First values of the parameter `name`: a function of (seed, name, shape) only.
    ///
    /// # Errors
    /// Errors of creating the tensor.
    pub fn draw(self, seed: u64, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let mut stream = Stream::new(seed, "initialization", name);
        let mut next = || match self {
            Self::Zeros => 0.0,
            Self::Ones => 1.0,
            Self::Constant(value) => value,
            Self::Normal(deviation) => deviation * stream.normal(),
            Self::TruncatedNormal(deviation) => deviation * truncated(&mut stream),
            Self::Uniform(bound) => bound * (2.0 * stream.uniform() - 1.0),
        };
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }
}

fn truncated(stream: &mut Stream) -> f64 {
    loop {
        let value = stream.normal();
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(initializer: Initializer, name: &str) -> Vec<f64> {
        initializer
            .draw(1, name, &[64, 64], DType::F64, &Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn values_depend_on_the_name_and_not_on_the_order_of_drawing() {
        let first = draw(Initializer::Normal(0.02), "a");
        assert_ne!(first, draw(Initializer::Normal(0.02), "b"));
        assert_eq!(first, draw(Initializer::Normal(0.02), "a"));
    }

    #[test]
    fn bounds_and_deviation_hold() {
        assert!(draw(Initializer::TruncatedNormal(0.5), "a").iter().all(|value| value.abs() <= 1.0));
        assert!(draw(Initializer::Uniform(0.25), "a").iter().all(|value| value.abs() <= 0.25));
        let normal = draw(Initializer::Normal(0.02), "a");
        let deviation = (normal.iter().map(|value| value * value).sum::<f64>() / normal.len() as f64).sqrt();
        assert!((deviation / 0.02 - 1.0).abs() < 0.05, "deviation {deviation}");
    }
}
