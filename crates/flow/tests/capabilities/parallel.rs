//! Rows 4, 5, 6, 12 and 13: groups, their failures, nesting, joins, bounded maps.

use agentflow_flow::{
    Context, ErrorKind, Flow, Next, Node, Outcome, Retry, Settled, StepError, all, each,
    each_settled, first_k, repeat, settled, step, switch,
};
use tokio::time::{Instant, sleep};

use crate::probe::{Gauge, Log, fails, nap, pass, paths, secs, with};

/// Takes as many seconds as its input says; 0 is a failure, at once.
fn takes(gauge: &Gauge) -> Node<u64, u64> {
    with(gauge, "one", async |gauge: Gauge, _cx: Context, seconds: u64| {
        let _inside = gauge.enter();
        sleep(secs(seconds)).await;
        if seconds == 0 { Err(StepError::failed("nothing to do")) } else { Ok(seconds) }
    })
}

/// Row 4: parallel group.
#[tokio::test(start_paused = true)]
async fn branches_run_at_once_and_give_a_tuple_in_their_order() {
    let letters = step("letters", async |_cx: Context, text: String| {
        sleep(secs(3)).await;
        Ok(text.len())
    });
    let first = step("first", async |_cx: Context, text: String| Ok(text.chars().next()));
    let flow = Flow::new("f").then(all("g", (letters, nap("same", 1), first)));
    let started = Instant::now();
    let report = flow.run("abc".to_owned()).await;
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!(paths(&report), ["f/g/first", "f/g/same", "f/g/letters", "f/g"]);
    assert_eq!(report.into_result().unwrap(), (3, "abc".to_owned(), Some('a')));
}

/// Row 4: no branch sees what another one does to the value.
#[tokio::test]
async fn each_branch_has_its_own_copy() {
    let add = |name: &str, x: u32| {
        step(name, move |_cx: Context, mut list: Vec<u32>| async move {
            tokio::task::yield_now().await;
            list.push(x);
            Ok(list)
        })
    };
    let flow = Flow::new("f").then(all("g", (add("a", 1), add("b", 2))));
    assert_eq!(flow.run(vec![0]).await.into_result().unwrap(), (vec![0, 1], vec![0, 2]));
}

/// Row 4: from one branch to twelve.
#[tokio::test]
async fn a_group_has_one_to_twelve_branches() {
    let one = Flow::new("f").then(all("g", (pass("a"),)));
    assert_eq!(one.run(1).await.into_result().unwrap(), (1,));
    let p = pass::<u8>;
    let many = (p("a"), p("b"), p("c"), p("d"), p("e"), p("f"), p("g"), p("h"), p("i"), p("j"));
    let (a, b, c, d, e, f, g, h, i, j) = many;
    let twelve = all("g", (a, b, c, d, e, f, g, h, i, j, p("k"), p("l")));
    let output = Flow::new("f").then(twelve).run(7).await.into_result().unwrap();
    assert_eq!(output, (7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7));
}

/// Row 4: many branches alike give a list in the order of the input.
#[tokio::test(start_paused = true)]
async fn each_gives_outputs_in_the_order_of_the_items() {
    let flow = Flow::new("f").then(each("m", 8, takes(&Gauge::default())));
    let report = flow.run(vec![3, 1, 2]).await;
    let ended = ["f/m[1]/one", "f/m[2]/one", "f/m[0]/one", "f/m"];
    assert_eq!(paths(&report), ended);
    assert_eq!(report.into_result().unwrap(), [3, 1, 2]);
}

/// Row 4: nothing to do is done.
#[tokio::test]
async fn each_of_nothing_is_nothing() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(each("m", 8, takes(&gauge)));
    assert_eq!(flow.run(Vec::new()).await.into_result().unwrap(), Vec::<u64>::new());
    let flow = Flow::new("f").then(each_settled("m", 8, takes(&gauge)));
    assert_eq!(flow.run(Vec::new()).await.into_result().unwrap(), Vec::<Settled<u64>>::new());
    assert_eq!(gauge.most(), 0);
}

