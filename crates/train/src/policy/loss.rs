//! The losses: DAPO, GRPO, Dr. GRPO, GSPO and CISPO, one function each.
//!
//! [`policy_loss`] is what a trainer calls, once for each micro-batch: it adds up, over the tokens of the micro-batch, the
//! loss of each token × what it weighs in the whole optimizer [`Window`]. So losses and gradients of micro-batches add up to
//! those of the window, whatever the split, packing and order.
//!
//! Log-probs come from the policy now (with gradient), when it sampled (`old_logprobs`) and from the reference, all under
//! the same temperature and grammar mask. Golden values: TRL's own `GRPOTrainer._compute_loss`, `tests/policy_loss/golden.rs`.
//!
//! Left out on purpose: SAPO, VESPO, LUSPO and BNPO of TRL, off-policy sequence masks, importance weights against another
//! sampler.

mod clip;
mod config;
mod entropy;
mod kl;
mod metrics;
mod packed;
mod tokens;
mod window;

use candle_core::Tensor;

pub use config::{LossConfig, LossKind, TokenAggregation};
pub use entropy::entropy_threshold;
pub use metrics::LossMetrics;
pub use packed::{Credit, MicroBatch, PackedRow};
pub use window::{Window, WindowRow};

use super::PolicyConfigError;
use clip::Clip;
use tokens::{Tokens, select};

/// What models computed for the tokens of a micro-batch, `[T]` each, in nats.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Log-probs under the policy now; the gradient goes here.
    pub logprobs: &'a Tensor,
    /// When it sampled, frozen; `None` on the first pass after sampling: then every ratio is exactly 1.
    pub old_logprobs: Option<&'a Tensor>,
    /// Under the reference (adapters off); needed where `beta` is not 0.
    pub reference_logprobs: Option<&'a Tensor>,
    /// Of the policy now, for the metrics, and with gradient for an entropy bonus.
    pub entropies: Option<&'a Tensor>,
    /// [`entropy_threshold`] of the window; needed where `top_entropy_quantile` is below 1.
    pub entropy_threshold: Option<f64>,
}

/// A micro-batch's part of the loss.
#[derive(Debug, Clone)]
pub struct PolicyLoss {
    /// To be minimised, `[]`; sums over the micro-batches of a window.
    pub loss: Tensor,
    pub metrics: LossMetrics,
}

/// A policy term before masks, KL and sum.
struct Surrogate {
    /// Loss of each token, `[T]`.
    per_token: Tensor,
    /// ρ, of the token or of its sequence, `[T]`.
    ratio: Tensor,
    /// What a token weighs, for each row of the window.
    weights: Vec<f64>,
}

/// Inputs that do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    #[error(transparent)]
    Config(#[from] PolicyConfigError),
    #[error(
        "`{name}` has shape {found:?}, but the micro-batch packs {wanted} tokens; give one value a token"
    )]
    Shape { name: &'static str, found: Vec<usize>, wanted: usize },
    #[error("`{key}` needs {name}, and there are none; {hint}")]
    Missing { key: &'static str, name: &'static str, hint: &'static str },
    #[error(
        "row {row} of the micro-batch is row {window_row} of a window of {rows} rows; pack rows of this window only"
    )]
    NotInWindow { row: usize, window_row: usize, rows: usize },
    #[error(
        "row {row} of the micro-batch counts {found} loss tokens, the window {wanted}; build both from the same mask"
    )]
    LossTokens { row: usize, found: usize, wanted: usize },
    #[error(
        "row {row} of the micro-batch has {found} advantages for {wanted} tokens; give one a token, or one a row"
    )]
    Advantages { row: usize, found: usize, wanted: usize },
    #[error(
        "row {row} of the micro-batch has an advantage that is not finite; a missing reward has advantage 0"
    )]
    NotFinite { row: usize },
    #[error("tensor computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// The part of `batch` in the loss of `window`.
///
/// # Errors
/// If the configuration contradicts itself, `scores` lack what it needs, or shapes disagree. A log-prob that is not a
/// number, on a token that counts, is no error: the loss is NaN, and the trainer skips the update.
pub fn policy_loss(
    scores: &Scores,
    batch: &MicroBatch,
    window: &Window,
    config: &LossConfig,
) -> Result<PolicyLoss, LossError> {
    config.check()?;
    scores.check(batch, config)?;
    let tokens = Tokens::new(batch, scores.logprobs, scores.old_logprobs)?;
    let clip = config.clip();
    let mean = config.aggregation.unwrap_or(TokenAggregation::TokenMean);
    let surrogate = match config.kind {
        LossKind::Dapo => dapo(&tokens, window, &clip, mean)?,
        LossKind::Grpo => grpo(&tokens, window, &clip)?,
        LossKind::DrGrpo => dr_grpo(&tokens, window, &clip)?,
        LossKind::Gspo => gspo(&tokens, window, &clip)?,
        LossKind::Cispo => cispo(&tokens, window, clip.high, mean)?,
    };
    finish(&tokens, surrogate, scores, window, config)
}

/// DAPO (arXiv 2503.14476, eq. 8): clip-higher, and every token of the window, or of its group, weighs the same.
fn dapo(
    tokens: &Tokens,
    window: &Window,
    clip: &Clip,
    mean: TokenAggregation,
) -> candle_core::Result<Surrogate> {
    let ratio = tokens.token_ratio()?;
    let per_token = clip::clipped(&ratio, &tokens.advantages, clip)?;
    Ok(Surrogate { per_token, ratio, weights: token_weights(window, mean) })
}

