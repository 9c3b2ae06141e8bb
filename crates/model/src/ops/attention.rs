use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};

use super::cpu::{Into, Matrix, Threads, for_each_with, is_f32_cpu, matmul};
use super::heads::{Block, Order, Rows, SharedRows};
use super::simd::{dot, exp, exp_and_sum, max, simd};
use super::{composed, shape_error};

/// Causal grouped-query attention: `softmax(scale · q·kᵀ)·v`, where query `i`, at position
/// `offset + i`, sees the keys up to its own position.
///
/// `q` is `[B, H, T, D]`, `k` and `v` are `[B, KV, S, D]`, in any strides with a dense last
/// dimension (a transposed view, a narrowed cache); head `h` reads key head `h / (H / KV)`. Gives
/// a contiguous `[B, H, T, D]`; gradients for all three. Neither scores nor repeated keys exist in
/// memory: blocks of queries go through cache, forward and again backward (arXiv 2307.08691).
///
/// # Errors
/// If the shapes disagree or there are no keys.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, offset: usize) -> Result<Tensor> {
    let ((batch, heads, _, head_dim), (_, kv_heads, keys, _)) = (q.dims4()?, k.dims4()?);
    check_heads("attention", q, k, heads, kv_heads, (keys, head_dim))?;
    if k.dims() != [batch, kv_heads, keys, head_dim] || v.dims() != k.dims() {
        return shape_error("attention", "q, k and v must agree", &[q, k, v]);
    }
    if is_f32_cpu(&[q, k, v]) {
        return Attention::new(Order::Heads, head_dim, scale, offset).apply(q, k, v);
    }
    composed::attention(q, k, v, scale, offset)
}

/// [`attention`] for heads side by side, as projections put them out: `q` is `[B, T, H·D]`, `k`
/// and `v` are `[B, S, KV·D]`, the result is `[B, T, H·D]`, ready for the output projection.
///
/// # Errors
/// If the shapes disagree or there are no keys.
pub fn attention_thd(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    head_dim: usize,
    scale: f64,
    offset: usize,
) -> Result<Tensor> {
    let ((batch, _, width), (kv_batch, keys, kv_width)) = (q.dims3()?, k.dims3()?);
    if head_dim == 0 || width % head_dim != 0 || kv_width % head_dim != 0 {
        let rule = format!("q, k and v must hold whole heads of {head_dim}");
        return shape_error("attention_thd", &rule, &[q, k, v]);
    }
    check_heads("attention_thd", q, k, width / head_dim, kv_width / head_dim, (keys, head_dim))?;
    if kv_batch != batch || v.dims() != k.dims() {
        return shape_error("attention_thd", "q, k and v must agree", &[q, k, v]);
    }
    if is_f32_cpu(&[q, k, v]) {
        return Attention::new(Order::Time, head_dim, scale, offset).apply(q, k, v);
    }
    composed::attention_thd(q, k, v, head_dim, scale, offset)
}

/// [`attention_thd`] of sequences laid end to end: `q` is `[1, N, H·D]`, `k` and `v` are `[1, N, KV·D]`, and `lengths`,
/// which add up to N, cut them into sequences. A token sees those before it in its own sequence alone.
///
/// In f32 on the CPU nothing is copied and a sequence gives the same bits whatever lies beside it.
///
/// # Errors
/// If the shapes disagree, or `lengths` do not add up to N or have a 0.
pub fn attention_packed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &[usize],
    head_dim: usize,
    scale: f64,
) -> Result<Tensor> {
    let ((batch, tokens, width), (kv_batch, keys, kv_width)) = (q.dims3()?, k.dims3()?);
    if head_dim == 0 || width % head_dim != 0 || kv_width % head_dim != 0 {
        let rule = format!("q, k and v must hold whole heads of {head_dim}");
        return shape_error("attention_packed", &rule, &[q, k, v]);
    }
    let (heads, kv_heads) = (width / head_dim, kv_width / head_dim);
    check_heads("attention_packed", q, k, heads, kv_heads, (keys, head_dim))?;
    if [batch, kv_batch] != [1, 1] || keys != tokens || v.dims() != k.dims() {
        return shape_error("attention_packed", "q, k and v must be rows of as many", &[q, k, v]);
    }
    if lengths.contains(&0) || lengths.iter().sum::<usize>() != tokens {
        let rule = format!("lengths must be positive and add up to {tokens}, not {lengths:?}");
        return shape_error("attention_packed", &rule, &[q, k, v]);
    }
    if is_f32_cpu(&[q, k, v]) {
        let attention = Attention::new(Order::Time, head_dim, scale, 0);
        return Attention { lengths: lengths.to_vec(), ..attention }.apply(q, k, v);
    }
    composed::attention_packed(q, k, v, lengths, head_dim, scale)
}

