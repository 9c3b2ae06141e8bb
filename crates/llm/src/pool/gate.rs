//! Who may ask which endpoint, and who waits: first come, first served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::endpoint::{Effect, Endpoint, Ticket};
use super::{EndpointState, PoolConfig};
use crate::chat::ChatReply;
use crate::error::ChatError;
use crate::retry::Retry;

pub(super) struct Gate {
    state: Mutex<State>,
    retry: Retry,
    /// How long a request waits while no endpoint may be asked at all.
    patience: Duration,
}

struct State {
    endpoints: Vec<Endpoint>,
    waiting: VecDeque<oneshot::Sender<Slot>>,
    /// What the last endpoint that failed said.
    last_error: Option<ChatError>,
    /// Since when nothing was served, where the last that was heard of was a failure.
    troubled: Option<Instant>,
}

impl Gate {
    pub(super) fn new(endpoints: usize, config: &PoolConfig) -> Arc<Self> {
        let state = State {
            endpoints: (0..endpoints).map(|_| Endpoint::new(config.most)).collect(),
            waiting: VecDeque::new(),
            last_error: None,
            troubled: None,
        };
        let patience = config.patience.max(config.retry.longest_wait);
        Arc::new(Self { state: Mutex::new(state), retry: config.retry.clone(), patience })
    }

    pub(super) fn states(&self) -> Vec<EndpointState> {
        self.lock().endpoints.iter().map(Endpoint::state).collect()
    }

    /// Whether an endpoint answers, after one has just been found dead.
    pub(super) fn any_other_up(&self) -> bool {
        self.lock().endpoints.iter().any(Endpoint::is_up)
    }

    /// Waits for a place at an endpoint.
    ///
    /// # Errors
    /// What the last endpoint said, if all are closed for longer than a request waits.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Slot, ChatError> {
        let (sender, mut receiver) = oneshot::channel();
        self.lock().waiting.push_back(sender);
        let since = Instant::now();
        loop {
            self.admit();
            let (opens, hopeless) = self.outlook(since);
            if let Some(error) = hopeless {
                // A place may have come meanwhile.
                return receiver.try_recv().map_err(|_| error);
            }
            let wake = async {
                match opens {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                slot = &mut receiver => return Ok(slot.expect("the gate keeps those who wait")),
                () = wake => {}
            }
        }
    }

    /// When the next of the closed endpoints opens; and why to give up, where all stay closed for longer than one who came
    /// at `since` waits.
    fn outlook(&self, since: Instant) -> (Option<Instant>, Option<ChatError>) {
        let state = self.lock();
        let now = Instant::now();
        let opening: Vec<_> =
            state.endpoints.iter().filter_map(|endpoint| endpoint.opens_at(now)).collect();
        let next = opening.iter().min().copied();
        let all_closed = opening.len() == state.endpoints.len();
        let last_call =
            state.troubled.map_or(since, |troubled| since.max(troubled)) + self.patience;
        let hopeless = all_closed && next.is_some_and(|opens| opens > last_call);
        (next, if hopeless { state.last_error.clone() } else { None })
    }

    /// Gives free places to those who wait.
    fn admit(self: &Arc<Self>) {
        let mut admitted = Vec::new();
        let mut state = self.lock();
        let now = Instant::now();
        while let Some(endpoint) = state.best(now) {
            let Some(waiting) = state.waiting.pop_front() else { break };
            if waiting.is_closed() {
                continue;
            }
            let ticket = state.endpoints[endpoint].begin();
            let slot = Slot { gate: self.clone(), endpoint, ticket: Some(ticket) };
            admitted.push((waiting, slot));
        }
        drop(state);
        for (waiting, slot) in admitted {
            // One who has just gone drops its place, which admits the next.
            let _ = waiting.send(slot);
        }
    }

    /// Whether this was news of the endpoint.
    fn leave(self: &Arc<Self>, endpoint: usize, ticket: Ticket, effect: Effect) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let news = state.endpoints[endpoint].end(ticket, effect, &self.retry, now);
        match effect {
            Effect::Served => state.troubled = None,
            Effect::Overloaded { .. } | Effect::Dead => _ = state.troubled.get_or_insert(now),
            Effect::None => {}
        }
        drop(state);
        self.admit();
        news
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The open endpoint with the fewest requests, of several the one that was asked least. One that was down and may be
    /// tried again comes first: else nobody would find out that it is back.
    fn best(&self, now: Instant) -> Option<usize> {
        let open = self.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.is_open(now));
        let load = |endpoint: &Endpoint| {
            let state = endpoint.state();
            (state.up, state.outstanding, state.begun)
        };
        open.min_by_key(|(_, endpoint)| load(endpoint)).map(|(index, _)| index)
    }
}

/// A place at an endpoint. Dropped without an outcome, it says nothing about it.
pub(super) struct Slot {
    gate: Arc<Gate>,
    endpoint: usize,
    ticket: Option<Ticket>,
}

impl Slot {
    pub(super) fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether the outcome was news of the endpoint, and not what another request had met before.
    pub(super) fn leave(mut self, outcome: &Result<ChatReply, ChatError>) -> bool {
        let effect = Effect::of(outcome);
        if let (Err(error), Effect::Overloaded { .. } | Effect::Dead) = (outcome, effect) {
            self.gate.lock().last_error = Some(error.clone());
        }
        let ticket = self.ticket.take().expect("a slot is left once");
        self.gate.leave(self.endpoint, ticket, effect)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.leave(self.endpoint, ticket, Effect::None);
        }
    }
}
