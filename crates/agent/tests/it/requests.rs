//! What planner and verifier are asked, apart from the messages.

use agentflow_agent::prompt::{planner_schema, verifier_schema};

use crate::bench::Bench;
use crate::scripted::{Turn, decides, judges, says};

fn turns() -> Vec<Turn> {
    vec![
        decides("think", "hm"),
        says("no json"),
        decides("code", "print('a\u{e9}\\n\"quoted\"')"),
        decides("answer", "72"),
    ]
}

#[tokio::test]
async fn the_same_seed_makes_the_same_requests() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new(turns()).judged([judges(false), judges(false)]);
        bench.solve("?").await;
        runs.push((bench.planner.requests(), bench.judge.unwrap().requests()));
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0].0.len(), 4);
}

#[tokio::test]
async fn every_step_has_a_seed_of_its_own() {
    let bench = Bench::new(turns());
    bench.solve("?").await;
    let seeds = |bench: &Bench| -> Vec<_> {
        bench.planner.requests().iter().map(|request| request.sampling.seed).collect()
    };
    // The second try of a step reads other messages, so it needs no other seed.
    assert_eq!(seeds(&bench), [Some(7), Some(8), Some(8), Some(9)]);

    let mut at_the_end = Bench::new(turns());
    at_the_end.settings.sampling.seed = Some(u64::MAX);
    at_the_end.solve("?").await;
    assert_eq!(seeds(&at_the_end), [Some(u64::MAX), Some(0), Some(0), Some(1)]);

    let mut random = Bench::new(turns());
    random.settings.sampling.seed = None;
    random.solve("?").await;
    assert_eq!(seeds(&random), [None; 4]);
}

#[tokio::test]
async fn settings_and_schemas_reach_the_models() {
    let mut bench =
        Bench::new([decides("code", "1"), decides("answer", "1")]).judged([judges(false)]);
    bench.settings.think = true;
    bench.settings.max_tokens = 99;
    bench.solve("?").await;
    let judge = bench.judge.as_ref().unwrap().requests();
    assert_eq!(judge[0].schema, Some(verifier_schema()));
    let planner = bench.planner.requests();
    assert_eq!(planner[0].schema, Some(planner_schema(&["think", "search", "code", "answer"])));
    for request in planner.iter().chain(&judge) {
        assert!(request.think);
        assert_eq!((request.max_tokens, request.sampling.temperature), (99, 0.5));
    }
}

/// Models decode in the order of the schema: a thought after the action explains nothing.
#[test]
fn the_thought_comes_before_the_action_and_the_reason_before_the_verdict() {
    let keys = |schema: &serde_json::Value| -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&planner_schema(&["answer"])), ["thought", "action", "action_input"]);
    assert_eq!(keys(&verifier_schema()), ["reason", "sufficient"]);
}
