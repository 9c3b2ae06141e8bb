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
    assert_snapshot!(said, @r#"
    exit code: 2
    ----- stderr -----
    error: the question is empty; write it in quotes: agentflow solve "What is 15% of 240, then doubled?"
    "#);
    assert_eq!(refused(agentflow(&["solve", " \n\t"])), said);
    assert_eq!(refused(agentflow(&["solve", "-"])), said, "standard input is empty");
}

#[test]
fn a_question_of_100_kb() {
    let long = "why ".repeat(25_000);
    assert_snapshot!(refused(agentflow(&["solve", &long])), @r"
    exit code: 2
    ----- stderr -----
    error: the question has 99999 bytes, the most is 65536; shorten it to what the agent has to read
    ");
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(long.as_bytes()).and_then(|()| file.rewind()).expect("writes");
    assert_snapshot!(refused(agentflow(&["solve", "-"]).stdin(file)), @r"
    exit code: 2
    ----- stderr -----
    error: the question has 65537 bytes, the most is 65536; shorten it to what the agent has to read
    ");
}

#[test]
fn a_question_that_is_no_text() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(b"caf\xe9").and_then(|()| file.rewind()).expect("writes");
    assert_snapshot!(refused(agentflow(&["solve", "-"]).stdin(file)), @r"
    exit code: 2
    ----- stderr -----
    error: cannot read the question from standard input: stream did not contain valid UTF-8
    ");
}

#[test]
fn an_unknown_backend() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "olama"])), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value 'olama' for '--backend <WHERE>'
      [possible values: auto, ollama, openai, local, replay]

      tip: a similar value exists: 'ollama'

    For more information, try '--help'.
    ");
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
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--temperature", "-1"])), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value '-1' for '--temperature <NUMBER>': a temperature is a number from 0 to 10

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--timeout", "0"])), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value '0' for '--timeout <SECONDS>': seconds are a positive number

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_sandbox_level() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--sandbox", "paranoid"])), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value 'paranoid' for '--sandbox <LEVEL>': unknown sandbox level `paranoid`; use `auto`, `strong`, `medium`, `basic`, or `none` (no containment)

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_benchmark_or_split() {
    assert_snapshot!(refused(agentflow(&["eval", "-b", "gsm9k"])), @r"
    exit code: 2
    ----- stderr -----
    error: unknown benchmark `gsm9k`, did you mean `gsm8k`?; there are `aime24`, `aime25`, `aime_train`, `arith`, `gpqa`, `gsm8k`, `gsm8k_train`, `math500`, or give a .jsonl, .csv, .parquet or .toml file
    ");
    assert_snapshot!(refused(agentflow(&["eval", "problems", "--split", "dev"])), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value 'dev' for '--split <SPLIT>': unknown split `dev`; the arithmetic benchmark has `train`, `test` and `test-phrasing`

    For more information, try '--help'.
    ");
}

#[test]
fn a_server_address_that_is_none() {
    let ran = refused(agentflow(&["solve", "hi", "--backend", "ollama", "--url", "tcp://host"]));
    assert_snapshot!(ran, @r"
    exit code: 2
    ----- stderr -----
    error: `--url` is not the address of an Ollama server; write it like `http://127.0.0.1:11434`
    ");
    assert_snapshot!(refused(agentflow(&["solve", "hi"]).env("OLLAMA_HOST", "ftp://host")), @r"
    exit code: 2
    ----- stderr -----
    error: `OLLAMA_HOST` is not the address of an Ollama server; write it like `http://127.0.0.1:11434`
    ");
}

#[test]
fn backends_that_need_more_arguments() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "replay"])), @r"
    exit code: 2
    ----- stderr -----
    error: --backend replay plays a recording; name it with --model FILE
    ");
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--backend", "openai"])), @r"
    exit code: 2
    ----- stderr -----
    error: --backend openai needs --url and --model, e.g. --url http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B; the key comes from $OPENAI_API_KEY, for DeepSeek from $DEEPSEEK_API_KEY
    ");
}

#[test]
fn a_trace_that_cannot_be_written() {
    assert_snapshot!(refused(agentflow(&["solve", "hi", "--trace", "no/such/folder/trace.jsonl"])), @r"
    exit code: 2
    ----- stderr -----
    error: cannot write the trajectory to `no/such/folder/trace.jsonl`: No such file or directory
    ");
}

/// What `train sft` says of `config`.
fn refused_configuration(config: &str, overrides: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("run.toml"), config).expect("writes");
    let mut arguments = vec!["train", "sft", "--config", "run.toml", "--dry-run"];
    arguments.extend(overrides.iter().flat_map(|pair| ["--set", pair]));
    refused(agentflow(&arguments).inside(dir.path()))
}

