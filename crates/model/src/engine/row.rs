//! One running reply.

use std::sync::Arc;
use std::time::Instant;

use agentflow_llm::Finish;
use tokio::sync::mpsc::UnboundedSender;

use super::Setup;
use super::request::{Completion, Event, Seat, Times, Token};
use super::room::Reservation;
use super::writer::Writer;
use crate::error::Result;
use crate::grammar::{Constraint, TokenMask};
use crate::paged_kv::Sequence;
use crate::sampler::Sampler;

/// A reply in the making.
pub(super) struct Row {
    pub(super) sequence: Sequence,
    /// Tokens of the reply that the sequence does not hold yet.
    pub(super) pending: Vec<u32>,
    pub(super) constraint: Option<Constraint>,
    /// What may come next, once it was computed beside the pass.
    pub(super) mask: Option<Result<TokenMask>>,
    /// Tokens so far, and those of them that were forced.
    pub(super) counts: (usize, usize),
    sampler: Sampler,
    writer: Writer,
    tokens: Vec<Token>,
    max_tokens: usize,
    stop_ids: Vec<u32>,
    /// What a grammar ends a reply with.
    end: u32,
    finish: Option<Finish>,
    over: bool,
    prompt_tokens: usize,
    shared_tokens: usize,
    times: Times,
    /// When the phase that is being timed began.
    since: Instant,
    events: UnboundedSender<Event>,
    _reserved: [Arc<Reservation>; 2],
}

/// What a row takes over from its prompt.
pub(super) struct Start {
    pub(super) sequence: Sequence,
    pub(super) prompt_tokens: usize,
    pub(super) shared_tokens: usize,
    pub(super) begun: Instant,
    /// For its prompt, and for the tokens to come.
    pub(super) reserved: [Arc<Reservation>; 2],
}

impl Row {
    pub(super) fn new(setup: &Setup, seat: Seat, start: Start) -> Self {
        let Seat { sample, draw, events, submitted } = seat;
        let mut stop_ids = sample.stop_ids;
        stop_ids.extend(&setup.stop_ids);
        let think_end = setup.think_end.filter(|_| sample.think);
        let waited = start.begun.saturating_duration_since(submitted);
        let left = setup.context - start.prompt_tokens;
        Self {
            sequence: start.sequence,
            pending: Vec::new(),
            constraint: sample.constraint,
            mask: None,
            counts: (0, 0),
            sampler: Sampler::new(&sample.sampling, draw),
            writer: Writer::new(setup.tokenizer.clone(), think_end, sample.stop),
            tokens: Vec::new(),
            max_tokens: left.min(sample.max_tokens as usize),
            stop_ids,
            end: setup.stop_ids.first().copied().unwrap_or_default(),
            finish: None,
            over: false,
            prompt_tokens: start.prompt_tokens,
            shared_tokens: start.shared_tokens,
            times: Times { waited, ..Times::default() },
            since: start.begun.max(submitted),
            events,
            _reserved: start.reserved,
        }
    }

    /// The first tokens: those that the grammar forces, else one drawn from the prompt's logits.
    pub(super) fn begin(&mut self, logits: &[f32]) {
        let forced = if self.max_tokens == 0 {
            self.finish = Some(Finish::Length);
            Ok(())
        } else {
            self.force()
        };
        match forced {
            Err(error) => self.fail(error),
            Ok(()) if self.finish.is_some() => self.complete(),
            Ok(()) if self.pending.is_empty() => self.sample(logits),
            Ok(()) => {}
        }
    }

    /// Draws the next token from its logits, and appends what the grammar forces after it.
    pub(super) fn sample(&mut self, logits: &[f32]) {
        self.pending.clear();
        match self.next(logits) {
            Err(error) => self.fail(error),
            Ok(()) if self.finish.is_some() => self.complete(),
            Ok(()) => {}
        }
    }

    /// Computes the mask for the next token; done beside the pass.
    pub(super) fn prepare_mask(constraint: &mut Constraint, mask: &mut Option<Result<TokenMask>>) {
        if mask.is_none() {
            *mask = Some(constraint.mask());
        }
    }

    /// The constraint, where it applies to the next token.
    pub(super) fn is_constrained(&self) -> bool {
        self.constraint.is_some() && !self.writer.is_thinking()
    }

    /// Whether the row can leave: it is finished, has failed, or nobody listens.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.events.is_closed()
    }

    pub(super) fn fail(&mut self, error: crate::error::ModelError) {
        let _ = self.events.send(Event::Failed(error));
        self.over = true;
    }

    fn next(&mut self, logits: &[f32]) -> Result<()> {
        let mask = match self.mask.take() {
            _ if !self.is_constrained() => None,
            Some(mask) => Some(mask?),
            None => self.constraint.as_mut().map(Constraint::mask).transpose()?,
        };
        let sampled = self.sampler.sample(logits, mask.as_ref(), self.tokens.len())?;
        let constrained = self.is_constrained();
        self.push(Token {
            id: sampled.token,
            logprob: sampled.logprob,
            plain_logprob: sampled.plain_logprob,
            forced: mask.is_some_and(|mask| mask.num_set() == 1),
        });
        if self.finish == Some(Finish::Stop) {
            return Ok(());
        }
        if constrained && let Some(constraint) = &mut self.constraint {
            constraint.accept(sampled.token)?;
        }
        self.force()
    }

    /// Appends what the grammar leaves no choice about; the end of the JSON ends the reply.
    fn force(&mut self) -> Result<()> {
        let constrained = self.is_constrained();
        let Some(constraint) = self.constraint.as_mut().filter(|_| constrained) else {
            return Ok(());
        };
        let forced = constraint.force()?;
        let complete = constraint.is_complete();
        let certain = |id: u32| Token { id, logprob: 0.0, plain_logprob: 0.0, forced: true };
        let mut left = forced.len();
        for id in forced {
            if self.finish.is_some() {
                break;
            }
            self.push(certain(id));
            left -= 1;
        }
        if complete && left == 0 {
            if self.finish.is_none() {
                self.push(certain(self.end));
            }
            self.finish = Some(Finish::Stop);
        }
        Ok(())
    }

    fn push(&mut self, token: Token) {
        if self.tokens.is_empty() {
            self.times.prefill = self.since.elapsed();
            self.since = Instant::now();
        }
        self.counts = (self.counts.0 + 1, self.counts.1 + usize::from(token.forced));
        self.tokens.push(token);
        self.pending.push(token.id);
        let _ = self.events.send(Event::Token(token));
        if self.stop_ids.contains(&token.id) {
            self.finish = Some(Finish::Stop);
            return;
        }
        if let Some(event) = self.writer.push(token.id) {
            let _ = self.events.send(event);
        }
        if self.writer.stopped {
            self.finish = Some(Finish::Stop);
        } else if self.tokens.len() >= self.max_tokens {
            self.finish = Some(Finish::Length);
        }
    }

    fn complete(&mut self) {
        if let Some(event) = self.writer.finish() {
            let _ = self.events.send(event);
        }
        self.times.decode = self.since.elapsed();
        let completion = Completion {
            tokens: std::mem::take(&mut self.tokens),
            thinking: std::mem::take(&mut self.writer.thinking),
            text: std::mem::take(&mut self.writer.text),
            finish: self.finish.unwrap_or(Finish::Length),
            prompt_tokens: self.prompt_tokens,
            shared_tokens: self.shared_tokens,
            times: self.times,
        };
        let _ = self.events.send(Event::Done(Box::new(completion)));
        self.over = true;
    }
}
