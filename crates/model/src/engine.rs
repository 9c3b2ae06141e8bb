//! Many replies at once: continuous batching over one model.
//!
//! A thread of the engine's own holds the running replies (*rows*). One pass of it takes the next
//! tokens of every row, and a piece of the prompts that wait, through the model together; rows that
//! are finished leave, waiting ones enter. A prompt is computed once for all its samples, and what
//! prompts have in common with earlier ones not at all. Grammar masks are computed beside the pass,
//! and text that a grammar leaves no choice about is appended without one pass a token.
//!
//! In f32 on the CPU a reply is the same, bit for bit, whatever else the engine does: which replies
//! share its passes, when it was admitted, how its prompt was cut or shared. Elsewhere it is so up
//! to rounding, from which sampled tokens may differ: there the matrix products are those of the
//! device, which sum in another order for another number of rows or keys.

mod prefixes;
mod request;
mod room;
mod row;
mod scheduler;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, mpsc};

use candle_core::Device;

pub use request::{Completion, Event, Reply, Request, Sample, Times, Token};

use crate::error::{ModelError, Result};
use crate::kv_arena::Arena;
use crate::model_dir::LoadedModel;
use crate::ops::BLOCK_TOKENS;
use crate::qwen3::Qwen3;
use crate::tokenizer::Tokenizer;
use request::{Job, Seat};
use scheduler::{Command, Scheduler};

/// How much an engine does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Replies in one pass.
    pub rows: usize,
    /// Tokens whose keys and values may be held, those that running replies may still write among them.
    pub kv_tokens: usize,
    /// Tokens of prompts in one pass: running replies wait for no more than these.
    pub prefill_tokens: usize,
    /// Whether samples share their prompt, and prompts their beginnings.
    pub share_prefixes: bool,
    /// Tokens of earlier prompts kept for later ones, beside `kv_tokens`.
    pub kept_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 32,
            kv_tokens: 128 * 1024,
            prefill_tokens: 512,
            share_prefixes: true,
            kept_tokens: 8 * 1024,
        }
    }
}

impl Limits {
    /// The usual limits on a device: a card needs thousands of tokens in a pass to be busy.
    pub fn on(device: &Device) -> Self {
        let prefill_tokens = if device.is_cuda() { 4096 } else { 512 };
        Self { prefill_tokens, ..Self::default() }
    }

    /// Limits under which keys and values take `bytes` of memory, a ninth of it for earlier prompts;
    /// more only where a single reply that fills `context` needs it.
    pub fn of_memory(model: &Qwen3, context: usize, bytes: usize) -> Self {
        let shape = model.kv_shape();
        let token = if model.is_exact() {
            shape.layers * 2 * shape.heads.block_values() / BLOCK_TOKENS * size_of::<f32>()
        } else {
            shape.layers * shape.token_values() * model.dtype().size_in_bytes()
        };
        let tokens = bytes / token.max(1);
        let limits = Self::on(model.device());
        Self {
            kv_tokens: (tokens / 9 * 8).min(limits.kv_tokens).max(context + 2 * BLOCK_TOKENS),
            kept_tokens: (tokens / 9).min(limits.kept_tokens),
            ..limits
        }
    }
}

/// What an engine has done so far, and does now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Passes through the model.
    pub passes: u64,
    /// Prompt tokens that went through the model.
    pub prefilled_tokens: u64,
    /// Prompt tokens that did not, because earlier ones were the same.
    pub shared_tokens: u64,
    /// Tokens of replies.
    pub completion_tokens: u64,
    /// Those among them that a grammar forced.
    pub forced_tokens: u64,
    /// Replies that run now.
    pub rows: u64,
    /// Replies that wait for a row now.
    pub waiting: u64,
    /// Tokens whose keys and values are reserved now.
    pub kv_tokens: u64,
    /// Tokens of the blocks that there are now, for replies and of earlier prompts.
    pub held_tokens: u64,
}

/// A model that generates. Cheap to clone; its thread starts with the first request and ends, after
/// the replies that somebody still waits for, when the last clone is gone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    commands: OnceLock<Sender<Command>>,
    counters: Arc<Counters>,
}

/// What the engine's thread needs to know.
#[derive(Clone)]
struct Setup {
    model: Qwen3,
    tokenizer: Arc<Tokenizer>,
    /// Tokens that end a reply; the first is the one a grammar ends it with.
    stop_ids: Vec<u32>,
    think_end: Option<u32>,
    context: usize,
    limits: Limits,
}

impl Engine {
    /// An engine over a loaded model. `context` bounds prompt and reply together.
    pub fn new(loaded: &LoadedModel, context: usize, limits: Limits) -> Self {
        let (tokenizer, stop_ids) = (loaded.tokenizer.clone(), loaded.stop_ids.clone());
        Self::from_parts(loaded.model.clone(), tokenizer, stop_ids, context, limits)
    }

