//! Rows 42 to 46: event handlers, error events, graph, agent turns, test helpers.

use std::collections::VecDeque;

use agentflow_flow::testing::{answers, fail_times, record, scripted};
use agentflow_flow::{
    Context, Decision, ErrorKind, Failure, Flow, Kind, Next, Node, Retry, Settled, Step, StepError,
    all, approve, node, repeat, repeat_or, settled, step, switch,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// What an order goes through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Ordered { items: u32 },
    Packed { parcels: u32 },
    Shipped(Vec<String>),
}

async fn pack(_cx: Context, items: u32) -> Result<Next<Event, Vec<String>>, StepError> {
    Ok(Next::Again(Event::Packed { parcels: items.div_ceil(3) }))
}

async fn ship(cx: Context, parcels: u32) -> Result<Next<Event, Vec<String>>, StepError> {
    cx.progress(format!("{parcels} parcels"));
    Ok(Next::Again(Event::Shipped((1..=parcels).map(|n| format!("parcel {n}")).collect())))
}

async fn close(_cx: Context, labels: Vec<String>) -> Result<Next<Event, Vec<String>>, StepError> {
    Ok(Next::Done(labels))
}

/// Each handler gets the payload of its event, typed.
fn dispatch() -> Node<Event, Next<Event, Vec<String>>> {
    switch("dispatch")
        .case(
            "ordered",
            |e| if let Event::Ordered { items } = e { Ok(items) } else { Err(e) },
            pack,
        )
        .case(
            "packed",
            |e| if let Event::Packed { parcels } = e { Ok(parcels) } else { Err(e) },
            ship,
        )
        .case(
            "shipped",
            |e| if let Event::Shipped(labels) = e { Ok(labels) } else { Err(e) },
            close,
        )
        .strict()
}

/// Row 42: event handlers. An event picks its handler by its variant, which gives the next event; the end is a value, and
/// ends the loop.
#[tokio::test]
async fn an_event_picks_its_handler() {
    let flow = Flow::new("order").then(repeat("events", 10, dispatch()));
    let (events, report) = flow.run(Event::Ordered { items: 7 }).events(128);
    let report = report.await;
    assert_eq!(report.into_result().unwrap(), ["parcel 1", "parcel 2", "parcel 3"]);
    let routes: Vec<String> = events
        .filter_map(async |event| match event.kind {
            Kind::Routed(label) => Some(format!("{} {label}", event.path)),
            Kind::Progress(text) => Some(format!("{} {text}", event.path)),
            _ => None,
        })
        .collect()
        .await;
    assert_eq!(
        routes,
        [
            "order/events[0]/dispatch ordered",
            "order/events[1]/dispatch packed",
            r#"order/events[1]/dispatch/packed "3 parcels""#,
            "order/events[2]/dispatch shipped",
        ]
    );
}

/// Row 42: event handlers. Several handlers of one event are a pipe or a group, as the definition says.
#[tokio::test]
async fn several_handlers_are_a_pipe_or_a_group() {
    let double = |name: &str| step(name, async |_cx: Context, x: u32| Ok(2 * x));
    let pipe = Flow::new("pipe").then(double("a")).then(double("b"));
    let both = all("both", (double("a"), double("b")));
    let sum = step("sum", async |_cx: Context, (a, b): (u32, u32)| Ok(a + b));
    let group = Flow::new("group").then(both).then(sum);
    let flow =
        |arm: Flow<u32, u32>| Flow::new("f").then(switch("on").when("x", |_| true, arm).strict());
    assert_eq!(flow(pipe).run(1).await.into_result().unwrap(), 4);
    assert_eq!(flow(group).run(1).await.into_result().unwrap(), 4);
}

/// Row 42: event handlers. Of several events that a handler gives, each is handled, in their order: the queue is the state.
#[tokio::test]
async fn every_event_of_a_handler_is_handled() {
    type Queue = (VecDeque<u32>, Vec<u32>);
    let next = step("next", async |_cx: Context, (mut queue, mut seen): Queue| {
        let Some(n) = queue.pop_front() else { return Ok(Next::Done(seen)) };
        seen.push(n);
        queue.extend((2 * n..=2 * n + 1).filter(|n| *n < 8));
        Ok(Next::Again((queue, seen)))
    });
    let flow = Flow::new("f").then(repeat("events", 20, next));
    let seen = flow.run((VecDeque::from([1]), Vec::new())).await.into_result().unwrap();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
}

