//! The gradients of one batch: in parts that fit into memory, and on several threads.
//!
//! The loss is the mean squared error over the whole batch, so a part sums its squares and divides by the size of the batch:
//! how a batch is cut changes rounding and nothing else.

use std::collections::{BTreeMap, HashMap};

use agentflow_model::{Adapter, Config, ModelError, Qwen3, Sequences, Weights};
use candle_core::{DType, Device, Tensor, Var};

use super::PrmError;
use super::config::BatchConfig;
use super::data::Example;
use super::model::{SCORE, last_tokens};

/// What is trained: variables in f32, and the model that is computed with.
pub(super) struct Trained {
    /// The optimizer's, by name: all weights, or those of the adapter; and the head.
    pub masters: BTreeMap<String, Var>,
    /// What the model computes with: the same in f32, else copies of all weights in its dtype. An adapter and the head are in
    /// f32 always.
    computed: BTreeMap<String, Var>,
    pub model: Qwen3,
    pub adapter: Option<Adapter>,
    dtype: DType,
    /// A pool of one thread for each worker; none where all cores share one part.
    pools: Vec<rayon::ThreadPool>,
}

/// What a batch gives.
pub(super) struct Computed {
    /// Mean squared error over the batch.
    pub loss: f64,
    /// Of each example, in the order of the batch.
    pub scores: Vec<f32>,
    pub gradients: HashMap<String, Tensor>,
    /// Parts that the batch was cut into.
    pub parts: usize,
}

impl Trained {
    /// All of `tensors`, which are in f32, computed in `dtype`.
    pub(super) fn whole(
        config: &Config,
        tensors: BTreeMap<String, Tensor>,
        dtype: DType,
        workers: usize,
    ) -> Result<Self, PrmError> {
        let variable = |(name, tensor): (String, Tensor)| Ok((name, Var::from_tensor(&tensor)?));
        let masters: BTreeMap<String, Var> =
            tensors.into_iter().map(variable).collect::<Result<_, candle_core::Error>>()?;
        let computed: BTreeMap<String, Var> = masters
            .iter()
            .map(|(name, master)| {
                let copy = match dtype == DType::F32 || name == SCORE {
                    true => master.clone(),
                    false => Var::from_tensor(&master.as_detached_tensor().to_dtype(dtype)?)?,
                };
                Ok((name.clone(), copy))
            })
            .collect::<Result<_, candle_core::Error>>()?;
        let device = masters[SCORE].device().clone();
        let tensors =
            computed.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let model = Qwen3::new(config, &Weights::from_tensors(tensors, dtype, &device))?;
        let pools = pools(&device, workers)?;
        Ok(Self { masters, computed, model, adapter: None, dtype, pools })
    }

    /// A new adapter beside `tensors`, which are in `dtype`, and their head.
    pub(super) fn adapted(
        config: &Config,
        mut tensors: BTreeMap<String, Tensor>,
        adapter: Adapter,
        dtype: DType,
        workers: usize,
    ) -> Result<Self, PrmError> {
        let head = tensors.remove(SCORE).expect("the base was given a head");
        let device = head.device().clone();
        let mut masters = adapter.variables();
        masters.insert(SCORE.to_owned(), Var::from_tensor(&head)?);
        let weights = Weights::from_tensors(tensors.into_iter().collect(), dtype, &device);
        let model = Qwen3::new(config, &weights)?.with_adapter(&adapter)?;
        let (computed, pools) = (masters.clone(), pools(&device, workers)?);
        Ok(Self { masters, computed, model, adapter: Some(adapter), dtype, pools })
    }

    pub(super) fn head(&self) -> &Tensor {
        self.masters[SCORE].as_tensor()
    }

    /// After the optimizer changed the variables: the model computes with what they are now.
    pub(super) fn refresh(&self) -> Result<(), PrmError> {
        if self.dtype != DType::F32 && self.adapter.is_none() {
            for (name, copy) in self.computed.iter().filter(|(name, _)| *name != SCORE) {
                copy.set(&self.masters[name].as_detached_tensor().to_dtype(self.dtype)?)?;
            }
        }
        Ok(())
    }

    /// Loss, scores and gradients of `batch`.
    pub(super) fn gradients(
        &self,
        batch: &[&Example],
        config: &BatchConfig,
    ) -> Result<Computed, PrmError> {
        let parts = parts(batch, config, self.pools.len().max(1));
        let part = |part: &Vec<usize>| self.part(batch, part, config.recompute);
        let results: Vec<Result<Part, PrmError>> = if self.pools.is_empty() {
            parts.iter().map(part).collect()
        } else {
            on_threads(&self.pools, &parts, &part)
        };
        let mut computed = Computed {
            loss: 0.0,
            scores: vec![0.0; batch.len()],
            gradients: HashMap::new(),
            parts: parts.len(),
        };
        // In the order of the parts, whichever thread was first.
        for (part, result) in parts.iter().zip(results) {
            let Part { loss, scores, gradients } = result?;
            computed.loss += loss;
            for (at, score) in part.iter().zip(scores) {
                computed.scores[*at] = score;
            }
            for (name, gradient) in gradients {
                let gradient = gradient.to_dtype(DType::F32)?;
                let sum = match computed.gradients.remove(&name) {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                };
                computed.gradients.insert(name, sum);
            }
        }
        Ok(computed)
    }