/// Says its name when it ends, as it must when it is cancelled.
fn long(log: &Log, name: &str) -> Node<u32, u32> {
    with(log, name, async |log: Log, cx: Context, x: u32| {
        let _end = log.at_end(cx.path().name());
        sleep(secs(100)).await;
        log.say("not cancelled");
        Ok(x)
    })
}

/// Row 5: failure of a group.
#[tokio::test(start_paused = true)]
async fn a_failure_cancels_the_siblings_and_waits_until_they_are_gone() {
    let log = Log::default();
    let group = all("g", (long(&log, "a"), fails("bad", 1), long(&log, "b")));
    let after =
        with(&log, "after", async |log: Log, _cx: Context, group: Settled<(u32, u32, u32)>| {
            log.say(group.unwrap_err().path);
            Ok(())
        });
    let started = Instant::now();
    let report = Flow::new("f").then(settled("s", group)).then(after).run(1).await;
    assert_eq!(started.elapsed(), secs(1));
    let mut words = log.words();
    words[..2].sort(); // those two end in any order, and before what comes after
    assert_eq!(words, ["a", "b", "f/s/g/bad"]);
    for path in ["f/s/g/a", "f/s/g/b"] {
        assert_eq!(report.attempts(path).next().unwrap().outcome, Outcome::Cancelled, "{path}");
    }
}

