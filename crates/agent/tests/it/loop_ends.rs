//! Everything that ends the loop but a budget: a verdict, the last step, repetition, a failure.

use agentflow_agent::SolveError;
use agentflow_agent::trajectory::Stop;
use agentflow_llm::Usage;

use crate::bench::Bench;
use crate::scripted::{Turn, decides, judges, says, unreachable};

const ALL: [&str; 4] = ["think", "search", "code", "answer"];

#[tokio::test]
async fn after_a_sufficient_verdict_only_answer_is_on_offer() {
    let bench =
        Bench::new([decides("code", "36 * 2"), decides("answer", "72")]).judged([judges(true)]);
    let trajectory = bench.solve("What is 36 doubled?").await;
    assert_eq!(bench.planner.offered(), [&ALL[..], &["answer"]]);
    let concluding = &bench.planner.requests()[1].messages[1].content;
    assert!(concluding.ends_with("Give your best final answer now, with the action `answer`."));
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Answered, Some("72")));
    assert_eq!(bench.judge.unwrap().requests().len(), 1, "an answer is not put to the judge");
}

#[tokio::test]
async fn a_failed_step_is_never_sufficient_and_costs_no_judge() {
    // A judge that would say yes.
    let bench =
        Bench::new([decides("code", "1 / 0"), decides("code", "72"), decides("answer", "72")])
            .judged([judges(true)]);
    let trajectory = bench.solve("?").await;
    assert_eq!(bench.planner.offered(), [&ALL[..], &ALL, &["answer"]]);
    let verdicts: Vec<bool> = trajectory.steps.iter().map(|step| step.verdict.sufficient).collect();
    assert_eq!(verdicts, [false, true, true]);
    let judge = bench.judge.unwrap();
    assert_eq!(judge.requests().len(), 1);
    let read = &judge.requests()[0].messages[1].content;
    assert!(read.contains("failed: ZeroDivisionError") && read.contains("result: 72"), "{read}");
}

#[tokio::test]
async fn an_action_other_than_answer_is_refused_once_answer_alone_is_on_offer() {
    let bench = Bench::new([
        decides("code", "72"),
        decides("code", "print('once more')"),
        decides("code", "print('once more')"),
        decides("answer", "72"),
    ])
    .judged([judges(true)]);
    let trajectory = bench.solve("?").await;
    assert_eq!(trajectory.steps[1].reply, None);
    assert_eq!(trajectory.answer.as_deref(), Some("72"));
}

#[tokio::test]
async fn when_steps_run_out_the_planner_has_to_answer() {
    let bench =
        Bench::new([decides("code", "1"), decides("code", "2"), decides("answer", "I guess 2")])
            .max_steps(2);
    let trajectory = bench.solve("?").await;
    assert_eq!(bench.planner.offered(), [&ALL[..], &ALL, &["answer"]]);
    assert_eq!(trajectory.stop, Stop::MaxSteps);
    assert_eq!(trajectory.answer.as_deref(), Some("I guess 2"));
}

#[tokio::test]
async fn an_answer_that_the_verifier_asked_for_is_no_forced_one() {
    let bench = Bench::new([decides("code", "72"), decides("answer", "72")])
        .judged([judges(true)])
        .max_steps(1);
    assert_eq!(bench.solve("?").await.stop, Stop::Answered);
}

#[tokio::test]
async fn without_a_forced_answer_the_last_result_has_to_do() {
    let bench = Bench::new([
        decides("code", "print('of two lines')\n1"),
        decides("code", "print('not this line')\n2"),
        decides("code", "x = 3"), // prints nothing, so it is no result
        decides("code", "1 / 0"),
        decides("think", "hm"),
        says("no answer"),
        says("none at all"),
    ])
    .judged([judges(false), judges(false), judges(false), judges(false)])
    .max_steps(5);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::MaxSteps, Some("2")));
    assert_eq!(trajectory.steps.len(), 6);
    // After the last step there is nothing to decide, and a failed one settles nothing.
    assert_eq!(bench.judge.unwrap().left(), 0);
}

#[tokio::test]
async fn nothing_computed_is_no_answer() {
    let bench = Bench::new([
        decides("code", "1 / 0"),
        decides("think", "hm"),
        says("no answer"),
        says("none at all"),
    ])
    .max_steps(2);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer), (Stop::MaxSteps, None));
    assert_eq!(trajectory.error, None);
}

#[tokio::test]
async fn no_steps_at_all_is_an_answer_at_once() {
    let bench = Bench::new([decides("answer", "72")]).max_steps(0);
    let trajectory = bench.solve("?").await;
    assert_eq!(bench.planner.offered(), [["answer"]]);
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::MaxSteps, Some("72")));
}

