//! A run that would measure something else with its second half is not gone on with.

use std::path::{Path, PathBuf};

use crate::bench::{agentflow, kept, only_run, outcome, succeeded};

const PROBLEMS: &str = r#"{"id": "a", "question": "What is 15% of 240, then doubled?", "answer": "72"}
{"id": "b", "question": "What is 12% of 350?", "answer": "42"}
{"id": "c", "question": "What is 20% of 50?", "answer": "10"}
"#;

/// The bundled planner as a directory, where its weights can be changed.
pub(crate) fn planner(dir: &Path) -> PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/assets/tiny-planner");
    let copy = dir.join("planner");
    std::fs::create_dir(&copy).expect("a directory");
    for file in std::fs::read_dir(assets).expect("the assets are there") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), copy.join(file.file_name())).expect("a copy");
    }
    copy
}

#[test]
fn a_changed_benchmark_model_or_setting_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("problems.jsonl");
    std::fs::write(&data, PROBLEMS).expect("writes");
    let model = planner(dir.path());
    // Ends with one of three: the run is complete as far as its budget goes.
    let arguments = [
        "eval",
        "-b",
        "problems.jsonl",
        "--backend",
        "local",
        "--model",
        "planner",
        "--concurrency",
        "1",
        "--max-tokens-total",
        "1",
    ];
    let (stdout, stderr) = succeeded(&mut agentflow(dir.path(), &arguments));
    assert!(stdout.contains("missing              2"), "{stdout}");
    assert!(stderr.contains("the budget of 1 tokens is used up"), "{stderr}");
    let run = only_run(dir.path());
    assert_eq!(kept(&run), 1);
    let run = run.to_str().expect("a path");
    let elsewhere = tempfile::tempdir().expect("another directory");
    let resume = |more: &[&str]| {
        let arguments = [&["eval", "--resume", run], more].concat();
        outcome(&mut agentflow(elsewhere.path(), &arguments))
    };

    let (code, _, stderr) = resume(&["--temperature", "0.5", "--max-steps", "3"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("cannot go on"), "{stderr}");
    assert!(stderr.contains("\n  loop.max_steps: was 8, is 3\n"), "{stderr}");
    assert!(stderr.contains("\n  sampling.temperature: was 0, is 0.5\n"), "{stderr}");

    std::fs::write(&data, PROBLEMS.replace("20%", "30%")).expect("writes");
    let (code, _, stderr) = resume(&[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("\n  benchmark.problems: was 3 "), "{stderr}");
    std::fs::write(&data, PROBLEMS).expect("writes");

    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("weights");
    let mut changed = bytes.clone();
    *changed.last_mut().expect("bytes") ^= 1;
    std::fs::write(&weights, changed).expect("writes");
    let (code, _, stderr) = resume(&[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("\n  model.digest: was sha256:"), "{stderr}");
    std::fs::write(&weights, bytes).expect("writes");

    assert_eq!(kept(Path::new(run)), 1, "a refused run writes nothing");
    // All is as it was, and what does not decide the result may change.
    let (code, stdout, stderr) = resume(&["--concurrency", "2", "--max-tokens-total", "1000000"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("problems, "), "{stdout}");
    assert!(stdout.contains("all                  3/3"), "{stdout}");
}

#[test]
fn what_is_no_run_of_ours_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for arguments in [["eval", "--resume", "nothing"], ["runs", "resume", "nothing"]] {
        let (code, _, stderr) = outcome(&mut agentflow(dir.path(), &arguments));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("no run") && stderr.contains("`nothing`"), "{stderr}");
    }
    std::fs::create_dir(dir.path().join("other")).expect("a directory");
    std::fs::write(dir.path().join("other/run.toml"), "kind = \"baking\"\n").expect("writes");
    let (code, _, stderr) = outcome(&mut agentflow(dir.path(), &["runs", "resume", "other"]));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("a run of kind `baking`"), "{stderr}");
    let (code, _, stderr) = outcome(&mut agentflow(dir.path(), &["eval", "--keep-failures"]));
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn a_dry_run_asks_nobody_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["eval", "-b", "arith", "--limit", "30", "--backend", "local", "--dry-run"];
    let (stdout, stderr) = succeeded(&mut agentflow(dir.path(), &arguments));
    assert!(stdout.contains("benchmark: arith/test\n"), "{stdout}");
    assert!(stderr.contains("benchmark: arith/test, 30 problems"), "{stderr}");
    assert!(stderr.contains("has to differ by about 28 points"), "{stderr}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
}
