//! Rows 14 to 17: how often, after how long and what is tried again, and what attempts see of each other.

use std::time::Duration;

use agentflow_flow::{
    Context, Decision, ErrorKind, Event, Flow, Kind, Next, Node, Outcome, Retry, RunId, StepError,
    all, approve, each, each_settled, node, repeat, settled, step, switch,
};
use tokio::time::Instant;

use crate::probe::{Log, fails, nap, pass, paths, secs, watched, with};

/// Says the number of each attempt, and fails before that of `heals`.
fn ill(log: &Log, name: &str, heals: u32) -> Node<u32, u32> {
    with(log, name, move |log: Log, cx: Context, x: u32| async move {
        log.say(format!("{} {}", cx.path().name(), cx.attempt()));
        if cx.attempt() < heals { Err(StepError::failed("still ill")) } else { Ok(x) }
    })
}

const NEVER: u32 = u32::MAX;

fn waits(events: &[Event]) -> Vec<Duration> {
    let waits = events.iter().filter_map(|event| match event.kind {
        Kind::RetryScheduled(wait) => Some(wait),
        _ => None,
    });
    waits.collect()
}

/// Row 14: retry: counting. `attempts` are all of them; the peers count the extra ones, or all.
#[tokio::test]
async fn attempts_count_the_first_one_too() {
    for (attempts, made) in [(0, 1), (1, 1), (3, 3)] {
        let log = Log::default();
        let flow = Flow::new("f").then(ill(&log, "a", NEVER).retry(Retry::at_once(attempts)));
        let report = flow.run(1).await;
        assert_eq!(log.len(), made, "attempts: {attempts}");
        assert_eq!(report.error().unwrap().attempts as usize, made);
        assert_eq!(report.trace.len(), made);
    }
}

/// Row 14: an attempt that is done is the last one; those before it stay in the trace.
#[tokio::test]
async fn a_step_that_heals_is_done() {
    let log = Log::default();
    let flow = Flow::new("f").then(ill(&log, "a", 3).retry(Retry::at_once(5)));
    let report = flow.run(1).await;
    assert_eq!(log.words(), ["a 1", "a 2", "a 3"]);
    let ill = || Outcome::Failed("still ill".to_owned());
    let outcomes: Vec<_> = report.attempts("f/a").map(|one| (one.attempt, &one.outcome)).collect();
    assert_eq!(outcomes, [(1, &ill()), (2, &ill()), (3, &Outcome::Done)]);
    assert_eq!(report.into_result().unwrap(), 1);
}

/// Row 14: without a policy there is one attempt.
#[tokio::test]
async fn nothing_is_tried_again_that_nobody_said_so_of() {
    let log = Log::default();
    let error = Flow::new("f").then(ill(&log, "a", 2)).run(1).await.into_result().unwrap_err();
    assert_eq!((log.words(), error.attempts), (vec!["a 1".to_owned()], 1));
    assert_eq!(error.to_string(), "`f/a`: still ill");
}

