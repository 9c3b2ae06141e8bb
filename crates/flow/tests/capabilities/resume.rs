//! Row 38: resume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentflow_flow::{
    Context, Data, Decision, ErrorKind, Flow, MemoryStore, Next, Retry, Settled, StepError, Store,
    Volatile, all, approve, each, each_settled, first_k, repeat, step, switch,
};

use super::journals::{Ran, id, memory, records, said};

/// Row 38: resume. What was finished is not done again, inside groups and below.
#[tokio::test]
async fn a_resume_goes_on_inside_groups() {
    let ran = Ran::default();
    let child =
        Flow::new("child").then(ran.add("c", 1)).then(ran.fails_once("d")).then(ran.add("e", 1));
    let sum = step("sum", async |_cx: Context, (b, child): (u32, u32)| Ok(b + child));
    let flow =
        Flow::new("f").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), child))).then(sum);
    let store = memory();

    let failed = flow.run(0).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/g/child/d");
    assert_eq!(ran.take(), ["f/a", "f/g/b", "f/g/child/c", "f/g/child/d"]);
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(ran.take(), ["f/g/child/d", "f/g/child/e"]);
    assert_eq!(resumed.into_result().unwrap(), 5);
}

/// Row 38: resume. Of a long list, only the items run that are missing.
#[tokio::test]
async fn a_resume_runs_only_the_missing_items() {
    let ran = Ran::default();
    let grade = ran.step("grade", |cx, x: u32| match x % 100 {
        7 if cx.attempt() == 1 => Err(StepError::failed("no")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(each("e", 1, grade));
    let store = memory();
    let items: Vec<u32> = (0..1_000).collect();

    let mut report = flow.run(items.clone()).store(store.clone()).await;
    let mut ran_in_all = ran.take().len();
    for start in 0..10 {
        assert_eq!(
            report.error().unwrap().path.to_string(),
            format!("f/e[{}]/grade", 100 * start + 7)
        );
        report = flow.resume(store.clone(), report.run.clone()).await;
        let now = ran.take();
        assert_eq!(now[0], format!("f/e[{}]/grade", 100 * start + 7));
        ran_in_all += now.len();
    }
    assert_eq!(ran_in_all, 1_000 + 10);
    assert_eq!(report.into_result().unwrap(), items);
}

/// Row 38: resume. A loop goes on in the hop in which it stopped, with the state of that hop.
#[tokio::test]
async fn a_resume_goes_on_inside_loops() {
    let ran = Ran::default();
    let more =
        ran.step("more", |_, x: u32| Ok(if x < 8 { Next::Again(2 * x) } else { Next::Done(x) }));
    let stumbles = ran.step("stumbles", |cx, x: u32| match (x, cx.attempt()) {
        (4, 1) => Err(StepError::failed("no")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(repeat("r", 9, Flow::new("hop").then(stumbles).then(more)));
    let store = memory();

    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/r[2]/hop/stumbles");
    ran.take();
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(
        ran.take(),
        ["f/r[2]/hop/stumbles", "f/r[2]/hop/more", "f/r[3]/hop/stumbles", "f/r[3]/hop/more"]
    );
    let earlier = resumed.attempts("f/r[1]/hop/more").next().unwrap();
    let hop = earlier.path.parent().unwrap().parent().unwrap();
    assert!(earlier.earlier);
    assert_eq!((hop.name(), hop.index()), ("r", Some(1)));
    assert_eq!(resumed.into_result().unwrap(), 8);
}

/// Row 38: resume. A group in its second attempt goes on in its second attempt.
#[tokio::test]
async fn a_resume_goes_on_inside_a_second_attempt() {
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, x: u32| match cx.path().to_string().as_str() {
        "f/g#2/fails" if cx.attempt() == 2 => Ok(x),
        _ => Err(StepError::failed("no")),
    });
    let flow = Flow::new("f").then(all("g", (ran.add("a", 1), fails)).retry(Retry::at_once(2)));
    let store = memory();

    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(failed.error().unwrap().path, "f/g#2/fails");
    assert_eq!(ran.take(), ["f/g/a", "f/g/fails", "f/g#2/a", "f/g#2/fails"]);
    let resumed = flow.resume(store, failed.run).await;

    assert_eq!(ran.take(), ["f/g#2/fails"]);
    let earlier = resumed.attempts("f/g#2/a").next().unwrap();
    assert_eq!((earlier.path.name(), earlier.path.parent().unwrap().name()), ("a", "g"));
    assert_eq!(resumed.into_result().unwrap(), (2, 1));
}

/// Row 38: resume. A choice stays as it was made, whatever the test says today.
#[tokio::test]
async fn a_resume_goes_the_same_way() {
    let ran = Ran::default();
    let open = Arc::new(AtomicU32::new(1));
    let flag = open.clone();
    let flow = Flow::new("f").then(
        switch("s")
            .when("open", move |_| flag.load(Ordering::SeqCst) == 1, ran.fails_once("a"))
            .otherwise(ran.add("b", 1)),
    );
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    assert_eq!(ran.take(), ["f/s/open/a"]);
    open.store(0, Ordering::SeqCst);
    let resumed = flow.resume(store, failed.run).await;
    assert_eq!(ran.take(), ["f/s/open/a"]);
    assert_eq!(resumed.into_result().unwrap(), 1);
    assert_eq!(flow.run(1).await.into_result().unwrap(), 2);
}

/// Row 38: resume. A failure that was settled stays settled: luck is not tried twice.
#[tokio::test]
async fn a_settled_failure_stays_settled() {
    let ran = Ran::default();
    let later = ran.step("later", |cx, graded: Vec<Settled<u32>>| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(graded),
    });
    let flow = Flow::new("f").then(each_settled("e", 1, ran.fails_once("grade"))).then(later);
    let store = memory();
    let failed = flow.run(vec![1, 2]).store(store.clone()).await;
    ran.take();
    let graded = flow.resume(store, failed.run).await.into_result().unwrap();
    assert_eq!(ran.take(), ["f/later"]);
    assert_eq!(graded[1].as_ref().unwrap_err().to_string(), "`f/e[1]/grade`: no");
}

/// Row 38: resume. Which ones came first cannot be found out again, so it is kept.
#[tokio::test]
async fn the_first_stay_the_first() {
    let ran = Ran::default();
    let race = step("race", async |cx: Context, slow: u32| {
        let turns = if cx.get::<MemoryStore>().is_some() { 10 - slow } else { slow };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        Ok(slow)
    });
    let fails = ran.step("fails", |cx, first: Vec<u32>| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(first),
    });
    let flow = Flow::new("f").then(first_k("k", 1, race)).then(fails);
    let store = memory();
    let failed = flow.run(vec![9, 1, 5]).store(store.clone()).await;
    let resumed = flow.resume(store, failed.run).provide(memory()).await;
    assert_eq!(resumed.into_result().unwrap(), [1]);
}

/// Row 38: resume. A run that is done gives its output again, and runs nothing.
#[tokio::test]
async fn a_done_run_gives_its_output_again() {
    let ran = Ran::default();
    let list = ran.step("list", |_, x: u32| Ok(vec![x, x]));
    let list = Flow::new("list").then(list).then(each("e", 2, ran.add("x", 1)));
    let flow = Flow::new("f").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), list)));
    let store = memory();
    let first = flow.run(0).store(store.clone()).await;
    let run = first.run.clone();
    let output = first.into_result().unwrap();
    assert_eq!(output, (2, vec![2, 2]));
    ran.take();
    for _ in 0..2 {
        let again = flow.resume(store.clone(), run.clone()).await;
        assert_eq!(again.into_result().unwrap(), output);
    }
    assert_eq!(ran.take(), Vec::<String>::new());
}

