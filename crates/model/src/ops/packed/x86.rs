//! AVX-512 with VNNI, and AVX2.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _mm_loadu_si128, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
    _mm256_cvtph_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_and_si512, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_ps,
    _mm512_sub_ps, _mm512_ternarylogic_epi32,
};

use super::lanes::Lanes;

/// One register each.
pub(super) struct Avx512;

/// Two registers each.
pub(super) struct Avx2;

// SAFETY of every block below: the methods are only used inside functions that `kernel` compiles
// for these instructions and calls where the CPU has them; callers vouch for memory.

/// `(a & b) | c`, as the ternary instruction counts its operands' bits.
const AND_OR: i32 = 0xea;

impl Lanes for Avx512 {
    type Weights = __m512i;
    type Integers = __m512i;
    type Floats = __m512;

    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn low(weights: Self::Weights) -> Self::Weights {
        // SAFETY: see above.
        unsafe { _mm512_and_si512(weights, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high(weights: Self::Weights) -> Self::Weights {
        // SAFETY: see above.
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(weights), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn with_pair<const PAIR: u32>(weights: Self::Weights, pairs: Self::Weights) -> Self::Weights {
        // SAFETY: see above.
        unsafe {
            let pairs = match PAIR {
                0 => _mm512_slli_epi16::<4>(pairs),
                1 => _mm512_slli_epi16::<2>(pairs),
                2 => pairs,
                _ => _mm512_srli_epi16::<2>(pairs),
            };
            _mm512_ternarylogic_epi32::<AND_OR>(pairs, _mm512_set1_epi8(0x30), weights)
        }
    }

    #[inline(always)]
    fn no_integers() -> Self::Integers {
        // SAFETY: see above.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn integers(from: *const i32) -> Self::Integers {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(*from) }
    }

    #[inline(always)]
    unsafe fn add_dots(
        sums: Self::Integers,
        weights: Self::Weights,
        x: *const i8,
    ) -> Self::Integers {
        // SAFETY: see above.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sums, weights, x)
        }
    }

    #[inline(always)]
    fn to_floats(integers: Self::Integers) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(integers) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn plus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn minus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> Self::Floats {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn add_to(floats: Self::Floats, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), floats)) };
    }
}

impl Lanes for Avx2 {
    type Weights = [__m256i; 2];
    type Integers = [__m256i; 2];
    type Floats = [__m256; 2];

    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: see above.
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }

    #[inline(always)]
    fn low([a, b]: Self::Weights) -> Self::Weights {
        // SAFETY: see above.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)]
        }
    }

    #[inline(always)]
    fn high([a, b]: Self::Weights) -> Self::Weights {
        // SAFETY: see above.
        unsafe { Self::low([_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b)]) }
    }

    #[inline(always)]
    fn with_pair<const PAIR: u32>(
        [a, b]: Self::Weights,
        [pairs_a, pairs_b]: Self::Weights,
    ) -> Self::Weights {
        #[inline(always)]
        fn half<const PAIR: u32>(weights: __m256i, pairs: __m256i) -> __m256i {
            // SAFETY: see above.
            unsafe {
                let pairs = match PAIR {
                    0 => _mm256_slli_epi16::<4>(pairs),
                    1 => _mm256_slli_epi16::<2>(pairs),
                    2 => pairs,
                    _ => _mm256_srli_epi16::<2>(pairs),
                };
                _mm256_or_si256(weights, _mm256_and_si256(pairs, _mm256_set1_epi8(0x30)))
            }
        }
        [half::<PAIR>(a, pairs_a), half::<PAIR>(b, pairs_b)]
    }

    #[inline(always)]
    fn no_integers() -> Self::Integers {
        // SAFETY: see above.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn integers(from: *const i32) -> Self::Integers {
        // SAFETY: see above.
        unsafe { [_mm256_set1_epi32(*from); 2] }
    }

    /// In 16 bits, bytes of even and of odd places apart: `maddubs`, which takes bytes as they are,
    /// cuts sums of two large products off.
    #[inline(always)]
    unsafe fn add_dots(
        [a, b]: Self::Integers,
        [weights_a, weights_b]: Self::Weights,
        x: *const i8,
    ) -> Self::Integers {
        #[inline(always)]
        fn half(sums: __m256i, weights: __m256i, even: __m256i, odd: __m256i) -> __m256i {
            // SAFETY: see above.
            unsafe {
                let low = _mm256_and_si256(weights, _mm256_set1_epi16(255));
                let high = _mm256_srli_epi16::<8>(weights);
                let dots =
                    _mm256_add_epi32(_mm256_madd_epi16(low, even), _mm256_madd_epi16(high, odd));
                _mm256_add_epi32(sums, dots)
            }
        }
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            let odd = _mm256_srai_epi16::<8>(x);
            [half(a, weights_a, even, odd), half(b, weights_b, even, odd)]
        }
    }

    #[inline(always)]
    fn to_floats([a, b]: Self::Integers) -> Self::Floats {
        // SAFETY: see above.
        unsafe { [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)] }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self::Floats {
        // SAFETY: see above.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn plus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn minus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        // SAFETY: see above.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self::Floats {
        // SAFETY: see above.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> Self::Floats {
        // SAFETY: see above. Each half reads the eight low bytes of its register.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let upper = std::arch::x86_64::_mm_srli_si128::<8>(bytes);
            Self::to_floats([_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(upper)])
        }
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> Self::Floats {
        // SAFETY: see above. Each half reads the eight low bytes of its register.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let upper = std::arch::x86_64::_mm_srli_si128::<8>(bytes);
            Self::to_floats([_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(upper)])
        }
    }

    #[inline(always)]
    unsafe fn add_to([a, b]: Self::Floats, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), a));
            _mm256_storeu_ps(to.add(8), _mm256_add_ps(_mm256_loadu_ps(to.add(8)), b));
        }
    }
}
