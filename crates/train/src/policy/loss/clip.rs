//! The clipped surrogate of PPO (arXiv 1707.06347, eq. 7), with DAPO's two bounds and an optional third.

use candle_core::{Result, Tensor};

/// Where the ratio stops to matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Clip {
    /// 1 - `low` is the lower bound; it acts where the advantage is negative.
    pub(super) low: f64,
    /// 1 + `high` is the upper bound; it acts where the advantage is positive. DAPO's clip-higher: 0.28 over 0.2.
    pub(super) high: f64,
    /// Upper bound where the advantage is negative, above 1 + `high`: such a token costs at most `delta` × |advantage|.
    /// TRL's `delta` (INTELLECT-2) and verl's dual clip `c` (arXiv 1912.09729) are the same function.
    pub(super) delta: Option<f64>,
}

/// `-min(min(ρ, δ)·A, clip(ρ, 1 - low, 1 + high)·A)` for each token; `ratio` and `advantages` are `[T]`.
pub(super) fn clipped(ratio: &Tensor, advantages: &Tensor, clip: &Clip) -> Result<Tensor> {
    let within = ratio.clamp(1.0 - clip.low, 1.0 + clip.high)?;
    let bounded = match clip.delta {
        Some(delta) => ratio.minimum(delta)?,
        None => ratio.clone(),
    };
    bounded.mul(advantages)?.minimum(&within.mul(advantages)?)?.neg()
}

/// `-sg[min(ρ, cap)]·A·log π` for each token: the ratio weighs the gradient and has none, so no token loses its own
/// (CISPO, arXiv 2506.13585).
pub(super) fn capped(
    ratio: &Tensor,
    logprobs: &Tensor,
    advantages: &Tensor,
    cap: f64,
) -> Result<Tensor> {
    ratio.minimum(cap)?.detach().mul(advantages)?.mul(logprobs)?.neg()
}
