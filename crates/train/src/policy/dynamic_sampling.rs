//! Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): groups that carry no signal are replaced by new ones until the
//! batch is full. Here the decisions; who rolls out asks [`Refill::needed`] and hands in scores.
//!
//! The score that decides is the task's, *before* any penalty for length: a group that is all right is dropped even if its
//! completions differ in length (as verl does with `metric: acc`).
//!
//! Selecting by the spread of a process reward model prefers states where that model is unsure, hence the control: a random
//! share of groups is kept whatever its spread.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::PolicyConfigError;

/// When a group carries a signal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Signal {
    /// Scores are outcomes: some, and not all, are at least `right` (DAPO, eq. 11).
    Outcome { right: f64 },
    /// The population standard deviation (ddof 0, as verl and AgentFlow-Pro take it) is at least `threshold`: 1e-3 in
    /// AgentFlow-Pro, far below the error of a process reward model.
    Spread { threshold: f64 },
    /// As `spread`, with threshold `factor` × `mae`: the mean absolute error of the process reward model, held out.
    PrmError { factor: f64, mae: f64 },
}

/// What becomes of groups beyond those asked for, when rollouts come in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surplus {
    /// Thrown away, as verl does; updates stay on-policy.
    Discard,
    /// First in the next batch, with the log-probs they were sampled under: one update off-policy, no rollout wasted.
    Carry,
}

/// How a batch is filled with groups that carry a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicSamplingConfig {
    pub signal: Signal,
    /// Rounds of rollouts after the first; verl's DAPO recipe: 9.
    pub max_refills: u32,
    pub surplus: Surplus,
    /// Rollouts of a round per group that is missing: 1 asks for what is missing, 3 is verl's recipe.
    pub oversample: f64,
    /// Probability with which a group is kept whatever its spread.
    pub control_share: f64,
    /// Decides, with the group, who is in the control.
    pub seed: u64,
}

impl DynamicSamplingConfig {
    /// # Errors
    /// Names the first key that makes no sense, and what would.
    pub fn check(&self) -> Result<(), PolicyConfigError> {
        let ok = PolicyConfigError::unless;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        match self.signal {
            Signal::Outcome { right } => ok(
                right.is_finite(),
                "dynamic_sampling.signal.right",
                &right,
                "it must be a number, the lowest score of a right answer",
            ),
            Signal::Spread { threshold } => ok(
                positive(threshold),
                "dynamic_sampling.signal.threshold",
                &threshold,
                "it must be positive; 0.001 drops constant groups only",
            ),
            Signal::PrmError { factor, mae } => ok(
                positive(factor),
                "dynamic_sampling.signal.factor",
                &factor,
                "it must be positive, say 0.5",
            )
            .and_then(|()| {
                ok(
                    positive(mae),
                    "dynamic_sampling.signal.mae",
                    &mae,
                    "it must be the held-out error of the reward model, as its report states it",
                )
            }),
        }?;
        ok(
            self.oversample >= 1.0 && self.oversample.is_finite(),
            "dynamic_sampling.oversample",
            &self.oversample,
            "it must be at least 1",
        )?;
        ok(
            (0.0..1.0).contains(&self.control_share),
            "dynamic_sampling.control_share",
            &self.control_share,
            "it must be at least 0 and below 1; leave dynamic sampling out to keep every group",
        )
    }
}

/// Why a group was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// A score is missing: a rollout or its judge failed. Its group goes as a whole.
    Incomplete,
    /// Fewer than two completions: nothing to compare with.
    Single,
    AllRight,
    AllWrong,
    /// The spread of scores is below the threshold.
    LowSpread,
}

/// Whether the scores of a group, NaN where one is missing, carry a signal.
///
/// # Errors
/// With the reason why not.
pub fn signal(scores: &[f64], signal: Signal) -> Result<(), DropReason> {
    if scores.iter().any(|score| !score.is_finite()) {
        return Err(DropReason::Incomplete);
    }
    if scores.len() < 2 {
        return Err(DropReason::Single);
    }
    let threshold = match signal {
        Signal::Outcome { right } => {
            let count = scores.iter().filter(|score| **score >= right).count();
            return match count {
                0 => Err(DropReason::AllWrong),
                count if count == scores.len() => Err(DropReason::AllRight),
                _ => Ok(()),
            };
        }
        Signal::Spread { threshold } => threshold,
        Signal::PrmError { factor, mae } => factor * mae,
    };
    let constant = scores.iter().all(|score| score == &scores[0]);
    if constant || population_std(scores) < threshold { Err(DropReason::LowSpread) } else { Ok(()) }
}

