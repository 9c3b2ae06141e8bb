//! The problems of a run: an endless, shuffled row of those to learn from, and those held out.

use std::collections::HashSet;

use agentflow_eval::Problem;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Held-out problems are those with the smallest hashes of seed and id; no problem to learn from asks the same question.
pub(super) struct Pool {
    seed: u64,
    train: Vec<Problem>,
    held_out: Vec<Problem>,
}

impl Pool {
    /// `None` where nothing is left to learn from.
    pub(super) fn new(problems: Vec<Problem>, held_out: usize, seed: u64) -> Option<Self> {
        let mut keyed: Vec<([u8; 32], Problem)> =
            problems.into_iter().map(|problem| (key(seed, &problem.id), problem)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        let mut problems = keyed.into_iter().map(|(_, problem)| problem);
        let held_out: Vec<Problem> = problems.by_ref().take(held_out).collect();
        let asked: HashSet<&str> = held_out.iter().map(|it| it.question.as_str()).collect();
        let train: Vec<Problem> =
            problems.filter(|problem| !asked.contains(problem.question.as_str())).collect();
        (!train.is_empty()).then_some(Self { seed, train, held_out })
    }

    pub(super) fn held_out(&self) -> &[Problem] {
        &self.held_out
    }

    pub(super) fn train(&self) -> usize {
        self.train.len()
    }

    /// `count` problems from `position` on, each epoch being shuffled anew.
    pub(super) fn from(&self, position: u64, count: usize) -> Vec<&Problem> {
        let all = self.train.len() as u64;
        let mut epoch: Option<(u64, Vec<usize>)> = None;
        (position..position + count as u64)
            .map(|at| {
                let order = match &mut epoch {
                    Some((number, order)) if *number == at / all => order,
                    other => &mut other.insert((at / all, self.epoch(at / all))).1,
                };
                &self.train[order[(at % all) as usize]]
            })
            .collect()
    }

    fn epoch(&self, number: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number + 1); // stream 0 makes the adapter
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        order.shuffle(&mut rng);
        order
    }
}

fn key(seed: u64, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(id);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use agentflow_eval::Gold;

    use super::*;

    fn problem(id: usize, question: &str) -> Problem {
        let gold = Gold::Math { answer: id.to_string() };
        let (id, question) = (format!("p/{id}"), question.to_owned());
        Problem { id, question, gold, tags: BTreeMap::new() }
    }

    #[test]
    fn every_problem_comes_once_an_epoch_and_a_position_always_gives_the_same() {
        let problems: Vec<Problem> = (0..13).map(|id| problem(id, &format!("{id}?"))).collect();
        let pool = Pool::new(problems.clone(), 3, 7).expect("ten are left");
        let ids = |problems: Vec<&Problem>| -> Vec<String> {
            problems.iter().map(|problem| problem.id.clone()).collect()
        };
        let two_epochs = ids(pool.from(0, 20));
        for epoch in two_epochs.chunks(10) {
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 10);
            assert!(pool.held_out().iter().all(|held_out| !epoch.contains(&held_out.id)));
        }
        assert_ne!(two_epochs[..10], two_epochs[10..], "each epoch has an order of its own");
        assert_eq!(ids(pool.from(8, 5)), two_epochs[8..13]);
        let turned: Vec<Problem> = problems.into_iter().rev().collect();
        let again = Pool::new(turned, 3, 7).expect("ten are left");
        assert_eq!(ids(again.from(0, 20)), two_epochs, "the order of the file does not matter");
    }

    #[test]
    fn no_question_of_the_held_out_is_learnt_from() {
        let problems = vec![problem(0, "same?"), problem(1, "same?"), problem(2, "other?")];
        let pool = Pool::new(problems.clone(), 1, 1);
        let held_out = |pool: &Pool| pool.held_out()[0].question.clone();
        for seed in 0..8 {
            let Some(pool) = Pool::new(problems.clone(), 1, seed) else { continue };
            assert!(pool.from(0, pool.train()).iter().all(|it| it.question != held_out(&pool)));
        }
        assert!(pool.is_some());
        assert!(Pool::new(problems[..2].to_vec(), 1, 1).is_none(), "both ask the same");
    }
}
