//! The sums under a softmax over a vocabulary, kept by chunks so that a draw finds its place quickly.

use super::simd::{exp, exp_and_sum, max, simd};

/// Values of one chunk.
pub(crate) const CHUNK: usize = 1024;

/// `Σ exp(x - highest)` of a row of logits, by chunks of [`CHUNK`].
#[derive(Debug)]
pub(crate) struct SoftmaxSums {
    /// Minus infinity where nothing is allowed.
    pub(crate) highest: f32,
    chunks: Vec<f32>,
    /// NaN where a logit is.
    pub(crate) total: f64,
}

impl SoftmaxSums {
    pub(crate) fn new(logits: &[f32]) -> Self {
        let highest = largest(logits);
        let shift = if highest.is_finite() { highest } else { 0.0 };
        let mut buffer = [0.0; CHUNK];
        let chunks: Vec<f32> = logits
            .chunks(CHUNK)
            .map(|chunk| {
                let buffer = &mut buffer[..chunk.len()];
                buffer.copy_from_slice(chunk);
                exponentials(buffer, shift)
            })
            .collect();
        let total = chunks.iter().map(|sum| f64::from(*sum)).sum();
        Self { highest, chunks, total }
    }

    /// Log-probability of a value of the row.
    pub(crate) fn logprob(&self, logit: f32) -> f32 {
        // Of one allowed token this is exactly 0.
        ((f64::from(logit) - f64::from(self.highest)) - self.total.ln()) as f32
    }

    /// The place at which the running sum over the row passes `fraction` of the total.
    pub(crate) fn draw(&self, logits: &[f32], fraction: f64) -> usize {
        let mut left = fraction * self.total;
        // Rounding can leave a sliver behind the last chunk, or the last value, of any weight.
        let mut chunk = 0;
        let mut weighty = self.chunks.iter().enumerate().filter(|(_, sum)| **sum > 0.0).peekable();
        while let Some((index, sum)) = weighty.next() {
            chunk = index;
            if left < f64::from(*sum) || weighty.peek().is_none() {
                break;
            }
            left -= f64::from(*sum);
        }
        let mut place = chunk * CHUNK;
        for (index, logit) in logits.iter().enumerate().skip(chunk * CHUNK).take(CHUNK) {
            let weight = f64::from(exp(logit - self.highest));
            if weight > 0.0 {
                place = index;
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        place
    }
}

simd! {
    fn largest(values: &[f32]) -> f32 {
        max(values)
    }
}

simd! {
    fn exponentials(values: &mut [f32], shift: f32) -> f32 {
        exp_and_sum(values, 1.0, shift)
    }
}

simd! {
    /// `out[i] = logits[i] · scale` where bit `i` of `mask` is set, minus infinity elsewhere.
    pub(crate) fn masked(logits: &[f32], scale: f32, mask: &[u32], out: &mut [f32]) {
        let words = mask.iter().zip(logits.chunks(32)).zip(out.chunks_mut(32));
        for ((&word, logits), out) in words {
            for (i, (&logit, out)) in logits.iter().zip(out).enumerate() {
                *out = if (word >> i) & 1 == 1 { logit * scale } else { f32::NEG_INFINITY };
            }
        }
    }
}

simd! {
    /// `out = logits · scale`.
    pub(crate) fn scaled(logits: &[f32], scale: f32, out: &mut [f32]) {
        for (&logit, out) in logits.iter().zip(out) {
            *out = logit * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_running_sum() {
        let logits: Vec<f32> = (0..3000).map(|i| ((i * 37 % 101) as f32) / 20.0).collect();
        let sums = SoftmaxSums::new(&logits);
        let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - sums.highest).exp()).collect();
        let total: f64 = weights.iter().sum();
        assert!((sums.total / total - 1.0).abs() < 1e-6);
        for step in 0..1000 {
            let fraction = (f64::from(step) + 0.5) / 1000.0;
            let place = sums.draw(&logits, fraction);
            let before: f64 = weights[..place].iter().sum::<f64>() / total;
            let after = before + weights[place] / total;
            assert!(before - 1e-5 <= fraction && fraction <= after + 1e-5, "{fraction}: {place}");
        }
    }

    #[test]
    fn what_is_masked_is_never_drawn() {
        let mut out = [0.0; 70];
        masked(&[1.0; 70], 2.0, &[1 << 31, 0, 1 << 5], &mut out);
        let sums = SoftmaxSums::new(&out);
        assert_eq!((sums.highest, sums.total), (2.0, 2.0));
        assert_eq!((sums.draw(&out, 0.0), sums.draw(&out, 0.49)), (31, 31));
        assert_eq!((sums.draw(&out, 0.51), sums.draw(&out, 1.0)), (69, 69));
    }
}