/// Row 38: resume. A run that failed has all its attempts anew; their numbers go on.
#[tokio::test]
async fn a_failed_run_gets_fresh_attempts() {
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, _: u32| -> Result<u32, StepError> {
        Err(StepError::failed(cx.attempt().to_string()))
    });
    let flow = Flow::new("f").then(fails.retry(Retry::at_once(3)));
    let store = memory();
    let mut report = flow.run(1).store(store.clone()).await;
    for last in [3, 6, 9] {
        assert_eq!(
            report.error().unwrap().to_string(),
            format!("`f/fails`, {last} attempts: {last}")
        );
        assert_eq!(ran.take().len(), 3);
        report = flow.resume(store.clone(), report.run.clone()).await;
    }
    assert_eq!(report.trace.len(), 12);
}

/// Row 38: resume. A run that was cut off between two attempts has those left that it had.
#[tokio::test(start_paused = true)]
async fn a_cut_off_run_has_the_attempts_that_were_left() {
    let ran = Ran::default();
    let fails =
        ran.step("fails", |_, _: u32| -> Result<u32, StepError> { Err(StepError::failed("no")) });
    let slowly = Retry { first: Duration::from_secs(60), ..Retry::attempts(3) };
    let flow = Flow::new("f").then(fails.retry(slowly));
    let store = memory();
    let run = flow.run(1).id(id("mine")).store(store.clone()).into_future();
    assert!(tokio::time::timeout(Duration::from_secs(1), run).await.is_err());
    assert_eq!(ran.take().len(), 1);

    let error = flow.resume(store, id("mine")).await.into_result().unwrap_err();

    assert_eq!((ran.take().len(), error.attempts), (2, 3));
}

