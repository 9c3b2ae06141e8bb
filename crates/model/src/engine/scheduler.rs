//! The loop of the engine's thread: who waits, who runs, and one pass after another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::time::Instant;

use candle_core::Tensor;
use rayon::prelude::*;

use super::prefixes::Prefixes;
use super::request::{Event, Job, Seat};
use super::room::{Reservation, Room};
use super::row::{Row, Start};
use super::{Counters, Setup};
use crate::error::{ModelError, Result};
use crate::ops::BLOCK_TOKENS;
use crate::paged_kv::{Sequence, Store};

/// What the engine's thread is told.
pub(super) enum Command {
    Run(Job),
    ForgetPrefixes,
}

/// All that the engine's thread has.
pub(super) struct Scheduler {
    setup: Setup,
    inbox: Receiver<Command>,
    counters: Arc<Counters>,
    /// In order of arrival.
    groups: VecDeque<Group>,
    rows: Vec<Row>,
    /// Where the keys and values of them all are.
    store: Store,
    prefixes: Prefixes,
    room: Room,
    /// Whether requests may still come.
    open: bool,
}

/// The samples of one prompt that have no row yet.
struct Group {
    prompt: Vec<u32>,
    seats: VecDeque<Seat>,
    /// Once it was admitted.
    prefill: Option<Prefill>,
}

struct Prefill {
    /// Holds as much of the prompt as was computed.
    sequence: Sequence,
    shared_tokens: usize,
    /// Of the first token of the replies, once the prompt was computed.
    logits: Option<Vec<f32>>,
    begun: Instant,
    /// Tokens that later prompts can have from here.
    kept_tokens: usize,
    /// For the prompt, as long as a row has its blocks.
    reserved: Arc<Reservation>,
    /// For the first seat as long as it has no row: a prompt is never computed for a reply that then
    /// finds no room.
    first_seat: Option<Reservation>,
}

impl Scheduler {
    pub(super) fn new(setup: Setup, inbox: Receiver<Command>, counters: Arc<Counters>) -> Self {
        let kept = if setup.limits.share_prefixes { setup.limits.kept_tokens } else { 0 };
        Self {
            store: setup.model.new_store(setup.limits.kv_tokens + kept),
            prefixes: Prefixes::new(kept),
            room: Room::new(setup.limits.kv_tokens / BLOCK_TOKENS),
            setup,
            inbox,
            counters,
            groups: VecDeque::new(),
            rows: Vec::new(),
            open: true,
        }
    }

    /// Runs until no more requests can come and every reply is finished or unwanted.
    pub(super) fn run(mut self) {
        while self.receive() {
            self.drop_unwanted();
            self.admit();
            self.count();
            if let Err(error) = self.pass() {
                self.fail_all(&error);
            }
            self.drop_unwanted();
            self.count();
        }
    }

