//! A model server that is down, stuck, or talks nonsense: exit code 1, and a message that says what, where, what to do.

use std::fs;

use insta::assert_snapshot;

use crate::agentflow::{Agentflow, Ran, agentflow};
use crate::ollama::{Answer, MODEL, Server, closed, decide};

/// Asks through Ollama's backend, with little patience.
fn ask(more: &[&str]) -> Agentflow {
    let arguments =
        ["solve", "What is 2 + 2?", "--backend", "ollama", "--model", MODEL, "--timeout", "1"];
    agentflow(&[&arguments, more].concat())
}

fn failed(command: Agentflow) -> Ran {
    let ran = command.run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(1), ""), "{ran}");
    ran
}

fn failed_with(answers: Vec<Answer>) -> Ran {
    failed(ask(&[]).with(&Server::planning(answers)))
}

#[test]
fn down() {
    let url = closed();
    let ran = failed(ask(&["--url", &url]).hiding(&url, "http://SERVER"));
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: cannot reach Ollama at `http://SERVER`: Connection refused; start it with `ollama serve`, or set `OLLAMA_HOST` to where it runs
    ");
}

#[test]
fn stuck_from_the_start() {
    assert_snapshot!(failed(ask(&[]).with(&Server::stuck())), @r"
    exit code: 1
    ----- stderr -----
    error: `http://SERVER` did not answer within 1s; see whether the server is stuck, or raise the `reply` time-out (`--timeout`)
    ");
}

#[test]
fn stuck_over_a_reply() {
    assert_snapshot!(failed_with(vec![Answer::Silence]), @r"
    exit code: 1
    ----- stderr -----
    error: `http://SERVER` did not answer within 1s; see whether the server is stuck, or raise the `reply` time-out (`--timeout`)
    ");
}

#[test]
fn garbage() {
    assert_snapshot!(failed_with(vec![Answer::Body("<html>It works!</html>")]), @r"
    exit code: 1
    ----- stderr -----
    error: cannot read the reply of `http://SERVER`: expected value at line 1 column 1, in `<html>It works!</html>`; check that the address is a model server's
    ");
    assert_snapshot!(failed_with(vec![Answer::Body("{\"choices\": []}")]), @r"
    exit code: 1
    ----- stderr -----
    error: cannot read the reply of `http://SERVER`: it has neither `message` nor `done`, so it is not a chat reply of Ollama; check that the address is a model server's
    ");
    assert_snapshot!(failed_with(vec![Answer::Body("")]), @r"
    exit code: 1
    ----- stderr -----
    error: cannot read the reply of `http://SERVER`: it is empty; check that the address is a model server's
    ");
}

#[test]
fn half_a_reply() {
    let server = Server::planning(vec![Answer::Half]);
    let ran = failed(ask(&[]).with(&server));
    assert_eq!(server.asked().len(), 3, "a lost connection is tried again, twice");
    let last = ran.stderr.lines().last().expect("a message");
    assert!(last.starts_with("error: the reply of the model broke off after "), "{ran}");
    assert!(last.ends_with("try again"), "{ran}");
}

#[test]
fn a_server_that_fails_and_says_why() {
    let answer = Answer::Status(
        500,
        r#"{"error":"model requires more system memory (5.5 GiB) than is available"}"#,
    );
    assert_snapshot!(failed_with(vec![answer]), @r"
    exit code: 1
    ----- stderr -----
    error: the model server failed with status 500: model requires more system memory (5.5 GiB) than is available; its log says more
    ");
}

#[test]
fn a_model_that_was_not_pulled() {
    assert_snapshot!(failed(ask(&[]).with(&Server::having(vec!["llama3.2:3b", "phi4:14b"]))), @r"
    exit code: 1
    ----- stderr -----
    error: model `qwen3:8b` is not on Ollama at `http://SERVER`; get it with `ollama pull qwen3:8b`, or use one that is there: `llama3.2:3b`, `phi4:14b`
    ");
    assert_snapshot!(failed(ask(&[]).with(&Server::having(vec![]))), @r"
    exit code: 1
    ----- stderr -----
    error: model `qwen3:8b` is not on Ollama at `http://SERVER`; get it with `ollama pull qwen3:8b`
    ");
    let server = Server::having(vec![]);
    assert_snapshot!(failed(agentflow(&["solve", "hi", "--backend", "ollama"]).with(&server)), @r"
    exit code: 1
    ----- stderr -----
    error: Ollama at `http://SERVER` has no model; get one with `ollama pull qwen3:8b`
    ");
}

/// Removed on the server between the check and the first question.
#[test]
fn a_model_that_went_away() {
    let answer = Answer::Status(404, r#"{"error":"model 'qwen3:8b' not found"}"#);
    assert_snapshot!(failed_with(vec![answer]), @r"
    exit code: 1
    ----- stderr -----
    error: model `qwen3:8b` is not on Ollama at `http://SERVER`; get it with `ollama pull qwen3:8b`
    ");
}

#[test]
fn busy_twice_and_then_fine() {
    let busy = Answer::Status(
        503,
        r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
    );
    let server = Server::planning(vec![busy.clone(), busy, decide("Easy.", "answer", "4")]);
    let ran = ask(&[]).with(&server).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "4\n"), "{ran}");
    assert_eq!(server.asked().len(), 3);
    assert_eq!(ran.stderr.matches("trying again").count(), 2, "{ran}");
}

#[test]
fn busy_for_ever() {
    let server = Server::planning(vec![Answer::Status(
        503,
        r#"{"error":"server busy, please try again."}"#,
    )]);
    let ran = failed(ask(&["--quiet"]).with(&server).env("AGENTFLOW_LOG", "error"));
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: the model server is overloaded: server busy, please try again; wait, or send fewer requests at a time with a lower concurrency
    ");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn replies_that_never_follow_the_schema() {
    let server = Server::planning(vec![Answer::Content("Sure! The answer is 4.".to_owned())]);
    let ran = failed(ask(&["--max-steps", "2"]).with(&server));
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
      step 1  (no decision)
      failed  the planner's reply could not be read: it is not JSON (expected value at line 1 column 1)
     verdict  continue: a step that failed settles nothing
      step 2  (no decision)
      failed  the planner's reply could not be read: it is not JSON (expected value at line 1 column 1)
     verdict  continue: a step that failed settles nothing
      step 3  (no decision)
      failed  the planner's reply could not be read: it is not JSON (expected value at line 1 column 1)
     verdict  continue: there are no more steps
    error: no answer: in 3 steps, no reply of `qwen3:8b` could be read as a decision; use a larger model, or see the replies with --json
    ");
    assert_eq!(server.asked().len(), 6, "three steps, each asked for twice");
    let again = server.asked()[1]["messages"].to_string();
    assert!(
        again.contains("Sure! The answer is 4.") && again.contains("could not be used"),
        "{again}"
    );

    let ran = ask(&["--max-steps", "2", "--json", "--quiet"]).with(&server).run();
    let trajectory = ran.json();
    assert_eq!((ran.code(), &trajectory["stop"]), (Some(1), &"max_steps".into()));
    let steps = trajectory["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 3);
    for step in steps {
        assert!(step["reply"].is_null() && step["observation"]["ok"] == false, "{step}");
        assert_eq!(step["raw"], "Sure! The answer is 4.");
    }
}

/// The second try is read, so nothing is lost.
#[test]
fn a_reply_that_follows_the_schema_when_asked_again() {
    let server = Server::planning(vec![
        Answer::Content("{\"thought\": \"I forgot the rest\"}".to_owned()),
        decide("Now in full.", "answer", "4"),
    ]);
    let ran = ask(&[]).with(&server).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "4\n"), "{ran}");
}

#[test]
fn no_python() {
    let server = Server::planning(vec![decide("Easy.", "answer", "4")]);
    assert_snapshot!(failed(ask(&[]).with(&server).env("PATH", "")), @r"
    exit code: 1
    ----- stderr -----
    error: python3 was not found (looked on `PATH`: it is empty); install Python 3.8 or newer, or set `AGENTFLOW_PYTHON` to its path
    ");
    let ran = failed(ask(&[]).with(&server).env("PATH", "/nonexistent/bin"));
    assert!(ran.stderr.contains("looked on `PATH`: /nonexistent/bin"), "{ran}");
    let ran = failed(ask(&[]).with(&server).env("AGENTFLOW_PYTHON", "/nonexistent/python3"));
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: `/nonexistent/python3` cannot be used as Python: No such file or directory; install Python 3.8 or newer, or set `AGENTFLOW_PYTHON` to its path
    ");
}

#[test]
fn a_model_that_is_nowhere() {
    let server = Server::having(vec!["phi4:14b"]);
    assert_snapshot!(failed(agentflow(&["solve", "hi", "--model", "qwen"]).with(&server)), @r"
    exit code: 1
    ----- stderr -----
    error: model `qwen` is neither a directory nor on Ollama at `http://SERVER`; get it with `ollama pull qwen`, or use one that is there: `phi4:14b`
    ");
    assert_snapshot!(failed(agentflow(&["solve", "hi", "--model", "./qwen"]).with(&server)), @r"
    exit code: 1
    ----- stderr -----
    error: no model directory at `./qwen`; give a directory with config.json, tokenizer.json and *.safetensors, or a GGUF file
    ");
    let url = closed();
    let down = agentflow(&["solve", "hi", "--model", "qwen", "--url", &url]);
    assert_snapshot!(failed(down.hiding(&url, "http://SERVER")), @r"
    exit code: 1
    ----- stderr -----
    error: model `qwen` is no directory, and Ollama cannot be asked: cannot reach Ollama at `http://SERVER`: Connection refused; start it with `ollama serve`, or set `OLLAMA_HOST` to where it runs
    ");
}

#[test]
fn a_model_directory_that_is_missing_or_broken() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let local = |name| {
        agentflow(&["solve", "hi", "--backend", "local", "--model", name]).inside(dir.path())
    };
    assert_snapshot!(failed(local("nowhere")), @r"
    exit code: 1
    ----- stderr -----
    error: no model directory at `nowhere`; give a directory with config.json, tokenizer.json and *.safetensors, or a GGUF file
    ");
    fs::create_dir(dir.path().join("model")).expect("a directory");
    assert_snapshot!(failed(local("model")), @r"
    exit code: 1
    ----- stderr -----
    error: model directory `model` has no `config.json`; a Hugging Face model directory needs it, so copy or download it again
    ");
    fs::write(dir.path().join("model/config.json"), "{\"hidden_size\": 64}").expect("writes");
    assert_snapshot!(failed(local("model")), @r"
    exit code: 1
    ----- stderr -----
    error: `model/config.json` is not valid: it has no `model_type`
    ");
}

#[test]
fn a_recording_that_is_missing_or_broken() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let replay = |name| {
        agentflow(&["solve", "hi", "--backend", "replay", "--model", name]).inside(dir.path())
    };
    assert_snapshot!(failed(replay("nowhere.jsonl")), @r"
    exit code: 1
    ----- stderr -----
    error: cannot read recording `nowhere.jsonl`: No such file or directory
    ");
    fs::write(dir.path().join("run.jsonl"), "{}\n").expect("writes");
    assert_snapshot!(failed(replay("run.jsonl")), @r"
    exit code: 1
    ----- stderr -----
    error: line 1 of recording `run.jsonl` is not an exchange: missing field `schema` at line 1 column 2; record the run again
    ");
}
