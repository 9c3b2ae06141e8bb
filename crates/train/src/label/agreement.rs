//! How well a judge agrees with itself: the same decisions, rated twice.
//!
//! At temperature 0 the same prompt mostly gives the same reply, which says nothing. So the second time the sub-scores
//! are asked for in reverse order and with another seed, still at temperature 0 ([`Judge::again`]): what moves then is
//! due to the presentation, and bounds what the labels can be trusted to. Ratings at a higher temperature would
//! measure a judge that nobody uses.
//!
//! [`Judge::again`]: super::judge::Judge::again

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::record::{Label, Provenance, Scores};

/// Labels that differ by no more than this agree.
const NEAR: f64 = 0.1;

/// One rating of a decision: the label and its sub-scores.
pub type Rating = (f64, Scores);

/// The same, or nothing where the label is missing.
pub type Rated = Option<Rating>;

/// What two ratings of the same decisions have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Decisions that have both labels, and those that lack one or both.
    pub rated: usize,
    pub missing: usize,
    /// Of |first − second|; all of these are null where no decision has both.
    pub mean_difference: Option<f64>,
    /// Share of decisions whose labels are at most 0.1 apart.
    pub near: Option<f64>,
    /// Spearman's rank correlation; null too where all labels of one rating are the same.
    pub spearman: Option<f64>,
    /// Share of decisions with the same grade, by sub-score.
    pub same_grade: Option<Scores>,
}

/// Which `count` of `keys` are rated twice, as places in it: drawn by their hashes, so always the same ones, whatever the
/// order, and a larger count adds to a smaller one.
pub fn drawn(keys: &[String], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_by_cached_key(|place| Sha256::digest(&keys[*place]));
    places.truncate(count);
    places.sort_unstable();
    places
}

/// Compares the labels `second` with those of the same decisions in `first`.
pub fn of_labels(first: &[Label], second: &[Label]) -> Agreement {
    let place = |label: &Label| (label.run.clone(), label.trajectory.clone(), label.step);
    let rated = |label: &Label| match label.by {
        Provenance::Judge { scores, .. } => label.label.zip(scores),
        _ => None,
    };
    let first: HashMap<_, Rated> = first.iter().map(|label| (place(label), rated(label))).collect();
    let both = |label: &Label| (first.get(&place(label)).copied().flatten(), rated(label));
    agreement(&second.iter().map(both).collect::<Vec<_>>())
}

/// Compares two ratings of each decision.
pub fn agreement(ratings: &[(Rated, Rated)]) -> Agreement {
    let both: Vec<_> = ratings.iter().filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
    let share = |holds: &dyn Fn(&(Rating, Rating)) -> bool| {
        both.iter().filter(|pair| holds(pair)).count() as f64 / both.len() as f64
    };
    // Labels are sums of eightieths, so the difference of two that are 0.1 apart may come out a little above it.
    let near = share(&|(a, b)| (a.0 - b.0).abs() <= NEAR + 1e-9);
    let same = |score: fn(&Scores) -> f64| share(&|(a, b)| score(&a.1) == score(&b.1));
    let same_grade = Scores {
        progress: same(|scores| scores.progress),
        correctness: same(|scores| scores.correctness),
        tool: same(|scores| scores.tool),
        input: same(|scores| scores.input),
        novelty: same(|scores| scores.novelty),
    };
    let (first, second): (Vec<f64>, Vec<f64>) = both.iter().map(|(a, b)| (a.0, b.0)).unzip();
    let apart: f64 = first.iter().zip(&second).map(|(a, b)| (a - b).abs()).sum();
    let any = !both.is_empty();
    Agreement {
        rated: both.len(),
        missing: ratings.len() - both.len(),
        mean_difference: any.then(|| apart / both.len() as f64),
        near: any.then_some(near),
        spearman: correlation(&ranks(&first), &ranks(&second)),
        same_grade: any.then_some(same_grade),
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(difference), Some(near), Some(same)) =
            (self.mean_difference, self.near, self.same_grade)
        else {
            return write!(f, "self-agreement: no decision has two labels");
        };
        let spearman = self.spearman.map_or("undefined".to_owned(), |rho| format!("{rho:.2}"));
        write!(
            f,
            "self-agreement on {} decisions ({} without both labels): mean difference {difference:.3}, {:.0} % within \
             {NEAR}, Spearman {spearman}; same grade: progress {:.0} %, correctness {:.0} %, tool {:.0} %, input {:.0} %, \
             novelty {:.0} %",
            self.rated,
            self.missing,
            100.0 * near,
            100.0 * same.progress,
            100.0 * same.correctness,
            100.0 * same.tool,
            100.0 * same.input,
            100.0 * same.novelty,
        )
    }
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        // The mean of begin + 1 ..= begin + length.
        let rank = begin as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|at| ranks[*at] = rank);
        begin += tied.len();
    }
    ranks
}