/// Row 5: Orchflow reports the first failure in the order of declaration, though another came before.
#[tokio::test(start_paused = true)]
async fn the_first_failure_in_time_is_the_one_reported() {
    let group = all("g", (fails::<u32>("late", 2), pass("fine"), fails("early", 1)));
    let error = Flow::new("f").then(group).run(1).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/g/early`: early is broken");
}

/// Row 5: in Orchflow a cancelled branch becomes an output. Ours has no output for the group at all.
#[tokio::test(start_paused = true)]
async fn what_follows_a_failed_group_does_not_run() {
    let log = Log::default();
    let flow = Flow::new("f").then(all("g", (fails::<u32>("bad", 1), pass("fine")))).then(with(
        &log,
        "next",
        async |log: Log, _cx: Context, both: (u32, u32)| {
            log.say("next");
            Ok(both)
        },
    ));
    let report = flow.run(1).await;
    assert_eq!(report.attempts("f/g/fine").next().unwrap().outcome, Outcome::Done);
    let group = report.attempts("f/g").next().unwrap();
    assert_eq!(group.outcome, Outcome::Failed("bad is broken".to_owned()));
    assert!(log.words().is_empty());
}

/// Row 5: a panic in a branch is a failure like others.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_branch_fails_the_group_at_its_path() {
    let log = Log::default();
    let divide = step("divide", async |_cx: Context, x: u32| Ok(1 / x));
    let flow = Flow::new("f").then(all("g", (long(&log, "long"), divide)));
    let error = flow.run(0).await.into_result().unwrap_err();
    assert_eq!(error.path, "f/g/divide");
    assert!(matches!(error.kind, ErrorKind::Panicked(_)));
    assert_eq!(log.words(), ["long"]);
}

/// Row 5: items that wait for their turn are never begun.
#[tokio::test(start_paused = true)]
async fn each_stops_at_the_first_failure() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(each("m", 2, takes(&gauge)));
    let started = Instant::now();
    let report = flow.run(vec![5, 1, 0, 9, 9]).await;
    assert_eq!(started.elapsed(), secs(1));
    assert_eq!(gauge.now(), 0);
    let ended = ["f/m[1]/one", "f/m[2]/one", "f/m[0]/one", "f/m"];
    assert_eq!(paths(&report), ended);
    assert_eq!(report.error().unwrap().path, "f/m[2]/one");
}

/// Row 5: what goes on in spite of failures.
#[tokio::test(start_paused = true)]
async fn each_settled_gives_failures_as_values_in_their_places() {
    let retry = Retry::at_once(2);
    let flow = Flow::new("f").then(each_settled("m", 8, takes(&Gauge::default()).retry(retry)));
    let outputs = flow.run(vec![2, 0, 1]).await.into_result().unwrap();
    assert_eq!((&outputs[0], &outputs[2]), (&Ok(2), &Ok(1)));
    let failure = outputs[1].as_ref().unwrap_err();
    assert_eq!(failure.path, "f/m[1]/one");
    assert_eq!((failure.attempts, failure.kind.as_str()), (2, "failed"));
    assert_eq!(failure.message, "nothing to do");
}

/// Row 5: different branches, each of which may fail.
#[tokio::test(start_paused = true)]
async fn a_settled_branch_cancels_nobody() {
    let flow = Flow::new("f").then(all("g", (settled("a", fails("bad", 1)), nap("b", 5))));
    let (bad, fine) = flow.run(3_u32).await.into_result().unwrap();
    assert_eq!(bad.unwrap_err().path, "f/g/a/bad");
    assert_eq!(fine, 3);
}

/// Row 6: nesting inside a group.
#[tokio::test(start_paused = true)]
async fn everything_nests_in_everything() {
    let count_down = || {
        let less = step("less", async |_cx: Context, x: u32| {
            Ok(if x == 0 { Next::Done("zero".to_owned()) } else { Next::Again(x - 1) })
        });
        repeat("down", 100, less)
    };
    let parity = || {
        switch("parity").when("even", |x: &u32| x.is_multiple_of(2), count_down()).otherwise(
            Flow::new("odd")
                .then(nap::<u32>("wait", 1))
                .then(step("name", async |_cx: Context, x: u32| Ok(format!("odd {x}")))),
        )
    };
    let list = step("list", async |_cx: Context, x: u32| Ok((0..x).collect::<Vec<_>>()));
    let inner = all("inner", (parity(), settled("try", fails("bad", 1))));
    let many = Flow::new("many").then(list).then(each("items", 2, parity()));
    let looped = repeat(
        "loop",
        3,
        Flow::new("body").then(all("pair", (pass("x"), parity()))).then(step(
            "next",
            async |_cx: Context, (x, name): (u32, String)| {
                Ok(if x > 3 { Next::Done(name) } else { Next::Again(x + 1) })
            },
        )),
    );
    let flow = Flow::new("f").then(all("outer", (inner, many, looped)));
    let report = flow.run(3).await;
    let seen = paths(&report);
    for path in [
        "f/outer/inner/parity/otherwise/name",
        "f/outer/inner/try/bad",
        "f/outer/many/items[2]/parity/even/down[2]/less",
        "f/outer/loop[1]/body/pair/parity/even/down[4]/less",
    ] {
        assert!(seen.iter().any(|one| one == path), "{path} is not in {seen:#?}");
    }
    let ((name, bad), names, last) = report.into_result().unwrap();
    assert_eq!(name, "odd 3");
    assert_eq!(bad.unwrap_err().path, "f/outer/inner/try/bad");
    assert_eq!(names, ["zero", "odd 1", "zero"]);
    assert_eq!(last, "zero");
}

/// Row 6: a failure far inside cancels all around it, and its path says where it was.
#[tokio::test(start_paused = true)]
async fn a_failure_deep_inside_ends_the_outermost_group() {
    let log = Log::default();
    let deep = all("mid", (long(&log, "c"), all("in", (fails("bad", 2), long(&log, "d")))));
    let flow = Flow::new("f").then(all("out", (long(&log, "a"), deep)));
    let started = Instant::now();
    let error = flow.run(1).await.into_result().unwrap_err();
    assert_eq!(started.elapsed(), secs(2));
    assert_eq!(error.path, "f/out/mid/in/bad");
    let mut words = log.words();
    words.sort();
    assert_eq!(words, ["a", "c", "d"]);
}

/// Row 12: join of k.
#[tokio::test(start_paused = true)]
async fn first_k_gives_those_that_came_first_and_cancels_the_rest() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(first_k("race", 2, takes(&gauge)));
    let started = Instant::now();
    let report = flow.run(vec![9, 3, 0, 1, 9]).await;
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!(gauge.now(), 0);
    for path in ["f/race[0]/one", "f/race[4]/one"] {
        assert_eq!(report.attempts(path).next().unwrap().outcome, Outcome::Cancelled, "{path}");
    }
    assert_eq!(report.into_result().unwrap(), [1, 3]);
}

/// Row 12: so many failures that `k` cannot be reached end it at once.
#[tokio::test(start_paused = true)]
async fn first_k_fails_as_soon_as_k_is_out_of_reach() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(first_k("race", 2, takes(&gauge)));
    let started = Instant::now();
    let error = flow.run(vec![9, 0, 0]).await.into_result().unwrap_err();
    assert_eq!((started.elapsed(), gauge.now()), (secs(0), 0));
    assert!(matches!(error.kind, ErrorKind::Failed(_)), "{error}");
}

/// Row 12: more than there are cannot come; none at all means one.
#[tokio::test(start_paused = true)]
async fn first_k_waits_for_one_at_least_and_for_no_more_than_there_are() {
    let gauge = Gauge::default();
    let race = |k| Flow::new("f").then(first_k("race", k, takes(&gauge)));
    let error = race(3).run(vec![1, 2]).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/race`: it waits for 3 branches, and has 2 items");
    assert!(race(1).run(Vec::new()).await.into_result().is_err());
    assert_eq!(gauge.most(), 0);
    assert_eq!(race(0).run(vec![2, 1]).await.into_result().unwrap(), [1]);
    assert_eq!(race(2).run(vec![2, 1]).await.into_result().unwrap(), [1, 2]);
}

