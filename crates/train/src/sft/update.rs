//! The gradients of one batch, computed by several threads.
//!
//! Each worker takes every n-th row, computes the summed loss of its tokens divided by the tokens of the *whole* batch,
//! and its gradients; the sums add up in worker order. So the split over workers changes rounding, nothing else.

use std::collections::{BTreeMap, HashMap};

use agentflow_model::{Config, Qwen3, Weights, ops};
use candle_core::{DType, Device, Tensor, Var};

use super::SftError;
use super::batch::Batch;
use super::demonstration::Demonstration;

/// One worker: a model over the shared variables, and a pool of one thread for the matrix products inside it.
pub(super) struct Replica {
    model: Qwen3,
    pool: rayon::ThreadPool,
}

/// A replica for each worker.
pub(super) fn replicas(
    config: &Config,
    variables: &BTreeMap<String, Var>,
    workers: usize,
) -> Result<Vec<Replica>, SftError> {
    (0..workers)
        .map(|_| {
            let tensors = variables
                .iter()
                .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
                .collect();
            let weights = Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| {
                candle_core::Error::Msg(format!("cannot start a worker thread: {e}"))
            })?;
            Ok(Replica { model: Qwen3::new(config, &weights)?, pool })
        })
        .collect()
}

/// The mean loss over the trained tokens of `batch`, in nats, and the gradient of each variable by name.
pub(super) fn gradients(
    replicas: &[Replica],
    variables: &BTreeMap<String, Var>,
    batch: &Batch,
) -> Result<(f64, HashMap<String, Tensor>), SftError> {
    let batch_tokens = batch.completion_tokens() as f64;
    let parts: Vec<Vec<&Demonstration>> = (0..replicas.len())
        .map(|worker| batch.rows.iter().skip(worker).step_by(replicas.len()).collect())
        .collect();
    let results: Vec<Result<_, SftError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = replicas
            .iter()
            .zip(&parts)
            .map(|(replica, rows)| {
                scope.spawn(|| {
                    replica.pool.install(|| part(&replica.model, variables, rows, batch_tokens))
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker returns its errors"))
            .collect()
    });
    let mut loss = 0.0;
    let mut total: HashMap<String, Tensor> = HashMap::new();
    for result in results {
        let (part_loss, part_gradients) = result?;
        loss += part_loss;
        for (name, gradient) in part_gradients {
            let sum = match total.remove(&name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            total.insert(name, sum);
        }
    }
    Ok((loss, total))
}

/// Loss and gradients of some rows of a batch that has `batch_tokens` trained tokens in all.
fn part(
    model: &Qwen3,
    variables: &BTreeMap<String, Var>,
    rows: &[&Demonstration],
    batch_tokens: f64,
) -> Result<(f64, Vec<(String, Tensor)>), SftError> {
    let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    // Position p predicts token p + 1, so the last token is never an input.
    let length = longest.saturating_sub(1);
    let mut ids = Vec::with_capacity(rows.len() * length);
    let mut positions = Vec::new(); // of trained predictions, in the flattened batch
    let mut targets = Vec::new();
    for (row, demonstration) in rows.iter().enumerate() {
        let inputs = demonstration.ids.iter().copied().chain(std::iter::repeat(0)).take(length);
        ids.extend(inputs);
        for (token, trained) in demonstration.completion_mask.iter().enumerate().skip(1) {
            if *trained {
                positions.push((row * length + token - 1) as u32);
                targets.push(demonstration.ids[token]);
            }
        }
    }
    if targets.is_empty() {
        return Ok((0.0, Vec::new()));
    }
    let count = targets.len();
    let ids = Tensor::from_vec(ids, (rows.len(), length), model.device())?;
    let positions = Tensor::from_vec(positions, count, model.device())?;
    let targets = Tensor::from_vec(targets, count, model.device())?;
    let weights = Tensor::full((1.0 / batch_tokens) as f32, count, model.device())?;

    let hidden = model.forward(&ids, None)?.flatten_to(1)?;
    // Only trained positions get logits: half the rows, and the head is the largest matrix.
    let logits = model.logits(&hidden.index_select(&positions, 0)?)?;
    let loss = ops::cross_entropy(&logits, &targets, &weights)?;
    let gradients = loss.backward()?;
    let named = variables
        .iter()
        .filter_map(|(name, var)| Some((name.clone(), gradients.get(var.as_tensor())?.clone())))
        .collect();
    Ok((f64::from(loss.to_scalar::<f32>()?), named))
}
