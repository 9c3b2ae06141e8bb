//! What a policy loss needs of a language-model head: log-probabilities under the distribution that was sampled from, and its
//! entropy. Logits exist for a chunk of the rows at a time, forward and again backward.

mod chunks;

use candle_core::{DType, Device, Error, Result, Tensor};

use super::cpu::{Into, Matrix, Threads, is_f32_cpu, is_tracked, map_blocks2, matmul, values};
use super::cross_entropy::read_targets;
use super::given::given;
use super::simd::{exp_and_sum, max, simd};
use super::{composed, shape_error};
use crate::grammar::TokenMask;

/// `log softmax(hidden · weightᵀ / temperature)[n, targets[n]]` over the tokens that mask `n` allows, and the entropies of
/// these distributions; both `[N]`, in nats, in f32 or wider.
///
/// `hidden` is `[N, I]`, `weight` the head, `[V, I]`, `targets` `[N]` of u32. `masks`, where there are any, has an entry for each
/// row; a row without one may say any token. Gradients of the log-probabilities for `hidden` and `weight`, as far as they are
/// tracked; the entropies have none. A token that its mask forces has log-probability 0, entropy 0 and gradient 0.
///
/// # Errors
/// If the shapes disagree, a target is not below `V` or not allowed by its mask, or the temperature is not positive.
pub fn masked_token_logprobs(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    temperature: f64,
    masks: Option<&[Option<TokenMask>]>,
) -> Result<(Tensor, Tensor)> {
    let ((rows, width), (vocabulary, inputs)) = (hidden.dims2()?, weight.dims2()?);
    if width != inputs {
        let rule = "weight must be as wide as hidden";
        return shape_error(NAME, rule, &[hidden, weight]);
    }
    let ids = read_targets(NAME, targets, rows, vocabulary)?;
    let head = Head { vocabulary, ids, scale: 1.0 / temperature, masks: masks.map(<[_]>::to_vec) };
    head.check(temperature)?;
    let is_fused = is_f32_cpu(&[hidden, weight]);
    if !is_fused && hidden.dtype() == DType::F64 {
        let mask = head.allowed(0..rows, hidden.device())?;
        return composed::masked_token_logprobs(
            hidden,
            weight,
            targets,
            temperature,
            mask.as_ref(),
        );
    }
    let (hidden, weight) = (hidden.contiguous()?, weight.contiguous()?);
    let (logprobs, entropies) = match is_fused {
        true => head.scores(&values(&hidden)?, &values(&weight)?)?,
        false => head.scores_in_chunks(&hidden.detach(), &weight.detach())?,
    };
    let logprobs = given(&hidden, &weight, &logprobs, move |hidden, weight, grad| {
        let tracked = [is_tracked(&[hidden]), is_tracked(&[weight])];
        if is_fused {
            return head.gradients(hidden, weight, &grad.to_vec1()?, tracked);
        }
        head.gradients_in_chunks(&hidden.detach(), &weight.detach(), grad, tracked)
    })?;
    Ok((logprobs, entropies))
}

const NAME: &str = "masked_token_logprobs";
/// Logits in flight: they fit a second-level cache.
const CHUNK: usize = 256 * 1024;

/// What is asked of each row.
struct Head {
    vocabulary: usize,
    ids: Vec<u32>,
    scale: f64,
    masks: Option<Vec<Option<TokenMask>>>,
}

impl Head {
    fn check(&self, temperature: f64) -> Result<()> {
        let refused = |problem: String| Err(Error::Msg(format!("{NAME}: {problem}")).bt());
        if !(temperature > 0.0 && temperature.is_finite()) {
            return refused(format!("the temperature must be positive, not {temperature}"));
        }
        let rows = self.ids.len();
        match &self.masks {
            Some(masks) if masks.len() != rows => {
                return refused(format!("{} masks for {rows} rows", masks.len()));
            }
            _ => {}
        }
        let is_forbidden =
            |n: &usize| self.mask(*n).is_some_and(|it| !is_allowed(it, self.ids[*n]));
        match (0..rows).find(is_forbidden) {
            Some(n) => {
                refused(format!("target {} of row {n} is not allowed by its mask", self.ids[n]))
            }
            None => Ok(()),
        }
    }

    /// The tokens that row `n` may say, a bit each; none where all are allowed.
    fn mask(&self, n: usize) -> Option<&[u32]> {
        Some(self.masks.as_ref()?[n].as_ref()?.as_slice())
    }

    /// Log-probabilities and entropies of f32 rows.
    fn scores(&self, hidden: &[f32], weight: &[f32]) -> Result<(Tensor, Tensor)> {
        let rows = self.ids.len();
        let (mut logprobs, mut entropies) = (vec![0.0; rows], vec![0.0; rows]);
        let all: Vec<usize> = (0..rows).collect();
        let mut logits = Vec::new();
        for rows in all.chunks(self.chunk()) {
            self.logits(rows, hidden, weight, &mut logits);
            let mut scores = vec![0.0; 2 * rows.len()];
            map_blocks2((&mut logits, self.vocabulary), (&mut scores, 2), |i, logits, scores| {
                let n = rows[i];
                self.shape(n, logits);
                let target = logits[self.ids[n] as usize];
                let (max, sum, mean) = moments(logits);
                scores[0] = ((target - max) as f64 - sum.ln()) as f32;
                scores[1] = (sum.ln() - mean / sum) as f32;
            });
            for (&n, scores) in rows.iter().zip(scores.chunks_exact(2)) {
                (logprobs[n], entropies[n]) = (scores[0], scores[1]);
            }
        }
        Ok((
            Tensor::from_vec(logprobs, rows, &Device::Cpu)?,
            Tensor::from_vec(entropies, rows, &Device::Cpu)?,
        ))
    }

