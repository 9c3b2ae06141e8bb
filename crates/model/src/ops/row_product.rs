//! Matrix products for inference in which a row of the result depends on its own row of `x` alone.
//!
//! A general matrix product picks its order of summation by the size of the whole problem, so a
//! reply would change in its last bits, and then in its tokens, with whatever else is in the batch.
//! Here each value is a dot product summed in [`LANES`] lanes along the inputs and then in halves,
//! however many rows there are. Weights are read from memory once for all rows.
//!
//! On the CPU weights may be bf16 or f16 beside f32 rows: widened on the way into the registers, with
//! the bits that widened weights give, from half the memory.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Tensor};
use half::{bf16, f16};

use super::cpu::{for_each_block, for_each_with, is_f32_cpu, operand};
use super::lanes::{Lanes, Stored, dispatch};
use super::linear::{check, sizes};
use super::simd::LANES;
use super::{composed, shape_error, swiglu};

/// [`linear`](super::linear()) without gradient, in f32 on the CPU with the same bits for a row
/// whatever the other rows are; elsewhere it is candle's product, which promises no such thing.
///
/// # Errors
/// If `weight` does not have the width of `x`.
pub fn row_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("row_linear", x, weight)?;
    if is_f32_cpu(&[x]) && is_stored(weight) {
        return x.contiguous()?.apply_op2_no_bwd(&weight.contiguous()?, &RowLinear);
    }
    composed::linear(x, weight)
}

/// [`row_linear`] added to `residual`.
///
/// # Errors
/// If the shapes disagree.
pub fn row_linear_residual(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    check("row_linear_residual", x, weight)?;
    let rows = x.dims().split_last().map_or(&[][..], |(_, rows)| rows);
    if residual.dims().split_last() != Some((&weight.dims()[0], rows)) {
        let rule = "residual must have the shape of the product";
        return shape_error("row_linear_residual", rule, &[x, weight, residual]);
    }
    if is_f32_cpu(&[x, residual]) && is_stored(weight) {
        let (weight, residual) = (weight.contiguous()?, residual.contiguous()?);
        return x.contiguous()?.apply_op3_no_bwd(&weight, &residual, &RowLinear);
    }
    composed::linear_residual(x, weight, residual)
}

/// [`swiglu_linear`](super::swiglu_linear) by [`row_linear`]s.
///
/// # Errors
/// If the shapes disagree.
pub fn row_swiglu_linear(x: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check("row_swiglu_linear", x, gate)?;
    if gate.dims() != up.dims() {
        return shape_error("row_swiglu_linear", "gate and up must have one shape", &[x, gate, up]);
    }
    if is_f32_cpu(&[x]) && is_stored(gate) && is_stored(up) {
        let (gate, up) = (gate.contiguous()?, up.contiguous()?);
        return x.contiguous()?.apply_op3_no_bwd(&gate, &up, &RowSwiglu);
    }
    composed::swiglu_linear(x, gate, up)
}

/// Whether rows of f32 can be multiplied with these weights here.
fn is_stored(weight: &Tensor) -> bool {
    weight.device().is_cpu() && matches!(weight.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

/// The values of a matrix, as they are stored.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
}

impl<'a> Weights<'a> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::Msg(format!("weights must be contiguous: {layout:?}")).bt())?;
        Ok(match storage {
            CpuStorage::BF16(values) => Self::Bf16(&values[start..end]),
            CpuStorage::F16(values) => Self::F16(&values[start..end]),
            other => Self::F32(operand(other, layout)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }
}

struct RowLinear;

impl CustomOp2 for RowLinear {
    fn name(&self) -> &'static str {
        "row-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, shape) = sizes(x_layout, weight_layout)?;
        let mut out = vec![0.0; shape.elem_count()];
        product(size, operand(x, x_layout)?, Weights::new(weight, weight_layout)?, &mut out);
        Ok((CpuStorage::F32(out), shape))
    }
}

impl CustomOp3 for RowLinear {
    fn name(&self) -> &'static str {
        "row-linear-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, shape) = sizes(x_layout, weight_layout)?;
        let mut out = operand(residual, residual_layout)?.to_vec();
        product(size, operand(x, x_layout)?, Weights::new(weight, weight_layout)?, &mut out);
        Ok((CpuStorage::F32(out), shape))
    }
}

