//! Attention of new tokens over the keys and values of their own sequences, which lie in blocks.

use super::attention::{multiply, softmax_rows};
use super::cpu::for_each_with;
use super::lanes::{Lanes, dispatch};
use super::row_product::{Dot, Weights, add_products};
use super::simd::LANES;

/// Tokens of one block of keys and values.
pub(crate) const BLOCK_TOKENS: usize = 16;

/// The heads of a model, as attention needs them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl Heads {
    /// Values of a head in a block: whole registers.
    pub(crate) fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Values of the keys of one layer in one block, `[KV, BLOCK_TOKENS, padded D]`; as many for
    /// the values.
    pub(crate) fn block_values(&self) -> usize {
        self.kv_heads * BLOCK_TOKENS * self.padded()
    }
}

/// The new tokens of one sequence, and where its keys and values are.
pub(crate) struct Span<'a> {
    /// `(keys, values)` of each block, with the new tokens' already in them.
    pub(crate) blocks: Vec<(&'a [f32], &'a [f32])>,
    /// Position of the first new token.
    pub(crate) start: usize,
    /// New tokens.
    pub(crate) tokens: usize,
}

/// Queries of one task, times the heads of a group.
const TASK_QUERIES: usize = 24;

/// Causal grouped-query attention of `q`, `[Σ tokens, H · D]`, span after span; as `[Σ tokens, H · D]`.
///
/// What a token gets depends on its own sequence up to its position, and on nothing else: not on the
/// other spans, nor on how many tokens come in one pass.
pub(crate) fn paged_attention(q: &[f32], spans: &[Span<'_>], shape: Heads, scale: f64) -> Vec<f32> {
    let Heads { heads, kv_heads, head_dim } = shape;
    let (width, padded, group) = (heads * head_dim, shape.padded(), heads / kv_heads);
    let mut out = vec![0.0; q.len()];
    let tokens: usize = spans.iter().map(|span| span.tokens).sum();
    assert_eq!(tokens * width, q.len(), "every query belongs to a span");
    let work = spans.iter().map(|span| span.tokens * (span.start + span.tokens) * width).sum();
    // Head after head: what spans share of their beginnings is still in the cache for the next one.
    let mut tasks = Vec::new();
    for kv_head in 0..kv_heads {
        let mut first_row = 0;
        for span in spans {
            for first in (0..span.tokens).step_by(TASK_QUERIES) {
                let queries = TASK_QUERIES.min(span.tokens - first);
                tasks.push(Task { span, row: first_row + first, first, queries, kv_head });
            }
            first_row += span.tokens;
        }
    }

    let shared = SharedOut(out.as_mut_ptr());
    let shared = &shared;
    for_each_with(tasks.len(), work, Scratch::default, |scratch, i| {
        let task = &tasks[i];
        let (rows, seen) = (group * task.queries, task.span.start + task.first + task.queries);
        let keys = seen.next_multiple_of(BLOCK_TOKENS);
        let Scratch { q: packed, scores, out } = scratch;
        packed.clear();
        packed.resize(rows * padded, 0.0);
        scores.clear();
        scores.resize(rows * keys, 0.0);
        out.clear();
        out.resize(rows * padded, 0.0);
        // Rows are head by head, as `softmax_rows` counts them.
        let place = |row: usize| {
            let head = task.kv_head * group + row / task.queries;
            (task.row + row % task.queries) * width + head * head_dim
        };
        for (row, packed) in packed.chunks_exact_mut(padded).enumerate() {
            packed[..head_dim].copy_from_slice(&q[place(row)..][..head_dim]);
        }
        multiply(packed, scale as f32);
        let blocks = &task.span.blocks[..keys / BLOCK_TOKENS];
        let head = task.kv_head * BLOCK_TOKENS * padded..(task.kv_head + 1) * BLOCK_TOKENS * padded;
        for (index, (block_keys, _)) in blocks.iter().enumerate() {
            let dot = Dot {
                x: packed,
                x_stride: padded,
                weight: Weights::F32(&block_keys[head.clone()]),
                weight_stride: padded,
                inputs: padded,
                out_stride: keys,
            };
            let scores = &mut scores[index * BLOCK_TOKENS..];
            // SAFETY: `packed` has `rows` rows, the block `BLOCK_TOKENS`; the last value written is
            // at `(rows - 1) * keys + BLOCK_TOKENS - 1` from here, inside `scores`.
            unsafe { add_products(&dot, 0..rows, 0..BLOCK_TOKENS, scores.as_mut_ptr()) };
        }
        let mut statistics = vec![(0.0, 0.0); rows];
        let first_seen = task.span.start + task.first + 1;
        softmax_rows(scores, keys, (first_seen, task.queries), &mut statistics);
        let values: Vec<&[f32]> = blocks.iter().map(|(_, values)| &values[head.clone()]).collect();
        // SAFETY: `scores` has a row of `keys` for each row of `out`, every block `BLOCK_TOKENS`
        // rows of `padded`, and `keys` is that of all blocks.
        unsafe { weighted_sums(scores, keys, &values, padded, out) };
        for (row, (from, (_, inverse))) in out.chunks_exact(padded).zip(&statistics).enumerate() {
            // SAFETY: tasks differ in rows or heads, so this head of this row is theirs alone, and
            // it lies inside `out`, which is as long as `q`.
            let to = unsafe { std::slice::from_raw_parts_mut(shared.0.add(place(row)), head_dim) };
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * inverse;
            }
        }
    });
    out
}

