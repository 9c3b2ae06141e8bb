use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Error, Layout, Result, Shape, Tensor,
};

use super::cpu::{
    Into, Matrix, Threads, block_rows, for_each_block, is_f32_cpu, is_tracked, map_blocks2, matmul,
    operand, values,
};
use super::simd::{exp, exp_and_sum, max, simd};
use super::{composed, shape_error};

/// `log softmax(logits)[n, targets[n]]`: the log-probability, in nats, of each target token.
///
/// `logits` is `[N, V]`, `targets` `[N]` of u32; gives `[N]` in f32 or wider. Gradient for
/// `logits`.
///
/// # Errors
/// If the shapes disagree or a target is not below `V`.
pub fn token_logprobs(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if !is_f32_cpu(&[logits]) {
        return composed::token_logprobs(logits, targets);
    }
    let targets = read_targets("token_logprobs", targets, rows, vocabulary)?;
    logits.contiguous()?.apply_op1(TokenLogprobs { targets, statistics: OnceLock::new() })
}

/// `Σ weights[n] · -log softmax(logits[n])[targets[n]]`, a scalar; divide the weights, not the
/// sum, to get a mean.
///
/// `logits` is `[N, V]`, `targets` `[N]` of u32, `weights` `[N]`. Gradient for `logits` alone;
/// rows of weight 0 get exactly 0, whatever their logits.
///
/// # Errors
/// If the shapes disagree or a target is not below `V`.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if !is_f32_cpu(&[logits]) {
        return composed::cross_entropy(logits, targets, &weights.detach());
    }
    let targets = read_targets("cross_entropy", targets, rows, vocabulary)?;
    let weights = read_weights("cross_entropy", weights, rows)?;
    let op = CrossEntropy { targets, weights, statistics: OnceLock::new() };
    logits.contiguous()?.apply_op1(op)
}

/// [`cross_entropy`] of `hidden · weightᵀ`, for `hidden: [N, I]` and an output embedding
/// `weight: [V, I]`, without logits in memory.
///
/// Rows of weight 0 (prompts, padding) cost nothing at all. Where a gradient is tracked, the
/// forward pass leaves it behind chunk by chunk while the logits are in cache, and the backward
/// pass only scales it (the idea of Liger kernel, arXiv 2410.10989).
///
/// # Errors
/// If the shapes disagree or a target is not below `V`.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    let ((rows, width), (vocabulary, inputs)) = (hidden.dims2()?, weight.dims2()?);
    if width != inputs {
        let rule = "weight must be as wide as hidden";
        return shape_error("linear_cross_entropy", rule, &[hidden, weight]);
    }
    if !is_f32_cpu(&[hidden, weight]) {
        let logits = super::linear(hidden, weight)?;
        return composed::cross_entropy(&logits, targets, &weights.detach());
    }
    let op = LinearCrossEntropy {
        targets: read_targets("linear_cross_entropy", targets, rows, vocabulary)?,
        weights: read_weights("linear_cross_entropy", weights, rows)?,
        tracked: [is_tracked(&[hidden]), is_tracked(&[weight])],
        grads: OnceLock::new(),
    };
    hidden.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

pub(super) fn read_targets(
    op: &str,
    targets: &Tensor,
    rows: usize,
    vocabulary: usize,
) -> Result<Vec<u32>> {
    if targets.dims() != [rows] {
        return shape_error(op, &format!("targets must be [{rows}]"), &[targets]);
    }
    let targets = targets.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    match targets.iter().find(|&&target| target as usize >= vocabulary) {
        Some(target) => {
            let message = format!("{op}: target {target} is not below the vocabulary {vocabulary}");
            Err(Error::Msg(message).bt())
        }
        None => Ok(targets),
    }
}

fn read_weights(op: &str, weights: &Tensor, rows: usize) -> Result<Vec<f32>> {
    if weights.dims() != [rows] {
        return shape_error(op, &format!("weights must be [{rows}]"), &[weights]);
    }
    weights.to_dtype(DType::F32)?.to_vec1()
}

/// What a softmax needs to be computed again: apart, because their sum would round at large logits.
#[derive(Clone, Copy, Default)]
struct Statistics {
    max: f32,
    sum: f32,
}

struct TokenLogprobs {
    targets: Vec<u32>,
    statistics: OnceLock<Vec<Statistics>>,
}