/// The standard deviation with ddof 0; 0 without scores.
pub fn population_std(scores: &[f64]) -> f64 {
    let mut scores = scores.to_vec();
    scores.sort_by(f64::total_cmp); // so that the sums do not depend on the order of rows
    let count = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / count;
    (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// What became of a group that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Kept,
    /// Kept as part of the control; `reason` is why it would have been dropped.
    Control {
        reason: DropReason,
    },
    /// Carries a signal, but the batch was full.
    Surplus,
    Dropped {
        reason: DropReason,
    },
}

/// What to do next for the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Roll out this many new groups, then call [`Refill::round`] and hand them in.
    Groups(usize),
    /// The batch is full.
    Nothing,
    /// The cap on refills is reached with `missing` groups still to find. Training on fewer is the caller's decision, to
    /// be logged; never a silent one.
    Capped { missing: usize },
}

/// Counts over one batch, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefillCounts {
    /// Rounds of rollouts, the first included.
    pub rounds: u32,
    /// Groups handed in, those carried over included.
    pub seen: usize,
    pub carried: usize,
    pub kept: usize,
    /// Of the kept, those that only the control kept.
    pub control: usize,
    pub surplus: usize,
    pub dropped: BTreeMap<DropReason, usize>,
}

impl RefillCounts {
    /// Share of seen groups that carry a signal; `None` before the first.
    pub fn informative_share(&self) -> Option<f64> {
        let informative = self.kept - self.control + self.surplus;
        (self.seen > 0).then(|| informative as f64 / self.seen as f64)
    }
}

/// Fills one batch after the other; `T` is whatever stands for a group. Without IO, and decided by what is handed in, in
/// that order. Saved and loaded with a checkpoint, it goes on where it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refill<T> {
    config: DynamicSamplingConfig,
    wanted: usize,
    kept: Vec<T>,
    surplus: Vec<T>,
    counts: RefillCounts,
}

impl<T> Refill<T> {
    /// For batches of `wanted` groups.
    ///
    /// # Errors
    /// See [`DynamicSamplingConfig::check`].
    pub fn new(config: DynamicSamplingConfig, wanted: usize) -> Result<Self, PolicyConfigError> {
        config.check()?;
        let counts = RefillCounts::default();
        Ok(Self { config, wanted, kept: Vec::new(), surplus: Vec::new(), counts })
    }

    /// What the batch still needs.
    pub fn needed(&self) -> Need {
        let missing = self.wanted - self.kept.len();
        if missing == 0 {
            Need::Nothing
        } else if self.counts.rounds > self.config.max_refills {
            Need::Capped { missing }
        } else {
            Need::Groups((missing as f64 * self.config.oversample).ceil() as usize)
        }
    }

    /// Starts a round of rollouts.
    pub fn round(&mut self) {
        self.counts.rounds += 1;
    }

    /// Hands in a whole group: `id` names it for the control, `scores` has one a completion, NaN where it is missing.
    pub fn offer(&mut self, id: u64, scores: &[f64], group: T) -> Decision {
        self.counts.seen += 1;
        let control = match signal(scores, self.config.signal) {
            Ok(()) => None,
            // Without scores to compare there is nothing to train on, control or not.
            Err(reason @ (DropReason::Incomplete | DropReason::Single)) => {
                return self.drop(reason);
            }
            Err(reason) if !self.in_control(id) => return self.drop(reason),
            Err(reason) => Some(reason),
        };
        match control {
            // A control group beyond the batch is dropped for what it lacks.
            Some(reason) if self.is_full() => self.drop(reason),
            None if self.is_full() => {
                self.counts.surplus += 1;
                if self.config.surplus == Surplus::Carry {
                    self.surplus.push(group);
                }
                Decision::Surplus
            }
            control => {
                self.counts.kept += 1;
                self.counts.control += usize::from(control.is_some());
                self.kept.push(group);
                control.map_or(Decision::Kept, |reason| Decision::Control { reason })
            }
        }
    }

    /// The batch as far as it is filled, in the order handed in, and its counts; starts the next batch, with the surplus
    /// in it where that is carried.
    pub fn take(&mut self) -> (Vec<T>, RefillCounts) {
        let batch = std::mem::take(&mut self.kept);
        let counts = std::mem::take(&mut self.counts);
        // More than a batch would wait for longer than one update, so the rest goes.
        self.kept = std::mem::take(&mut self.surplus);
        self.kept.truncate(self.wanted);
        let carried = self.kept.len();
        self.counts = RefillCounts { seen: carried, carried, kept: carried, ..Default::default() };
        (batch, counts)
    }

    /// Whether a group belongs to the control, whatever its scores: a function of seed and group alone, so it does not
    /// depend on order, round or resuming.
    pub fn in_control(&self, id: u64) -> bool {
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(id);
        rng.random_bool(self.config.control_share)
    }

    fn is_full(&self) -> bool {
        self.kept.len() == self.wanted
    }

    fn drop(&mut self, reason: DropReason) -> Decision {
        *self.counts.dropped.entry(reason).or_default() += 1;
        Decision::Dropped { reason }
    }
}
