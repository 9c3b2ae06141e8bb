//! Matrices that stay as quantised as GGUF has them, and their products.
//!
//! As in llama.cpp, the activations are quantised, too (to 8 bits in blocks of 32), so that whole
//! blocks are multiplied as integers; a result differs from the product with the widened weights by
//! what that rounds, and a row of the result depends on its own row of `x` alone. Weights lie in
//! panels of sixteen outputs, each read from memory once for all rows.
//!
//! For inference on the CPU: nothing here has a gradient.

mod activations;
mod formats;
mod kernel;
mod lanes;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use candle_core::{DType, Result, Tensor};
use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;

use super::cpu::{for_each_block, for_each_with, is_tracked, values};
use super::{shape_error, swiglu};
use activations::Activations;
use formats::{Format, Q4K, Q6K, Q8_0};
use kernel::{Level, add_panel};
use lanes::OUTPUTS;

/// The formats of llama.cpp that are multiplied as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quants {
    Q8_0,
    Q4K,
    Q6K,
}

impl Quants {
    /// As GGUF names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }
}

/// A quantised matrix, `[outputs, inputs]`.
pub struct Packed {
    quants: Quants,
    outputs: usize,
    inputs: usize,
    panels: Mmap,
}

/// Calls a function that is generic over [`Format`] for a format.
macro_rules! with_format {
    ($quants:expr, $format:ident => $body:expr) => {
        match $quants {
            Quants::Q8_0 => {
                type $format = Q8_0;
                $body
            }
            Quants::Q4K => {
                type $format = Q4K;
                $body
            }
            Quants::Q6K => {
                type $format = Q6K;
                $body
            }
        }
    };
}

impl Packed {
    /// Rearranges the blocks of a GGUF tensor, `outputs` rows of `inputs` weights.
    ///
    /// # Errors
    /// If `inputs` are not whole blocks, or `blocks` are not as many as the matrix needs.
    pub fn new(quants: Quants, blocks: &[u8], outputs: usize, inputs: usize) -> Result<Self> {
        let ((block, block_bytes), (unit, unit_bytes)) =
            with_format!(quants, F => (F::BLOCK, F::UNIT));
        let row = inputs / block * block_bytes;
        if !inputs.is_multiple_of(block) || blocks.len() != outputs * row {
            let rule = format!(
                "{outputs} × {inputs} weights do not take {} bytes in blocks of {block}",
                blocks.len()
            );
            return shape_error("packed", &rule, &[]);
        }
        let panel = inputs.div_ceil(unit) * unit_bytes;
        // Mapped, not allocated: zeros at no cost, whole cache lines, and large pages where they can be had.
        let mut panels = MmapMut::map_anon((outputs.div_ceil(OUTPUTS) * panel).max(1))?;
        #[cfg(target_os = "linux")]
        let _ = panels.advise(memmap2::Advice::HugePage); // a wish: a kernel without them is as good
        if row > 0 {
            panels.par_chunks_mut(panel).zip(blocks.par_chunks(OUTPUTS * row)).for_each(
                |(panel, blocks)| {
                    let rows: Vec<&[u8]> = blocks.chunks_exact(row).collect();
                    with_format!(quants, F => F::pack(&rows, panel));
                },
            );
        }
        Ok(Self { quants, outputs, inputs, panels: panels.make_read_only()? })
    }

    pub fn quants(&self) -> Quants {
        self.quants
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        self.panels.len()
    }

    /// `x · weightᵀ` for `x: [.., inputs]`, as `[.., outputs]`.
    ///
    /// # Errors
    /// If `x` is of another width, not f32 on the CPU, or a gradient is asked for.
    pub fn linear(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.shape_of("packed_linear", x)?;
        let mut out = vec![0.0; shape.iter().product()];
        add_products(Level::best(), &self.quantized(x)?, &mut [(self, &mut out)]);
        Tensor::from_vec(out, shape, x.device())
    }

    /// [`Packed::linear`] of several matrices with the same `x`, which is quantised once.
    ///
    /// # Errors
    /// As [`Packed::linear`].
    pub fn linears(matrices: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let Some(first) = matrices.first() else { return Ok(Vec::new()) };
        let mut shapes = Vec::with_capacity(matrices.len());
        let mut outs = Vec::with_capacity(matrices.len());
        for matrix in matrices {
            let shape = matrix.shape_of("packed_linears", x)?;
            outs.push(vec![0.0; shape.iter().product()]);
            shapes.push(shape);
        }
        let mut parts: Vec<(&Self, &mut [f32])> =
            matrices.iter().copied().zip(outs.iter_mut().map(Vec::as_mut_slice)).collect();
        add_products(Level::best(), &first.quantized(x)?, &mut parts);
        let tensors = outs.into_iter().zip(shapes);
        tensors.map(|(out, shape)| Tensor::from_vec(out, shape, x.device())).collect()
    }

