//! How runs end: 1, 2, 3, 6, 8, 19.

use std::collections::VecDeque;
use std::sync::Arc;

use agentflow_flow::{
    Context, Data, End, Ending, ErrorKind, Flow, Kind, MemoryStore, Next, Node, Record, Retry,
    StepError, Store, all, each, repeat, repeat_or, step, switch,
};
use futures::StreamExt;

use crate::probe::{Count, SECOND, counted, fails, id, in_an_hour, pass, watched};

/// PenguiFlow drops a message that failed for good, and its caller waits in `fetch` for ever.
#[tokio::test(start_paused = true)]
async fn line_01_what_fails_for_good_is_reported() {
    let broken = step("broken", async |_cx: Context, _: u32| {
        Err::<u32, _>(StepError::failed("no connection"))
    });
    let flow = Flow::new("f").then(pass("first")).then(broken.retry(Retry::attempts(3)));
    let report = in_an_hour(flow.run(1)).await;
    let error = report.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/broken`, 3 attempts: no connection");

    // The same with many in flight: one report for each.
    let all = flow.pipe(futures::stream::iter(0..20), 4);
    assert_eq!(in_an_hour(all.collect::<Vec<_>>()).await.len(), 20);
}

/// A PenguiFlow router without a match drops the message in silence.
#[tokio::test(start_paused = true)]
async fn line_01_a_route_to_nowhere_is_reported() {
    let strict = switch("size").when("small", |x: &u32| *x < 10, pass("small")).strict();
    let report = in_an_hour(Flow::new("f").then(strict).run(99)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::NoRoute(_)));

    let unknown = switch("size").on(|_: &u32| "typo".into()).arm("small", pass("small")).strict();
    let report = in_an_hour(Flow::new("f").then(unknown).run(99)).await;
    let error = report.error().unwrap();
    assert_eq!(error.path, "f/size");
    assert!(matches!(&error.kind, ErrorKind::NoRoute(value) if value.contains("`typo`")));
}

/// Microflow hands on only the last of several events that a handler yields.
#[tokio::test]
async fn line_01_every_event_of_a_handler_is_handled() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct State {
        waiting: VecDeque<String>,
        handled: Vec<String>,
    }
    let handle = step("handle", async |_cx: Context, mut state: State| {
        let Some(event) = state.waiting.pop_front() else { return Ok(Next::Done(state.handled)) };
        if event == "order" {
            state.waiting.extend(["pack".into(), "bill".into(), "mail".into()]);
        }
        state.handled.push(event);
        Ok(Next::Again(state))
    });
    let state = State { waiting: ["order".to_owned()].into(), handled: Vec::new() };
    let report = Flow::new("events").then(repeat("loop", 100, handle)).run(state).await;
    assert_eq!(report.into_result().unwrap(), ["order", "pack", "bill", "mail"]);
}

/// PenguiFlow calls a controller again after its final answer until its queue of 64 is full: 65 calls for one message.
#[tokio::test]
async fn line_02_a_finished_loop_stops() {
    let calls = Count::default();
    let seen = calls.clone();
    let controller = step("controller", move |_cx: Context, x: u32| {
        seen.up();
        async move { Ok(if x < 3 { Next::Again(x + 1) } else { Next::Done("answer".to_owned()) }) }
    });
    let flow = Flow::new("agent").then(repeat("turns", 100, controller));
    assert_eq!(flow.run(1).await.into_result().unwrap(), "answer");
    assert_eq!(calls.get(), 3);
}

fn endless<O: Data>() -> Node<u32, Next<u32, O>> {
    step("again", async |_cx: Context, x: u32| Ok(Next::Again(x + 1)))
}

/// PenguiFlow answers with a fixed text when the hops are used up: only the text tells it from an answer.
#[tokio::test]
async fn line_03_an_exhausted_budget_is_an_error() {
    let report = Flow::new("f").then(repeat::<_, String, _>("turns", 4, endless())).run(0).await;
    let error = report.into_result().unwrap_err();
    assert_eq!(error.path, "f/turns");
    assert!(matches!(error.kind, ErrorKind::Hops(4)));

    let spends = step("spends", async |cx: Context, x: u32| {
        cx.spend("tokens", 60)?;
        Ok(x)
    });
    let report = Flow::new("f").then(each("all", 1, spends)).run(vec![1, 2]).budget("tokens", 100);
    let error = report.await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Budget { unit: "tokens", limit: 100, spent: 120 }));

    // An answer all the same is possible, where the code says so, and can be told from others by its type.
    let gives_up = repeat_or("turns", 4, endless(), Err::<String, u32>);
    let report = Flow::new("f").then(gives_up).run(0).await;
    assert_eq!(report.into_result().unwrap(), Err(4));
}

/// In Orchflow a branch that was cancelled becomes the output of a successful group: the next step is handed the
/// exception.
#[tokio::test]
async fn line_06_a_cancelled_branch_is_never_data() {
    let next = Count::default();
    let cancels_itself = step("cancelled", async |_cx: Context, x: u32| {
        let task = tokio::spawn(std::future::pending::<u32>());
        task.abort();
        Ok(x + task.await?)
    });
    let group = all("group", (pass("good"), cancels_itself));
    let flow = Flow::new("f").then(group).then(counted("next", &next));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert_eq!(error.path, "f/group/cancelled");
    assert_eq!(next.get(), 0);
}

/// The same for a branch that the engine cancels: it has no output, and is marked in trace and events.
#[tokio::test(start_paused = true)]
async fn line_06_a_cancelled_sibling_is_marked_as_such() {
    let group = all("group", (fails::<u32>("bad", 10), crate::probe::nap("slow", 1000)));
    let (report, events) = watched(Flow::new("f").then(group).run(1)).await;
    let slow: Vec<_> = report.attempts("f/group/slow").map(|a| a.outcome.clone()).collect();
    assert_eq!(slow, [agentflow_flow::Outcome::Cancelled]);
    assert!(events.iter().any(|e| e.path == "f/group/slow" && e.kind == Kind::StepCancelled));
    assert!(matches!(report.end, End::Failed(_)));
}

/// A predicate that raises escapes Orchflow's error handling: no failure event, and a checkpoint left "running".
#[tokio::test]
async fn line_08_a_predicate_that_panics_is_a_failure_like_any_other() {
    let choice = switch("choice")
        .when("never", |x: &u32| if *x > 0 { panic!("no such column") } else { false }, pass("a"))
        .otherwise(pass("b"));
    let store = MemoryStore::new();
    let flow = Flow::new("f").then(choice);
    let (report, events) = watched(flow.run(1).id(id("r")).store(Arc::new(store.clone()))).await;
    assert_eq!(report.error().unwrap().to_string(), "`f/choice`: panicked: no such column");
    let failed = |kind: &Kind| matches!(kind, Kind::StepFailed { .. });
    assert!(events.iter().any(|event| event.path == "f/choice" && failed(&event.kind)));
    assert_eq!(events.last().unwrap().kind, Kind::RunEnded(Ending::Failed));
    let records = store.load(&id("r")).await.unwrap();
    assert!(matches!(records.last(), Some(Record::Ended { how: Ending::Failed, .. })));
}

/// Orchflow leaves no trace of a decision.
#[tokio::test]
async fn line_08_a_choice_is_an_event_and_a_record() {
    let choice = switch("choice").when("small", |x: &u32| *x < 10, pass("a")).otherwise(pass("b"));
    let store = MemoryStore::new();
    let flow = Flow::new("f").then(choice);
    let (_, events) = watched(flow.run(1).id(id("r")).store(Arc::new(store.clone()))).await;
    let routed = |kind: &Kind| *kind == Kind::Routed("small".to_owned());
    assert!(events.iter().any(|event| event.path == "f/choice" && routed(&event.kind)));
    let records = store.load(&id("r")).await.unwrap();
    let routed =
        |record: &Record| matches!(record, Record::Routed { label, .. } if label == "small");
    assert!(records.iter().any(routed));
}

/// Microflow spins for ever on a handler that yields only progress.
#[tokio::test(start_paused = true)]
async fn line_19_every_loop_has_a_bound() {
    let calls = Count::default();
    let seen = calls.clone();
    let only_progress = step("handler", move |cx: Context, event: String| {
        cx.progress(seen.up());
        async move { Ok(Next::<String, u32>::Again(event)) }
    });
    let flow = Flow::new("f").then(repeat("events", 50, only_progress));
    let run = flow.run("start".to_owned()).deadline(SECOND);
    let error = run.await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Hops(50)));
    assert_eq!(calls.get(), 50);
}

/// The bound of an endless loop of steps that never wait can also be the deadline.
#[tokio::test]
async fn line_19_a_loop_that_never_waits_meets_the_deadline() {
    let flow = Flow::new("f").then(repeat::<_, u32, _>("loop", u32::MAX, endless()));
    let error = flow.run(0).deadline(SECOND / 100).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline));
}
