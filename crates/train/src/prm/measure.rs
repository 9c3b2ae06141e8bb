//! How good scores are, beside the labels of decisions that were not trained on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels nearer than this do not say which of two decisions is better.
const CLEAR: f64 = 0.1;
/// Rows of the calibration table.
const BINS: usize = 10;

/// A decision with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    /// As the model gives it, not clamped.
    pub score: f64,
    pub label: f64,
    pub problem: usize,
    pub state: usize,
    pub last: bool,
    /// Of its text, in tokens.
    pub length: usize,
}

/// What is measured on the held-out decisions. Errors are those of scores as the model gives them; the reward clamps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub decisions: usize,
    /// Mean absolute error; that of always saying the mean training label; and the one through the other, where that is not 0.
    pub mae: f64,
    pub baseline_mae: f64,
    pub mae_ratio: Option<f64>,
    /// Mean squared error, which training makes smaller.
    pub mse: f64,
    /// Spearman's rank correlation of score and label within a problem, averaged over the problems whose labels vary.
    pub spearman_in_problem: Option<f64>,
    pub problems_that_vary: usize,
    /// Of two decisions in the same state whose labels differ by more than 0.1: how often the better one has the higher score.
    /// Equal scores count half.
    pub pairwise_accuracy: Option<f64>,
    pub pairs: usize,
    /// Pearson's correlation of score and length of the text.
    pub length_correlation: Option<f64>,
    /// The same of label and length: what the scores' should be.
    pub label_length_correlation: Option<f64>,
    /// Mean absolute error of the decisions that ended their trajectories.
    pub last_mae: Option<f64>,
    pub last_decisions: usize,
    /// By score, clamped to 0..1, in ten rows; those without a decision are left out.
    pub calibration: Vec<Bin>,
}

/// A row of the calibration table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Scores from here, up to 0.1 more.
    pub from: f64,
    pub mean_score: f64,
    pub mean_label: f64,
    pub decisions: usize,
}

