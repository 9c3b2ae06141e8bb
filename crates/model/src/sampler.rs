//! From logits to the next token.

use agentflow_llm::Sampling;
use llguidance::toktrie::SimpleVob;
use rand::{Rng, SeedableRng, TryRngCore};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::error::{ModelError, Result};
use crate::ops::{SoftmaxSums, masked, scaled};

/// What a reply's random numbers hang on beside the seed: which prompt, and which of its samples.
///
/// Nothing else: not the other replies, nor when or where this one is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    pub prompt: u64,
    pub sample: u64,
}

impl Draw {
    /// That of a prompt's tokens.
    pub fn of_prompt(prompt: &[u32], sample: u64) -> Self {
        let mut hash = Sha256::new();
        for id in prompt {
            hash.update(id.to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self { prompt: u64::from_le_bytes([a, b, c, d, e, f, g, h]), sample }
    }
}

/// Draws the tokens of one reply. The same seed, [`Draw`], position and logits give the same token.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    key: [u8; 32],
}

/// A sampled token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    pub token: u32,
    /// In nats, under the distribution after temperature and grammar, renormalised, before top-k, top-p and min-p:
    /// what the trainer computes again. With temperature 0 it is that of temperature 1.
    pub logprob: f32,
    /// In nats, under the softmax of the logits as they are: temperature 1, no grammar.
    pub plain_logprob: f32,
}

impl Sampler {
    /// A sampler; without a seed in `sampling` a random one is taken.
    pub fn new(sampling: &Sampling, draw: Draw) -> Self {
        let seed = sampling.seed.unwrap_or_else(|| {
            // Without randomness from the system the clock has to do: nobody asked for a seed.
            rand::rngs::OsRng.try_next_u64().unwrap_or_else(|_| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(0, |now| now.as_nanos() as u64)
            })
        });
        let mut hash = Sha256::new();
        hash.update(b"agentflow.draw/1");
        for part in [seed, draw.prompt, draw.sample] {
            hash.update(part.to_le_bytes());
        }
        Self { sampling: sampling.clone(), key: hash.finalize().into() }
    }

    /// Draws the token at `position` of the reply from `logits`, of which `mask` allows some. The order is: mask,
    /// temperature, top-k, top-p, min-p, draw.
    ///
    /// # Errors
    /// If nothing is left to draw, or a logit is not a number.
    pub fn sample(
        &self,
        logits: &[f32],
        mask: Option<&SimpleVob>,
        position: usize,
    ) -> Result<Sampled> {
        let nothing = ModelError::NothingToSample { tokens: position };
        let temperature = self.sampling.temperature as f32;
        let mut row = vec![0.0; logits.len()];
        let sums = distribution(logits, mask, temperature, &mut row);
        if !(sums.highest.is_finite() && sums.total.is_finite()) {
            return Err(nothing);
        }
        let token = if temperature <= 0.0 {
            row.iter().position(|logit| *logit == sums.highest).ok_or(nothing)?
        } else {
            let mut random = ChaCha8Rng::from_seed(self.key);
            random.set_stream(position as u64);
            let fraction = random.random::<f64>();
            match self.candidates(&row, &sums) {
                None => sums.draw(&row, fraction),
                Some(candidates) => draw_of(&candidates, sums.highest, fraction),
            }
        };
        let logprob = sums.logprob(row[token]);
        let is_plain = mask.is_none() && (temperature <= 0.0 || temperature == 1.0);
        let plain_logprob =
            if is_plain { logprob } else { SoftmaxSums::new(logits).logprob(logits[token]) };
        Ok(Sampled { token: token as u32, logprob, plain_logprob })
    }

    /// The tokens that top-k, top-p and min-p keep, at least one; `None` where they keep all.
    fn candidates(&self, row: &[f32], sums: &SoftmaxSums) -> Option<Vec<(u32, f32)>> {
        let Sampling { top_p, top_k, min_p, .. } = self.sampling;
        let top_k = top_k.filter(|k| *k > 0 && *k < row.len());
        if top_k.is_none() && top_p >= 1.0 && min_p <= 0.0 {
            return None;
        }
        // Most probable first; equal ones by id, so that the order does not depend on the sort.
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let probability = |logit: f32| f64::from(logit - sums.highest).exp() / sums.total;
        // All tokens less likely than this together have less than 1 - top-p: none of them can stay.
        let share = if top_k.is_none() { (1.0 - top_p) / row.len() as f64 } else { 0.0 };
        let share = if share > 0.0 { (share * sums.total).ln() as f32 - 1e-3 } else { f32::MIN };
        let floor = sums.highest + share.max(f32::MIN / 2.0);
        let mut candidates: Vec<(u32, f32)> = row
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit >= floor)
            .map(|(token, logit)| (token as u32, *logit))
            .collect();
        if let Some(k) = top_k.filter(|k| *k < candidates.len()) {
            candidates.select_nth_unstable_by(k - 1, order);
            candidates.truncate(k);
        }
        candidates.sort_unstable_by(order);
        if top_p < 1.0 {
            // Of what top-k left; without it of everything, which is 1.
            let kept: f64 = match top_k {
                Some(_) => candidates.iter().map(|(_, logit)| probability(*logit)).sum(),
                None => 1.0,
            };
            let mut before = 0.0;
            let keep = candidates.iter().take_while(|(_, logit)| {
                let keep = before < top_p * kept;
                before += probability(*logit);
                keep
            });
            let keep = keep.count().max(1);
            candidates.truncate(keep);
        }
        if min_p > 0.0 {
            let floor = sums.highest + min_p.ln() as f32;
            candidates.retain(|(_, logit)| *logit >= floor);
        }
        Some(candidates)
    }
}

