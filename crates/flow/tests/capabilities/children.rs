//! Row 39: child flows.

use std::sync::Arc;
use std::time::Duration;

use agentflow_flow::{
    Context, Decision, ErrorKind, Flow, Node, Retry, StepError, all, approve, each, node, settled,
    step, switch,
};

fn add(name: &str, n: u32) -> Node<u32, u32> {
    step(name, move |_cx: Context, x: u32| async move { Ok(x + n) })
}

fn child() -> Flow<u32, u32> {
    Flow::new("child").then(add("a", 1)).then(add("b", 10))
}

/// A step that calls `flow` under each of `names`.
fn calls(flow: Flow<u32, u32>, names: &'static [&'static str]) -> Node<u32, u32> {
    step("caller", move |cx: Context, mut x: u32| {
        let flow = flow.clone();
        async move {
            for name in names {
                x = cx.call(name, &flow, x).await?;
            }
            Ok(x)
        }
    })
}

fn fails(name: &str) -> Node<u32, u32> {
    step(name, async |_cx: Context, _: u32| Err(StepError::fatal("broken")))
}

/// Row 39: child workflows. A flow stands wherever a node does, under its own name.
#[tokio::test]
async fn a_flow_is_a_node() {
    let flow = Flow::new("f").then(child()).then(all("g", (child(), add("c", 100))));
    let report = flow.run(0).await;
    let paths: Vec<String> = report.trace.iter().map(|attempt| attempt.path.to_string()).collect();
    assert_eq!(paths[..3], ["f/child/a", "f/child/b", "f/child"]);
    assert!(paths.contains(&"f/g/child/b".to_owned()));
    assert_eq!(report.into_result().unwrap(), (22, 111));
}

/// Row 39: child workflows. A flow is an arm, an item, and a node with a policy, too.
#[tokio::test]
async fn a_flow_is_an_arm_and_an_item() {
    let arms = switch("s").when("big", |x| *x > 100, child()).otherwise(add("small", 0));
    let flow = Flow::new("f").then(each("e", 2, Flow::new("item").then(arms)));
    let report = flow.run(vec![1, 200]).await;
    assert_eq!(report.attempts("f/e[1]/item/s/big/b").count(), 1);
    assert_eq!(report.attempts("f/e[0]/item/s/otherwise/small").count(), 1);
    assert_eq!(report.into_result().unwrap(), [1, 211]);

    let checked = node("again", child()).check(|x| match x {
        11 => Ok(()),
        x => Err(StepError::invalid(format!("{x}"))),
    });
    let flow = Flow::new("f").then(child()).then(checked);
    let error = flow.run(0).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/again`: invalid output: 22");
}

/// Row 39: child workflows. One flow is as many children as wanted; nothing of it is shared between them.
#[tokio::test]
async fn one_flow_is_many_children() {
    let twice = Flow::new("f").then(node("one", child())).then(node("two", child()));
    assert_eq!(twice.run(0).await.into_result().unwrap(), 22);
    let deep = (0..20).fold(child(), |inner, n| Flow::new(&format!("level{n}")).then(inner));
    let report = deep.run(0).await;
    assert_eq!(report.trace.len(), 22);
    assert_eq!(report.into_result().unwrap(), 11);
}

/// Row 39: child workflows. A child that was chosen just now runs below its caller, in the caller's trace.
#[tokio::test]
async fn a_called_flow_runs_below_its_caller() {
    let report = Flow::new("f").then(calls(child(), &["first", "second"])).run(0).await;
    let paths: Vec<String> = report.trace.iter().map(|attempt| attempt.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "f/caller/first/a",
            "f/caller/first/b",
            "f/caller/second/a",
            "f/caller/second/b",
            "f/caller"
        ]
    );
    assert_eq!(report.into_result().unwrap(), 22);
}

/// Row 39: child workflows. Calls can be made at once.
#[tokio::test]
async fn calls_can_be_made_at_once() {
    let flow = child();
    let caller = step("caller", move |cx: Context, x: u32| {
        let flow = flow.clone();
        async move {
            let (one, two) = tokio::try_join!(cx.call("one", &flow, x), cx.call("two", &flow, x))?;
            Ok(one + two)
        }
    });
    assert_eq!(Flow::new("f").then(caller).run(0).await.into_result().unwrap(), 22);
}

/// Row 39: child workflows. Records are kept by the name of the call: one name is one call of an attempt. Another attempt
/// calls anew.
#[tokio::test]
async fn one_name_is_one_call() {
    let flow = Flow::new("f").then(calls(child(), &["same", "same"]).retry(Retry::at_once(3)));
    let report = flow.run(0).await;
    assert_eq!(report.attempts("f/caller").count(), 1, "no further attempt can help");
    assert_eq!(
        report.into_result().unwrap_err().to_string(),
        "`f/caller`: `f/caller` calls `same` twice; its records are kept by that name, so give each call its own"
    );
    let again = step("caller", |cx: Context, x: u32| {
        let flow = child();
        async move {
            let x = cx.call("same", &flow, x).await?;
            if cx.attempt() < 3 { Err(StepError::failed("once more")) } else { Ok(x) }
        }
    });
    let report = Flow::new("f").then(again.retry(Retry::at_once(3))).run(0).await;
    assert_eq!(report.attempts("f/caller#3/same/a").count(), 1);
    assert_eq!(report.into_result().unwrap(), 11);
}

/// Row 39: child workflows. A call has a name that a path can have, so that no two calls share a place.
#[tokio::test]
async fn a_call_has_a_name_that_fits() {
    let names: [&'static [&'static str]; 4] = [&[""], &["a/b"], &["a#2"], &["a[0]"]];
    for name in names {
        let error =
            Flow::new("f").then(calls(child(), name)).run(0).await.into_result().unwrap_err();
        let wanted = format!(
            "`f/caller`: `f/caller` calls a flow `{}`; a name is not empty and has none of `/`, `#`, `[` and `]`",
            name[0]
        );
        assert_eq!(error.to_string(), wanted);
    }
}

