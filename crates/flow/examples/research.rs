//! A question goes through a plan, three searches at once, a synthesis and a review: what Orchflow's README builds of
//! steps, a parallel group, `human_input` and `condition`.
//!
//! ```text
//! cargo run -p agentflow-flow --example research -- --answer shorter --answer publish
//! ```
//!
//! To see: all sources are searched at once; `web` fails and is tried again, and the research does without it when that
//! does not help (`--web-fails 3`); the reviewer is asked (at the terminal, without `--answer`) until the draft may be
//! published. Events go to standard error as they happen, the article to standard output.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod search;

use std::collections::VecDeque;
use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentflow_flow::{
    Context, Event, Flow, Kind, Next, Retry, Settled, StepError, all, ask, blocking, repeat,
    settled, step,
};
use search::{Hit, by_words, similarity, words};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    question: String,
    terms: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Draft {
    question: String,
    findings: Vec<Hit>,
    without: Option<String>,
}

fn research(web_fails: u32) -> Flow<String, String> {
    let source = |name: &'static str| {
        let search = move |cx: Context, plan: Plan| async move {
            match name == "web" && cx.attempt() <= web_fails {
                true => Err(StepError::failed("503 service unavailable")),
                false => Ok(by_words(name, &plan.terms, 3)),
            }
        };
        step(name, search).retry(Retry { first: Duration::from_millis(50), ..Retry::attempts(3) })
    };
    let sources = (
        // A group gives what its branches give; this one keeps the plan for the synthesis.
        step("plan", async |_cx: Context, plan: Plan| Ok(plan)),
        settled("optional", source("web")),
        source("papers"),
        source("notes"),
    );
    let round = Flow::new("round").then(ask("reviewer", Draft::to_string)).then(step("edit", edit));
    Flow::new("research")
        .then(step("plan", plan))
        .then(all("search", sources))
        .then(blocking("synthesize", synthesize))
        .then(repeat("review", 5, round))
        .then(step("publish", async |_cx: Context, draft: Draft| Ok(draft.to_string())))
}

async fn plan(cx: Context, question: String) -> Result<Plan, StepError> {
    let terms = words(&question);
    if terms.is_empty() {
        return Err(StepError::fatal("the question has no word to search for; ask a longer one"));
    }
    cx.progress(format!("looking for {}", terms.join(", ")));
    Ok(Plan { question, terms })
}

/// The best findings that say different things.
fn synthesize(
    _cx: &Context,
    (plan, web, papers, notes): (Plan, Settled<Vec<Hit>>, Vec<Hit>, Vec<Hit>),
) -> Result<Draft, StepError> {
    let (web, without) = match web {
        Ok(web) => (web, None),
        Err(failure) => (Vec::new(), Some(failure.to_string())),
    };
    let mut all = [web, papers, notes].concat();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut findings: Vec<Hit> = Vec::new();
    for hit in all {
        if findings.iter().all(|other| similarity(&other.text, &hit.text) < 0.4) {
            findings.push(hit);
        }
    }
    findings.truncate(4);
    match findings.is_empty() {
        true => Err(StepError::fatal("no source knows anything about the question")),
        false => Ok(Draft { question: plan.question, findings, without }),
    }
}

/// Does what the reviewer said.
async fn edit(
    cx: Context,
    (mut draft, answer): (Draft, String),
) -> Result<Next<Draft, Draft>, StepError> {
    match answer.trim() {
        "publish" => return Ok(Next::Done(draft)),
        "reject" => return Err(StepError::fatal("the reviewer rejects the draft")),
        "shorter" if draft.findings.len() > 1 => draft.findings.truncate(draft.findings.len() - 1),
        other => cx.progress(format!("cannot do `{other}`")),
    }
    Ok(Next::Again(draft))
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}\n", self.question)?;
        for Hit { source, text, .. } in &self.findings {
            writeln!(f, "- {text} ({source})")?;
        }
        self.without.iter().try_for_each(|failure| writeln!(f, "\nWithout the web: {failure}"))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some((question, web_fails, answers)) = arguments() else {
        eprintln!(
            "usage: research [--answer publish|shorter|reject]... [--web-fails N] [QUESTION]"
        );
        return ExitCode::from(2);
    };
    let answers = Arc::new(Mutex::new(answers));
    let run = research(web_fails).run(question).answer(move |_draft: String| {
        let given = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        async move {
            match given {
                Some(answer) => Ok(answer),
                None => read_line().await,
            }
        }
    });
    let (mut events, report) = run.events(256);
    let show_all = async {
        while let Some(event) = events.next().await {
            show(&event);
        }
    };
    let (report, ()) = tokio::join!(report, show_all);
    match report.into_result() {
        Ok(article) => {
            print!("{article}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(event: &Event) {
    let what = match &event.kind {
        Kind::StepDone => "done".to_owned(),
        Kind::StepFailed { error } => format!("failed: {error}"),
        Kind::RetryScheduled(wait) => format!("again in {wait:.0?}"),
        Kind::Progress(text) => text.to_string(),
        Kind::Asked(draft) => {
            format!("\n\n{}\npublish, shorter or reject?", draft.as_str().unwrap_or_default())
        }
        _ => return,
    };
    eprintln!("{} {what}", event.path);
}

async fn read_line() -> Result<String, StepError> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    line.ok_or_else(|| StepError::fatal("standard input has ended; answer with `--answer`"))?
        .map_err(StepError::from)
}

/// Question, how often the web fails, and answers of the reviewer.
fn arguments() -> Option<(String, u32, VecDeque<String>)> {
    let mut question = "how does a client retry without making an outage worse?".to_owned();
    let (mut web_fails, mut answers) = (1, VecDeque::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--answer" => answers.push_back(args.next()?),
            "--web-fails" => web_fails = args.next()?.parse().ok()?,
            _ if arg.starts_with('-') => return None,
            _ => question = arg,
        }
    }
    Some((question, web_fails, answers))
}
