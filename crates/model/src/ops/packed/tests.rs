//! Packed products beside the widened ones, and on every instruction set of this CPU.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};

use super::activations::Activations;
use super::kernel::Level;
use super::{Packed, Quants, add_products};

const ALL: [(Quants, GgmlDType, usize); 3] = [
    (Quants::Q8_0, GgmlDType::Q8_0, 32),
    (Quants::Q4K, GgmlDType::Q4K, 256),
    (Quants::Q6K, GgmlDType::Q6K, 256),
];

/// Numbers spread over -1..1, with blocks of different size.
fn noise(length: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|i| next() * (1.0 + (i / 96 % 7) as f32)).collect()
}

/// A matrix, packed and widened.
fn matrix(
    (quants, dtype, _): (Quants, GgmlDType, usize),
    outputs: usize,
    inputs: usize,
) -> Result<(Packed, Tensor)> {
    let dense = Tensor::from_vec(noise(outputs * inputs, 3), (outputs, inputs), &Device::Cpu)?;
    let quantized = QTensor::quantize(&dense, dtype)?;
    let packed = Packed::new(quants, &quantized.data()?, outputs, inputs)?;
    Ok((packed, quantized.dequantize(&Device::Cpu)?))
}

fn rows_of(x: &Tensor) -> Result<Vec<Vec<u32>>> {
    let rows = x.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect())
}

#[test]
fn rows_are_widened_as_candle_widens_them() -> Result<()> {
    for format in ALL {
        for (outputs, blocks) in [(1, 1), (16, 3), (37, 2)] {
            let (packed, wide) = matrix(format, outputs, blocks * format.2)?;
            let ids = Tensor::arange(0, outputs as u32, &Device::Cpu)?;
            assert_eq!(rows_of(&packed.embedding(&ids)?)?, rows_of(&wide)?, "{packed:?}");
        }
    }
    Ok(())
}

/// What is computed is the product of the widened weights with activations rounded as documented, up to rounding in f32:
/// a bias of the kernel would be far larger than that, and far smaller than what quantising costs.
#[test]
fn products_are_those_of_rounded_activations() -> Result<()> {
    for format in ALL {
        let (outputs, inputs) = (40, 3 * format.2);
        let (packed, wide) = matrix(format, outputs, inputs)?;
        let wide = wide.to_vec2::<f32>()?;
        for rows in [1, 3, 8] {
            let x = noise(rows * inputs, 7);
            let found = Tensor::from_slice(&x, (rows, inputs), &Device::Cpu)?;
            let found = packed.linear(&found)?.to_vec2::<f32>()?;
            for (x, found) in x.chunks_exact(inputs).zip(found) {
                let rounded = x.chunks(32).flat_map(|x| {
                    let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
                    x.iter().map(move |x| f64::from((x * inverse).round_ties_even() * scale))
                });
                let rounded: Vec<f64> = rounded.collect();
                for (weights, found) in wide.iter().zip(found) {
                    let terms = rounded.iter().zip(weights).map(|(x, w)| x * f64::from(*w));
                    let (wanted, size) =
                        terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    let off = (f64::from(found) - wanted).abs();
                    assert!(off <= 2e-6 * size, "{packed:?}: {off} of {size}");
                }
            }
        }
    }
    Ok(())
}

