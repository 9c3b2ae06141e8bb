//! Going on from recorded steps: the planner is asked what it was asked when they were recorded.

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Attempt, Trajectory};
use agentflow_llm::ChatRequest;

use crate::bench::Bench;
use crate::scripted::{Turn, decides, judges, says};

const QUESTION: &str = "What is 15% of 240, then doubled?";

async fn go_on(bench: &Bench, recorded: &Trajectory, after: usize) -> Trajectory {
    let attempt = Attempt::after("test/1", QUESTION, &recorded.steps[..after]);
    bench.solver().solve_on(attempt, &mut |_| {}).await.expect("nobody interrupts this")
}

/// Without what a clock said.
fn timeless(mut trajectory: Trajectory) -> Trajectory {
    trajectory.wall_s = 0.0;
    for step in &mut trajectory.steps {
        (step.wall_ms, step.observation.wall_ms) = (0, 0);
    }
    trajectory
}

/// Plays `turns`, one a step with `asked` requests each, and goes on from every step but the last with the turns that are
/// left: prompts, schemas and seeds have to be those of the recorded attempt, and so has what comes of it.
async fn every_cut(bench: impl Fn(Vec<Turn>) -> Bench, turns: &[Turn], asked: &[usize]) {
    let whole = bench(turns.to_vec());
    let recorded = whole.solve(QUESTION).await;
    let requests: Vec<ChatRequest> = whole.planner.requests();
    assert_eq!(recorded.steps.len(), asked.len());
    for after in 1..recorded.steps.len() {
        let spent: usize = asked[..after].iter().sum();
        let rest = bench(turns[spent..].to_vec());
        let went_on = go_on(&rest, &recorded, after).await;
        assert_eq!(rest.planner.requests(), requests[spent..], "after {after} steps");
        assert_eq!(rest.planner.left(), 0, "after {after} steps");
        assert_eq!(timeless(went_on), timeless(recorded.clone()), "after {after} steps");
    }
}

#[tokio::test]
async fn after_results_failures_and_unreadable_replies() {
    let turns = [
        decides("code", "print(0.15 * 240)"),
        decides("code", "print(1 / 0)"),
        says("no json"),
        says("none again"),
        decides("think", "double it"),
        decides("answer", "72"),
    ];
    every_cut(Bench::new, &turns, &[1, 1, 2, 1, 1]).await;
}

/// Whether the planner has to answer is seen from the steps: by the last verdict, by repeats, by their number.
#[tokio::test]
async fn after_a_step_that_leaves_nothing_but_an_answer() {
    let repeated = || decides("reckon", "36");
    let turns = [repeated(), repeated(), repeated(), decides("answer", "72")];
    every_cut(|turns| Bench::new(turns).with_reckon(), &turns, &[1; 4]).await;

    let turns = [decides("reckon", "1"), decides("reckon", "2"), decides("answer", "2")];
    every_cut(|turns| Bench::new(turns).with_reckon().max_steps(2), &turns, &[1; 3]).await;

    let judged = Bench::new([decides("reckon", "72"), decides("answer", "72")])
        .judged([judges(true)])
        .with_reckon();
    let recorded = judged.solve(QUESTION).await;
    let rest = Bench::new([decides("answer", "72")]).judged([]).with_reckon();
    let went_on = go_on(&rest, &recorded, 1).await;
    assert_eq!(rest.planner.offered(), [["answer"]]);
    assert_eq!(rest.planner.requests(), judged.planner.requests()[1..]);
    assert_eq!(timeless(went_on), timeless(recorded));
}

/// The steps that were recorded count: there are no more of them for going on late.
#[tokio::test]
async fn steps_and_tokens_that_were_used_are_gone() {
    let unread = || [says("no json"), says("none again")];
    let recorded =
        Bench::new([decides("reckon", "1"), decides("reckon", "2"), decides("answer", "2")])
            .with_reckon()
            .max_steps(2)
            .solve(QUESTION)
            .await;

    // The answer after the last step cannot be read, and nothing is asked after that.
    let rest = Bench::new(unread()).with_reckon().max_steps(2);
    let ended = go_on(&rest, &recorded, 2).await;
    assert_eq!((ended.stop, ended.steps.len()), (Stop::MaxSteps, 3));
    assert_eq!(ended.answer.as_deref(), Some("2"));

    // 15 tokens a step were used.
    let rest = Bench::new([]).with_reckon().max_tokens(30);
    let ended = go_on(&rest, &recorded, 2).await;
    assert_eq!((ended.stop, ended.steps.len()), (Stop::Budget, 2));
}
