//! `agentflow score`: verdicts in the order of the lines, and an error in the place of a line that is none.

use std::fs;

use serde_json::Value;

use crate::agentflow::agentflow;

#[test]
fn a_verdict_a_line_and_exit_code_1_for_a_line_that_is_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("pairs.jsonl");
    let lines = b"{\"gold\": \"\\\\frac12\", \"pred\": \"so it is \\\\boxed{0.5}.\"}\n\
        {\"gold\": 73, \"pred\": \"The answer is 74.\"}\n\
        {\"gold\": NaN, \"pred\": \"1\"}\n\
        \xff\xfe\n\
        {\"gold\": \"1\"}\n";
    fs::write(&path, lines).expect("writes");
    let ran = agentflow(&["score", path.to_str().expect("a path")]).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    let said: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.len(), 5);
    assert_eq!(said[0]["equal"], true);
    assert_eq!(said[0]["how"], "boxed, exact");
    assert_eq!((&said[1]["equal"], &said[1]["pred_read"]), (&false.into(), &"74".into()));
    for (at, word) in [(2, "not JSON"), (3, "not UTF-8"), (4, "`pred` is missing")] {
        assert_eq!(said[at]["line"], at + 1);
        assert!(said[at]["error"].as_str().expect("a text").contains(word), "{}", said[at]);
    }
    assert!(ran.stderr.contains("3 of 5 lines could not be read"), "{}", ran.stderr);
}

#[test]
fn letters_are_read_as_choices() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("pairs.jsonl");
    let lines = "{\"gold\": \"B\", \"pred\": \"The answer is (B).\"}\n\
        {\"gold\": \"A\", \"pred\": \"Answer: 6 cm\", \"choices\": [\"6 cm\", \"5 cm\"]}\n";
    fs::write(&path, lines).expect("writes");
    let ran = agentflow(&["score", "--kind", "choice", path.to_str().expect("a path")]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert_eq!(ran.stdout.matches("\"equal\":true").count(), 2, "{ran}");
}

#[test]
fn a_file_that_is_not_there() {
    let ran = agentflow(&["score", "no-such-pairs.jsonl"]).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(2), ""), "{ran}");
    assert!(ran.stderr.contains("cannot read the pairs `no-such-pairs.jsonl`"), "{ran}");
}