/// Row 42: event handlers. A handler that gives only progress has given nothing to go on with, and a cycle has an end: both
/// are bounded, and the bound is an error or a value, as the definition says.
#[tokio::test]
async fn every_cycle_ends() {
    let spins = || {
        step("spins", async |cx: Context, x: u32| {
            cx.progress("still at it");
            Ok(Next::<u32, String>::Again(x + 1))
        })
    };
    let report = Flow::new("f").then(repeat("events", 9, spins())).run(0).await;
    assert_eq!(report.trace.len(), 10);
    assert!(matches!(report.error().unwrap().kind, ErrorKind::Hops(9)));
    let gives_up = repeat_or("events", 9, spins(), |x| format!("gave up at {x}"));
    assert_eq!(Flow::new("f").then(gives_up).run(0).await.into_result().unwrap(), "gave up at 9");
}

/// Row 42: event handlers. An event without a handler is an error that says so.
#[tokio::test]
async fn an_event_without_a_handler_is_an_error() {
    let partial = switch("dispatch")
        .case(
            "ordered",
            |e| if let Event::Ordered { items } = e { Ok(items) } else { Err(e) },
            pack,
        )
        .strict();
    let flow = Flow::new("order").then(repeat("events", 10, partial));
    let error = flow.run(Event::Ordered { items: 7 }).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NoRoute(_)));
    assert_eq!(error.path, "order/events[1]/dispatch");
}

async fn refund(_cx: Context, failure: Failure) -> Result<String, StepError> {
    Ok(format!("refunded, since {}", failure.message))
}

/// Row 43: error events. A failure that was raised reaches its handler like one that was returned: settled, it is a value
/// with a variant.
#[tokio::test]
async fn a_failure_reaches_its_handler() {
    let charge = step("charge", async |_cx: Context, card: u32| match card {
        0 => Err(StepError::fatal("no such card")),
        1 => panic!("overflow"),
        card => Ok(format!("charged {card}")),
    });
    let recover = switch("then")
        .case("failed", |r: Settled<String>| r.map_or_else(Ok, |text| Err(Ok(text))), refund)
        .case(
            "charged",
            |r: Settled<String>| r.map_err(Err),
            async |_cx: Context, text: String| Ok(text),
        );
    let flow = Flow::new("f").then(settled("try", charge)).then(recover.strict());
    let output = async |card| flow.run(card).await.into_result().unwrap();
    assert_eq!(output(7).await, "charged 7");
    assert_eq!(output(0).await, "refunded, since no such card");
    assert_eq!(output(1).await, "refunded, since panicked: overflow");
}

