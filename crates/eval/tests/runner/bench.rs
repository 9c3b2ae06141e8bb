//! What a test of the runner needs: problems, a model that is told what to answer, a run directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agentflow_agent::prompt::Profile;
use agentflow_agent::{Budget, CallSettings, Executor, Solver, Verifier};
use agentflow_eval::runner::{self, Event, Finished, Limits, Plan, Record, RunError};
use agentflow_eval::{Gold, Problem, RunDir, Sample};
use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Sampling, Usage,
};
use agentflow_tools::{Sandbox, SandboxConfig, Toolbox};
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

/// Says what becomes of a request, knowing how many came before it.
type Script = dyn Fn(&ChatRequest, usize) -> Result<String, ChatError> + Send + Sync;

pub(crate) struct Scripted {
    info: ModelInfo,
    script: Box<Script>,
    asked: AtomicUsize,
    seeds: Mutex<Vec<u64>>,
}

#[async_trait]
impl ChatModel for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        self.seeds.lock().unwrap().extend(request.sampling.seed);
        // Others get their turn, as with a model that takes its time.
        tokio::task::yield_now().await;
        let answer = (self.script)(request, before)?;
        Ok(ChatReply {
            text: format!(r#"{{"thought": "t", "action": "answer", "action_input": "{answer}"}}"#),
            thinking: None,
            finish: Finish::Stop,
            usage: Usage { prompt_tokens: 7, completion_tokens: 3 },
            token_ids: None,
            logprobs: None,
            warnings: vec![],
        })
    }

    fn stream(&self, _: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        unreachable!("the planner asks in one piece")
    }
}

/// Tokens of one attempt.
pub(crate) const TOKENS: u64 = 10;

/// A run directory and what is run in it.
pub(crate) struct Bench {
    root: tempfile::TempDir,
    path: PathBuf,
    pub(crate) model: Arc<Scripted>,
    pub(crate) cancel: CancellationToken,
    pub(crate) problems: usize,
    pub(crate) repeats: u32,
    pub(crate) concurrency: usize,
    pub(crate) retries: u32,
    pub(crate) limits: Limits,
    pub(crate) keep_failures: bool,
    pub(crate) events: Vec<Event>,
}

impl Bench {
    /// Problem `i` asks `what is i?`.
    pub(crate) fn new(
        problems: usize,
        script: impl Fn(&ChatRequest, usize) -> Result<String, ChatError> + Send + Sync + 'static,
    ) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = RunDir::create(root.path(), "eval", "seed = 5\n").expect("a run directory");
        let info = ModelInfo {
            name: "scripted".to_owned(),
            backend: "test".to_owned(),
            digest: None,
            adapter: None,
            num_ctx: None,
            prompt_profile: None,
        };
        let path = dir.path().to_owned();
        let model = Scripted {
            info,
            script: Box::new(script),
            asked: AtomicUsize::new(0),
            seeds: Mutex::default(),
        };
        Self {
            root,
            path,
            model: Arc::new(model),
            cancel: CancellationToken::new(),
            problems,
            repeats: 1,
            concurrency: 4,
            retries: 0,
            limits: Limits::default(),
            keep_failures: false,
            events: Vec::new(),
        }
    }

    /// Runs, or goes on with, what is in the run directory.
    pub(crate) async fn run(&mut self) -> Result<Finished, RunError> {
        let dir = RunDir::resume(&self.path)?;
        let record = Record::open(&dir, self.keep_failures)?;
        let plan = Plan {
            benchmark: "numbers".to_owned(),
            problems: (0..self.problems).map(problem).collect(),
            repeats: self.repeats,
            seed: 5,
            concurrency: self.concurrency,
            retries: self.retries,
            limits: self.limits.clone(),
        };
        let executors = (0..self.concurrency).map(|_| executor()).collect();
        let mut events = Vec::new();
        let solver = solver(self.model.clone(), self.cancel.clone());
        let told = &mut |event| events.push(event);
        let finished = runner::run(&dir, record, plan, solver, executors, told).await;
        self.events = events;
        finished
    }

    pub(crate) fn asked(&self) -> usize {
        self.model.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn seeds(&self) -> Vec<u64> {
        self.model.seeds.lock().unwrap().clone()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        self.root.path()
    }

    /// The samples in the record, by problem and repeat, without times.
    pub(crate) fn samples(&self) -> BTreeMap<(String, u32), Sample> {
        let text = std::fs::read_to_string(self.file("trajectories.jsonl")).expect("a record");
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            let mut sample: Sample = serde_json::from_str(line).expect("a sample");
            sample.trajectory.wall_s = 0.0;
            sample.trajectory.run = None;
            for step in &mut sample.trajectory.steps {
                step.wall_ms = 0;
                step.observation.wall_ms = 0;
            }
            let problem = sample.trajectory.problem_id.clone().expect("a problem");
            let twice = samples.insert((problem, sample.eval.repeat), sample);
            assert_eq!(twice, None, "an attempt is there twice");
        }
        samples
    }
}

pub(crate) fn problem(index: usize) -> Problem {
    Problem {
        id: format!("n/{index}"),
        question: format!("what is {index}?"),
        gold: Gold::Math { answer: index.to_string() },
        tags: BTreeMap::from([("parity".to_owned(), (index % 2).to_string())]),
    }
}

/// The number that a request asks for.
pub(crate) fn number(request: &ChatRequest) -> usize {
    let asked = request.messages.iter().map(|message| message.content.as_str());
    let text = asked.collect::<String>();
    let (_, rest) = text.split_once("what is ").expect("a question of ours");
    rest.split_once('?').expect("it ends").0.parse().expect("a number")
}

/// Answers right.
pub(crate) fn right(request: &ChatRequest, _: usize) -> Result<String, ChatError> {
    Ok(number(request).to_string())
}

pub(crate) fn down() -> ChatError {
    ChatError::Server { status: 500, text: "out of memory".to_owned() }
}

pub(crate) fn solver(model: Arc<dyn ChatModel>, cancel: CancellationToken) -> Solver {
    Solver {
        model,
        executor: Arc::new(Mutex::new(executor())),
        profile: Profile::Compact,
        settings: CallSettings { sampling: Sampling::greedy(), think: false, max_tokens: 64 },
        verifier: Verifier::Planner,
        budget: Budget { max_steps: 4, max_tokens: None, max_wall: None },
        cancel,
    }
}

pub(crate) fn executor() -> Executor {
    let sandbox = Sandbox::new(SandboxConfig::default()).expect("a sandbox");
    Executor::new(Toolbox::built_in(), sandbox)
}