struct RowSwiglu;

impl CustomOp3 for RowSwiglu {
    fn name(&self) -> &'static str {
        "row-swiglu-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, shape) = sizes(x_layout, gate_layout)?;
        let x = operand(x, x_layout)?;
        let mut gated = vec![0.0; shape.elem_count()];
        let mut out = vec![0.0; shape.elem_count()];
        product(size, x, Weights::new(gate, gate_layout)?, &mut gated);
        product(size, x, Weights::new(up, up_layout)?, &mut out);
        const BLOCK: usize = 2048;
        for_each_block(&mut out, BLOCK, |i, out| {
            swiglu::forward_in_place(&gated[i * BLOCK..][..out.len()], out);
        });
        Ok((CpuStorage::F32(out), shape))
    }
}

/// Bytes of each operand that one task keeps in the second-level cache.
const CACHED: usize = 192 * 1024;

/// `out[r][o] += Σ x[r][i] · weight[o][i]`, spread over the current rayon pool.
fn product(
    (rows, outputs, inputs): (usize, usize, usize),
    x: &[f32],
    weight: Weights<'_>,
    out: &mut [f32],
) {
    if rows == 0 || outputs == 0 || inputs == 0 {
        return;
    }
    let cached = CACHED / (4 * inputs);
    let (row_block, output_block) = ((cached / 12 * 12).max(12), (cached / 8 * 8).clamp(8, 256));
    // Tasks are columns of blocks, so that a task reads its weights from memory once.
    let tasks = outputs.div_ceil(output_block);
    let dot =
        Dot { x, x_stride: inputs, weight, weight_stride: inputs, inputs, out_stride: outputs };
    let shared = SharedOut(out.as_mut_ptr());
    let shared = &shared;
    assert!(x.len() >= rows * inputs && weight.len() >= outputs * inputs, "operands are whole");
    assert!(out.len() >= rows * outputs, "the product fits its destination");
    for_each_with(
        tasks,
        rows * outputs * inputs,
        || (),
        |(), task| {
            let first = task * output_block;
            let outputs = first..outputs.min(first + output_block);
            for row in (0..rows).step_by(row_block) {
                let rows = row..rows.min(row + row_block);
                // SAFETY: the operands were just seen to be whole, and no two tasks have an output in
                // common.
                unsafe { add_products(&dot, rows, outputs.clone(), shared.0) };
            }
        },
    );
}

/// An output of which every value is written by one task.
struct SharedOut(*mut f32);

// SAFETY: the pointer is only used inside `product`, whose tasks write disjoint values.
unsafe impl Sync for SharedOut {}

/// Rows of `x` against rows of `weight`.
#[derive(Clone, Copy)]
pub(super) struct Dot<'a> {
    pub(super) x: &'a [f32],
    pub(super) x_stride: usize,
    pub(super) weight: Weights<'a>,
    pub(super) weight_stride: usize,
    pub(super) inputs: usize,
    pub(super) out_stride: usize,
}

dispatch! {
    /// Adds the dot products of `rows` and `outputs` to `out[row · out_stride + output]`.
    ///
    /// # Safety
    /// The operands must have these rows in full, `out` be valid for these values, and nothing
    /// else use them meanwhile.
    pub(super) unsafe fn add_products<L>(
        dot: &Dot<'_>,
        rows: Range<usize>,
        outputs: Range<usize>,
        out: *mut f32,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match dot.weight {
                Weights::F32(weight) => tiles::<L, _>(dot, weight, rows, outputs, out),
                Weights::Bf16(weight) => tiles::<L, _>(dot, weight, rows, outputs, out),
                Weights::F16(weight) => tiles::<L, _>(dot, weight, rows, outputs, out),
            }
        }
    }
}

