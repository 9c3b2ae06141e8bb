//! The other side of the product: rows of f32, quantised to 8 bits in blocks of 32 as llama.cpp
//! does it, and laid out as the tiles of the kernel read them.

use rayon::prelude::*;

use super::super::simd::simd;

/// Values that share a scale.
pub(super) const BLOCK: usize = 32;

/// Values that share a scale in the finest of the weights' formats.
pub(super) const QUARTER: usize = 16;

/// Rows of the largest tile.
const TILE_ROWS: usize = 8;

/// Quantised rows. A block is `scale · q`, with `scale` its largest magnitude / 127 and `q` in
/// -127..=127, so a value is off by half of `scale` at most. What is not finite stays so.
pub(super) struct Activations {
    pub(super) inputs: usize,
    /// Tiles of 8 rows, at the end of 4, 2 and 1.
    pub(super) tiles: Vec<Tile>,
}

/// Rows that are multiplied together. Everything is ordered by place first and row second: four
/// values of the first row, four of the second, and so on.
pub(super) struct Tile {
    /// The first row.
    pub(super) row: usize,
    /// 8, 4, 2 or 1.
    pub(super) rows: usize,
    pub(super) values: Vec<i8>,
    /// One a block.
    pub(super) scales: Vec<f32>,
    /// One a block: the sum of the quantised values times the scale.
    pub(super) totals: Vec<f32>,
    /// One a block: -128 times the sum of the quantised values.
    pub(super) starts_128: Vec<i32>,
    /// One a quarter: -32 times the sum of the quantised values.
    pub(super) starts_32: Vec<i32>,
}

/// Values from which on it pays to quantise on all threads.
const PARALLEL: usize = 128 * 1024;

impl Activations {
    /// Quantises rows of `inputs` values, a multiple of [`BLOCK`].
    pub(super) fn new(x: &[f32], inputs: usize) -> Self {
        assert!(inputs > 0 && inputs.is_multiple_of(BLOCK), "rows are whole blocks");
        let tile = |(row, rows): (usize, usize)| {
            let values = rows * inputs;
            let mut tile = Tile {
                row,
                rows,
                values: vec![0; values],
                scales: vec![0.0; values / BLOCK],
                totals: vec![0.0; values / BLOCK],
                starts_128: vec![0; values / BLOCK],
                starts_32: vec![0; values / QUARTER],
            };
            quantize(&x[row * inputs..][..values], inputs, &mut tile);
            tile
        };
        let places = tiles_of(x.len() / inputs);
        let tiles = if x.len() < PARALLEL {
            places.map(tile).collect()
        } else {
            let places: Vec<_> = places.collect();
            places.into_par_iter().map(tile).collect()
        };
        Self { inputs, tiles }
    }
}

/// First row and number of rows of each tile.
fn tiles_of(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let left = rows - row;
        let size = if left >= TILE_ROWS { TILE_ROWS } else { 1 << left.checked_ilog2()? };
        row += size;
        Some((row - size, size))
    })
}

simd! {
    fn quantize(x: &[f32], inputs: usize, tile: &mut Tile) {
        /// Added, it rounds to the nearest integer, half to even, and leaves that in the low bits.
        const ROUND: f32 = 12_582_912.0;

        let rows = tile.rows;
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            for (block, x) in x.chunks_exact(BLOCK).enumerate() {
                // As integers magnitudes have the order they have as floats, with NaN above all.
                let largest = x.iter().fold(0, |max, x| (x.to_bits() & 0x7fff_ffff).max(max));
                let largest = f32::from_bits(largest);
                // Smaller ones would have an infinite inverse.
                let inverse = if largest < 1e-30 { 0.0 } else { 127.0 / largest };
                let mut values = [0_i8; BLOCK];
                for (value, x) in values.iter_mut().zip(x) {
                    *value = (x * inverse + ROUND).to_bits() as i8;
                }
                let sum = |half: &[i8]| half.iter().map(|value| i32::from(*value)).sum::<i32>();
                let sums = [sum(&values[..QUARTER]), sum(&values[QUARTER..])];
                let at = block * rows + row;
                let scale = largest / 127.0;
                tile.scales[at] = scale;
                tile.totals[at] = scale * (sums[0] + sums[1]) as f32;
                tile.starts_128[at] = -128 * (sums[0] + sums[1]);
                tile.starts_32[2 * block * rows + row] = -32 * sums[0];
                tile.starts_32[(2 * block + 1) * rows + row] = -32 * sums[1];
                for (four, values) in values.chunks_exact(4).enumerate() {
                    let at = 4 * ((block * BLOCK / 4 + four) * rows + row);
                    tile.values[at..at + 4].copy_from_slice(values);
                }
            }
        }
    }
}
