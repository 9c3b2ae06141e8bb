//! How an answer of the arithmetic benchmark is judged: whole numbers, and letters, written the same way.

use agentflow_eval::{Gold, Outcome, Verdict};

/// The verdict on an answer that was given.
pub(crate) fn judge(gold: &Gold, answer: &str) -> Verdict {
    let answer = answer.trim();
    let read = match gold {
        Gold::Math { .. } => answer.parse::<i64>().ok().map(|number| number.to_string()),
        Gold::Choice { shown, .. } => answer
            .chars()
            .next()
            .filter(|letter| {
                answer.len() == 1 && (*letter as usize).wrapping_sub('A' as usize) < shown.len()
            })
            .map(String::from),
    };
    let gold_read = match gold {
        Gold::Math { answer } => {
            answer.trim().parse().map_or_else(|_| answer.clone(), |n: i64| n.to_string())
        }
        Gold::Choice { letter, .. } => letter.to_string(),
    };
    let outcome = match &read {
        None => Outcome::NoAnswer,
        Some(read) if *read == gold_read => Outcome::Right,
        Some(_) => Outcome::Wrong,
    };
    Verdict { outcome, gold_read, pred_read: read, how: "whole answer, exact".to_owned() }
}

/// Whether two answers, as they were read, are the same.
pub(crate) fn equal(a: &str, b: &str) -> bool {
    a == b
}