struct Task<'a> {
    span: &'a Span<'a>,
    /// Row of `q` that is the first query.
    row: usize,
    first: usize,
    queries: usize,
    kv_head: usize,
}

/// Memory one worker uses for task after task.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

struct SharedOut(*mut f32);

// SAFETY: the pointer is only used inside `paged_attention`, whose tasks write disjoint values.
unsafe impl Sync for SharedOut {}

dispatch! {
    /// `out[r] += Σ weights[r][j] · values[j]`, key after key.
    ///
    /// # Safety
    /// `weights` must have `keys` values for each row of `out`, `blocks` cover `keys` rows of
    /// `width` values, and `width` be a multiple of [`LANES`].
    unsafe fn weighted_sums<L>(
        weights: &[f32],
        keys: usize,
        blocks: &[&[f32]],
        width: usize,
        out: &mut [f32],
    ) {
        let rows = out.len() / width;
        let mut row = 0;
        // SAFETY: rows and columns stay inside what the caller vouches for.
        unsafe {
            while row < rows {
                let left = (rows - row).min(4);
                let mut column = 0;
                while column < width {
                    let wide = column + 2 * LANES <= width;
                    let at = (row, column);
                    match (left, wide) {
                        (4, true) => sum_tile::<L, 4, 2>(weights, keys, blocks, width, at, out),
                        (4, false) => sum_tile::<L, 4, 1>(weights, keys, blocks, width, at, out),
                        (_, true) => sum_tile::<L, 1, 2>(weights, keys, blocks, width, at, out),
                        (_, false) => sum_tile::<L, 1, 1>(weights, keys, blocks, width, at, out),
                    }
                    column += if wide { 2 * LANES } else { LANES };
                }
                row += if left == 4 { 4 } else { 1 };
            }
        }
    }
}

/// `R` rows times `C` registers of columns.
///
/// # Safety
/// As [`weighted_sums`], for the rows and columns from `at` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of one tile in three arrays
unsafe fn sum_tile<L: Lanes, const R: usize, const C: usize>(
    weights: &[f32],
    keys: usize,
    blocks: &[&[f32]],
    width: usize,
    (row, column): (usize, usize),
    out: &mut [f32],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[L::zero(); C]; R];
        let mut values = [L::zero(); C];
        let mut key = 0;
        for block in blocks {
            for j in 0..BLOCK_TOKENS {
                let from = block.as_ptr().add(j * width + column);
                for c in 0..C {
                    values[c] = L::load(from.add(c * LANES));
                }
                for r in 0..R {
                    let weight = L::splat(*weights.get_unchecked((row + r) * keys + key));
                    for c in 0..C {
                        sums[r][c] = weight.times_plus(values[c], sums[r][c]);
                    }
                }
                key += 1;
            }
        }
        for r in 0..R {
            for c in 0..C {
                sums[r][c].store(out.as_mut_ptr().add((row + r) * width + column + c * LANES));
            }
        }
    }
}
