//! Statistics against SciPy and statsmodels: `cases/statistics.jsonl` was checked with both, and
//! `scripts/golden/intervals.py` writes `cases/statistics_scipy.jsonl`.

use agentflow_eval::statistics::{
    Interval, Tally, average, clopper_pearson, clustered_stderr, difference, fisher, holm, mcnemar,
    mean_stderr, newcombe, pass_at_k, pass_hat_k, sign_flip, t_interval, wilson,
};
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().expect("an array").iter().map(count).collect()
}

/// Ones for the right answers, then zeros.
fn outcomes(right: u64, n: u64) -> Vec<f64> {
    (0..n).map(|index| if index < right { 1.0 } else { 0.0 }).collect()
}

fn bounds(interval: Interval) -> Vec<(&'static str, f64)> {
    vec![("lower", interval.lower), ("upper", interval.upper)]
}

/// What the crate says for one case, by the names of its expectations.
fn computed(kind: &str, input: &Value) -> Vec<(&'static str, f64)> {
    let get = |name: &str| count(&input[name]);
    let binomial = || (get("correct"), get("n"));
    match kind {
        "wilson_95" => bounds(wilson(get("correct") as f64, get("n"))),
        "clopper_pearson_95" => bounds(clopper_pearson(get("correct"), get("n"))),
        "mean_stderr" => {
            let (right, n) = binomial();
            vec![("stderr", mean_stderr(&outcomes(right, n)).expect("two values"))]
        }
        "t_interval_95" => {
            let (right, n) = binomial();
            let values = outcomes(right, n);
            let stderr = mean_stderr(&values).expect("two values");
            bounds(t_interval(right as f64 / n as f64, stderr, values.len()).expect("two values"))
        }
        "pass_at_k" | "pass_hat_k" => {
            let tally = Tally { right: get("c"), answers: get("n") };
            let figure = if kind == "pass_at_k" { pass_at_k } else { pass_hat_k };
            vec![("value", figure(tally, get("k")).expect("n is at least k"))]
        }
        "mcnemar_exact_two_sided" => {
            vec![("p", mcnemar(get("only_before_correct"), get("only_after_correct")))]
        }
        "paired_difference" => {
            let (lost, gained) = (get("only_before_correct"), get("only_after_correct"));
            let mut differences = vec![-1.0; lost as usize];
            differences.extend(vec![1.0; gained as usize]);
            differences.resize(get("n") as usize, 0.0);
            let found = difference(&differences).expect("there are questions");
            vec![("delta", found.mean), ("stderr", found.stderr.expect("two questions"))]
        }
        "avg_at_k" => {
            let tallies: Vec<Tally> = input["scores"]
                .as_array()
                .expect("an array")
                .iter()
                .map(counts)
                .map(|scores| Tally { right: scores.iter().sum(), answers: scores.len() as u64 })
                .collect();
            let found = average(&tallies).expect("there are questions");
            vec![
                ("mean", found.mean),
                ("stderr_over_questions", found.stderr.expect("two questions")),
                ("stderr_clustered", clustered_stderr(&tallies).expect("two questions")),
            ]
        }
        "t_quantile" => {
            // The interval around 0 with an error of 1 ends at the quantile.
            let n = get("degrees") as usize + 1;
            vec![("t", t_interval(0.0, 1.0, n).expect("a degree of freedom").upper)]
        }
        "newcombe" => {
            let side = |name: &str| {
                let pair = counts(&input[name]);
                (pair[0] as f64, pair[1])
            };
            bounds(newcombe(side("before"), side("after")))
        }
        "fisher" => {
            let side = |name: &str| {
                let pair = counts(&input[name]);
                (pair[0], pair[1])
            };
            vec![("p", fisher(side("a"), side("b")))]
        }
        "sign_flip" => {
            let differences: Vec<i64> =
                numbers(&input["differences"]).iter().map(|d| *d as i64).collect();
            vec![("p", sign_flip(&differences))]
        }
        "clustered" => {
            let tallies: Vec<Tally> = counts(&input["right"])
                .into_iter()
                .zip(counts(&input["answers"]))
                .map(|(right, answers)| Tally { right, answers })
                .collect();
            vec![("stderr", clustered_stderr(&tallies).expect("two questions"))]
        }
        other => panic!("unknown kind of case `{other}`"),
    }
}

fn check(file: &str, least: usize) {
    let mut checked = 0;
    for line in file.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let (id, kind) = (&case["id"], case["kind"].as_str().expect("a kind"));
        if kind == "holm" || kind == "beta_inc" {
            continue; // tested by itself below; private, tested beside the function
        }
        let relative = |expected: f64| 1e-9 * expected.abs().max(1.0);
        for (name, found) in computed(kind, &case["input"]) {
            let expected = number(&case["expected"][name]);
            let close = (found - expected).abs() <= relative(expected);
            assert!(close, "{id} {kind}: {name} is {found}, should be {expected}");
            checked += 1;
        }
    }
    assert!(checked >= least, "only {checked} figures were checked");
}

#[test]
fn every_case_to_the_digits_given() {
    check(include_str!("cases/statistics.jsonl"), 34);
}

#[test]
fn scipy_and_statsmodels_agree() {
    check(include_str!("cases/statistics_scipy.jsonl"), 30);
}

#[test]
fn holm_matches_statsmodels() {
    let cases = include_str!("cases/statistics_scipy.jsonl").lines().filter_map(|line| {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        (case["kind"] == "holm").then_some(case)
    });
    let mut checked = 0;
    for case in cases {
        let found = holm(&numbers(&case["input"]["p"]));
        for (found, expected) in found.iter().zip(numbers(&case["expected"]["adjusted"])) {
            assert!((found - expected).abs() < 1e-12, "{}: {found} for {expected}", case["id"]);
            checked += 1;
        }
    }
    assert!(checked > 5);
}
