//! Run directories from recorded trajectories of the bundled planner, which the `eval` command wrote:
//!
//! - `greedy.jsonl`: `agentflow eval -b arith --split test-phrasing --limit 20`
//! - `warm.jsonl`: the same with `--temperature 1.5 --seed 7`
//! - `unreachable.jsonl`: `--backend openai --url http://127.0.0.1:9/v1`, where nothing listens
//!
//! Token ids and log-probs were taken out to keep them small; nothing else was touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentflow_agent::Trajectory;
use agentflow_agent::trajectory::Stop;
use agentflow_eval::arith::{self, Split};
use agentflow_eval::{Gold, INFO_FILE, Outcome, RunInfo, Sample, Scored, Verdict};

pub(crate) const GREEDY: &str = include_str!("../fixtures/greedy.jsonl");
pub(crate) const WARM: &str = include_str!("../fixtures/warm.jsonl");
pub(crate) const UNREACHABLE: &str = include_str!("../fixtures/unreachable.jsonl");

/// Whole numbers, written the same way: all that the arithmetic benchmark needs.
pub(crate) fn judge(gold: &Gold, text: &str) -> Verdict {
    let pred = text.trim().parse::<i64>().ok().map(|number| number.to_string());
    let outcome = match &pred {
        Some(pred) if *pred == gold.text() => Outcome::Right,
        Some(_) => Outcome::Wrong,
        None => Outcome::NoAnswer,
    };
    Verdict {
        outcome,
        gold_read: gold.text(),
        pred_read: pred,
        how: "bare number, exact".to_owned(),
    }
}

pub(crate) fn equal(a: &str, b: &str) -> bool {
    a == b
}

/// The recorded trajectories, judged, as the samples of attempt `repeat`.
pub(crate) fn samples(recorded: &str, repeat: u32) -> Vec<Sample> {
    recorded
        .lines()
        .zip(1..)
        .map(|(line, number)| {
            let trajectory = Trajectory::from_line(line, number).expect("a recorded trajectory");
            let id = trajectory.problem_id.clone().expect("a problem");
            let index =
                id.rsplit('/').next().and_then(|index| index.parse().ok()).expect("an index");
            let problem = arith::problem(0, Split::TestPhrasing, index);
            let gold = Gold::Math { answer: problem.answer.to_string() };
            let tags = BTreeMap::from([
                ("family".to_owned(), problem.family),
                ("level".to_owned(), problem.level.to_string()),
            ]);
            let mut verdict = judge(&gold, trajectory.answer.as_deref().unwrap_or_default());
            if trajectory.stop == Stop::Failed {
                verdict = Verdict { outcome: Outcome::Failed, how: "failed".to_owned(), ..verdict };
            }
            Sample { trajectory, eval: Scored { repeat, gold, tags, verdict } }
        })
        .collect()
}

/// What such a run would say of itself.
pub(crate) fn info(samples: &[Sample], problems: u64, repeats: u32) -> RunInfo {
    let first = &samples[0].trajectory;
    RunInfo {
        run: "20261121-172026-eval-af9da".to_owned(),
        benchmark: "arith/test-phrasing".to_owned(),
        dataset: None,
        model: first.model.clone(),
        sampling: first.sampling.clone(),
        prompts: first.prompts.clone(),
        max_steps: 8,
        problems,
        repeats,
        choices_seed: None,
        version: "0.1.0".to_owned(),
        commit: "164d99757d66".to_owned(),
        prices: None,
    }
}

/// A run directory with these samples, under `root`.
pub(crate) fn run_dir(root: &Path, name: &str, samples: &[Sample], info: &RunInfo) -> PathBuf {
    let run = root.join(name);
    std::fs::create_dir_all(&run).expect("a directory");
    std::fs::write(run.join("run.toml"), "seed = 0\n").expect("writes");
    let info = RunInfo { run: name.to_owned(), ..info.clone() };
    let json = serde_json::to_vec(&info).expect("serializes");
    std::fs::write(run.join(INFO_FILE), json).expect("writes");
    let lines: Vec<String> = samples
        .iter()
        .map(|sample| serde_json::to_string(sample).expect("serializes") + "\n")
        .collect();
    std::fs::write(run.join("trajectories.jsonl"), lines.concat()).expect("writes");
    run
}
