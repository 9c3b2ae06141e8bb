//! pass@k (one of k attempts is right) and pass^k (all of them are), without bias, from n ≥ k answers.

use serde::{Deserialize, Serialize};

use super::average::Tally;
use super::special::ln_choose;

/// A figure for k attempts, over the questions that have as many answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OfK {
    pub k: u64,
    pub value: f64,
    /// Questions with at least k answers; the others cannot say anything about k attempts.
    pub questions: usize,
}

/// 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1); `None` where n < k or k is 0.
pub fn pass_at_k(tally: Tally, k: u64) -> Option<f64> {
    let Tally { right: c, answers: n } = tally;
    if k == 0 || n < k || c > n {
        return None;
    }
    Some(match c {
        0 => 0.0,
        _ if n - c < k => 1.0,
        _ => 1.0 - (ln_choose(n - c, k) - ln_choose(n, k)).exp(),
    })
}

/// C(c, k) / C(n, k): the chance that k attempts all succeed; `None` where n < k or k is 0.
pub fn pass_hat_k(tally: Tally, k: u64) -> Option<f64> {
    let Tally { right: c, answers: n } = tally;
    if k == 0 || n < k || c > n {
        return None;
    }
    Some(match c {
        _ if c < k => 0.0,
        _ if c == n => 1.0,
        _ => (ln_choose(c, k) - ln_choose(n, k)).exp(),
    })
}

/// The mean of [`pass_at_k`] over the questions that have k answers.
pub fn mean_pass_at(tallies: &[Tally], k: u64) -> Option<OfK> {
    mean_of(tallies, k, pass_at_k)
}

/// The mean of [`pass_hat_k`] over the questions that have k answers.
pub fn mean_pass_hat(tallies: &[Tally], k: u64) -> Option<OfK> {
    mean_of(tallies, k, pass_hat_k)
}

fn mean_of(tallies: &[Tally], k: u64, figure: fn(Tally, u64) -> Option<f64>) -> Option<OfK> {
    let values: Vec<f64> = tallies.iter().filter_map(|tally| figure(*tally, k)).collect();
    let questions = values.len();
    (questions > 0).then(|| OfK {
        k,
        value: values.iter().sum::<f64>() / questions as f64,
        questions,
    })
}
