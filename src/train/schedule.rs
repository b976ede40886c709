//! Learning rate over a run: linear warm-up, then a cosine to the minimum.

use serde::{Deserialize, Serialize};

/// The `[schedule]` table of a recipe.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Optimiser steps of the whole run.
    pub steps: u64,
    /// Steps over which the rate rises from 0 to its peak.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the last step.
    #[serde(default)]
    pub min_learning_rate: f64,
}

impl Schedule {
    /// Learning rate of step `step`, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn warms_up_then_falls_to_the_minimum() {
        let schedule = Schedule { steps: 110, warmup_steps: 10, learning_rate: 1.0, min_learning_rate: 0.1 };
        assert_eq!(schedule.learning_rate_at(0), 0.1);
        assert_eq!(schedule.learning_rate_at(9), 1.0);
        assert_eq!(schedule.learning_rate_at(10), 1.0);
        assert!((schedule.learning_rate_at(60) - 0.55).abs() < 1e-12, "half-way is the mean of both ends");
        assert!((schedule.learning_rate_at(110) - 0.1).abs() < 1e-12);
        assert!((1..110).all(|s| s < 10 || schedule.learning_rate_at(s) <= schedule.learning_rate_at(s - 1)));
    }
}
