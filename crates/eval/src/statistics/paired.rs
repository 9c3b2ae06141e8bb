//! Two runs of the same questions.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::average::mean_stderr;
use super::interval::{Interval, t_interval};
use super::special::ln_choose;

/// Exact two-sided McNemar test: the binomial test of `lost` against `gained`; 1 where nothing differs.
pub fn mcnemar(lost: u64, gained: u64) -> f64 {
    let (fewer, n) = (lost.min(gained), lost + gained);
    if lost == gained {
        return 1.0;
    }
    let half = -(n as f64) * std::f64::consts::LN_2;
    let tail: f64 = (0..=fewer).map(|k| (ln_choose(n, k) + half).exp()).sum();
    (2.0 * tail).min(1.0)
}

/// Exact two-sided sign-flip test: how often `|sum|` is at least as large when every difference takes a random sign.
///
/// A difference is right answers after minus right answers before, of one question. It is McNemar's test where each
/// question has one answer, and stays exact where it has several, which McNemar's test would count as independent.
pub fn sign_flip(differences: &[i64]) -> f64 {
    let sizes: Vec<usize> =
        differences.iter().map(|d| d.unsigned_abs() as usize).filter(|size| *size > 0).collect();
    let observed = differences.iter().sum::<i64>().unsigned_abs() as usize;
    let reach: usize = sizes.iter().sum();
    // `chances[s + reach]`: probability of the sum s over the questions so far.
    let mut chances = vec![0.0_f64; 2 * reach + 1];
    chances[reach] = 1.0;
    let mut next = chances.clone();
    for size in sizes {
        for (at, chance) in next.iter_mut().enumerate() {
            let from =
                |at: Option<usize>| at.and_then(|at| chances.get(at)).copied().unwrap_or(0.0);
            *chance = 0.5 * (from(at.checked_sub(size)) + from(at.checked_add(size)));
        }
        std::mem::swap(&mut chances, &mut next);
    }
    let extreme = |at: &usize| at.abs_diff(reach) >= observed;
    let tail: f64 = (0..chances.len()).filter(extreme).map(|at| chances[at]).sum();
    tail.min(1.0)
}

/// A mean of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub mean: f64,
    /// From the spread between questions; `None` below two of them.
    pub stderr: Option<f64>,
    pub interval: Option<Interval>,
    pub questions: usize,
}

/// Mean, error and t interval of the differences, one a question; `None` of none.
pub fn difference(differences: &[f64]) -> Option<Difference> {
    let questions = differences.len();
    let mean = (questions > 0).then(|| differences.iter().sum::<f64>() / questions as f64)?;
    let stderr = mean_stderr(differences);
    let interval = stderr.and_then(|stderr| t_interval(mean, stderr, questions));
    Some(Difference { mean, stderr, interval, questions })
}

/// Percentile bootstrap interval of the mean difference, drawing questions with replacement. The seed decides it.
///
/// `None` below two questions.
pub fn bootstrap(differences: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    let n = differences.len();
    if n < 2 || resamples == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..n).map(|_| differences[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { lower: quantile(&means, 0.025), upper: quantile(&means, 0.975) })
}

/// Linear interpolation between the two nearest of `sorted` values, as NumPy's default does.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let position = at * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}