fn check_heads(
    op: &str,
    q: &Tensor,
    k: &Tensor,
    heads: usize,
    kv_heads: usize,
    (keys, head_dim): (usize, usize),
) -> Result<()> {
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        let rule = format!("{heads} query heads must be a multiple of {kv_heads} key heads");
        return shape_error(op, &rule, &[q, k]);
    }
    if keys == 0 || head_dim == 0 {
        return shape_error(op, "there must be keys of some width", &[q, k]);
    }
    Ok(())
}

/// Queries of one block, times the heads of a group: its scores stay in the second-level cache.
const BLOCK: usize = 48;

struct Attention {
    order: Order,
    head_dim: usize,
    scale: f32,
    offset: usize,
    /// Of the sequences in the one row of a packed batch; empty where each row of the batch is a sequence.
    lengths: Vec<usize>,
    /// Largest score and reciprocal of the sum of exponentials, for each row `(batch, head, query)`.
    statistics: OnceLock<[Vec<f32>; 2]>,
}

/// Queries and keys of one sequence: `start` is the first of either in row `batch`.
#[derive(Clone, Copy)]
struct Part {
    batch: usize,
    start: usize,
    queries: usize,
    keys: usize,
}

/// Memory one worker uses for block after block.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
    out_grad: Vec<f32>,
    deltas: Vec<f32>,
    scores_grad: Vec<f32>,
    k_grad: Vec<f32>,
    v_grad: Vec<f32>,
}

impl Attention {
    fn new(order: Order, head_dim: usize, scale: f64, offset: usize) -> Self {
        let (scale, lengths, statistics) = (scale as f32, Vec::new(), OnceLock::new());
        Self { order, head_dim, scale, offset, lengths, statistics }
    }

    fn apply(self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let dense = |x: &Tensor| {
            if x.stride().last() == Some(&1) { Ok(x.clone()) } else { x.contiguous() }
        };
        dense(q)?.apply_op3(&dense(k)?, &dense(v)?, self)
    }

    fn rows(&self, layout: &Layout) -> Result<Rows> {
        Rows::new(self.order, self.head_dim, layout)
    }

    fn parts(&self, q: &Rows, k: &Rows) -> Vec<Part> {
        let ([batch, _, queries], [_, _, keys]) = (q.count, k.count);
        if self.lengths.is_empty() {
            return (0..batch).map(|batch| Part { batch, start: 0, queries, keys }).collect();
        }
        let part = |end: &mut usize, &length: &usize| {
            *end += length;
            Some(Part { batch: 0, start: *end - length, queries: length, keys: length })
        };
        self.lengths.iter().scan(0, part).collect()
    }

    /// The blocks of one sequence and one key head, the last queries first.
    fn blocks(&self, part: Part, kv_head: usize, group: usize) -> Vec<Block> {
        let Part { batch, start, queries: time, keys } = part;
        let queries = time.div_ceil(time.div_ceil(BLOCK).max(1)).max(1);
        (0..time.div_ceil(queries))
            .rev()
            .map(|i| {
                let first = i * queries;
                let queries = queries.min(time - first);
                let keys = keys.min(self.offset + first + queries);
                Block { batch, kv_head, group, start, first: start + first, queries, keys }
            })
            .collect()
    }