    /// Takes what came in; waits where there is nothing to do. False at the end.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.groups.is_empty() && self.rows.is_empty();
            if idle && !self.open {
                return false;
            }
            let command = if idle {
                self.inbox.recv().map_err(|RecvError| TryRecvError::Disconnected)
            } else {
                self.inbox.try_recv()
            };
            match command {
                Ok(Command::Run(job)) => self.enqueue(job),
                Ok(Command::ForgetPrefixes) => {
                    self.prefixes.clear();
                    self.count();
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    self.open = false;
                    if !idle {
                        return true;
                    }
                }
            }
        }
    }

    fn enqueue(&mut self, Job { prompt, seats }: Job) {
        if self.setup.limits.share_prefixes {
            self.groups.push_back(Group { prompt, seats: seats.into(), prefill: None });
            return;
        }
        for seat in seats {
            let seats = VecDeque::from([seat]);
            self.groups.push_back(Group { prompt: prompt.clone(), seats, prefill: None });
        }
    }

    /// Frees what belongs to replies that are over, or that nobody waits for.
    fn drop_unwanted(&mut self) {
        self.rows.retain(|row| {
            if !row.is_over() {
                return true;
            }
            Counters::add(&self.counters.completion_tokens, row.counts.0);
            Counters::add(&self.counters.forced_tokens, row.counts.1);
            false
        });
        self.groups.retain_mut(|group| {
            group.seats.retain(|seat| !seat.events.is_closed());
            !group.seats.is_empty()
        });
    }

    /// Begins prompts and gives rows to the samples of finished ones, first come, first served.
    fn admit(&mut self) {
        let kept_seats = |groups: &VecDeque<Group>| {
            groups.iter().filter_map(|group| group.prefill.as_ref()?.first_seat.as_ref()).count()
        };
        let mut seated = Vec::new();
        // Behind one that has to wait only seats that were reserved are taken.
        let mut blocked = false;
        for index in 0..self.groups.len() {
            if self.groups[index].prefill.is_none() {
                let group = &self.groups[index];
                let blocks = group.prompt.len().div_ceil(BLOCK_TOKENS);
                let first = self.tail_blocks(group);
                let rows = self.rows.len() + seated.len() + kept_seats(&self.groups);
                blocked |= rows >= self.setup.limits.rows
                    || !self.room.has(blocks + first)
                    || self.is_being_computed(index);
                if blocked {
                    continue;
                }
                let (sequence, shared_tokens) = self.begin_sequence(index);
                self.groups[index].prefill = Some(Prefill {
                    sequence,
                    shared_tokens,
                    logits: None,
                    kept_tokens: shared_tokens,
                    begun: Instant::now(),
                    reserved: Arc::new(self.room.reserve(blocks)),
                    first_seat: Some(self.room.reserve(first)),
                });
            }
            loop {
                let rows = self.rows.len() + seated.len() + kept_seats(&self.groups);
                let group = &mut self.groups[index];
                let Some(prefill) = group.prefill.as_mut().filter(|p| p.logits.is_some()) else {
                    break;
                };
                if group.seats.is_empty() {
                    break;
                }
                let reserved = match prefill.first_seat.take() {
                    Some(reserved) => reserved,
                    None => {
                        let blocks = self.tail_blocks(&self.groups[index]);
                        blocked |= rows >= self.setup.limits.rows || !self.room.has(blocks);
                        if blocked {
                            break;
                        }
                        self.room.reserve(blocks)
                    }
                };
                seated.extend(self.seat(index, reserved).map(|row| (row, index)));
            }
        }

        let groups = &self.groups;
        let sequences: Vec<&[f32]> = groups
            .iter()
            .map(|group| group.prefill.as_ref().and_then(|p| p.logits.as_deref()).unwrap_or(&[]))
            .collect();
        seated.par_iter_mut().for_each(|(row, index)| row.begin(sequences[*index]));
        self.rows.extend(seated.into_iter().map(|(row, _)| row));
        self.drop_unwanted(); // groups without seats, rows that were over at once
    }

    /// Blocks that any seat of a group can fill beyond the full blocks of its prompt.
    fn tail_blocks(&self, group: &Group) -> usize {
        let prompt = group.prompt.len();
        let wanted = group.seats.iter().map(|seat| seat.sample.max_tokens as usize).max();
        let tokens = wanted.unwrap_or(0).min(self.setup.context - prompt);
        (prompt + tokens).div_ceil(BLOCK_TOKENS) - prompt / BLOCK_TOKENS
    }

    /// Whether a prompt that is being computed will give this group more of its beginning than is
    /// known now: then it is worth waiting.
    fn is_being_computed(&mut self, index: usize) -> bool {
        if !self.setup.limits.share_prefixes || self.setup.limits.kept_tokens == 0 {
            return false;
        }
        let known = self.prefixes.find(&self.groups[index].prompt).len() * BLOCK_TOKENS;
        let prompt = &self.groups[index].prompt;
        let usable = prompt.len().saturating_sub(1).min(self.setup.limits.kept_tokens);
        self.groups.iter().take(index).any(|group| {
            let computing = group.prefill.as_ref().is_some_and(|p| p.logits.is_none());
            let same = group.prompt.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            computing && same.min(usable) >= known + BLOCK_TOKENS
        })
    }

    fn begin_sequence(&mut self, index: usize) -> (Sequence, usize) {
        let blocks = self.prefixes.find(&self.groups[index].prompt);
        let sequence = Sequence::of_blocks(&self.store, blocks);
        let shared = sequence.len();
        Counters::add(&self.counters.shared_tokens, shared);
        (sequence, shared)
    }

    /// A row for the next seat of a group whose prompt was computed.
    fn seat(&mut self, index: usize, reserved: Reservation) -> Option<Row> {
        let group = &mut self.groups[index];
        let prefill = group.prefill.as_mut()?;
        let seat = group.seats.pop_front()?;
        let start = Start {
            sequence: prefill.sequence.clone(),
            prompt_tokens: group.prompt.len(),
            shared_tokens: prefill.shared_tokens,
            begun: prefill.begun,
            reserved: [prefill.reserved.clone(), Arc::new(reserved)],
        };
        // The samples after the first have the whole prompt from it.
        prefill.shared_tokens = group.prompt.len();
        Some(Row::new(&self.setup, seat, start))
    }

    /// One pass through the model, with the masks of the rows computed beside it.
    fn pass(&mut self) -> Result<()> {
        let row_count = self.rows.len();
        let mut parts: Vec<(&mut Sequence, &[u32])> = Vec::new();
        let mut masks = Vec::new();
        for row in &mut self.rows {
            let constrained = row.is_constrained();
            let Row { sequence, pending, constraint, mask, .. } = row;
            parts.push((sequence, pending));
            if let Some(constraint) = constraint.as_mut().filter(|_| constrained) {
                masks.push((constraint, mask));
            }
        }
        // Whose logits come after those of the rows, in this order.
        let mut finished = Vec::new();
        let mut budget = self.setup.limits.prefill_tokens;
        let mut prefilled = 0;
        for group in &mut self.groups {
            let Some(prefill) = &mut group.prefill else { continue };
            let done = prefill.sequence.len();
            let tokens = budget.min(group.prompt.len() - done);
            if prefill.logits.is_some() || tokens == 0 {
                continue;
            }
            budget -= tokens;
            prefilled += tokens;
            let is_last = done + tokens == group.prompt.len();
            parts.push((&mut prefill.sequence, &group.prompt[done..done + tokens]));
            finished.push(is_last.then_some(&mut prefill.logits));
        }
        if parts.is_empty() {
            return Ok(());
        }

        // The last token of every row and of every finished prompt.
        let mut last = Vec::with_capacity(parts.len());
        let mut end = 0;
        for (index, (_, ids)) in parts.iter().enumerate() {
            end += ids.len();
            let wanted = index.checked_sub(row_count).is_none_or(|i| finished[i].is_some());
            last.extend(wanted.then_some(end as u32 - 1));
        }
        let model = &self.setup.model;
        let compute = || -> Result<Tensor> {
            let hidden = model.forward_ragged(&mut parts)?;
            if last.is_empty() {
                return Ok(hidden);
            }
            let last = hidden.index_select(&Tensor::new(last.as_slice(), model.device())?, 0)?;
            let logits = model.logits_ragged(&last)?;
            Ok(logits.to_device(&candle_core::Device::Cpu)?.contiguous()?)
        };
        let prepare = || {
            masks
                .into_par_iter()
                .for_each(|(constraint, mask)| Row::prepare_mask(constraint, mask));
        };
        let (logits, ()) = rayon::join(compute, prepare);
        let logits = logits?;
        Counters::add(&self.counters.passes, 1);
        Counters::add(&self.counters.prefilled_tokens, prefilled);

        let logits = if last.is_empty() { Vec::new() } else { logits.flatten_all()?.to_vec1()? };
        let mut logits = logits.chunks_exact(model.config().vocab_size);
        let of_rows: Vec<&[f32]> = logits.by_ref().take(row_count).collect();
        for (slot, logits) in finished.into_iter().flatten().zip(logits) {
            *slot = Some(logits.to_vec());
        }
        self.rows.par_iter_mut().zip(of_rows).for_each(|(row, logits)| row.sample(logits));

        if self.setup.limits.share_prefixes {
            for group in &mut self.groups {
                if let Some(prefill) = &mut group.prefill
                    && prefill.kept_tokens < prefill.sequence.len()
                {
                    self.prefixes.keep(&group.prompt, &prefill.sequence);
                    prefill.kept_tokens = prefill.sequence.len();
                }
            }
        }
        Ok(())
    }

    /// Tells everybody whose sequence was in a pass that failed.
    fn fail_all(&mut self, error: &ModelError) {
        for row in &mut self.rows {
            row.fail(ModelError::Pass(error.to_string()));
        }
        for group in self.groups.iter_mut().filter(|group| group.prefill.is_some()) {
            for seat in &group.seats {
                let _ = seat.events.send(Event::Failed(ModelError::Pass(error.to_string())));
            }
            group.prefill = None;
            group.seats.clear();
        }
    }

    fn count(&self) {
        let waiting = self.groups.iter().map(|group| group.seats.len()).sum();
        Counters::set(&self.counters.rows, self.rows.len());
        Counters::set(&self.counters.waiting, waiting);
        Counters::set(&self.counters.kv_tokens, self.room.reserved() * BLOCK_TOKENS);
        Counters::set(&self.counters.held_tokens, self.store.held_blocks() * BLOCK_TOKENS);
    }
}
