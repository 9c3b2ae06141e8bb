//! Rows 24 and 25: typed hops and definition checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agentflow_flow::{
    BuildError, Context, ErrorKind, Flow, MemoryStore, Node, Retry, StepError, Switch, all, each,
    each_settled, repeat, settled, step, switch,
};

fn same(name: &str) -> Node<u32, u32> {
    step(name, async |_cx: Context, x: u32| Ok(x))
}

fn problem<O: agentflow_flow::Data>(flow: &Flow<u32, O>) -> String {
    flow.validate().unwrap_err().to_string()
}

/// Row 24: typed hops. (That a hop which does not fit does not compile is an example of `flow.rs`.) What types cannot say,
/// `check` says, and a value that breaks it is not computed again.
#[tokio::test]
async fn a_broken_rule_is_invalid_and_not_tried_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let percent = step("percent", move |_cx: Context, x: u32| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok(x) }
    });
    let percent = percent.retry(Retry::at_once(5)).check(|x| match x {
        0..=100 => Ok(()),
        _ => Err(StepError::invalid(format!("{x} is no percentage"))),
    });
    let flow = Flow::new("f").then(percent).then(same("after"));

    let report = flow.run(101).await;

    let error = report.error().unwrap();
    assert!(matches!(error.kind, ErrorKind::Invalid(_)), "{error:?}");
    assert_eq!(error.to_string(), "`f/percent`: invalid output: 101 is no percentage");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(report.attempts("f/after").count(), 0);
    assert_eq!(flow.run(100).await.into_result().unwrap(), 100);
}

/// Row 24: typed hops. Several rules are asked in the order in which they were given, groups can have them, too.
#[tokio::test]
async fn the_first_broken_rule_is_the_one_reported() {
    let rule = |limit: u32| {
        move |x: &(u32, u32)| match x.0 + x.1 > limit {
            true => Err(StepError::invalid(format!("more than {limit}"))),
            false => Ok(()),
        }
    };
    let group = all("pair", (same("a"), same("b"))).check(rule(30)).check(rule(20));
    let flow = Flow::new("f").then(group);

    let error = async |x| flow.run(x).await.into_result().unwrap_err().to_string();
    assert_eq!(error(20).await, "`f/pair`: invalid output: more than 30");
    assert_eq!(error(11).await, "`f/pair`: invalid output: more than 20");
    assert_eq!(flow.run(10).await.into_result().unwrap(), (10, 10));
}

/// Row 24: typed hops. A rule may answer with any failure; what it says can heal is tried again.
#[tokio::test]
async fn a_rule_may_call_for_another_attempt() {
    let node = step("draw", async |cx: Context, _: u32| Ok(cx.attempt()))
        .retry(Retry::at_once(4))
        .check(|x| if *x < 3 { Err(StepError::failed("too low")) } else { Ok(()) });
    assert_eq!(Flow::new("f").then(node).run(0).await.into_result().unwrap(), 3);
}

/// Row 25: definition checks. Two siblings of one name are refused, wherever they are.
#[test]
fn siblings_have_different_names() {
    let in_a_row = Flow::new("f").then(same("a")).then(same("b")).then(same("a"));
    assert_eq!(
        in_a_row.validate(),
        Err(BuildError::Duplicate { flow: "f".into(), place: "f".into(), name: "a".into() })
    );
    assert_eq!(
        problem(&in_a_row),
        "the flow `f` has two nodes named `a` at `f`; give one another name"
    );

    let in_a_group = Flow::new("f").then(all("g", (same("a"), same("a"))));
    assert_eq!(
        problem(&in_a_group),
        "the flow `f` has two nodes named `a` at `f/g`; give one another name"
    );

    let arms = switch("s").when("low", |x| *x < 9, same("x")).when("low", |x| *x > 99, same("y"));
    let of_a_switch = Flow::new("f").then(arms.otherwise(same("z")));
    assert_eq!(
        problem(&of_a_switch),
        "the flow `f` has two nodes named `low` at `f/s`; give one another name"
    );

    let label = switch("s").when("otherwise", |x| *x < 9, same("x")).otherwise(same("z"));
    assert_eq!(
        problem(&Flow::new("f").then(label)),
        "the flow `f` has two nodes named `otherwise` at `f/s`; give one another name"
    );

    let child = Flow::new("child").then(same("a")).then(same("a"));
    let in_a_child = Flow::new("f").then(all("g", (same("a"), child)));
    assert_eq!(
        problem(&in_a_child),
        "the flow `f` has two nodes named `a` at `f/g/child`; give one another name"
    );
}

