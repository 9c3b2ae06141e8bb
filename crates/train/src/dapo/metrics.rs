//! What an update says of itself, under TRL's names where TRL has one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::guards::LogprobGap;
use super::row::Row;
use crate::policy::loss::Credit;

/// One line of `metrics.jsonl`.
///
/// `values` has numbers that are finite alone: beside those of [`LossMetrics`](crate::policy::loss::LossMetrics): TRL's `completions/{mean,min,max}_length`,
/// `completions/clipped_ratio` and `completions/{mean,min,max}_terminated_length` in tokens, `reward`, `reward_std` and
/// `frac_reward_zero_std` where rows have rewards, `sampling/sampling_logp_difference/{mean,max}` where they have log-probs of
/// the sampler; ours: `advantages/abs_p95`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// Counts from 1, updates that were skipped included.
    pub update: u64,
    /// Whether the weights were changed.
    pub applied: bool,
    /// The variable that is not finite, or whose gradient is not, or else `loss`; then the update was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_finite: Option<String>,
    /// Updates skipped so far, this one included.
    pub skipped: u64,
    /// Null where it is not finite.
    pub loss: Option<f64>,
    /// Over all variables of the adapter, before clipping; null where it is not finite.
    pub grad_norm: Option<f64>,
    pub lr: f64,
    pub rows: usize,
    /// N: the tokens that count.
    pub loss_tokens: usize,
    /// All tokens of the rows, prompts included.
    pub num_tokens: usize,
    pub micro_batches: usize,
    /// Wall clock of the update, in seconds.
    pub step_time: f64,
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// What can be said of rows before anything is computed.
pub(super) fn of_rows(rows: &[Row]) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut lengths = |name: &str, of: &mut dyn Iterator<Item = &Row>| {
        let lengths: Vec<f64> = of.map(|row| row.completion.len() as f64).collect();
        if !lengths.is_empty() {
            let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
            let min = lengths.iter().copied().fold(f64::INFINITY, f64::min);
            let max = lengths.iter().copied().fold(0.0, f64::max);
            for (which, value) in [("mean", mean), ("min", min), ("max", max)] {
                values.insert(format!("completions/{which}_{name}"), value);
            }
        }
    };
    lengths("length", &mut rows.iter());
    lengths("terminated_length", &mut rows.iter().filter(|row| !row.truncated));
    let share = |count: usize| count as f64 / rows.len().max(1) as f64;
    let truncated = rows.iter().filter(|row| row.truncated).count();
    values.insert("completions/clipped_ratio".to_owned(), share(truncated));
    if let Some(p95) = advantages_p95(rows) {
        values.insert("advantages/abs_p95".to_owned(), p95);
    }
    rewards(rows, &mut values);
    values
}

/// Mean reward, mean over rows of the sample deviation of their group, and the share of rows whose group has none.
fn rewards(rows: &[Row], values: &mut BTreeMap<String, f64>) {
    let mut groups: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.group).or_default().extend(row.reward.filter(|reward| reward.is_finite()));
    }
    let count: usize = groups.values().map(Vec::len).sum();
    if count == 0 {
        return;
    }
    let (mut sum, mut deviations, mut constant) = (0.0, 0.0, 0);
    for rewards in groups.values().filter(|rewards| !rewards.is_empty()) {
        let total: f64 = rewards.iter().sum();
        let mean = total / rewards.len() as f64;
        let squares: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
        let variance = squares / (rewards.len() - 1).max(1) as f64;
        sum += total;
        deviations += variance.sqrt() * rewards.len() as f64;
        if rewards.iter().all(|reward| *reward == rewards[0]) {
            constant += rewards.len();
        }
    }
    for (name, total) in
        [("reward", sum), ("reward_std", deviations), ("frac_reward_zero_std", constant as f64)]
    {
        values.insert(name.to_owned(), total / count as f64);
    }
}

/// The 95th percentile of |advantage|, of rows or, where credit is by token, of tokens.
fn advantages_p95(rows: &[Row]) -> Option<f64> {
    let mut sizes: Vec<f64> = Vec::new();
    for row in rows {
        match &row.advantage {
            Credit::Row(advantage) => sizes.push(advantage.abs()),
            Credit::Tokens(advantages) => sizes.extend(advantages.iter().map(|it| it.abs())),
        }
    }
    sizes.sort_by(f64::total_cmp);
    let at = ((sizes.len() as f64 * 0.95).ceil() as usize).saturating_sub(1);
    sizes.get(at).copied()
}

/// How far sampler and trainer are apart.
pub(super) fn of_gap(gap: &LogprobGap, values: &mut BTreeMap<String, f64>) {
    if let Some((mean, max)) = gap.values().filter(|(mean, _)| mean.is_finite()) {
        values.insert("sampling/sampling_logp_difference/mean".to_owned(), mean);
        values.insert("sampling/sampling_logp_difference/max".to_owned(), max);
    }
}
