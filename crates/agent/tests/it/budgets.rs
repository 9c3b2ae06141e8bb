//! Tokens and time: when they are gone, no model is asked again, and what runs is cut.

use agentflow_agent::trajectory::Stop;
use agentflow_llm::ChatError;

use crate::bench::Bench;
use crate::scripted::{Turn, decides, judges};

#[tokio::test]
async fn when_the_tokens_are_gone_no_model_is_asked_again() {
    // 15 tokens a call: the second decision reaches 45 with the first verdict, so it is neither judged nor followed.
    let bench = Bench::new([decides("code", "1"), decides("code", "2"), decides("answer", "3")])
        .judged([judges(false), judges(false)])
        .max_tokens(45);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Budget, Some("2")));
    assert_eq!((bench.planner.left(), bench.judge.unwrap().left()), (1, 1));
    assert_eq!(trajectory.usage.prompt_tokens + trajectory.usage.completion_tokens, 45);
    assert_eq!(trajectory.steps[1].verdict.reason, "the budget is used up");
}

#[tokio::test]
async fn one_token_more_allows_one_call_more() {
    let bench = Bench::new([decides("code", "1"), decides("code", "2"), decides("answer", "3")])
        .judged([judges(false), judges(false)])
        .max_tokens(46);
    let trajectory = bench.solve("?").await;
    assert_eq!(trajectory.stop, Stop::Budget);
    assert_eq!((bench.planner.left(), bench.judge.unwrap().left()), (1, 0));
}

#[tokio::test]
async fn an_answer_that_uses_the_tokens_up_counts() {
    let bench = Bench::new([decides("answer", "72")]).max_tokens(15);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Answered, Some("72")));
}

#[tokio::test]
async fn without_time_no_model_is_asked() {
    let bench = Bench::new([]).max_wall(0);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer), (Stop::Budget, None));
    assert!(bench.planner.requests().is_empty());
}

#[tokio::test]
async fn a_planner_that_hangs_is_cut_when_the_time_is_up() {
    let bench = Bench::new([decides("reckon", "72"), Turn::Hang]).with_reckon().max_wall(1500);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Budget, Some("72")));
    assert_eq!((trajectory.steps.len(), trajectory.error), (1, None));
    assert!(trajectory.wall_s >= 1.5);
}

#[tokio::test]
async fn a_verifier_that_hangs_is_cut_and_its_step_kept() {
    let bench =
        Bench::new([decides("reckon", "72")]).judged([Turn::Hang]).with_reckon().max_wall(1500);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Budget, Some("72")));
    assert_eq!(trajectory.steps.len(), 1);
    assert!(!trajectory.steps[0].verdict.sufficient);
}

#[tokio::test]
async fn a_tool_that_loops_is_cut_and_the_next_question_can_use_it() {
    let mut bench = Bench::new([
        decides("reckon", "72"),
        decides("code", "while True: pass"),
        decides("code", "6 * 7"),
        decides("answer", "42"),
    ])
    .with_reckon()
    .max_wall(1500);
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Budget, Some("72")));
    let [_, looping] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    assert!(!looping.observation.ok);
    assert_eq!(looping.observation.text, "cancelled: the run was interrupted");

    bench.budget.max_wall = None;
    let next = bench.solve("Six times seven?").await;
    assert_eq!(next.steps[0].observation.text, "42");
}

#[tokio::test]
async fn a_limit_beyond_all_clocks_is_none() {
    let mut bench = Bench::new([decides("answer", "72")]);
    bench.budget.max_wall = Some(std::time::Duration::MAX);
    assert_eq!(bench.solve("?").await.stop, Stop::Answered);
    bench = Bench::new([decides("answer", "72")]);
    bench.budget.max_wall = Some(std::time::Duration::from_secs(1 << 40));
    assert_eq!(bench.solve("?").await.stop, Stop::Answered);
}

#[tokio::test]
async fn an_attempt_that_outgrew_the_context_ends_with_its_last_result() {
    let full = || Turn::Error(ChatError::ContextTooLong { text: "5000 of 4096 tokens".to_owned() });
    let bench = Bench::new([decides("reckon", "72"), full()]).with_reckon();
    let trajectory = bench.solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Budget, Some("72")));

    // A question that does not fit by itself is an error, which says what to do.
    let trajectory = Bench::new([full()]).solve("?").await;
    assert_eq!((trajectory.stop, trajectory.answer), (Stop::Failed, None));
    assert!(trajectory.error.unwrap().contains("raise `num_ctx`"));
}