/// Row 14: how it failed for good says how often it was tried.
#[tokio::test]
async fn the_error_says_after_how_many_attempts() {
    let flow = Flow::new("f").then(fails::<u32>("a", 0).retry(Retry::at_once(4)));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/a`, 4 attempts: a is broken");
}

/// Row 14: what the node says counts, not what the flow says; wherever the flow's own is written.
#[tokio::test]
async fn a_node_says_it_over_the_flow() {
    let log = Log::default();
    let branches = (
        settled("x", ill(&log, "own", NEVER).retry(Retry::at_once(3))),
        settled("y", ill(&log, "none", NEVER).retry(Retry::never())),
        settled("z", ill(&log, "flow", NEVER)),
    );
    let report = Flow::new("f").retry(Retry::at_once(2)).then(all("g", branches)).run(1).await;
    let made = |path| report.attempts(path).count();
    assert_eq!([made("f/g/x/own"), made("f/g/y/none"), made("f/g/z/flow")], [3, 1, 2]);
}

/// Row 14: the flow's policy holds for steps inside of groups, maps, loops and arms, and in child flows.
#[tokio::test]
async fn steps_inside_inherit_the_policy_of_the_flow() {
    let log = Log::default();
    let done = step("done", async |_cx: Context, x: u32| Ok(Next::Done(x)));
    let call = {
        let child = Flow::new("child").then(ill(&log, "called", 2));
        step("call", move |cx: Context, x: u32| {
            let child = child.clone();
            async move { cx.call("child", &child, x).await }
        })
    };
    let flow = Flow::new("f")
        .then(all("g", (ill(&log, "branch", 2),)))
        .then(step("list", async |_cx: Context, (x,): (u32,)| Ok(vec![x])))
        .then(each("m", 2, ill(&log, "item", 2)))
        .then(step("sum", async |_cx: Context, list: Vec<u32>| Ok(list.iter().sum::<u32>())))
        .then(repeat("loop", 2, Flow::new("hop").then(ill(&log, "hop", 2)).then(done)))
        .then(switch("s").otherwise(ill(&log, "arm", 2)))
        .then(Flow::new("child").then(ill(&log, "known", 2)))
        .then(call)
        .retry(Retry::at_once(2));
    assert_eq!(flow.run(7).await.into_result().unwrap(), 7);
    let said: Vec<_> = ["branch", "item", "hop", "arm", "known", "called"]
        .iter()
        .flat_map(|name| [format!("{name} 1"), format!("{name} 2")])
        .collect();
    assert_eq!(log.words(), said);
}

/// Row 14: a child flow that says something itself keeps it.
#[tokio::test]
async fn a_child_flow_has_its_own_policy_if_it_says_so() {
    let log = Log::default();
    let child = Flow::new("child").then(ill(&log, "a", NEVER)).retry(Retry::never());
    let flow = Flow::new("f").then(child).retry(Retry::at_once(5));
    assert!(flow.run(1).await.into_result().is_err());
    assert_eq!(log.words(), ["a 1"]);
}

/// Row 14: attempts do not multiply: of the flow's policy, the step that failed is tried again, and not what is around it.
#[tokio::test]
async fn a_group_does_not_inherit_the_policy() {
    let log = Log::default();
    let flow = Flow::new("f")
        .then(all("out", (all("in", (ill(&log, "a", NEVER),)),)))
        .retry(Retry::at_once(3));
    assert!(flow.run(1).await.into_result().is_err());
    assert_eq!(log.words(), ["a 1", "a 2", "a 3"]);
}

/// Row 14: a group with a policy of its own is tried again as a whole, under paths that tell its attempts apart.
#[tokio::test]
async fn a_group_that_says_so_is_tried_again_as_a_whole() {
    let heals = step("b", async |cx: Context, x: u32| {
        // Its own first attempt in either attempt of the group.
        match cx.path().to_string().contains("#2") {
            true => Ok((x, cx.attempt())),
            false => Err(StepError::failed("once")),
        }
    });
    let group = node("g", Flow::new("body").then(pass("a")).then(heals));
    let report = Flow::new("f").then(group.retry(Retry::at_once(2))).run(1).await;
    assert_eq!(paths(&report), ["f/g/a", "f/g/b", "f/g", "f/g#2/a", "f/g#2/b", "f/g"]);
    assert_eq!(report.into_result().unwrap(), (1, 1));
}

fn exact(attempts: u32) -> Retry {
    Retry { attempts, first: secs(1), factor: 2.0, cap: secs(5), jitter: false, ..Retry::default() }
}

/// Row 15: retry: delay.
#[tokio::test(start_paused = true)]
async fn waits_grow_up_to_the_cap() {
    let flow = Flow::new("f").then(fails::<u32>("a", 0).retry(exact(6)));
    let (report, events) = watched(flow.run(1)).await;
    assert_eq!(waits(&events), [secs(1), secs(2), secs(4), secs(5), secs(5)]);
    let first = report.trace[0].started;
    let started: Vec<_> =
        report.trace.iter().map(|one| one.started.duration_since(first).unwrap()).collect();
    assert_eq!(started, [0, 1, 3, 7, 12, 17].map(secs));
    assert_eq!(report.took, secs(17));
}

/// Row 15: what a factor can be. None of them panics or waits longer than the cap.
#[tokio::test(start_paused = true)]
async fn odd_factors_end_up_at_zero_or_at_the_cap() {
    let (zero, second, cap) = (secs(0), secs(1), secs(5));
    for (factor, expected) in [
        (1.0, [second, second, second]),
        (0.0, [second, zero, zero]),
        (-1.0, [second, zero, second]),
        (f64::INFINITY, [second, cap, cap]),
        (f64::NAN, [second, cap, cap]),
    ] {
        let retry = Retry { factor, ..exact(4) };
        let flow = Flow::new("f").then(fails::<u32>("a", 0).retry(retry));
        let (_, events) = watched(flow.run(1)).await;
        assert_eq!(waits(&events), expected, "factor {factor}");
    }
}

/// Row 15: the longest waits there are can be asked for, and the deadline still ends them.
#[tokio::test(start_paused = true)]
async fn a_wait_of_for_ever_is_no_panic() {
    let retry = Retry { first: Duration::MAX, cap: Duration::MAX, ..exact(2) };
    let flow = Flow::new("f").then(fails::<u32>("a", 0).retry(retry));
    let error = flow.run(1).deadline(secs(60)).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline), "{error}");
}

async fn jittered(run: &str) -> Vec<Duration> {
    let retry = Retry { jitter: true, ..exact(6) };
    let flow = Flow::new("f").then(fails::<u32>("a", 0).retry(retry));
    waits(&watched(flow.run(1).id(RunId::new(run).unwrap())).await.1)
}

/// Row 15: jitter shortens a wait by up to half.
#[tokio::test(start_paused = true)]
async fn jitter_keeps_between_half_of_a_wait_and_all_of_it() {
    let whole = [1, 2, 4, 5, 5].map(secs);
    let mut all = Vec::new();
    for run in 0..50 {
        let waits = jittered(&format!("run-{run}")).await;
        for (wait, whole) in waits.iter().zip(whole) {
            assert!((whole / 2..=whole).contains(wait), "{wait:?} of {whole:?}");
            all.push(wait.div_duration_f64(whole));
        }
    }
    let (least, most) =
        (all.iter().copied().fold(1.0, f64::min), all.iter().copied().fold(0.0, f64::max));
    assert!(least < 0.55 && most > 0.95, "250 shares of the wait are between {least} and {most}");
}

/// Row 15: the same run waits the same; runs that failed together do not come back together.
#[tokio::test(start_paused = true)]
async fn jitter_is_decided_by_the_run() {
    assert_eq!(jittered("one").await, jittered("one").await);
    assert_ne!(jittered("one").await, jittered("two").await);
}

/// Row 15: branches that failed together do not come back together, either.
#[tokio::test(start_paused = true)]
async fn jitter_is_another_in_each_branch() {
    let retry = Retry { jitter: true, ..exact(2) };
    let flow = Flow::new("f").then(each_settled("m", 8, fails::<u32>("a", 0).retry(retry)));
    let mut waits = waits(&watched(flow.run(vec![0; 8])).await.1);
    waits.sort();
    waits.dedup();
    assert_eq!(waits.len(), 8);
}

/// Row 15: what a server says it wants is the least, also beyond the cap.
#[tokio::test(start_paused = true)]
async fn an_error_can_ask_for_a_longer_wait() {
    let busy = step("busy", async |cx: Context, (): ()| -> Result<(), StepError> {
        let asked = [secs(60), secs(1), secs(0)][cx.attempt() as usize - 1];
        Err(StepError::failed("busy").retry_after(asked))
    });
    let (_, events) = watched(Flow::new("f").then(busy.retry(exact(3))).run(())).await;
    assert_eq!(waits(&events), [secs(60), secs(2)]);
}

/// Row 15: in PenguiFlow a node that waits serves nobody else. Here the other items go on.
#[tokio::test(start_paused = true)]
async fn waiting_holds_nobody_up() {
    let item = step("item", async |cx: Context, x: u32| match (x, cx.attempt()) {
        (0, 1) => Err(StepError::failed("later")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(each("m", 4, item.retry(exact(2))));
    let report = flow.run(vec![0, 1, 2, 3]).await;
    let ended = ["f/m[0]/item", "f/m[1]/item", "f/m[2]/item", "f/m[3]/item", "f/m[0]/item", "f/m"];
    assert_eq!(paths(&report), ended);
    assert_eq!(report.took, secs(1));
}

/// Row 16: retry: which errors. All that can heal, unless `when` says otherwise.
#[tokio::test]
async fn when_chooses_among_errors_that_can_heal() {
    let when = |error: &StepError| error.to_string().contains("busy");
    let retry = Retry { when, ..Retry::at_once(5) };
    let step = step("a", async |cx: Context, (): ()| -> Result<(), StepError> {
        Err(StepError::failed(if cx.attempt() < 3 { "busy" } else { "gone" }))
    });
    let error = Flow::new("f").then(step.retry(retry)).run(()).await.into_result().unwrap_err();
    assert_eq!((error.attempts, error.kind.to_string().as_str()), (3, "gone"));
}

/// Row 16: any error type becomes one that can heal, by `?`.
#[tokio::test]
async fn an_error_of_any_type_is_tried_again() {
    let parse = step("parse", async |_cx: Context, text: String| Ok(text.parse::<u32>()?));
    let flow = Flow::new("f").then(parse.retry(Retry::at_once(2)));
    let error = flow.run("x".to_owned()).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/parse`, 2 attempts: invalid digit found in string");
}

