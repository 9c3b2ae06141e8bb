//! Keys and values of one sequence in blocks that sequences share until one of them writes.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::kv_cache::KvCache;
use crate::ops::{BLOCK_TOKENS, Heads};

/// Keys and values of [`BLOCK_TOKENS`] tokens in every layer: `[layers, 2, KV, BLOCK_TOKENS, D]`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    values: Vec<f32>,
}

/// What a sequence holds of each token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) heads: Heads,
}

/// The keys and values of one sequence. A fork costs one pointer a block; the block that is being
/// filled is copied by the first fork that writes to it.
#[derive(Debug)]
pub(crate) struct Sequence {
    length: usize,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Blocks {
        blocks: Vec<Arc<Block>>,
        shape: KvShape,
    },
    /// Where the paged kernels do not run (half precision, other devices): a fork copies.
    Tensors(KvCache),
}

impl Sequence {
    /// An empty one in blocks.
    pub(crate) fn paged(shape: KvShape) -> Self {
        Self { length: 0, held: Held::Blocks { blocks: Vec::new(), shape } }
    }

    /// One that starts with full blocks of another.
    pub(crate) fn of_blocks(shape: KvShape, blocks: Vec<Arc<Block>>) -> Self {
        Self { length: blocks.len() * BLOCK_TOKENS, held: Held::Blocks { blocks, shape } }
    }

    /// An empty one in tensors.
    pub(crate) fn tensors(cache: KvCache) -> Self {
        Self { length: cache.len(), held: Held::Tensors(cache) }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// A second sequence that goes on from here.
    ///
    /// # Errors
    /// If tensors cannot be copied.
    pub(crate) fn fork(&self) -> Result<Self> {
        let held = match &self.held {
            Held::Blocks { blocks, shape } => {
                Held::Blocks { blocks: blocks.clone(), shape: *shape }
            }
            Held::Tensors(cache) => Held::Tensors(cache.copy()?),
        };
        Ok(Self { length: self.length, held })
    }

    /// The blocks that are full; none where the sequence lies in tensors.
    pub(crate) fn full_blocks(&self) -> &[Arc<Block>] {
        match &self.held {
            Held::Blocks { blocks, .. } => &blocks[..self.length / BLOCK_TOKENS],
            Held::Tensors(_) => &[],
        }
    }

    /// The cache, where the sequence lies in tensors.
    pub(crate) fn cache(&mut self) -> Option<&mut KvCache> {
        match &mut self.held {
            Held::Blocks { .. } => None,
            Held::Tensors(cache) => Some(cache),
        }
    }

    /// Makes room for `tokens` more, in blocks that are this sequence's alone.
    pub(crate) fn reserve(&mut self, tokens: usize) {
        let Held::Blocks { blocks, shape } = &mut self.held else { return };
        if !self.length.is_multiple_of(BLOCK_TOKENS) {
            Arc::make_mut(&mut blocks[self.length / BLOCK_TOKENS]);
        }
        let size = shape.layers * 2 * shape.heads.block_values();
        while blocks.len() * BLOCK_TOKENS < self.length + tokens {
            blocks.push(Arc::new(Block { values: vec![0.0; size] }));
        }
    }

    /// Writes the keys and values, `[tokens, KV · D]`, of one layer behind those held; they count
    /// once [`Sequence::advance`] was called.
    pub(crate) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let Held::Blocks { blocks, shape } = &mut self.held else { return };
        let Heads { kv_heads, head_dim, .. } = shape.heads;
        let (padded, size) = (shape.heads.padded(), shape.heads.block_values());
        let rows = keys.chunks_exact(kv_heads * head_dim);
        for (token, (keys, values)) in
            rows.zip(values.chunks_exact(kv_heads * head_dim)).enumerate()
        {
            let position = self.length + token;
            let block = Arc::get_mut(&mut blocks[position / BLOCK_TOKENS])
                .expect("`reserve` made the block this sequence's own");
            let (to_keys, to_values) =
                block.values[layer * 2 * size..(layer + 1) * 2 * size].split_at_mut(size);
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

    /// Keys and values of one layer in every block.
    pub(crate) fn layer(&self, layer: usize) -> Vec<(&[f32], &[f32])> {
        let Held::Blocks { blocks, shape } = &self.held else { return Vec::new() };
        let size = shape.heads.block_values();
        let layer = layer * 2 * size..(layer + 1) * 2 * size;
        blocks.iter().map(|block| block.values[layer.clone()].split_at(size)).collect()
    }
}

impl KvCache {
    /// The same tokens in memory of their own.
    fn copy(&self) -> Result<Self> {
        self.map(Tensor::copy)
    }
}
