//! The reward of one planner decision, in [0, 1].
//!
//! ```text
//! reward = 0                                              where the reply is no valid decision
//!        = clamp((1 − w) · prm + w · outcome − length)    else, clamped to [0, 1]
//! ```
//! - `prm`: the score of the process reward model, clamped to [0, 1]: a linear head is unbounded.
//! - `outcome`: 1 where the trajectory reached the right answer, else 0; `w` is `outcome_weight`. Without a PRM `w` is 1,
//!   without a known outcome it is 0, so that both ends of the mixture are rewards of their own.
//! - `length`: a [`LengthPenalty`] for replies that are longer than they need to be. It is a term of the reward, and so of
//!   the advantage, not of the loss.
//!
//! A reply that cannot be read gets 0 whatever the outcome: it did nothing that could have led there. The PRM never sees
//! it.

use agentflow_agent::prm_input;
use agentflow_agent::prompt::Profile;
use agentflow_agent::trajectory::{Decision, Step};
use serde::{Deserialize, Serialize};

/// How terms are put together, as configs spell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Share of the outcome, 0 to 1; the rest is the PRM's.
    pub outcome_weight: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<LengthPenalty>,
}

/// Grows evenly from 0 at `free` tokens to `most` at `full` tokens, and stays there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthPenalty {
    pub free: usize,
    pub full: usize,
    pub most: f64,
}

/// A configuration that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum RewardConfigError {
    #[error(
        "`reward.outcome_weight` is {0}; it is a share from 0 (PRM alone) to 1 (outcome alone)"
    )]
    Weight(f64),
    #[error(
        "`reward.length` goes from {free} to {full} tokens and to {most}; \
         `full` has to be above `free`, and `most` between 0 and 1"
    )]
    Length { free: usize, full: usize, most: f64 },
}

impl RewardConfig {
    /// # Errors
    /// A number outside its range; the message names the key.
    pub fn check(&self) -> Result<(), RewardConfigError> {
        if !(0.0..=1.0).contains(&self.outcome_weight) {
            return Err(RewardConfigError::Weight(self.outcome_weight));
        }
        match self.length {
            Some(LengthPenalty { free, full, most })
                if full <= free || !(0.0..=1.0).contains(&most) =>
            {
                Err(RewardConfigError::Length { free, full, most })
            }
            _ => Ok(()),
        }
    }

    /// Whether any reward needs the PRM.
    pub fn needs_prm(&self) -> bool {
        self.outcome_weight < 1.0
    }
}

impl LengthPenalty {
    /// What is taken off a reply of `tokens`.
    pub fn of(&self, tokens: usize) -> f64 {
        let over = tokens.saturating_sub(self.free) as f64 / (self.full - self.free) as f64;
        self.most * over.min(1.0)
    }
}

/// A reply of the planner, and where it was given.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    pub question: &'a str,
    /// The steps before it.
    pub previous: &'a [Step],
    /// `None` where the reply could not be read: malformed JSON, an unknown action, an empty answer.
    pub decision: Option<&'a Decision>,
    /// Tokens of the reply.
    pub tokens: usize,
    /// 0 to 1, of the whole trajectory, where it is known.
    pub outcome: Option<f64>,
}

/// A reward and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// 0 to 1.
    pub total: f64,
    pub valid: bool,
    /// The clamped score; `None` where the PRM was not asked.
    pub prm: Option<f64>,
    pub outcome: Option<f64>,
    /// What was taken off.
    pub length: f64,
}

