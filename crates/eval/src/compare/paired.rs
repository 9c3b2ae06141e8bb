//! The same questions, twice.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::attempts::{Attempt, Attempts, Key};
use super::{CompareError, Comparison, Side, name_of, refuse_other_benchmark};
use crate::RunInfo;
use crate::published::{Published, PublishedPair};
use crate::statistics::{
    Difference, Interval, bootstrap, detectable_difference, difference, holm, mcnemar, sign_flip,
};

/// Resamples of the bootstrap, and the seed that makes it the same every time.
const RESAMPLES: usize = 10_000;
const BOOTSTRAP_SEED: u64 = 0;

/// What changed from the first run to the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paired {
    pub before: Side,
    pub after: Side,
    /// What else differs, so that a difference may come from it.
    pub warnings: Vec<String>,
    pub questions: u64,
    /// Pairs of attempts: the same repeat of the same problem.
    pub pairs: u64,
    /// Attempts that only one of the runs has: before, after.
    pub without_partner: (u64, u64),
    pub both_right: u64,
    pub both_wrong: u64,
    /// Wrong before, right after.
    pub gained: Vec<Flip>,
    /// Right before, wrong after.
    pub lost: Vec<Flip>,
    pub p_value: f64,
    pub test: Test,
    /// Of accuracy, after - before, by question.
    pub difference: Difference,
    /// Percentile bootstrap by question, 10,000 resamples, seed 0.
    pub bootstrap: Option<Interval>,
    /// What these questions could have shown, at 80 % power and the share of questions that flipped.
    pub detectable: Option<f64>,
    pub steps: Option<Means>,
    pub completion_tokens: Option<Means>,
    /// By tag, with p-values adjusted over its values by Holm's method.
    pub by_tag: BTreeMap<String, Vec<TagRow>>,
}

/// One attempt whose outcome changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flip {
    pub problem: String,
    pub repeat: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// One pair a question.
    ExactMcnemar,
    /// Several, which hang together: signs are flipped by question.
    ExactSignFlip,
}

/// Means over the pairs, and their difference by question.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Means {
    pub before: f64,
    pub after: f64,
    pub difference: Difference,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TagRow {
    pub value: String,
    pub pairs: u64,
    pub gained: u64,
    pub lost: u64,
    pub p_value: f64,
    pub p_holm: f64,
}

/// A pair of attempts at the same problem.
type Pair<'a> = (&'a Key, &'a Attempt, &'a Attempt);

pub(crate) fn of_runs(a: &Path, b: &Path, force: bool) -> Result<Comparison, CompareError> {
    let (before, after) = (Attempts::read(a)?, Attempts::read(b)?);
    let pairs: Vec<Pair<'_>> = before
        .by_key
        .iter()
        .filter_map(|(key, first)| Some((key, first, after.by_key.get(key)?)))
        .collect();
    let share = |of: &dyn Fn(&Pair<'_>) -> bool| {
        pairs.iter().filter(|pair| of(pair)).count() as f64 / pairs.len().max(1) as f64
    };
    let side = |run: &Path, info: &RunInfo, accuracy: f64| Side {
        name: name_of(run, info),
        benchmark: info.benchmark.clone(),
        model: info.model_name(),
        accuracy,
        steps: None,
        source: None,
    };
    let sides = (
        side(a, &before.info, share(&|(_, first, _)| first.right)),
        side(b, &after.info, share(&|(_, _, second)| second.right)),
    );
    refuse_other_benchmark(&sides.0, &sides.1, force)?;
    if pairs.is_empty() {
        return Err(CompareError::NothingInCommon { a: sides.0.name, b: sides.1.name });
    }
    let warnings = warnings(&before.info, &after.info, &pairs, force)?;
    let without_partner =
        ((before.by_key.len() - pairs.len()) as u64, (after.by_key.len() - pairs.len()) as u64);
    Ok(Comparison::Paired(Box::new(of_pairs(sides, warnings, without_partner, &pairs))))
}

