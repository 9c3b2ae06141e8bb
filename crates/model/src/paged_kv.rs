//! Keys and values of one sequence in blocks that sequences share until one of them writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Result;

use crate::kv_arena::{Arena, ArenaBlock};
use crate::ops::{BLOCK_TOKENS, Heads};

/// Keys and values of [`BLOCK_TOKENS`] tokens in every layer.
#[derive(Debug)]
pub(crate) struct Block {
    data: Data,
    _held: Held,
}

#[derive(Debug)]
enum Data {
    /// `[layers, 2, KV, BLOCK_TOKENS, D]`, for the paged kernels.
    Values(Vec<f32>),
    /// A place in the tensors of an arena.
    Place(ArenaBlock),
}

/// What a sequence holds of each token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) heads: Heads,
}

impl KvShape {
    /// Values of keys and values of a token in one layer, unpadded.
    pub(crate) fn token_values(&self) -> usize {
        2 * self.heads.kv_heads * self.heads.head_dim
    }
}

/// Where blocks come from: memory of their own each, or an arena.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    place: Place,
    held: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(KvShape),
    Arena(Arc<Arena>),
}

impl Store {
    /// Blocks for the paged kernels: f32 on the CPU.
    pub(crate) fn memory(shape: KvShape) -> Self {
        Self { place: Place::Memory(shape), held: Arc::default() }
    }

    pub(crate) fn arena(arena: Arena) -> Self {
        Self { place: Place::Arena(Arc::new(arena)), held: Arc::default() }
    }

    /// Blocks that somebody holds.
    pub(crate) fn held_blocks(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn block(&self) -> Result<Block> {
        Ok(match &self.place {
            Place::Memory(shape) => {
                let size = shape.layers * 2 * shape.heads.block_values();
                self.count(Data::Values(vec![0.0; size]))
            }
            Place::Arena(arena) => self.count(Data::Place(arena.take()?)),
        })
    }

    fn count(&self, data: Data) -> Block {
        self.held.fetch_add(1, Ordering::Relaxed);
        Block { data, _held: Held(self.held.clone()) }
    }
}

/// Counts a block as long as it is there.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A block of an arena whose tokens must be in another before that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The keys and values of one sequence. A fork costs one pointer a block; the block that is being
/// filled is copied by the first fork that writes to it.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    length: usize,
    blocks: Vec<Arc<Block>>,
    store: Store,
}

impl Sequence {
    /// An empty one.
    pub(crate) fn new(store: &Store) -> Self {
        Self::of_blocks(store, Vec::new())
    }

    /// One that starts with full blocks of another of the same store.
    pub(crate) fn of_blocks(store: &Store, blocks: Vec<Arc<Block>>) -> Self {
        Self { length: blocks.len() * BLOCK_TOKENS, blocks, store: store.clone() }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The blocks that are full.
    pub(crate) fn full_blocks(&self) -> &[Arc<Block>] {
        &self.blocks[..self.length / BLOCK_TOKENS]
    }

    /// The arena that it lies in, if it does.
    pub(crate) fn arena(&self) -> Option<&Arc<Arena>> {
        match &self.store.place {
            Place::Memory(_) => None,
            Place::Arena(arena) => Some(arena),
        }
    }

    /// Makes room for `tokens` more, in blocks that are this sequence's alone. In an arena the block
    /// that was shared is yet to be copied, before anything is written.
    ///
    /// # Errors
    /// If the arena is full.
    pub(crate) fn reserve(&mut self, tokens: usize) -> Result<Option<Copied>> {
        let mut copied = None;
        if !self.length.is_multiple_of(BLOCK_TOKENS) {
            let last = &mut self.blocks[self.length / BLOCK_TOKENS];
            if Arc::get_mut(last).is_none() {
                let own = match &last.data {
                    Data::Values(values) => self.store.count(Data::Values(values.clone())),
                    Data::Place(from) => {
                        let block = self.store.block()?;
                        copied = block.index().map(|to| Copied { from: from.index(), to });
                        block
                    }
                };
                *last = Arc::new(own);
            }
        }
        while self.blocks.len() * BLOCK_TOKENS < self.length + tokens {
            self.blocks.push(Arc::new(self.store.block()?));
        }
        Ok(copied)
    }

    /// The blocks' places in the arena, in order.
    pub(crate) fn table(&self) -> Vec<u32> {
        self.blocks.iter().filter_map(|block| block.index()).collect()
    }

    /// Writes the keys and values, `[tokens, KV · D]`, of one layer behind those held; they count
    /// once [`Sequence::advance`] was called. Not for arenas.
    pub(crate) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let Place::Memory(shape) = &self.store.place else { return };
        let Heads { kv_heads, head_dim, .. } = shape.heads;
        let (padded, size) = (shape.heads.padded(), shape.heads.block_values());
        let rows = keys.chunks_exact(kv_heads * head_dim);
        for (token, (keys, values)) in
            rows.zip(values.chunks_exact(kv_heads * head_dim)).enumerate()
        {
            let position = self.length + token;
            let block = Arc::get_mut(&mut self.blocks[position / BLOCK_TOKENS])
                .expect("`reserve` made the block this sequence's own");
            let Data::Values(held) = &mut block.data else { continue };
            let (to_keys, to_values) =
                held[layer * 2 * size..(layer + 1) * 2 * size].split_at_mut(size);
            for head in 0..kv_heads {
                let at = (head * BLOCK_TOKENS + position % BLOCK_TOKENS) * padded;
                let from = head * head_dim..(head + 1) * head_dim;
                to_keys[at..at + head_dim].copy_from_slice(&keys[from.clone()]);
                to_values[at..at + head_dim].copy_from_slice(&values[from]);
            }
        }
    }

    /// The tokens written in every layer are held from now on.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }

    /// Keys and values of one layer in every block; none in an arena.
    pub(crate) fn layer(&self, layer: usize) -> Vec<(&[f32], &[f32])> {
        let Place::Memory(shape) = &self.store.place else { return Vec::new() };
        let size = shape.heads.block_values();
        let layer = layer * 2 * size..(layer + 1) * 2 * size;
        let values = self.blocks.iter().filter_map(|block| match &block.data {
            Data::Values(values) => Some(values),
            Data::Place(_) => None,
        });
        values.map(|values| values[layer.clone()].split_at(size)).collect()
    }
}

impl Block {
    /// Its place, where it lies in an arena.
    fn index(&self) -> Option<u32> {
        match &self.data {
            Data::Values(_) => None,
            Data::Place(block) => Some(block.index()),
        }
    }
}
