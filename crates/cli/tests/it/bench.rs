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
    assert_snapshot!(ran.stdout, @r"
    model         tiny
    format        Hugging Face directory
    architecture  qwen3 (Qwen3ForCausalLM)
    parameters    5.25 M in 46 tensors
    stored as     BF16 5.25 M; 10.5 MB on disk
    shape         4 × 256, heads 4 × 64, key-value heads 2, feed-forward 768, tied head
    context       4096 tokens
    tokenizer     7925 tokens in a vocabulary of 8192
    ends with     <|im_end|> 7901
    template      yes
    profile       full
    digest        sha256:b04da1476fc7e8e0d484b19930e1c15819e804c2de7968a069d4868efd906939
    memory        weights 21.0 MB in f32, 10.5 MB in bf16 or f16; cache 4.10 kB a token in f32, 33.6 MB for 8192
    computes      on cpu in f32
    ");
    let again = agentflow(&["model", "random", "--shape", "tiny", "--out", "tiny"]);
    let ran = again.inside(dir.path()).run();
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: `tiny` is not empty; give a new or an empty directory
    ");
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
fn a_group_computes_its_prompt_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    random_model(dir.path(), "tiny");
    let computed = |more: &[&str]| {
        let bench = ["bench", "engine", "--model", "tiny", "--prompt", "24", "--tokens", "2"];
        let ran = agentflow(&[&bench[..], more].concat()).inside(dir.path()).run();
        let figure = ran.stdout.lines().find(|line| line.contains("computed")).map(str::to_owned);
        figure.unwrap_or_else(|| panic!("no such figure: {ran}"))
    };
    // Three rows: two samples of one prompt, and one of another.
    let group = ["--batch", "3", "--group-size", "2"];
    assert_eq!(computed(&group), "figure engine.computed_batch_3 48 tokens");
    let unshared = [&group[..], &["--unshared"]].concat();
    assert_eq!(computed(&unshared), "figure engine.computed_batch_3 72 tokens");
}

#[test]
fn what_does_not_fit_the_context_is_said() {
    let ran = agentflow(&["bench", "engine", "--prompt", "99999"]).run();
    assert_snapshot!(ran, @r"
    exit code: 2
    ----- stderr -----
    error: --prompt and --tokens are 100127 tokens together, but the model's context is 1024; lower one
    ");
}