/// Row 38: resume. A handle cannot be read back: what made it runs again, and what was made with it does not.
#[tokio::test]
async fn what_is_volatile_is_made_again() {
    let ran = Ran::default();
    let open = ran.step("open", |_, name: String| Ok((Volatile::new(name.clone()), name)));
    let read =
        ran.step("read", |_, (handle, _): (Volatile<String>, String)| Ok(handle.len() as u32));
    let flow = Flow::new("f").then(open).then(read).then(ran.fails_once("fails"));
    let store = memory();
    let failed = flow.run("file".to_owned()).store(store.clone()).await;
    ran.take();
    let held = records(&store, &failed.run).await;
    assert_eq!(held[..2], [r#"started f on "file""#, "f/read #1 gave 4"]);
    assert_eq!(flow.resume(store, failed.run).await.into_result().unwrap(), 4);
    assert_eq!(ran.take(), ["f/open", "f/fails"]);
}

/// Row 38: resume. What is not recorded runs again.
#[tokio::test]
async fn what_is_not_recorded_runs_again() {
    let ran = Ran::default();
    let flow = Flow::new("f").then(ran.add("cheap", 1).unrecorded()).then(ran.fails_once("fails"));
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    ran.take();
    assert_eq!(flow.resume(store, failed.run).await.into_result().unwrap(), 2);
    assert_eq!(ran.take(), ["f/cheap", "f/fails"]);
}

/// Row 38: resume. Values come back as they were: tuples, maps with numbers for keys, enums, every bit of a number.
#[tokio::test]
async fn values_come_back_as_they_were() {
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Line((i8, i8), Option<u64>),
    }
    type All = ((u8, String), BTreeMap<i32, Vec<Shape>>, [f64; 4], Option<()>, char, u128);
    let make = step("make", async |_cx: Context, _: u32| -> Result<All, StepError> {
        let shapes = vec![
            Shape::Point,
            Shape::Circle { radius: 0.1 + 0.2 },
            Shape::Line((-1, 2), Some(u64::MAX)),
        ];
        let numbers = [f64::MIN_POSITIVE, -0.0, 1e300, 1.0 / 3.0];
        Ok((
            (7, "ü\"\n".into()),
            BTreeMap::from([(-3, shapes), (12, vec![])]),
            numbers,
            None,
            '√',
            u128::MAX,
        ))
    });
    let ran = Ran::default();
    let fails = ran.step("fails", |cx, all: All| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(all),
    });
    let flow = Flow::new("f").then(make).then(fails);
    let store = memory();
    let failed = flow.run(1).store(store.clone()).await;
    let back = flow.resume(store.clone(), failed.run.clone()).await.into_result().unwrap();
    let again = flow.resume(store, failed.run).await.into_result().unwrap();
    assert_eq!(back, again);
    assert_eq!(back.0, (7, "ü\"\n".to_owned()));
    assert_eq!(back.1[&-3][1], Shape::Circle { radius: 0.1 + 0.2 });
    assert_eq!(back.1[&-3][2], Shape::Line((-1, 2), Some(u64::MAX)));
    assert_eq!(
        back.2.map(f64::to_bits),
        [f64::MIN_POSITIVE, -0.0, 1e300, 1.0 / 3.0].map(f64::to_bits)
    );
    assert_eq!((back.4, back.5), ('√', u128::MAX));
}

