//! The formats of quantised weights, and how each lies in a panel.
//!
//! A panel has sixteen outputs. Its weights lie as registers of the kernel read them: four weights
//! of the first output, four of the second, and so on, as unsigned numbers. A *quarter* is sixteen
//! inputs, four registers.

use half::f16;

use super::activations::{BLOCK, QUARTER, Tile};
use super::lanes::{Lanes, OUTPUTS, REGISTER};

/// A way to store weights, and to read them back sixteen outputs at a time.
///
/// `unsafe` methods read a panel: the caller vouches that it holds that quarter or span.
pub(super) trait Format {
    /// Inputs and bytes of a block of GGUF.
    const BLOCK: (usize, usize);
    /// Inputs and bytes of a unit of a panel; the bytes are whole cache lines.
    const UNIT: (usize, usize);
    /// Inputs that share a scale: 32 or 16.
    const SPAN: usize;
    /// Whether a weight is `scale · w - min`.
    const HAS_MINS: bool;

    /// Writes the blocks of some rows, sixteen at most, to a panel of zeros.
    fn pack(rows: &[&[u8]], panel: &mut [u8]);

    /// # Safety
    /// Reads the panel.
    unsafe fn weights<L: Lanes>(panel: *const u8, quarter: usize) -> [L::Weights; 4];

    /// # Safety
    /// Reads the panel.
    unsafe fn scales<L: Lanes>(panel: *const u8, span: usize) -> L::Floats;

    /// # Safety
    /// Reads the panel.
    unsafe fn mins<L: Lanes>(_panel: *const u8, _span: usize) -> L::Floats {
        L::splat(0.0)
    }

    /// What the integer sums of a tile's rows begin with in a span: the weights' offset from zero
    /// times the values of the row, row by row; `None` for zero.
    fn starts(_tile: &Tile, _span: usize) -> Option<*const i32> {
        None
    }

    /// One weight.
    fn value(panel: &[u8], output: usize, input: usize) -> f32;
}