    /// Gradients for f32 operands; `grad` is that of each log-probability. Rows of gradient 0 cost nothing.
    fn gradients(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        grad: &[f32],
        tracked: [bool; 2],
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (vocabulary, inputs) = weight.dims2()?;
        let (hidden_values, weight_values) = (values(hidden)?, values(weight)?);
        let [hidden_tracked, weight_tracked] = tracked;
        let mut hidden_grad = vec![0.0; if hidden_tracked { hidden_values.len() } else { 0 }];
        let mut weight_grad = vec![0.0; if weight_tracked { weight_values.len() } else { 0 }];
        let counted: Vec<usize> = (0..grad.len()).filter(|&n| grad[n] != 0.0).collect();
        let (mut logits, mut x_grad) = (Vec::new(), Vec::new());
        for rows in counted.chunks(self.chunk()) {
            let x = self.logits(rows, &hidden_values, &weight_values, &mut logits);
            let mut unused = vec![0.0; rows.len()];
            map_blocks2((&mut logits, vocabulary), (&mut unused, 1), |i, logits, _| {
                let n = rows[i];
                self.shape(n, logits);
                let scale = grad[n] * self.scale as f32;
                softmax_times(logits, -scale);
                logits[self.ids[n] as usize] += scale;
            });
            let logits = Matrix::new(&logits, vocabulary);
            if hidden_tracked {
                x_grad.resize(rows.len() * inputs, 0.0);
                let into = (x_grad.as_mut_slice(), inputs, Into::Overwrite);
                let weight = Matrix::new(&weight_values, inputs);
                matmul((rows.len(), inputs, vocabulary), into, logits, weight, 1.0, Threads::Pool);
                for (&n, x_grad) in rows.iter().zip(x_grad.chunks_exact(inputs)) {
                    hidden_grad[n * inputs..][..inputs].copy_from_slice(x_grad);
                }
            }
            if weight_tracked {
                let into = (weight_grad.as_mut_slice(), inputs, Into::Add);
                let x = Matrix::new(&x, inputs);
                matmul((vocabulary, inputs, rows.len()), into, logits.t(), x, 1.0, Threads::Pool);
            }
        }
        let tensor = |tracked: bool, grad: Vec<f32>, of: &Tensor| {
            tracked.then(|| Tensor::from_vec(grad, of.shape(), &Device::Cpu)).transpose()
        };
        Ok((
            tensor(hidden_tracked, hidden_grad, hidden)?,
            tensor(weight_tracked, weight_grad, weight)?,
        ))
    }

    /// Rows whose logits exist at once.
    fn chunk(&self) -> usize {
        (CHUNK / self.vocabulary.max(1)).clamp(16, 256)
    }

    /// The logits of `rows`, and the rows of `hidden` that they come from.
    fn logits(
        &self,
        rows: &[usize],
        hidden: &[f32],
        weight: &[f32],
        logits: &mut Vec<f32>,
    ) -> Vec<f32> {
        let inputs = weight.len() / self.vocabulary.max(1);
        let x: Vec<f32> =
            rows.iter().flat_map(|n| &hidden[n * inputs..][..inputs]).copied().collect();
        logits.resize(rows.len() * self.vocabulary, 0.0);
        let size = (rows.len(), self.vocabulary, inputs);
        let into = (logits.as_mut_slice(), self.vocabulary, Into::Overwrite);
        let weight = Matrix::new(weight, inputs).t();
        matmul(size, into, Matrix::new(&x, inputs), weight, 1.0, Threads::Pool);
        x
    }

    /// Applies temperature and mask of row `n`.
    fn shape(&self, n: usize, logits: &mut [f32]) {
        super::attention::multiply(logits, self.scale as f32);
        let Some(mask) = self.mask(n) else { return };
        let words = mask.iter().copied().chain(std::iter::repeat(0));
        for (logits, word) in logits.chunks_mut(32).zip(words) {
            for (i, logit) in logits.iter_mut().enumerate() {
                if (word >> i) & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// Whether bit `id` is set; a mask may be shorter than the vocabulary.
fn is_allowed(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| (word >> (id % 32)) & 1 == 1)
}

simd! {
    /// The largest value; with `e = exp(logit - largest)` the sum of `e`; and that of `e · (logit - largest)`.
    fn moments(logits: &[f32]) -> (f32, f64, f64) {
        let max = max(logits);
        let (mut sum, mut mean) = (0.0, 0.0);
        // In pieces, so that the exponentials stay in the first-level cache.
        let mut piece = [0.0; 512];
        for logits in logits.chunks(piece.len()) {
            let piece = &mut piece[..logits.len()];
            piece.copy_from_slice(logits);
            sum += f64::from(exp_and_sum(piece, 1.0, max));
            let mut part = 0.0;
            for (e, &logit) in piece.iter().zip(logits) {
                // Finite also where nothing is allowed: 0 times minus infinity is no number.
                part += e * (logit - max).max(f32::MIN);
            }
            mean += f64::from(part);
        }
        (max, sum, mean)
    }
}

simd! {
    /// `scale · softmax(logits)`, in place.
    fn softmax_times(logits: &mut [f32], scale: f32) {
        let max = max(logits);
        let scale = scale / exp_and_sum(logits, 1.0, max);
        for x in logits {
            *x *= scale;
        }
    }
}
