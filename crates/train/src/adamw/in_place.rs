//! One update of one parameter on the processor: value and moments are read and written once, and nothing is allocated.
//!
//! Tensor by tensor an update makes a dozen temporaries as large as the parameter, which costs more than the arithmetic: of the
//! weights of a language model, gigabytes. The operations and their order are those of the tensors, so the bits are, too.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

use super::Rates;

/// Values that a worker takes at a time. Sums over these blocks do not depend on the number of threads.
const BLOCK: usize = 16 * 1024;

/// Whether an update of these can be done here: f32 on the processor.
pub(super) fn covers(tensors: &[&Tensor]) -> bool {
    let is_covered =
        |it: &Tensor| it.device().is_cpu() && it.dtype() == DType::F32 && it.is_contiguous();
    tensors.iter().all(|tensor| is_covered(tensor))
}

/// Updates `value` and its moments `first` and `second`, all of one shape, by `gradient`.
///
/// # Errors
/// If two of the first three share their values, or one of all is none that [`covers`] accepts.
pub(super) fn update(
    [value, first, second]: [&Tensor; 3],
    gradient: &Tensor,
    rates: &Rates,
) -> Result<()> {
    let (storage, layout) = gradient.storage_and_layout();
    let gradient = match &*storage {
        Storage::Cpu(storage) => &storage.as_slice::<f32>()?[range(layout)?],
        _ => return Err(Error::Msg("the gradient is not on the cpu".into()).bt()),
    };
    with_values(value, |value| {
        with_values(first, |first| {
            with_values(second, |second| {
                value
                    .par_chunks_mut(BLOCK)
                    .zip(first.par_chunks_mut(BLOCK))
                    .zip(second.par_chunks_mut(BLOCK))
                    .zip(gradient.par_chunks(BLOCK))
                    .for_each(|(((value, first), second), gradient)| {
                        update_block(value, first, second, gradient, rates);
                    });
                Ok(())
            })
        })
    })
}

fn update_block(
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    rates: &Rates,
) {
    // As candle rounds the numbers that tensors are multiplied with.
    let [clip, keep1, take1, keep2, take2] =
        [rates.clip, rates.beta1, 1.0 - rates.beta1, rates.beta2, 1.0 - rates.beta2]
            .map(|it| it as f32);
    let [uncorrect2, eps, step, decay] =
        [1.0 / rates.correction2, rates.eps, rates.step, rates.decay].map(|it| it as f32);
    for (((value, first), second), gradient) in
        value.iter_mut().zip(first).zip(second).zip(gradient)
    {
        let gradient = gradient * clip;
        *first = *first * keep1 + gradient * take1;
        *second = *second * keep2 + gradient * gradient * take2;
        let scaled = (*second * uncorrect2).sqrt() + eps;
        *value = *value * decay - *first / scaled * step;
    }
}

/// The sum of the squares of `tensor`, which [`covers`] accepts, added up in f64.
///
/// # Errors
/// If it does not.
pub(super) fn squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Msg("the gradient is not on the cpu".into()).bt());
    };
    let values = &storage.as_slice::<f32>()?[range(layout)?];
    let blocks: Vec<f64> = values.par_chunks(BLOCK).map(squares_of_block).collect();
    Ok(blocks.iter().sum())
}

fn squares_of_block(values: &[f32]) -> f64 {
    // Side by side, so that they can be added in vectors.
    let mut sums = [0.0_f64; 8];
    let eights = values.chunks_exact(sums.len());
    let rest: f64 = eights.remainder().iter().map(|it| f64::from(*it).powi(2)).sum();
    for eight in eights {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Calls `f` with the values of `tensor`, to be changed.
fn with_values(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&OnValues(Cell::new(Some(f))))
}

/// The only way that candle opens to a tensor's own values.
struct OnValues<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for OnValues<F> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else {
            return Err(Error::Msg("values that are updated in place must be f32".into()).bt());
        };
        let f = self.0.take().expect("an operation runs once");
        f(&mut values[range(layout)?])
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
        Error::Msg(format!("values that are updated in place must be contiguous: {layout:?}")).bt()
    })?;
    Ok(start..end)
}
