//! Slots for replies under way, and a queue of bounded length before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::error::ServeError;

/// Lets in as many as there are slots, lets as many wait as may, and turns the others away.
pub(crate) struct Gate {
    slots: Arc<Semaphore>,
    count: usize,
    waiting: AtomicUsize,
    longest_queue: usize,
}

/// A slot; dropping it frees it.
pub(crate) type Slot = OwnedSemaphorePermit;

impl Gate {
    pub(crate) fn new(slots: usize, longest_queue: usize) -> Self {
        let count = slots.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(count)),
            count,
            waiting: AtomicUsize::new(0),
            longest_queue,
        }
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// Status 503 where the queue is full, or the gate closed.
    pub(crate) async fn enter(&self) -> Result<Slot, ServeError> {
        match self.slots.clone().try_acquire_owned() {
            Ok(slot) => return Ok(slot),
            Err(TryAcquireError::Closed) => return Err(ServeError::shutting_down()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _place = Place::take(self).ok_or_else(ServeError::busy)?;
        self.slots.clone().acquire_owned().await.map_err(|_| ServeError::shutting_down())
    }

    /// Turns away all who wait, and all who come.
    pub(crate) fn close(&self) {
        self.slots.close();
    }

    /// Slots taken.
    pub(crate) fn taken(&self) -> usize {
        self.count - self.slots.available_permits()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Option<Self> {
        let one_more = |waiting| (waiting < gate.longest_queue).then_some(waiting + 1);
        gate.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(&gate.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_slot_one_in_the_queue_and_the_third_is_turned_away() {
        let gate = Gate::new(1, 1);
        let first = gate.enter().await.unwrap();
        let mut second = Box::pin(gate.enter());
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!((gate.taken(), gate.waiting()), (1, 1));
        assert_eq!(gate.enter().await.unwrap_err().status.as_u16(), 503);
        drop(first);
        let second = second.await.unwrap();
        assert_eq!((gate.taken(), gate.waiting()), (1, 0));
        drop(second);
        assert_eq!(gate.taken(), 0);
    }

    #[tokio::test]
    async fn who_leaves_the_queue_leaves_no_trace() {
        let gate = Gate::new(1, 1);
        let first = gate.enter().await.unwrap();
        let mut leaver = Box::pin(gate.enter());
        assert!(leaver.as_mut().now_or_never().is_none());
        drop(leaver);
        assert_eq!(gate.waiting(), 0);
        drop(first);
        assert_eq!(gate.taken(), 0);
    }

    #[tokio::test]
    async fn a_closed_gate_turns_away_those_who_wait() {
        let gate = Gate::new(1, 1);
        let first = gate.enter().await.unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        gate.close();
        assert!(waiting.await.unwrap_err().message.contains("shutting down"));
        drop(first);
    }
}