/// Row 38: resume. A child that was called, and finished, is not done again when the attempt that called it is taken up.
#[tokio::test]
async fn a_called_child_goes_on_where_it_stood() {
    let ran = Ran::default();
    let child = Flow::new("child")
        .then(ran.add("a", 1))
        .then(approve("gate", |x: &u32| *x))
        .then(ran.add("b", 1));
    let caller = step("caller", move |cx: Context, x: u32| {
        let child = child.clone();
        async move {
            let first = cx.call("first", &child, x).await?;
            cx.call("second", &child, first).await
        }
    });
    let flow = Flow::new("f").then(caller);
    let store = memory();
    let mut report = flow.run(0).store(store.clone()).await;
    let mut steps = vec![ran.take()];
    while let [pause] = report.pauses() {
        report =
            flow.resume(store.clone(), report.run.clone()).decide(pause, Decision::yes()).await;
        steps.push(ran.take());
    }
    assert_eq!(
        steps,
        [
            vec!["f/caller/first/a"],
            vec!["f/caller/first/b", "f/caller/second/a"],
            vec!["f/caller/second/b"]
        ]
    );
    assert_eq!(report.into_result().unwrap(), 4);
}

/// Row 38: resume. The same when the child failed, and the run with it: what was paid for inside is not paid for twice.
#[tokio::test]
async fn a_called_child_that_failed_goes_on_where_it_failed() {
    let ran = Ran::default();
    let child = Flow::new("child").then(ran.add("a", 1)).then(ran.fails_once("b"));
    let caller = step("caller", move |cx: Context, x: u32| {
        let child = child.clone();
        async move { cx.call("call", &child, x).await }
    });
    for attempts in [1, 2] {
        let flow = Flow::new("f").then(caller.clone().retry(Retry::at_once(attempts)));
        let store = memory();
        let failed = flow.run(0).store(store.clone()).await;
        let above = if attempts == 1 { "f/caller" } else { "f/caller#2" };
        let [a, b] = ["a", "b"].map(|name| format!("{above}/call/{name}"));
        let steps = ran.take();
        assert_eq!(steps[2 * (attempts as usize - 1)..], [a, b.clone()]);
        let resumed = flow.resume(store, failed.run).await;
        assert_eq!(ran.take(), [b]);
        assert_eq!(resumed.into_result().unwrap(), 1);
    }
}

/// Row 38: resume. What changes no place does not matter: descriptions, retries, timeouts, limits.
#[tokio::test]
async fn policies_may_change() {
    let ran = Ran::default();
    let store = memory();
    let flow = Flow::new("f").then(ran.add("a", 1)).then(ran.fails_once("b"));
    let failed = flow.run(1).store(store.clone()).await;
    let changed = Flow::new("f")
        .then(ran.add("a", 1).describe("adds one").limit(3))
        .then(ran.fails_once("b").retry(Retry::attempts(4)).timeout(Duration::from_secs(5)))
        .retry(Retry::attempts(2));
    assert_eq!(changed.resume(store, failed.run).await.into_result().unwrap(), 2);
}