/// Row 39: child workflows. What is wrong with the definition of a child is found when it is called.
#[tokio::test]
async fn an_invalid_child_is_refused() {
    let twins = Flow::new("twins").then(add("a", 1)).then(add("a", 1));
    let error =
        Flow::new("f").then(calls(twins, &["call"])).run(0).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused(_)));
    assert_eq!(
        error.to_string(),
        "`f/caller`: the flow `twins` has two nodes named `a` at `twins`; give one another name"
    );
}

/// Row 39: child workflows. A child that fails fails its parent, and is named itself.
#[tokio::test]
async fn a_failing_child_fails_its_parent() {
    let broken = || Flow::new("broken").then(add("a", 1)).then(fails("b")).then(add("c", 1));
    let error = Flow::new("f").then(broken()).run(0).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/broken/b`: broken");
    let error =
        Flow::new("f").then(calls(broken(), &["call"])).run(0).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/caller/call/b`: broken");
}

/// Row 39: child workflows. Unless the parent can do without.
#[tokio::test]
async fn a_parent_can_do_without_its_child() {
    let broken = Flow::new("broken").then(fails("b"));
    let called = broken.clone();
    let caller = step("caller", move |cx: Context, x: u32| {
        let called = called.clone();
        async move { Ok(cx.call("call", &called, x).await.unwrap_or(7)) }
    });
    assert_eq!(Flow::new("f").then(caller).run(0).await.into_result().unwrap(), 7);
    let failure =
        Flow::new("f").then(settled("s", broken)).run(0).await.into_result().unwrap().unwrap_err();
    assert_eq!(failure.to_string(), "`f/s/broken/b`: broken");
}

/// Row 39: child workflows. The child is a part of the run: its id, deadline, budgets, answerers, what it was provided with.
#[tokio::test(start_paused = true)]
async fn a_child_inherits_the_run() {
    let see = step("see", async |cx: Context, x: u32| {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cx.spend("tokens", 60)?;
        Ok(*cx.need::<u32>()? + x + cx.remaining().unwrap().as_secs() as u32)
    });
    let inherits = Flow::new("child").then(approve("gate", |x: &u32| *x)).then(see);
    let run = |flow: Flow<u32, u32>| {
        let run = flow.run(0).deadline(Duration::from_secs(10)).budget("tokens", 100);
        run.provide(Arc::new(100_u32)).answer(async |_: u32| Ok(Decision::yes()))
    };
    let report = run(Flow::new("f").then(calls(inherits.clone(), &["call"]))).await;
    assert_eq!(report.spent["tokens"], 60);
    assert_eq!(report.into_result().unwrap(), 107);
    let spends = run(Flow::new("f").then(calls(inherits.clone(), &["one", "two"]))).await;
    assert_eq!(
        spends.into_result().unwrap_err().to_string(),
        "`f/caller/two/see`: the budget of 100 tokens is used up: 120 were spent"
    );
    let slow = step("slow", async |_cx: Context, x: u32| {
        tokio::time::sleep(Duration::from_secs(8)).await;
        Ok(x)
    });
    let late = run(Flow::new("f").then(slow).then(calls(inherits, &["call"]))).await;
    assert_eq!(late.took, Duration::from_secs(10));
    assert_eq!(
        late.into_result().unwrap_err().to_string(),
        "`f/caller/call/see`: the deadline of the run has passed"
    );
}

/// Row 39: child workflows. A child has its own way to try again; without one, its parent's.
#[tokio::test]
async fn a_child_has_its_own_retries_or_its_parents() {
    let flaky = || {
        step("flaky", async |cx: Context, x: u32| match cx.attempt() {
            1 | 2 => Err(StepError::failed("not yet")),
            _ => Ok(x),
        })
    };
    let plain = || Flow::new("child").then(flaky());
    let own = || plain().retry(Retry::never());
    let parent = |child: Node<u32, u32>| Flow::new("f").then(child).retry(Retry::at_once(3)).run(0);
    let named = |flow| node("node", flow);

    assert!(parent(named(plain())).await.error().is_none());
    assert!(parent(calls(plain(), &["call"])).await.error().is_none());
    assert_eq!(parent(named(own())).await.error().unwrap().attempts, 1);
    let called = parent(calls(own(), &["call"])).await;
    let attempts: Vec<String> =
        called.trace.iter().map(|a| format!("{} {}", a.path, a.attempt)).collect();
    assert_eq!(attempts[..2], ["f/caller/call/flaky 1", "f/caller 1"]);
    assert!(Flow::new("f").then(plain()).run(0).await.error().is_some());
}

/// Row 39: child workflows. Without an answer nobody waits for ever: a child that hangs is bounded by its node.
#[tokio::test(start_paused = true)]
async fn a_child_can_be_given_a_time() {
    let hangs = step("hangs", async |_cx: Context, x: u32| {
        std::future::pending::<()>().await;
        Ok(x)
    });
    let hangs = node("child", Flow::new("hangs").then(hangs)).timeout(Duration::from_secs(5));
    let report = Flow::new("f").then(hangs).run(0).await;
    assert_eq!(report.took, Duration::from_secs(5));
    assert_eq!(report.into_result().unwrap_err().to_string(), "`f/child`: no result within 5s");
}
