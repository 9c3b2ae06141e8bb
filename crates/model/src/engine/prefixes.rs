//! Blocks of earlier prompts, found again by their tokens and those of every block before.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ops::BLOCK_TOKENS;
use crate::paged_kv::{Block, Sequence};

/// A chain of blocks for each prompt; what chains have in common is there once.
pub(super) struct Prefixes {
    blocks: HashMap<Key, Entry>,
    /// Blocks that may be kept.
    capacity: usize,
    next_id: u64,
    clock: u64,
}

/// The block before, 0 at the start, and this block's tokens. Compared in full: no hash decides.
type Key = (u64, [u32; BLOCK_TOKENS]);

struct Entry {
    id: u64,
    block: Arc<Block>,
    used: u64,
}

impl Prefixes {
    pub(super) fn new(tokens: usize) -> Self {
        let capacity = tokens / BLOCK_TOKENS;
        Self { blocks: HashMap::new(), capacity, next_id: 1, clock: 0 }
    }

    /// The blocks known of the beginning of `prompt`, its last token never among them: somebody has
    /// to compute its logits.
    pub(super) fn find(&mut self, prompt: &[u32]) -> Vec<Arc<Block>> {
        self.clock += 1;
        let mut found = Vec::new();
        let mut parent = 0;
        for tokens in full_blocks(&prompt[..prompt.len().saturating_sub(1)]) {
            let Some(entry) = self.blocks.get_mut(&(parent, tokens)) else { break };
            entry.used = self.clock;
            parent = entry.id;
            found.push(entry.block.clone());
        }
        found
    }

    /// Keeps the full blocks of a sequence that holds the beginning of `prompt`.
    pub(super) fn keep(&mut self, prompt: &[u32], sequence: &Sequence) {
        if self.capacity == 0 {
            return;
        }
        self.clock += 1;
        let mut parent = 0;
        for (tokens, block) in full_blocks(prompt).zip(sequence.full_blocks()) {
            let entry = self.blocks.entry((parent, tokens)).or_insert_with(|| {
                self.next_id += 1;
                Entry { id: self.next_id, block: block.clone(), used: 0 }
            });
            entry.used = self.clock;
            parent = entry.id;
        }
        self.shrink();
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Drops the blocks that were used longest ago. A block is used whenever one behind it is, so
    /// chains lose their ends first, as ids grow along them.
    fn shrink(&mut self) {
        if self.blocks.len() <= self.capacity {
            return;
        }
        let mut ages: Vec<(u64, u64)> =
            self.blocks.values().map(|entry| (entry.used, u64::MAX - entry.id)).collect();
        ages.sort_unstable();
        let cut = ages[self.blocks.len() - self.capacity];
        self.blocks.retain(|_, entry| (entry.used, u64::MAX - entry.id) >= cut);
    }
}

fn full_blocks(tokens: &[u32]) -> impl Iterator<Item = [u32; BLOCK_TOKENS]> {
    tokens.chunks_exact(BLOCK_TOKENS).map(|block| std::array::from_fn(|i| block[i]))
}
