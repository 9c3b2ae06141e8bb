//! `agentflow bench`, and the models it measures.

use std::path::Path;

use insta::assert_snapshot;

use crate::agentflow::agentflow;

/// A model with random weights, at `name` inside `dir`.
fn random_model(dir: &Path, name: &str) {
    let ran = agentflow(&["model", "random", "--shape", "tiny", "--out", name]).inside(dir).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert_eq!(ran.stdout, format!("{name}\n"));
}

#[test]
fn a_random_model_is_a_model() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    random_model(dir.path(), "tiny");
    let ran = agentflow(&["model", "inspect", "tiny"]).inside(dir.path()).run();
    assert_snapshot!(ran.stdout, @"");
    let again = agentflow(&["model", "random", "--shape", "tiny", "--out", "tiny"]);
    let ran = again.inside(dir.path()).run();
    assert_snapshot!(ran, @"");
}

#[test]
fn every_batch_gives_four_figures() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    random_model(dir.path(), "tiny");
    let bench = ["bench", "engine", "--model", "tiny", "--prompt", "24", "--tokens", "6"];
    let ran = agentflow(&[&bench[..], &["--batch", "1,3"]].concat()).inside(dir.path()).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let figures: Vec<(&str, f64, &str)> = ran
        .stdout
        .lines()
        .filter_map(|line| {
            let (name, figure) = line.strip_prefix("figure ")?.split_once(' ')?;
            let (value, unit) = figure.split_once(' ')?;
            Some((name, value.parse().ok()?, unit))
        })
        .collect();
    let names: Vec<(&str, &str)> = figures.iter().map(|(name, _, unit)| (*name, *unit)).collect();
    let wanted = [
        ("engine.load", "s"),
        ("engine.prefill_batch_1", "tokens/s"),
        ("engine.decode_batch_1", "tokens/s"),
        ("engine.whole_batch_1", "s"),
        ("engine.computed_batch_1", "tokens"),
        ("engine.prefill_batch_3", "tokens/s"),
        ("engine.decode_batch_3", "tokens/s"),
        ("engine.whole_batch_3", "s"),
        ("engine.computed_batch_3", "tokens"),
    ];
    assert_eq!(names, wanted);
    assert!(figures.iter().all(|(_, value, _)| *value > 0.0 && value.is_finite()), "{ran}");
}

#[test]
fn what_does_not_fit_the_context_is_said() {
    let ran = agentflow(&["bench", "engine", "--prompt", "99999"]).run();
    assert_snapshot!(ran, @"");
}
