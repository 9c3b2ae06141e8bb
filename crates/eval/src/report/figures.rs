//! From summaries to figures.

use std::collections::BTreeMap;

use agentflow_agent::trajectory::Stop;

use super::{
    Accuracy, Counts, Majority, Method, PerSample, REPORT_SCHEMA, Repeats, Replies, Report, Score,
    Speed, StepScore, Summary, Tokens, Tools,
};
use crate::statistics::{Interval, Tally, average, majority, mean_pass_at, mean_pass_hat, wilson};
use crate::{Outcome, RunInfo};

impl Report {
    /// The figures of a run. `wall_s` is how long it took, where that is known; `equal` says whether two answers, as they
    /// were read, are the same, so that 1/2 and 0.5 vote together.
    ///
    /// Where an attempt was made twice, as after a failure, the later one counts.
    pub fn of(
        info: &RunInfo,
        summaries: &[Summary],
        wall_s: Option<f64>,
        equal: &dyn Fn(&str, &str) -> bool,
    ) -> Self {
        let attempts: BTreeMap<(&str, u32), &Summary> = summaries
            .iter()
            .map(|summary| ((&*summary.problem, summary.repeat), summary))
            .collect();
        let samples: Vec<&Summary> = attempts.into_values().collect();
        let counts = counts(info, &samples);
        let sum = |of: fn(&Summary) -> u64| samples.iter().map(|sample| of(sample)).sum::<u64>();
        let tokens =
            Tokens { prompt: sum(|s| s.prompt_tokens), completion: sum(|s| s.completion_tokens) };
        let tool_calls = sum(|s| s.tool_calls);
        let tool_errors = sum(|s| s.tool_errors);
        let steps = sum(|s| s.steps);
        let invalid = sum(|s| s.invalid_replies);
        let mean = |total: f64| total / counts.samples.max(1) as f64;
        Self {
            schema: REPORT_SCHEMA.to_owned(),
            run: info.clone(),
            partial: counts.missing > 0,
            accuracy: accuracy(&tallies(&samples)),
            repeats: (info.repeats > 1).then(|| repeats(info, &samples, equal)),
            per_sample: PerSample {
                steps: mean(steps as f64),
                prompt_tokens: mean(tokens.prompt as f64),
                completion_tokens: mean(tokens.completion as f64),
                wall_s: mean(samples.iter().map(|sample| sample.wall_s).sum()),
            },
            tools: Tools {
                calls: tool_calls,
                errors: tool_errors,
                error_rate: share(tool_errors, tool_calls),
                truncated: sum(|s| s.truncated),
            },
            replies: Replies { steps, invalid, invalid_rate: share(invalid, steps) },
            stops: count_by(samples.iter().map(|sample| stop_name(sample.stop).to_owned())),
            read_by: count_by(samples.iter().map(|sample| sample.how.clone())),
            by_tag: by_tag(&samples),
            by_steps: by_steps(&samples),
            tokens,
            speed: wall_s.filter(|wall_s| *wall_s > 0.0).map(|wall_s| Speed {
                wall_s,
                completion_tokens_per_s: tokens.completion as f64 / wall_s,
                samples_per_s: counts.samples as f64 / wall_s,
            }),
            cost_dollars: info.prices.map(|prices| {
                (tokens.prompt as f64 * prices.prompt
                    + tokens.completion as f64 * prices.completion)
                    / 1e6
            }),
            counts,
        }
    }
}

fn counts(info: &RunInfo, samples: &[&Summary]) -> Counts {
    let asked = info.problems * u64::from(info.repeats);
    let mut counts = Counts { asked, samples: samples.len() as u64, ..Counts::default() };
    for sample in samples {
        match sample.outcome {
            Outcome::Right => counts.right += 1,
            Outcome::Wrong => counts.wrong += 1,
            Outcome::NoAnswer => counts.no_answer += 1,
            Outcome::Failed => {
                counts.failed += 1;
                let cause = sample.cause.clone().unwrap_or_else(|| "no cause given".to_owned());
                *counts.failed_by_cause.entry(cause).or_default() += 1;
            }
        }
    }
    counts.missing = asked.saturating_sub(counts.samples);
    counts
}

/// One tally a question, in the order of their ids.
fn tallies(samples: &[&Summary]) -> Vec<Tally> {
    by_question(samples).into_values().map(|of_one| tally(&of_one)).collect()
}

fn by_question<'a>(samples: &[&'a Summary]) -> BTreeMap<&'a str, Vec<&'a Summary>> {
    let mut questions: BTreeMap<&str, Vec<&Summary>> = BTreeMap::new();
    for sample in samples {
        questions.entry(&sample.problem).or_default().push(sample);
    }
    questions
}

