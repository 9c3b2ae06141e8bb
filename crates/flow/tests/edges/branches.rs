//! Branches that outlive what started them, and handles that outlive the run.

use std::collections::BTreeSet;
use std::time::Duration;

use agentflow_flow::{
    Context, End, Ending, ErrorKind, Event, Flow, Kind, Retry, StepError, all, blocking, each,
    node, step,
};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::probe::{Alive, SECOND, stuck, unbalanced, watched};

#[tokio::test(start_paused = true)]
async fn a_group_that_times_out_has_no_branch_left_when_it_is_tried_again() {
    let alive = Alive::default();
    let group = each("group", 200, stuck("a", &alive)).timeout(SECOND).retry(Retry::at_once(2));
    let (report, events) = watched(Flow::new("f").then(group).run((0..200).collect())).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(_)));
    assert_eq!((alive.now(), alive.most()), (0, 200));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(report.trace.len(), 402);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_group_has_no_branch_left_in_groups_inside_it() {
    let alive = Alive::default();
    let fails = step("fails", async |_cx: Context, _: Vec<u32>| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::fatal("no"))
    });
    let deep = each("inner", 200, all("pair", (stuck("a", &alive),)));
    let group = all("outer", (fails, all("middle", (deep,))));
    let (report, events) = watched(Flow::new("f").then(group).run((0..200).collect())).await;
    assert_eq!(report.error().unwrap().path, "f/outer/fails");
    assert_eq!((alive.now(), alive.most()), (0, 200));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_group_is_not_tried_again_beside_what_is_left_of_it() {
    let alive = Alive::default();
    let fails = step("fails", async |_cx: Context, _: Vec<u32>| {
        sleep(SECOND).await;
        Err::<u32, _>(StepError::failed("busy"))
    });
    let deep = each("inner", 200, all("pair", (stuck("a", &alive),)));
    let group = all("outer", (fails, deep)).retry(Retry::at_once(3));
    let report = Flow::new("f").then(group).run((0..200).collect()).await;
    assert_eq!(report.error().unwrap().path, "f/outer#3/fails");
    assert_eq!((alive.now(), alive.most()), (0, 200));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_no_branch() {
    let alive = Alive::default();
    let group = each("outer", 10, all("pair", (stuck("a", &alive), stuck("b", &alive))));
    let flow = Flow::new("f").then(group);
    let (report, events) = watched(flow.run((0..100).collect()).deadline(SECOND)).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!((alive.now(), alive.most()), (0, 20));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(unbalanced(&events), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_dropped_run_ends_when_its_last_branch_is_gone() {
    let alive = Alive::default();
    let flow = Flow::new("f").then(each("group", 100, all("pair", (stuck("a", &alive),))));
    let (events, report) = flow.run((0..100).collect()).events(10_000);
    assert!(tokio::time::timeout(SECOND, report).await.is_err());
    let events: Vec<Event> = events.collect().await;
    assert_eq!((alive.now(), alive.most()), (0, 100));
    assert_eq!(unbalanced(&events), BTreeSet::new());
    let last = &events.last().unwrap().kind;
    assert_eq!(*last, Kind::RunEnded(Ending::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_limit() {
    let item = step("a", async |_cx: Context, x: u32| Ok(x)).limit(usize::MAX);
    let flow = Flow::new("f").then(each("all", usize::MAX, item));
    let (events, report) = flow.run(vec![1, 2, 3]).budget("tokens", u64::MAX).events(usize::MAX);
    assert_eq!(report.await.into_result().unwrap(), [1, 2, 3]);
    assert_eq!(events.count().await, 2 + 2 + 6);
    let piped = flow.pipe(futures::stream::iter([vec![1], vec![2]]), usize::MAX);
    assert_eq!(piped.count().await, 2);
}

/// A blocking function cannot be stopped, and is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_step_is_told_that_it_is_over() {
    let (told, hears) = std::sync::mpsc::channel();
    let works = blocking("works", move |cx: &Context, x: u32| {
        while !cx.is_cancelled() {
            std::thread::yield_now();
        }
        told.send(()).unwrap();
        Ok(x)
    });
    let report = Flow::new("f").then(works.timeout(Duration::from_millis(5))).run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Timeout(_)));
    tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
}

/// Children of a node with a further policy around them keep their places.
#[tokio::test]
async fn a_node_around_a_node_is_a_place_of_its_own() {
    let inner = step("inner", async |_cx: Context, x: u32| Ok(x + 1));
    let report = Flow::new("f").then(node("outer", inner)).run(1).await;
    assert!(matches!(report.end, End::Done(2)));
    assert_eq!(report.attempts("f/outer/inner").count(), 1);
}
