//! Attention of many sequences over an arena of keys and values, in a number of kernels that does not grow with theirs.
//!
//! All that says who sees what is on the device before the first layer; a layer then writes the new keys and values in
//! one scatter and, for each [`Bucket`], gathers keys and values in one go, padded, straight into the layout of a
//! batched product: heads of a group are rows of one product, so keys are never repeated for them.
//!
//! Products are in the dtype of the model, the softmax in f32 or wider, as HF's eager attention has it. A row's last bits
//! depend on what else is in the pass, since products of another size sum in another order.

use candle_core::{D, DType, Device, Result, Tensor};

use super::buckets::{Bucket, Span, buckets};
use crate::kv_arena::{BANKS, Layers, WASTE};
use crate::ops::{Heads, composed};
use crate::paged_kv::{Copied, Sequence};

/// What the layers of one pass have in common.
pub(super) struct ArenaPass {
    layers: Vec<Tensor>, // each [BANKS, blocks, 2 · KV · D]
    heads: Heads,
    /// Blocks to copy before anything is written: which, `[n]`, and where to, `[BANKS, n, 2 · KV · D]`.
    copies: Option<(Tensor, Tensor)>,
    /// New tokens by bank, `[BANKS · n]`, and their blocks, `[BANKS, n, 2 · KV · D]`.
    written: (Tensor, Tensor),
    attended: Vec<Attended>,
    /// Where the result of each token and key head is, `[N · KV]`.
    results: Tensor,
}

/// One bucket of R pieces, n queries and T keys.
struct Attended {
    pieces: usize,
    queries: usize,
    keys: usize,
    query_rows: Tensor, // [R · KV · n]
    key_rows: Tensor,   // [2 · R · KV · T]
    mask: Tensor,       // [R, 1, n, 1, T]
}

/// Added to the score of a key that is not seen: its exponential is 0, and 0 times it is no NaN.
const UNSEEN: f64 = -1e30;

impl ArenaPass {
    /// Plans a pass that adds the parts to their sequences, all of one arena. `None` where they are in none.
    ///
    /// # Errors
    /// If the arena is full, or the device has no memory.
    pub(super) fn new(
        parts: &mut [(&mut Sequence, &[u32])],
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Self>> {
        let mut copied = Vec::new();
        for (sequence, ids) in parts.iter_mut() {
            copied.extend(sequence.reserve(ids.len())?);
        }
        let Some(arena) = parts.first().and_then(|(sequence, _)| sequence.arena()) else {
            return Ok(None);
        };
        let (layers, shape) = (arena.layers()?, arena.shape());
        let spans: Vec<Span> = parts
            .iter()
            .map(|(sequence, ids)| Span {
                table: sequence.table(),
                start: sequence.len(),
                tokens: ids.len(),
            })
            .collect();
        let width = shape.token_values();
        let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        let buckets = buckets(&spans);
        let results = results(&spans, &buckets, shape.heads.kv_heads);
        let attended = buckets
            .iter()
            .map(|bucket| Attended::new(bucket, &spans, &layers, shape.heads, wide, device))
            .collect::<Result<_>>()?;
        Ok(Some(Self {
            heads: shape.heads,
            copies: copies(&copied, width, device)?,
            written: written(&spans, width, device)?,
            attended,
            results: Tensor::new(results, device)?,
            layers: layers.tensors,
        }))
    }

    /// Writes the keys and values, `[1, N, KV · D]`, of a layer; gives what the queries, `[1, N, H · D]`, find there.
    pub(super) fn attend(
        &self,
        layer: usize,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        scale: f64,
    ) -> Result<Tensor> {
        let arena = &self.layers[layer];
        let Heads { heads, kv_heads, head_dim } = self.heads;
        let (group, width) = (heads / kv_heads, 2 * kv_heads * head_dim);
        if let Some((from, to)) = &self.copies {
            arena.scatter_set(to, &arena.index_select(from, 1)?, 1)?;
        }
        let (tokens, places) = &self.written;
        let new = Tensor::cat(&[key, value], D::Minus1)?.squeeze(0)?; // [N, 2 · KV · D]
        let new = new.index_select(tokens, 0)?.reshape((BANKS, (), width))?;
        arena.scatter_set(places, &new, 1)?;

        let rows = arena.reshape(((), head_dim))?;
        // A group's heads are side by side.
        let groups = query.contiguous()?.reshape(((), group * head_dim))?; // [N · KV, G · D]
        let mut found = Vec::with_capacity(self.attended.len());
        for bucket in &self.attended {
            let held = rows.index_select(&bucket.key_rows, 0)?;
            let batch = bucket.pieces * kv_heads;
            let held = held.reshape((2, batch, bucket.keys, head_dim))?;
            let (keys, values) = (held.get(0)?, held.get(1)?);
            let query = groups.index_select(&bucket.query_rows, 0)?;
            let query = query.reshape((batch, bucket.queries * group, head_dim))?;
            let scores = composed::matmul(&query, &keys.t()?)?; // [R · KV, n · G, T]
            let probs = bucket.softmax(&scores, scale, kv_heads)?;
            found.push(composed::matmul(&probs, &values)?.reshape(((), group * head_dim))?);
        }
        let found = match found.as_slice() {
            [one] => one.clone(),
            several => Tensor::cat(several, 0)?, // [Σ R · KV · n, G · D]
        };
        found.index_select(&self.results, 0)?.reshape(query.shape())
    }
}

impl Attended {
    fn new(
        bucket: &Bucket,
        spans: &[Span],
        layers: &Layers,
        heads: Heads,
        wide: DType,
        device: &Device,
    ) -> Result<Self> {
        let kv_heads = heads.kv_heads as u32;
        let (pieces, queries, keys) = (bucket.pieces.len(), bucket.queries, bucket.keys);
        let mut query_rows = Vec::with_capacity(pieces * heads.kv_heads * queries);
        let mut seen = Vec::with_capacity(pieces * queries);
        // The first row of each token; keys and values of its heads follow.
        let mut tokens = Vec::with_capacity(pieces * keys);
        for piece in &bucket.pieces {
            let row = |query: usize| (piece.row + query.min(piece.queries - 1)) as u32 * kv_heads;
            for head in 0..kv_heads {
                query_rows.extend((0..queries).map(|query| row(query) + head));
            }
            let last = piece.keys();
            seen.extend((0..queries).map(|query| (piece.position + query + 1).min(last) as u32));
            let table = &spans[piece.span].table;
            tokens.extend(layers.places(table, last, keys).map(|place| place * 2 * kv_heads));
        }
        let tokens = Tensor::from_vec(tokens, (1, pieces, 1, keys), device)?;
        let heads: Vec<u32> = (0..2 * kv_heads).collect();
        let heads = Tensor::from_vec(heads, (2, 1, kv_heads as usize, 1), device)?;
        let seen = Tensor::from_vec(seen, (pieces, queries, 1), device)?;
        let positions = Tensor::arange(0, keys as u32, device)?.reshape((1, 1, keys))?;
        let unseen = positions.broadcast_ge(&seen)?.to_dtype(wide)?;
        Ok(Self {
            pieces,
            queries,
            keys,
            query_rows: Tensor::new(query_rows, device)?,
            key_rows: tokens.broadcast_add(&heads)?.flatten_all()?,
            mask: (unseen * UNSEEN)?.reshape((pieces, 1, queries, 1, keys))?,
        })
    }

