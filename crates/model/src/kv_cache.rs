//! Keys and values of the tokens seen so far, so that a new token costs one column of attention.

use candle_core::{Result, Tensor};

/// The cache of a whole model: one `LayerCache` a layer, all of the same length.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

impl KvCache {
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers] }
    }

    /// Tokens held, per sequence.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.length)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn layer(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }
}

/// Keys and values of one layer, in buffers that double when they are full: appending a token copies that token only.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerCache {
    buffers: Option<(Tensor, Tensor)>, // each [B, capacity, KV * D]
    length: usize,
}

impl LayerCache {
    /// Appends `[B, T, KV * D]` keys and values; gives views of all that is held, `[B, length, KV * D]`.
    pub(crate) fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let added = key.dim(1)?;
        let (keys, values) = self.with_room_for(added, key)?;
        keys.slice_set(&key.contiguous()?, 1, self.length)?;
        values.slice_set(&value.contiguous()?, 1, self.length)?;
        self.length += added;
        let held = (keys.narrow(1, 0, self.length)?, values.narrow(1, 0, self.length)?);
        self.buffers = Some((keys, values));
        Ok(held)
    }

    fn with_room_for(&self, added: usize, like: &Tensor) -> Result<(Tensor, Tensor)> {
        let wanted = self.length + added;
        if let Some((keys, values)) = &self.buffers
            && keys.dim(1)? >= wanted
        {
            return Ok((keys.clone(), values.clone()));
        }
        let (batch, _, width) = like.dims3()?;
        let capacity = wanted.next_power_of_two().max(64);
        let buffer = || Tensor::zeros((batch, capacity, width), like.dtype(), like.device());
        let (keys, values) = (buffer()?, buffer()?);
        if let Some((old_keys, old_values)) = &self.buffers {
            keys.slice_set(&old_keys.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
            values.slice_set(&old_values.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
        }
        Ok((keys, values))
    }
}