/// The rewards of `decided`, in order.
///
/// `scores` is the PRM: texts by [`prm_input`](agentflow_agent::prm_input()) to raw scores, in order; it is called once, with the texts of all valid
/// decisions, and not at all where nothing needs it. A score does not depend on those beside it, so neither does a reward.
/// A score that is no number counts as unknown: the reward is NaN, which the advantages leave out.
///
/// # Errors
/// What `scores` fails with.
pub fn rewards<E>(
    config: &RewardConfig,
    profile: Profile,
    decided: &[Decided<'_>],
    scores: impl FnOnce(&[String]) -> Result<Vec<f32>, E>,
) -> Result<Vec<Reward>, E> {
    let text = |decided: &Decided| {
        let Decided { question, previous, decision, outcome, .. } = *decided;
        let is_asked = config.needs_prm() || outcome.is_none();
        decision
            .filter(|_| is_asked)
            .map(|decision| prm_input(profile, question, previous, decision))
    };
    let texts: Vec<Option<String>> = decided.iter().map(text).collect();
    let asked: Vec<String> = texts.iter().flatten().cloned().collect();
    let mut scored = if asked.is_empty() { Vec::new() } else { scores(&asked)? }.into_iter();
    let reward = |(decided, text): (&Decided, Option<String>)| {
        let prm = text.map(|_| {
            let score = scored.next().expect("there is a score for each text");
            f64::from(score).clamp(0.0, 1.0)
        });
        of(config, decided, prm)
    };
    Ok(decided.iter().zip(texts).map(reward).collect())
}

fn of(config: &RewardConfig, decided: &Decided<'_>, prm: Option<f64>) -> Reward {
    let Decided { outcome, tokens, .. } = *decided;
    let length = config.length.as_ref().map_or(0.0, |penalty| penalty.of(tokens));
    let valid = decided.decision.is_some();
    let mixed = match (prm, outcome) {
        _ if !valid => 0.0,
        (Some(prm), Some(outcome)) => {
            (1.0 - config.outcome_weight) * prm + config.outcome_weight * outcome
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => f64::NAN,
    };
    // `clamp` keeps NaN.
    let total = (mixed - length).clamp(0.0, 1.0);
    Reward { total, valid, prm, outcome, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(outcome_weight: f64) -> RewardConfig {
        RewardConfig { outcome_weight, length: None }
    }

    fn decision(thought: &str) -> Decision {
        Decision {
            thought: thought.to_owned(),
            action: "code".to_owned(),
            action_input: "print(72)".to_owned(),
        }
    }

    fn decided(decision: Option<&Decision>, outcome: Option<f64>) -> Decided<'_> {
        Decided { question: "What is 15% of 240?", previous: &[], decision, tokens: 40, outcome }
    }

    /// A PRM that gives `score` to everything.
    fn totals(config: &RewardConfig, decided: &[Decided<'_>], score: f32) -> Vec<f64> {
        let scores = |texts: &[String]| Ok::<_, ()>(vec![score; texts.len()]);
        let rewards = rewards(config, Profile::Compact, decided, scores).expect("it cannot fail");
        rewards.iter().map(|reward| reward.total).collect()
    }

    #[test]
    fn a_reply_that_cannot_be_read_gets_nothing_and_is_not_shown_to_the_prm() {
        let good = decision("Take the percentage.");
        let both = [decided(None, Some(1.0)), decided(Some(&good), Some(1.0))];
        let mut seen = Vec::new();
        let scores = |texts: &[String]| {
            seen = texts.to_vec();
            Ok::<_, ()>(vec![0.25; texts.len()])
        };
        let given = rewards(&config(0.5), Profile::Compact, &both, scores).expect("no error");
        assert_eq!((given[0].total, given[0].valid, given[0].prm), (0.0, false, None));
        assert_eq!((given[1].total, given[1].valid, given[1].prm), (0.625, true, Some(0.25)));
        assert_eq!(seen, [prm_input(Profile::Compact, both[1].question, &[], &good)]);
    }

    #[test]
    fn scores_are_clamped_before_they_are_mixed() {
        let good = decision("Take the percentage.");
        let wrong = [decided(Some(&good), Some(0.0))];
        assert_eq!(totals(&config(0.5), &wrong, 7.0), [0.5]);
        assert_eq!(totals(&config(0.0), &wrong, -3.0), [0.0]);
        assert!(totals(&config(0.0), &wrong, f32::NAN)[0].is_nan());
    }

    #[test]
    fn without_one_of_the_two_the_other_is_all() {
        let good = decision("Take the percentage.");
        assert_eq!(totals(&config(0.5), &[decided(Some(&good), None)], 0.25), [0.25]);
        let never = |_: &[String]| -> Result<Vec<f32>, ()> { panic!("the PRM is not needed") };
        let all = [decided(Some(&good), Some(1.0)), decided(None, Some(1.0))];
        let given = rewards(&config(1.0), Profile::Compact, &all, never).expect("no error");
        assert_eq!([given[0].total, given[1].total], [1.0, 0.0]);
    }

    #[test]
    fn length_is_free_up_to_a_point_and_then_costs_evenly() {
        let penalty = LengthPenalty { free: 40, full: 80, most: 0.5 };
        let costs = [0, 40, 60, 80, 1000].map(|tokens| penalty.of(tokens));
        assert_eq!(costs, [0.0, 0.0, 0.25, 0.5, 0.5]);
        let config = RewardConfig { outcome_weight: 0.0, length: Some(penalty) };
        let good = decision("Take the percentage.");
        let long = Decided { tokens: 60, ..decided(Some(&good), None) };
        assert_eq!(totals(&config, &[long], 0.75), [0.5]);
        assert_eq!(totals(&config, &[long], 0.125), [0.0], "it never falls below 0");
    }

    #[test]
    fn numbers_outside_their_range_are_named() {
        let message = |config: RewardConfig| config.check().expect_err("refused").to_string();
        assert!(message(config(1.5)).contains("`reward.outcome_weight` is 1.5"));
        let length = Some(LengthPenalty { free: 80, full: 80, most: 0.5 });
        assert!(message(RewardConfig { outcome_weight: 0.0, length }).contains("80 to 80 tokens"));
        assert!(config(0.0).check().is_ok() && config(1.0).check().is_ok());
    }

    proptest! {
        /// Whatever the PRM says and however decisions are batched, a reward is in [0, 1] and its own.
        #[test]
        fn a_reward_does_not_depend_on_those_beside_it(
            cases in prop::collection::vec((any::<bool>(), -2f32..3.0, prop::option::of(0f64..=1.0)), 1..9),
            weight in 0f64..=1.0,
        ) {
            let thoughts: Vec<Decision> = (0..cases.len()).map(|i| decision(&i.to_string())).collect();
            let all: Vec<Decided> = cases
                .iter()
                .zip(&thoughts)
                .map(|((valid, _, outcome), thought)| decided(valid.then_some(thought), *outcome))
                .collect();
            // The score of a text is that of its case, whatever is asked beside it.
            let scores = |texts: &[String]| {
                let score = |text: &String| {
                    let case = (0..cases.len())
                        .find(|i| text.contains(&format!("\"thought\": \"{i}\"")))
                        .expect("a text of ours");
                    cases[case].1
                };
                Ok::<_, ()>(texts.iter().map(score).collect())
            };
            let config = config(weight);
            let together = rewards(&config, Profile::Full, &all, scores).expect("no error");
            for (one, expected) in all.iter().zip(&together) {
                let alone = rewards(&config, Profile::Full, &[*one], scores).expect("no error");
                prop_assert_eq!(&alone[0], expected);
                prop_assert!((0.0..=1.0).contains(&expected.total));
            }
        }
    }
}