/// The distribution that tokens are drawn from, before truncations: writes `logits / temperature` where `mask` allows
/// them, else minus infinity, to `row`. Temperature 0 counts as 1.
pub(crate) fn distribution(
    logits: &[f32],
    mask: Option<&SimpleVob>,
    temperature: f32,
    row: &mut [f32],
) -> SoftmaxSums {
    let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
    match mask {
        Some(mask) => {
            row.fill(f32::NEG_INFINITY); // a mask may be shorter than the vocabulary
            masked(logits, scale, mask.as_slice(), row);
        }
        None => scaled(logits, scale, row),
    }
    SoftmaxSums::new(row)
}

fn draw_of(candidates: &[(u32, f32)], highest: f32, fraction: f64) -> usize {
    let weight = |logit: f32| f64::from(logit - highest).exp();
    let total: f64 = candidates.iter().map(|(_, logit)| weight(*logit)).sum();
    let mut left = fraction * total;
    let drawn = candidates.iter().find(|(_, logit)| {
        left -= weight(*logit);
        left < 0.0
    });
    // Rounding can leave a sliver behind the last weight.
    drawn.or(candidates.last()).map_or(0, |(token, _)| *token as usize)
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
        let sampler = Sampler::new(sampling, Draw { prompt: 1, sample: 0 });
        let mut counts = [0.0; 4];
        for position in 0..20_000 {
            let sampled = sampler.sample(&logits(), mask, position).expect("logits are finite");
            counts[sampled.token as usize] += 1.0 / 20_000.0;
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
        let sampled = |temperature: f64| {
            Sampler::new(&sampling(temperature), Draw { prompt: 1, sample: 0 })
                .sample(&logits(), Some(&mask), 0)
                .expect("two tokens are allowed")
        };
        assert_eq!(sampled(0.0).token, 1);
        assert!((sampled(0.0).logprob - (0.25_f32 / 0.35).ln()).abs() < 1e-6);
        let hot = sampled(2.0);
        let p = logits().map(f32::exp);
        let chosen = p[hot.token as usize];
        let wanted = (chosen.sqrt() / (p[1].sqrt() + p[3].sqrt())).ln();
        assert!((hot.logprob - wanted).abs() < 1e-6, "{hot:?}");
        assert!((hot.plain_logprob - chosen.ln()).abs() < 1e-6, "{hot:?}");
    }

    #[test]
    fn nothing_allowed_and_nan_are_errors() {
        let sampler = |t: f64| Sampler::new(&sampling(t), Draw { prompt: 1, sample: 0 });
        let nothing = SimpleVob::from_slice(&[false; 4]);
        assert!(sampler(1.0).sample(&logits(), Some(&nothing), 0).is_err());
        assert!(sampler(1.0).sample(&[0.0, f32::NAN], None, 0).is_err());
        assert!(sampler(0.0).sample(&[f32::NEG_INFINITY; 2], None, 0).is_err());
    }

    #[test]
    fn seed_prompt_sample_and_position_decide_and_nothing_else() {
        let logits: Vec<f32> = vec![0.0; 5000];
        let token = |seed: u64, draw: Draw, position: usize| {
            let sampling = Sampling { seed: Some(seed), ..sampling(1.0) };
            let sampler = Sampler::new(&sampling, draw);
            sampler.sample(&logits, None, position).expect("logits are finite").token
        };
        let draw = Draw::of_prompt(&[1, 2, 3], 0);
        assert_eq!(token(7, draw, 4), token(7, Draw::of_prompt(&[1, 2, 3], 0), 4));
        let others = [
            token(8, draw, 4),
            token(7, Draw::of_prompt(&[1, 2, 4], 0), 4),
            token(7, Draw { sample: 1, ..draw }, 4),
            token(7, draw, 5),
        ];
        assert!(others.iter().all(|other| *other != token(7, draw, 4)), "{others:?}");
    }
}
