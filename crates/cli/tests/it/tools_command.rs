//! `agentflow tools`: the tools without a planner.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::agentflow::{Ran, agentflow};

fn call(arguments: &[&str]) -> Ran {
    agentflow(&[&["tools", "call"], arguments].concat()).run()
}

#[test]
fn list_shows_what_the_planner_has() {
    let ran = agentflow(&["tools", "list", "--json"]).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let tools: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["think", "search", "code", "answer"]);
    assert!(tools.iter().all(|tool| tool["schema"]["type"] == "object"), "{ran}");
    let plain = agentflow(&["tools", "list"]).run().stdout;
    assert!(names.iter().all(|name| plain.lines().any(|line| line.starts_with(name))), "{plain}");
}

#[test]
fn a_call_prints_what_the_planner_would_read() {
    assert_snapshot!(call(&["code", "print('twice')\n6 * 7"]), @r"
    exit code: 0
    ----- stdout -----
    twice
    42
    ");
    assert_snapshot!(call(&["code", "1 / 0"]), @r"
    exit code: 0
    ----- stdout -----
    ZeroDivisionError: division by zero
      line 1: 1 / 0
    ");
}

#[test]
fn a_call_as_json_has_the_keys_of_the_plumbing_format() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("f.py"), "print('x')\n[][1]\n").expect("writes");
    let arguments = ["tools", "call", "code", "--file", "f.py", "--json", "--timeout", "5"];
    let ran = agentflow(&arguments).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(0), "what the code does wrong is a result: {ran}");
    let result = ran.json();
    assert_eq!(
        (&result["ok"], &result["stdout"], &result["end"]),
        (&false.into(), &"x\n".into(), &"exit:1".into())
    );
    assert!(result["error"].as_str().is_some_and(|error| error.starts_with("IndexError")), "{ran}");
    assert!(result["wall_ms"].is_u64() && result["level"].is_string(), "{ran}");
}

#[test]
fn calls_that_cannot_be_made() {
    assert_snapshot!(call(&["shell", "ls"]), @r"
    exit code: 2
    ----- stderr -----
    error: there is no tool `shell`; choose one of `think`, `search`, `code`, `answer`
    ");
    assert_snapshot!(call(&["code", "--file", "nowhere.py"]), @r"
    exit code: 2
    ----- stderr -----
    error: cannot read `nowhere.py`: No such file or directory
    ");
}
