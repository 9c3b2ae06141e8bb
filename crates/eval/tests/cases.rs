//! The development cases of `tests/cases`, each judged as `agentflow score` would; every failure is printed.

#![allow(clippy::print_stdout, reason = "every failure is shown")]

use agentflow_eval::{Gold, Outcome, judge};
use serde_json::Value;

/// Cases that their file marks as suspect, and that we decide otherwise, with the reason.
const DECIDED_OTHERWISE: &[(&str, &str)] =
    &[("mv-197", "two boxes with junk between them are no list: the last box is the answer")];

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/cases/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the cases are in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("a case a line")).collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().expect("a text")
}

/// Judges every case, prints those decided otherwise, and returns the ids.
fn failures(cases: &[Value]) -> Vec<&str> {
    cases
        .iter()
        .filter_map(|case| {
            let gold = Gold::Math { answer: text(case, "gold").to_owned() };
            let verdict = judge(&gold, text(case, "pred"));
            let wanted = case["equal"].as_bool().expect("a verdict");
            let tail: String = text(case, "pred").chars().rev().take(300).collect();
            let tail: String = tail.chars().rev().collect();
            ((verdict.outcome == Outcome::Right) != wanted).then(|| {
                println!(
                    "{} (policy {}, suspect {}): wanted {wanted}\n  gold {:?}\n  pred …{tail:?}\n  {verdict:?}",
                    case["id"], case["policy"], case["suspect"], text(case, "gold"),
                );
                text(case, "id")
            })
        })
        .collect()
}

#[test]
fn math_equivalence() {
    let cases = cases("math_equivalence.jsonl");
    let counted: Vec<_> = cases
        .iter()
        .filter(|case| {
            let otherwise = DECIDED_OTHERWISE.iter().any(|(id, _)| *id == text(case, "id"));
            !case["options_matter"].as_bool().unwrap_or(false) && !otherwise
        })
        .cloned()
        .collect();
    let failed = failures(&counted);
    assert!(failed.is_empty(), "{} of {} cases: {failed:?}", failed.len(), counted.len());
}

#[test]
fn answer_traps() {
    let cases = cases("answer_traps.jsonl");
    let failed = failures(&cases);
    assert!(failed.is_empty(), "{} of {} cases: {failed:?}", failed.len(), cases.len());
}

#[test]
fn choice_letters() {
    let cases = cases("choice_letter.jsonl");
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let gold = Gold::Choice { letter: 'A', shown: Vec::new() };
            let verdict = judge(&gold, text(case, "response"));
            (verdict.pred_read.as_deref() != case["expected"].as_str()).then(|| {
                println!("{}: {:?}\n  {verdict:?}", case["expected"], text(case, "response"));
                text(case, "id")
            })
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} cases: {failed:?}", failed.len(), cases.len());
}
