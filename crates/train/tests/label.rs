//! The runner of labels around a labeller that says what the test tells it to: who is asked, how often, and what is kept.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agentflow_agent::trajectory::ModelRecord;
use agentflow_eval::{Prices, RunDir, Sample};
use agentflow_llm::Usage;
use agentflow_train::label::{
    Case, Cases, End, Event, Finished, Kept, LABELS_FILE, Label, Labelled, Labeller, LabellerError,
    Plan, Provenance, Selection, run,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Says 0.5 of everything but what `says` holds, and notes whom it was asked about.
#[derive(Clone, Default)]
struct Told {
    /// By trajectory and step.
    says: HashMap<(String, usize), Answer>,
    asked: Arc<Mutex<Vec<(String, usize)>>>,
}

#[derive(Clone)]
enum Answer {
    Label(f64),
    Missing(&'static str),
    /// So many times, then 0.25.
    Fails(usize),
}

const ANSWERED: Usage = Usage { prompt_tokens: 10, completion_tokens: 2 };

impl Told {
    fn says(mut self, trajectory: &str, step: usize, answer: Answer) -> Self {
        self.says.insert((trajectory.to_owned(), step), answer);
        self
    }

    fn asked(&self) -> Vec<(String, usize)> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

#[async_trait]
impl Labeller for Told {
    /// The text of the decision: the same thought gets the same label.
    fn key(&self, case: &Case) -> String {
        case.step().raw.clone()
    }

    async fn label(&self, case: &Case) -> Result<Labelled, LabellerError> {
        let place = (case.sample.trajectory.id.clone(), case.step);
        let before = {
            let mut asked = self.asked.lock().expect("nobody panicked");
            asked.push(place.clone());
            asked.iter().filter(|other| **other == place).count() - 1
        };
        let label = match self.says.get(&place) {
            None => Ok(0.5),
            Some(Answer::Label(label)) => Ok(*label),
            Some(Answer::Missing(why)) => Err((*why).to_owned()),
            Some(Answer::Fails(times)) if before < *times => {
                return Err(LabellerError::Other("it is on fire".to_owned()));
            }
            Some(Answer::Fails(_)) => Ok(0.25),
        };
        let model = ModelRecord {
            name: "told".to_owned(),
            backend: "replay".to_owned(),
            digest: None,
            adapter: None,
        };
        let by = Provenance::Judge {
            model,
            rubric: "test/1".to_owned(),
            scores: None,
            reason: None,
            raw: None,
        };
        Ok(Labelled { label, by, usage: ANSWERED })
    }
}

fn step(index: usize, thought: &str, readable: bool) -> Value {
    let decision = json!({ "thought": thought, "action": "think", "action_input": "" });
    json!({
        "index": index,
        "prompt": [{ "role": "user", "content": "What?" }],
        "reply": readable.then_some(decision),
        "raw": thought,
        "thinking": null,
        "token_ids": null,
        "logprobs": null,
        "observation": {
            "ok": true, "text": "", "truncated": false, "wall_ms": 0,
        },
        "verdict": { "sufficient": false, "reason": "" },
        "label": null,
        "prm_score": null,
        "usage": { "prompt_tokens": 1, "completion_tokens": 1 },
        "wall_ms": 0,
    })
}

fn sample(id: &str, outcome: &str, steps: &[Value]) -> Value {
    json!({
        "schema": "agentflow.trajectory/1",
        "id": id,
        "run": "source",
        "question": "What?",
        "gold": "1",
        "benchmark": "arith/train",
        "problem_id": id,
        "model": { "name": "m", "backend": "local", "digest": null, "adapter": null },
        "sampling": {
            "temperature": 1.0, "top_p": 1.0, "seed": 0, "think": false, "num_ctx": null,
        },
        "prompts": "compact/1",
        "sandbox": "strong",
        "steps": steps,
        "answer": "1",
        "stop": "answered",
        "error": null,
        "score": null,
        "usage": { "prompt_tokens": 1, "completion_tokens": 1 },
        "wall_s": 0.0,
        "eval": {
            "repeat": 0,
            "gold": { "kind": "math", "answer": "1" },
            "tags": {},
            "verdict": { "outcome": outcome, "gold_read": "1", "pred_read": "1", "how": "exact" },
        },
    })
}

/// A place for runs, with one to be labelled: `b` shares its first decision with `a`, `c` failed, and `d` has a reply that
/// could not be read.
struct Place {
    root: tempfile::TempDir,
    source: PathBuf,
}

impl Place {
    fn new() -> Self {
        let samples = [
            sample("a", "right", &[step(0, "begin", true), step(1, "end a", true)]),
            sample("b", "wrong", &[step(0, "begin", true), step(1, "end b", true)]),
            sample("c", "failed", &[step(0, "lost", true)]),
            sample("d", "no_answer", &[step(0, "garbled", false), step(1, "end d", true)]),
        ];
        Self::of(&samples)
    }

    fn of(samples: &[Value]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(root.path(), "collect", "").expect("a run");
        let lines: Vec<String> = samples.iter().map(|sample| format!("{sample}\n")).collect();
        // As if it were read by the harness.
        lines.iter().for_each(|line| {
            serde_json::from_str::<Sample>(line).expect("a sample");
        });
        run.write("trajectories.jsonl", lines.concat().as_bytes()).expect("writes");
        let source = run.path().to_owned();
        Self { root, source }
    }

    fn cases(&self) -> Cases {
        Cases::read(std::slice::from_ref(&self.source), Selection::All).expect("cases")
    }

    fn begin(&self) -> RunDir {
        RunDir::create(self.root.path(), "label", "").expect("a run")
    }

    async fn label(&self, dir: &RunDir, told: &Told, change: impl FnOnce(&mut Plan)) -> Finished {
        let kept = Kept::open(dir).expect("a record");
        let mut plan = Plan { cases: self.cases().cases, concurrency: 2, retries: 0, budget: None };
        change(&mut plan);
        let labeller = Arc::new(told.clone());
        let mut on_event = |_: Event| {};
        run(kept, plan, labeller, &CancellationToken::new(), &mut on_event).await.expect("it runs")
    }
}

fn labels(dir: &RunDir) -> Vec<Label> {
    let text = std::fs::read_to_string(dir.path().join(LABELS_FILE)).expect("reads");
    text.lines().zip(1..).map(|(line, at)| Label::from_line(line, at).expect("a label")).collect()
}

fn value(dir: &RunDir, trajectory: &str, step: usize) -> Option<f64> {
    let all = labels(dir);
    let label = all.iter().find(|it| (&*it.trajectory, it.step) == (trajectory, step));
    label.unwrap_or_else(|| panic!("no label of {trajectory}, {step}")).label
}

fn place(trajectory: &str, step: usize) -> (String, usize) {
    (trajectory.to_owned(), step)
}

#[tokio::test]
async fn the_same_is_labelled_once_and_paid_once() {
    let here = Place::new();
    let cases = here.cases();
    assert_eq!((cases.trajectories, cases.failed, cases.unreadable), (3, 1, 1));
    let (dir, told) = (here.begin(), Told::default().says("a", 0, Answer::Label(0.75)));
    let finished = here.label(&dir, &told, |_| {}).await;
    assert_eq!(finished.end, End::Complete);
    assert_eq!((finished.tally.labelled, finished.tally.mean()), (5, Some(3.0 / 5.0)));
    let mut asked = told.asked();
    asked.sort();
    assert_eq!(asked, [place("a", 0), place("a", 1), place("b", 1), place("d", 1)]);
    assert_eq!((value(&dir, "a", 0), value(&dir, "b", 0)), (Some(0.75), Some(0.75)));
    let paid: Vec<u64> = labels(&dir)
        .iter()
        .filter(|label| label.step == 0)
        .map(|label| label.usage.prompt_tokens)
        .collect();
    assert_eq!(paid, [10, 0], "the first has what it took");
}

/// A process that died between the lines of one job: the rest gets what was said, and nobody is asked again.
#[tokio::test]
async fn half_a_job_is_finished_without_asking() {
    let here = Place::new();
    let (dir, told) = (here.begin(), Told::default().says("a", 0, Answer::Label(0.75)));
    here.label(&dir, &told, |_| {}).await;
    let whole = labels(&dir);
    let path = dir.path().join(LABELS_FILE);
    let text = std::fs::read_to_string(&path).expect("reads");
    let torn: String = text
        .lines()
        .filter(|line| !line.contains("\"trajectory\":\"b\",\"step\":0"))
        .map(|line| format!("{line}\n"))
        .collect();
    // And the line after that is not whole.
    std::fs::write(&path, torn + "{\"schema\":\"agentf").expect("writes");

    let silent = Told::default();
    let finished = here.label(&dir, &silent, |_| {}).await;
    assert_eq!((finished.end, silent.asked()), (End::Complete, vec![]));
    let timeless = |mut labels: Vec<Label>| {
        labels.iter_mut().for_each(|label| label.wall_ms = 0);
        labels.sort_by_key(|label| (label.trajectory.clone(), label.step));
        labels
    };
    assert_eq!(timeless(labels(&dir)), timeless(whole));
}

#[tokio::test]
async fn what_has_no_label_is_kept_and_what_failed_is_left_for_the_next_process() {
    let here = Place::new();
    let dir = here.begin();
    let told = Told::default()
        .says("a", 0, Answer::Fails(usize::MAX))
        .says("a", 1, Answer::Missing("it refused"))
        .says("b", 1, Answer::Label(1.5))
        .says("d", 1, Answer::Label(f64::NAN));
    let finished = here.label(&dir, &told, |_| {}).await;
    assert_eq!(finished.end, End::Complete);
    let tally = finished.tally;
    assert_eq!((tally.labelled, tally.missing, tally.failed), (0, 1, 4));
    assert_eq!(finished.failed_by_cause["it is on fire"], 2);
    assert!(finished.failed_by_cause.keys().any(|cause| cause.contains("gave 1.5")));
    let kept = labels(&dir);
    assert_eq!(
        (kept.len(), kept[0].label, kept[0].missing.as_deref()),
        (1, None, Some("it refused"))
    );

    let now = Told::default();
    let finished = here.label(&dir, &now, |_| {}).await;
    assert_eq!((finished.end, finished.tally.labelled), (End::Complete, 4));
    assert!(!now.asked().contains(&place("a", 1)), "that there is none is known");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again() {
    let here = Place::new();
    let (dir, told) = (here.begin(), Told::default().says("a", 0, Answer::Fails(2)));
    let finished = here.label(&dir, &told, |plan| plan.retries = 2).await;
    assert_eq!((finished.end, finished.tally.labelled), (End::Complete, 5));
    assert_eq!((value(&dir, "a", 0), value(&dir, "b", 0)), (Some(0.25), Some(0.25)));
    assert_eq!(told.asked().iter().filter(|asked| **asked == place("a", 0)).count(), 3);
}

#[tokio::test]
async fn a_run_without_hope_or_money_ends_early() {
    let ids: Vec<String> = (0..60).map(|id| format!("t{id}")).collect();
    let of = |id: &String| sample(id, "right", &[step(0, &format!("end {id}"), true)]);
    let here = Place::of(&ids.iter().map(of).collect::<Vec<_>>());

    let all_fail =
        ids.iter().fold(Told::default(), |told, id| told.says(id, 0, Answer::Fails(usize::MAX)));
    let finished = here.label(&here.begin(), &all_fail, |_| {}).await;
    assert!(matches!(finished.end, End::Failing { in_a_row: 20, .. }), "{finished:?}");
    assert!(all_fail.asked().len() < 30);

    // A label is 10 tokens at a dollar and 2 at five.
    let prices = Prices { prompt: 1e6, completion: 5e6 };
    let dir = here.begin();
    let limited = |most: f64| {
        move |plan: &mut Plan| {
            (plan.concurrency, plan.budget) = (1, Some((most, prices)));
        }
    };
    let finished = here.label(&dir, &Told::default(), limited(100.0)).await;
    assert_eq!(finished.end, End::OutOfMoney { spent: 100.0, limit: 100.0 });
    assert_eq!(labels(&dir).len(), 5);
    // What was spent is spent, also by another process.
    let nobody = Told::default();
    let finished = here.label(&dir, &nobody, limited(100.0)).await;
    assert!(matches!(finished.end, End::OutOfMoney { .. }) && nobody.asked().is_empty());
    let finished = here.label(&dir, &nobody, limited(1e9)).await;
    assert_eq!((finished.end, labels(&dir).len()), (End::Complete, 60));
}

#[tokio::test]
async fn a_cancelled_run_keeps_what_it_has() {
    let here = Place::new();
    let (dir, cancel) = (here.begin(), CancellationToken::new());
    cancel.cancel();
    let kept = Kept::open(&dir).expect("a record");
    let plan = Plan { cases: here.cases().cases, concurrency: 2, retries: 0, budget: None };
    let told = Told::default();
    let finished =
        run(kept, plan, Arc::new(told.clone()), &cancel, &mut |_| {}).await.expect("it runs");
    assert_eq!((finished.end, told.asked()), (End::Interrupted, vec![]));
}

#[test]
fn a_sample_does_not_depend_on_the_order_of_the_record() {
    let samples: Vec<Value> =
        (0..20).map(|id| sample(&format!("t{id}"), "right", &[step(0, "end", true)])).collect();
    let ids = |samples: &[Value]| {
        let here = Place::of(samples);
        let selection = Selection::Sample { count: 6, seed: 3 };
        let cases = Cases::read(&[here.source], selection).expect("cases");
        let mut ids: Vec<String> =
            cases.cases.iter().map(|case| case.sample.trajectory.id.clone()).collect();
        ids.sort();
        ids
    };
    let mut reversed = samples.clone();
    reversed.reverse();
    assert_eq!(ids(&samples), ids(&reversed));
    assert_eq!(ids(&samples).len(), 6);
}
