//! Messages of several customers go through triage, retrieval and packing: PenguiFlow's quickstart, with its controller
//! loop, its playbooks and its join.
//!
//! ```text
//! cargo run -p agentflow-flow --example triage
//! cargo run -p agentflow-flow --example triage -- --tokens 12 "how do I export a dashboard and invite a guest?"
//! ```
//!
//! To see: two messages are in flight, each with its own headers, and each ends in a report, whatever becomes of it: one
//! is out of hops, and with `--tokens 12` another is out of tokens. The controller calls the playbook that fits until it
//! knows enough; `lookup` joins two retrievers, `incident` takes the first of three replicas that answers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod search;

use std::process::ExitCode;
use std::time::Duration;

use agentflow_flow::{Context, Flow, Next, Step, StepError, all, first_k, node, repeat, step};
use futures::{StreamExt, stream};
use search::{Hit, by_spelling, by_words, similarity, words};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Message {
    tenant: String,
    text: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Topic {
    Help,
    Incident,
}

/// What the controller knows.
#[derive(Clone, Serialize, Deserialize)]
struct Memory {
    topic: Topic,
    words: Vec<String>,
    /// Those of the words that nothing was found about yet.
    open: Vec<String>,
    found: Vec<Hit>,
}

fn triage() -> Flow<Message, String> {
    let controller = Controller { lookup: lookup(), incident: incident() };
    Flow::new("triage")
        .then(step("triage", sort))
        .then(repeat("controller", 3, node("hop", controller)))
        .then(step("pack", pack))
}

async fn sort(_cx: Context, message: Message) -> Result<Memory, StepError> {
    let words = words(&message.text);
    let broken = ["down", "fail", "slow", "timeout"];
    let incident = words.iter().any(|word| broken.contains(&word.as_str()));
    let topic = if incident { Topic::Incident } else { Topic::Help };
    Ok(Memory { topic, open: words.clone(), words, found: Vec::new() })
}

/// A step that has something of its own: the playbooks that it chooses from.
struct Controller {
    lookup: Flow<Vec<String>, Vec<Hit>>,
    incident: Flow<Vec<String>, Vec<Hit>>,
}

impl Step<Memory> for Controller {
    type Output = Next<Memory, Memory>;

    async fn run(&self, cx: Context, mut memory: Memory) -> Result<Self::Output, StepError> {
        let playbook = match memory.topic {
            Topic::Help => &self.lookup,
            Topic::Incident => &self.incident,
        };
        let hits = cx.call("playbook", playbook, memory.open.clone()).await?;
        for hit in hits {
            let known = words(&hit.text);
            cx.spend("tokens", known.len() as u64)?;
            let is_known = |word: &String| known.iter().any(|known| similarity(known, word) > 0.3);
            memory.open.retain(|word| !is_known(word));
            memory.found.push(hit);
        }
        let knows_enough = 2 * memory.open.len() < memory.words.len();
        Ok(if knows_enough { Next::Done(memory) } else { Next::Again(memory) })
    }
}

/// The passage on which two retrievers agree most.
fn lookup() -> Flow<Vec<String>, Vec<Hit>> {
    let retrievers = (
        step("words", async |_cx: Context, terms: Vec<String>| Ok(by_words("help", &terms, 3))),
        step("spelling", async |_cx: Context, terms: Vec<String>| {
            Ok(by_spelling("help", &terms, 3))
        }),
    );
    Flow::new("lookup").then(all("retrieve", retrievers)).then(step("join", join))
}

async fn join(_cx: Context, (one, other): (Vec<Hit>, Vec<Hit>)) -> Result<Vec<Hit>, StepError> {
    // Reciprocal ranks add up, since the scores of different retrievers cannot.
    let rank = |hits: &[Hit], hit: &Hit| {
        let place = hits.iter().position(|other| other.source == hit.source);
        place.map_or(0.0, |place| 1.0 / (60.0 + place as f64))
    };
    let score = |hit: &Hit| rank(&one, hit) + rank(&other, hit);
    let best = one.iter().chain(&other).max_by(|a, b| score(a).total_cmp(&score(b)));
    Ok(best.cloned().into_iter().collect())
}

/// What the first of three replicas of the status board says.
fn incident() -> Flow<Vec<String>, Vec<Hit>> {
    let spread = async |_cx: Context, terms: Vec<String>| {
        Ok(["east", "west", "south"].map(|replica| (replica.to_owned(), terms.clone())).to_vec())
    };
    Flow::new("incident")
        .then(step("spread", spread))
        .then(first_k("first", 1, step("replica", ask_replica)))
        .then(step("join", async |_cx: Context, answers: Vec<Vec<Hit>>| Ok(answers.concat())))
}

async fn ask_replica(
    _cx: Context,
    (replica, terms): (String, Vec<String>),
) -> Result<Vec<Hit>, StepError> {
    match replica.as_str() {
        "east" => Err(StepError::failed("connection refused")),
        "south" => std::future::pending().await, // dropped as soon as another one answers
        _ => Ok(by_words("status", &terms, 1)),
    }
}

async fn pack(cx: Context, memory: Memory) -> Result<String, StepError> {
    let header = |name| cx.header(name).unwrap_or_default();
    let found = memory.found.iter().map(|hit| format!("{} ({})", hit.text, hit.source));
    let text = found.collect::<Vec<_>>().join(" ");
    Ok(format!("for {}, trace {}: {text}", header("tenant"), header("trace")))
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some((messages, tokens)) = arguments() else {
        eprintln!("usage: triage [--tokens N] [MESSAGE]...");
        return ExitCode::from(2);
    };
    let (total, mut answered) = (messages.len(), 0);
    let flow = triage();
    let mut reports = flow.pipe_with(stream::iter(messages), 2, move |index, message, run| {
        run.header("tenant", &message.tenant)
            .header("trace", &index.to_string())
            .budget("tokens", tokens)
            .deadline(Duration::from_secs(10))
    });
    while let Some((index, report)) = reports.next().await {
        let spent = report.spent.get("tokens").copied().unwrap_or_default();
        match report.into_result() {
            Ok(answer) => {
                answered += 1;
                println!("{index}, {spent} tokens: {answer}");
            }
            Err(error) => println!("{index}, {spent} tokens: no answer: {error}"),
        }
    }
    println!("{answered} of {total} answered");
    ExitCode::SUCCESS
}

/// Messages, and the tokens that each may spend.
fn arguments() -> Option<(Vec<Message>, u64)> {
    let (mut messages, mut tokens) = (Vec::new(), 60);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--tokens" => tokens = args.next()?.parse().ok()?,
            _ if arg.starts_with('-') => return None,
            _ => messages.push(Message { tenant: "you".to_owned(), text: arg }),
        }
    }
    if messages.is_empty() {
        messages = INBOX
            .map(|(tenant, text)| Message { tenant: tenant.into(), text: text.into() })
            .to_vec();
    }
    Some((messages, tokens))
}

const INBOX: [(&str, &str); 5] = [
    ("acme", "show the marketing report of the last thirty days"),
    ("globex", "can I exprot a dashbord as CSV?"),
    ("acme", "the checkout fails with a timeout"),
    ("initech", "who won the chess match of 1972?"),
    ("globex", "how do I export a dashboard and invite a guest?"),
];