/// Row 43: error events. A handler can tell failures apart, and its own failure is a failure.
#[tokio::test]
async fn handlers_can_tell_failures_apart() {
    let work = step("work", async |_cx: Context, x: u32| -> Result<u32, StepError> {
        if x == 0 { Err(StepError::invalid("zero")) } else { Err(StepError::fatal("broken")) }
    });
    let by_kind = switch("recover")
        .on(|r: &Settled<u32>| {
            r.as_ref().map_or_else(|failure| failure.kind.clone(), |_| "done".into())
        })
        .arm("invalid", async |_cx: Context, _: Settled<u32>| Ok(0))
        .arm("done", async |_cx: Context, r: Settled<u32>| Ok(r?))
        .otherwise(async |_cx: Context, r: Settled<u32>| Ok(r?));
    let flow = Flow::new("f").then(settled("try", work.retry(Retry::at_once(2)))).then(by_kind);
    assert_eq!(flow.run(0).await.into_result().unwrap(), 0);
    let error = flow.run(1).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/recover/otherwise`: `f/try/work`: broken");
}

/// Row 45: agent turn. What a model is to be asked, and what was wrong with its answers so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Prompt {
    question: String,
    complaints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    value: i64,
    steps: Vec<String>,
}

/// A role and a model that answers in order of its script. An agent turn is a step like any other.
struct Turn {
    replies: Vec<&'static str>,
}

impl Step<Prompt> for Turn {
    type Output = Answer;

    async fn run(&self, cx: Context, prompt: Prompt) -> Result<Answer, StepError> {
        cx.spend("tokens", 10 + prompt.complaints.len() as u64)?;
        let reply = self.replies[prompt.complaints.len().min(self.replies.len() - 1)];
        serde_json::from_str(reply).map_err(|error| StepError::invalid(error.to_string()))
    }
}

/// Asks until the answer fits, telling the model what was wrong.
fn repairing(replies: &[&'static str], max_turns: u32) -> Flow<Prompt, Answer> {
    let turn = node("turn", Turn { replies: replies.to_vec() }).retry(Retry::at_once(5));
    let turn = turn.check(|answer| match answer.steps.is_empty() {
        true => Err(StepError::invalid("no steps")),
        false => Ok(()),
    });
    let attempt = step("attempt", {
        let turn = Flow::new("turn").then(settled("try", turn));
        move |cx: Context, mut prompt: Prompt| {
            let turn = turn.clone();
            async move {
                Ok(match cx.call("model", &turn, prompt.clone()).await? {
                    Ok(answer) => Next::Done(answer),
                    Err(failure) if failure.kind == "invalid" => {
                        prompt.complaints.push(failure.message);
                        Next::Again(prompt)
                    }
                    Err(failure) => return Err(StepError::fatal(failure)),
                })
            }
        }
    });
    Flow::new("agent").then(repeat("turns", max_turns, attempt))
}

fn prompt() -> Prompt {
    Prompt { question: "what is six times seven?".into(), complaints: Vec::new() }
}

/// Row 45: structured output. Empty, not JSON, not the schema, against a rule: each is `Invalid`, is not asked again as it
/// was, and is repaired by a loop that says what was wrong.
#[tokio::test]
async fn bad_output_is_repaired_by_a_loop() {
    let replies = [
        "",
        "forty-two",
        r#"{"value": "42", "steps": []}"#,
        r#"{"value": 42, "steps": [], "mood": "fine"}"#,
        r#"{"value": 42, "steps": []}"#,
        r#"{"value": 42, "steps": ["6 * 7"]}"#,
    ];
    let report = repairing(&replies, 8).run(prompt()).trace_inputs().await;

    assert_eq!(report.spent["tokens"], 10 + 11 + 12 + 13 + 14 + 15, "one call per turn");
    let last = report.attempts("agent/turns[5]/attempt").next().unwrap();
    let complaints = last.input.as_ref().unwrap()["complaints"].as_array().unwrap();
    let said = [
        "EOF while parsing",
        "expected ident",
        "invalid type: string",
        "unknown field `mood`",
        "no steps",
    ];
    assert_eq!(complaints.len(), said.len());
    for (complaint, said) in complaints.iter().zip(said) {
        assert!(complaint.as_str().unwrap().contains(said), "{complaint} is not `{said}`");
    }
    let answer = report.into_result().unwrap();
    assert_eq!(answer, Answer { value: 42, steps: vec!["6 * 7".into()] });
}

/// Row 45: structured output. A model that never gives a good answer ends in an error, within its turns and its budget.
#[tokio::test]
async fn a_hopeless_model_ends_in_an_error() {
    let error = repairing(&["{}"], 3).run(prompt()).await.into_result().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`agent/turns`: no result after 3 hops; allow more, or end the loop earlier"
    );
    let error =
        repairing(&["{}"], 99).run(prompt()).budget("tokens", 40).await.into_result().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`agent/turns[3]/attempt/model/try/turn`: the budget of 40 tokens is used up: 46 were spent"
    );
}

/// Row 44: graph export. It is read off the definition: nothing runs, the same flow gives the same text, and a changed one
/// another.
#[test]
fn a_graph_is_read_off_the_definition() {
    let never = |name: &str| {
        step(name, async |_cx: Context, _: u32| -> Result<u32, StepError> { panic!("it ran") })
    };
    let flow = || {
        let size = switch("size").when("small", |_| panic!("it ran"), never("pay"));
        Flow::new("refund").then(never("check")).then(size.otherwise(never("ask \"why\"")))
    };
    let mermaid = flow().graph().to_mermaid();
    assert!(mermaid.starts_with("flowchart TD\n"), "{mermaid}");
    assert!(mermaid.contains("ask #quot;why#quot;"), "{mermaid}");
    assert!(flow().graph().to_dot().starts_with("digraph"));
    assert_eq!(flow().graph(), flow().graph());
    assert_eq!(flow().graph().to_mermaid(), mermaid);
    assert_ne!(flow().then(never("log")).graph().to_mermaid(), mermaid);
    let json = serde_json::to_string(&flow().graph()).unwrap();
    assert_eq!(serde_json::from_str::<agentflow_flow::Graph>(&json).unwrap(), flow().graph());
}

/// Row 46: test helpers. Scripted steps and answers, steps that fail a number of times, and a recorder of the order.
#[tokio::test(start_paused = true)]
async fn a_flow_is_tested_with_what_comes_along() {
    let model = scripted::<String, _>("model", [1_u32, 2]);
    let human = answers::<u32, _>([Decision::yes()]);
    let save = async |_cx: Context, grade: u32| Ok(grade);
    let flow = Flow::new("grade")
        .then(model.clone())
        .then(approve("gate", |grade: &u32| *grade))
        .then(node("save", fail_times(2, save)).retry(Retry::attempts(3)));
    for (essay, grade) in [("one", 1), ("two", 2), ("three", 2)] {
        let (report, recorder) = record(flow.run(essay.to_owned()).answer(human.answerer())).await;
        assert_eq!(report.into_result().unwrap(), grade);
        assert_eq!(recorder.order(), ["grade/model", "grade/gate", "grade/save"]);
        assert_eq!(recorder.attempts("grade/save"), 3);
    }
    assert_eq!(model.inputs(), ["one", "two", "three"]);
    assert_eq!(human.questions(), [1, 2, 2]);
}