#[test]
fn an_unknown_key_in_a_configuration() {
    let config = CONFIG.replace("weight_decay", "weigt_decay");
    assert_snapshot!(refused_configuration(&config, &[]), @r"
    exit code: 2
    ----- stderr -----
    error: `run.toml`: TOML parse error at line 28, column 1
       |
    28 | weigt_decay = 0.01
       | ^^^^^^^^^^^
    unknown field `weigt_decay`, expected one of `lr`, `beta1`, `beta2`, `eps`, `weight_decay`, `max_grad_norm`
    hint: did you mean `weight_decay`?
    ");
    assert_snapshot!(refused_configuration(&config, &["seed=1"]), @r"
    exit code: 2
    ----- stderr -----
    error: `run.toml` with --set: unknown field `weigt_decay`, expected one of `lr`, `beta1`, `beta2`, `eps`, `weight_decay`, `max_grad_norm`
    in `optimizer`
    hint: did you mean `weight_decay`?
    ");
}

#[test]
fn a_configuration_with_a_missing_key_a_wrong_type_or_no_toml() {
    assert_snapshot!(refused_configuration(&CONFIG.replace("warmup = 1\n", ""), &[]), @r"
    exit code: 2
    ----- stderr -----
    error: `run.toml`: TOML parse error at line 30, column 1
       |
    30 | [schedule]
       | ^^^^^^^^^^
    missing field `warmup`
    ");
    assert_snapshot!(refused_configuration(&CONFIG.replace("seed = 3", "seed = \"three\""), &[]), @r#"
    exit code: 2
    ----- stderr -----
    error: `run.toml`: TOML parse error at line 1, column 8
      |
    1 | seed = "three"
      |        ^^^^^^^
    invalid type: string "three", expected u64
    "#);
    assert_snapshot!(refused_configuration("seed: 3\n", &[]), @r"
    exit code: 2
    ----- stderr -----
    error: configuration `run.toml` is not TOML: TOML parse error at line 1, column 7
      |
    1 | seed: 3
      |       ^
    key with no value, expected `=`
    ");
}

#[test]
fn a_configuration_that_cannot_be_run() {
    assert_snapshot!(refused_configuration(CONFIG, &["batch.workers=0"]), @r"
    exit code: 2
    ----- stderr -----
    error: `batch.workers` is 0; it must be between 1 and `batch.sequences`
    ");
}

#[test]
fn slips_of_set() {
    assert_snapshot!(refused_configuration(CONFIG, &["seed"]), @r"
    exit code: 2
    ----- stderr -----
    error: `--set seed` has no `=`; write --set key=value
    ");
    assert_snapshot!(refused_configuration(CONFIG, &["optimizer.lrr=1"]), @r"
    exit code: 2
    ----- stderr -----
    error: `run.toml` with --set: unknown field `lrr`, expected one of `lr`, `beta1`, `beta2`, `eps`, `weight_decay`, `max_grad_norm`
    in `optimizer`
    hint: did you mean `lr`?
    ");
    assert_snapshot!(refused_configuration(CONFIG, &["optimiser.lr=1"]), @r"
    exit code: 2
    ----- stderr -----
    error: `--set optimiser.lr=1`: the configuration has no table `optimiser`
    hint: did you mean `optimizer`?
    ");
    assert_snapshot!(refused_configuration(CONFIG, &["optimizer.lr=fast"]), @r#"
    exit code: 2
    ----- stderr -----
    error: `run.toml` with --set: invalid type: string "fast", expected f64
    in `optimizer.lr`
    "#);
}

#[test]
fn a_configuration_that_is_not_there() {
    assert_snapshot!(refused(agentflow(&["train", "sft", "--config", "nowhere.toml"])), @r"
    exit code: 2
    ----- stderr -----
    error: cannot read configuration `nowhere.toml`: No such file or directory
    ");
    assert_snapshot!(refused(agentflow(&["train", "sft"])), @r"
    exit code: 2
    ----- stderr -----
    error: the following required arguments were not provided:
      --config <FILE>

    Usage: agentflow train sft --config <FILE>

    For more information, try '--help'.
    ");
}

#[test]
fn resuming_what_is_no_run() {
    assert_snapshot!(refused(agentflow(&["train", "sft", "--resume", "nowhere"])), @r"
    exit code: 2
    ----- stderr -----
    error: no run directory at `nowhere`: it has no run.toml; give one that a command made, e.g. under `runs/`
    ");
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("run.toml"), "kind = \"eval\"\n").expect("writes");
    let ran = refused(agentflow(&["train", "sft", "--resume", "."]).inside(dir.path()));
    assert_snapshot!(ran, @r#"
    exit code: 2
    ----- stderr -----
    error: `./run.toml` is of another kind of run; resume it with the command that made it: TOML parse error at line 1, column 1
      |
    1 | kind = "eval"
      | ^
    missing field `version`
    "#);
}
