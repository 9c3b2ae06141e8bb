//! avg@k: mean over the answers to each question, then over questions.

use serde::{Deserialize, Serialize};

use super::interval::{Interval, t_interval};

/// What came of the attempts at one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub right: u64,
    /// Answers *obtained*, which may be fewer than were asked for.
    pub answers: u64,
}

impl Tally {
    fn mean(self) -> f64 {
        self.right as f64 / self.answers as f64
    }
}

/// A mean over questions, with its error from the spread between them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Average {
    pub mean: f64,
    /// `None` below two questions, which have no spread.
    pub stderr: Option<f64>,
    /// Student's t with questions - 1 degrees of freedom; it may leave 0 to 1.
    pub interval: Option<Interval>,
    pub questions: usize,
}

/// avg@k. Each question counts once, however many answers were obtained; those without any are left out.
///
/// `None` where no question has an answer.
pub fn average(tallies: &[Tally]) -> Option<Average> {
    let means: Vec<f64> = answered(tallies).map(Tally::mean).collect();
    let mean = mean(&means)?;
    let stderr = mean_stderr(&means);
    let interval = stderr.and_then(|stderr| t_interval(mean, stderr, means.len()));
    Some(Average { mean, stderr, interval, questions: means.len() })
}

/// Standard error of the mean of `values`, dividing by n - 1; `None` below two values.
pub fn mean_stderr(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (n - 1.0) / n).sqrt())
}

/// Cluster-robust standard error of the mean over *answers*, a question being a cluster, times C / (C - 1).
///
/// Where every question has as many answers it is the error of [`average`].
pub fn clustered_stderr(tallies: &[Tally]) -> Option<f64> {
    let clusters = answered(tallies).count() as f64;
    let answers: u64 = tallies.iter().map(|tally| tally.answers).sum();
    let right: u64 = tallies.iter().map(|tally| tally.right).sum();
    if clusters < 2.0 {
        return None;
    }
    let mean = right as f64 / answers as f64;
    let squares: f64 = answered(tallies)
        .map(|tally| (tally.right as f64 - mean * tally.answers as f64).powi(2))
        .sum();
    Some((clusters / (clusters - 1.0) * squares).sqrt() / answers as f64)
}

fn answered(tallies: &[Tally]) -> impl Iterator<Item = Tally> + '_ {
    tallies.iter().copied().filter(|tally| tally.answers > 0)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
