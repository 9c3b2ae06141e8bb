//! Typed workflows: named steps with policies, run in a row, at once, by choice, in a loop; watched live, traced, and
//! resumed where they stopped.
//!
//! Seven things make up the crate. A **value** flows from step to step; it is any type that can be cloned and written
//! as JSON ([`Data`]). A [`Step`] makes a value of a value. A [`Node`] is a step with a name and a policy. A [`Flow`] is
//! nodes in a row. A [`Run`] is one execution of a flow and ends in a [`Report`]. Each attempt of a step has a
//! [`Context`]. A [`Store`] keeps journals of runs.
//!
//! # A first flow
//!
//! ```
//! use agentflow_flow::{Context, Flow, StepError, step};
//!
//! async fn count(_cx: Context, text: String) -> Result<usize, StepError> {
//!     Ok(text.split_whitespace().count())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), agentflow_flow::FlowError> {
//! let flow = Flow::new("words")
//!     .then(step("read", async |_cx: Context, path: String| Ok(std::fs::read_to_string(path)?)))
//!     .then(step("count", count));
//!
//! let report = flow.run("Cargo.toml".to_owned()).await;
//! assert!(report.into_result()? > 10);
//! # Ok(()) }
//! ```
//!
//! The output of each node is the input of the next. Nodes that do not fit do not compile:
//!
//! ```compile_fail,E0277
//! # use agentflow_flow::{Context, Flow, step};
//! let flow = Flow::new("words")
//!     .then(step("count", async |_cx: Context, text: String| Ok(text.len())))
//!     .then(step("shout", async |_cx: Context, text: String| Ok(text.to_uppercase())));
//! ```
//!
//! There is no second channel for state: what a later step needs is part of the value. So an attempt that failed leaves
//! nothing half-changed, and branches cannot race.
//!
//! # Policy
//!
//! A node says how often its step is tried, how long an attempt may take, and what its output has to keep. `?` makes an
//! error that another attempt may heal; [`StepError::fatal`] makes one that it cannot. Panics are errors, too.
//!
//! ```
//! # use agentflow_flow::{Context, Flow, Retry, StepError, step};
//! # use std::time::Duration;
//! # async fn ask_server(question: &str) -> Result<String, std::io::Error> { Ok(question.to_owned()) }
//! let fetch = step("fetch", async |_cx: Context, question: String| Ok(ask_server(&question).await?))
//!     .retry(Retry::attempts(5)) // waits 200 ms, 400 ms, ..., with jitter, 30 s at most
//!     .timeout(Duration::from_secs(20)) // of one attempt
//!     .limit(4) // attempts at once, over all runs
//!     .check(|reply: &String| match reply.is_empty() {
//!         true => Err(StepError::invalid("the reply is empty")), // never tried again
//!         false => Ok(()),
//!     });
//! # let _ = Flow::new("example").then(fetch);
//! ```
//!
//! What concerns the whole is said to the run: `flow.run(x).deadline(d).budget("tokens", 50_000)`. The deadline ends a step
//! that is running; a budget is [spent](Context::spend) by steps. Dropping a run cancels all that is in it.
//!
//! # More than a row
//!
//! Groups, choices and loops are nodes like others, and hold any nodes:
//!
//! | node | does | fails when |
//! |---|---|---|
//! | [`all`] | different branches on one input, at once: a tuple | the first branch does; the others are cancelled |
//! | [`each`] | one node on every item of a list, so many at once: a list in order | the same |
//! | [`each_settled`] | the same, going on: a list of results | only what concerns the run |
//! | [`first_k`] | the first `k` of them that are done | `k` cannot be reached |
//! | [`switch`] | one of its arms: by predicate, by payload, by label | no arm takes the value, and it is `strict` |
//! | [`repeat`] | again, until [`Next::Done`], so many hops at most | the hops are used up |
//! | [`settled`] | makes a value of a failure, for a `switch` to recover | only what concerns the run |
//! | [`ask`], [`approve`] | a human answers, or lets pass | the human says no |
//! | a [`Flow`] | its nodes, as a child | one of them does |
//!
//! ```
//! use agentflow_flow::{Context, Flow, Next, each, repeat, step};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), agentflow_flow::FlowError> {
//! let collatz = repeat("steps", 1000, step("step", async |_cx: Context, (x, n): (u64, u32)| {
//!     Ok(match x {
//!         1 => Next::Done(n),
//!         x if x % 2 == 0 => Next::Again((x / 2, n + 1)),
//!         x => Next::Again((3 * x + 1, n + 1)),
//!     })
//! }));
//! let flow = Flow::new("collatz").then(each("number", 8, collatz));
//! let report = flow.run(vec![(6, 0), (7, 0), (27, 0)]).await;
//! assert_eq!(report.into_result()?, [8, 16, 111]);
//! # Ok(()) }
//! ```
//!
//! Every node has a [`Path`] such as `collatz/number[2]/steps[110]/step`: the place of its events, its trace, its records,
//! and with the run the key under which a server may know the work ([`Context::key`]). A flow over a stream of inputs is
//! [`Flow::pipe`].
//!
//! # Watching
//!
//! [`Run::events`] gives a live stream of [`Event`]s, [`Run::observe`] shows them to a function on a thread of its own.
//! Neither can fail a run or slow it: a reader that falls behind is told how many it missed. [`Report::trace`] has every
//! attempt all the same. Steps tell what they want to tell with [`Context::progress`].
//!
//! # Stopping and going on
//!
//! With a store, a run keeps a journal: a line for every output, written and synced before the next step begins. After a
//! crash [`Flow::resume`] goes on where it stopped, also inside groups and loops:
//!
//! ```
//! use std::sync::Arc;
//! use agentflow_flow::{Context, Flow, JsonlStore, RunId, step};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let flow = Flow::new("job").then(step("work", async |_cx: Context, x: u32| Ok(x + 1)));
//! let store = Arc::new(JsonlStore::new(dir));
//! let report = flow.run(1).store(store.clone()).id(RunId::new("job-1")?).await;
//! assert_eq!(report.into_result()?, 2);
//!
//! // In another process, another day; here there is nothing left to do.
//! let report = flow.resume(store, RunId::new("job-1")?).await;
//! assert_eq!(report.into_result()?, 2);
//! # Ok(()) }
//! ```
//!
//! The rules, all of them:
//!
//! - A step whose output is in the journal does not run; the recorded value is used. Everything else runs, on recorded
//!   inputs. What flows on in the first place is what was written, so both runs see the same.
//! - A step whose effect happened, but whose record was not durable yet, runs again: at least once. [`Context::key`] is
//!   the same both times.
//! - Groups, choices and loops are put together again from what is inside them. Predicates and conversions therefore
//!   have to be functions of the value; the choice of a `switch` and what [`first_k`] got first are recorded.
//! - One process at a time has the journal (its lease ends with the process).
//! - The flow has to have the same nodes, by name, kind and order, as the one that began the run. Policies, descriptions and
//!   the insides of steps may change.
//!
//! An [`ask`] or [`approve`] that nobody answers at once pauses the run: the report is [`End::Paused`], and holds for each
//! question a [`Pause`], plain data with a token that is good for one answer:
//!
//! ```
//! use std::sync::Arc;
//! use agentflow_flow::{Context, Decision, End, Flow, MemoryStore, approve, step};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), agentflow_flow::FlowError> {
//! let flow = Flow::new("refund")
//!     .then(approve("gate", |amount: &u32| format!("refund {amount}?")))
//!     .then(step("pay", async |_cx: Context, amount: u32| Ok(format!("paid {amount}"))));
//! let store = Arc::new(MemoryStore::new());
//! let report = flow.run(250).store(store.clone()).await;
//! let End::Paused(pauses) = report.end else { panic!("it waits") };
//!
//! let report = flow.resume(store, report.run).decide(&pauses[0], Decision::yes().by("ann")).await;
//! assert_eq!(report.into_result()?, "paid 250");
//! # Ok(()) }
//! ```
//!
//! # Looking at it
//!
//! [`Flow::graph`] draws a flow from its definition (Mermaid, DOT, JSON). [`testing`] has scripted steps, steps that
//! fail so many times, a recorder of events and stores that break; `#[tokio::test(start_paused = true)]` makes every
//! timeout, deadline and backoff take no time.
//!
//! Runs need a [tokio](https://docs.rs/tokio) runtime with time enabled. What is left out on purpose: graphs that are not made
//! of rows, groups, choices and loops; resuming by a changed flow; more than one machine.