fn of_pairs(
    (before, after): (Side, Side),
    warnings: Vec<String>,
    without_partner: (u64, u64),
    pairs: &[Pair<'_>],
) -> Paired {
    let flips = |from: bool| -> Vec<Flip> {
        let flipped = pairs.iter().filter(|(_, a, b)| a.right == from && b.right != from);
        flipped
            .map(|((problem, repeat), ..)| Flip { problem: problem.clone(), repeat: *repeat })
            .collect()
    };
    let both = |right: bool| {
        pairs.iter().filter(|(_, a, b)| a.right == right && b.right == right).count() as u64
    };
    let questions = by_question(pairs);
    let right = |attempt: &Attempt| f64::from(u8::from(attempt.right));
    let differences = question_means(&questions, right);
    let net: Vec<i64> = questions
        .values()
        .map(|of_one| of_one.iter().map(|(_, a, b)| i64::from(b.right) - i64::from(a.right)).sum())
        .collect();
    let single = questions.len() == pairs.len();
    let flipped = net.iter().filter(|net| **net != 0).count() as f64;
    Paired {
        before,
        after,
        warnings,
        questions: questions.len() as u64,
        pairs: pairs.len() as u64,
        without_partner,
        both_right: both(true),
        both_wrong: both(false),
        gained: flips(false),
        lost: flips(true),
        p_value: sign_flip(&net),
        test: if single { Test::ExactMcnemar } else { Test::ExactSignFlip },
        difference: difference(&differences).expect("there are pairs"),
        bootstrap: bootstrap(&differences, RESAMPLES, BOOTSTRAP_SEED),
        detectable: detectable_difference(questions.len(), flipped / questions.len() as f64),
        steps: means(&questions, pairs, |attempt| attempt.steps as f64),
        completion_tokens: means(&questions, pairs, |attempt| attempt.tokens as f64),
        by_tag: by_tag(pairs),
    }
}

/// What a source tells of two published figures: counts, and which questions flipped.
pub(crate) fn of_published(a: &Published, b: &Published, pair: &PublishedPair) -> Comparison {
    let side = |figure: &Published| Side {
        name: figure.address.clone(),
        benchmark: figure.benchmark.clone(),
        model: figure.model.clone(),
        accuracy: figure.accuracy,
        steps: figure.steps,
        source: Some(format!("{} ({})", figure.source, figure.note)),
    };
    let flips = |ids: &[String]| -> Vec<Flip> {
        ids.iter().map(|problem| Flip { problem: problem.clone(), repeat: 0 }).collect()
    };
    let (gained, lost) = (pair.gained.len(), pair.lost.len());
    let questions = a.questions.unwrap_or((gained + lost) as u64);
    let both_right = a.right.unwrap_or(lost as u64).saturating_sub(lost as u64);
    let mut differences = vec![1.0; gained];
    differences.extend(vec![-1.0; lost]);
    differences.resize((questions as usize).max(differences.len()), 0.0);
    Comparison::Paired(Box::new(Paired {
        before: side(a),
        after: side(b),
        warnings: Vec::new(),
        questions,
        pairs: questions,
        without_partner: (0, 0),
        both_right,
        both_wrong: questions.saturating_sub(both_right + (gained + lost) as u64),
        gained: flips(&pair.gained),
        lost: flips(&pair.lost),
        p_value: mcnemar(lost as u64, gained as u64),
        test: Test::ExactMcnemar,
        difference: difference(&differences).expect("questions flipped"),
        bootstrap: bootstrap(&differences, RESAMPLES, BOOTSTRAP_SEED),
        detectable: detectable_difference(
            differences.len(),
            (gained + lost) as f64 / differences.len() as f64,
        ),
        steps: None,
        completion_tokens: None,
        by_tag: BTreeMap::new(),
    }))
}

/// What differs beside the model; different questions are refused.
fn warnings(
    a: &RunInfo,
    b: &RunInfo,
    pairs: &[Pair<'_>],
    force: bool,
) -> Result<Vec<String>, CompareError> {
    let mut warnings = Vec::new();
    let count = |of: &dyn Fn(&Pair<'_>) -> bool| pairs.iter().filter(|pair| of(pair)).count();
    let other_gold = count(&|(_, a, b)| a.gold != b.gold);
    let other_question = count(&|(_, a, b)| a.question != b.question);
    for (n, what) in [(other_gold, "gold answer"), (other_question, "question")] {
        if n > 0 {
            let what = format!("{n} of {} pairs have the same id but another {what}", pairs.len());
            if !force {
                return Err(CompareError::Refused { what });
            }
            warnings.push(what);
        }
    }
    let other_order = count(&|(_, a, b)| a.shown != b.shown);
    if other_order > 0 {
        warnings.push(format!("choices were shown in another order in {other_order} pairs"));
    }
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            warnings.push(format!("{what} differ: {a}, then {b}"));
        }
    };
    differs("data sets", dataset(a), dataset(b));
    differs("prompts", a.prompts.clone(), b.prompts.clone());
    differs("limits of steps", a.max_steps.to_string(), b.max_steps.to_string());
    let sampling = |info: &RunInfo| {
        let sampling = &info.sampling;
        let think = if sampling.think { "on" } else { "off" };
        format!("temperature {} top_p {} think {think}", sampling.temperature, sampling.top_p)
    };
    differs("sampling settings", sampling(a), sampling(b));
    Ok(warnings)
}

fn dataset(info: &RunInfo) -> String {
    info.dataset.as_ref().map_or_else(
        || "none named".to_owned(),
        |set| format!("{} @ {}", set.id, set.revision.as_deref().unwrap_or("no revision")),
    )
}

fn by_question<'a, 'b>(pairs: &'b [Pair<'a>]) -> BTreeMap<&'a str, Vec<&'b Pair<'a>>> {
    let mut questions: BTreeMap<&str, Vec<&Pair<'a>>> = BTreeMap::new();
    for pair in pairs {
        questions.entry(&pair.0.0).or_default().push(pair);
    }
    questions
}