    /// The keys that the first query of a block sees.
    fn seen(&self, block: &Block) -> usize {
        self.offset + block.first - block.start + 1
    }

    fn forward(
        &self,
        (q, q_rows): (&[f32], Rows),
        (k, k_rows): (&[f32], Rows),
        (v, v_rows): (&[f32], Rows),
        shape: &Shape,
    ) -> Result<Vec<f32>> {
        let width = self.head_dim;
        let [batch, heads, time] = q_rows.count;
        let kv_heads = k_rows.count[1];
        let mut out = vec![0.0; shape.elem_count()];
        let out_rows = self.rows(&Layout::contiguous(shape))?;
        let shared = SharedRows::new(&mut out, out_rows);
        // Statistics are rows `(batch, head, query)` of one value.
        let row_of_one = Rows::of_one(q_rows.count);
        let mut maxima = vec![0.0; batch * heads * time];
        let mut inverses = vec![0.0; batch * heads * time];
        let shared_maxima = SharedRows::new(&mut maxima, row_of_one);
        let shared_inverses = SharedRows::new(&mut inverses, row_of_one);

        let parts = self.parts(&q_rows, &k_rows);
        let blocks: Vec<Block> = (0..parts.len() * kv_heads)
            .flat_map(|i| self.blocks(parts[i / kv_heads], i % kv_heads, heads / kv_heads))
            .collect();
        let work = work(&parts, heads);
        for_each_with(blocks.len(), work, Scratch::default, |scratch, i| {
            let block = &blocks[i];
            let (rows, keys) = (block.len(), block.keys);
            let Scratch { q: packed, scores, out, .. } = scratch;
            packed.resize(rows * width, 0.0);
            scores.resize(rows * keys, 0.0);
            out.resize(rows * width, 0.0);

            q_rows.pack(q, block, packed);
            multiply(packed, self.scale);
            let k = k_rows.matrix(k, block.batch, block.kv_head, block.start);
            let v = v_rows.matrix(v, block.batch, block.kv_head, block.start);
            let into = (scores.as_mut_slice(), keys, Into::Overwrite);
            let packed = Matrix::new(packed, width);
            matmul((rows, keys, width), into, packed, k.t(), 1.0, Threads::One);
            let seen = self.seen(block);
            let mut statistics = vec![(0.0, 0.0); rows];
            softmax_rows(scores, keys, (seen, block.queries), &mut statistics);
            let into = (out.as_mut_slice(), width, Into::Overwrite);
            let scores = Matrix::new(scores, keys);
            matmul((rows, width, keys), into, scores, v, 1.0, Threads::One);

            let rows = block.rows().zip(out.chunks_exact(width)).zip(statistics);
            for (((head, time), out), (max, inverse)) in rows {
                // SAFETY: blocks share no row, and the outputs are not used until all are done.
                let (to, max_to, inverse_to) = unsafe {
                    (
                        shared.row(block.batch, head, time),
                        shared_maxima.row(block.batch, head, time),
                        shared_inverses.row(block.batch, head, time),
                    )
                };
                for (to, x) in to.iter_mut().zip(out) {
                    *to = x * inverse;
                }
                max_to[0] = max;
                inverse_to[0] = inverse;
            }
        });
        self.statistics.get_or_init(|| [maxima, inverses]);
        Ok(out)
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = q_layout.shape().clone();
        let out = self.forward(
            (q.as_slice()?, self.rows(q_layout)?),
            (k.as_slice()?, self.rows(k_layout)?),
            (v.as_slice()?, self.rows(v_layout)?),
            &shape,
        )?;
        Ok((CpuStorage::F32(out), shape))
    }