impl CustomOp1 for TokenLogprobs {
    fn name(&self) -> &'static str {
        "token-logprobs"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, vocabulary) = layout.shape().dims2()?;
        let logits = operand(logits, layout)?;
        let statistics = all_statistics(logits, vocabulary, |_| true);
        let logprobs = (0..rows)
            .map(|n| logprob(&logits[n * vocabulary..], self.targets[n], statistics[n]))
            .collect();
        self.statistics.get_or_init(|| statistics);
        Ok((CpuStorage::F32(logprobs), Shape::from(rows)))
    }

    fn bwd(&self, logits: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let statistics = self.statistics.get().expect("the forward pass sets the statistics");
        let grad = grad.to_vec1::<f32>()?;
        Ok(Some(logits_grad(logits, &self.targets, statistics, |n| grad[n])?))
    }
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
    statistics: OnceLock<Vec<Statistics>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let logits = operand(logits, layout)?;
        let statistics = all_statistics(logits, vocabulary, |n| self.weights[n] != 0.0);
        let loss = (self.weights.iter().enumerate())
            .filter(|&(_, &weight)| weight != 0.0)
            .map(|(n, &weight)| {
                let row = &logits[n * vocabulary..];
                -f64::from(weight) * f64::from(logprob(row, self.targets[n], statistics[n]))
            })
            .sum::<f64>();
        self.statistics.get_or_init(|| statistics);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let statistics = self.statistics.get().expect("the forward pass sets the statistics");
        let grad = grad.to_scalar::<f32>()?;
        let scale = |n: usize| -self.weights[n] * grad;
        Ok(Some(logits_grad(logits, &self.targets, statistics, scale)?))
    }
}

fn logprob(logits: &[f32], target: u32, statistics: Statistics) -> f32 {
    logits[target as usize] - statistics.max - statistics.sum.ln()
}

/// The statistics of every row for which `wanted` holds.
fn all_statistics(
    logits: &[f32],
    vocabulary: usize,
    wanted: impl Fn(usize) -> bool + Sync + Send,
) -> Vec<Statistics> {
    let rows = block_rows(vocabulary);
    let count = logits.len() / vocabulary.max(1);
    let mut sums = vec![0.0; count];
    let mut maxima = vec![0.0; count];
    map_blocks2((&mut maxima, rows), (&mut sums, rows), |i, maxima, sums| {
        for (at, (max, sum)) in maxima.iter_mut().zip(sums).enumerate() {
            let n = i * rows + at;
            if wanted(n) {
                (*max, *sum) = row_statistics(&logits[n * vocabulary..][..vocabulary]);
            }
        }
    });
    maxima.into_iter().zip(sums).map(|(max, sum)| Statistics { max, sum }).collect()
}

/// `scale(n) · (onehot - softmax)`, row by row.
fn logits_grad(
    logits: &Tensor,
    targets: &[u32],
    statistics: &[Statistics],
    scale: impl Fn(usize) -> f32 + Sync + Send,
) -> Result<Tensor> {
    let (_, vocabulary) = logits.dims2()?;
    let logits_values = values(logits)?;
    let logits_values: &[f32] = &logits_values;
    let rows = block_rows(vocabulary);
    let mut out = vec![0.0; logits_values.len()];
    for_each_block(&mut out, rows * vocabulary, |i, out| {
        for (at, out) in out.chunks_exact_mut(vocabulary).enumerate() {
            let n = i * rows + at;
            let scale = scale(n);
            if scale != 0.0 {
                let row = &logits_values[n * vocabulary..][..vocabulary];
                let Statistics { max, sum } = statistics[n];
                scaled_softmax(row, max, -scale / sum, out);
                out[targets[n] as usize] += scale;
            }
        }
    });
    Tensor::from_vec(out, logits.shape(), logits.device())
}

simd! {
    fn row_statistics(logits: &[f32]) -> (f32, f32) {
        let max = max(logits);
        let mut sum = 0.0;
        // In pieces, so that the exponentials stay in the first-level cache.
        let mut piece = [0.0; 512];
        for logits in logits.chunks(piece.len()) {
            let piece = &mut piece[..logits.len()];
            piece.copy_from_slice(logits);
            sum += exp_and_sum(piece, 1.0, max);
        }
        (max, sum)
    }
}