/// Row 25: definition checks. A name is unique among its siblings only: places differ by all of their parts.
#[test]
fn cousins_may_have_the_same_name() {
    let pair = || all("pair", (same("a"), same("b")));
    let group = all("g", (Flow::new("left").then(pair()), Flow::new("right").then(pair())));
    let flow = Flow::new("g").then(same("a")).then(group);
    assert_eq!(flow.validate(), Ok(()));
}

/// Row 25: definition checks. Nothing to do is nothing that anybody means.
#[tokio::test]
async fn what_is_empty_is_refused() {
    let empty = Flow::<u32, u32>::new("f");
    assert_eq!(empty.validate(), Err(BuildError::Empty { flow: "f".into(), place: "f".into() }));
    assert_eq!(problem(&empty), "the flow `f` has nothing in `f`; add a node to it");

    let no_arms: Switch<u32, u32> = switch("s");
    assert_eq!(
        problem(&Flow::new("f").then(no_arms.strict())),
        "the flow `f` has nothing in `f/s`; add a node to it"
    );

    let child = || Flow::<u32, u32>::new("child");
    assert_eq!(
        problem(&Flow::new("f").then(same("a")).then(child())),
        "the flow `f` has nothing in `f/child`; add a node to it"
    );
    let inside = settled("try", all("g", (same("a"), child())));
    assert_eq!(
        problem(&Flow::new("f").then(inside)),
        "the flow `f` has nothing in `f/try/g/child`; add a node to it"
    );
}

/// Row 25: definition checks. A name becomes a part of paths, so it must not look like several.
#[test]
fn names_fit_into_paths() {
    for name in ["", "a/b", "a#2", "a[0]", "]"] {
        let expected = format!(
            "the flow `f` has a node named `{name}` at `f`; \
             a name is not empty and has none of `/`, `#`, `[` and `]`"
        );
        assert_eq!(problem(&Flow::new("f").then(same(name))), expected);
    }
    let label = switch("s").when("a/b", |_| true, same("x")).otherwise(same("y"));
    assert_eq!(
        Flow::new("f").then(label).validate(),
        Err(BuildError::Name { flow: "f".into(), place: "f/s".into(), name: "a/b".into() })
    );
    assert_eq!(
        Flow::new("a/b").then(same("x")).validate(),
        Err(BuildError::Name { flow: "a/b".into(), place: "a/b".into(), name: "a/b".into() })
    );
    assert_eq!(Flow::new("jede Größe").then(same("größer als 2?")).validate(), Ok(()));
}

/// Row 25: definition checks. They look into every kind of node.
#[test]
fn every_kind_of_node_is_looked_into() {
    let child = || Flow::<u32, u32>::new("child");
    let lists = Flow::new("f").then(each("e", 2, child()));
    assert_eq!(
        lists.validate().unwrap_err().to_string(),
        "the flow `f` has nothing in `f/e/child`; add a node to it"
    );
    let lists = Flow::new("f").then(each_settled("e", 2, same("")));
    assert!(matches!(lists.validate(), Err(BuildError::Name { place, .. }) if place == "f/e"));
    let again =
        step("", async |_cx: Context, x: u32| Ok(agentflow_flow::Next::<u32, u32>::Done(x)));
    let loops = Flow::new("f").then(repeat("r", 2, again));
    assert!(matches!(loops.validate(), Err(BuildError::Name { place, .. }) if place == "f/r"));
}

/// Row 25: definition checks. A run of a flow that is wrong says so, and does nothing: no step, no journal.
#[tokio::test]
async fn a_run_of_an_invalid_flow_is_refused() {
    let flow = Flow::new("f").then(same("a")).then(same("a"));
    let store = MemoryStore::new();

    let report = flow.run(1).store(Arc::new(store.clone())).await;

    let error = report.error().unwrap();
    assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "`f`: the flow `f` has two nodes named `a` at `f`; give one another name"
    );
    assert!(report.trace.is_empty());
    assert!(store.runs().is_empty());
}

/// Row 25: definition checks. What was added after a check is checked, too.
#[test]
fn a_longer_flow_is_checked_anew() {
    let flow = Flow::new("f").then(same("a"));
    assert_eq!(flow.validate(), Ok(()));
    let longer = flow.clone().then(same("a"));
    assert!(longer.validate().is_err());
    assert_eq!(flow.validate(), Ok(()));
}