/// Row 13: never more than `at_once`; nothing means one, more than there are means all.
#[tokio::test(start_paused = true)]
async fn a_map_is_bounded() {
    for (at_once, most, took) in [(0, 1, 12), (1, 1, 12), (3, 3, 4), (12, 12, 1), (1000, 12, 1)] {
        let (gauge, started) = (Gauge::default(), Instant::now());
        let flow = Flow::new("f").then(each("m", at_once, takes(&gauge)));
        assert_eq!(flow.run(vec![1; 12]).await.into_result().unwrap(), [1; 12]);
        assert_eq!((gauge.most(), started.elapsed()), (most, secs(took)), "at once: {at_once}");
    }
}

/// Row 13: a free place is taken at once; items do not wait for others of their batch.
#[tokio::test(start_paused = true)]
async fn a_slow_item_holds_one_place_only() {
    let gauge = Gauge::default();
    let flow = Flow::new("f").then(each_settled("m", 2, takes(&gauge)));
    let started = Instant::now();
    let outputs = flow.run(vec![5, 1, 1, 0, 1, 2]).await.into_result().unwrap();
    assert_eq!((started.elapsed(), gauge.most()), (secs(5), 2));
    assert_eq!(outputs.iter().filter(|output| output.is_ok()).count(), 5);
}

/// Row 13: PenguiFlow raises, and leaves nine of nine running. Ours has nothing left when it returns.
#[tokio::test(start_paused = true)]
async fn a_map_that_fails_leaves_nothing_running() {
    let gauge = Gauge::default();
    let item = with(&gauge, "one", async |gauge: Gauge, _cx: Context, x: u64| {
        let _inside = gauge.enter();
        sleep(secs(x)).await;
        if x == 1 { Err(StepError::failed("odd one out")) } else { Ok(x) }
    });
    let flow = Flow::new("f").then(each("m", 10, item));
    let report = flow.run(vec![9, 9, 9, 1, 9, 9, 9, 9, 9, 9]).await;
    assert_eq!((gauge.most(), gauge.now()), (10, 0));
    let cancelled = report.trace.iter().filter(|attempt| attempt.outcome == Outcome::Cancelled);
    assert_eq!(cancelled.count(), 9);
}

/// Row 13: on several threads, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_map_is_bounded_on_many_threads() {
    let gauge = Gauge::default();
    let item = with(&gauge, "one", async |gauge: Gauge, _cx: Context, x: u64| {
        let _inside = gauge.enter();
        tokio::task::yield_now().await;
        Ok(2 * x)
    });
    let flow = Flow::new("f").then(each("m", 3, item));
    let outputs = flow.run((0..1000).collect()).await.into_result().unwrap();
    assert!(outputs.iter().enumerate().all(|(n, output)| *output == 2 * n as u64));
    assert!(gauge.most() <= 3, "{} at once", gauge.most());
}
