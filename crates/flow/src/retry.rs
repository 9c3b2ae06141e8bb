//! When a failed attempt is followed by another, and after how long.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::error::StepError;

/// Attempts, and the waits between them: `first`, `first · factor`, `first · factor²`, ..., none longer than `cap`.
///
/// ```
/// use std::time::Duration;
/// use agentflow_flow::Retry;
///
/// let retry = Retry { attempts: 5, cap: Duration::from_secs(10), ..Retry::default() };
/// # let _ = retry;
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    /// All of them, the first included.
    pub attempts: u32,
    /// The wait after the first failure.
    pub first: Duration,
    /// How much longer each further wait is.
    pub factor: f64,
    /// No wait is longer, unless [`StepError::retry_after`] asks for it.
    pub cap: Duration,
    /// Shortens each wait by up to half, so that many that failed together do not come back together. By how much is
    /// decided by run, path and attempt: it can be repeated.
    pub jitter: bool,
    /// Which of the errors that can heal ([`ErrorKind::Failed`](crate::ErrorKind::Failed) and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout)) are tried again. The others
    /// never are.
    pub when: fn(&StepError) -> bool,
}

impl Default for Retry {
    /// Three attempts; 200 ms, then 400 ms, with jitter, never more than 30 s; every error that can heal.
    fn default() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(200),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: true,
            when: |_| true,
        }
    }
}

impl Retry {
    /// The default waits, and this many attempts in all.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// No second attempt: what nodes do that say nothing.
    pub fn never() -> Self {
        Self::attempts(1)
    }

    /// This many attempts with nothing between them.
    pub fn at_once(attempts: u32) -> Self {
        Self { attempts, first: Duration::ZERO, jitter: false, ..Self::default() }
    }

    pub(crate) fn heals(&self, error: &StepError) -> bool {
        matches!(error.kind().name(), "failed" | "timeout") && (self.when)(error)
    }

    /// The wait after `failures` failures (1 or more) of what `key` names.
    pub(crate) fn wait(
        &self,
        failures: u32,
        error: &StepError,
        key: impl FnOnce() -> String,
    ) -> Duration {
        let cap = self.cap.as_secs_f64();
        let grown = self.first.as_secs_f64() * self.factor.powi(failures.saturating_sub(1) as i32);
        // Not `min`: a factor of NaN or infinity has to end up somewhere, too.
        let mut seconds = if grown < cap { grown.max(0.0) } else { cap };
        if self.jitter && seconds > 0.0 {
            let mut hasher = DefaultHasher::new();
            (key(), failures).hash(&mut hasher);
            seconds *= 1.0 - 0.5 * (hasher.finish() as f64 / u64::MAX as f64);
        }
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(self.cap);
        wait.max(error.least_wait().unwrap_or_default())
    }
}
