//! Trying again: exponential backoff with full jitter, only after errors that can heal.
//!
//! Full jitter draws the wait evenly between nothing and the bound, so that clients which failed together do not
//! come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::time::Duration;

use rand::Rng;

use crate::error::ChatError;

/// How often and how patiently a call is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; 1 never tries again.
    pub attempts: u32,
    /// Bound of the first wait; doubles with each further one.
    pub first_wait: Duration,
    /// Largest bound of a wait, also of one that the server asks for: a longer one ends the call with its error.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// One attempt.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// How long to wait after attempt `attempt` (from 1) failed, or `None` to give up.
    pub fn wait(&self, attempt: u32, error: &ChatError, random: &mut impl Rng) -> Option<Duration> {
        if attempt >= self.attempts || !error.can_heal() {
            return None;
        }
        let doubled =
            self.first_wait.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        let jittered = doubled.min(self.longest_wait).mul_f64(random.random::<f64>());
        match error.retry_after() {
            Some(asked) if asked > self.longest_wait => None,
            // Jitter on top of what the server asked for: it told everybody the same.
            Some(asked) => Some(asked + jittered.min(self.first_wait)),
            None => Some(jittered),
        }
    }
}

/// The attempts of one call.
pub(crate) struct Attempts<'a> {
    policy: &'a Retry,
    made: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(policy: &'a Retry) -> Self {
        Self { policy, made: 0 }
    }

    /// Waits after a failed attempt; `false` if there is to be no other.
    pub(crate) async fn another(&mut self, error: &ChatError) -> bool {
        self.made += 1;
        let Some(wait) = self.policy.wait(self.made, error, &mut rand::rng()) else { return false };
        tracing::warn!(attempt = self.made, ?wait, %error, "model call failed, trying again");
        tokio::time::sleep(wait).await;
        true
    }
}

/// Reads `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rand::{SeedableRng, rngs::StdRng};
    use reqwest::header::{HeaderMap, RETRY_AFTER};

    use super::*;

    fn busy(retry_after: Option<Duration>) -> ChatError {
        ChatError::Overloaded { text: "busy".into(), retry_after }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_from_zero() {
        let policy = Retry {
            attempts: 9,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(4),
        };
        let mut random = StdRng::seed_from_u64(1);
        for (attempt, bound) in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0), (8, 4.0)] {
            let waits: Vec<f64> = (0..2000)
                .map(|_| policy.wait(attempt, &busy(None), &mut random).unwrap().as_secs_f64())
                .collect();
            let mean = waits.iter().sum::<f64>() / waits.len() as f64;
            assert!(waits.iter().all(|wait| *wait <= bound));
            assert!((mean / bound - 0.5).abs() < 0.03, "attempt {attempt}: mean {mean}");
        }
        assert_eq!(policy.wait(9, &busy(None), &mut random), None);
    }

    #[test]
    fn the_server_s_wait_is_honoured_up_to_our_patience() {
        let mut random = StdRng::seed_from_u64(1);
        let policy = Retry::default();
        let wait = policy.wait(1, &busy(Some(Duration::from_secs(7))), &mut random).unwrap();
        assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_millis(7500));
        assert_eq!(policy.wait(1, &busy(Some(Duration::from_secs(3600))), &mut random), None);
    }

    #[test]
    fn what_cannot_heal_is_not_tried_again() {
        let mut random = StdRng::seed_from_u64(1);
        let error = ChatError::BadRequest { text: "no".into() };
        assert_eq!(Retry::default().wait(1, &error, &mut random), None);
        assert_eq!(Retry::never().wait(1, &busy(None), &mut random), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("12"), Some(Duration::from_secs(12)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(read(&later).unwrap() > Duration::from_secs(90));
        assert_eq!(read("soon"), None);
    }
}
