//! Rows 7 to 11: conditions, routes and ends, skipped steps, routers by predicate and by variant.

use std::sync::Arc;

use agentflow_flow::{
    Context, ErrorKind, Event, Flow, Kind, MemoryStore, Next, Node, Record, Retry, Shape,
    StepError, Store, each_settled, repeat, step, switch,
};
use serde::{Deserialize, Serialize};

use crate::probe::{Log, fails, pass, paths, watched, with};

fn named(
    name: &'static str,
) -> impl Fn(Context, u32) -> futures::future::Ready<Result<String, StepError>> {
    move |_cx, x| futures::future::ready(Ok(format!("{name} {x}")))
}

fn routes(events: &[Event]) -> Vec<String> {
    let routed = events.iter().filter_map(|event| match &event.kind {
        Kind::Routed(label) => Some(format!("{}: {label}", event.path)),
        _ => None,
    });
    routed.collect()
}

fn by_size() -> Node<u32, String> {
    switch("size")
        .when("small", |x: &u32| *x < 10, named("small"))
        .when("medium", |x: &u32| *x < 100, named("medium"))
        .otherwise(named("large"))
}

/// Row 7: condition.
#[tokio::test]
async fn the_first_arm_whose_test_holds_takes_the_value() {
    let flow = Flow::new("f").then(by_size());
    for (x, output) in [(5, "small 5"), (50, "medium 50"), (500, "large 500")] {
        assert_eq!(flow.run(x).await.into_result().unwrap(), output);
    }
}

/// Row 7: the choice is an event, told before the arm begins.
#[tokio::test]
async fn the_choice_is_an_event() {
    let (report, events) = watched(Flow::new("f").then(by_size()).run(50)).await;
    assert_eq!(routes(&events), ["f/size: medium"]);
    let at = |path: &str, kind: fn(&Kind) -> bool| {
        events.iter().position(|event| event.path == path && kind(&event.kind)).unwrap()
    };
    let routed = at("f/size", |kind| matches!(kind, Kind::Routed(_)));
    assert!(at("f/size", |kind| matches!(kind, Kind::StepStarted)) < routed);
    assert!(routed < at("f/size/medium", |kind| matches!(kind, Kind::StepStarted)));
    assert_eq!(paths(&report), ["f/size/medium", "f/size"]);
}

/// Row 7: no `otherwise` where the value may pass unchanged is said in the code.
#[tokio::test]
async fn an_arm_may_leave_the_value_alone() {
    let double = step("double", async |_cx: Context, x: u32| Ok(2 * x));
    let same = async |_cx: Context, x: u32| Ok(x);
    let flow = Flow::new("f").then(switch("s").when("odd", |x| x % 2 == 1, double).otherwise(same));
    let (report, events) = watched(flow.run(4)).await;
    assert_eq!(report.into_result().unwrap(), 4);
    assert_eq!(routes(&events), ["f/s: otherwise"]);
}

/// Row 7: in Orchflow a predicate that raises escapes the run. Ours is a failure of the run, with path and events.
#[tokio::test]
async fn a_test_that_panics_is_a_failure_at_the_path_of_the_switch() {
    let log = Log::default();
    let arm = with(&log, "arm", async |log: Log, _cx: Context, x: u32| {
        log.say("arm");
        Ok(x)
    });
    let choice = switch("s").when("a", |x: &u32| 10 / *x > 2, arm.clone()).otherwise(arm);
    let (report, events) = watched(Flow::new("f").then(pass("before")).then(choice).run(0)).await;
    let error = report.error().unwrap();
    assert_eq!(error.path, "f/s");
    assert!(matches!(&error.kind, ErrorKind::Panicked(text) if text.contains("divide by zero")));
    assert!(log.words().is_empty());
    let last: Vec<_> = events.iter().rev().take(2).map(|event| &event.kind).collect();
    assert!(matches!(last[..], [Kind::RunEnded(_), Kind::StepFailed { .. }]), "{last:?}");
}

fn by_label() -> agentflow_flow::Switch<String, String> {
    let label = |text: &String| text.split(' ').next().unwrap_or_default().to_owned();
    switch("route")
        .on(label)
        .arm("bill", async |_cx: Context, text: String| Ok(format!("billing: {text}")))
        .arm("help", async |_cx: Context, text: String| Ok(format!("support: {text}")))
        .end("stop", |text: &String| text == "stop", |text| format!("ended: {text}"))
}

/// Row 8: route map and END.
#[tokio::test]
async fn a_label_chooses_its_arm() {
    let flow = Flow::new("f").then(by_label().strict());
    let outputs =
        [("help me", "support: help me"), ("bill 7", "billing: bill 7"), ("stop", "ended: stop")];
    for (input, output) in outputs {
        assert_eq!(flow.run(input.to_owned()).await.into_result().unwrap(), output);
    }
}