/// GRPO (arXiv 2402.03300, eq. 3): the mean over tokens of each completion, then over completions.
fn grpo(tokens: &Tokens, window: &Window, clip: &Clip) -> candle_core::Result<Surrogate> {
    let ratio = tokens.token_ratio()?;
    let per_token = clip::clipped(&ratio, &tokens.advantages, clip)?;
    Ok(Surrogate { per_token, ratio, weights: window.sequence_mean() })
}

/// Dr. GRPO (arXiv 2503.20783): the sum over tokens divided by a constant, so that length is neither favoured nor
/// punished. Its advantages are not scaled: `scale_rewards = "none"`.
fn dr_grpo(tokens: &Tokens, window: &Window, clip: &Clip) -> candle_core::Result<Surrogate> {
    let ratio = tokens.token_ratio()?;
    let per_token = clip::clipped(&ratio, &tokens.advantages, clip)?;
    Ok(Surrogate { per_token, ratio, weights: window.fixed_length() })
}

/// GSPO (arXiv 2507.18071, eq. 5): one ratio a completion, the geometric mean of its tokens', clipped as a whole.
fn gspo(tokens: &Tokens, window: &Window, clip: &Clip) -> candle_core::Result<Surrogate> {
    let ratio = tokens.sequence_ratio()?;
    let per_token = clip::clipped(&ratio, &tokens.advantages, clip)?;
    Ok(Surrogate { per_token, ratio, weights: window.sequence_mean() })
}

/// CISPO (MiniMax-M1, arXiv 2506.13585): the capped ratio weighs each token's log-prob and has no gradient itself.
fn cispo(
    tokens: &Tokens,
    window: &Window,
    cap: f64,
    mean: TokenAggregation,
) -> candle_core::Result<Surrogate> {
    let ratio = tokens.token_ratio()?;
    let per_token = clip::capped(&ratio, &tokens.logprobs, &tokens.advantages, cap)?;
    Ok(Surrogate { per_token, ratio, weights: token_weights(window, mean) })
}

fn token_weights(window: &Window, mean: TokenAggregation) -> Vec<f64> {
    match mean {
        TokenAggregation::TokenMean => window.token_mean(),
        TokenAggregation::GroupTokenMean => window.group_token_mean(),
    }
}

/// Entropy mask, then KL, then the sum, then the entropy bonus: in TRL's order, so the mask leaves the KL alone.
fn finish(
    tokens: &Tokens,
    surrogate: Surrogate,
    scores: &Scores,
    window: &Window,
    config: &LossConfig,
) -> Result<PolicyLoss, LossError> {
    let Surrogate { mut per_token, ratio, weights } = surrogate;
    let entropies = scores.entropies.map(|entropies| tokens.variable(entropies)).transpose()?;
    if let (true, Some(entropies), Some(threshold)) =
        (config.top_entropy_quantile < 1.0, &entropies, scores.entropy_threshold)
    {
        per_token = select(&entropies.detach().ge(threshold)?, &per_token)?;
    }
    let mut kl = None;
    if let (true, Some(reference)) = (config.beta != 0.0, scores.reference_logprobs) {
        let mut estimate = kl::k3(&tokens.logprobs, &tokens.constant(reference)?)?;
        if config.kl_bias_correction {
            estimate = (estimate * &ratio)?;
        }
        per_token = (per_token + (&estimate * config.beta)?)?;
        kl = Some(estimate);
    }
    let mut loss = tokens.weighted_sum(&per_token, &weights)?;
    if let (true, Some(entropies)) = (config.entropy_coef != 0.0, &entropies) {
        let mean = tokens.weighted_sum(entropies, &window.token_mean())?;
        loss = (loss - (mean * config.entropy_coef)?)?;
    }
    let clip = config.clip();
    let metrics =
        LossMetrics::of(tokens, config.kind, &clip, &ratio, kl.as_ref(), entropies.as_ref())?;
    Ok(PolicyLoss { loss, metrics })
}

impl Scores<'_> {
    fn check(&self, batch: &MicroBatch, config: &LossConfig) -> Result<(), LossError> {
        let given = [
            ("logprobs", Some(self.logprobs)),
            ("old_logprobs", self.old_logprobs),
            ("reference_logprobs", self.reference_logprobs),
            ("entropies", self.entropies),
        ];
        for (name, tensor) in given {
            let Some(tensor) = tensor else { continue };
            if tensor.dims() != [batch.tokens()] {
                let (found, wanted) = (tensor.dims().to_vec(), batch.tokens());
                return Err(LossError::Shape { name, found, wanted });
            }
        }
        let needs = |wanted: bool, given: bool, key, name, hint| {
            if wanted && !given { Err(LossError::Missing { key, name, hint }) } else { Ok(()) }
        };
        needs(
            config.beta != 0.0,
            self.reference_logprobs.is_some(),
            "loss.beta",
            "`reference_logprobs`",
            "score the rollouts with adapters off, or set it to 0",
        )?;
        needs(
            config.entropy_coef != 0.0,
            self.entropies.is_some(),
            "loss.entropy_coef",
            "`entropies`",
            "compute them beside the log-probs, or set it to 0",
        )?;
        needs(
            config.top_entropy_quantile < 1.0,
            self.entropies.is_some() && self.entropy_threshold.is_some(),
            "loss.top_entropy_quantile",
            "`entropies` and `entropy_threshold`",
            "compute them over the window, or set it to 1",
        )
    }
}
