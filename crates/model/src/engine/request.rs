//! What goes into the engine and what comes out.

use std::time::{Duration, Instant};

use agentflow_llm::{Finish, Sampling};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::error::{ModelError, Result};
use crate::grammar::Constraint;
use crate::sampler::Draw;

/// One prompt, and the samples wanted of it.
#[derive(Clone)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub samples: Vec<Sample>,
}

impl Request {
    /// `group_size` samples that differ in their index alone, from that of `sample` on.
    pub fn group(prompt: Vec<u32>, sample: Sample, group_size: usize) -> Self {
        let samples = (0..group_size as u64)
            .map(|i| Sample { index: sample.index + i, ..sample.clone() })
            .collect();
        Self { prompt, samples }
    }
}

/// How one reply is to be made.
#[derive(Clone)]
pub struct Sample {
    /// Which sample of its prompt it is: with seed and prompt it decides every random number.
    pub index: u64,
    /// Stands for the prompt in random numbers; `None` takes its tokens.
    pub prompt_key: Option<u64>,
    pub sampling: Sampling,
    /// Upper bound of the reply in tokens, thinking included; the context bounds it, too.
    pub max_tokens: u32,
    /// What the text must conform to; thinking is free.
    pub constraint: Option<Constraint>,
    /// Whether the reply starts with thinking, up to `</think>`.
    pub think: bool,
    /// Texts that end the reply, themselves left out of it. They do not apply to thinking.
    pub stop: Vec<String>,
    /// Tokens that end the reply beside the model's own.
    pub stop_ids: Vec<u32>,
}

impl Sample {
    /// A free reply of at most `max_tokens`.
    pub fn new(sampling: Sampling, max_tokens: u32) -> Self {
        Self {
            index: 0,
            prompt_key: None,
            sampling,
            max_tokens,
            constraint: None,
            think: false,
            stop: Vec::new(),
            stop_ids: Vec::new(),
        }
    }
}

/// One token of a reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    pub id: u32,
    /// See [`Sampled::logprob`](crate::Sampled); 0 where the token was forced.
    pub logprob: f32,
    /// See [`Sampled::plain_logprob`](crate::Sampled); 0 where the token was appended without a choice.
    pub plain_logprob: f32,
    /// Whether the grammar allowed nothing else: not the model's choice, so nothing to train on.
    pub forced: bool,
}

/// A piece of a reply.
#[derive(Debug)]
pub enum Event {
    Token(Token),
    /// Thinking that became complete by the tokens before.
    Thinking(String),
    /// Text that became complete by the tokens before, and that no stop text can take back.
    Text(String),
    /// The whole reply; nothing follows.
    Done(Box<Completion>),
    /// No reply; nothing follows.
    Failed(ModelError),
}

/// A finished reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Every token, the one that ended the reply included.
    pub tokens: Vec<Token>,
    pub thinking: String,
    pub text: String,
    pub finish: Finish,
    pub prompt_tokens: usize,
    /// Prompt tokens that were not computed, because an earlier prompt had the same.
    pub shared_tokens: usize,
    pub times: Times,
}

impl Completion {
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    pub fn logprobs(&self) -> Vec<f32> {
        self.tokens.iter().map(|token| token.logprob).collect()
    }
}

/// Where the time of a reply went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Until its prompt was begun.
    pub waited: Duration,
    /// From then until the first token.
    pub prefill: Duration,
    /// From then to the end.
    pub decode: Duration,
}

/// The pieces of one reply as they come. Dropping it frees its row.
pub struct Reply {
    events: UnboundedReceiver<Event>,
}

impl Reply {
    /// The next piece; `None` after the last one, or if the engine's thread has died.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// [`Reply::next`] for threads that may wait.
    pub fn next_blocking(&mut self) -> Option<Event> {
        futures::executor::block_on(self.events.recv())
    }

    /// The finished reply.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn completion(mut self) -> Result<Completion> {
        while let Some(event) = self.next().await {
            match event {
                Event::Done(completion) => return Ok(*completion),
                Event::Failed(error) => return Err(error),
                Event::Token(_) | Event::Thinking(_) | Event::Text(_) => {}
            }
        }
        Err(ModelError::EngineStopped("a reply was left unfinished".to_owned()))
    }

    /// [`Reply::completion`] for threads that may wait.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait(self) -> Result<Completion> {
        futures::executor::block_on(self.completion())
    }
}

/// A request on its way to the engine's thread.
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) seats: Vec<Seat>,
}

/// A sample that waits for a row.
pub(super) struct Seat {
    pub(super) sample: Sample,
    pub(super) draw: Draw,
    pub(super) events: UnboundedSender<Event>,
    pub(super) submitted: Instant,
}

impl Seat {
    pub(super) fn new(sample: Sample, prompt: &[u32]) -> (Reply, Self) {
        let (sender, events) = mpsc::unbounded_channel();
        let draw = match sample.prompt_key {
            Some(prompt) => Draw { prompt, sample: sample.index },
            None => Draw::of_prompt(prompt, sample.index),
        };
        (Reply { events }, Self { sample, draw, events: sender, submitted: Instant::now() })
    }
}
