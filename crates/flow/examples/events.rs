//! Events with handlers that send further events: the weather assistant of Microflow's examples.
//!
//! ```text
//! cargo run -p agentflow-flow --example events -- "how warm is it in Lisbon, Oslow and Atlantis?"
//! ```
//!
//! To see: `question` is followed by a `lookup` for each place and one `summary`; a lookup that fails is followed by
//! `failed`, whose handler tries another spelling or says that there is none. Handlers report progress while they run.
//! The queue is the state of a loop: at most 50 events are handled, and with a store a run could be resumed between two.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod search;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::process::ExitCode;

use agentflow_flow::{Context, Flow, Kind, Next, StepError, repeat, switch};
use search::similarity;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Question(String),
    Lookup(String),
    Failed { place: String, problem: String },
    Summary,
}

/// What handlers share: the events that wait, and what is known so far.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Desk {
    queue: VecDeque<Event>,
    warmth: Vec<(String, i32)>,
    answer: Vec<String>,
}

type Handled = Result<Next<Desk, String>, StepError>;

fn assistant() -> Flow<Desk, String> {
    let idle = |desk: &Desk| desk.queue.is_empty();
    let handler = switch("event")
        .end("idle", idle, |desk| Next::Done(desk.answer.join("\n")))
        .case(
            "question",
            first(|event| match event {
                Event::Question(text) => Ok(text),
                other => Err(other),
            }),
            question,
        )
        .case(
            "lookup",
            first(|event| match event {
                Event::Lookup(place) => Ok(place),
                other => Err(other),
            }),
            lookup,
        )
        .case(
            "failed",
            first(|event| match event {
                Event::Failed { place, problem } => Ok((place, problem)),
                other => Err(other),
            }),
            failed,
        )
        .case(
            "summary",
            first(|event| match event {
                Event::Summary => Ok(()),
                other => Err(other),
            }),
            summary,
        )
        .strict();
    Flow::new("weather").then(repeat("desk", 50, handler))
}

/// Takes the first event off the queue where it is one that `want` takes: payload, and the desk without it.
fn first<T>(want: fn(Event) -> Result<T, Event>) -> impl Fn(Desk) -> Result<(T, Desk), Desk> {
    move |mut desk| match desk.queue.pop_front().map(want) {
        Some(Ok(payload)) => Ok((payload, desk)),
        Some(Err(event)) => {
            desk.queue.push_front(event);
            Err(desk)
        }
        None => Err(desk),
    }
}

/// Places are the words with a capital letter, other than the first.
async fn question(cx: Context, (text, mut desk): (String, Desk)) -> Handled {
    let words = text.split(|c: char| !c.is_alphabetic()).skip(1);
    let places = words.filter(|word| word.starts_with(char::is_uppercase));
    desk.queue.extend(places.map(|place| Event::Lookup(place.to_owned())));
    cx.progress(format!("{} places to look up", desk.queue.len()));
    desk.queue.push_back(Event::Summary);
    Ok(Next::Again(desk))
}

async fn lookup(cx: Context, (place, mut desk): (String, Desk)) -> Handled {
    cx.progress(format!("looking up {place}"));
    match JULY.iter().find(|(name, _)| *name == place) {
        Some((_, celsius)) => desk.warmth.push((place, *celsius)),
        None => {
            let problem = format!("no station in {place}");
            desk.queue.push_back(Event::Failed { place, problem });
        }
    }
    Ok(Next::Again(desk))
}

async fn failed(cx: Context, ((place, problem), mut desk): ((String, String), Desk)) -> Handled {
    let near = JULY.iter().map(|(name, _)| (similarity(name, &place), *name));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((similar, name)) if similar > 0.3 => {
            cx.progress(format!("{problem}; is it {name}?"));
            desk.queue.push_front(Event::Lookup(name.to_owned()));
        }
        _ => {
            cx.progress(format!("{problem}, nor in a place spelt like it"));
            desk.answer.push(problem);
        }
    }
    Ok(Next::Again(desk))
}

async fn summary(_cx: Context, ((), mut desk): ((), Desk)) -> Handled {
    if !desk.queue.is_empty() {
        desk.queue.push_back(Event::Summary); // a lookup is still open
        return Ok(Next::Again(desk));
    }
    desk.warmth.sort_by_key(|(_, celsius)| Reverse(*celsius));
    let warmth =
        desk.warmth.iter().map(|(place, celsius)| format!("{place}: {celsius} °C in July"));
    desk.answer.splice(0..0, warmth);
    if desk.answer.is_empty() {
        desk.answer.push("the question names no place; write it with a capital letter".to_owned());
    }
    Ok(Next::Again(desk))
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let text = args.next().unwrap_or("how warm is it in Lisbon, Oslow and Atlantis?".to_owned());
    if args.next().is_some() || text.starts_with('-') {
        eprintln!("usage: events [QUESTION]");
        return ExitCode::from(2);
    }
    let desk = Desk { queue: VecDeque::from([Event::Question(text)]), ..Desk::default() };
    let (mut events, report) = assistant().run(desk).events(64);
    let show = async {
        while let Some(event) = events.next().await {
            match event.kind {
                Kind::Routed(label) => eprintln!("{label}"),
                Kind::Progress(text) => eprintln!("  {}", text.as_str().unwrap_or_default()),
                _ => {}
            }
        }
    };
    let (report, ()) = tokio::join!(report, show);
    match report.into_result() {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Mean temperatures, rounded.
const JULY: [(&str, i32); 8] = [
    ("Cairo", 28),
    ("Lima", 17),
    ("Lisbon", 24),
    ("Nairobi", 17),
    ("Oslo", 18),
    ("Reykjavik", 12),
    ("Sydney", 13),
    ("Tokyo", 26),
];
