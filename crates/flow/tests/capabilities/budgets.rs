//! Row 21: budgets of tokens, cents or whatever is spent.

use agentflow_flow::{
    Context, ErrorKind, Flow, Next, Node, Retry, StepError, all, each, each_settled, repeat,
    settled, step,
};

use crate::probe::{Log, nap, with};

/// Spends as many tokens as its input says.
fn spends(name: &str) -> Node<u64, u64> {
    step(name, async |cx: Context, tokens: u64| {
        cx.spend("tokens", tokens)?;
        Ok(tokens)
    })
}

/// Row 21: token or cost budget. To the last one is within it.
#[tokio::test]
async fn a_budget_can_be_spent_to_the_last() {
    let flow = Flow::new("f").then(spends("a")).then(spends("b"));
    let report = flow.run(5).budget("tokens", 10).await;
    assert_eq!(report.spent["tokens"], 10);
    assert_eq!(report.into_result().unwrap(), 5);
}

/// Row 21: more than there is is an error of its own kind, at the step that spent it. What is spent stays counted.
#[tokio::test]
async fn more_than_the_budget_is_an_error() {
    let flow = Flow::new("f").then(spends("a")).then(spends("b")).then(spends("c"));
    let report = flow.run(6).budget("tokens", 10).await;
    assert_eq!((report.spent["tokens"], report.trace.len()), (12, 2));
    let error = report.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Budget { unit: "tokens", limit: 10, spent: 12 }));
    let text = "`f/b`: the budget of 10 tokens is used up: 12 were spent";
    assert_eq!(error.to_string(), text);
}

/// Row 21: without a budget it is counted all the same, to any sum.
#[tokio::test]
async fn without_a_budget_it_is_only_counted() {
    let flow = Flow::new("f").then(spends("a")).then(spends("b"));
    assert_eq!(flow.run(7).await.spent["tokens"], 14);
    assert_eq!(flow.run(u64::MAX).await.spent["tokens"], u64::MAX);
    let report = Flow::new("f").then(nap::<u32>("a", 0)).run(1).await;
    assert!(report.spent.is_empty());
}

/// Row 21: units know nothing of each other, and one that nobody spent shows that nothing was.
#[tokio::test]
async fn each_unit_has_its_own_budget() {
    let both = step("both", async |cx: Context, (): ()| {
        cx.spend("tokens", 900)?;
        cx.spend("cents", 3)?;
        Ok(())
    });
    let flow = Flow::new("f").then(both);
    let run = flow.run(()).budget("cents", 2).budget("tokens", 1000).budget("calls", 5);
    let report = run.await;
    let spent = report.spent.iter().map(|(unit, sum)| (unit.as_str(), *sum));
    assert_eq!(spent.collect::<Vec<_>>(), [("calls", 0), ("cents", 3), ("tokens", 900)]);
    let kind = &report.error().unwrap().kind;
    assert!(matches!(kind, ErrorKind::Budget { unit: "cents", limit: 2, spent: 3 }));
}

/// Row 21: a budget of nothing allows nothing; spending nothing is always allowed within it.
#[tokio::test]
async fn a_budget_of_nothing() {
    let flow = Flow::new("f").then(spends("a"));
    assert!(flow.run(0).budget("tokens", 0).await.into_result().is_ok());
    assert!(flow.run(1).budget("tokens", 0).await.into_result().is_err());
}

/// Row 21: what is said last counts, as it does for the other options.
#[tokio::test]
async fn a_budget_can_be_said_again() {
    let flow = Flow::new("f").then(spends("a"));
    let run = flow.run(5).budget("tokens", 1).budget("tokens", 10);
    assert!(run.await.into_result().is_ok());
    let run = flow.run(5).budget("tokens", 10).budget("tokens", 1);
    assert!(run.await.into_result().is_err());
}

/// Row 21: branches, loops and child flows spend from the same budget.
#[tokio::test]
async fn everything_inside_spends_from_one_budget() {
    let child = Flow::new("child").then(spends("known"));
    let call = step("call", move |cx: Context, x: u64| {
        let child = child.clone();
        async move { cx.call("child", &child, x).await }
    });
    let hop =
        Flow::new("hop").then(spends("spend")).then(step("next", async |_cx: Context, x: u64| {
            Ok(if x > 2 { Next::Done(x) } else { Next::Again(x + 1) })
        }));
    let twice = step("twice", async |_cx: Context, x: u64| Ok(vec![x, x]));
    let map = Flow::new("map").then(twice).then(each("m", 2, spends("item")));
    let group = all("g", (spends("a"), call, repeat("loop", 5, hop), map));
    let report = Flow::new("f").then(group).run(1).budget("tokens", 100).await;
    // a: 1, call: 1, loop: 1 + 2 + 3, map: 1 + 1
    assert_eq!(report.spent["tokens"], 10);
    let a = report.attempts("f/g/a").next().unwrap();
    assert_eq!(a.spent["tokens"], 1);
    let around = report.attempts("f/g").next().unwrap();
    assert!(around.spent.is_empty(), "what is spent inside is counted there");
}

/// Row 21: failed attempts cost, too.
#[tokio::test]
async fn failed_attempts_spend() {
    let work = step("work", async |cx: Context, (): ()| {
        cx.spend("tokens", 10)?;
        if cx.attempt() < 3 { Err(StepError::failed("again")) } else { Ok(()) }
    });
    let flow = Flow::new("f").then(work.retry(Retry::at_once(5)));
    let report = flow.run(()).await;
    assert_eq!(report.spent["tokens"], 30);
    assert!(report.attempts("f/work").all(|one| one.spent["tokens"] == 10));
    let error = flow.run(()).budget("tokens", 15).await.into_result().unwrap_err();
    assert_eq!((error.kind.name(), error.attempts), ("budget", 2));
}

/// Row 21: a used up budget ends the run: it is not tried again, and not settled as the failure of one branch.
#[tokio::test(start_paused = true)]
async fn a_used_up_budget_ends_the_run() {
    let log = Log::default();
    let item = with(&log, "item", async |log: Log, cx: Context, x: u64| {
        log.say(x.to_string());
        cx.spend("tokens", x)?;
        Ok(x)
    });
    let map = each_settled("m", 1, item.retry(Retry::at_once(3)));
    let report = Flow::new("f").then(map).run(vec![4, 4, 4, 4]).budget("tokens", 10).await;
    assert_eq!(log.len(), 3);
    assert_eq!(report.error().unwrap().path, "f/m[2]/item");
    let report = Flow::new("f").then(settled("s", spends("a"))).run(4).budget("tokens", 3).await;
    assert_eq!(report.error().unwrap().kind.name(), "budget");
}

/// Row 21: a step that passes over the error has overspent all the same, and the next one to spend hears of it.
#[tokio::test]
async fn a_budget_stays_used_up() {
    let deaf = step("deaf", async |cx: Context, x: u64| {
        let _ = cx.spend("tokens", x);
        Ok(0)
    });
    let report = Flow::new("f").then(deaf).then(spends("a")).run(11).budget("tokens", 10).await;
    assert_eq!(report.error().unwrap().path, "f/a");
}
