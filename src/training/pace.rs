//! How fast this machine multiplies at the sizes of a run, beside what it could do: for choices that are slow here.

use std::time::Instant;

use candle_core::{Device, Result, Tensor};

use crate::training::forecast::BatchSizes;
use crate::training::plan::{ImagePath, RunPlan};
use ops::{LinearOptions, Precision, Weight, WeightLayout, has_bf16_instructions, linear};

/// Repetitions of a product; the median counts.
const REPETITIONS: usize = 7;
/// Rows of a product that is large enough for any cache to be used well.
const MANY_ROWS: usize = 2048;
/// A ratio of times that is worth a word.
const NOTABLE: f64 = 0.8;

/// Ratios of times of a block's first product in the MLP, measured on the threads that one part of a batch gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// In bf16 over f32; absent where the processor has no bf16.
    pub bf16: Option<f64>,
    /// Of a row among many over a row among as many as the run has.
    pub many_rows: f64,
    /// Rows that the run has.
    pub rows: usize,
}

/// Measures the product that the run spends most of its time with. `part` is the largest part of a batch that is
/// computed at once.
///
/// # Errors
/// A machine without memory for it.
pub fn measure(plan: &RunPlan, part: BatchSizes) -> Result<Pace> {
    let (encoder, decoder) = (plan.shape.encoder.sizes(), plan.shape.decoder.sizes());
    let (rows, inputs, outputs) = match plan.image_path {
        ImagePath::EncodedOnce => (part.positions, decoder.hidden_size, decoder.intermediate_size),
        ImagePath::EncodedEachTime | ImagePath::Trained => {
            let rows = part.images * plan.shape.encoder.sequence_length();
            (rows, encoder.hidden_size, encoder.intermediate_size)
        }
    };
    let rows = rows.max(1);
    let seconds = |rows: usize, precision| seconds_of(rows, inputs, outputs, precision);
    let own = seconds(rows, Precision::Full)?;
    let bf16 = if has_bf16_instructions() { Some(seconds(rows, Precision::Bf16)? / own) } else { None };
    let many = seconds(rows.max(MANY_ROWS), Precision::Full)?;
    Ok(Pace { bf16, many_rows: many / rows.max(MANY_ROWS) as f64 / (own / rows as f64), rows })
}

/// The median of the seconds of a product (rows, inputs) x (inputs, outputs).
fn seconds_of(rows: usize, inputs: usize, outputs: usize, precision: Precision) -> Result<f64> {
    let x = Tensor::full(0.5_f32, (rows, inputs), &Device::Cpu)?;
    let weight = Weight::new(Tensor::full(0.25_f32, (outputs, inputs), &Device::Cpu)?);
    let options = LinearOptions { layout: WeightLayout::OutIn, precision, activation: None };
    linear(&x, &weight, None, &options)?;
    let mut seconds = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        linear(&x, &weight, None, &options)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPETITIONS / 2])
}

impl Pace {
    /// What to choose otherwise, with `num_threads` threads that compute on `num_processors`.
    pub fn advice(&self, precision: Precision, num_threads: usize, num_processors: usize) -> Vec<String> {
        let mut advice = Vec::new();
        match self.bf16 {
            Some(ratio) if precision == Precision::Bf16 && ratio > 1.0 => advice.push(format!(
                "products in bf16 take {ratio:.2} times as long as in f32 on this processor: set training.precision = \
                 \"f32\""
            )),
            Some(ratio) if precision == Precision::Full && ratio < NOTABLE => advice.push(format!(
                "products in bf16 take {ratio:.2} of the time of f32 on this processor: see training.precision"
            )),
            _ => {}
        }
        if self.many_rows < NOTABLE {
            advice.push(format!(
                "products of {} rows, those of one part of a batch, run at {:.2} of the rate of larger ones: a larger \
                 training.batch_size, or fewer training.parts, would take less time for each caption",
                self.rows, self.many_rows
            ));
        }
        if num_threads > num_processors {
            advice.push(format!(
                "{num_threads} threads compute on {num_processors} processors and wait for each other: lower \
                 RAYON_NUM_THREADS"
            ));
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_slow_is_worth_advice() {
        let pace = |bf16, many_rows| Pace { bf16, many_rows, rows: 40 };
        let good = pace(Some(0.5), 0.95);
        assert!(good.advice(Precision::Bf16, 2, 2).is_empty());
        assert!(pace(None, 0.95).advice(Precision::Full, 2, 2).is_empty());
        let advice = |pace: Pace, precision, threads| pace.advice(precision, threads, 2).join("\n");
        assert!(advice(good, Precision::Full, 2).contains("bf16 take 0.50 of the time"));
        assert!(advice(pace(Some(1.2), 0.95), Precision::Bf16, 2).contains("1.20 times as long"));
        assert!(advice(pace(None, 0.5), Precision::Full, 2).contains("40 rows"));
        assert!(advice(good, Precision::Bf16, 3).contains("3 threads compute on 2 processors"));
    }

    #[test]
    fn a_product_takes_longer_with_more_rows() {
        let seconds = |rows| seconds_of(rows, 64, 64, Precision::Full).unwrap();
        assert!(seconds(4096) > seconds(1));
    }
}
