//! `eval export --inspect`: the form of the log. `scripts/conformance/inspect_log.py` has inspect_ai read it.

use agentflow_eval::{Report, Summary, write_inspect_log};
use serde_json::Value;

use crate::fixture::{UNREACHABLE, WARM, equal, info, run_dir, samples};

#[test]
fn every_step_is_a_message_and_every_call_has_its_result() {
    let root = tempfile::tempdir().expect("a directory");
    let mut all = samples(WARM, 0);
    all.push(samples(UNREACHABLE, 1).remove(0));
    let info = info(&all, 20, 2);
    let run = run_dir(root.path(), "run", &all, &info);
    let summaries: Vec<Summary> = all.iter().map(Summary::of).collect();
    let report = Report::of(&info, &summaries, None, &equal);
    let mut log = Vec::new();
    write_inspect_log(&run, &report, &mut log, &run.join("log.json")).expect("writes");
    let log: Value = serde_json::from_slice(&log).expect("JSON");

    assert_eq!((&log["version"], &log["status"]), (&Value::from(2), &Value::from("cancelled")));
    let written = log["samples"].as_array().expect("samples");
    assert_eq!(written.len(), all.len());
    for (sample, written) in all.iter().zip(written) {
        assert_eq!(written["epoch"], sample.eval.repeat + 1);
        let messages = written["messages"].as_array().expect("messages");
        let replies = messages.iter().filter(|message| message["source"] == "generate").count();
        assert_eq!(replies, sample.trajectory.steps.len());
        let calls = messages.iter().filter_map(|message| message["tool_calls"][0]["id"].as_str());
        let results = messages.iter().filter_map(|message| message["tool_call_id"].as_str());
        assert_eq!(calls.collect::<Vec<_>>(), results.collect::<Vec<_>>());
    }
    let right = |sample: &&Value| sample["scores"]["agentflow"]["value"] == "C";
    assert_eq!(written.iter().filter(right).count() as u64, report.counts.right);
    assert!(written[20]["error"]["message"].as_str().expect("failed").starts_with("cannot reach"));
}
