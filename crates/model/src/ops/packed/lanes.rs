//! Sixteen outputs side by side, in the registers this CPU has.
//!
//! Sums of integers are exact, and floats are multiplied and added apart, never fused: every
//! instruction set gives the same bits.

use half::f16;

/// Outputs of one panel: what a register of AVX-512 holds of 32-bit values.
pub(super) const OUTPUTS: usize = 16;

/// Bytes of a register: four weights of each output.
pub(super) const REGISTER: usize = 4 * OUTPUTS;

/// What the kernels need of an instruction set.
///
/// Methods marked `unsafe` read memory: the caller vouches for as many bytes as they say.
pub(super) trait Lanes {
    /// [`REGISTER`] bytes: four weights, unsigned, of output after output.
    type Weights: Copy;
    /// A 32-bit integer for each output.
    type Integers: Copy;
    /// An f32 for each output.
    type Floats: Copy;

    /// Rows of a tile whose sums fit the registers.
    const ROWS: usize;

    /// # Safety
    /// Reads [`REGISTER`] bytes.
    unsafe fn weights(from: *const u8) -> Self::Weights;

    /// The low four bits of each byte.
    fn low(weights: Self::Weights) -> Self::Weights;

    /// The high four bits of each byte.
    fn high(weights: Self::Weights) -> Self::Weights;

    /// `weights`, below 16, plus 16 times bits `2 · PAIR` and above of each byte of `pairs`.
    fn with_pair<const PAIR: u32>(weights: Self::Weights, pairs: Self::Weights) -> Self::Weights;

    fn no_integers() -> Self::Integers;

    /// The same value in every lane.
    ///
    /// # Safety
    /// Reads one value.
    unsafe fn integers(from: *const i32) -> Self::Integers;

    /// Adds to each lane its four weights times the four values at `x`.
    ///
    /// # Safety
    /// Reads four values.
    unsafe fn add_dots(
        sums: Self::Integers,
        weights: Self::Weights,
        x: *const i8,
    ) -> Self::Integers;

    fn to_floats(integers: Self::Integers) -> Self::Floats;

    fn splat(value: f32) -> Self::Floats;

    fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    fn plus(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    fn minus(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// # Safety
    /// Reads [`OUTPUTS`] values of f16.
    unsafe fn halves(from: *const u8) -> Self::Floats;

    /// # Safety
    /// Reads [`OUTPUTS`] bytes.
    unsafe fn unsigned(from: *const u8) -> Self::Floats;

    /// # Safety
    /// Reads [`OUTPUTS`] bytes.
    unsafe fn signed(from: *const u8) -> Self::Floats;

    /// # Safety
    /// Reads and writes [`OUTPUTS`] values: adds the floats to them.
    unsafe fn add_to(floats: Self::Floats, to: *mut f32);
}

/// Any CPU: plain arrays.
pub(super) struct Plain;

impl Lanes for Plain {
    type Weights = [u8; REGISTER];
    type Integers = [i32; OUTPUTS];
    type Floats = [f32; OUTPUTS];

    const ROWS: usize = 1;

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller vouches for the bytes; an array of them needs no alignment.
        unsafe { from.cast::<[u8; REGISTER]>().read() }
    }

    #[inline(always)]
    fn low(weights: Self::Weights) -> Self::Weights {
        weights.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high(weights: Self::Weights) -> Self::Weights {
        weights.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn with_pair<const PAIR: u32>(weights: Self::Weights, pairs: Self::Weights) -> Self::Weights {
        std::array::from_fn(|i| weights[i] | (pairs[i] >> (2 * PAIR) & 3) << 4)
    }

    #[inline(always)]
    fn no_integers() -> Self::Integers {
        [0; OUTPUTS]
    }

    #[inline(always)]
    unsafe fn integers(from: *const i32) -> Self::Integers {
        // SAFETY: the caller vouches for the value.
        [unsafe { *from }; OUTPUTS]
    }

    #[inline(always)]
    unsafe fn add_dots(
        sums: Self::Integers,
        weights: Self::Weights,
        x: *const i8,
    ) -> Self::Integers {
        // SAFETY: the caller vouches for four values; an array of bytes needs no alignment.
        let x = unsafe { x.cast::<[i8; 4]>().read() };
        std::array::from_fn(|output| {
            let dot = |i: usize| i32::from(weights[4 * output + i]) * i32::from(x[i]);
            sums[output] + dot(0) + dot(1) + dot(2) + dot(3)
        })
    }

    #[inline(always)]
    fn to_floats(integers: Self::Integers) -> Self::Floats {
        integers.map(|integer| integer as f32)
    }

    #[inline(always)]
    fn splat(value: f32) -> Self::Floats {
        [value; OUTPUTS]
    }

    #[inline(always)]
    fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn plus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn minus(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> Self::Floats {
        // SAFETY: the caller vouches for the bytes; an array of them needs no alignment.
        let bytes = unsafe { from.cast::<[[u8; 2]; OUTPUTS]>().read() };
        bytes.map(|half| f16::from_le_bytes(half).to_f32())
    }

    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> Self::Floats {
        // SAFETY: the caller vouches for the bytes; an array of them needs no alignment.
        unsafe { from.cast::<[u8; OUTPUTS]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> Self::Floats {
        // SAFETY: the caller vouches for the bytes; an array of them needs no alignment.
        unsafe { from.cast::<[i8; OUTPUTS]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn add_to(floats: Self::Floats, to: *mut f32) {
        for (i, float) in floats.into_iter().enumerate() {
            // SAFETY: the caller vouches for `OUTPUTS` values.
            unsafe { *to.add(i) += float };
        }
    }
}