/// Pearson's correlation; `None` where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += (a - mean_a) * (b - mean_b);
        of_a += (a - mean_a).powi(2);
        of_b += (b - mean_b).powi(2);
    }
    (of_a > 0.0 && of_b > 0.0).then(|| both / (of_a * of_b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(label: f64, correctness: f64) -> Rated {
        let scores = Scores { progress: 1.0, correctness, tool: 1.0, input: 1.0, novelty: 1.0 };
        Some((label, scores))
    }

    /// Golden: NumPy's `corrcoef` of mean ranks.
    #[test]
    fn spearman_shares_the_ranks_of_ties() {
        let first = [0.1, 0.4, 0.4, 0.9, 1.0, 0.25];
        let second = [0.2, 0.3, 0.6, 0.6, 0.95, 0.0];
        let rho = correlation(&ranks(&first), &ranks(&second)).unwrap();
        assert!((rho - 0.897_058_823_529_411_8).abs() < 1e-12, "{rho}");
        assert_eq!(ranks(&first), [1.0, 3.5, 3.5, 5.0, 6.0, 2.0]);
    }

    #[test]
    fn differences_are_counted_where_there_are_two_labels() {
        let pairs = [
            (rated(1.0, 1.0), rated(0.9, 0.75)),
            (rated(0.5, 0.5), rated(0.5, 0.5)),
            (rated(0.2, 0.0), rated(0.5, 0.5)),
            (rated(0.2, 0.0), None),
            (None, None),
        ];
        let agreement = agreement(&pairs);
        assert_eq!((agreement.rated, agreement.missing), (3, 2));
        assert!((agreement.mean_difference.unwrap() - 0.4 / 3.0).abs() < 1e-12);
        assert_eq!(agreement.near, Some(2.0 / 3.0), "1 and 0.9 are near");
        let same = agreement.same_grade.unwrap();
        assert_eq!((same.correctness, same.tool), (1.0 / 3.0, 1.0));
        assert!(agreement.to_string().contains("67 % within 0.1"), "{agreement}");
    }

    #[test]
    fn without_variation_there_is_no_correlation() {
        let none = agreement(&[]);
        assert_eq!((none.mean_difference, none.spearman), (None, None));
        assert_eq!(none.to_string(), "self-agreement: no decision has two labels");
        let flat = agreement(&[(rated(1.0, 1.0), rated(1.0, 1.0)); 4]);
        assert_eq!((flat.mean_difference, flat.spearman), (Some(0.0), None));
        assert!(flat.to_string().contains("Spearman undefined"), "{flat}");
    }

    #[test]
    fn the_sample_does_not_depend_on_the_order_and_grows_by_adding() {
        let keys: Vec<String> = (0..50).map(|key| format!("key {key}")).collect();
        let names = |keys: &[String], count| -> Vec<String> {
            drawn(keys, count).into_iter().map(|at| keys[at].clone()).collect()
        };
        let mut backwards = keys.clone();
        backwards.reverse();
        let mut same = names(&backwards, 10);
        same.sort();
        let mut ten = names(&keys, 10);
        ten.sort();
        assert_eq!(ten, same);
        let twenty = names(&keys, 20);
        assert!(ten.iter().all(|key| twenty.contains(key)));
        assert_eq!(drawn(&keys, 100).len(), 50);
    }
}