    /// With `P` the probabilities, computed again: `dV = Pᵀ·dO`, `dP = dO·Vᵀ`,
    /// `dS = P·(dP - Σ dO·O)`, `dQ = scale·dS·K`, `dK = scale·dSᵀ·Q`.
    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let guards = [q, k, v, out, &grad].map(|tensor| tensor.storage_and_layout());
        let mut operands = Vec::with_capacity(guards.len());
        for (storage, layout) in &guards {
            let Storage::Cpu(storage) = &**storage else {
                return shape_error("attention", "operands must be on the cpu", &[q, k, v]);
            };
            operands.push((storage.as_slice::<f32>()?, self.rows(layout)?));
        }
        let [(q_values, q_rows), (k_values, k_rows), (v_values, v_rows), out, grad] =
            operands[..].try_into().expect("there are five operands");
        let [maxima, inverses] =
            self.statistics.get().expect("the forward pass sets the statistics");

        let width = self.head_dim;
        let [_, heads, time] = q_rows.count;
        let kv_heads = k_rows.count[1];
        let parts = self.parts(&q_rows, &k_rows);
        let new = |tensor: &Tensor| vec![0.0; tensor.elem_count()];
        let (mut q_grad, mut k_grad, mut v_grad) = (new(q), new(k), new(v));
        let dense = |tensor: &Tensor| self.rows(&Layout::contiguous(tensor.shape()));
        let shared_q = SharedRows::new(&mut q_grad, dense(q)?);
        let shared_k = SharedRows::new(&mut k_grad, dense(k)?);
        let shared_v = SharedRows::new(&mut v_grad, dense(v)?);

        let work = work(&parts, heads);
        for_each_with(parts.len() * kv_heads, work, Scratch::default, |scratch, i| {
            let (part, kv_head) = (parts[i / kv_heads], i % kv_heads);
            let Part { batch, start, .. } = part;
            let k = k_rows.matrix(k_values, batch, kv_head, start);
            let v = v_rows.matrix(v_values, batch, kv_head, start);
            scratch.k_grad.clear();
            scratch.v_grad.clear();
            for block in self.blocks(part, kv_head, heads / kv_heads) {
                let (rows, keys) = (block.len(), block.keys);
                let Scratch {
                    q,
                    scores,
                    out: packed_out,
                    out_grad,
                    deltas,
                    scores_grad,
                    k_grad,
                    v_grad,
                } = &mut *scratch;
                q.resize(rows * width, 0.0);
                packed_out.resize(rows * width, 0.0);
                out_grad.resize(rows * width, 0.0);
                scores.resize(rows * keys, 0.0);
                scores_grad.resize(rows * keys, 0.0);
                deltas.resize(rows, 0.0);

                q_rows.pack(q_values, &block, q);
                multiply(q, self.scale);
                out.1.pack(out.0, &block, packed_out);
                grad.1.pack(grad.0, &block, out_grad);
                row_dots(packed_out, out_grad, width, deltas);
                let (q_block, grad_block) = (Matrix::new(q, width), Matrix::new(out_grad, width));
                let into = (scores.as_mut_slice(), keys, Into::Overwrite);
                matmul((rows, keys, width), into, q_block, k.t(), 1.0, Threads::One);
                let into = (scores_grad.as_mut_slice(), keys, Into::Overwrite);
                matmul((rows, keys, width), into, grad_block, v.t(), 1.0, Threads::One);

                let statistics: Vec<(f32, f32)> = block
                    .rows()
                    .map(|(head, t)| (block.batch * heads + head) * time + t)
                    .map(|row| (maxima[row], inverses[row]))
                    .collect();
                let seen = (self.seen(&block), block.queries);
                softmax_rows_backward(scores, scores_grad, keys, seen, &statistics, deltas);

                let (probs, dscores) = (Matrix::new(scores, keys), Matrix::new(scores_grad, keys));
                // The first block sees the most keys, so it sets every value others add to.
                let into = if k_grad.is_empty() { Into::Overwrite } else { Into::Add };
                if into == Into::Overwrite {
                    k_grad.resize(keys * width, 0.0);
                    v_grad.resize(keys * width, 0.0);
                }
                let size = (keys, width, rows);
                let v_into = (v_grad.as_mut_slice(), width, into);
                matmul(size, v_into, probs.t(), grad_block, 1.0, Threads::One);
                let k_into = (k_grad.as_mut_slice(), width, into);
                matmul(size, k_into, dscores.t(), q_block, 1.0, Threads::One);
                let q_into = (packed_out.as_mut_slice(), width, Into::Overwrite);
                matmul((rows, width, keys), q_into, dscores, k, self.scale, Threads::One);
                for ((head, t), from) in block.rows().zip(packed_out.chunks_exact(width)) {
                    // SAFETY: this item alone has the rows of this batch and group.
                    unsafe { shared_q.row(batch, head, t) }.copy_from_slice(from);
                }
            }
            for (shared, from) in [(&shared_k, &scratch.k_grad), (&shared_v, &scratch.v_grad)] {
                for (t, from) in from.chunks_exact(width).enumerate() {
                    // SAFETY: this item alone has the rows of this batch and key head.
                    unsafe { shared.row(batch, kv_head, start + t) }.copy_from_slice(from);
                }
            }
        });

