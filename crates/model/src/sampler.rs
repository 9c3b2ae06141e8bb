//! From logits to the next token.

use agentflow_llm::Sampling;
use llguidance::toktrie::SimpleVob;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{ModelError, Result};

/// Draws the tokens of one reply; the same seed and logits give the same tokens.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    drawn: usize,
}

/// A sampled token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    pub token: u32,
    /// In nats, under the distribution after temperature and grammar, renormalised, before top-k, top-p and min-p:
    /// what the trainer computes again. With temperature 0 it is that of temperature 1.
    pub logprob: f32,
}

impl Sampler {
    /// A sampler; without a seed in `sampling` a random one is taken.
    pub fn new(sampling: &Sampling) -> Self {
        let rng = match sampling.seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::from_os_rng(),
        };
        Self { sampling: sampling.clone(), rng, drawn: 0 }
    }

    /// Draws from `logits`, of which `mask` allows some. The order is: mask, temperature, top-k, top-p, min-p, draw.
    ///
    /// # Errors
    /// If nothing is left to draw, or a logit is not a number.
    pub fn sample(&mut self, logits: &[f32], mask: Option<&SimpleVob>) -> Result<Sampled> {
        let nothing = ModelError::NothingToSample { tokens: self.drawn };
        let allowed = |token: usize| mask.is_none_or(|mask| mask.is_allowed(token as u32));
        let temperature = self.sampling.temperature as f32;
        let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
        let mut candidates: Vec<(u32, f32)> = logits
            .iter()
            .enumerate()
            .filter(|(token, _)| allowed(*token))
            .map(|(token, logit)| (token as u32, logit * scale))
            .collect();
        let best = candidates
            .iter()
            .copied()
            .reduce(|best, other| if other.1 > best.1 { other } else { best });
        let Some((best_token, highest)) = best.filter(|(_, logit)| logit.is_finite()) else {
            return Err(nothing);
        };
        if candidates.iter().any(|(_, logit)| logit.is_nan()) {
            return Err(nothing);
        }
        let total: f64 = candidates.iter().map(|(_, logit)| f64::from(logit - highest).exp()).sum();
        let log_total = total.ln() as f32;
        let logprob = |logit: f32| logit - highest - log_total;
        self.drawn += 1;
        if temperature <= 0.0 {
            return Ok(Sampled { token: best_token, logprob: logprob(highest) });
        }
        self.truncate(&mut candidates, highest, total);
        let weights: Vec<f64> =
            candidates.iter().map(|(_, logit)| f64::from(logit - highest).exp()).collect();
        let mut left = self.rng.random::<f64>() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding can leave a sliver behind the last weight.
        let (token, logit) = candidates[drawn.unwrap_or(candidates.len() - 1)];
        Ok(Sampled { token, logprob: logprob(logit) })
    }

    /// Keeps the tokens that top-k, top-p and min-p keep; at least one.
    fn truncate(&self, candidates: &mut Vec<(u32, f32)>, highest: f32, total: f64) {
        let Sampling { top_p, top_k, min_p, .. } = self.sampling;
        let top_k = top_k.filter(|k| *k > 0 && *k < candidates.len());
        if top_k.is_none() && top_p >= 1.0 && min_p <= 0.0 {
            return;
        }
        // Most probable first; equal ones by id, so that the order does not depend on the sort.
        candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if let Some(k) = top_k {
            candidates.truncate(k);
        }
        if top_p < 1.0 {
            let probability = |logit: f32| f64::from(logit - highest).exp() / total;
            let kept_total: f64 = candidates.iter().map(|(_, logit)| probability(*logit)).sum();
            let mut before = 0.0;
            let keep = candidates.iter().take_while(|(_, logit)| {
                let keep = before < top_p * kept_total;
                before += probability(*logit);
                keep
            });
            let keep = keep.count().max(1);
            candidates.truncate(keep);
        }
        if min_p > 0.0 {
            let floor = highest + min_p.ln() as f32;
            candidates.retain(|(_, logit)| *logit >= floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64) -> Sampling {
        Sampling { temperature, top_p: 1.0, top_k: None, min_p: 0.0, seed: Some(7) }
    }

    fn logits() -> [f32; 4] {
        [0.5, 0.25, 0.15, 0.1].map(f32::ln)
    }

    fn shares(sampling: &Sampling, mask: Option<&SimpleVob>) -> [f64; 4] {
        let mut sampler = Sampler::new(sampling);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits(), mask).expect("logits are finite").token as usize] +=
                1.0 / 20_000.0;
        }
        counts
    }

    fn assert_shares(found: [f64; 4], wanted: [f64; 4]) {
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 0.015, "{found} instead of {wanted}");
            assert!(wanted > 0.0 || *found == 0.0, "a token that was cut off was drawn");
        }
    }

    #[test]
    fn draws_in_proportion() {
        assert_shares(shares(&sampling(1.0), None), [0.5, 0.25, 0.15, 0.1]);
        // Temperature 0.5 squares the probabilities.
        assert_shares(
            shares(&sampling(0.5), None),
            [0.25, 0.0625, 0.0225, 0.01].map(|p| p / 0.345),
        );
    }

    #[test]
    fn truncations_keep_what_they_say() {
        assert_shares(
            shares(&Sampling { top_k: Some(2), ..sampling(1.0) }, None),
            [2. / 3., 1. / 3., 0., 0.],
        );
        // 0.5 + 0.25 reaches 0.7, so two tokens stay.
        assert_shares(
            shares(&Sampling { top_p: 0.7, ..sampling(1.0) }, None),
            [2. / 3., 1. / 3., 0., 0.],
        );
        assert_shares(
            shares(&Sampling { min_p: 0.29, ..sampling(1.0) }, None),
            [0.5, 0.25, 0.15, 0.0].map(|p| p / 0.9),
        );
    }

    #[test]
    fn a_mask_renormalises_draws_and_logprobs() {
        let mask = SimpleVob::from_slice(&[false, true, false, true]);
        assert_shares(shares(&sampling(1.0), Some(&mask)), [0., 0.25 / 0.35, 0., 0.1 / 0.35]);
        let greedy = Sampler::new(&sampling(0.0))
            .sample(&logits(), Some(&mask))
            .expect("one token is allowed");
        assert_eq!(greedy.token, 1);
        assert!((greedy.logprob - (0.25_f32 / 0.35).ln()).abs() < 1e-5);
    }

    #[test]
    fn nothing_allowed_and_nan_are_errors() {
        let nothing = SimpleVob::from_slice(&[false; 4]);
        assert!(Sampler::new(&sampling(1.0)).sample(&logits(), Some(&nothing)).is_err());
        assert!(Sampler::new(&sampling(1.0)).sample(&[0.0, f32::NAN], None).is_err());
        assert!(Sampler::new(&sampling(0.0)).sample(&[f32::NEG_INFINITY; 2], None).is_err());
    }
}
