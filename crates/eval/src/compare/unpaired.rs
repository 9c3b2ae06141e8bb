//! Where only averages are known.

use std::path::Path;

use serde::Serialize;

use super::attempts::Attempts;
use super::{CompareError, Comparison, Side, name_of, refuse_other_benchmark};
use crate::published::Published;
use crate::statistics::{Interval, Tally, average, fisher, mcnemar, newcombe, wilson};

/// Two averages of which nobody told which questions flipped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unpaired {
    pub before: Side,
    pub after: Side,
    pub before_interval: Option<Interval>,
    pub after_interval: Option<Interval>,
    /// After - before.
    pub difference: f64,
    /// Newcombe's, as of unrelated samples; `None` where a number of questions is not known.
    pub interval: Option<Interval>,
    /// Fisher's exact test.
    pub p_value: Option<f64>,
    /// Adjusted by Holm's method, where several rows were compared.
    pub p_holm: Option<f64>,
    /// The smallest p that exact McNemar could give if these are the same questions: that of no question lost.
    pub best_possible_p: Option<f64>,
    /// What the figures are and are not.
    pub notes: Vec<String>,
}

/// An average, as well as it is known.
pub(crate) struct Counted {
    side: Side,
    /// Questions, not answers: several answers to one are not independent, and at worst tell as much as one.
    questions: Option<u64>,
    /// Answers to each.
    answers: u32,
    note: Option<String>,
}

impl Counted {
    pub(crate) fn of(figure: &Published) -> Self {
        Self {
            side: Side {
                name: figure.address.clone(),
                benchmark: figure.benchmark.clone(),
                model: format!("{} ({})", figure.name, figure.model),
                accuracy: figure.accuracy,
                steps: figure.steps,
                source: Some(format!("{}, read {}", figure.source, figure.read)),
            },
            questions: figure.questions,
            answers: figure.answers,
            note: Some(format!("`{}`: {}", figure.address, figure.note)),
        }
    }

    pub(crate) fn of_run(run: &Path) -> Result<Self, CompareError> {
        let Attempts { info, by_key } = Attempts::read(run)?;
        let mut tallies: std::collections::BTreeMap<&str, Tally> =
            std::collections::BTreeMap::new();
        for ((problem, _), attempt) in &by_key {
            let tally = tallies.entry(problem).or_insert(Tally { right: 0, answers: 0 });
            tally.answers += 1;
            tally.right += u64::from(attempt.right);
        }
        let tallies: Vec<Tally> = tallies.into_values().collect();
        let steps: u64 = by_key.values().map(|attempt| attempt.steps).sum();
        Ok(Self {
            side: Side {
                name: name_of(run, &info),
                benchmark: info.benchmark.clone(),
                model: info.model_name(),
                accuracy: average(&tallies).map_or(0.0, |found| found.mean),
                steps: (!by_key.is_empty()).then(|| steps as f64 / by_key.len() as f64),
                source: None,
            },
            questions: Some(tallies.len() as u64),
            answers: info.repeats,
            note: None,
        })
    }

    /// Right answers, fractional where only a share is known, of how many questions.
    fn share(&self) -> Option<(f64, u64)> {
        self.questions.map(|questions| (self.side.accuracy * questions as f64, questions))
    }

    /// Right answers, if each question was answered once.
    fn counts(&self) -> Option<(u64, u64)> {
        let (right, questions) = self.share().filter(|_| self.answers == 1)?;
        Some((right.round() as u64, questions))
    }
}

pub(crate) fn compare(a: &Counted, b: &Counted, force: bool) -> Result<Comparison, CompareError> {
    refuse_other_benchmark(&a.side, &b.side, force)?;
    let shares = a.share().zip(b.share());
    let rounded = |(right, n): (f64, u64)| (right.round() as u64, n);
    let best_possible_p = a.counts().zip(b.counts()).and_then(|((x, n), (y, m))| {
        (n == m).then(|| mcnemar(x.saturating_sub(y), y.saturating_sub(x)))
    });
    let mut notes: Vec<String> = [&a.note, &b.note].into_iter().flatten().cloned().collect();
    notes.push(
        "nobody told which questions flipped, so the sides count as unrelated samples".to_owned(),
    );
    if a.answers.max(b.answers) > 1 && shares.is_some() {
        notes.push(
            "several answers a question count as one here: the intervals are at most as wide as shown".to_owned(),
        );
    }
    if shares.is_none() {
        notes.push(
            "a source does not say how many questions it asked, so there is no interval".to_owned(),
        );
    }
    Ok(Comparison::Unpaired(Box::new(Unpaired {
        before: a.side.clone(),
        after: b.side.clone(),
        before_interval: a.share().map(|(right, n)| wilson(right, n)),
        after_interval: b.share().map(|(right, n)| wilson(right, n)),
        difference: b.side.accuracy - a.side.accuracy,
        interval: shares.map(|(a, b)| newcombe(a, b)),
        p_value: shares.map(|(a, b)| fisher(rounded(a), rounded(b))),
        p_holm: None,
        best_possible_p,
        notes,
    })))
}
