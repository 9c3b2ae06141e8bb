//! Time, attempts and room: 4, 5, 16, 17.

use std::sync::Arc;
use std::time::Duration;

use agentflow_flow::{
    Context, Decision, ErrorKind, Event, Flow, Kind, Next, Retry, StepError, all, approve, each,
    repeat, step,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::probe::{Count, SECOND, counted, fails, in_an_hour, nap, pass, watched};

const TENTH: Duration = Duration::from_millis(100);

/// PenguiFlow notices a deadline of 0.1 s after 1.0 s, when the controller has returned.
#[tokio::test(start_paused = true)]
async fn line_04_a_deadline_bites_while_a_step_runs() {
    let next = Count::default();
    let begun = Instant::now();
    let flow = Flow::new("f").then(nap("slow", 1000)).then(counted("next", &next));
    let report = flow.run(1).deadline(TENTH).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline));
    assert_eq!(begun.elapsed(), TENTH);
    assert_eq!(next.get(), 0);
}

/// The same inside branches, loops, children, and the wait for another attempt.
#[tokio::test(start_paused = true)]
async fn line_04_a_deadline_is_inherited() {
    let child = Flow::new("child").then(nap::<u32>("slow", 1000));
    let called = step("calls", move |cx: Context, x: u32| {
        let child = child.clone();
        async move {
            assert_eq!(cx.remaining(), Some(TENTH));
            cx.call("child", &child, x).await
        }
    });
    let slow_turn = step("turn", async |_cx: Context, x: u32| {
        tokio::time::sleep(SECOND).await;
        Ok(Next::<u32, u32>::Again(x))
    });
    let waits = step("waits", async |_cx: Context, _: u32| {
        Err::<u32, _>(StepError::failed("busy").retry_after(SECOND))
    });
    let waits = waits.retry(Retry::at_once(9));
    let branches = Flow::new("branches")
        .then(all("both", (nap::<u32>("a", 1000), nap::<u32>("b", 2000))))
        .then(step("sum", async |_cx: Context, (a, b): (u32, u32)| Ok(a + b)));
    let flows = [
        Flow::new("child").then(called),
        branches,
        Flow::new("loop").then(repeat("loop", 9, slow_turn)),
        Flow::new("wait").then(waits),
    ];
    for flow in flows {
        let begun = Instant::now();
        let report = flow.run(1).deadline(TENTH).await;
        assert!(matches!(report.error().unwrap().kind, ErrorKind::Deadline), "{}", flow.name());
        assert_eq!(begun.elapsed(), TENTH, "{}", flow.name());
    }
}

/// After an instant failure, Orchflow lets a sibling run to its end for 1.0 s; PenguiFlow's `map_concurrent` raises and
/// leaves 9 of 9 running.
#[tokio::test(start_paused = true)]
async fn line_05_fail_fast_and_clean_up() {
    let alive = Count::default();
    let lives = alive.clone();
    let item = step("item", move |_cx: Context, x: u32| {
        let one = lives.alive();
        async move {
            let _one = one;
            tokio::time::sleep(TENTH * x).await;
            if x == 1 { Err(StepError::fatal("first")) } else { Ok(x) }
        }
    });
    let begun = Instant::now();
    let report = Flow::new("f").then(each("ten", 10, item)).run((1..=10).collect()).await;
    assert_eq!(report.error().unwrap().path, "f/ten[0]/item");
    assert_eq!(begun.elapsed(), TENTH);
    assert_eq!(alive.get(), 0, "branches are still running");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// Orchflow reports the failure that was declared first, though another came before it.
#[tokio::test(start_paused = true)]
async fn line_05_the_first_failure_in_time_is_the_one_reported() {
    let group =
        all("group", (fails::<u32>("declared first", 20), fails::<u32>("failed first", 10)));
    let error = Flow::new("f").then(group).run(1).await.into_result().unwrap_err();
    assert_eq!(error.path, "f/group/failed first");
}

/// Orchflow computes an output three times that fails its validation each time.
#[tokio::test(start_paused = true)]
async fn line_16_what_cannot_heal_is_not_tried_again() {
    let calls = Count::default();
    let retry = || Retry::attempts(3);
    let wrong = counted::<u32>("wrong", &calls).check(|_| Err(StepError::invalid("too small")));
    let report = Flow::new("f").then(wrong.retry(retry())).run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Invalid(_)));
    assert_eq!(calls.get(), 1);

    let (calls, seen) = (Count::default(), Count::default());
    let asked = seen.clone();
    let gate = approve("gate", |x: &u32| *x).retry(retry());
    let run = Flow::new("f").then(gate).then(counted("next", &calls)).run(1);
    let report = run
        .answer(move |_: u32| {
            asked.up();
            async { Ok(Decision::no()) }
        })
        .await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Denied(_)));
    assert_eq!((seen.get(), calls.get()), (1, 0));

    let calls = Count::default();
    let seen = calls.clone();
    let panics = step("panics", move |_cx: Context, _: u32| {
        seen.up();
        async { if true { panic!("bug") } else { Ok(1_u32) } }
    });
    let report = Flow::new("f").then(panics.retry(retry())).run(1).await;
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Panicked(_)));
    assert_eq!(calls.get(), 1);
}

