//! Who may still fill how many blocks of keys and values: a row that runs never lacks one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The blocks that prompts and rows may fill.
pub(super) struct Room {
    blocks: usize,
    reserved: Arc<AtomicUsize>,
}

/// Blocks that are reserved as long as this lives, filled or not.
pub(super) struct Reservation {
    blocks: usize,
    reserved: Arc<AtomicUsize>,
}

impl Room {
    pub(super) fn new(blocks: usize) -> Self {
        Self { blocks, reserved: Arc::default() }
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(super) fn has(&self, blocks: usize) -> bool {
        self.reserved() + blocks <= self.blocks
    }

    pub(super) fn reserve(&self, blocks: usize) -> Reservation {
        self.reserved.fetch_add(blocks, Ordering::Relaxed);
        Reservation { blocks, reserved: self.reserved.clone() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reserved.fetch_sub(self.blocks, Ordering::Relaxed);
    }
}
