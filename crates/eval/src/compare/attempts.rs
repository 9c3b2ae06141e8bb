//! What a comparison needs of a run: outcome and effort of every attempt, and fingerprints of what was asked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::report::problem_id;
use crate::{Gold, Outcome, RunDirError, RunInfo, Sample, samples};

/// Problem, and which attempt at it.
pub(crate) type Key = (String, u32);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) right: bool,
    pub(crate) steps: u64,
    pub(crate) tokens: u64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) question: u64,
    pub(crate) gold: String,
    /// Of the choices in the order in which they were shown; 0 without.
    pub(crate) shown: u64,
}

pub(crate) struct Attempts {
    pub(crate) info: RunInfo,
    pub(crate) by_key: BTreeMap<Key, Attempt>,
}

impl Attempts {
    /// Where an attempt was made twice, the later one counts.
    pub(crate) fn read(run: &Path) -> Result<Self, RunDirError> {
        let info = RunInfo::read(run)?;
        let mut by_key = BTreeMap::new();
        for sample in samples(run)? {
            let sample = sample?;
            let key = (problem_id(&sample.trajectory).to_owned(), sample.eval.repeat);
            by_key.insert(key, Attempt::of(&sample));
        }
        Ok(Self { info, by_key })
    }
}

impl Attempt {
    fn of(Sample { trajectory, eval }: &Sample) -> Self {
        // The letter of a choice depends on the order in which they were shown; its text does not.
        let (gold, shown) = match &eval.gold {
            Gold::Math { answer } => (answer.clone(), 0),
            Gold::Choice { letter, shown } => {
                let index = (*letter as usize).wrapping_sub('A' as usize);
                (shown.get(index).cloned().unwrap_or_else(|| letter.to_string()), hash(shown))
            }
        };
        Self {
            right: eval.verdict.outcome == Outcome::Right,
            steps: trajectory.steps.len() as u64,
            tokens: trajectory.usage.completion_tokens,
            tags: eval.tags.clone(),
            question: match &eval.gold {
                Gold::Math { .. } => hash(&trajectory.question),
                // It holds the choices, which may come in another order.
                Gold::Choice { .. } => 0,
            },
            gold,
            shown,
        }
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
