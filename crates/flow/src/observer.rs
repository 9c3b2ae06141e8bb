//! Those who watch runs without being able to fail or to slow them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events, Kind, Ring};

/// Events that wait for one observer. More than that, and it is told that it lagged.
const CAPACITY: usize = 4096;

/// Sees the events of a run, on a thread of its own: it may block, be slow or panic without the run noticing.
///
/// Implemented for functions of `&Event`.
pub trait Observer: Send + 'static {
    /// Sees one event. Events come in their order, one at a time.
    fn on_event(&mut self, event: &Event);
}

impl<F: FnMut(&Event) + Send + 'static> Observer for F {
    fn on_event(&mut self, event: &Event) {
        self(event);
    }
}

/// The observers of a run that has ended, which may still be reading.
#[derive(Default)]
pub struct Observers(Vec<Arc<Watch>>);

/// What observers did not see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watched {
    /// Events on which an observer panicked.
    pub panics: u64,
    /// Events that were dropped because an observer was too far behind.
    pub missed: u64,
}

#[derive(Default)]
struct Watch {
    panics: AtomicU64,
    missed: AtomicU64,
    done: CancellationToken,
}

impl Observers {
    /// Waits until every observer has seen its last event; a program that ends before may lose those of slow ones.
    pub async fn finished(&self) -> Watched {
        let mut sum = Watched::default();
        for watch in &self.0 {
            watch.done.cancelled().await;
            sum.panics += watch.panics.load(Ordering::Relaxed);
            sum.missed += watch.missed.load(Ordering::Relaxed);
        }
        sum
    }

    /// Starts `observer` on a thread; the ring that feeds it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(&mut self, observer: Box<dyn Observer>) -> std::io::Result<Arc<Ring>> {
        let ring = Ring::new(CAPACITY);
        let watch = Arc::new(Watch::default());
        let (events, watching) = (ring.events(), watch.clone());
        std::thread::Builder::new()
            .name("flow-observer".to_owned())
            .spawn(move || follow(observer, events, &watching))?;
        self.0.push(watch);
        Ok(ring)
    }
}

fn follow(mut observer: Box<dyn Observer>, mut events: Events, watch: &Watch) {
    let done = watch.done.clone().drop_guard();
    while let Some(event) = futures::executor::block_on(events.next()) {
        if let Kind::Lagged(missed) = event.kind {
            watch.missed.fetch_add(missed, Ordering::Relaxed);
        }
        if catch_unwind(AssertUnwindSafe(|| observer.on_event(&event))).is_err() {
            watch.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
    drop(observer);
    drop(done);
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.0.len())
    }
}