    /// The part of `batch` that stands at `places`.
    fn part(
        &self,
        batch: &[&Example],
        places: &[usize],
        recompute: bool,
    ) -> Result<Part, PrmError> {
        let texts: Vec<&[u32]> = places.iter().map(|at| batch[*at].ids.as_slice()).collect();
        let texts = Sequences::new(&texts)?;
        let labels: Vec<f32> = places.iter().map(|at| batch[*at].label).collect();
        let labels = Tensor::new(labels, self.model.device())?;
        let head = |hidden: &Tensor| -> Result<_, ModelError> {
            let last = last_tokens(&texts, hidden)?; // [texts, hidden]
            let scores = last.matmul(&self.head().t()?)?.squeeze(1)?; // [texts]
            let loss = ((&scores - &labels)?.sqr()?.sum_all()? / batch.len() as f64)?; // []
            let values = (loss.to_scalar::<f32>()?, scores.to_vec1::<f32>()?);
            Ok((loss, values))
        };
        let ((loss, scores), gradients) =
            self.model.gradients(&texts, &self.computed, recompute, head)?;
        Ok(Part { loss: f64::from(loss), scores, gradients })
    }
}

struct Part {
    loss: f64,
    scores: Vec<f32>,
    gradients: BTreeMap<String, Tensor>,
}

fn pools(device: &Device, workers: usize) -> Result<Vec<rayon::ThreadPool>, PrmError> {
    if !device.is_cpu() || workers == 1 {
        return Ok(Vec::new());
    }
    let pool = |_| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        pool.map_err(|e| {
            candle_core::Error::Msg(format!("cannot start a worker thread: {e}")).into()
        })
    };
    (0..workers).map(pool).collect()
}

/// Places in the batch, by length, in parts of at most `max_tokens`, at least as many as there are workers.
fn parts(batch: &[&Example], config: &BatchConfig, workers: usize) -> Vec<Vec<usize>> {
    let length = |at: usize| batch[at].ids.len();
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|at| length(*at));
    let tokens: usize = order.iter().map(|at| length(*at)).sum();
    let most = config.max_tokens.min(tokens.div_ceil(workers));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut inside = usize::MAX;
    for at in order {
        if inside.saturating_add(length(at)) > most {
            parts.push(Vec::new());
            inside = 0;
        }
        inside += length(at);
        parts.last_mut().expect("the first text begins a part").push(at);
    }
    parts
}

/// Runs `part` for each of `parts`, the n-th on pool n modulo their number; results come in the order of the parts.
fn on_threads<T: Send>(
    pools: &[rayon::ThreadPool],
    parts: &[Vec<usize>],
    part: &(impl Fn(&Vec<usize>) -> T + Sync),
) -> Vec<T> {
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = pools
            .iter()
            .enumerate()
            .map(|(worker, pool)| {
                scope.spawn(move || {
                    let mine = parts.iter().enumerate().skip(worker).step_by(pools.len());
                    pool.install(|| mine.map(|(at, places)| (at, part(places))).collect::<Vec<_>>())
                })
            })
            .collect();
        let joined = workers.into_iter().map(|it| it.join().expect("a worker returns its errors"));
        joined.flatten().collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(length: usize) -> Example {
        Example {
            ids: vec![1; length],
            truncated: false,
            label: 0.5,
            problem: 0,
            state: 0,
            last: false,
            place: String::new(),
        }
    }

    #[test]
    fn parts_hold_each_text_once_and_no_more_than_fits() {
        let examples: Vec<Example> = [9, 3, 3, 8, 1, 20].into_iter().map(example).collect();
        let batch: Vec<&Example> = examples.iter().collect();
        let config = BatchConfig { samples: 6, max_tokens: 20, recompute: false, workers: 1 };
        assert_eq!(parts(&batch, &config, 1), [vec![4, 1, 2, 3], vec![0], vec![5]]);
        // Two workers share it evenly, though it would fit into one part.
        let roomy = BatchConfig { max_tokens: 100, ..config };
        assert_eq!(parts(&batch, &roomy, 2), [vec![4, 1, 2, 3], vec![0], vec![5]]);
        assert_eq!(parts(&batch, &roomy, 1).len(), 1);
    }
}
