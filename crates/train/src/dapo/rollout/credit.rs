//! From rewards to the advantage of every row.
//!
//! ```text
//! advantage = outcome · A(outcome of its attempt) + prm · A(PRM's reward of the decision)
//! ```
//! The two A are normalised each by itself, for they have different groups. The *outcome* belongs to an attempt: its
//! statistics are over the G attempts at a problem, so that long attempts do not weigh more, and all rows of an attempt get
//! its advantage (Flow-GRPO, arXiv 2510.05592, which takes the statistics over rows). A *PRM's reward* belongs to a decision:
//! only decisions in the same state, with the same prompt tokens, can be compared, so a row alone in its state has 0.
//!
//! A reply that is no decision gets no part of an outcome that is better than the group's: others earned it.

use serde::{Deserialize, Serialize};

use super::Group;
use crate::policy::PolicyConfigError;
use crate::policy::advantage::{
    AdvantageConfig, AdvantageError, MultiObjective, RewardColumn, ScaleRewards, advantages,
};
use crate::policy::loss::Credit;
use crate::policy::overlong::SoftPunishment;

/// How rewards become advantages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditConfig {
    pub scale_rewards: ScaleRewards,
    /// Advantages are clamped to ± this after they were added; absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
}

/// What the two advantages are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    pub(crate) outcome: f64,
    pub(crate) prm: f64,
}

impl CreditConfig {
    /// # Errors
    /// Names the key that makes no sense.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        self.of_one_reward(self.clip).check()
    }

    fn of_one_reward(&self, clip: Option<f64>) -> AdvantageConfig {
        AdvantageConfig {
            scale_rewards: self.scale_rewards,
            multi_objective_aggregation: MultiObjective::SumThenNormalize,
            clip,
        }
    }
}

/// Gives every row of `groups` its advantage and, for metrics, its reward. `punishment` is taken off the outcome of an attempt for
/// its longest reply.
///
/// # Errors
/// If the configuration contradicts itself.
pub(crate) fn assign(
    groups: &mut [Group],
    config: &CreditConfig,
    weights: Weights,
    punishment: Option<SoftPunishment>,
) -> Result<(), AdvantageError> {
    let single = config.of_one_reward(None);
    let mut outcomes = Vec::new();
    let mut problems = Vec::new();
    for group in &*groups {
        for attempt in &group.attempts {
            let longest = attempt.decisions.iter().map(|it| it.row.completion.len()).max();
            let penalty = punishment.map_or(0.0, |it| it.penalty(longest.unwrap_or(0)));
            outcomes.push(attempt.outcome.map_or(f64::NAN, |outcome| outcome + penalty));
            problems.push(group.position);
        }
    }
    let of_attempts =
        advantages(&[RewardColumn { weight: 1.0, rewards: &outcomes }], &problems, &single)?;
    let decisions = || groups.iter().flat_map(Group::decisions);
    let rewards: Vec<f64> = decisions().map(|it| it.prm.unwrap_or(f64::NAN)).collect();
    let states: Vec<u64> = decisions().map(|it| it.row.group).collect();
    let of_decisions =
        advantages(&[RewardColumn { weight: 1.0, rewards: &rewards }], &states, &single)?;

    let mut of_decisions = of_decisions.into_iter();
    let attempts = groups.iter_mut().flat_map(|group| &mut group.attempts);
    for ((attempt, advantage), outcome) in attempts.zip(of_attempts).zip(outcomes) {
        for decided in &mut attempt.decisions {
            let of_outcome = if decided.valid { advantage } else { advantage.min(0.0) };
            let of_prm = of_decisions.next().expect("there is one for each decision");
            let total = weights.outcome * of_outcome + weights.prm * of_prm;
            let clip = config.clip.unwrap_or(f64::INFINITY);
            decided.row.advantage = Credit::Row(total.clamp(-clip, clip));
            let parts = [(weights.outcome, Some(outcome)), (weights.prm, decided.prm)];
            let given = parts.into_iter().filter_map(|(weight, reward)| {
                reward.filter(|it| it.is_finite() && weight > 0.0).map(|it| weight * it)
            });
            decided.row.reward = given.reduce(|a, b| a + b);
        }
    }
    Ok(())
}