/// Mean of `of(after) - of(before)` over the pairs of each question.
fn question_means(
    questions: &BTreeMap<&str, Vec<&Pair<'_>>>,
    of: impl Fn(&Attempt) -> f64,
) -> Vec<f64> {
    let mean = |pairs: &Vec<&Pair<'_>>| {
        pairs.iter().map(|(_, a, b)| of(b) - of(a)).sum::<f64>() / pairs.len() as f64
    };
    questions.values().map(mean).collect()
}

fn means(
    questions: &BTreeMap<&str, Vec<&Pair<'_>>>,
    pairs: &[Pair<'_>],
    of: impl Fn(&Attempt) -> f64,
) -> Option<Means> {
    let n = pairs.len() as f64;
    Some(Means {
        before: pairs.iter().map(|(_, a, _)| of(a)).sum::<f64>() / n,
        after: pairs.iter().map(|(_, _, b)| of(b)).sum::<f64>() / n,
        difference: difference(&question_means(questions, of))?,
    })
}

fn by_tag(pairs: &[Pair<'_>]) -> BTreeMap<String, Vec<TagRow>> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<Pair<'_>>>> = BTreeMap::new();
    for pair in pairs {
        for (tag, value) in &pair.1.tags {
            groups.entry(tag).or_default().entry(value).or_default().push(*pair);
        }
    }
    groups
        .into_iter()
        .map(|(tag, values)| {
            let mut rows: Vec<TagRow> =
                values.into_iter().map(|(value, pairs)| tag_row(value, &pairs)).collect();
            let adjusted = holm(&rows.iter().map(|row| row.p_value).collect::<Vec<_>>());
            for (row, adjusted) in rows.iter_mut().zip(adjusted) {
                row.p_holm = adjusted;
            }
            (tag.to_owned(), rows)
        })
        .collect()
}

fn tag_row(value: &str, pairs: &[Pair<'_>]) -> TagRow {
    let flipped = |from: bool| {
        pairs.iter().filter(|(_, a, b)| a.right == from && b.right != from).count() as u64
    };
    let net: Vec<i64> = by_question(pairs)
        .values()
        .map(|of_one| of_one.iter().map(|(_, a, b)| i64::from(b.right) - i64::from(a.right)).sum())
        .collect();
    let p_value = sign_flip(&net);
    TagRow {
        value: value.to_owned(),
        pairs: pairs.len() as u64,
        gained: flipped(false),
        lost: flipped(true),
        p_value,
        p_holm: p_value,
    }
}
