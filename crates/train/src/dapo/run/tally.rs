//! What is counted over the rounds of a rollout.

use std::time::Instant;

use super::records::RolloutMetrics;
use crate::dapo::rollout::Group;

/// What is counted over the rounds of a rollout.
pub(super) struct Tally {
    pub(super) metrics: RolloutMetrics,
    right: f64,
    calls: usize,
    prm: (f64, usize),
    last_failure: Option<String>,
}

impl Tally {
    pub(super) fn new(number: u64) -> Self {
        let metrics = RolloutMetrics { number, ..RolloutMetrics::default() };
        Self { metrics, right: 0.0, calls: 0, prm: (0.0, 0), last_failure: None }
    }

    pub(super) fn add(&mut self, groups: &[Group]) {
        for group in groups {
            for attempt in &group.attempts {
                self.metrics.attempts += 1;
                self.calls += attempt.decisions.len();
                match attempt.outcome {
                    Some(outcome) => self.right += outcome,
                    None => {
                        self.metrics.failed += 1;
                        self.last_failure.clone_from(&attempt.error);
                    }
                }
            }
            for decided in group.decisions() {
                self.metrics.completion_tokens += decided.row.completion.len();
                if let Some(prm) = decided.prm {
                    self.prm = (self.prm.0 + prm, self.prm.1 + 1);
                }
            }
        }
    }

    /// Why the last attempt failed, where all did.
    pub(super) fn only_failures(&self) -> Option<String> {
        let RolloutMetrics { attempts, failed, .. } = self.metrics;
        let error = || self.last_failure.clone().unwrap_or_default();
        (attempts > 0 && attempts == failed).then(error)
    }

    pub(super) fn finish(self, kept: &[Group], wanted: usize, started: Instant) -> RolloutMetrics {
        let Self { metrics, right, calls, prm, .. } = self;
        let wall_s = started.elapsed().as_secs_f64();
        let share = |part: f64, whole: usize| part / whole.max(1) as f64;
        RolloutMetrics {
            kept: kept.len(),
            kept_share: share(kept.len() as f64, metrics.seen),
            missing: wanted.saturating_sub(kept.len()),
            accuracy: share(right, metrics.attempts - metrics.failed),
            calls: share(calls as f64, metrics.attempts),
            prm: (prm.1 > 0).then(|| prm.0 / prm.1 as f64),
            tokens_per_s: metrics.completion_tokens as f64 / wall_s,
            wall_s,
            ..metrics
        }
    }
}
