//! What is known of one endpoint: how much it bears, whether it lives, and when it may be asked next.

use std::time::Duration;

use tokio::time::Instant;

use super::EndpointState;
use super::limit::Limit;
use crate::chat::ChatReply;
use crate::error::{Break, ChatError, Phase};
use crate::retry::Retry;

/// What the end of a request says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It works, whatever it said.
    Served,
    /// It works, and has too much to do.
    Overloaded { retry_after: Option<Duration> },
    /// It cannot be reached, hangs or breaks off.
    Dead,
    /// Nothing: the request was dropped.
    None,
}

impl Effect {
    pub(super) fn of(outcome: &Result<ChatReply, ChatError>) -> Self {
        let Err(error) = outcome else { return Self::Served };
        match error {
            ChatError::Overloaded { retry_after, .. } => {
                Self::Overloaded { retry_after: *retry_after }
            }
            ChatError::Unreachable { .. }
            | ChatError::Server { status: 502 | 504, .. }
            | ChatError::BrokenStream { how: Break::ConnectionLost { .. }, .. } => Self::Dead,
            ChatError::Timeout { phase, .. } => match phase {
                Phase::Connect | Phase::FirstByte | Phase::Idle | Phase::Reply => Self::Dead,
            },
            _ => Self::Served,
        }
    }
}

/// One request's place at an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    /// Refusals and deaths known when it began: what a later one tells of an earlier time is old.
    epoch: u64,
    probe: bool,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    limit: Limit,
    outstanding: usize,
    begun: u64,
    epoch: u64,
    /// Failures since it last served: dead ones, or refusals.
    in_a_row: u32,
    up: bool,
    /// While it is down, one request at a time tries it.
    probing: bool,
    /// Until then it is not asked.
    closed_until: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(most: usize) -> Self {
        Self {
            limit: Limit::new(most),
            outstanding: 0,
            begun: 0,
            epoch: 0,
            in_a_row: 0,
            up: true,
            probing: false,
            closed_until: None,
        }
    }

    pub(super) fn state(&self) -> EndpointState {
        EndpointState {
            outstanding: self.outstanding,
            limit: self.limit.allowed(),
            up: self.up,
            begun: self.begun,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it takes another request now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.closed_until.is_none_or(|until| until <= now)
            && if self.up { self.outstanding < self.limit.allowed() } else { !self.probing }
    }

    /// When it may be asked again, where it is closed for a time.
    pub(super) fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    pub(super) fn begin(&mut self) -> Ticket {
        self.outstanding += 1;
        self.begun += 1;
        self.probing |= !self.up;
        Ticket { epoch: self.epoch, probe: !self.up }
    }

    /// Takes in what the end of a request says; whether it was not known before.
    pub(super) fn end(
        &mut self,
        ticket: Ticket,
        effect: Effect,
        retry: &Retry,
        now: Instant,
    ) -> bool {
        let before = self.outstanding;
        self.outstanding -= 1;
        if ticket.probe {
            self.probing = false;
        }
        match effect {
            Effect::None => {}
            Effect::Served => {
                self.up = true;
                self.in_a_row = 0;
                self.closed_until = self.closed_until.filter(|_| ticket.epoch < self.epoch);
                self.limit.grow(before);
            }
            // It was known already when this request ended.
            _ if ticket.epoch < self.epoch => return false,
            Effect::Overloaded { retry_after } => {
                self.failed();
                self.up = true;
                self.limit.cut();
                // One refusal among requests that are served needs no pause: the limit is lower now.
                let pause = (self.in_a_row > 1 || self.outstanding == 0)
                    .then(|| backoff(retry, self.in_a_row));
                if let Some(pause) = retry_after.or(pause) {
                    self.closed_until = now.checked_add(pause);
                }
            }
            Effect::Dead => {
                self.failed();
                self.up = false;
                self.probing = false;
                self.closed_until = now.checked_add(backoff(retry, self.in_a_row));
            }
        }
        true
    }

    fn failed(&mut self) {
        self.epoch += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
    }
}

fn backoff(retry: &Retry, failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    retry.first_wait.saturating_mul(doubled).min(retry.longest_wait)
}