/// Row 8: an unknown label fails the run, and what was done before stays in the trace.
#[tokio::test]
async fn an_unknown_label_is_no_route() {
    let flow = Flow::new("f").then(pass("before")).then(by_label().strict());
    let report = flow.run("what now".to_owned()).await;
    assert_eq!(paths(&report), ["f/before", "f/route"]);
    let error = report.into_result().unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::NoRoute(_)));
    assert_eq!(
        error.to_string(),
        "`f/route`: no arm takes the label `what`; add one, or end the switch with `otherwise`"
    );
}

/// Row 8: or it goes where the others go.
#[tokio::test]
async fn an_unknown_label_goes_to_otherwise() {
    let other = async |_cx: Context, text: String| Ok(format!("other: {text}"));
    let flow = Flow::new("f").then(by_label().otherwise(other));
    assert_eq!(flow.run("what".to_owned()).await.into_result().unwrap(), "other: what");
    assert_eq!(flow.run("bill".to_owned()).await.into_result().unwrap(), "billing: bill");
}

/// Row 8: in StepFlow execution falls through to the steps declared below the target. An arm is all that runs.
#[tokio::test]
async fn arms_do_not_fall_through() {
    let flow = Flow::new("f").then(by_label().strict()).then(pass("after"));
    let report = flow.run("bill".to_owned()).await;
    assert_eq!(paths(&report), ["f/route/bill", "f/route", "f/after"]);
}

/// Row 8: an arm that ends the flow holds no step; one that goes on holds the rest.
#[tokio::test]
async fn end_is_an_arm_with_nothing_to_do() {
    let rest = Flow::new("rest").then(pass::<u32>("more")).then(pass("most"));
    let choice = switch("s").end("enough", |x| *x >= 10, |x| x).otherwise(rest);
    let flow = Flow::new("f").then(choice);
    let (report, events) = watched(flow.run(10)).await;
    assert_eq!(routes(&events), ["f/s: enough"]);
    assert!(!paths(&report).iter().any(|path| path.contains("more")));
    assert_eq!(report.into_result().unwrap(), 10);
    assert!(paths(&flow.run(1).await).contains(&"f/s/otherwise/more".to_owned()));
}

/// Row 8: there is no jump back; going back is a loop, and it is bounded.
#[tokio::test]
async fn going_back_is_a_loop_around_the_switch() {
    let again = async |_cx: Context, x: u32| Ok(Next::Again(x + 1));
    let done = async |_cx: Context, x: u32| Ok(Next::Done(format!("done at {x}")));
    let body = switch("enough").when("no", |x: &u32| *x < 3, again).otherwise(done);
    let (report, events) = watched(Flow::new("f").then(repeat("loop", 5, body)).run(1)).await;
    assert_eq!(report.into_result().unwrap(), "done at 3");
    let went = ["f/loop[0]/enough: no", "f/loop[1]/enough: no", "f/loop[2]/enough: otherwise"];
    assert_eq!(routes(&events), went);
}

/// The places of all leaves of a flow, as they are in paths of a run without lists and loops.
fn leaves(shape: &Shape, place: &str) -> Vec<String> {
    match &shape.children[..] {
        [] => vec![place.to_owned()],
        children => {
            let below = |child: &Shape| leaves(child, &format!("{place}/{}", child.name));
            children.iter().flat_map(below).collect()
        }
    }
}

/// Row 9: skipped steps are those of the definition without an attempt.
#[tokio::test]
async fn skipped_steps_are_those_that_have_no_attempt() {
    let flow = Flow::new("f").then(by_size()).then(pass("after"));
    let report = flow.run(50).await;
    let skipped = |report: &agentflow_flow::Report<String>| -> Vec<String> {
        let all = leaves(&flow.shape(), "f");
        all.into_iter().filter(|path| report.attempts(path).next().is_none()).collect()
    };
    assert_eq!(skipped(&report), ["f/size/small", "f/size/otherwise"]);
}

/// Row 9: in StepFlow a failed flow without routes says nothing of the steps that did not run.
#[tokio::test]
async fn steps_after_a_failure_are_skipped_too() {
    let flow = Flow::new("f").then(fails::<u32>("bad", 0)).then(pass("b")).then(pass("c"));
    let report = flow.run(1).await;
    let all = leaves(&flow.shape(), "f");
    let skipped: Vec<_> =
        all.iter().filter(|path| report.attempts(path).next().is_none()).collect();
    assert_eq!(skipped, ["f/b", "f/c"]);
}

