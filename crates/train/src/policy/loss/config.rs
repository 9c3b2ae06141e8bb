//! The `[loss]` table of a training configuration. No defaults: an absent optional key means *off*.

use serde::{Deserialize, Serialize};

use super::clip::Clip;
use crate::policy::PolicyConfigError;

/// Which loss; the names are TRL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    Dapo,
    Grpo,
    DrGrpo,
    Gspo,
    Cispo,
}

/// Over which tokens `dapo` and `cispo` take the mean; the other losses have one of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenAggregation {
    /// All loss tokens of the optimizer window (TRL, verl).
    TokenMean,
    /// The loss tokens of each prompt's group, then over groups (the expectation over prompts in DAPO's eq. 8).
    GroupTokenMean,
}

/// Everything that decides the loss.
///
/// `clip_high < clip_low` is allowed: it is the opposite of DAPO's choice, and an honest ablation of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    pub kind: LossKind,
    /// For `dapo` and `cispo` only.
    pub aggregation: Option<TokenAggregation>,
    /// The ratio is clipped from below at 1 - this. Not for `cispo`. DAPO: 0.2; GSPO: 3e-4.
    pub clip_low: Option<f64>,
    /// The ratio is clipped from above at 1 + this; for `cispo` at this itself, as TRL means it. DAPO: 0.28; GSPO: 4e-4;
    /// CISPO: 5.
    pub clip_high: f64,
    /// Upper bound of the ratio where the advantage is negative, too (TRL's `delta`; verl's `clip_ratio_c`, "dual clip",
    /// 3 there and 10 in its DAPO recipe). Not for `cispo`.
    #[serde(alias = "dual_clip")]
    pub delta: Option<f64>,
    /// Weight of the KL divergence from the reference; 0: no reference is needed (DAPO).
    pub beta: f64,
    /// Whether the KL estimate is multiplied by the ratio, so that its gradient is unbiased off-policy (TRL from 1.16:
    /// `use_bias_correction_kl`, on).
    pub kl_bias_correction: bool,
    /// Weight of the mean entropy that is subtracted; 0: none.
    pub entropy_coef: f64,
    /// The policy term acts on this share of tokens, those of highest entropy (arXiv 2506.01939: 0.2); 1: on all.
    pub top_entropy_quantile: f64,
}

impl LossConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the first key that makes no sense, alone or beside another, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        use LossKind::{Cispo, Dapo, Gspo};
        let token_mean = matches!(self.kind, Dapo | Cispo);
        let sequence = self.kind == Gspo;
        let ok = PolicyConfigError::unless;
        let shown = |value: Option<f64>| value.map_or("absent".to_owned(), |v| v.to_string());

        ok(
            !token_mean || self.aggregation.is_some(),
            "loss.aggregation",
            &"absent",
            "`dapo` and `cispo` need `token_mean` (TRL, verl) or `group_token_mean` (the paper)",
        )?;
        ok(
            token_mean || self.aggregation.is_none(),
            "loss.aggregation",
            &"set",
            "`grpo`, `dr_grpo` and `gspo` have their own; leave it out",
        )?;
        if self.kind == Cispo {
            ok(
                self.clip_low.is_none(),
                "loss.clip_low",
                &shown(self.clip_low),
                "`cispo` has no lower clip; leave it out",
            )?;
            ok(
                self.delta.is_none(),
                "loss.delta",
                &shown(self.delta),
                "`cispo` caps every ratio at `loss.clip_high`; leave it out",
            )?;
            ok(
                self.clip_high > 1.0 && self.clip_high.is_finite(),
                "loss.clip_high",
                &self.clip_high,
                "for `cispo` it is the highest ratio itself and must be above 1, say 5",
            )?;
        } else {
            ok(
                self.clip_low.is_some_and(|low| low > 0.0 && low < 1.0),
                "loss.clip_low",
                &shown(self.clip_low),
                "it must be between 0 and 1, both excluded",
            )?;
            ok(
                self.clip_high > 0.0 && self.clip_high.is_finite(),
                "loss.clip_high",
                &self.clip_high,
                "it must be positive",
            )?;
            ok(
                self.delta.is_none_or(|delta| delta > 1.0 + self.clip_high && delta.is_finite()),
                "loss.delta",
                &shown(self.delta),
                "it must be above 1 + `loss.clip_high`; leave it out for no bound",
            )?;
        }
        ok(
            self.beta >= 0.0 && self.beta.is_finite(),
            "loss.beta",
            &self.beta,
            "it must be 0 or positive",
        )?;
        ok(
            self.entropy_coef >= 0.0 && self.entropy_coef.is_finite(),
            "loss.entropy_coef",
            &self.entropy_coef,
            "it must be 0 or positive",
        )?;
        let quantile = self.top_entropy_quantile;
        ok(
            quantile > 0.0 && quantile <= 1.0,
            "loss.top_entropy_quantile",
            &quantile,
            "it must be above 0 and at most 1",
        )?;
        ok(
            quantile == 1.0 || !sequence,
            "loss.top_entropy_quantile",
            &quantile,
            "every token moves the ratio of `gspo`, so none can be left out; set it to 1",
        )?;
        ok(
            quantile == 1.0 || self.entropy_coef == 0.0,
            "loss.top_entropy_quantile",
            &quantile,
            "with an entropy bonus it is undefined over which tokens the bonus is taken; set it to 1, \
             or `loss.entropy_coef = 0`",
        )
    }

    /// The clip of the surrogate; of `cispo`, which has no lower one, the cap.
    pub(super) fn clip(&self) -> Clip {
        Clip { low: self.clip_low.unwrap_or(1.0), high: self.clip_high, delta: self.delta }
    }
}