/// [`add_products`] for one kind of weights.
///
/// # Safety
/// As [`add_products`].
#[inline(always)]
unsafe fn tiles<L: Lanes, W: Stored>(
    dot: &Dot<'_>,
    weight: &[W],
    rows: Range<usize>,
    outputs: Range<usize>,
    out: *mut f32,
) {
    // SAFETY: as the caller promises; tiles stay inside `rows` and `outputs`.
    unsafe {
        let mut output = outputs.start;
        while output < outputs.end {
            let wide = output + L::WIDE <= outputs.end && rows.len() == 1;
            let full = output + L::OUTPUTS <= outputs.end;
            let mut row = rows.start;
            while row < rows.end {
                let at = (row, output);
                let left = (rows.end - row).min(L::ROWS);
                match (left, full) {
                    (1, _) if wide && L::WIDE == 8 => tile::<L, W, 1, 8>(dot, weight, at, out),
                    (1, _) if wide => tile::<L, W, 1, 4>(dot, weight, at, out),
                    (1, true) => outputs_tile::<L, W, 1>(dot, weight, at, out),
                    (2, true) => outputs_tile::<L, W, 2>(dot, weight, at, out),
                    (3, true) => outputs_tile::<L, W, 3>(dot, weight, at, out),
                    (4, true) => outputs_tile::<L, W, 4>(dot, weight, at, out),
                    (5, true) => outputs_tile::<L, W, 5>(dot, weight, at, out),
                    (_, true) => outputs_tile::<L, W, 6>(dot, weight, at, out),
                    (1, false) => tile::<L, W, 1, 1>(dot, weight, at, out),
                    (2, false) => tile::<L, W, 2, 1>(dot, weight, at, out),
                    (3, false) => tile::<L, W, 3, 1>(dot, weight, at, out),
                    (4, false) => tile::<L, W, 4, 1>(dot, weight, at, out),
                    (5, false) => tile::<L, W, 5, 1>(dot, weight, at, out),
                    (_, false) => tile::<L, W, 6, 1>(dot, weight, at, out),
                }
                row += left;
            }
            output += if wide {
                L::WIDE
            } else if full {
                L::OUTPUTS
            } else {
                1
            };
        }
    }
}

/// A tile of the instruction set's own number of outputs.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn outputs_tile<L: Lanes, W: Stored, const R: usize>(
    dot: &Dot<'_>,
    weight: &[W],
    at: (usize, usize),
    out: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match L::OUTPUTS {
            4 => tile::<L, W, R, 4>(dot, weight, at, out),
            _ => tile::<L, W, R, 2>(dot, weight, at, out),
        }
    }
}

/// `R` rows against `O` outputs, from `at` on, with one accumulator of [`LANES`] lanes each.
///
/// # Safety
/// `dot` must have these rows, `out` these values.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of one tile in three arrays
unsafe fn tile<L: Lanes, W: Stored, const R: usize, const O: usize>(
    dot: &Dot<'_>,
    values: &[W],
    (row, output): (usize, usize),
    out: *mut f32,
) {
    // SAFETY: offsets stay inside rows and outputs that the caller vouches for.
    unsafe {
        // Plain loops: a closure would not be compiled for the instruction set of its caller.
        let mut x = [std::ptr::null::<f32>(); R];
        for r in 0..R {
            x[r] = dot.x.as_ptr().add((row + r) * dot.x_stride);
        }
        let mut weight = [std::ptr::null::<W>(); O];
        for o in 0..O {
            weight[o] = values.as_ptr().add((output + o) * dot.weight_stride);
        }
        let mut sums = [[L::zero(); O]; R];
        let mut weights = [L::zero(); O];
        let whole = dot.inputs / LANES * LANES;
        let mut at = 0;
        while at < whole {
            for o in 0..O {
                weights[o] = W::load(weight[o].add(at));
            }
            for r in 0..R {
                let x = L::load(x[r].add(at));
                for o in 0..O {
                    sums[r][o] = x.times_plus(weights[o], sums[r][o]);
                }
            }
            at += LANES;
        }
        if at < dot.inputs {
            let rest = dot.inputs - at;
            for o in 0..O {
                weights[o] = W::load_some(weight[o].add(at), rest);
            }
            for r in 0..R {
                let x: L = f32::load_some(x[r].add(at), rest);
                for o in 0..O {
                    sums[r][o] = x.times_plus(weights[o], sums[r][o]);
                }
            }
        }
        for r in 0..R {
            for o in 0..O {
                *out.add((row + r) * dot.out_stride + output + o) += sums[r][o].sum();
            }
        }
    }
}
