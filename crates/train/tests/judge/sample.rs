//! A scored attempt to be judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentflow_agent::trajectory::{
    self, Decision, ModelRecord, SamplingRecord, Step, Stop, Trajectory,
};
use agentflow_eval::{Gold, Outcome, Sample, Scored, Verdict};
use agentflow_llm::{Message, Usage};
use agentflow_tools::Observation;
use agentflow_train::label::Case;

pub(crate) fn step(index: usize, thought: &str, action: &str, input: &str, result: &str) -> Step {
    Step {
        index,
        prompt: vec![Message::user("What is 12 * 7 + 5?")],
        reply: Some(Decision {
            thought: thought.to_owned(),
            action: action.to_owned(),
            action_input: input.to_owned(),
        }),
        raw: String::new(),
        thinking: None,
        token_ids: None,
        logprobs: None,
        observation: Observation {
            ok: true,
            text: result.to_owned(),
            truncated: false,
            wall_ms: 1,
        },
        verdict: trajectory::Verdict { sufficient: false, reason: String::new() },
        label: None,
        prm_score: None,
        usage: Usage::default(),
        wall_ms: 1,
    }
}

/// Two steps: the product by code, and an answer that forgets to add 5.
pub(crate) fn usual() -> Sample {
    of(vec![
        step(0, "First the product.", "code", "print(12 * 7)", "84"),
        step(1, "That is it.", "answer", "84", "84"),
    ])
}

pub(crate) fn of(steps: Vec<Step>) -> Sample {
    let trajectory = Trajectory {
        schema: trajectory::SCHEMA.to_owned(),
        id: "t-1".to_owned(),
        run: Some("run".to_owned()),
        question: "What is 12 * 7 + 5?".to_owned(),
        gold: Some("89".to_owned()),
        benchmark: Some("arith".to_owned()),
        problem_id: Some("p-1".to_owned()),
        model: ModelRecord {
            name: "tiny-planner".to_owned(),
            backend: "local".to_owned(),
            digest: None,
            adapter: None,
        },
        sampling: SamplingRecord {
            temperature: 1.0,
            top_p: 1.0,
            seed: Some(0),
            think: false,
            num_ctx: None,
        },
        prompts: "full/1".to_owned(),
        sandbox: "strong".to_owned(),
        steps,
        answer: Some("84".to_owned()),
        stop: Stop::Answered,
        error: None,
        score: Some(0.0),
        usage: Usage::default(),
        wall_s: 0.1,
    };
    let verdict = Verdict {
        outcome: Outcome::Wrong,
        gold_read: "89".to_owned(),
        pred_read: Some("84".to_owned()),
        how: "number, different".to_owned(),
    };
    let gold = Gold::Math { answer: "89".to_owned() };
    Sample { trajectory, eval: Scored { repeat: 0, gold, tags: BTreeMap::new(), verdict } }
}

pub(crate) fn case(sample: Sample, step: usize) -> Case {
    Case { sample: Arc::new(sample), step }
}