#![forbid(unsafe_code)]

mod all;
mod ask;
mod context;
mod data;
mod each;
mod error;
mod event;
mod flow;
pub mod graph;
mod id;
mod jsonl;
mod live;
mod memory;
mod node;
mod observer;
mod path;
mod pipe;
mod recording;
mod repeat;
mod report;
mod retry;
mod run;
mod shape;
mod step;
mod store;
mod switch;
pub mod testing;
mod workers;

pub use all::{Branches, all};
pub use ask::{Decision, Pause, approve, ask};
pub use context::Context;
pub use data::{Data, Volatile};
pub use each::{each, each_settled, first_k, settled};
pub use error::{ErrorKind, Failure, FlowError, Settled, StepError};
pub use event::{Event, Events, Kind};
pub use flow::{BuildError, Flow};
pub use graph::Graph;
pub use id::{InvalidRunId, RunId, Token};
pub use jsonl::JsonlStore;
pub use memory::MemoryStore;
pub use node::{IntoNode, Node, blocking, node, step};
pub use observer::{Observer, Observers, Watched};
pub use path::Path;
pub use pipe::{Gathered, gather};
pub use repeat::{Next, repeat, repeat_or};
pub use report::{Attempt, End, Outcome, Report};
pub use retry::Retry;
pub use run::Run;
pub use shape::{Shape, ShapeKind};
pub use step::Step;
pub use store::{Ending, Journal, Opened, Record, Store, StoreError, Tried};
pub use switch::{Switch, switch};