fn waits(events: &[Event]) -> Vec<Duration> {
    let wait = |event: &Event| match event.kind {
        Kind::RetryScheduled(wait) => Some(wait),
        _ => None,
    };
    events.iter().filter_map(wait).collect()
}

/// Orchflow has neither cap nor jitter, StepFlow only a fixed delay: those that failed together come back together.
#[tokio::test(start_paused = true)]
async fn line_16_waits_have_a_cap_and_jitter_by_default() {
    let broken =
        step("broken", async |_cx: Context, _: u32| Err::<u32, _>(StepError::failed("busy")));
    let flow = Flow::new("f").then(broken.retry(Retry::attempts(12)));
    let begun = Instant::now();
    let (_, events) = watched(flow.run(1)).await;
    let first = waits(&events);
    assert!(begun.elapsed() >= first.iter().sum());
    let full = (0..11).map(|n| Duration::from_millis(200 * (1 << n)).min(30 * SECOND));
    for (wait, full) in first.iter().zip(full) {
        assert!((full / 2..=full).contains(wait), "{wait:?} of {full:?}");
    }
    let (_, events) = watched(flow.run(1)).await;
    assert_ne!(first, waits(&events), "two runs come back together");
}

/// A PenguiFlow node serves no other message while it waits for its next attempt.
#[tokio::test(start_paused = true)]
async fn line_16_waiting_holds_nobody_up() {
    let node = step("node", async |cx: Context, busy: bool| {
        if busy && cx.attempt() == 1 { Err(StepError::failed("busy")) } else { Ok(cx.attempt()) }
    });
    let retry = Retry { first: 3600 * SECOND, cap: 3600 * SECOND, ..Retry::attempts(2) };
    let flow = Flow::new("f").then(node.limit(1).retry(retry));
    let begun = Instant::now();
    let waits = tokio::spawn(flow.run(true).into_future());
    tokio::task::yield_now().await;
    assert_eq!(flow.run(false).await.into_result().unwrap(), 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(waits.await.unwrap().into_result().unwrap(), 2);
}

/// A PenguiFlow node that emits more to itself than its queue of 64 holds stops for ever.
#[tokio::test(start_paused = true)]
async fn line_17_a_node_may_give_itself_any_amount_of_work() {
    let work = step("work", async |_cx: Context, mut queue: Vec<u32>| {
        let Some(depth) = queue.pop() else { return Ok(Next::Done(())) };
        if depth > 0 {
            queue.extend(std::iter::repeat_n(depth - 1, 300));
        }
        Ok(Next::Again(queue))
    });
    let flow = Flow::new("f").then(repeat("loop", 1000, work));
    in_an_hour(flow.run(vec![1])).await.into_result().unwrap();
}

/// A group in a group needs no more room than there is, whatever the limits are.
#[tokio::test(start_paused = true)]
async fn line_17_limits_inside_limits_do_not_wait_for_each_other() {
    let limited = nap::<u32>("limited", 1).limit(1);
    let nested = each("outer", 4, each("inner", 4, limited).limit(1));
    let report = in_an_hour(Flow::new("f").then(nested).run(vec![vec![1; 20]; 20])).await;
    assert_eq!(report.into_result().unwrap(), vec![vec![1; 20]; 20]);
}

/// In PenguiFlow, emitting before the start is accepted, and blocks for ever once the queue is full.
#[tokio::test(start_paused = true)]
async fn line_17_there_is_no_before_the_start() {
    let pulled = Arc::new(Count::default());
    let seen = pulled.clone();
    let inputs = futures::stream::iter(0..1000_u32).inspect(move |_| {
        seen.up();
    });
    let flow = Flow::new("f").then(pass("a"));
    let outputs = flow.pipe(inputs, 8);
    tokio::task::yield_now().await;
    assert_eq!(pulled.get(), 0, "nobody asked yet");
    assert_eq!(in_an_hour(outputs.count()).await, 1000);
}

/// A flow that feeds its own stream: what a cycle of PenguiFlow queues cannot do beyond their size.
#[tokio::test(start_paused = true)]
async fn line_17_a_stream_may_feed_itself() {
    let (send, receive) = futures::channel::mpsc::unbounded();
    send.unbounded_send(0_u32).unwrap();
    let flow = Flow::new("f").then(pass::<u32>("a"));
    let mut outputs = Box::pin(flow.pipe(receive, 2));
    let mut send = Some(send);
    let mut seen = 0_u32;
    let all = async {
        while let Some((_, report)) = outputs.next().await {
            report.into_result().unwrap();
            seen += 1;
            match &send {
                Some(_) if seen >= 500 => send = None,
                Some(send) => (0..2).for_each(|_| send.unbounded_send(seen).unwrap()),
                None => {}
            }
        }
    };
    in_an_hour(all).await;
    assert_eq!(seen, 999);
}
