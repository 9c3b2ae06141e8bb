//! Learning rate over the updates of a run.

use serde::{Deserialize, Serialize};

/// Linear warm-up, then half a cosine down to `floor` (SGDR, arXiv 1608.03983, without restarts).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub kind: Kind,
    pub updates: u64,
    pub warmup: u64,
    /// The last learning rate, as a fraction of the highest.
    pub floor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Constant,
    Cosine,
}

impl Schedule {
    /// What to multiply the highest learning rate with in update `update`, which counts from 0.
    pub fn factor(&self, update: u64) -> f64 {
        if update < self.warmup {
            return (update + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            Kind::Constant => 1.0,
            Kind::Cosine => {
                let span = self.updates.saturating_sub(self.warmup).max(1) as f64;
                let done = ((update - self.warmup) as f64 / span).min(1.0);
                self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_floor() {
        let schedule = Schedule { kind: Kind::Cosine, updates: 110, warmup: 10, floor: 0.1 };
        assert!((schedule.factor(0) - 0.1).abs() < 1e-12);
        assert!((schedule.factor(9) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(10) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(60) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(110) - 0.1).abs() < 1e-12);
        let constant = Schedule { kind: Kind::Constant, ..schedule };
        assert!((constant.factor(100) - 1.0).abs() < 1e-12);
    }
}
