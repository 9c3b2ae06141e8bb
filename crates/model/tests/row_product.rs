//! The matrix products of inference: right, and the same for a row whatever the other rows are.

mod common;

use agentflow_model::ops::{self, composed};
use candle_core::{DType, Device, Result, Tensor};

fn random(shape: &[usize], salt: u64) -> Result<Tensor> {
    let mut next = common::noise(salt);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn bits(tensor: &Tensor) -> Result<Vec<Vec<u32>>> {
    let rows = tensor.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect())
}

fn assert_close(found: &Tensor, wanted: &Tensor, what: &str) -> Result<()> {
    let relative = (found - wanted)?.abs()?.div(&(wanted.abs()? + 1.0)?)?;
    let difference = relative.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-5, "{what}: off by {difference}");
    Ok(())
}

const SIZES: [(usize, usize); 8] =
    [(1, 1), (3, 5), (16, 16), (17, 31), (64, 40), (33, 100), (260, 130), (1030, 67)];

#[test]
fn products_are_those_of_candle() -> Result<()> {
    for (outputs, inputs) in SIZES {
        for rows in [1, 2, 5, 6, 7, 13, 40] {
            let what = format!("{rows} × {inputs} × {outputs}");
            let (x, weight) = (random(&[rows, inputs], 1)?, random(&[outputs, inputs], 2)?);
            let (up, residual) = (random(&[outputs, inputs], 3)?, random(&[rows, outputs], 4)?);
            assert_close(&ops::row_linear(&x, &weight)?, &composed::linear(&x, &weight)?, &what)?;
            assert_close(
                &ops::row_linear_residual(&x, &weight, &residual)?,
                &composed::linear_residual(&x, &weight, &residual)?,
                &what,
            )?;
            let gated = ops::row_swiglu_linear(&x, &weight, &up)?;
            assert_close(&gated, &composed::swiglu_linear(&x, &weight, &up)?, &what)?;
        }
    }
    Ok(())
}

#[test]
fn a_row_has_the_same_bits_among_any_number_of_rows() -> Result<()> {
    for (outputs, inputs) in SIZES.into_iter().chain([(1030, 2100)]) {
        let (x, weight) = (random(&[61, inputs], 1)?, random(&[outputs, inputs], 2)?);
        let all = bits(&ops::row_linear(&x, &weight)?)?;
        let gated = bits(&ops::row_swiglu_linear(&x, &weight, &weight)?)?;
        for (first, rows) in [(0, 1), (60, 1), (7, 2), (11, 3), (20, 7), (31, 16), (0, 48)] {
            let some = x.narrow(0, first, rows)?;
            let found = bits(&ops::row_linear(&some, &weight)?)?;
            assert_eq!(found, all[first..first + rows], "{rows} rows, {inputs} × {outputs}");
            let found = bits(&ops::row_swiglu_linear(&some, &weight, &weight)?)?;
            assert_eq!(found, gated[first..first + rows], "{rows} rows, {inputs} × {outputs}");
        }
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(one.install(|| bits(&ops::row_linear(&x, &weight)?))?, all);
    }
    Ok(())
}

#[test]
fn half_weights_give_the_bits_of_widened_ones() -> Result<()> {
    for dtype in [DType::BF16, DType::F16] {
        for (outputs, inputs) in SIZES {
            let weight = random(&[outputs, inputs], 2)?.to_dtype(dtype)?;
            let up = random(&[outputs, inputs], 3)?.to_dtype(dtype)?;
            let (wide, wide_up) = (weight.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?);
            for rows in [1, 3, 6, 13] {
                let (x, residual) = (random(&[rows, inputs], 1)?, random(&[rows, outputs], 4)?);
                let what = format!("{rows} × {inputs} × {outputs} of {dtype:?}");
                assert_eq!(
                    bits(&ops::row_linear(&x, &weight)?)?,
                    bits(&ops::row_linear(&x, &wide)?)?,
                    "{what}"
                );
                assert_eq!(
                    bits(&ops::row_linear_residual(&x, &weight, &residual)?)?,
                    bits(&ops::row_linear_residual(&x, &wide, &residual)?)?,
                    "{what}"
                );
                assert_eq!(
                    bits(&ops::row_swiglu_linear(&x, &weight, &up)?)?,
                    bits(&ops::row_swiglu_linear(&x, &wide, &wide_up)?)?,
                    "{what}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn shapes_that_disagree_are_named() -> Result<()> {
    let (x, weight) = (random(&[2, 3], 1)?, random(&[4, 5], 2)?);
    let error = ops::row_linear(&x, &weight).expect_err("3 and 5 differ").to_string();
    assert!(error.contains("row_linear") && error.contains("[4, 5]"), "{error}");
    Ok(())
}
