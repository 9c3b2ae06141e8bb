//! Whole questions through the real loop, decided by a scripted planner.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::agentflow::agentflow;
use crate::ollama::{Answer, MODEL, Server, decide};

const QUESTION: &str = "What is 15% of 240, then doubled?";

fn think_code_answer() -> Vec<Answer> {
    vec![
        decide("First 15% of 240,\nthen twice that.", "think", "0.15 * 240, then times 2"),
        decide("I compute it.", "code", "x = 0.15 * 240\nprint(x)\nint(2 * x)"),
        decide("The result is 72.", "answer", "72"),
    ]
}

#[test]
fn each_step_is_told_on_stderr_and_the_answer_alone_is_on_stdout() {
    let server = Server::planning(think_code_answer());
    let ran = agentflow(&["solve", QUESTION]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    72
    ----- stderr -----
    model: qwen3:8b on Ollama at http://SERVER
      step 1  First 15% of 240,
              then twice that.
       think  0.15 * 240, then times 2
     verdict  continue: the planner has not answered yet
      step 2  I compute it.
        code  x = 0.15 * 240
              print(x)
              int(2 * x)
      result  36.0
              72
     verdict  continue: the planner has not answered yet
      step 3  The result is 72.
      answer  72
     verdict  sufficient: the planner answered
    ");
}

#[test]
fn quiet_tells_only_what_went_wrong() {
    let server = Server::planning(think_code_answer());
    let ran = agentflow(&["solve", QUESTION, "--quiet"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    72
    ");
}

#[test]
fn failed_tools_and_unreadable_replies_are_steps_like_others() {
    let nonsense = Answer::Content("never mind".to_owned());
    let server = Server::planning(vec![
        decide("Divide.", "code", "1 / 0"),
        decide("Look it up.", "search", "what is 1 / 0"),
        nonsense.clone(),
        nonsense,
        decide("It has no value.", "answer", "undefined"),
    ]);
    assert_snapshot!(agentflow(&["solve", "What is 1 / 0?"]).with(&server).run(), @r"
    exit code: 0
    ----- stdout -----
    undefined
    ----- stderr -----
    model: qwen3:8b on Ollama at http://SERVER
      step 1  Divide.
        code  1 / 0
      failed  ZeroDivisionError: division by zero
                line 1: 1 / 0
     verdict  continue: a step that failed settles nothing
      step 2  Look it up.
      search  what is 1 / 0
      failed  search is not available: no key is configured (set `TAVILY_API_KEY`); go on without it, with `code` or from what you know
     verdict  continue: a step that failed settles nothing
      step 3  (no decision)
      failed  the planner's reply could not be read: it is not JSON (expected ident at line 1 column 2)
     verdict  continue: a step that failed settles nothing
      step 4  It has no value.
      answer  undefined
     verdict  sufficient: the planner answered
    ");
}

/// What a model writes never reaches the terminal as a command.
#[test]
fn control_characters_and_floods_are_tamed() {
    let server = Server::planning(vec![
        decide(
            "\u{1b}[2Jcleared\r\nnext",
            "code",
            "for i in range(100): print(f'{i}\\x1b]0;title\\x07')",
        ),
        decide(&"long ".repeat(200), "answer", "\u{1b}[31m4\u{202e}2"),
    ]);
    let ran = agentflow(&["solve", "hi"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    42
    ----- stderr -----
    model: qwen3:8b on Ollama at http://SERVER
      step 1  cleared
              next
        code  for i in range(100): print(f'{i}\x1b]0;title\x07')
      result  0
              1
              2
              3
              4
              5
              6
              7
              8
              9
              10
              11
              12
              13
              14
              15
              16
              17
              18
              19
              20
              21
              22
              23
              … (76 more lines)
     verdict  continue: the planner has not answered yet
      step 2  long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long … (600 more characters)
      answer  42
     verdict  sufficient: the planner answered
    ");
}

#[test]
fn an_answer_that_was_forced_says_so() {
    let server = Server::planning(vec![decide("Compute.", "code", "6 * 7")]);
    let ran = agentflow(&["solve", "hi", "--max-steps", "1"]).with(&server).run();
    assert_snapshot!(ran, @r#"
    exit code: 0
    ----- stdout -----
    42
    ----- stderr -----
    model: qwen3:8b on Ollama at http://SERVER
      step 1  Compute.
        code  6 * 7
      result  42
     verdict  continue: the planner has not answered yet
      step 2  (no decision)
      failed  the planner's reply could not be read: at `action`, `"code"` is not one of "answer"
     verdict  continue: there are no more steps
    warning: the planner gave no answer in 2 steps, so this is the last result; allow more with --max-steps
    "#);
    let server =
        Server::planning(vec![decide("Compute.", "code", "6 * 7"), decide("So", "answer", "42")]);
    let ran = agentflow(&["solve", "hi", "--max-steps", "1", "--quiet"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    42
    ----- stderr -----
    warning: the planner had to answer after 2 steps; allow more with --max-steps
    ");
    let server = Server::planning(vec![decide("Compute.", "code", "6 * 7")]);
    let ran = agentflow(&["solve", "hi", "--max-total-tokens", "1", "--quiet"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    42
    ----- stderr -----
    warning: the budget is used up after 1 step, so this is the last result; raise --max-seconds or --max-total-tokens
    ");
}

#[test]
fn no_answer_says_what_to_do() {
    let server = Server::planning(vec![decide("Hm.", "think", "hm")]);
    let ran = agentflow(&["solve", "hi", "--max-steps", "1", "--quiet"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: no answer after 2 steps; allow more with --max-steps, or use a larger model (see --backend)
    ");
    let ran = agentflow(&["solve", "hi", "--max-total-tokens", "1", "--quiet"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: no answer: the budget was used up after 1 step; raise --max-seconds or --max-total-tokens
    ");
}

#[test]
fn the_question_can_come_from_standard_input() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("question.txt"), format!("  {QUESTION}\n")).expect("writes");
    let file = fs::File::open(dir.path().join("question.txt")).expect("it was written");
    let server = Server::planning(vec![decide("Easy.", "answer", "72")]);
    let ran = agentflow(&["solve", "-", "--json"]).with(&server).stdin(file).run();
    assert_eq!(ran.json()["question"], QUESTION);
}

/// The record of DESIGN.md, section 4: every key is there, of its type, and no other.
#[test]
fn json_is_the_whole_trajectory() {
    let server = Server::planning(think_code_answer());
    let arguments =
        ["solve", QUESTION, "--json", "--quiet", "--seed", "7", "--think", "--temperature", "0.5"];
    let ran = agentflow(&arguments).with(&server).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let trajectory = ran.json();
    assert_snapshot!(shape(&trajectory, ""), @r"
    .schema: string
    .id: string
    .run: null
    .question: string
    .gold: null
    .benchmark: null
    .problem_id: null
    .model.name: string
    .model.backend: string
    .model.digest: string
    .model.adapter: null
    .sampling.temperature: decimal
    .sampling.top_p: decimal
    .sampling.seed: integer
    .sampling.think: bool
    .sampling.num_ctx: integer
    .prompts: string
    .sandbox: string
    .steps[].index: integer
    .steps[].prompt[].role: string
    .steps[].prompt[].content: string
    .steps[].reply.thought: string
    .steps[].reply.action: string
    .steps[].reply.action_input: string
    .steps[].raw: string
    .steps[].thinking: null
    .steps[].token_ids: null
    .steps[].logprobs: null
    .steps[].observation.ok: bool
    .steps[].observation.text: string
    .steps[].observation.truncated: bool
    .steps[].observation.wall_ms: integer
    .steps[].verdict.sufficient: bool
    .steps[].verdict.reason: string
    .steps[].label: null
    .steps[].prm_score: null
    .steps[].usage.prompt_tokens: integer
    .steps[].usage.completion_tokens: integer
    .steps[].wall_ms: integer
    .answer: string
    .stop: string
    .error: null
    .score: null
    .usage.prompt_tokens: integer
    .usage.completion_tokens: integer
    .wall_s: decimal
    ");
    assert_eq!(trajectory["schema"], "agentflow.trajectory/1");
    assert_eq!(
        trajectory["model"],
        json!({"name": MODEL, "backend": "ollama", "digest": "d1ce", "adapter": null})
    );
    assert_eq!(
        trajectory["sampling"],
        json!({"temperature": 0.5, "top_p": 1.0, "seed": 7, "think": true, "num_ctx": 16384})
    );
    assert_eq!(trajectory["stop"], "answered");
    assert_eq!(trajectory["answer"], "72");
    let step = &trajectory["steps"][1];
    assert_eq!(step["reply"]["action"], "code");
    assert_eq!(step["observation"]["text"], "36.0\n72");
    // Two verdicts and three decisions, as the server counts them.
    assert_eq!(trajectory["usage"], json!({"prompt_tokens": 4500, "completion_tokens": 125}));
    let asked = server.asked();
    assert_eq!(asked[0]["think"], true);
    assert_eq!(asked[0]["options"]["seed"], 7);
    assert_eq!(asked[1]["options"]["seed"], 8, "each step draws from a stream of its own");
}

/// `key: type` a line, in order, of arrays the first element.
fn shape(value: &Value, path: &str) -> String {
    match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| shape(value, &format!("{path}.{key}"))).collect()
        }
        Value::Array(items) => items
            .first()
            .map_or_else(|| format!("{path}: []\n"), |item| shape(item, &format!("{path}[]"))),
        Value::Null => format!("{path}: null\n"),
        Value::Bool(_) => format!("{path}: bool\n"),
        Value::Number(number) if number.is_f64() => format!("{path}: decimal\n"),
        Value::Number(_) => format!("{path}: integer\n"),
        Value::String(_) => format!("{path}: string\n"),
    }
}

#[test]
fn trace_appends_one_line_for_each_question() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for question in ["one", "two"] {
        let server = Server::planning(vec![decide("Easy.", "answer", question)]);
        let ran = agentflow(&["solve", question, "--trace", "trace.jsonl"])
            .with(&server)
            .inside(dir.path())
            .run();
        assert_eq!(ran.code(), Some(0), "{ran}");
    }
    let text = fs::read_to_string(dir.path().join("trace.jsonl")).expect("it was written");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["question"], &lines[1]["answer"]), (&"one".into(), &"two".into()));
}

#[test]
fn a_recording_plays_back_the_same_trajectory_without_a_server() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["solve", QUESTION, "--json"];
    let recorded = {
        let server = Server::planning(think_code_answer());
        let record = [&arguments[..], &["--record", "run.jsonl"]].concat();
        agentflow(&record).with(&server).inside(dir.path()).run()
    };
    let replay = ["--backend", "replay", "--model", "run.jsonl"];
    let replayed = agentflow(&[&arguments[..], &replay].concat()).inside(dir.path()).run();
    assert_eq!((recorded.code(), replayed.code()), (Some(0), Some(0)), "{replayed}");
    let (mut recorded, mut replayed) = (recorded.json(), replayed.json());
    assert_eq!(replayed["model"]["backend"].take(), "replay");
    assert_eq!(recorded["model"]["backend"].take(), "ollama");
    without_times(&mut recorded);
    without_times(&mut replayed);
    assert_eq!(recorded, replayed);

    let changed = ["solve", "What is 15% of 250, then doubled?"];
    let ran = agentflow(&[&changed[..], &replay].concat()).inside(dir.path()).run();
    assert_snapshot!(ran, @r"
    exit code: 1
    ----- stderr -----
    error: recording `run.jsonl` has no exchange for this request; exchange 1 is nearest, where `messages[1].content` differs at character 27: recorded `40, then doubled? No steps so far. Decide step 1 of at most…`, asked `50, then doubled? No steps so far. Decide step 1 of at most…`; record the run again, or undo what changed the prompt
    ");
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| key != "wall_s" && key != "wall_ms");
            map.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// What the backend noticed is said once, in the words of the step, and not in the log as well.
#[test]
fn a_warning_is_told_once() {
    let server = Server::planning(vec![decide("Easy.", "answer", "4")]);
    let ran = agentflow(&["solve", "hi", "--num-ctx", "50000"]).with(&server).run();
    assert_snapshot!(ran, @r"
    exit code: 0
    ----- stdout -----
    4
    ----- stderr -----
    model: qwen3:8b on Ollama at http://SERVER
    warning: The context asked for is 50000 tokens, but `qwen3:8b` was trained for 40960; lower `num_ctx`.
    warning: The server runs `qwen3:8b` with a context of 8192 tokens, not the 50000 asked for, and cuts longer prompts; lower `num_ctx` to what it can hold, or free memory there.
      step 1  Easy.
      answer  4
     verdict  sufficient: the planner answered
    ");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let server = Server::planning(vec![decide("Easy.", "answer", "4")]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ran = agentflow(&["solve", "hi", "--quiet"]).with(&server).stdout(writer).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
}