    /// An engine over weights that may still be trained: it shares them, so an update that writes
    /// them in place shows in the next pass. Call [`Engine::forget_prefixes`] after one.
    pub fn from_parts(
        model: Qwen3,
        tokenizer: Arc<Tokenizer>,
        stop_ids: Vec<u32>,
        context: usize,
        limits: Limits,
    ) -> Self {
        let context = context.min(model.config().max_position_embeddings);
        let most = if model.is_exact() { usize::MAX } else { Arena::most_tokens(model.kv_shape()) };
        let kv_tokens = limits.kv_tokens.min(most);
        let limits = Limits {
            rows: limits.rows.max(1),
            prefill_tokens: limits.prefill_tokens.max(1),
            kv_tokens,
            kept_tokens: limits.kept_tokens.min(most - kv_tokens),
            ..limits
        };
        let think_end = tokenizer.id("</think>");
        let setup = Setup { model, tokenizer, stop_ids, think_end, context, limits };
        Self {
            inner: Arc::new(Inner { setup, commands: OnceLock::new(), counters: Arc::default() }),
        }
    }

    /// Whether replies are the same bit for bit whatever else the engine does: f32 on the CPU.
    pub fn is_exact(&self) -> bool {
        self.inner.setup.model.is_exact()
    }

    /// Starts the samples of a request; one [`Reply`] for each, in order. A reply that is dropped
    /// frees its row.
    ///
    /// # Errors
    /// A prompt that is empty, not of this vocabulary or too long, a reply that could not fit the
    /// engine's limits even alone, or an engine whose thread has died.
    pub fn submit(&self, request: Request) -> Result<Vec<Reply>> {
        let Request { prompt, samples } = request;
        self.check(&prompt, &samples)?;
        let mut replies = Vec::with_capacity(samples.len());
        let mut seats = Vec::with_capacity(samples.len());
        for sample in samples {
            let (reply, seat) = Seat::new(sample, &prompt);
            replies.push(reply);
            seats.push(seat);
        }
        self.send(Command::Run(Job { prompt, seats }))?;
        Ok(replies)
    }

    /// Drops what is kept of earlier prompts: their keys and values do not belong to new weights.
    ///
    /// # Errors
    /// If the engine's thread has died.
    pub fn forget_prefixes(&self) -> Result<()> {
        match self.inner.commands.get() {
            Some(_) => self.send(Command::ForgetPrefixes),
            None => Ok(()),
        }
    }

    pub fn statistics(&self) -> Statistics {
        self.inner.counters.read()
    }

    fn check(&self, prompt: &[u32], samples: &[Sample]) -> Result<()> {
        let Setup { model, context, limits, .. } = &self.inner.setup;
        let vocabulary = model.config().vocab_size;
        if prompt.is_empty() {
            return Err(ModelError::Sequence("the prompt is empty".to_owned()));
        }
        if let Some(id) = prompt.iter().find(|id| **id as usize >= vocabulary) {
            let problem = format!("token {id} is outside the vocabulary of {vocabulary}");
            return Err(ModelError::Sequence(problem));
        }
        if prompt.len() >= *context {
            return Err(ModelError::ContextTooLong { prompt: prompt.len(), context: *context });
        }
        let longest = samples.iter().map(|sample| sample.max_tokens as usize).max().unwrap_or(0);
        // Whole blocks, and the prompt's last one twice: as `scheduler` counts.
        let needed = prompt.len() + longest.min(context - prompt.len()) + 2 * BLOCK_TOKENS;
        if needed > limits.kv_tokens {
            return Err(ModelError::TooLarge { needed, limit: limits.kv_tokens });
        }
        Ok(())
    }

    fn send(&self, command: Command) -> Result<()> {
        let commands = self.inner.commands.get_or_init(|| {
            let (commands, inbox) = mpsc::channel();
            let (setup, counters) = (self.inner.setup.clone(), self.inner.counters.clone());
            // Where no thread can be had the inbox is dropped, and every send fails below.
            let _ = std::thread::Builder::new()
                .name("engine".to_owned())
                .spawn(move || Scheduler::new(setup, inbox, counters).run());
            commands
        });
        commands
            .send(command)
            .map_err(|_| ModelError::EngineStopped("its thread is gone".to_owned()))
    }
}

/// [`Statistics`] as they are counted.
#[derive(Default)]
struct Counters {
    passes: AtomicU64,
    prefilled_tokens: AtomicU64,
    shared_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    forced_tokens: AtomicU64,
    rows: AtomicU64,
    waiting: AtomicU64,
    kv_tokens: AtomicU64,
    held_tokens: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn set(counter: &AtomicU64, count: usize) {
        counter.store(count as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Statistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            passes: get(&self.passes),
            prefilled_tokens: get(&self.prefilled_tokens),
            shared_tokens: get(&self.shared_tokens),
            completion_tokens: get(&self.completion_tokens),
            forced_tokens: get(&self.forced_tokens),
            rows: get(&self.rows),
            waiting: get(&self.waiting),
            kv_tokens: get(&self.kv_tokens),
            held_tokens: get(&self.held_tokens),
        }
    }
}
