//! Keys and values of many sequences in one tensor a layer: what the engine uses on a GPU and in half precision.
//!
//! A layer is `[BANKS, blocks, 2 · KV · D]`. Token `t` of a block lies in bank `t`: candle's scatter kernel walks the
//! dimension it scatters along, one thread for each value of the others, so a run of tokens is written by `BANKS` times
//! as many threads as without banks. Block tables are on the host; a block that several sequences hold is never written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Tensor};

use crate::ops::BLOCK_TOKENS;
use crate::paged_kv::KvShape;

/// Tokens of a block, each in a bank of its own.
pub(crate) const BANKS: usize = BLOCK_TOKENS;

/// The block that padding reads: zeros, never written, so that no padding can be infinite or no number.
const BLANK: u32 = 0;
/// The block that padding writes.
pub(crate) const WASTE: u32 = 1;
/// The first block that can be taken.
const FIRST: u32 = 2;

/// Blocks that the arena starts with on the CPU, where it doubles; a GPU's memory is taken at once.
const BLOCKS_AT_FIRST: usize = 64;

/// The memory of one engine.
#[derive(Debug)]
pub(crate) struct Arena {
    shape: KvShape,
    dtype: DType,
    device: Device,
    pool: Arc<Mutex<Pool>>,
    /// Empty until the first pass.
    layers: Mutex<Vec<Tensor>>,
}

/// Which blocks are free.
#[derive(Debug)]
struct Pool {
    free: Vec<u32>,
    /// Blocks below this were taken before.
    next: u32,
    /// No block from here on.
    end: u32,
}

/// A block that was taken; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct ArenaBlock {
    index: u32,
    pool: Arc<Mutex<Pool>>,
}

impl Drop for ArenaBlock {
    fn drop(&mut self) {
        locked(&self.pool).free.push(self.index);
    }
}

impl ArenaBlock {
    pub(crate) fn index(&self) -> u32 {
        self.index
    }
}

impl Arena {
    /// One for `tokens` tokens in whole blocks.
    pub(crate) fn new(shape: KvShape, tokens: usize, dtype: DType, device: &Device) -> Self {
        let blocks = tokens.div_ceil(BLOCK_TOKENS).min(Self::most_tokens(shape) / BLOCK_TOKENS);
        let pool = Pool { free: Vec::new(), next: FIRST, end: FIRST + blocks as u32 };
        Self {
            shape,
            dtype,
            device: device.clone(),
            pool: Arc::new(Mutex::new(pool)),
            layers: Mutex::new(Vec::new()),
        }
    }

    /// The most tokens that an arena can hold: candle's kernels count the values of a layer in 32 bits.
    pub(crate) fn most_tokens(shape: KvShape) -> usize {
        let blocks = u32::MAX as usize / (shape.token_values() * BLOCK_TOKENS).max(1);
        blocks.saturating_sub(FIRST as usize) * BLOCK_TOKENS
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    /// A block of which nobody else knows.
    ///
    /// # Errors
    /// If all are taken; whoever admits sequences counts, so that they are not.
    pub(crate) fn take(&self) -> Result<ArenaBlock> {
        let mut pool = locked(&self.pool);
        let index = match pool.free.pop() {
            Some(index) => index,
            None if pool.next < pool.end => {
                pool.next += 1;
                pool.next - 1
            }
            None => {
                let tokens = (pool.end - FIRST) as usize * BLOCK_TOKENS;
                let problem = format!("the keys and values of {tokens} tokens have no block left");
                return Err(Error::Msg(problem).bt());
            }
        };
        Ok(ArenaBlock { index, pool: self.pool.clone() })
    }

    /// The tensors, with room for every block that was taken.
    ///
    /// # Errors
    /// If the device has no memory for them; the message says how much was wanted.
    pub(crate) fn layers(&self) -> Result<Layers> {
        let (needed, end) = {
            let pool = locked(&self.pool);
            (pool.next as usize, pool.end as usize)
        };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let held = layers.first().map_or(Ok(0), |layer| layer.dim(1))?;
        if held >= needed && held > 0 {
            return Ok(Layers { tensors: layers.clone(), blocks: held });
        }
        let blocks = match self.device {
            Device::Cpu => needed.max(2 * held).max(BLOCKS_AT_FIRST).min(end),
            _ => end,
        };
        // One layer after another, so that no more than one of them is there twice.
        for index in 0..self.shape.layers {
            let layer = self.new_layer(blocks).map_err(|error| self.refusal(blocks, &error))?;
            match layers.get_mut(index) {
                Some(old) => {
                    layer.slice_set(old, 1, 0)?;
                    *old = layer;
                }
                None => layers.push(layer),
            }
        }
        Ok(Layers { tensors: layers.clone(), blocks })
    }

    fn new_layer(&self, blocks: usize) -> Result<Tensor> {
        let shape = (BANKS, blocks, self.shape.token_values());
        Tensor::zeros(shape, self.dtype, &self.device)
    }

    fn refusal(&self, blocks: usize, error: &Error) -> Error {
        let tokens = blocks * BLOCK_TOKENS;
        let bytes = tokens * self.shape.layers * self.shape.token_values();
        let mib = (bytes * self.dtype.size_in_bytes()) >> 20;
        Error::Msg(format!(
            "the device has no {mib} MiB for the keys and values of {tokens} tokens ({error}); allow fewer tokens"
        ))
    }
}

/// The tensors of an arena for one pass.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) blocks: usize,
}

impl Layers {
    /// Where the tokens of a sequence are, `keys` of them with padding behind the first `length`, counted in tokens
    /// from the start of a layer.
    pub(crate) fn places(
        &self,
        table: &[u32],
        length: usize,
        keys: usize,
    ) -> impl Iterator<Item = u32> {
        let banks = self.blocks as u32;
        let of_block = move |block: &u32| {
            let block = *block;
            (0..BANKS as u32).map(move |bank| bank * banks + block)
        };
        let held = table.iter().flat_map(of_block).take(length);
        held.chain(std::iter::repeat_n(BLANK, keys - length))
    }
}

fn locked(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
