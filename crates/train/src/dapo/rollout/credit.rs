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

#[cfg(test)]
mod tests {
    use super::super::{Attempted, Decided};
    use super::*;
    use crate::dapo::Row;

    const CONFIG: CreditConfig = CreditConfig { scale_rewards: ScaleRewards::None, clip: None };

    fn decided(state: u64, prm: Option<f64>) -> Decided {
        let row = Row {
            prompt: vec![1].into(),
            completion: vec![2; 4],
            sampled: vec![true; 4],
            sampled_logprobs: None,
            old_logprobs: None,
            reference_logprobs: None,
            grammar: None,
            temperature: 1.0,
            truncated: false,
            group: state,
            advantage: Credit::Row(9.0),
            reward: None,
        };
        Decided { row, valid: true, prm, reply: String::new(), observation: None }
    }

    fn group(position: u64, attempts: Vec<(f64, Vec<Decided>)>) -> Group {
        let attempts = attempts.into_iter().map(|(outcome, decisions)| {
            let outcome = Some(outcome).filter(|outcome| outcome.is_finite());
            Attempted { outcome, answer: None, error: None, decisions }
        });
        Group {
            position,
            problem: String::new(),
            question: String::new(),
            gold: String::new(),
            attempts: attempts.collect(),
        }
    }

    fn advantages_of(groups: &[Group]) -> Vec<f64> {
        let decisions = groups.iter().flat_map(Group::decisions);
        decisions
            .map(|decided| match decided.row.advantage {
                Credit::Row(advantage) => advantage,
                Credit::Tokens(_) => f64::NAN,
            })
            .collect()
    }

    /// Of three attempts one was right, in one call; those that were wrong took three. By rows the mean would be 1/7.
    #[test]
    fn an_outcome_has_the_statistics_of_attempts_and_goes_to_all_their_rows() {
        let long =
            |first: u64| (0..3_u64).map(|step| decided(first + step, None)).collect::<Vec<_>>();
        let attempts = vec![(1.0, vec![decided(1, None)]), (0.0, long(1)), (0.0, long(1))];
        let mut groups = [group(5, attempts)];
        let weights = Weights { outcome: 3.0, prm: 1.0 };
        assign(&mut groups, &CONFIG, weights, None).expect("a fine configuration");
        let found = advantages_of(&groups);
        let expected = [2.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    /// The same state is reached by attempts at one problem or at two that read alike; a decision alone in its state has 0.
    #[test]
    fn rewards_of_a_prm_are_compared_within_a_state_alone() {
        let first = group(
            0,
            vec![
                (1.0, vec![decided(1, Some(0.9)), decided(2, Some(0.1))]),
                (0.0, vec![decided(1, Some(0.3)), decided(3, Some(0.7))]),
            ],
        );
        let second =
            group(1, vec![(1.0, vec![decided(3, Some(0.5))]), (1.0, vec![decided(4, None)])]);
        let mut groups = [first, second];
        let weights = Weights { outcome: 0.0, prm: 1.0 };
        assign(&mut groups, &CONFIG, weights, None).expect("a fine configuration");
        let found = advantages_of(&groups);
        let expected = [0.3, 0.0, -0.3, 0.1, -0.1, 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        let rewards: Vec<Option<f64>> =
            groups.iter().flat_map(Group::decisions).map(|it| it.row.reward).collect();
        assert_eq!(rewards, [Some(0.9), Some(0.1), Some(0.3), Some(0.7), Some(0.5), None]);
    }

    #[test]
    fn both_add_up_and_what_is_no_decision_earns_nothing_by_others() {
        let mut unreadable = decided(1, Some(0.0));
        unreadable.valid = false;
        let right = (1.0, vec![unreadable, decided(2, Some(0.5))]);
        let wrong = (0.0, vec![decided(1, Some(1.0))]);
        let mut groups = [group(0, vec![right, wrong])];
        let config = CreditConfig { clip: Some(0.4), ..CONFIG };
        let weights = Weights { outcome: 0.5, prm: 0.5 };
        assign(&mut groups, &config, weights, None).expect("a fine configuration");
        // -0.5 by the PRM and nothing by the outcome; the outcome alone; and +0.5 - 0.5.
        assert_eq!(advantages_of(&groups), [-0.25, 0.25, 0.0]);
        let weights = Weights { outcome: 2.0, prm: 0.0 };
        assign(&mut groups, &config, weights, None).expect("a fine configuration");
        assert_eq!(advantages_of(&groups), [0.0, 0.4, -0.4], "clipped after they were added");
    }

    #[test]
    fn a_punishment_makes_a_difference_among_right_answers() {
        let short = decided(1, None);
        let mut long = decided(1, None);
        long.row.completion = vec![2; 8];
        let mut groups = [group(0, vec![(1.0, vec![short]), (1.0, vec![long])])];
        let weights = Weights { outcome: 1.0, prm: 0.0 };
        let punishment = SoftPunishment { max_length: 8, cache: 4 };
        assign(&mut groups, &CONFIG, weights, Some(punishment)).expect("a fine configuration");
        assert_eq!(advantages_of(&groups), [0.5, -0.5]);
    }
}