    /// [`Packed::linear`] added to `residual`.
    ///
    /// # Errors
    /// As [`Packed::linear`], or if `residual` is not of the product's shape.
    pub fn linear_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let shape = self.shape_of("packed_linear_residual", x)?;
        if residual.dims() != shape || is_tracked(&[residual]) {
            let rule = "residual must have the shape of the product, and no gradient";
            return shape_error("packed_linear_residual", rule, &[x, residual]);
        }
        let mut out = values(&residual.contiguous()?)?.to_vec();
        add_products(Level::best(), &self.quantized(x)?, &mut [(self, &mut out)]);
        Tensor::from_vec(out, shape, x.device())
    }

    /// `swiglu(x · gateᵀ, x · upᵀ)`, the first half of the MLP.
    ///
    /// # Errors
    /// As [`Packed::linear`], or if the matrices are of different sizes.
    pub fn swiglu_linear(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        let shape = gate.shape_of("packed_swiglu_linear", x)?;
        if up.shape_of("packed_swiglu_linear", x)? != shape {
            let rule = "gate and up must have one shape";
            return shape_error("packed_swiglu_linear", rule, &[x]);
        }
        let mut out = vec![0.0; shape.iter().product()];
        let mut gated = vec![0.0; out.len()];
        let x_values = gate.quantized(x)?;
        add_products(Level::best(), &x_values, &mut [(gate, &mut gated), (up, &mut out)]);
        const BLOCK: usize = 2048;
        for_each_block(&mut out, BLOCK, |i, out| {
            swiglu::forward_in_place(&gated[i * BLOCK..][..out.len()], out);
        });
        Tensor::from_vec(out, shape, x.device())
    }

    /// The rows `ids` of the matrix, widened, `[.., inputs]`.
    ///
    /// # Errors
    /// If an id is not below the number of outputs.
    pub fn embedding(&self, ids: &Tensor) -> Result<Tensor> {
        let numbers = ids.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let mut out = Vec::with_capacity(numbers.len() * self.inputs);
        for id in numbers {
            let id = id as usize;
            if id >= self.outputs {
                let rule = format!("id {id} is not below {}", self.outputs);
                return shape_error("packed_embedding", &rule, &[ids]);
            }
            let (panel, output) = (self.panel(id / OUTPUTS), id % OUTPUTS);
            with_format!(self.quants, F => {
                out.extend((0..self.inputs).map(|input| F::value(panel, output, input)));
            });
        }
        let mut shape = ids.dims().to_vec();
        shape.push(self.inputs);
        Tensor::from_vec(out, shape, ids.device())
    }

    /// Outputs `16 · index` and on.
    fn panel(&self, index: usize) -> &[u8] {
        let size = self.panel_size();
        &self.panels[index * size..][..size]
    }

    fn panel_size(&self) -> usize {
        let (unit, bytes) = with_format!(self.quants, F => F::UNIT);
        self.inputs.div_ceil(unit) * bytes
    }

    /// The shape of the product with `x`.
    fn shape_of(&self, op: &str, x: &Tensor) -> Result<Vec<usize>> {
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(self.inputs) {
            let rule = format!("x must have the {} inputs of the matrix", self.inputs);
            return shape_error(op, &rule, &[x]);
        }
        if is_tracked(&[x]) {
            let rule =
                "no gradient goes through packed weights; load the model unpacked to train it";
            return shape_error(op, rule, &[x]);
        }
        shape.push(self.outputs);
        Ok(shape)
    }

    fn quantized(&self, x: &Tensor) -> Result<Activations> {
        Ok(Activations::new(&values(&x.contiguous()?)?, self.inputs))
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { quants, outputs, inputs, .. } = self;
        write!(f, "Packed({quants:?}, {outputs} × {inputs})")
    }
}

/// Bytes of weights that make a task, and of quantised rows that stay in a second-level cache
/// beside them.
const CACHED: usize = 64 * 1024;
const CACHED_ROWS: usize = 256 * 1024;

/// Adds the product of `x` with each matrix to its output, spread over the current rayon pool.
fn add_products(level: Level, x: &Activations, parts: &mut [(&Packed, &mut [f32])]) {
    let rows: usize = x.tiles.iter().map(|tile| tile.rows).sum();
    let mut tasks = Vec::new();
    let mut work = 0;
    let mut outs = Vec::with_capacity(parts.len());
    for (index, (matrix, out)) in parts.iter_mut().enumerate() {
        assert_eq!(matrix.inputs, x.inputs, "the rows are as wide as the matrix");
        assert_eq!(out.len(), rows * matrix.outputs, "the product fits its destination");
        let panels = matrix.outputs.div_ceil(OUTPUTS);
        let step = (CACHED / matrix.panel_size().max(1)).max(1);
        tasks.extend((0..panels).step_by(step).map(|at| (index, at..panels.min(at + step))));
        work += rows * matrix.outputs * matrix.inputs;
        outs.push(SharedOut(out.as_mut_ptr()));
    }
    let step = (CACHED_ROWS / (8 * x.inputs)).max(1);
    let (parts, outs): (&[_], &[_]) = (parts, &outs);
    for_each_with(
        tasks.len(),
        work,
        || (),
        |(), task| {
            let (index, panels) = &tasks[task];
            let matrix = parts[*index].0;
            for tiles in x.tiles.chunks(step) {
                for panel in panels.clone() {
                    // SAFETY: `level` is of `Level::available`, the sizes were just compared, and no
                    // two tasks have a panel in common.
                    unsafe {
                        let into = (outs[*index].0, matrix.outputs);
                        add_panel(level, matrix, panel, (tiles, x.inputs), into);
                    }
                }
            }
        },
    );
}

/// An output of which every value is written by one task.
struct SharedOut(*mut f32);

// SAFETY: the pointer is only used inside `add_products`, whose tasks write disjoint values.
unsafe impl Sync for SharedOut {}
