//! Bad arguments and configurations: exit code 2, nothing on stdout, and a message that says what to do.

use std::fs;
use std::io::{Seek, Write};

use insta::assert_snapshot;

use crate::agentflow::{Agentflow, agentflow};

/// A whole configuration of a tiny run.
pub(crate) const CONFIG: &str = include_str!("tiny.toml");

fn refused(command: Agentflow) -> String {
    let ran = command.run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(2), ""), "{ran}");
    ran.to_string()
}

#[test]
fn a_question_that_is_empty() {
    let said = refused(agentflow(&["solve", ""]));
    assert_snapshot!(said, @"");
    assert_eq!(refused(agentflow(&["solve", " \n\t"])), said);
    assert_eq!(refused(agentflow(&["solve", "-"])), said, "standard input is empty");
}

#[test]
fn a_question_of_100_kb() {
    let long = "why ".repeat(25_000);
    assert_snapshot!(refused(agentflow(&["solve", &long])), @"");
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(long.as_bytes()).and_then(|()| file.rewind()).expect("writes");
    assert_snapshot!(refused(agentflow(&["solve", "-"]).stdin(file)), @"");
}

#[test]
fn a_question_that_is_no_text() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(b"caf\xe9").and_then(|()| file.rewind()).expect("writes");
    assert_snapshot!(refused(agentflow(&["solve", "-"]).stdin(file)), @"");
}

#[test]
fn an_unknown_backend() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "olama"])), @"");
}

#[test]
fn numbers_that_make_no_sense() {
    for (flag, value) in [
        ("--temperature", "-1"),
        ("--temperature", "hot"),
        ("--top-p", "1.5"),
        ("--timeout", "0"),
        ("--tool-timeout", "-3"),
        ("--max-steps", "0"),
    ] {
        let ran = agentflow(&["solve", "hi", flag, value]).run();
        assert_eq!(ran.code(), Some(2), "{ran}");
        assert!(
            ran.stderr.starts_with(&format!("error: invalid value '{value}' for '{flag} <")),
            "{ran}"
        );
    }
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--temperature", "-1"])), @"");
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--timeout", "0"])), @"");
}

#[test]
fn an_unknown_sandbox_level() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--sandbox", "paranoid"])), @"");
}

#[test]
fn an_unknown_benchmark_or_split() {
    assert_snapshot!(refused(agentflow(&["eval", "-b", "gsm8k"])), @"");
    assert_snapshot!(refused(agentflow(&["eval", "problems", "--split", "dev"])), @"");
}

#[test]
fn a_server_address_that_is_none() {
    let ran = refused(agentflow(&["solve", "hi", "--backend", "ollama", "--url", "tcp://host"]));
    assert_snapshot!(ran, @"");
    assert_snapshot!(refused(agentflow(&["solve", "hi"]).env("OLLAMA_HOST", "ftp://host")), @"");
}

#[test]
fn backends_that_need_more_arguments() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "replay"])), @"");
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "openai"])), @"");
}

#[test]
fn a_trace_that_cannot_be_written() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--trace", "no/such/folder/trace.jsonl"])), @"");
}

fn train(config: &str, overrides: &[&str]) -> Agentflow {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("run.toml"), config).expect("writes");
    let set = overrides.iter().flat_map(|pair| ["--set", pair]);
    let arguments: Vec<&str> =
        ["train", "sft", "--config", "run.toml", "--dry-run"].into_iter().chain(set).collect();
    let command = agentflow(&arguments).inside(dir.path());
    // The binary reads it when it runs, so it has to stay until the end of the test.
    std::mem::forget(dir);
    command
}

#[test]
fn an_unknown_key_in_a_configuration() {
    let config = CONFIG.replace("weight_decay", "weigt_decay");
    assert_snapshot!(refused(train(&config, &[])), @"");
    assert_snapshot!(refused(train(&config, &["seed=1"])), @"");
}

#[test]
fn a_configuration_with_a_missing_key_a_wrong_type_or_no_toml() {
    assert_snapshot!(refused(train(&CONFIG.replace("warmup = 1\n", ""), &[])), @"");
    assert_snapshot!(refused(train(&CONFIG.replace("seed = 3", "seed = \"three\""), &[])), @"");
    assert_snapshot!(refused(train("seed: 3\n", &[])), @"");
}

#[test]
fn a_configuration_that_cannot_be_run() {
    assert_snapshot!(refused(train(CONFIG, &["batch.workers=0"])), @"");
}

#[test]
fn slips_of_set() {
    assert_snapshot!(refused(train(CONFIG, &["seed"])), @"");
    assert_snapshot!(refused(train(CONFIG, &["optimizer.lrr=1"])), @"");
    assert_snapshot!(refused(train(CONFIG, &["optimiser.lr=1"])), @"");
    assert_snapshot!(refused(train(CONFIG, &["optimizer.lr=fast"])), @"");
}

#[test]
fn a_configuration_that_is_not_there() {
    assert_snapshot!(refused(agentflow(&["train", "sft", "--config", "nowhere.toml"])), @"");
    assert_snapshot!(refused(agentflow(&["train", "sft"])), @"");
}

#[test]
fn resuming_what_is_no_run() {
    assert_snapshot!(refused(agentflow(&["train", "sft", "--resume", "nowhere"])), @"");
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("run.toml"), "kind = \"eval\"\n").expect("writes");
    let ran = refused(agentflow(&["train", "sft", "--resume", "."]).inside(dir.path()));
    assert_snapshot!(ran, @"");
}
