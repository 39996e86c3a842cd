//! The learning rate over the updates, as transformers' `get_linear_schedule_with_warmup` and its siblings compute it.

use crate::config::{ScheduleConfig, ScheduleKind};

/// Factor on the peak learning rate for update number `step`, counted from 0, of `total_steps`. With a warm-up the
/// first update has the factor 0.
pub fn learning_rate_factor(schedule: &ScheduleConfig, step: u64, total_steps: u64) -> f64 {
    let warmup = schedule.warmup_steps as u64;
    if step < warmup {
        return step as f64 / warmup as f64;
    }
    let span = total_steps.saturating_sub(warmup).max(1) as f64;
    match schedule.kind {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Linear => total_steps.saturating_sub(step) as f64 / span,
        ScheduleKind::Cosine => {
            let progress = ((step - warmup) as f64 / span).min(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(kind: ScheduleKind, warmup_steps: usize) -> Vec<f64> {
        let schedule = ScheduleConfig { kind, warmup_steps };
        (0..6).map(|step| learning_rate_factor(&schedule, step, 6)).collect()
    }

    #[test]
    fn linear_equals_transformers() {
        // transformers.get_linear_schedule_with_warmup(optimizer, 2, 6)
        assert_eq!(factors(ScheduleKind::Linear, 2), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn no_warmup_begins_at_the_peak() {
        assert_eq!(factors(ScheduleKind::Constant, 0), [1.0; 6]);
        assert_eq!(factors(ScheduleKind::Linear, 0)[0], 1.0);
    }

    #[test]
    fn cosine_falls_to_zero_after_the_last_update() {
        let schedule = ScheduleConfig { kind: ScheduleKind::Cosine, warmup_steps: 2 };
        assert!((learning_rate_factor(&schedule, 4, 6) - 0.5).abs() < 1e-12);
        assert!(learning_rate_factor(&schedule, 6, 6).abs() < 1e-12);
    }

    #[test]
    fn a_warmup_longer_than_the_run_never_divides_by_zero() {
        let schedule = ScheduleConfig { kind: ScheduleKind::Linear, warmup_steps: 10 };
        assert!((0..6).all(|step| learning_rate_factor(&schedule, step, 6).is_finite()));
    }
}
