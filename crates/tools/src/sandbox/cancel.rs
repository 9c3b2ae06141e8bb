use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a running call from another thread, e.g. on ctrl-c; clones share one switch, which stays set.
///
/// Setting it is a single atomic store, so a signal handler may do it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the running call, and every later one, with [`End::Cancelled`](super::End::Cancelled).
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