        let tensor =
            |grad: Vec<f32>, of: &Tensor| Tensor::from_vec(grad, of.shape(), of.device()).map(Some);
        Ok((tensor(q_grad, q)?, tensor(k_grad, k)?, tensor(v_grad, v)?))
    }
}

/// Scores, as far as they decide whether threads are worth it.
fn work(parts: &[Part], heads: usize) -> usize {
    parts.iter().map(|part| heads * part.queries * part.keys).sum()
}

simd! {
    /// `exp(row - max(row))` over the keys that row sees, 0 over the others; not yet divided by
    /// the sum. `seen` is the number of keys that query 0 sees, and the queries of a head.
    pub(super) fn softmax_rows(
        scores: &mut [f32],
        keys: usize,
        seen: (usize, usize),
        statistics: &mut [(f32, f32)],
    ) {
        let (seen, queries) = seen;
        let rows = scores.chunks_exact_mut(keys).zip(statistics);
        for (row, (scores, statistics)) in rows.enumerate() {
            let (scores, hidden) = scores.split_at_mut((seen + row % queries).min(keys));
            let max = max(scores);
            let sum = exp_and_sum(scores, 1.0, max);
            hidden.fill(0.0);
            *statistics = (max, 1.0 / sum);
        }
    }
}

simd! {
    /// Turns scores into probabilities, and gradients of probabilities into gradients of scores.
    fn softmax_rows_backward(
        scores: &mut [f32],
        grads: &mut [f32],
        keys: usize,
        seen: (usize, usize),
        statistics: &[(f32, f32)],
        deltas: &[f32],
    ) {
        let (seen, queries) = seen;
        let rows = scores.chunks_exact_mut(keys).zip(grads.chunks_exact_mut(keys));
        for (row, (scores, grads)) in rows.enumerate() {
            let ((max, inverse), delta) = (statistics[row], deltas[row]);
            let seen = (seen + row % queries).min(keys);
            scores[seen..].fill(0.0);
            grads[seen..].fill(0.0);
            for (score, grad) in scores[..seen].iter_mut().zip(&mut grads[..seen]) {
                let p = exp(*score - max) * inverse;
                *score = p;
                *grad = p * (*grad - delta);
            }
        }
    }
}

simd! {
    pub(super) fn multiply(values: &mut [f32], scale: f32) {
        for x in values {
            *x *= scale;
        }
    }
}

simd! {
    fn row_dots(a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
        let rows = a.chunks_exact(width).zip(b.chunks_exact(width));
        for (out, (a, b)) in out.iter_mut().zip(rows) {
            *out = dot(a, b);
        }
    }
}