/// Row 16: Orchflow and PenguiFlow try again what cannot heal: a failed validation three times. Ours does not, whatever
/// `when` says.
#[tokio::test]
async fn what_cannot_heal_is_never_tried_again() {
    let no = async |_request: String| Ok(Decision::no());
    let ask = || approve("gate", |_: &u32| "may I?".to_owned());
    let fatal = step("fatal", async |_cx: Context, _: u32| Err(StepError::fatal("no")));
    let invalid = step("invalid", async |_cx: Context, _: u32| Err(StepError::invalid("no")));
    let checked = pass("checked").check(|x: &u32| match x {
        0 => Ok(()),
        x => Err(StepError::invalid(format!("{x} is not 0"))),
    });
    let panics =
        step("panics", async |_cx: Context, x: u32| if x > 0 { panic!("no") } else { Ok(x) });
    let no_route = switch("no_route").when("none", |_: &u32| false, pass("none")).strict();
    let hops = repeat("hops", 1, step("hop", async |_cx: Context, x: u32| Ok(Next::Again(x))));
    let spends = step("spends", async |cx: Context, x: u32| cx.spend("tokens", 11).map(|()| x));
    let nodes = [
        ("fatal", fatal),
        ("invalid", invalid),
        ("invalid", checked),
        ("panicked", panics),
        ("no_route", no_route),
        ("denied", ask()),
        ("hops", hops),
        ("budget", spends),
        ("denied", node("around", Flow::new("in").then(ask()))),
    ];
    for (kind, node) in nodes {
        let path = format!("f/{}", node.name());
        let flow = Flow::new("f").then(node.retry(Retry::at_once(3))).retry(Retry::at_once(3));
        let report = flow.run(1).answer(no).budget("tokens", 10).await;
        assert_eq!(report.attempts(&path).count(), 1, "{kind}");
        assert_eq!(report.error().unwrap().kind.name(), kind);
    }
}

