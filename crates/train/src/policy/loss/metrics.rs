//! What a loss did to its tokens, as sums that add up over the micro-batches of a window.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};

use super::clip::Clip;
use super::config::LossKind;
use super::tokens::Tokens;

/// Sums over tokens; [`LossMetrics::values`] has the means, under TRL's names where TRL has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossMetrics {
    tokens: f64,
    /// What clip flags are counted over: tokens, or rows where the ratio is one of a sequence.
    clip_units: f64,
    clipped_low: f64,
    clipped_high: f64,
    lowest_share: Option<f64>,
    highest_share: Option<f64>,
    capped: Option<f64>,
    kl: Option<f64>,
    entropy: Option<f64>,
    approx_kl: f64,
    abs_log_ratio: f64,
    max_abs_log_ratio: f64,
    zero_advantage: f64,
}

impl LossMetrics {
    /// `ratio`, `kl` and `entropies` are `[T]`.
    pub(super) fn of(
        tokens: &Tokens,
        kind: LossKind,
        clip: &Clip,
        ratio: &Tensor,
        kl: Option<&Tensor>,
        entropies: Option<&Tensor>,
    ) -> Result<Self> {
        let ratio = to_vec(ratio)?;
        let log_ratio = to_vec(&tokens.log_ratio)?;
        let kl = kl.map(to_vec).transpose()?;
        let entropies = entropies.map(to_vec).transpose()?;
        let advantages = tokens.batch.advantages();

        let mut metrics = Self::default();
        let mut start = 0;
        for row in tokens.batch.rows() {
            let counting = || (start..).zip(&row.mask).filter(|(_, counts)| **counts);
            let mut flags: Vec<Flags> = counting()
                .map(|(token, _)| Flags::of(ratio[token], advantages[token], clip))
                .collect();
            metrics.tokens += flags.len() as f64;
            if kind == LossKind::Gspo {
                flags.truncate(1); // one ratio a row, and one advantage unless credit is by token
            }
            metrics.count(&flags, kind);
            for (token, _) in counting() {
                let log_ratio = log_ratio[token];
                let clamped = log_ratio.clamp(-20.0, 20.0);
                metrics.approx_kl += clamped.exp_m1() - clamped;
                metrics.abs_log_ratio += log_ratio.abs();
                metrics.max_abs_log_ratio = metrics.max_abs_log_ratio.max(log_ratio.abs());
                metrics.zero_advantage += f64::from(u8::from(advantages[token] == 0.0));
            }
            let sum = |values: &Vec<f64>| counting().map(|(token, _)| values[token]).sum::<f64>();
            add(&mut metrics.kl, kl.as_ref().map(sum));
            add(&mut metrics.entropy, entropies.as_ref().map(sum));
            start += row.mask.len();
        }
        Ok(metrics)
    }

    fn count(&mut self, flags: &[Flags], kind: LossKind) {
        let share = |flag: fn(&Flags) -> bool| flags.iter().filter(|f| flag(f)).count() as f64;
        self.clip_units += flags.len() as f64;
        if kind == LossKind::Cispo {
            return add(&mut self.capped, Some(share(|f| f.capped)));
        }
        let (low, high) = (share(|f| f.low), share(|f| f.high));
        self.clipped_low += low;
        self.clipped_high += high;
        if !flags.is_empty() {
            let units = flags.len() as f64;
            self.lowest_share = fold(self.lowest_share, Some(low / units), f64::min);
            self.highest_share = fold(self.highest_share, Some(high / units), f64::max);
        }
    }

    /// Adds another micro-batch of the same window.
    pub fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.clip_units += other.clip_units;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.lowest_share = fold(self.lowest_share, other.lowest_share, f64::min);
        self.highest_share = fold(self.highest_share, other.highest_share, f64::max);
        add(&mut self.capped, other.capped);
        add(&mut self.kl, other.kl);
        add(&mut self.entropy, other.entropy);
        self.approx_kl += other.approx_kl;
        self.abs_log_ratio += other.abs_log_ratio;
        self.max_abs_log_ratio = self.max_abs_log_ratio.max(other.max_abs_log_ratio);
        self.zero_advantage += other.zero_advantage;
    }

    /// Name and value, means over the tokens that count; what was not computed is absent.
    ///
    /// TRL's: `clip_ratio/{low,high,region}_mean`, `clip_ratio/low_min` and `clip_ratio/high_max` (of rows),
    /// `cispo_clip_ratio`, `kl` (from the reference), `entropy`. Ours: `approx_kl` (k3 from the policy that sampled),
    /// `log_ratio/abs_mean`, `log_ratio/abs_max` (before the clamp to ±20), `zero_advantage_tokens` (a share).
    pub fn values(&self) -> BTreeMap<&'static str, f64> {
        let mean = |sum: f64| sum / self.tokens.max(1.0);
        let share = |sum: f64| sum / self.clip_units.max(1.0);
        let mut values = BTreeMap::from([
            ("approx_kl", mean(self.approx_kl)),
            ("log_ratio/abs_mean", mean(self.abs_log_ratio)),
            ("log_ratio/abs_max", self.max_abs_log_ratio),
            ("zero_advantage_tokens", mean(self.zero_advantage)),
        ]);
        match self.capped {
            Some(capped) => {
                values.insert("cispo_clip_ratio", share(capped));
            }
            None => values.extend([
                ("clip_ratio/low_mean", share(self.clipped_low)),
                ("clip_ratio/high_mean", share(self.clipped_high)),
                // No token is clipped on both sides.
                ("clip_ratio/region_mean", share(self.clipped_low + self.clipped_high)),
            ]),
        }
        values.extend(self.lowest_share.map(|share| ("clip_ratio/low_min", share)));
        values.extend(self.highest_share.map(|share| ("clip_ratio/high_max", share)));
        values.extend(self.kl.map(|sum| ("kl", mean(sum))));
        values.extend(self.entropy.map(|sum| ("entropy", mean(sum))));
        values
    }
}

/// Which bound a ratio is beyond, where that bound acts.
struct Flags {
    low: bool,
    high: bool,
    /// Beyond CISPO's cap.
    capped: bool,
}

impl Flags {
    fn of(ratio: f64, advantage: f64, clip: &Clip) -> Self {
        Self {
            low: ratio < 1.0 - clip.low && advantage < 0.0,
            high: ratio > 1.0 + clip.high && advantage > 0.0,
            capped: ratio > clip.high && advantage > 0.0,
        }
    }
}

fn add(total: &mut Option<f64>, value: Option<f64>) {
    *total = fold(*total, value, |a, b| a + b);
}

fn fold(a: Option<f64>, b: Option<f64>, join: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (one, other) => one.or(other),
    }
}

fn to_vec(values: &Tensor) -> Result<Vec<f64>> {
    values.to_dtype(DType::F64)?.to_vec1()
}