fn tally(samples: &[&Summary]) -> Tally {
    let right = samples.iter().filter(|sample| sample.outcome == Outcome::Right).count();
    Tally { right: right as u64, answers: samples.len() as u64 }
}

pub(crate) fn accuracy(tallies: &[Tally]) -> Accuracy {
    let questions = tallies.len() as u64;
    let single = tallies.iter().all(|tally| tally.answers <= 1);
    let found = average(tallies);
    let value = found.map_or(0.0, |found| found.mean);
    // Several answers to one question hang together, so that Wilson's interval of all answers would be too narrow. Where
    // every question has the same mean, t would claim certainty; Wilson's over questions does not.
    let spread = found.filter(|found| !single && found.stderr.is_some_and(|stderr| stderr > 0.0));
    match spread.and_then(|found| found.interval) {
        Some(Interval { lower, upper }) => Accuracy {
            value,
            interval: Interval { lower: lower.max(0.0), upper: upper.min(1.0) },
            method: Method::StudentT,
            questions,
        },
        None => Accuracy {
            value,
            interval: wilson(value * questions as f64, questions),
            method: Method::Wilson,
            questions,
        },
    }
}

fn repeats(info: &RunInfo, samples: &[&Summary], equal: &dyn Fn(&str, &str) -> bool) -> Repeats {
    let questions = by_question(samples);
    let tallies = tallies(samples);
    let obtained = || tallies.iter().map(|tally| tally.answers);
    let most = obtained().max().unwrap_or(0);
    let found = average(&tallies);
    let right = questions
        .values()
        .filter(|of_one| {
            let answers: Vec<Option<&str>> =
                of_one.iter().map(|sample| sample.pred_read.as_deref()).collect();
            majority(&answers, |a, b| equal(a, b))
                .is_some_and(|first| of_one[first].outcome == Outcome::Right)
        })
        .count() as u64;
    Repeats {
        asked: u64::from(info.repeats),
        obtained: (obtained().min().unwrap_or(0), most),
        avg: found.map_or(0.0, |found| found.mean),
        avg_stderr: found.and_then(|found| found.stderr),
        pass_at: ks(most).filter_map(|k| mean_pass_at(&tallies, k)).collect(),
        pass_hat: ks(most).filter_map(|k| mean_pass_hat(&tallies, k)).collect(),
        majority: Majority {
            right,
            questions: questions.len() as u64,
            value: share(right, questions.len() as u64),
            interval: wilson(right as f64, questions.len() as u64),
        },
    }
}

/// The k worth a row: powers of two, and all answers.
fn ks(most: u64) -> impl Iterator<Item = u64> {
    let powers = std::iter::successors(Some(1_u64), |k| k.checked_mul(2));
    powers.take_while(move |k| *k < most).chain((most > 0).then_some(most))
}

fn by_tag(samples: &[&Summary]) -> BTreeMap<String, BTreeMap<String, Score>> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&Summary>>> = BTreeMap::new();
    for sample in samples {
        for (tag, value) in &sample.tags {
            groups.entry(tag).or_default().entry(value).or_default().push(sample);
        }
    }
    let score = |(value, of_one): (&str, Vec<&Summary>)| {
        let Tally { right, answers } = tally(&of_one);
        let accuracy = accuracy(&tallies(&of_one));
        (value.to_owned(), Score { right, samples: answers, accuracy })
    };
    groups
        .into_iter()
        .map(|(tag, values)| (tag.to_owned(), values.into_iter().map(score).collect()))
        .collect()
}

fn by_steps(samples: &[&Summary]) -> Vec<StepScore> {
    let mut groups: BTreeMap<u64, Tally> = BTreeMap::new();
    for sample in samples {
        let group = groups.entry(sample.steps).or_insert(Tally { right: 0, answers: 0 });
        group.answers += 1;
        group.right += u64::from(sample.outcome == Outcome::Right);
    }
    let score = |(steps, Tally { right, answers })| StepScore {
        steps,
        right,
        samples: answers,
        accuracy: share(right, answers),
        interval: wilson(right as f64, answers),
    };
    groups.into_iter().map(score).collect()
}

fn count_by(names: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn stop_name(stop: Stop) -> &'static str {
    match stop {
        Stop::Answered => "answered",
        Stop::MaxSteps => "max_steps",
        Stop::Budget => "budget",
        Stop::Failed => "failed",
    }
}

/// 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