/// Row 16: approval is asked once, before the attempts.
#[tokio::test]
async fn a_gate_asks_once_whatever_is_tried_again_behind_it() {
    let (log, asked) = (Log::default(), Log::default());
    let hears = asked.clone();
    let yes = move |request: String| {
        hears.say(request);
        async { Ok(Decision::yes()) }
    };
    let flow = Flow::new("f")
        .then(approve("gate", |x: &u32| format!("pay {x}?")))
        .then(ill(&log, "pay", 3))
        .retry(Retry::at_once(5));
    assert_eq!(flow.run(7).answer(yes).await.into_result().unwrap(), 7);
    assert_eq!(log.len(), 3);
    assert_eq!(asked.words(), ["pay 7?"]);
}

/// Row 16: `when` is code of the user, and inside of the error boundary like all of it.
#[tokio::test]
async fn a_when_that_panics_fails_the_run() {
    let retry = Retry { when: |_| panic!("what now"), ..Retry::at_once(3) };
    let log = Log::default();
    let flow = Flow::new("f").then(all("g", (ill(&log, "a", 2).retry(retry), nap("b", 9))));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Panicked(text) if text == "what now"));
    assert_eq!(log.len(), 1);
}

/// Row 17: state across attempts. What a failed attempt did to the value is gone.
#[tokio::test]
async fn each_attempt_has_its_own_copy_of_the_input() {
    let push = step("push", async |cx: Context, mut list: Vec<u32>| {
        list.push(cx.attempt());
        if cx.attempt() < 3 { Err(StepError::failed("half done")) } else { Ok(list) }
    });
    let flow = Flow::new("f").then(push.retry(Retry::at_once(3)));
    assert_eq!(flow.run(vec![0]).await.into_result().unwrap(), [0, 3]);
}

/// Row 17: nor does a group that is tried again see what its steps had come to.
#[tokio::test]
async fn each_attempt_of_a_group_begins_with_the_same_value() {
    let add = step("add", async |_cx: Context, x: u32| Ok(x + 1));
    let fail = step("fail", async |cx: Context, x: u32| match cx.path().to_string().as_str() {
        "f/g#3/fail" => Ok(x),
        _ => Err(StepError::failed("again")),
    });
    let group = node("g", Flow::new("body").then(add).then(fail)).retry(Retry::at_once(3));
    assert_eq!(Flow::new("f").then(group).run(1).await.into_result().unwrap(), 2);
}

/// Row 17: the trace shows that every attempt was given the same.
#[tokio::test(start_paused = true)]
async fn the_trace_says_what_each_attempt_was_given() {
    let log = Log::default();
    let flow = Flow::new("f").then(ill(&log, "a", 3).retry(exact(3)));
    let started = Instant::now();
    let report = flow.run(7).trace_inputs().await;
    let given: Vec<_> = report.attempts("f/a").map(|one| one.input.clone().unwrap()).collect();
    assert_eq!(given, [7, 7, 7]);
    assert_eq!(started.elapsed(), secs(3));
}