simd! {
    /// `scale · exp(logits - max)`.
    fn scaled_softmax(logits: &[f32], max: f32, scale: f32, out: &mut [f32]) {
        for (out, &logit) in out.iter_mut().zip(logits) {
            *out = scale * exp(logit - max);
        }
    }
}

struct LinearCrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
    tracked: [bool; 2],
    /// The gradients for `hidden` and `weight` at a gradient of 1 for the loss.
    grads: OnceLock<[Option<Tensor>; 2]>,
}

impl CustomOp2 for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (vocabulary, inputs) = weight_layout.shape().dims2()?;
        let hidden = operand(hidden, hidden_layout)?;
        let weight = Matrix::new(operand(weight, weight_layout)?, inputs);
        let [hidden_tracked, weight_tracked] = self.tracked;
        let mut hidden_grad = vec![0.0; if hidden_tracked { hidden.len() } else { 0 }];
        let mut weight_grad = vec![0.0; if weight_tracked { vocabulary * inputs } else { 0 }];

        let counted: Vec<usize> =
            (0..self.weights.len()).filter(|&n| self.weights[n] != 0.0).collect();
        let rows = (CHUNK / vocabulary.max(1)).clamp(16, 256);
        let (mut logits, mut x, mut x_grad) = (Vec::new(), Vec::new(), Vec::new());
        let mut loss = 0.0;
        for counted in counted.chunks(rows) {
            let rows = counted.len();
            x.clear();
            for &n in counted {
                x.extend_from_slice(&hidden[n * inputs..][..inputs]);
            }
            logits.resize(rows * vocabulary, 0.0);
            let into = (logits.as_mut_slice(), vocabulary, Into::Overwrite);
            let x = Matrix::new(&x, inputs);
            matmul((rows, vocabulary, inputs), into, x, weight.t(), 1.0, Threads::Pool);

            let mut losses = vec![0.0; rows];
            map_blocks2((&mut logits, vocabulary), (&mut losses, 1), |i, logits, loss| {
                let n = counted[i];
                loss[0] = loss_and_grad(logits, self.targets[n] as usize, self.weights[n]);
            });
            loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();

            let logits = Matrix::new(&logits, vocabulary);
            if hidden_tracked {
                x_grad.resize(rows * inputs, 0.0);
                let into = (x_grad.as_mut_slice(), inputs, Into::Overwrite);
                matmul((rows, inputs, vocabulary), into, logits, weight, 1.0, Threads::Pool);
                for (&n, x_grad) in counted.iter().zip(x_grad.chunks_exact(inputs)) {
                    hidden_grad[n * inputs..][..inputs].copy_from_slice(x_grad);
                }
            }
            if weight_tracked {
                let into = (weight_grad.as_mut_slice(), inputs, Into::Add);
                matmul((vocabulary, inputs, rows), into, logits.t(), x, 1.0, Threads::Pool);
            }
        }

        let keep = |tracked: bool, grad: Vec<f32>, layout: &Layout| {
            tracked.then(|| Tensor::from_vec(grad, layout.shape(), &Device::Cpu)).transpose()
        };
        let hidden_grad = keep(hidden_tracked, hidden_grad, hidden_layout)?;
        let weight_grad = keep(weight_tracked, weight_grad, weight_layout)?;
        self.grads.get_or_init(|| [hidden_grad, weight_grad]);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        _hidden: &Tensor,
        _weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [hidden, weight] = self.grads.get().expect("the forward pass leaves the gradients");
        let grad = grad.to_scalar::<f32>()?;
        let scaled = |kept: &Option<Tensor>| match kept {
            Some(kept) if grad == 1.0 => Ok(Some(kept.clone())),
            Some(kept) => kept.affine(f64::from(grad), 0.0).map(Some),
            None => Ok(None),
        };
        Ok((scaled(hidden)?, scaled(weight)?))
    }
}

/// Logits that are in flight at once: they fit a second-level cache.
const CHUNK: usize = 256 * 1024;

simd! {
    /// The weighted loss of a row; leaves `weight · (softmax - onehot)` in `logits`.
    fn loss_and_grad(logits: &mut [f32], target: usize, weight: f32) -> f32 {
        let max = max(logits);
        let distance = max - logits[target];
        let sum = exp_and_sum(logits, 1.0, max);
        let scale = weight / sum;
        for x in logits.iter_mut() {
            *x *= scale;
        }
        logits[target] -= weight;
        weight * (sum.ln() + distance)
    }
}
