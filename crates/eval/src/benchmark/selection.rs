//! Which problems of a benchmark are run.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::error::BenchmarkError;
use crate::Problem;

/// `--limit N`, or `--sample N --seed S`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    #[default]
    All,
    /// At most this many, in the order of the file.
    First(usize),
    /// This many, drawn with the seed; in the order of the file.
    Sample { count: usize, seed: u64 },
}

impl Selection {
    pub(super) fn of(
        &self,
        name: &str,
        mut problems: Vec<Problem>,
    ) -> Result<Vec<Problem>, BenchmarkError> {
        match *self {
            Selection::All => {}
            Selection::First(count) => problems.truncate(count),
            Selection::Sample { count, .. } if count > problems.len() => {
                return Err(BenchmarkError::TooFew {
                    name: name.to_owned(),
                    available: problems.len(),
                    wanted: count,
                });
            }
            Selection::Sample { count, seed } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let mut taken = vec![false; problems.len()];
                for place in rand::seq::index::sample(&mut rng, problems.len(), count) {
                    taken[place] = true;
                }
                let mut taken = taken.into_iter();
                problems.retain(|_| taken.next().expect("one for each problem"));
            }
        }
        Ok(problems)
    }
}
