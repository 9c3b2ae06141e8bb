//! The record as text: what a planner writes, and lines of `trajectories.jsonl`.

use std::io::Write;
use std::process::{Command, Stdio};

use agentflow_agent::Trajectory;
use agentflow_agent::trajectory::Decision;
use proptest::prelude::*;

use crate::bench::Bench;
use crate::scripted::{decides, says};

/// What Python makes of the same decisions.
fn json_dumps(decisions: &[Decision], options: &str) -> Vec<String> {
    let program = format!(
        "import json, sys\n\
         for line in sys.stdin: sys.stdout.write(json.dumps(json.loads(line){options}) + '\\n')"
    );
    let mut python = Command::new("python3")
        .args(["-X", "utf8", "-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut lines = String::new();
    for decision in decisions {
        lines += &serde_json::to_string(decision).unwrap();
        lines.push('\n');
    }
    let mut input = python.stdin.take().unwrap();
    let feed = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.strip_suffix('\n').unwrap().split('\n').map(str::to_owned).collect()
}

fn decision(text: &str) -> Decision {
    Decision {
        thought: text.to_owned(),
        action: "code".to_owned(),
        action_input: format!("{text}\n"),
    }
}

#[test]
fn a_decision_is_written_as_python_writes_it() {
    let controls: String = (0..=0x9f_u8).map(char::from).collect();
    let texts = [
        "",
        "plain",
        "say \"it\"",
        "C:\\new\\table",
        "print(1)\n\tprint(2)\r\n",
        "</script> & <b> / \u{8}\u{c}",
        &controls,
        "Größe 漢字 🎲 \u{2028}\u{2029}\u{feff}\u{fffd}",
    ];
    let decisions: Vec<Decision> = texts.iter().map(|text| decision(text)).collect();
    let ours: Vec<String> = decisions.iter().map(Decision::to_json).collect();
    assert_eq!(ours, json_dumps(&decisions, ", ensure_ascii=False"));
    assert_eq!(ours[1], r#"{"thought": "plain", "action": "code", "action_input": "plain\n"}"#);
}

/// The one difference to `json.dumps` without options: characters beyond ASCII, and DEL, stay as they are.
#[test]
fn ascii_is_written_as_python_writes_it_by_default() {
    let ascii: String = (0..0x7f_u8).map(char::from).collect();
    let decisions = [decision(&ascii), decision("é")];
    let theirs = json_dumps(&decisions, "");
    assert_eq!(decisions[0].to_json(), theirs[0]);
    assert_eq!(theirs[1], r#"{"thought": "\u00e9", "action": "code", "action_input": "\u00e9\n"}"#);
    assert_eq!(
        decisions[1].to_json(),
        r#"{"thought": "é", "action": "code", "action_input": "é\n"}"#
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn any_decision_is_written_as_python_writes_it_and_reads_back(
        fields in proptest::collection::vec((any::<String>(), any::<String>(), any::<String>()), 1..64)
    ) {
        let decisions: Vec<Decision> = fields
            .into_iter()
            .map(|(thought, action, action_input)| Decision { thought, action, action_input })
            .collect();
        let ours: Vec<String> = decisions.iter().map(Decision::to_json).collect();
        prop_assert_eq!(&ours, &json_dumps(&decisions, ", ensure_ascii=False"));
        for (text, decision) in ours.iter().zip(&decisions) {
            prop_assert_eq!(&serde_json::from_str::<Decision>(text).unwrap(), decision);
        }
    }
}

async fn trajectory() -> Trajectory {
    let turns =
        [says("bad"), says("worse"), decides("code", "print('\"é\"\\n')"), decides("answer", "72")];
    let mut trajectory = Bench::new(turns).solve("How many \"é\"?").await;
    trajectory.gold = Some("72".to_owned());
    trajectory.score = Some(1.0);
    trajectory.steps[1].token_ids = Some(vec![1, 2]);
    trajectory.steps[1].logprobs = Some(vec![-0.1, -1e-7]);
    trajectory.steps[1].label = Some(0.25);
    trajectory
}

#[tokio::test]
async fn a_line_reads_back_as_what_was_written() {
    let trajectory = trajectory().await;
    let line = serde_json::to_string(&trajectory).unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(Trajectory::from_line(&line, 1).unwrap(), trajectory);
}

#[tokio::test]
async fn numbers_read_back_exactly() {
    let trajectory = trajectory().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let numbers = (proptest::num::f64::NORMAL, proptest::num::f32::NORMAL);
    runner
        .run(&numbers, |(wall_s, logprob)| {
            let mut trajectory = Trajectory { wall_s, ..trajectory.clone() };
            trajectory.steps[1].logprobs = Some(vec![logprob]);
            let line = serde_json::to_string(&trajectory).unwrap();
            let read = Trajectory::from_line(&line, 1).unwrap();
            prop_assert_eq!(read.wall_s.to_bits(), wall_s.to_bits());
            let logprobs = read.steps[1].logprobs.clone().unwrap();
            prop_assert_eq!(logprobs[0].to_bits(), logprob.to_bits());
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn fields_of_later_versions_are_left_alone() {
    let trajectory = trajectory().await;
    let mut value = serde_json::to_value(&trajectory).unwrap();
    value["flow"] = "research".into();
    value["model"]["quantization"] = "q4".into();
    value["steps"][0]["mood"] = 1.into();
    value["steps"][0]["observation"]["colour"] = "red".into();
    value["usage"]["cached_tokens"] = 3.into();
    assert_eq!(Trajectory::from_line(&value.to_string(), 1).unwrap(), trajectory);
}

#[tokio::test]
async fn what_is_no_trajectory_is_refused_with_its_line() {
    let mut value = serde_json::to_value(trajectory().await).unwrap();
    let error = |text: &str| Trajectory::from_line(text, 12).unwrap_err().to_string();
    let mut messages = vec![error(""), error("{\"schema\": "), error("72"), error("{}")];
    value["schema"] = "agentflow.trajectory/2".into();
    messages.push(error(&value.to_string()));
    value["schema"] = "agentflow.trajectory/1".into();
    value["stop"] = "bored".into();
    messages.push(error(&value.to_string()));
    value["stop"] = "answered".into();
    value["steps"][0].as_object_mut().unwrap().remove("raw");
    messages.push(error(&value.to_string()));
    insta::assert_snapshot!(messages.join("\n"), @r#"
    line 12 is not a trajectory: EOF while parsing a value at line 1 column 0; remove it, or make the file again
    line 12 is not a trajectory: EOF while parsing a value at line 1 column 11; remove it, or make the file again
    line 12 is not a trajectory: it does not say `"schema": "agentflow.trajectory/1"`; remove it, or make the file again
    line 12 is not a trajectory: it does not say `"schema": "agentflow.trajectory/1"`; remove it, or make the file again
    line 12 has schema `agentflow.trajectory/2`; this version of agentflow reads `agentflow.trajectory/1`, so use the version that wrote it
    line 12 is not a trajectory: unknown variant `bored`, expected one of `answered`, `max_steps`, `budget`, `failed`; remove it, or make the file again
    line 12 is not a trajectory: missing field `raw`; remove it, or make the file again
    "#);
}