    /// `softmax(scale · scores)` over the keys that are seen, for `scores: [R · KV, n · G, T]`.
    fn softmax(&self, scores: &Tensor, scale: f64, kv_heads: usize) -> Result<Tensor> {
        let by_query = (self.pieces, kv_heads, self.queries, (), self.keys);
        let wide = (scores.to_dtype(self.mask.dtype())? * scale)?.reshape(by_query)?;
        let probs = candle_nn::ops::softmax_last_dim(&wide.broadcast_add(&self.mask)?)?;
        probs.to_dtype(scores.dtype())?.reshape(scores.shape())
    }
}

fn copies(copied: &[Copied], width: usize, device: &Device) -> Result<Option<(Tensor, Tensor)>> {
    if copied.is_empty() {
        return Ok(None);
    }
    let from: Vec<u32> = copied.iter().map(|copied| copied.from).collect();
    let to: Vec<u32> = copied.iter().map(|copied| copied.to).collect();
    let to = Tensor::from_vec(to, (1, copied.len(), 1), device)?;
    let to = to.broadcast_as((BANKS, copied.len(), width))?.contiguous()?;
    Ok(Some((Tensor::new(from, device)?, to)))
}

/// Which new token each bank takes, and to which block; banks that have fewer write to waste.
fn written(spans: &[Span], width: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut banks: [Vec<(u32, u32)>; BANKS] = Default::default();
    let mut row = 0;
    for Span { table, start, tokens } in spans {
        for position in *start..start + tokens {
            banks[position % BANKS].push((row, table[position / BANKS]));
            row += 1;
        }
    }
    let longest = banks.iter().map(Vec::len).max().unwrap_or(0);
    for bank in &mut banks {
        bank.resize(longest, (0, WASTE));
    }
    let rows: Vec<u32> = banks.iter().flatten().map(|(row, _)| *row).collect();
    let blocks: Vec<u32> = banks.iter().flatten().map(|(_, block)| *block).collect();
    let blocks = Tensor::from_vec(blocks, (BANKS, longest, 1), device)?;
    let blocks = blocks.broadcast_as((BANKS, longest, width))?.contiguous()?;
    Ok((Tensor::new(rows, device)?, blocks))
}

/// For each token and key head, its row in what the buckets found one behind the other, each `[R, KV, n]`.
fn results(spans: &[Span], buckets: &[Bucket], kv_heads: usize) -> Vec<u32> {
    let tokens: usize = spans.iter().map(|span| span.tokens).sum();
    let mut results = vec![0; tokens * kv_heads];
    let mut first = 0;
    for bucket in buckets {
        for (index, piece) in bucket.pieces.iter().enumerate() {
            for head in 0..kv_heads {
                let from = first + (index * kv_heads + head) * bucket.queries;
                for query in 0..piece.queries {
                    results[(piece.row + query) * kv_heads + head] = (from + query) as u32;
                }
            }
        }
        first += bucket.pieces.len() * kv_heads * bucket.queries;
    }
    results
}