/// Where the weight of an output and an input is among the registers of a quarter.
fn place(output: usize, input: usize) -> (usize, usize) {
    let input = input % QUARTER;
    (input / 4, 4 * output + input % 4)
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// `Q8_0`: 32 weights of 8 bits and a scale. A unit has two blocks, the weights plus 128, and then
/// the scales.
pub(super) struct Q8_0;

impl Q8_0 {
    const SCALES: usize = 2 * BLOCK * OUTPUTS;

    /// Where the weights and the scales of a block begin.
    #[inline(always)]
    fn block(block: usize) -> (usize, usize) {
        let unit = block / 2 * Self::UNIT.1;
        (unit + block % 2 * BLOCK * OUTPUTS, unit + Self::SCALES + block % 2 * 2 * OUTPUTS)
    }
}

impl Format for Q8_0 {
    const BLOCK: (usize, usize) = (32, 34);
    const UNIT: (usize, usize) = (64, Self::SCALES + 2 * 2 * OUTPUTS);
    const SPAN: usize = 32;
    const HAS_MINS: bool = false;

    fn pack(rows: &[&[u8]], panel: &mut [u8]) {
        for (output, row) in rows.iter().enumerate() {
            for (index, block) in row.chunks_exact(Self::BLOCK.1).enumerate() {
                let (weights, scales) = Self::block(index);
                panel[scales + 2 * output..][..2].copy_from_slice(&block[..2]);
                for (four, values) in block[2..].chunks_exact(4).enumerate() {
                    let to = &mut panel[weights + four * REGISTER + 4 * output..][..4];
                    to.iter_mut().zip(values).for_each(|(to, value)| *to = value ^ 0x80);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weights<L: Lanes>(panel: *const u8, quarter: usize) -> [L::Weights; 4] {
        let at = Self::block(quarter / 2).0 + quarter % 2 * 4 * REGISTER;
        // SAFETY: the caller vouches for the quarter.
        unsafe {
            let from = panel.add(at);
            [
                L::weights(from),
                L::weights(from.add(REGISTER)),
                L::weights(from.add(2 * REGISTER)),
                L::weights(from.add(3 * REGISTER)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(panel: *const u8, span: usize) -> L::Floats {
        // SAFETY: the caller vouches for the span.
        unsafe { L::halves(panel.add(Self::block(span).1)) }
    }

    #[inline(always)]
    fn starts(tile: &Tile, span: usize) -> Option<*const i32> {
        Some(tile.starts_128.as_ptr().wrapping_add(span * tile.rows))
    }

    fn value(panel: &[u8], output: usize, input: usize) -> f32 {
        let (weights, scales) = Self::block(input / BLOCK);
        let (register, byte) = place(output, input);
        let quarter = input % BLOCK / QUARTER * 4 * REGISTER;
        let weight = panel[weights + quarter + register * REGISTER + byte] ^ 0x80;
        half(panel, scales + 2 * output) * f32::from(weight as i8)
    }
}

/// `Q4_K`: 256 weights of 4 bits; in blocks of 32, a scale and a minimum of 6 bits, and a scale for
/// all of either. A unit has the weights, a register's first two fours in the low halves of two
/// registers and the others in the high ones; then the scales and the minima, a byte each; then the
/// scales of either.
pub(super) struct Q4K;

impl Q4K {
    const SCALES: usize = 256 * OUTPUTS / 2;
    const MINS: usize = Self::SCALES + 8 * OUTPUTS;
    const SCALE: usize = Self::MINS + 8 * OUTPUTS;
    const MIN: usize = Self::SCALE + 2 * OUTPUTS;
}

impl Format for Q4K {
    const BLOCK: (usize, usize) = (256, 144);
    const UNIT: (usize, usize) = (256, Self::MIN + 2 * OUTPUTS);
    const SPAN: usize = 32;
    const HAS_MINS: bool = true;

    fn pack(rows: &[&[u8]], panel: &mut [u8]) {
        for (output, row) in rows.iter().enumerate() {
            let blocks = row.chunks_exact(Self::BLOCK.1);
            for (block, unit) in blocks.zip(panel.chunks_exact_mut(Self::UNIT.1)) {
                let (head, quants) = block.split_at(16);
                unit[Self::SCALE + 2 * output..][..2].copy_from_slice(&head[..2]);
                unit[Self::MIN + 2 * output..][..2].copy_from_slice(&head[2..4]);
                let six_bits = &head[4..];
                for j in 0..8 {
                    // `get_scale_min_k4` of llama.cpp: the last four are spread over two places.
                    let (scale, min) = match j {
                        0..4 => (six_bits[j] & 63, six_bits[j + 4] & 63),
                        _ => (
                            six_bits[j + 4] & 15 | six_bits[j - 4] >> 6 << 4,
                            six_bits[j + 4] >> 4 | six_bits[j] >> 6 << 4,
                        ),
                    };
                    unit[Self::SCALES + j * OUTPUTS + output] = scale;
                    unit[Self::MINS + j * OUTPUTS + output] = min;
                }
                for input in 0..256 {
                    // 32 bytes have a block in their low halves, and the next one in the high ones.
                    let byte = quants[input / 64 * 32 + input % 32];
                    let weight = if input % 64 < 32 { byte & 15 } else { byte >> 4 };
                    let (register, byte) = place(output, input);
                    let at = (input / QUARTER * 2 + register % 2) * REGISTER + byte;
                    unit[at] |= weight << (register / 2 * 4);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weights<L: Lanes>(panel: *const u8, quarter: usize) -> [L::Weights; 4] {
        // SAFETY: the caller vouches for the quarter.
        unsafe {
            let from = panel.add(quarter / 16 * Self::UNIT.1 + quarter % 16 * 2 * REGISTER);
            let (a, b) = (L::weights(from), L::weights(from.add(REGISTER)));
            [L::low(a), L::low(b), L::high(a), L::high(b)]
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(panel: *const u8, span: usize) -> L::Floats {
        // SAFETY: the caller vouches for the span.
        unsafe {
            let unit = panel.add(span / 8 * Self::UNIT.1);
            let scales = L::unsigned(unit.add(Self::SCALES + span % 8 * OUTPUTS));
            L::times(L::halves(unit.add(Self::SCALE)), scales)
        }
    }

    #[inline(always)]
    unsafe fn mins<L: Lanes>(panel: *const u8, span: usize) -> L::Floats {
        // SAFETY: the caller vouches for the span.
        unsafe {
            let unit = panel.add(span / 8 * Self::UNIT.1);
            let mins = L::unsigned(unit.add(Self::MINS + span % 8 * OUTPUTS));
            L::times(L::halves(unit.add(Self::MIN)), mins)
        }
    }

    fn value(panel: &[u8], output: usize, input: usize) -> f32 {
        let unit = &panel[input / 256 * Self::UNIT.1..][..Self::UNIT.1];
        let span = input % 256 / 32;
        let (register, byte) = place(output, input);
        let pair = unit[(input % 256 / QUARTER * 2 + register % 2) * REGISTER + byte];
        let weight = pair >> (register / 2 * 4) & 15;
        let of = |all: usize, each: usize| {
            half(unit, all + 2 * output) * f32::from(unit[each + span * OUTPUTS + output])
        };
        of(Self::SCALE, Self::SCALES) * f32::from(weight) - of(Self::MIN, Self::MINS)
    }
}

/// `Q6_K`: 256 weights of 6 bits; in blocks of 16, a scale of 8 bits, and a scale for all. A unit
/// has the weights plus 32, quarter by quarter: the low four bits as [`Q4K`] has them, then a
/// register with two more bits of four weights in a byte; then the scales; then that for all.
pub(super) struct Q6K;

impl Q6K {
    const SCALES: usize = 256 * OUTPUTS / 4 * 3;
    const SCALE: usize = Self::SCALES + 16 * OUTPUTS;
}

impl Format for Q6K {
    const BLOCK: (usize, usize) = (256, 210);
    /// Half a cache line stays empty.
    const UNIT: (usize, usize) = (256, Self::SCALE + 4 * OUTPUTS);
    const SPAN: usize = 16;
    const HAS_MINS: bool = false;

    fn pack(rows: &[&[u8]], panel: &mut [u8]) {
        for (output, row) in rows.iter().enumerate() {
            let blocks = row.chunks_exact(Self::BLOCK.1);
            for (block, unit) in blocks.zip(panel.chunks_exact_mut(Self::UNIT.1)) {
                let (low, high) = (&block[..128], &block[128..192]);
                for (span, scale) in block[192..208].iter().enumerate() {
                    unit[Self::SCALES + span * OUTPUTS + output] = *scale;
                }
                unit[Self::SCALE + 2 * output..][..2].copy_from_slice(&block[208..]);
                for input in 0..256 {
                    // Each 128 weights lie as four times 32, which share bytes.
                    let (half, part, i) = (input / 128, input % 128 / 32, input % 32);
                    let four = low[64 * half + 32 * (part % 2) + i] >> (part / 2 * 4) & 15;
                    let two = high[32 * half + i] >> (2 * part) & 3;
                    let (register, byte) = place(output, input);
                    let quarter = input / QUARTER * 3 * REGISTER;
                    unit[quarter + register % 2 * REGISTER + byte] |= four << (register / 2 * 4);
                    unit[quarter + 2 * REGISTER + byte] |= two << (2 * register);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weights<L: Lanes>(panel: *const u8, quarter: usize) -> [L::Weights; 4] {
        // SAFETY: the caller vouches for the quarter.
        unsafe {
            let from = panel.add(quarter / 16 * Self::UNIT.1 + quarter % 16 * 3 * REGISTER);
            let (a, b) = (L::weights(from), L::weights(from.add(REGISTER)));
            let pairs = L::weights(from.add(2 * REGISTER));
            [
                L::with_pair::<0>(L::low(a), pairs),
                L::with_pair::<1>(L::low(b), pairs),
                L::with_pair::<2>(L::high(a), pairs),
                L::with_pair::<3>(L::high(b), pairs),
            ]
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(panel: *const u8, span: usize) -> L::Floats {
        // SAFETY: the caller vouches for the span.
        unsafe {
            let unit = panel.add(span / 16 * Self::UNIT.1);
            let scales = L::signed(unit.add(Self::SCALES + span % 16 * OUTPUTS));
            L::times(L::halves(unit.add(Self::SCALE)), scales)
        }
    }

    #[inline(always)]
    fn starts(tile: &Tile, span: usize) -> Option<*const i32> {
        Some(tile.starts_32.as_ptr().wrapping_add(span * tile.rows))
    }

    fn value(panel: &[u8], output: usize, input: usize) -> f32 {
        let unit = &panel[input / 256 * Self::UNIT.1..][..Self::UNIT.1];
        let span = input % 256 / 16;
        let (register, byte) = place(output, input);
        let quarter = &unit[span * 3 * REGISTER..][..3 * REGISTER];
        let four = quarter[register % 2 * REGISTER + byte] >> (register / 2 * 4) & 15;
        let two = quarter[2 * REGISTER + byte] >> (2 * register) & 3;
        let scale = f32::from(unit[Self::SCALES + span * OUTPUTS + output] as i8);
        half(unit, Self::SCALE + 2 * output) * scale * (f32::from(four | two << 4) - 32.0)
    }
}
