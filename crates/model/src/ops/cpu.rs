//! What every CPU kernel needs around its loops: the f32s of a tensor, row blocks spread over the
//! current rayon pool, and the matrix product.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Error, Layout, Result, Storage, StorageRef, Tensor};
use rayon::prelude::*;

/// Whether the fused kernels cover these tensors: f32, on the CPU.
pub(super) fn is_f32_cpu(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// Whether a gradient may be asked for through any of these tensors.
pub(super) fn is_tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.track_op())
}

/// The values of a contiguous f32 CPU tensor, for as long as the guard lives.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

/// # Errors
/// If `tensor` is not f32, not on the CPU, or not contiguous.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = contiguous_range(layout)?;
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Values { storage, range: start..end }),
        _ => Err(Error::Msg("a fused op needs f32 values on the cpu".into()).bt()),
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[], // `values` lets only f32 on the CPU through
        }
    }
}

/// The values of a contiguous operand of a custom op.
pub(super) fn operand<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = contiguous_range(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn contiguous_range(layout: &Layout) -> Result<(usize, usize)> {
    layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg(format!("a fused op needs a contiguous tensor: {layout:?}")).bt())
}

/// Values a worker should have at least, so that handing it work costs less than the work.
const WORK: usize = 16 * 1024;

/// Rows of `width` values that make one block: enough work for one worker, few enough for its
/// cache. Depends on the shape alone, so sums over blocks do not depend on the number of threads.
pub(super) fn block_rows(width: usize) -> usize {
    (WORK / width.max(1)).clamp(1, 1024)
}

/// Calls `f(scratch, i)` for every `i` in `0..items`, on the current rayon pool when `work` (in
/// values) is worth it; every worker makes scratch memory of its own with `new`.
pub(super) fn for_each_with<S: Send>(
    items: usize,
    work: usize,
    new: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize) + Sync + Send,
) {
    if items > 1 && work > WORK && rayon::current_num_threads() > 1 {
        (0..items).into_par_iter().for_each_init(new, f);
    } else {
        let mut scratch = new();
        (0..items).for_each(|i| f(&mut scratch, i));
    }
}

/// Cuts `out` into blocks of `block` values and calls `f(index, block)` for each.
pub(super) fn for_each_block(
    out: &mut [f32],
    block: usize,
    f: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    if out.len() > WORK && rayon::current_num_threads() > 1 {
        out.par_chunks_mut(block.max(1)).enumerate().for_each(|(i, out)| f(i, out));
    } else {
        out.chunks_mut(block.max(1)).enumerate().for_each(|(i, out)| f(i, out));
    }
}

/// As [`for_each_block`] for two outputs cut alike; collects what `f` returns, in order.
pub(super) fn map_blocks2<R: Send>(
    (a, a_block): (&mut [f32], usize),
    (b, b_block): (&mut [f32], usize),
    f: impl Fn(usize, &mut [f32], &mut [f32]) -> R + Sync + Send,
) -> Vec<R> {
    if a.len() + b.len() > WORK && rayon::current_num_threads() > 1 {
        a.par_chunks_mut(a_block)
            .zip(b.par_chunks_mut(b_block))
            .enumerate()
            .map(|(i, (a, b))| f(i, a, b))
            .collect()
    } else {
        a.chunks_mut(a_block)
            .zip(b.chunks_mut(b_block))
            .enumerate()
            .map(|(i, (a, b))| f(i, a, b))
            .collect()
    }
}

/// A matrix inside a slice: value `(row, column)` is at `row · row_stride + column · column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `stride` values.
    pub(super) fn new(values: &'a [f32], stride: usize) -> Self {
        Self { values, row_stride: stride, column_stride: 1 }
    }

    pub(super) fn t(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// Values from the first to the last of a `rows × columns` matrix.
    fn span(&self, rows: usize, columns: usize) -> usize {
        span(rows, columns, self.row_stride, self.column_stride)
    }
}

fn span(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    (rows - 1) * row_stride + (columns - 1) * column_stride + 1
}

/// What a product does with the values already in its destination.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Into {
    Overwrite,
    Add,
}

/// Whether a product spreads over the current rayon pool or stays on its thread.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    Pool,
    One,
}

/// `out ← [out +] beta · a · b` for `a: [m, k]`, `b: [k, n]`, `out: [m, n]` with rows of
/// `out_stride` values.
pub(super) fn matmul(
    (m, n, k): (usize, usize, usize),
    out: (&mut [f32], usize, Into),
    a: Matrix<'_>,
    b: Matrix<'_>,
    beta: f32,
    threads: Threads,
) {
    let (out, out_stride, into) = out;
    assert!(out.len() >= span(m, n, out_stride, 1), "the product fits its destination");
    // SAFETY: `out` is borrowed mutably and was just seen to hold every value written.
    unsafe { matmul_raw((m, n, k), (out.as_mut_ptr(), out_stride, into), a, b, beta, threads) }
}

/// A new `[m, n]` product, without zeroing its memory first.
pub(super) fn new_matmul(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
) -> Vec<f32> {
    if k == 0 {
        return vec![0.0; m * n];
    }
    let mut out = Vec::with_capacity(m * n);
    // SAFETY: the capacity holds `m` rows of `n` values, and an overwriting product reads none of
    // them and writes them all, which is what `set_len` needs.
    unsafe {
        matmul_raw((m, n, k), (out.as_mut_ptr(), n, Into::Overwrite), a, b, 1.0, Threads::Pool);
        out.set_len(m * n);
    }
    out
}

/// # Safety
/// `out` must be valid for writes of an `m × n` matrix with rows of `out_stride` values, and hold
/// initialised values where `into` is [`Into::Add`].
unsafe fn matmul_raw(
    (m, n, k): (usize, usize, usize),
    (out, out_stride, into): (*mut f32, usize, Into),
    a: Matrix<'_>,
    b: Matrix<'_>,
    beta: f32,
    threads: Threads,
) {
    assert!(a.values.len() >= a.span(m, k), "the left operand holds m × k values");
    assert!(b.values.len() >= b.span(k, n), "the right operand holds k × n values");
    let parallelism = match (threads, rayon::current_num_threads()) {
        (Threads::One, _) | (_, 0 | 1) => gemm::Parallelism::None,
        (Threads::Pool, threads) => gemm::Parallelism::Rayon(threads),
    };
    // SAFETY: both operands were just seen to hold every value read; the caller answers for `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            out_stride as isize,
            into == Into::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            beta,
            false,
            false,
            false,
            parallelism,
        );
    }
}
