//! The KL divergence from a reference policy, estimated on the sampled tokens.

use candle_core::{Result, Tensor};

use super::tokens::clamp_log_ratio;

/// The k3 estimator of KL(π ‖ π_ref), `e^d - d - 1` with `d = log π_ref - log π`: never negative, zero only where both
/// agree (J. Schulman, "Approximating KL divergence", 2020). `[T]`; `d` is clamped to ±20.
pub(super) fn k3(logprobs: &Tensor, reference: &Tensor) -> Result<Tensor> {
    let difference = clamp_log_ratio(&(reference - logprobs)?)?;
    (difference.exp()? - &difference)? - 1.0
}
