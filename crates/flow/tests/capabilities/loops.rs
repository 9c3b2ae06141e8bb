//! Row 20: a loop with a budget of hops.

use std::sync::Arc;

use agentflow_flow::{
    Context, End, ErrorKind, Flow, MemoryStore, Next, Node, Retry, StepError, repeat, repeat_or,
    step, switch,
};

use crate::probe::{Log, paths, with};

/// Counts up to `goal`, and says each hop.
fn count(log: &Log, goal: u32) -> Node<u32, Next<u32, String>> {
    with(log, "count", move |log: Log, _cx: Context, x: u32| async move {
        log.say(x.to_string());
        Ok(if x == goal { Next::Done(format!("came to {x}")) } else { Next::Again(x + 1) })
    })
}

/// Row 20: controller loop, hop budget. Each hop gets what the one before gave.
#[tokio::test]
async fn a_loop_runs_on_its_own_output_until_it_is_done() {
    let log = Log::default();
    let report = Flow::new("f").then(repeat("loop", 8, count(&log, 3))).run(1).await;
    assert_eq!(log.words(), ["1", "2", "3"]);
    assert_eq!(paths(&report), ["f/loop[0]/count", "f/loop[1]/count", "f/loop[2]/count", "f/loop"]);
    assert_eq!(report.into_result().unwrap(), "came to 3");
}

/// Row 20: PenguiFlow runs a controller again after its final answer, 65 times for one message. `Done` stops.
#[tokio::test]
async fn done_stops_the_loop_at_once() {
    let log = Log::default();
    let flow = Flow::new("f").then(repeat("loop", 64, count(&log, 0)));
    let store = Arc::new(MemoryStore::new());
    let report = flow.run(0).store(store.clone()).await;
    assert_eq!(log.words(), ["0"]);
    let again = flow.resume(store, report.run).await;
    assert_eq!((log.len(), again.into_result().unwrap()), (1, "came to 0".to_owned()));
}

/// Row 20: a budget of N allows N hops, no more and no fewer.
#[tokio::test]
async fn a_budget_of_n_allows_exactly_n_hops() {
    for (hops, goal, done) in [(3, 3, true), (3, 4, false), (1, 1, true), (1, 2, false)] {
        let log = Log::default();
        let report = Flow::new("f").then(repeat("loop", hops, count(&log, goal))).run(1).await;
        assert_eq!(log.len() as u32, hops, "{hops} hops to {goal}");
        assert_eq!(matches!(report.end, End::Done(_)), done, "{hops} hops to {goal}");
    }
}

/// Row 20: PenguiFlow answers with a fixed text when the budget is used up. Ours is an error with a kind.
#[tokio::test]
async fn a_used_up_budget_is_an_error() {
    let flow = Flow::new("f").then(repeat("loop", 2, count(&Log::default(), 9)));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Hops(2)));
    assert_eq!(
        error.to_string(),
        "`f/loop`: no result after 2 hops; allow more, or end the loop earlier"
    );
}

/// Row 20: a loop of no hops calls nothing.
#[tokio::test]
async fn no_hops_are_no_calls() {
    let log = Log::default();
    let report = Flow::new("f").then(repeat("loop", 0, count(&log, 1))).run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Hops(0)));
    assert_eq!(log.len(), 0);
}

/// Row 20: who wants an answer all the same makes one, of the last state.
#[tokio::test]
async fn a_used_up_budget_can_be_mapped() {
    let give_up = |x| format!("gave up at {x}");
    let flow = |log: &Log| Flow::new("f").then(repeat_or("loop", 2, count(log, 3), give_up));
    let log = Log::default();
    assert_eq!(flow(&log).run(1).await.into_result().unwrap(), "gave up at 3");
    assert_eq!(log.words(), ["1", "2"]);
    assert_eq!(flow(&log).run(2).await.into_result().unwrap(), "came to 3");
}

/// Row 20: a hop that fails ends the loop, and its path says which one it was.
#[tokio::test]
async fn a_failure_names_its_hop() {
    let body = step("body", async |_cx: Context, x: u32| match x {
        2 => Err(StepError::failed("not that")),
        _ => Ok(Next::<_, ()>::Again(x + 1)),
    });
    let report = Flow::new("f").then(repeat("loop", 8, body)).run(0).await;
    assert_eq!(report.trace.len(), 4);
    assert_eq!(report.into_result().unwrap_err().to_string(), "`f/loop[2]/body`: not that");
}

/// Row 20: attempts are counted per hop; a hop that is tried again is one hop.
#[tokio::test]
async fn a_retry_costs_no_hop() {
    let log = Log::default();
    let body = with(&log, "body", async |log: Log, cx: Context, x: u32| {
        log.say(format!("{x}.{}", cx.attempt()));
        match (x, cx.attempt()) {
            (1, attempt) if attempt < 3 => Err(StepError::failed("again")),
            (2, _) => Ok(Next::Done(x)),
            _ => Ok(Next::Again(x + 1)),
        }
    });
    let flow = Flow::new("f").then(repeat("loop", 3, body.retry(Retry::at_once(3))));
    assert_eq!(flow.run(0).await.into_result().unwrap(), 2);
    assert_eq!(log.words(), ["0.1", "1.1", "1.2", "1.3", "2.1"]);
}

/// Row 20: each loop inside a loop has its own budget, anew in each hop of the outer one.
#[tokio::test]
async fn loops_nest() {
    let less = step("less", async |_cx: Context, (x, left): (u32, u32)| {
        Ok(if left == 0 { Next::Done(x) } else { Next::Again((x + 1, left - 1)) })
    });
    let start = step("start", async |_cx: Context, x: u32| Ok((x, 2)));
    let end = step("end", async |_cx: Context, x: u32| {
        Ok(if x >= 6 { Next::Done(x) } else { Next::Again(x) })
    });
    let body = Flow::new("body").then(start).then(repeat("in", 3, less)).then(end);
    let report = Flow::new("f").then(repeat("out", 3, body)).run(0).await;
    assert!(paths(&report).contains(&"f/out[2]/body/in[2]/less".to_owned()));
    assert_eq!(report.into_result().unwrap(), 6);
}

/// Row 20: a controller that chooses a playbook at each hop, and a state that grows.
#[tokio::test]
async fn a_controller_chooses_at_each_hop() {
    let add = |word: &'static str| {
        move |_cx: Context, mut words: Vec<String>| async move {
            words.push(word.to_owned());
            Ok(Next::<_, String>::Again(words))
        }
    };
    let finish = async |_cx: Context, words: Vec<String>| Ok(Next::Done(words.join(" ")));
    let controller = switch("controller")
        .when("search", |words: &Vec<String>| words.is_empty(), add("searched"))
        .when("read", |words: &Vec<String>| words.len() < 3, add("read"))
        .otherwise(finish);
    let flow = Flow::new("f").then(repeat("agent", 8, controller));
    assert_eq!(flow.run(Vec::new()).await.into_result().unwrap(), "searched read read");
}

/// Row 20: length costs no stack.
#[tokio::test]
async fn a_long_loop_is_a_loop() {
    let flow = Flow::new("f").then(repeat(
        "loop",
        100_001,
        step("count", async |_cx: Context, x: u32| {
            Ok(if x == 100_000 { Next::Done(x) } else { Next::Again(x + 1) })
        }),
    ));
    assert_eq!(flow.run(0).await.into_result().unwrap(), 100_000);
}