#[tokio::test]
async fn three_times_the_same_result_leaves_only_answer() {
    let bench = Bench::new([
        decides("reckon", "72"),
        decides("reckon", "72"),
        decides("reckon", "72"),
        decides("answer", "72"),
    ])
    .with_reckon();
    let trajectory = bench.solve("?").await;
    let offered: Vec<usize> = bench.planner.offered().iter().map(Vec::len).collect();
    assert_eq!(offered, [5, 5, 5, 1]);
    let told: Vec<bool> = bench
        .planner
        .requests()
        .iter()
        .map(|request| request.messages[1].content.contains("repeated an earlier one"))
        .collect();
    assert_eq!(told, [false, false, true, true]);
    assert_eq!(trajectory.stop, Stop::Answered);
}

#[tokio::test]
async fn going_in_circles_is_repetition_too() {
    let circle = ["1", "2", "1", "2", "1"].map(|sum| decides("reckon", sum));
    let bench = Bench::new(circle.into_iter().chain([decides("answer", "1")])).with_reckon();
    bench.solve("?").await;
    let offered: Vec<usize> = bench.planner.offered().iter().map(Vec::len).collect();
    assert_eq!(offered, [5, 5, 5, 5, 5, 1]);
}

#[tokio::test]
async fn the_same_input_with_another_action_or_result_is_no_repetition() {
    let bench = Bench::new([
        decides("reckon", "72"),
        decides("think", "72"),
        decides("search", "72"),
        decides("reckon", "71"),
        decides("code", "import random\nrandom.random()"),
        decides("code", "import random\nrandom.random()"),
        decides("code", "import random\nrandom.random()"),
        decides("answer", "72"),
    ])
    .with_reckon();
    bench.solve("?").await;
    assert!(bench.planner.offered().iter().all(|offered| offered.len() == 5));
}

#[tokio::test]
async fn a_model_that_fails_leaves_the_steps_so_far() {
    let bench = Bench::new([decides("code", "72"), Turn::Error(unreachable())]);
    let (solved, events) = bench.watch("?").await;
    let trajectory = solved.unwrap();
    assert_eq!((trajectory.stop, trajectory.answer), (Stop::Failed, None));
    let error = trajectory.error.unwrap();
    assert_eq!(
        error,
        "cannot reach Ollama at `http://127.0.0.1:11434`: connection refused; start it with `ollama serve`"
    );
    assert_eq!(trajectory.steps.len(), 1);
    assert_eq!(trajectory.usage, Usage { prompt_tokens: 10, completion_tokens: 5 });
    assert_eq!(events.last().unwrap(), "step 0 done, sufficient: false");
}

#[tokio::test]
async fn a_verifier_that_fails_leaves_the_step_it_should_have_judged() {
    let bench = Bench::new([decides("code", "72")]).judged([Turn::Error(unreachable())]);
    let (solved, events) = bench.watch("?").await;
    let trajectory = solved.unwrap();
    assert_eq!(trajectory.stop, Stop::Failed);
    assert!(trajectory.error.unwrap().contains("cannot reach Ollama"));
    let [step] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    assert_eq!(step.observation.text, "72");
    assert_eq!(step.verdict.reason, "the verifier gave no verdict");
    assert_eq!(events.last().unwrap(), "step 0 done, sufficient: false");
}

#[tokio::test]
async fn a_sandbox_that_fails_says_why() {
    let bench = Bench::new([decides("reckon", "1"), decides("reckon", "break")]).with_reckon();
    let trajectory = bench.solve("?").await;
    assert_eq!(trajectory.stop, Stop::Failed);
    assert_eq!(
        trajectory.error.as_deref(),
        Some("cannot start Python in the sandbox: forking: no more processes")
    );
    assert_eq!(trajectory.steps.len(), 1);
    // The call that led there is counted, though its step is not.
    assert_eq!(trajectory.usage, Usage { prompt_tokens: 20, completion_tokens: 10 });
}

#[tokio::test]
async fn a_tool_that_panics_is_named_and_leaves_the_executor_usable() {
    let bench =
        Bench::new([decides("reckon", "panic"), decides("reckon", "1"), decides("answer", "1")])
            .with_reckon();
    let (solved, _) = bench.watch("?").await;
    assert!(matches!(solved, Err(SolveError::ToolPanicked)), "{solved:?}");
    assert_eq!(bench.solve("?").await.answer.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_model_that_panics_is_an_error_that_says_where() {
    let bench = Bench::new([]); // it panics when its script is over
    let (solved, _) = bench.watch("?").await;
    let error = solved.unwrap_err().to_string();
    assert!(error.starts_with("`solve/agent[0]/step/plan`: panicked: the script"), "{error}");
}
