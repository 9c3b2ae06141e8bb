//! Plain Rust loops compiled for the vector unit this CPU has, and the few reductions they share.
//!
//! No kernel uses fused multiply-add or a lane count of its own, so a kernel gives the same bits
//! on every instruction set; only candle's matrix products differ between CPUs.

/// Wraps a function so that its body is compiled for AVX-512, for AVX2 and for the baseline, and
/// the best of them that this CPU has is called. Meant for blocks of rows, not for single values.
macro_rules! simd {
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$attr])*
        #[allow(clippy::too_many_arguments)] // a kernel takes its operands one by one
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

                match $crate::ops::simd::level() {
                    // SAFETY: `level` has seen every feature of `avx512` on this CPU.
                    $crate::ops::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` has seen every feature of `avx2` on this CPU.
                    $crate::ops::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::ops::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use simd;

/// The widest instruction set of this CPU that kernels are compiled for.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) enum Level {
    Avx512,
    Avx2,
    Baseline,
}

#[cfg(target_arch = "x86_64")]
pub(super) fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match (avx2, avx512) {
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            _ => Level::Baseline,
        }
    })
}

/// Independent partial sums a reduction keeps: one AVX-512 register of f32, four of SSE.
pub(super) const LANES: usize = 16;

/// `eˣ` with a relative error below 2·10⁻⁷; 0 below -87.3 (where f32 leaves its normal range), at
/// most 2.4·10³⁸ above 88, NaN for NaN. Vectorises: no branch, no call, no table.
///
/// `eˣ = 2ⁿ·eʳ` with `|r| ≤ ln 2 / 2`; the polynomial for `eʳ` is that of Cephes `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOW: f32 = -87.3;
    const HIGH: f32 = 88.0;
    /// Adding it rounds to an integer, which is then in the low bits of the sum, plus the bias of
    /// an f32 exponent.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    // Written as comparisons, unlike `clamp`, to let NaN through at full speed.
    let clamped = if x > HIGH { HIGH } else { x };
    let clamped = if clamped < LOW { LOW } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(shifted.to_bits() << 23);
    if x < LOW { 0.0 } else { power * scale }
}

/// `Σ f(a, b)` over two equally long slices, in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(a, b);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f(a, b);
    }
    horizontal(sums, |a, b| a + b)
}

/// `Σ x²`.
#[inline(always)]
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    sum2(x, x, |a, b| a * b)
}

/// `Σ a·b`.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum2(a, b, |a, b| a * b)
}

/// The largest value; NaN counts as smallest.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    horizontal(lanes, larger)
}

/// `row ← exp(scale·row - shift)`; returns the sum of the new values.
#[inline(always)]
pub(super) fn exp_and_sum(row: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in chunks.by_ref() {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(scale * *x - shift);
            *sum += *x;
        }
    }
    // A short tail goes through a full chunk: one vector step instead of up to 15 scalar ones.
    let rest = chunks.into_remainder();
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    for x in &mut padded {
        *x = exp(scale * *x - shift);
    }
    rest.copy_from_slice(&padded[..rest.len()]);
    for (sum, &x) in sums.iter_mut().zip(rest.iter()) {
        *sum += x;
    }
    horizontal(sums, |a, b| a + b)
}

/// All lanes as one value, in halves, as a vector unit does it.
#[inline(always)]
fn horizontal(lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_stated_error() {
        // Every 97th f32 between -87.3 and 88, both signs.
        let worst = (0..0x42b0_0000u32)
            .step_by(97)
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
            .filter(|&x| x > -87.3)
            .map(|x| {
                let truth = f64::from(x).exp();
                ((f64::from(exp(x)) - truth) / truth).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "relative error {worst:e}");
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e4), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1e4).is_finite() && exp(1e4) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_of_every_length() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
            let squares: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(sum_of_squares(&x), squares);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut row = x.clone();
            let sum = exp_and_sum(&mut row, 0.5, 1.0);
            let truth: f32 = x.iter().map(|x| (0.5 * x - 1.0).exp()).sum();
            assert!((sum - truth).abs() <= 1e-5 * truth, "{sum} {truth}");
        }
    }
}