/// Row 38: resume. Another flow is refused in words: what was there, and what is there now. Nothing runs, nothing is lost.
#[tokio::test]
async fn a_changed_flow_is_refused_in_words() {
    let ran = Ran::default();
    let store = memory();
    let start = || Flow::new("f").then(ran.add("a", 1));
    let flow = start().then(all("g", (ran.add("b", 1), ran.fails_once("c"))));
    let failed = flow.run(1).id(id("mine")).store(store.clone()).await;
    assert!(failed.error().is_some());
    ran.take();
    async fn refusal<O: Data + std::fmt::Debug>(
        flow: Flow<u32, O>,
        store: &Arc<MemoryStore>,
    ) -> String {
        let report = flow.resume(store.clone(), id("mine")).await;
        assert!(matches!(report.error().unwrap().kind, ErrorKind::Refused(_)));
        let message = said(report);
        let (_, message) =
            message.split_once(": the flow has changed since run `mine` began: ").unwrap();
        let (message, remedy) = message.split_once("; ").unwrap();
        assert_eq!(remedy, "resume with the version that began it, or start a new run");
        message.to_owned()
    }

    let renamed =
        Flow::new("other").then(ran.add("a", 1)).then(all("g", (ran.add("b", 1), ran.add("c", 1))));
    assert_eq!(
        refusal(renamed, &store).await,
        "node 1 was `f (sequence)`, and is `other (sequence)` now"
    );
    let shorter = start();
    assert_eq!(refusal(shorter, &store).await, "node 3 was `g (all)`, and is nothing now");
    let longer = flow.clone().then(step("d", async |_cx: Context, x: (u32, u32)| Ok(x)));
    assert_eq!(refusal(longer, &store).await, "node 6 was nothing, and is `d (step)` now");
    let branch = start().then(all("g", (ran.add("b", 1), ran.add("x", 1))));
    assert_eq!(refusal(branch, &store).await, "node 5 was `c (step)`, and is `x (step)` now");
    let order = start().then(all("g", (ran.add("c", 1), ran.add("b", 1))));
    assert_eq!(refusal(order, &store).await, "node 4 was `b (step)`, and is `c (step)` now");
    let kind = start().then(approve("g", |x: &u32| *x));
    assert_eq!(refusal(kind, &store).await, "node 3 was `g (all)`, and is `g (approve)` now");
    let deeper = start().then(all("g", (Flow::new("b").then(ran.add("c", 1)), ran.add("c", 1))));
    assert_eq!(refusal(deeper, &store).await, "node 4 was `b (step)`, and is `b (sequence)` now");

    assert_eq!(ran.take(), Vec::<String>::new());
    assert_eq!(flow.resume(store, id("mine")).await.into_result().unwrap(), (3, 2));
}

/// Row 38: resume. A recorded value of a type that changed is named, and so is the input.
#[tokio::test]
async fn a_value_of_another_type_is_named() {
    let ran = Ran::default();
    let store = memory();
    let fails = || ran.fails_once("b");
    let flow = Flow::new("f").then(ran.add("a", 1)).then(fails());
    flow.run(1).id(id("mine")).store(store.clone()).await;

    let text = step("a", async |_cx: Context, x: u32| Ok(x.to_string()));
    let parse = step("b", async |_cx: Context, x: String| Ok(x.parse::<u32>()?));
    let output =
        said(Flow::new("f").then(text).then(parse).resume(store.clone(), id("mine")).await);
    assert!(
        output.contains("the recorded output of `f/a` is no `alloc::string::String` any more: invalid type: integer"),
        "{output}"
    );
    assert!(
        output.ends_with("; resume with the version that wrote it, or start the run anew"),
        "{output}"
    );

    let length = step("a", async |_cx: Context, x: String| Ok(x.len() as u32));
    let input = said(Flow::new("f").then(length).then(fails()).resume(store, id("mine")).await);
    assert!(
        input.starts_with(
            "`f`: the input of the run is read back as JSON, and is no `alloc::string::String`"
        ),
        "{input}"
    );
}

/// Row 38: resume. A journal in which not even the start stands says so.
#[tokio::test]
async fn a_journal_without_a_start_is_refused() {
    let store = memory();
    drop(store.create(&id("mine")).await.unwrap());
    let flow = Flow::new("f").then(Ran::default().add("a", 1));
    assert_eq!(
        said(flow.resume(store, id("mine")).await),
        "`f`: the journal of run `mine` does not begin with its start; nothing was done yet, so start it anew"
    );
}
