//! The tensors that every loss starts from, with tokens that do not count taken out before any arithmetic.

use candle_core::{DType, Result, Tensor};

use super::packed::MicroBatch;

/// Log-ratios are clamped to ± this many nats before `exp`, as verl does: e²⁰ is far beyond any clip, and finite.
const LOG_RATIO_BOUND: f64 = 20.0;

/// One `[T]` tensor each, T being the tokens of the micro-batch.
///
/// Where the mask is 0, log-probs are *selected* away, not multiplied: whatever stands there (0 · ∞ is NaN) reaches neither
/// the loss nor, through the backward of `exp`, a gradient.
pub(super) struct Tokens<'a> {
    pub(super) batch: &'a MicroBatch,
    /// 1 where the token counts.
    pub(super) mask: Tensor,
    pub(super) logprobs: Tensor,
    /// `log π - log π_old`, not clamped; with gradient, and exactly 0 without `old_logprobs`.
    pub(super) log_ratio: Tensor,
    pub(super) advantages: Tensor,
}

impl<'a> Tokens<'a> {
    /// Half precision is widened: differences of log-probs are too small for it.
    pub(super) fn new(
        batch: &'a MicroBatch,
        logprobs: &Tensor,
        old_logprobs: Option<&Tensor>,
    ) -> Result<Self> {
        let dtype = if logprobs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let device = logprobs.device();
        let mask = Tensor::from_vec(batch.mask(), batch.tokens(), device)?;
        let logprobs = select(&mask, &logprobs.to_dtype(dtype)?)?;
        let old = match old_logprobs {
            // Frozen when the completion was sampled; on the first pass that is now.
            Some(old) => select(&mask, &old.to_dtype(dtype)?)?.detach(),
            None => logprobs.detach(),
        };
        let log_ratio = (&logprobs - old)?;
        let advantages = batch.advantages();
        let advantages = Tensor::from_vec(advantages, batch.tokens(), device)?.to_dtype(dtype)?;
        Ok(Self { batch, mask, logprobs, log_ratio, advantages })
    }

    /// A constant of the caller's, like the log-probs of the reference: masked, in this dtype, without gradient.
    pub(super) fn constant(&self, values: &Tensor) -> Result<Tensor> {
        Ok(select(&self.mask, &values.to_dtype(self.logprobs.dtype())?)?.detach())
    }

    /// As [`Self::constant`], with gradient.
    pub(super) fn variable(&self, values: &Tensor) -> Result<Tensor> {
        select(&self.mask, &values.to_dtype(self.logprobs.dtype())?)
    }

    /// ρ of each token, `[T]`.
    pub(super) fn token_ratio(&self) -> Result<Tensor> {
        clamp_log_ratio(&self.log_ratio)?.exp()
    }

    /// ρ of each token's sequence, `[T]`: the geometric mean over the tokens that count (GSPO, arXiv 2507.18071).
    pub(super) fn sequence_ratio(&self) -> Result<Tensor> {
        let rows = self.batch.rows();
        let (dtype, device) = (self.log_ratio.dtype(), self.log_ratio.device());
        let row_of_token =
            Tensor::from_vec(self.batch.row_of_token(), self.batch.tokens(), device)?;
        let lengths = rows.iter().map(|row| row.mask.iter().filter(|&&counts| counts).count());
        let shares: Vec<f64> = lengths.map(|length| 1.0 / length.max(1) as f64).collect();
        let shares = Tensor::from_vec(shares, rows.len(), device)?.to_dtype(dtype)?;

        let sums = Tensor::zeros(rows.len(), dtype, device)?;
        let sums = sums.index_add(&row_of_token, &clamp_log_ratio(&self.log_ratio)?, 0)?; // [rows]
        (sums * shares)?.exp()?.index_select(&row_of_token, 0)
    }

    /// `Σ weight · value` over the tokens that count; `weights` has one entry a row of the window.
    pub(super) fn weighted_sum(&self, values: &Tensor, weights: &[f64]) -> Result<Tensor> {
        let weights =
            Tensor::from_vec(self.batch.weights(weights), self.batch.tokens(), values.device())?;
        (select(&self.mask, values)? * weights.to_dtype(values.dtype())?)?.sum_all()
    }
}

/// `values` where the mask is 1, 0 elsewhere, for the gradient as well.
pub(super) fn select(mask: &Tensor, values: &Tensor) -> Result<Tensor> {
    mask.where_cond(values, &values.zeros_like()?)
}

pub(super) fn clamp_log_ratio(log_ratio: &Tensor) -> Result<Tensor> {
    log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
}
