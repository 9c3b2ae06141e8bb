//! The product itself: one panel of weights against all rows.

use super::activations::{BLOCK, QUARTER, Tile};
use super::formats::{Format, Q4K, Q6K, Q8_0};
use super::lanes::{Lanes, OUTPUTS, Plain};
use super::{Packed, Quants};

/// The instruction sets that the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Level {
    /// Those that this CPU has, best first.
    pub(super) fn available() -> &'static [Self] {
        static AVAILABLE: std::sync::OnceLock<Vec<Level>> = std::sync::OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut levels = Vec::new();
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    levels.push(Self::Avx512);
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
                    levels.push(Self::Avx2);
                }
            }
            levels.push(Self::Plain);
            levels
        })
    }

    pub(super) fn best() -> Self {
        Self::available()[0]
    }
}

/// Adds the products of the rows of `tiles` with the outputs of panel `index` to `out[row · stride + output]`.
///
/// # Safety
/// This CPU must have `level`; the tiles be as wide as `matrix`, which
/// must have that panel; `out` be
/// valid for these values, and nothing else use them meanwhile.
pub(super) unsafe fn add_panel(
    level: Level,
    matrix: &Packed,
    index: usize,
    (tiles, inputs): (&[Tile], usize),
    (out, stride): (*mut f32, usize),
) {
    let panel = matrix.panel(index).as_ptr();
    let first = index * OUTPUTS;
    let outputs = OUTPUTS.min(matrix.outputs() - first);
    for tile in tiles {
        // SAFETY: as the caller promises.
        unsafe {
            let to = out.add(tile.row * stride + first);
            if outputs == OUTPUTS {
                add_tile(level, matrix.quants(), panel, inputs, tile, (to, stride));
                continue;
            }
            // The last panel: what it has beyond the outputs is dropped.
            let mut padded = [0.0; 8 * OUTPUTS];
            for (row, padded) in padded.chunks_exact_mut(OUTPUTS).enumerate().take(tile.rows) {
                let from = to.add(row * stride);
                padded[..outputs].copy_from_slice(std::slice::from_raw_parts(from, outputs));
            }
            let into = (padded.as_mut_ptr(), OUTPUTS);
            add_tile(level, matrix.quants(), panel, inputs, tile, into);
            for (row, padded) in padded.chunks_exact(OUTPUTS).enumerate().take(tile.rows) {
                let to = to.add(row * stride);
                std::slice::from_raw_parts_mut(to, outputs).copy_from_slice(&padded[..outputs]);
            }
        }
    }
}

/// # Safety
/// This CPU must have `level`, `panel` be one of `quants` with `inputs` inputs, as many as `tile`
/// has, and `out` valid for [`OUTPUTS`] values a row.
unsafe fn add_tile(
    level: Level,
    quants: Quants,
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    out: (*mut f32, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(quants, panel, inputs, tile, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(quants, panel, inputs, tile, out),
            Level::Plain => any::<Plain>(quants, panel, inputs, tile, out),
        }
    }
}

/// # Safety
/// As [`add_tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn avx512(
    quants: Quants,
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    out: (*mut f32, usize),
) {
    // SAFETY: as the caller promises.
    unsafe { any::<super::x86::Avx512>(quants, panel, inputs, tile, out) }
}

/// # Safety
/// As [`add_tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn avx2(
    quants: Quants,
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    out: (*mut f32, usize),
) {
    // SAFETY: as the caller promises.
    unsafe { any::<super::x86::Avx2>(quants, panel, inputs, tile, out) }
}

/// # Safety
/// As [`add_tile`].
#[inline(always)]
unsafe fn any<L: Lanes>(
    quants: Quants,
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    out: (*mut f32, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        match quants {
            Quants::Q8_0 => rows_of::<L, Q8_0>(panel, inputs, tile, out),
            Quants::Q4K => rows_of::<L, Q4K>(panel, inputs, tile, out),
            Quants::Q6K => rows_of::<L, Q6K>(panel, inputs, tile, out),
        }
    }
}

/// # Safety
/// As [`add_tile`].
#[inline(always)]
unsafe fn rows_of<L: Lanes, F: Format>(
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    out: (*mut f32, usize),
) {
    let mut row = 0;
    while row < tile.rows {
        // SAFETY: as the caller promises; these rows are in the tile.
        row += unsafe {
            match (tile.rows - row).min(L::ROWS) {
                8.. => some_rows::<L, F, 8>(panel, inputs, tile, row, out),
                4.. => some_rows::<L, F, 4>(panel, inputs, tile, row, out),
                2.. => some_rows::<L, F, 2>(panel, inputs, tile, row, out),
                _ => some_rows::<L, F, 1>(panel, inputs, tile, row, out),
            }
        };
    }
}

/// `R` rows of a tile from `first` on; gives back `R`.
///
/// # Safety
/// As [`add_tile`], and the tile must have these rows.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indices of one tile in several arrays
unsafe fn some_rows<L: Lanes, F: Format, const R: usize>(
    panel: *const u8,
    inputs: usize,
    tile: &Tile,
    first: usize,
    (out, stride): (*mut f32, usize),
) -> usize {
    // On AVX-512 a tile is done at once, and its rows are a constant.
    let rows = if L::ROWS >= 8 { R } else { tile.rows };
    // SAFETY: offsets stay inside the panel and the tile, whose sizes the caller vouches for.
    unsafe {
        let values = tile.values.as_ptr().add(4 * first);
        let (scales, totals) = (tile.scales.as_ptr().add(first), tile.totals.as_ptr().add(first));
        let mut sums = [L::splat(0.0); R];
        for span in 0..inputs / F::SPAN {
            let mut dots = [L::no_integers(); R];
            if let Some(starts) = F::starts(tile, span) {
                for r in 0..R {
                    dots[r] = L::integers(starts.add(first + r));
                }
            }
            for quarter in span * F::SPAN / QUARTER..(span + 1) * F::SPAN / QUARTER {
                let weights = F::weights::<L>(panel, quarter);
                for k in 0..4 {
                    let values = values.add((4 * quarter + k) * 4 * rows);
                    for r in 0..R {
                        dots[r] = L::add_dots(dots[r], weights[k], values.add(4 * r));
                    }
                }
            }
            let block = span * F::SPAN / BLOCK * rows;
            let span_scales = F::scales::<L>(panel, span);
            for r in 0..R {
                let scale = L::splat(*scales.add(block + r));
                let product = L::times(L::times(L::to_floats(dots[r]), scale), span_scales);
                sums[r] = L::plus(sums[r], product);
            }
            if F::HAS_MINS {
                let mins = F::mins::<L>(panel, span);
                for r in 0..R {
                    let total = L::splat(*totals.add(block + r));
                    sums[r] = L::minus(sums[r], L::times(mins, total));
                }
            }
        }
        for r in 0..R {
            L::add_to(sums[r], out.add((first + r) * stride));
        }
    }
    R
}