/// Measures `decisions`, of which there must be some; `mean_label` is that of the training decisions.
pub(super) fn measure(decisions: &[Scored], mean_label: f64) -> Measured {
    let errors = decisions.iter().map(|it| (it.score - it.label).abs());
    let mae = mean(errors).unwrap_or(f64::NAN);
    let baseline = decisions.iter().map(|it| (mean_label - it.label).abs());
    let baseline_mae = mean(baseline).unwrap_or(f64::NAN);
    let squares = decisions.iter().map(|it| (it.score - it.label).powi(2));
    let lengths: Vec<f64> = decisions.iter().map(|it| it.length as f64).collect();
    let column = |of: fn(&Scored) -> f64| decisions.iter().map(of).collect::<Vec<f64>>();
    let (spearman_in_problem, problems_that_vary) = spearman_in_groups(decisions);
    let (pairwise_accuracy, pairs) = pairwise(decisions);
    let last: Vec<&Scored> = decisions.iter().filter(|it| it.last).collect();
    Measured {
        decisions: decisions.len(),
        mae,
        baseline_mae,
        mae_ratio: (baseline_mae > 0.0).then(|| mae / baseline_mae),
        mse: mean(squares).unwrap_or(f64::NAN),
        spearman_in_problem,
        problems_that_vary,
        pairwise_accuracy,
        pairs,
        length_correlation: pearson(&column(|it| it.score), &lengths),
        label_length_correlation: pearson(&column(|it| it.label), &lengths),
        last_mae: mean(last.iter().map(|it| (it.score - it.label).abs())),
        last_decisions: last.len(),
        calibration: calibration(decisions),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn grouped(decisions: &[Scored], by: fn(&Scored) -> usize) -> BTreeMap<usize, Vec<Scored>> {
    let mut groups: BTreeMap<usize, Vec<Scored>> = BTreeMap::new();
    for decision in decisions {
        groups.entry(by(decision)).or_default().push(*decision);
    }
    groups
}

/// The mean over the problems whose labels vary, and how many those are. Scores that do not vary there are worth 0.
fn spearman_in_groups(decisions: &[Scored]) -> (Option<f64>, usize) {
    let correlations: Vec<f64> = grouped(decisions, |it| it.problem)
        .values()
        .filter(|group| group.iter().any(|it| it.label != group[0].label))
        .map(|group| {
            let ranks = |of: fn(&Scored) -> f64| ranks(&group.iter().map(of).collect::<Vec<_>>());
            pearson(&ranks(|it| it.score), &ranks(|it| it.label)).unwrap_or(0.0)
        })
        .collect();
    (mean(correlations.iter().copied()), correlations.len())
}

fn pairwise(decisions: &[Scored]) -> (Option<f64>, usize) {
    let (mut right, mut pairs) = (0.0, 0);
    for group in grouped(decisions, |it| it.state).values() {
        for (index, one) in group.iter().enumerate() {
            for other in &group[index + 1..] {
                if (one.label - other.label).abs() <= CLEAR {
                    continue;
                }
                pairs += 1;
                right += match (one.score - other.score) * (one.label - other.label).signum() {
                    difference if difference > 0.0 => 1.0,
                    0.0 => 0.5,
                    _ => 0.0,
                };
            }
        }
    }
    ((pairs > 0).then(|| right / f64::from(pairs)), pairs as usize)
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|at| values[**at] == values[order[start]]);
        let end = start + equal.count().max(1);
        for at in &order[start..end] {
            ranks[*at] = (start + 1 + end) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

/// Pearson's correlation; none where one side does not vary.
fn pearson(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let (x_mean, y_mean) = (mean(xs.iter().copied())?, mean(ys.iter().copied())?);
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        xs.iter().zip(ys).map(|(x, y)| of(x - x_mean, y - y_mean)).sum()
    };
    let (xx, yy) = (sum(&|x, _| x * x), sum(&|_, y| y * y));
    (xx > 0.0 && yy > 0.0).then(|| sum(&|x, y| x * y) / (xx * yy).sqrt())
}

fn calibration(decisions: &[Scored]) -> Vec<Bin> {
    let bin_of = |it: &Scored| ((it.score.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1);
    let row = |bin: usize| {
        let inside: Vec<&Scored> = decisions.iter().filter(|it| bin_of(it) == bin).collect();
        Some(Bin {
            from: bin as f64 / BINS as f64,
            mean_score: mean(inside.iter().map(|it| it.score))?,
            mean_label: mean(inside.iter().map(|it| it.label))?,
            decisions: inside.len(),
        })
    };
    (0..BINS).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f64, label: f64, problem: usize, state: usize) -> Scored {
        Scored { score, label, problem, state, last: false, length: 10 }
    }

    /// Golden: `scipy.stats.rankdata` and `spearmanr`, scipy 1.16 (ties share their mean rank).
    #[test]
    fn ranks_share_ties() {
        assert_eq!(ranks(&[0.3, 0.1, 0.3, 0.9]), [2.5, 1.0, 2.5, 4.0]);
        let spearman = pearson(&ranks(&[0.3, 0.1, 0.3, 0.9]), &ranks(&[1.0, 2.0, 3.0, 4.0]));
        assert!((spearman.expect("both vary") - 0.632_455_532_033_675_8).abs() < 1e-12);
    }

    #[test]
    fn spearman_averages_over_the_problems_whose_labels_vary() {
        let decisions = [
            scored(0.1, 0.0, 0, 0),
            scored(0.9, 1.0, 0, 0), // 1
            scored(0.1, 1.0, 1, 1),
            scored(0.9, 0.0, 1, 1), // -1
            scored(0.4, 0.0, 2, 2),
            scored(0.4, 1.0, 2, 2), // 0: the scores do not vary
            scored(0.1, 0.5, 3, 3),
            scored(0.9, 0.5, 3, 3), // left out
        ];
        assert_eq!(spearman_in_groups(&decisions), (Some(0.0), 3));
        assert_eq!(spearman_in_groups(&decisions[..2]), (Some(1.0), 1));
        assert_eq!(spearman_in_groups(&decisions[6..]), (None, 0));
    }

    #[test]
    fn pairs_are_of_one_state_and_of_clear_labels() {
        let decisions = [
            scored(0.2, 0.0, 0, 0),
            scored(0.8, 1.0, 0, 0),  // right with the first
            scored(0.2, 0.05, 0, 0), // unclear with the first, right with the second
            scored(0.8, 0.5, 0, 0),  // right with the first and third, a tie with the second
            scored(0.0, 1.0, 0, 1),  // of another state
        ];
        let (accuracy, pairs) = pairwise(&decisions);
        assert_eq!((accuracy, pairs), (Some(4.5 / 5.0), 5));
        assert_eq!(pairwise(&decisions[4..]), (None, 0));
    }

    #[test]
    fn errors_are_beside_those_of_the_mean() {
        let mut decisions = vec![scored(0.5, 0.0, 0, 0), scored(1.25, 1.0, 1, 1)];
        decisions[1].last = true;
        decisions[1].length = 30;
        let measured = measure(&decisions, 0.75);
        assert_eq!((measured.mae, measured.baseline_mae), (0.375, 0.5));
        assert_eq!((measured.mae_ratio, measured.mse), (Some(0.75), (0.25 + 0.0625) / 2.0));
        assert_eq!((measured.last_mae, measured.last_decisions), (Some(0.25), 1));
        assert!((measured.length_correlation.expect("both vary") - 1.0).abs() < 1e-12);
        // A score above 1 falls in the last row, with its own value.
        let rows: Vec<_> =
            measured.calibration.iter().map(|bin| (bin.from, bin.mean_score)).collect();
        assert_eq!(rows, [(0.5, 0.5), (0.9, 1.25)]);
    }
}
