//! What the harness itself costs: 10,000 attempts at once 64, each answered instantly from a recording.
//!
//! `cargo run --release -p agentflow-eval --example overhead [ATTEMPTS [CONCURRENCY]]`

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use agentflow_agent::prompt::Profile;
use agentflow_agent::{Budget, CallSettings, Executor, Solver, Verifier};
use agentflow_eval::runner::{self, Limits, Plan, Record};
use agentflow_eval::{Gold, Problem, RunDir};
use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Recorder, Replay,
    Sampling, Usage,
};
use agentflow_tools::{Sandbox, SandboxConfig, Toolbox};
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let attempts: usize = arguments.next().transpose()?.unwrap_or(10_000);
    let concurrency: usize = arguments.next().transpose()?.unwrap_or(64);
    let root = tempfile::tempdir()?;

    let recording = root.path().join("recording.jsonl");
    let recorder: Arc<dyn ChatModel> = Arc::new(Recorder::new(Instant42::new(), &recording)?);
    run(root.path(), recorder, attempts, concurrency).await?;
    let replay: Arc<dyn ChatModel> = Arc::new(Replay::open(&recording)?);

    let memory = resident_mib();
    let started = Instant::now();
    run(root.path(), replay, attempts, concurrency).await?;
    let seconds = started.elapsed().as_secs_f64();
    let grown = resident_mib().zip(memory).map(|(now, before)| now - before);

    let mut out = std::io::stdout().lock();
    writeln!(out, "figure eval.samples {attempts} samples")?;
    writeln!(out, "figure eval.concurrency {concurrency} attempts")?;
    writeln!(out, "figure eval.wall_s {seconds:.2} s")?;
    writeln!(out, "figure eval.samples_per_second {:.0} 1/s", attempts as f64 / seconds)?;
    if let Some(grown) = grown {
        writeln!(out, "figure eval.memory_growth_mib {grown:.1} MiB")?;
    }
    Ok(())
}

async fn run(
    root: &std::path::Path,
    model: Arc<dyn ChatModel>,
    attempts: usize,
    concurrency: usize,
) -> Result<(), Box<dyn Error>> {
    let dir = RunDir::create(root, "eval", "")?;
    let record = Record::open(&dir, false)?;
    let problem = |index: usize| Problem {
        id: format!("numbers/{index}"),
        question: format!("What is {index} plus {index}, as a number?"),
        gold: Gold::Math { answer: "42".to_owned() },
        tags: BTreeMap::new(),
    };
    let plan = Plan {
        benchmark: "numbers".to_owned(),
        problems: (0..attempts).map(problem).collect(),
        repeats: 1,
        seed: 0,
        concurrency,
        retries: 0,
        limits: Limits::default(),
    };
    let executors = (0..concurrency).map(|_| executor()).collect::<Result<_, _>>()?;
    let solver = Solver {
        model,
        executor: Arc::new(Mutex::new(executor()?)),
        profile: Profile::Compact,
        settings: CallSettings { sampling: Sampling::greedy(), think: false, max_tokens: 64 },
        verifier: Verifier::Planner,
        budget: Budget { max_steps: 8, max_tokens: None, max_wall: None },
        cancel: CancellationToken::new(),
    };
    let finished = runner::run(&dir, record, plan, solver, executors, &mut |_| {}).await?;
    assert_eq!(finished.tally.right, attempts as u64, "the recording answers everything");
    Ok(())
}

fn executor() -> Result<Executor, Box<dyn Error>> {
    Ok(Executor::new(Toolbox::built_in(), Sandbox::new(SandboxConfig::default())?))
}

/// Answers 42 to everything.
struct Instant42(ModelInfo);

impl Instant42 {
    fn new() -> Self {
        Self(ModelInfo {
            name: "instant".to_owned(),
            backend: "local".to_owned(),
            digest: None,
            adapter: None,
            num_ctx: None,
            prompt_profile: None,
        })
    }
}

#[async_trait]
impl ChatModel for Instant42 {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn chat(&self, _: &ChatRequest) -> Result<ChatReply, ChatError> {
        Ok(ChatReply {
            text: r#"{"thought": "I know it.", "action": "answer", "action_input": "42"}"#
                .to_owned(),
            thinking: None,
            finish: Finish::Stop,
            usage: Usage { prompt_tokens: 100, completion_tokens: 20 },
            token_ids: None,
            logprobs: None,
            warnings: Vec::new(),
        })
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        Box::pin(futures::stream::empty())
    }
}

/// Memory of this process that is in use, where the system tells.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