/// Row 9: decisions are kept, in the journal as in the events.
#[tokio::test]
async fn the_journal_keeps_each_decision() {
    let store = Arc::new(MemoryStore::new());
    let report = Flow::new("f").then(by_size()).run(50).store(store.clone()).await;
    let records = store.load(&report.run).await.unwrap();
    let routed = records.iter().find_map(|record| match record {
        Record::Routed { path, label } => Some((path.as_str(), label.as_str())),
        _ => None,
    });
    assert_eq!(routed, Some(("f/size", "medium")));
}

/// Row 10: predicate router. In PenguiFlow a message that no rule takes is gone in silence.
#[tokio::test]
async fn a_value_that_no_test_takes_is_an_error() {
    let choice = switch("s").when("small", |x: &u32| *x < 10, named("small")).strict();
    let error = Flow::new("f").then(choice).run(10).await.into_result().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`f/s`: no arm takes this `u32`; add one, or end the switch with `otherwise`"
    );
}

/// Row 10: a value without a route stays without one.
#[tokio::test]
async fn no_route_is_not_tried_again() {
    let choice = switch("s").when("small", |x: &u32| *x < 10, named("small")).strict();
    let flow = Flow::new("f").then(choice.retry(Retry::at_once(5))).retry(Retry::at_once(5));
    assert_eq!(flow.run(10).await.trace.len(), 1);
}

/// Row 10: several targets, of which some may fail and some may not exist.
#[tokio::test]
async fn a_router_of_several_targets_is_a_map_over_them() {
    let to = |label: &'static str| move |(to, _): &(String, u32)| to == label;
    let mail = async |_cx: Context, (_, x): (String, u32)| Ok(format!("mail {x}"));
    let page = async |_cx: Context, _: (String, u32)| Err(StepError::failed("no pager"));
    let target =
        switch("to").when("mail", to("mail"), mail).when("page", to("page"), page).strict();
    let choose = step("choose", async |_cx: Context, x: u32| {
        Ok(["mail", "page", "fax"].map(|to| (to.to_owned(), x)).to_vec())
    });
    let flow = Flow::new("f").then(choose).then(each_settled("send", 8, target));
    let outputs = flow.run(7).await.into_result().unwrap();
    assert_eq!(outputs[0], Ok("mail 7".to_owned()));
    let failures: Vec<_> = outputs[1..].iter().map(|output| output.as_ref().unwrap_err()).collect();
    assert_eq!(
        (failures[0].path.as_str(), failures[0].kind.as_str()),
        ("f/send[1]/to/page", "failed")
    );
    assert_eq!(
        (failures[1].path.as_str(), failures[1].kind.as_str()),
        ("f/send[2]/to", "no_route")
    );
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Document {
    Text(String),
    Pages { pages: Vec<u32> },
    Empty,
}

fn by_variant() -> agentflow_flow::Switch<Document, String> {
    let text = |document| match document {
        Document::Text(text) => Ok(text),
        other => Err(other),
    };
    let pages = |document| match document {
        Document::Pages { pages } => Ok(pages),
        other => Err(other),
    };
    switch("kind")
        .case("text", text, async |_cx: Context, text: String| Ok(text.to_uppercase()))
        .case(
            "pages",
            pages,
            step("sum", async |_cx: Context, pages: Vec<u32>| {
                Ok(pages.iter().sum::<u32>().to_string())
            }),
        )
}

/// Row 11: union router. An arm gets the payload of its variant, in its type.
#[tokio::test]
async fn an_arm_gets_the_payload_of_its_variant() {
    let flow = Flow::new("f").then(by_variant().strict());
    let report = flow.run(Document::Text("abc".to_owned())).await;
    assert_eq!(paths(&report), ["f/kind/text", "f/kind"]);
    assert_eq!(report.into_result().unwrap(), "ABC");
    let report = flow.run(Document::Pages { pages: vec![1, 2] }).await;
    assert_eq!(paths(&report), ["f/kind/pages/sum", "f/kind/pages", "f/kind"]);
    assert_eq!(report.into_result().unwrap(), "3");
}

/// Row 11: a variant without an arm is an error, or comes whole to `otherwise`.
#[tokio::test]
async fn a_variant_without_an_arm_is_no_route() {
    let error = Flow::new("f").then(by_variant().strict()).run(Document::Empty).await;
    assert!(
        matches!(error.into_result().unwrap_err().kind, ErrorKind::NoRoute(text) if text.contains("Document"))
    );
    let rest = async |_cx: Context, document: Document| Ok(format!("{document:?}"));
    let flow = Flow::new("f").then(by_variant().otherwise(rest));
    assert_eq!(flow.run(Document::Empty).await.into_result().unwrap(), "Empty");
}
