//! Group advantages: how much better a completion was than the others of its group (GRPO, arXiv 2402.03300, section 4.1).
//!
//! Arithmetic as TRL's `GRPOTrainer._generate_and_score_completions`, in float64: sample standard deviation (ddof 1), ε
//! added outside the root. Values are sorted before they are summed, so the result does not depend on the order of rows,
//! not even in its last bit; compute advantages before rows are shuffled or cut into micro-batches all the same, because
//! they need whole groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PolicyConfigError;

/// Added to a standard deviation before dividing by it, as TRL does (verl: 1e-6).
pub const EPSILON: f64 = 1e-4;

/// What a difference from the group's mean reward is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// Standard deviation of the group (GRPO, DAPO).
    Group,
    /// Standard deviation of all rows; the mean stays the group's.
    Batch,
    /// Nothing (Dr. GRPO, arXiv 2503.20783).
    None,
}

/// In which order several rewards are added and normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiObjective {
    /// One weighted sum a row, normalised like a single reward.
    SumThenNormalize,
    /// Each reward normalised in its group, the weighted sum over the batch (GDPO, arXiv 2601.05242).
    NormalizeThenSum,
}

/// How rewards become advantages; the names are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvantageConfig {
    pub scale_rewards: ScaleRewards,
    pub multi_objective_aggregation: MultiObjective,
    /// Advantages are clamped to ± this; absent: not at all. One outlier among 16 reaches 3.75.
    pub clip: Option<f64>,
}

impl AdvantageConfig {
    /// # Errors
    /// Names the key that makes no sense, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        PolicyConfigError::unless(
            self.clip.is_none_or(|clip| clip > 0.0),
            "advantage.clip",
            &self.clip.unwrap_or_default(),
            "it must be positive; leave it out for no clip",
        )?;
        PolicyConfigError::unless(
            self.multi_objective_aggregation == MultiObjective::SumThenNormalize
                || self.scale_rewards == ScaleRewards::Group,
            "advantage.multi_objective_aggregation",
            &"normalize_then_sum",
            "it scales each reward by its group, so `advantage.scale_rewards` must be `group`",
        )
    }
}

/// One reward function's results. A reward that is not finite is missing, for that row only.
#[derive(Debug, Clone, Copy)]
pub struct RewardColumn<'a> {
    pub weight: f64,
    /// One a row; NaN where there is none.
    pub rewards: &'a [f64],
}

/// Rewards that cannot be turned into advantages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdvantageError {
    #[error(transparent)]
    Config(#[from] PolicyConfigError),
    #[error(
        "reward function {column} gave {found} rewards for {rows} rows; give NaN where there is none"
    )]
    Length { column: usize, found: usize, rows: usize },
}

/// The advantage of each row, `groups[row]` being the group (the prompt tokens) that it was sampled from.
///
/// A row without any reward gets 0 and does not move its group. Exactly 0 are also rows of a group whose rewards are all
/// equal (TRL leaves rounding there, up to 1e-3 after division by ε), and of one with a single reward.
///
/// # Errors
/// If the configuration contradicts itself, or a column has another length than `groups`.
pub fn advantages(
    columns: &[RewardColumn],
    groups: &[u64],
    config: &AdvantageConfig,
) -> Result<Vec<f64>, AdvantageError> {
    config.check()?;
    for (column, RewardColumn { rewards, .. }) in columns.iter().enumerate() {
        if rewards.len() != groups.len() {
            let (found, rows) = (rewards.len(), groups.len());
            return Err(AdvantageError::Length { column, found, rows });
        }
    }
    let mut advantages = match config.multi_objective_aggregation {
        MultiObjective::SumThenNormalize => {
            normalize(&weighted_sum(columns, groups.len()), groups, config.scale_rewards)
        }
        MultiObjective::NormalizeThenSum => normalize_then_sum(columns, groups),
    };
    if let Some(clip) = config.clip {
        advantages.iter_mut().for_each(|advantage| *advantage = advantage.clamp(-clip, clip));
    }
    Ok(advantages)
}

/// The weighted sum of each row's rewards, missing ones left out; NaN where all are missing.
pub fn weighted_sum(columns: &[RewardColumn], rows: usize) -> Vec<f64> {
    (0..rows)
        .map(|row| {
            let given = columns.iter().filter(|column| column.rewards[row].is_finite());
            given.map(|column| column.weight * column.rewards[row]).reduce(|a, b| a + b)
        })
        .map(|sum| sum.unwrap_or(f64::NAN))
        .collect()
}

/// `(r - mean of the group) / (std + ε)`; 0 for missing rewards, single ones, and equal ones.
fn normalize(rewards: &[f64], groups: &[u64], scale: ScaleRewards) -> Vec<f64> {
    let batch = Spread::of(rewards.iter().copied());
    let mut advantages = vec![0.0; rewards.len()];
    for rows in rows_by_group(groups).values() {
        let Some(group) = Spread::of(rows.iter().map(|&row| rewards[row])) else { continue };
        let divisor = match scale {
            ScaleRewards::Group => group.std + EPSILON,
            ScaleRewards::Batch => batch.as_ref().map_or(f64::INFINITY, |b| b.std + EPSILON),
            ScaleRewards::None => 1.0,
        };
        for &row in rows.iter().filter(|&&row| rewards[row].is_finite() && !group.constant) {
            advantages[row] = (rewards[row] - group.mean) / divisor;
        }
    }
    advantages
}

fn normalize_then_sum(columns: &[RewardColumn], groups: &[u64]) -> Vec<f64> {
    let normalized: Vec<Vec<f64>> = columns
        .iter()
        .map(|column| normalize(column.rewards, groups, ScaleRewards::Group))
        .collect();
    let mut sums = weighted_sum(columns, groups.len()); // NaN where a row has no reward at all
    for (row, sum) in sums.iter_mut().enumerate().filter(|(_, sum)| sum.is_finite()) {
        *sum = columns.iter().zip(&normalized).map(|(column, z)| column.weight * z[row]).sum();
    }
    let Some(batch) = Spread::of(sums.iter().copied()) else { return vec![0.0; groups.len()] };
    let mut advantages: Vec<f64> =
        sums.iter().map(|sum| (sum - batch.mean) / (batch.std + EPSILON)).collect();
    for rows in rows_by_group(groups).values() {
        // Equal in every reward: the mean of the batch says nothing about these rows.
        let silent = normalized.iter().all(|z| rows.iter().all(|&row| z[row] == 0.0));
        for &row in rows.iter().filter(|&&row| silent || !sums[row].is_finite()) {
            advantages[row] = 0.0;
        }
    }
    advantages
}

/// Mean and sample standard deviation of at least two finite values.
struct Spread {
    mean: f64,
    std: f64,
    /// All values are the same.
    constant: bool,
}

impl Spread {
    /// Of the finite ones among `values`; `None` where they are fewer than two.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        if values.len() < 2 {
            return None;
        }
        values.sort_by(f64::total_cmp); // so that the sums do not depend on the order of rows
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = (squares / (values.len() - 1) as f64).sqrt();
        Some(Self { mean, std, constant: values.first() == values.last() })
    }
}

fn rows_by_group(groups: &[u64]) -> BTreeMap<u64, Vec<usize>> {
    let mut rows: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        rows.entry(*group).or_default().push(row);
    }
    rows
}