/// A quantised activation is off by half a step, a 254th of the largest in its block, at most; so a
/// product is off by that times the magnitudes of its weights, and by rounding in f32.
#[test]
fn products_are_within_the_rounding_of_the_activations() -> Result<()> {
    for format in ALL {
        for (outputs, blocks) in [(1, 1), (16, 1), (40, 3), (130, 5)] {
            let inputs = blocks * format.2;
            let (packed, wide) = matrix(format, outputs, inputs)?;
            let wide = wide.to_vec2::<f32>()?;
            for rows in [1, 2, 3, 7, 8, 13, 16] {
                let x = noise(rows * inputs, 5);
                let found = Tensor::from_slice(&x, (rows, inputs), &Device::Cpu)?;
                let found = packed.linear(&found)?.to_vec2::<f32>()?;
                for (x, found) in x.chunks_exact(inputs).zip(found) {
                    for (weights, found) in wide.iter().zip(found) {
                        let (mut wanted, mut bound) = (0.0_f64, 0.0_f64);
                        for (x, weights) in x.chunks(32).zip(weights.chunks(32)) {
                            let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                            for (x, weight) in x.iter().zip(weights) {
                                wanted += f64::from(*x) * f64::from(*weight);
                                bound += f64::from(largest / 254.0 * weight.abs());
                            }
                        }
                        let off = (f64::from(found) - wanted).abs();
                        assert!(off <= bound * 1.001, "{packed:?}: {off} beyond {bound}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() -> Result<()> {
    assert!(Level::available().contains(&Level::Plain));
    for format in ALL {
        let (outputs, inputs) = (53, 3 * format.2);
        let (packed, _) = matrix(format, outputs, inputs)?;
        for rows in [1, 2, 4, 8, 15] {
            let x = Activations::new(&noise(rows * inputs, 9), inputs);
            let product = |level: Level| {
                let mut out = noise(rows * outputs, 11);
                add_products(level, &x, &mut [(&packed, &mut out)]);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let plain = product(Level::Plain);
            for level in Level::available() {
                assert_eq!(product(*level), plain, "{packed:?}, {level:?}, {rows} rows");
            }
        }
    }
    Ok(())
}

/// The largest weights against the largest activations: where products in 16 bits are cut off.
#[test]
fn the_largest_sums_are_exact() -> Result<()> {
    for (sign, weight) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        for format in ALL {
            let inputs = 2 * format.2;
            // Blocks of one number are degenerate for some quantisers.
            let dense = (0..16 * inputs).map(|i| if i % 16 == 0 { 0.0 } else { weight });
            let dense = Tensor::from_iter(dense, &Device::Cpu)?.reshape((16, inputs))?;
            let quantized = QTensor::quantize(&dense, format.1)?;
            let packed = Packed::new(format.0, &quantized.data()?, 16, inputs)?;
            let wide = quantized.dequantize(&Device::Cpu)?.to_vec2::<f32>()?;
            let wanted = sign * wide[0].iter().sum::<f32>();
            let x = Activations::new(&vec![sign; inputs], inputs);
            for level in Level::available() {
                let mut out = vec![0.0; 16];
                add_products(*level, &x, &mut [(&packed, &mut out)]);
                for found in out {
                    assert!((found - wanted).abs() < 1e-4 * wanted.abs(), "{found}, {wanted}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_row_has_the_same_bits_among_any_number_of_rows_and_threads() -> Result<()> {
    for format in ALL {
        let (outputs, inputs) = (300, 4 * format.2);
        let (packed, _) = matrix(format, outputs, inputs)?;
        let x = Tensor::from_vec(noise(530 * inputs, 1), (530, inputs), &Device::Cpu)?;
        let all = rows_of(&packed.linear(&x)?)?;
        let gated = rows_of(&Packed::swiglu_linear(&packed, &packed, &x)?)?;
        for (first, rows) in [(0, 1), (529, 1), (7, 2), (11, 5), (20, 7), (31, 16), (100, 300)] {
            let some = x.narrow(0, first, rows)?;
            assert_eq!(rows_of(&packed.linear(&some)?)?, all[first..first + rows]);
            let found = rows_of(&Packed::swiglu_linear(&packed, &packed, &some)?)?;
            assert_eq!(found, gated[first..first + rows]);
            for found in Packed::linears(&[&packed, &packed], &some)? {
                assert_eq!(rows_of(&found)?, all[first..first + rows]);
            }
        }
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(one.install(|| rows_of(&packed.linear(&x)?))?, all);
    }
    Ok(())
}

#[test]
fn residuals_and_gates_are_added_as_tensors_add_them() -> Result<()> {
    let (packed, _) = matrix(ALL[0], 48, 64)?;
    let x = Tensor::from_vec(noise(3 * 64, 1), (3, 64), &Device::Cpu)?;
    let residual = Tensor::from_vec(noise(3 * 48, 2), (3, 48), &Device::Cpu)?;
    let product = packed.linear(&x)?;
    let found = packed.linear_residual(&x, &residual)?;
    assert_eq!(rows_of(&found)?, rows_of(&(&product + &residual)?)?);
    let found = Packed::swiglu_linear(&packed, &packed, &x)?;
    let wanted = crate::ops::swiglu(&product, &product)?;
    let off = (found - wanted)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(off < 1e-4, "{off}");
    Ok(())
}

#[test]
fn what_is_not_finite_stays_so_and_nothing_is_nothing() -> Result<()> {
    for format in ALL {
        let (packed, _) = matrix(format, 20, format.2)?;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = noise(format.2, 1);
            x[17] = bad;
            let x = Tensor::from_vec(x, (1, format.2), &Device::Cpu)?;
            let found = packed.linear(&x)?.flatten_all()?.to_vec1::<f32>()?;
            assert!(found.iter().all(|value| !value.is_finite()), "{bad}: {found:?}");
        }
        for tiny in [0.0_f32, 1e-40, -1e-35] {
            let x = Tensor::full(tiny, (1, format.2), &Device::Cpu)?;
            let found = packed.linear(&x)?.flatten_all()?.to_vec1::<f32>()?;
            assert!(found.iter().all(|value| value.abs() < 1e-25), "{tiny}: {found:?}");
        }
        let none = Tensor::zeros((0, format.2), candle_core::DType::F32, &Device::Cpu)?;
        assert_eq!(packed.linear(&none)?.dims(), [0, 20]);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_named() -> Result<()> {
    let error = Packed::new(Quants::Q4K, &[], 1, 100).expect_err("no whole block").to_string();
    assert!(error.contains("1 × 100 weights do not take 0 bytes in blocks of 256"), "{error}");
    let (packed, _) = matrix(ALL[0], 4, 32)?;
    let x = Tensor::zeros((2, 64), candle_core::DType::F32, &Device::Cpu)?;
    let error = packed.linear(&x).expect_err("32 and 64 differ").to_string();
    assert!(error.contains("packed_linear") && error.contains("[2, 64]"), "{error}");
    let x = candle_core::Var::zeros((2, 32), candle_core::DType::F32, &Device::Cpu)?;
    let error = packed.linear(&x).expect_err("a gradient is asked for").to_string();
    assert!(error.contains("load the model unpacked to train it"), "{error}");
    let ids = Tensor::new(&[4_u32], &Device::Cpu)?;
    let error = packed.embedding(&ids).expect_err("there are 4").to_string();
    assert!(error.contains("id 4 is not below 4"), "{error}");
    Ok(())
}
