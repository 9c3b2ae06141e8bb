//! What a completion that runs out of room costs (DAPO, arXiv 2503.14476, section 3.4).
//!
//! Two remedies: leave a truncated completion out of the loss, or take a growing penalty off its reward. The paper adds
//! them one after the other; verl's notes on its reproduction say that the best runs did not combine them.

use serde::{Deserialize, Serialize};

use super::PolicyConfigError;

/// What is done about long completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlongConfig {
    /// Whether the tokens of truncated completions are left out of the loss and of its denominator. TRL:
    /// `mask_truncated_completions`. Their rewards still count in the statistics of the group.
    pub filter_truncated: bool,
    /// A penalty added to the reward; absent: none.
    pub soft_punishment: Option<SoftPunishment>,
}

impl OverlongConfig {
    /// # Errors
    /// Names the key that makes no sense, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        let Some(SoftPunishment { max_length, cache }) = self.soft_punishment else {
            return Ok(());
        };
        PolicyConfigError::unless(
            cache > 0 && cache <= max_length,
            "overlong.soft_punishment.cache",
            &cache,
            "it must be between 1 and `overlong.soft_punishment.max_length`",
        )
    }

    /// Which tokens of a completion count in the loss: those that the policy `sampled` (false on tool output), none of a
    /// truncated completion where those are filtered. Count the tokens of the window *after* this; TRL did so before
    /// until 1.9, and trained with too small a step.
    pub fn loss_mask(&self, sampled: &[bool], truncated: bool) -> Vec<bool> {
        let filtered = self.filter_truncated && truncated;
        sampled.iter().map(|&token| token && !filtered).collect()
    }
}

/// DAPO's eq. 13: free up to `max_length - cache` tokens, then linearly down to -1 at `max_length`, -1 beyond.
///
/// The paper uses 20,480 and 4,096. Add it to the reward, before advantages; not to the score by which dynamic sampling
/// decides whether a group was all right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftPunishment {
    /// Tokens beyond which the penalty is full.
    pub max_length: usize,
    /// Tokens over which it grows.
    pub cache: usize,
}

impl SoftPunishment {
    /// What a completion of `tokens` tokens, those of tools included, adds to its reward: between -1 and 0.
    pub fn penalty(&self, tokens: usize) -> f64 {
        let free = self.max_length.saturating_sub(self.cache);
        let over = tokens.saturating_sub(free);
        if over == 0 { 0.0 } else { -(over as f64 / self.cache as f64).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFT: SoftPunishment = SoftPunishment { max_length: 512, cache: 128 };

    /// TRL's `get_soft_overlong_punishment(512, 128)`.
    #[test]
    fn the_penalty_grows_over_the_cache() {
        let expected =
            [(0, 0.0), (384, 0.0), (385, -0.0078125), (448, -0.5), (512, -1.0), (513, -1.0)];
        for (tokens, penalty) in expected {
            assert_eq!(SOFT.penalty(tokens), penalty, "at {tokens} tokens");
        }
    }

    #[test]
    fn a_cache_without_room_is_named() {
        for cache in [0, 513] {
            let soft_punishment = Some(SoftPunishment { cache, ..SOFT });
            let config = OverlongConfig { filter_truncated: false, soft_punishment };
            assert_eq!(
                config.check().expect_err("refused").to_string(),
                format!(
                    "`overlong.soft_punishment.cache` is {cache}; it must be between 1 and \
                     `overlong.soft_punishment.max_length`"
                )
            );
        }
    }
}
