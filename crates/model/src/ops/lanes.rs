//! Sixteen lanes of f32 in the registers this CPU has, for kernels whose speed is multiply-adds.
//!
//! AVX-512 and AVX2 give the same bits, with fused multiply-adds; the baseline, which may have
//! none, multiplies and adds.

use half::{bf16, f16};

use super::simd::LANES;

/// [`LANES`] values side by side.
pub(super) trait Lanes: Copy {
    /// Rows and outputs of a tile whose accumulators fit the registers.
    const ROWS: usize;
    /// 4 or 2.
    const OUTPUTS: usize;
    /// Outputs of a tile of one row: enough chains to hide the latency of an addition. 8 or 4.
    const WIDE: usize;

    fn zero() -> Self;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `from` must be valid for [`LANES`] reads.
    unsafe fn load(from: *const f32) -> Self;

    /// As [`Lanes::load`], widened.
    ///
    /// # Safety
    /// `from` must be valid for [`LANES`] reads.
    unsafe fn load_bf16(from: *const bf16) -> Self;

    /// As [`Lanes::load`], widened.
    ///
    /// # Safety
    /// `from` must be valid for [`LANES`] reads.
    unsafe fn load_f16(from: *const f16) -> Self;

    /// # Safety
    /// `to` must be valid for [`LANES`] writes.
    unsafe fn store(self, to: *mut f32);

    /// `self · factor + term`.
    fn times_plus(self, factor: Self, term: Self) -> Self;

    /// All lanes, added in halves.
    fn sum(self) -> f32;
}

/// What the lanes of one operand are stored in.
pub(super) trait Stored: Copy + Default {
    /// # Safety
    /// `from` must be valid for [`LANES`] reads.
    unsafe fn load<L: Lanes>(from: *const Self) -> L;

    /// The first `count` lanes from memory, zeros in the others.
    ///
    /// # Safety
    /// `from` must be valid for `count` reads, at most [`LANES`].
    #[inline(always)]
    unsafe fn load_some<L: Lanes>(from: *const Self, count: usize) -> L {
        let mut padded = [Self::default(); LANES];
        // SAFETY: the caller vouches for the source, the destination is as long as asked.
        unsafe {
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count);
            Self::load(padded.as_ptr())
        }
    }
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller promises.
        unsafe { L::load(from) }
    }
}

impl Stored for bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller promises.
        unsafe { L::load_bf16(from) }
    }
}

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller promises.
        unsafe { L::load_f16(from) }
    }
}

/// Any CPU: plain arrays.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Lanes for Plain {
    const ROWS: usize = 1;
    const OUTPUTS: usize = 2;
    const WIDE: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for `LANES` values; an array needs no more alignment than one.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: as in `load`.
        Self(unsafe { from.cast::<[bf16; LANES]>().read() }.map(bf16::to_f32))
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: as in `load`.
        Self(unsafe { from.cast::<[f16; LANES]>().read() }.map(f16::to_f32))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) };
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, term: Self) -> Self {
        let mut sums = term.0;
        for ((sum, a), b) in sums.iter_mut().zip(self.0).zip(factor.0) {
            *sum += a * b;
        }
        Self(sums)
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps,
        _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_ps,
        _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
        _mm512_cvtph_ps, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    };

    use half::{bf16, f16};

    use super::Lanes;

    /// One register of AVX-512; only made where [`dispatch!`](super::dispatch) has seen it.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    /// Two registers of AVX2; only made where [`dispatch!`](super::dispatch) has seen it.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    // SAFETY of every block below: the types are only used inside functions that `dispatch!`
    // compiles for these instructions and calls where the CPU has them.

    /// Eight lanes, added in halves.
    #[inline(always)]
    fn sum8(lanes: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    impl Lanes for Avx512 {
        const ROWS: usize = 6;
        const OUTPUTS: usize = 4;
        const WIDE: usize = 8;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above; the caller vouches for the memory.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: see above; the caller vouches for the memory.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            // SAFETY: see above; the caller vouches for the memory.
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above; the caller vouches for the memory.
            unsafe { _mm512_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        fn times_plus(self, factor: Self, term: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see above.
            sum8(unsafe {
                _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))
            })
        }
    }

    impl Lanes for Avx2 {
        const ROWS: usize = 3;
        const OUTPUTS: usize = 2;
        const WIDE: usize = 4;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above; the caller vouches for the memory.
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            #[inline(always)]
            unsafe fn half(from: *const bf16) -> __m256 {
                // SAFETY: see above; the caller vouches for the memory.
                unsafe {
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                }
            }
            // SAFETY: see above; the caller vouches for the memory.
            unsafe { Self(half(from), half(from.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            // SAFETY: see above; the caller vouches for the memory.
            unsafe {
                Self(
                    _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
                )
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above; the caller vouches for the memory.
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }

        #[inline(always)]
        fn times_plus(self, factor: Self, term: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_fmadd_ps(self.0, factor.0, term.0),
                    _mm256_fmadd_ps(self.1, factor.1, term.1),
                )
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see above.
            sum8(unsafe { _mm256_add_ps(self.0, self.1) })
        }
    }
}

/// Wraps a kernel over some `L: Lanes`: it is compiled for every instruction set, and the best of
/// them that this CPU has is called.
macro_rules! dispatch {
    ($(#[$attr:meta])* $vis:vis unsafe fn $name:ident<$lanes:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$attr])*
        #[allow(clippy::too_many_arguments)] // a kernel takes its operands one by one
        $vis unsafe fn $name($($arg: $ty),*) {
            /// # Safety
            /// As the kernel's own.
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn body<$lanes: $crate::ops::lanes::Lanes>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                use $crate::ops::lanes::{Avx2, Avx512};
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx512($($arg: $ty),*) {
                    // SAFETY: the kernel's own conditions are passed on.
                    unsafe { body::<Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2($($arg: $ty),*) {
                    // SAFETY: the kernel's own conditions are passed on.
                    unsafe { body::<Avx2>($($arg),*) }
                }

                match $crate::ops::simd::level() {
                    // SAFETY: `level` has seen every feature of `avx512` on this CPU.
                    $crate::ops::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` has seen every feature of `avx2` on this CPU.
                    $crate::ops::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::ops::simd::Level::Baseline => {}
                }
            }
            // SAFETY: the kernel's own conditions are passed on.
            unsafe { body::<$crate::ops::lanes::Plain>($($arg),*) }
        }
    };
}
pub(super) use dispatch;
