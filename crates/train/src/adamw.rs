//! AdamW (arXiv 1711.05101) whose state can be saved: candle's own keeps its moments to itself.

mod in_place;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

/// The settings of an optimizer, as configs spell them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Highest learning rate; the schedule scales it.
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decay of matrices; vectors (norms) do not decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global L2 norm.
    pub max_grad_norm: f64,
}

/// AdamW over named variables.
pub struct AdamW {
    config: OptimizerConfig,
    /// In name order, so that every run adds up in the same order.
    parameters: BTreeMap<String, Parameter>,
    updates: u64,
}

struct Parameter {
    value: Var,
    first: Tensor,  // mean of gradients
    second: Tensor, // mean of squared gradients
}

/// The numbers of one update of one parameter.
struct Rates {
    /// What gradients are scaled by.
    clip: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// What the second moment lacks so far.
    correction2: f64,
    /// The learning rate, and what the first moment lacks so far.
    step: f64,
    /// What is left of the value.
    decay: f64,
}

impl Rates {
    fn new(config: &OptimizerConfig, updates: u64, lr: f64, clip: f64, value: &Tensor) -> Self {
        let OptimizerConfig { beta1, beta2, eps, weight_decay, .. } = *config;
        let correction = |beta: f64| 1.0 - beta.powf(updates as f64);
        let step = lr / correction(beta1);
        let decay = if value.rank() > 1 { 1.0 - lr * weight_decay } else { 1.0 };
        Self { clip, beta1, beta2, eps, correction2: correction(beta2), step, decay }
    }
}

impl Parameter {
    fn update(&mut self, gradient: &Tensor, rates: &Rates) -> Result<()> {
        let Self { value, first, second } = self;
        let tensors = [value.as_tensor(), &*first, &*second];
        if gradient.shape() == value.shape() && in_place::covers(&tensors) {
            let gradient = gradient.contiguous()?;
            if in_place::covers(&[&gradient]) {
                return in_place::update(tensors, &gradient, rates);
            }
        }
        self.update_by_tensors(gradient, rates)
    }

    /// On any device and in any dtype.
    fn update_by_tensors(&mut self, gradient: &Tensor, rates: &Rates) -> Result<()> {
        let Rates { clip, beta1, beta2, eps, correction2, step, decay } = *rates;
        let gradient = (gradient * clip)?;
        self.first = ((&self.first * beta1)? + (&gradient * (1.0 - beta1))?)?;
        self.second = ((&self.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let scaled = ((&self.second / correction2)?.sqrt()? + eps)?;
        let step = ((&self.first / scaled)? * step)?;
        let value = ((self.value.as_detached_tensor() * decay)? - step)?;
        self.value.set(&value)
    }
}

impl AdamW {
    /// An optimizer without history.
    ///
    /// # Errors
    /// If memory for the moments cannot be had.
    pub fn new(config: OptimizerConfig, variables: &BTreeMap<String, Var>) -> Result<Self> {
        let parameters = variables
            .iter()
            .map(|(name, value)| {
                // Each with values of its own: they are changed in place.
                let (first, second) = (value.zeros_like()?, value.zeros_like()?);
                Ok((name.clone(), Parameter { value: value.clone(), first, second }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, parameters, updates: 0 })
    }

    /// One update with `gradients` by name and the learning rate `lr`; gives their norm before clipping.
    ///
    /// A variable without a gradient stays as it is.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn update(&mut self, gradients: &HashMap<String, Tensor>, lr: f64) -> Result<f64> {
        let norm = global_norm(self.parameters.keys().filter_map(|name| gradients.get(name)))?;
        let clip =
            if norm > self.config.max_grad_norm { self.config.max_grad_norm / norm } else { 1.0 };
        self.updates += 1;
        for (name, parameter) in &mut self.parameters {
            if let Some(gradient) = gradients.get(name) {
                let rates = Rates::new(&self.config, self.updates, lr, clip, &parameter.value);
                parameter.update(gradient, &rates)?;
            }
        }
        Ok(norm)
    }

    /// Writes the moments as safetensors.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for (name, parameter) in &self.parameters {
            tensors.insert(format!("first.{name}"), parameter.first.clone());
            tensors.insert(format!("second.{name}"), parameter.second.clone());
        }
        let updates = Tensor::new(self.updates as i64, &Device::Cpu)?;
        tensors.insert("updates".to_owned(), updates);
        candle_core::safetensors::save(&tensors, path)
    }

    /// Takes up what [`AdamW::save`] wrote.
    ///
    /// # Errors
    /// If the file is damaged or was written for other variables.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let mut take = |name: String| {
            tensors.remove(&name).ok_or_else(|| {
                candle_core::Error::Msg(format!(
                    "`{}` has no `{name}`; it belongs to another model",
                    path.display()
                ))
            })
        };
        for (name, parameter) in &mut self.parameters {
            let (device, dtype) = (parameter.value.device().clone(), parameter.value.dtype());
            parameter.first = take(format!("first.{name}"))?.to_device(&device)?.to_dtype(dtype)?;
            parameter.second =
                take(format!("second.{name}"))?.to_device(&device)?.to_dtype(dtype)?;
        }
        self.updates = take("updates".to_owned())?.to_scalar::<i64>()? as u64;
        Ok(())
    }
}

/// The L2 norm of all gradients together.
fn global_norm<'a>(gradients: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let mut total = 0.0;
    for gradient in gradients {
        total += match in_place::covers(&[gradient]) {
            true => in_place::squares(gradient)?,
            false => gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?.into(),
        };
    }
    Ok(total.sqrt())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
        }
    }

    fn variables(value: &[f32]) -> BTreeMap<String, Var> {
        let tensor =
            Tensor::from_slice(value, (1, value.len()), &Device::Cpu).expect("a small tensor");
        BTreeMap::from([("w".to_owned(), Var::from_tensor(&tensor).expect("a variable"))])
    }

    fn gradients(value: &[f32]) -> HashMap<String, Tensor> {
        let tensor =
            Tensor::from_slice(value, (1, value.len()), &Device::Cpu).expect("a small tensor");
        HashMap::from([("w".to_owned(), tensor)])
    }

    fn values(variables: &BTreeMap<String, Var>) -> Vec<f32> {
        variables["w"].flatten_all().and_then(|w| w.to_vec1()).expect("a small tensor")
    }

    /// Golden: torch.optim.AdamW in float64 after clip_grad_norm_(1.0), `scripts/golden/adamw.py`.
    #[test]
    fn three_updates_match_torch() {
        let variables = variables(&[1.0, -2.0, 0.5]);
        let mut optimizer = AdamW::new(config(), &variables).expect("an optimizer");
        let rounds: [(&[f32], f64); 3] =
            [(&[0.3, -0.1, 0.2], 0.1), (&[3.0, 4.0, 0.0], 0.05), (&[-0.2, 0.1, 0.4], 0.02)];
        let norms: Vec<f64> = rounds
            .iter()
            .map(|(gradient, lr)| optimizer.update(&gradients(gradient), *lr).expect("an update"))
            .collect();
        assert!((norms[1] - 5.0).abs() < 1e-6, "the norm is taken before clipping");
        for (found, wanted) in values(&variables).iter().zip(TORCH) {
            assert!((f64::from(*found) - wanted).abs() < 2e-6, "{found} instead of {wanted}");
        }
    }

    const TORCH: [f64; 3] =
        [0.825_298_486_440_575_9, -1.910_801_081_755_067_8, 0.342_555_725_947_702_3];

    /// Some blocks and a piece, with gradients of all sizes; the reference is the tensors' arithmetic.
    #[test]
    fn in_place_has_the_bits_of_tensors() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut normal = |size: f32| -> Vec<f32> {
            let draw = |_| size * Distribution::<f32>::sample(&StandardNormal, &mut rng);
            (0..50_001).map(draw).collect()
        };
        let value = normal(1.0);
        let (here, there) = (variables(&value), variables(&value));
        let mut one = AdamW::new(config(), &here).expect("an optimizer");
        let mut other = AdamW::new(config(), &there).expect("an optimizer");
        for (at, size) in [1e-4, 1e-2, 1.0].into_iter().enumerate() {
            let gradients = gradients(&normal(size));
            let norm = one.update(&gradients, 0.1).expect("an update");
            let clip = if norm > 1.0 { 1.0 / norm } else { 1.0 };
            let rates = Rates::new(&config(), at as u64 + 1, 0.1, clip, &here["w"]);
            let parameter = other.parameters.get_mut("w").expect("there is one");
            parameter.update_by_tensors(&gradients["w"], &rates).expect("an update");
        }
        assert!(values(&here) == values(&there));
        let moments = |it: &AdamW| {
            let Parameter { first, second, .. } = &it.parameters["w"];
            [first, second]
                .map(|it| it.flatten_all().and_then(|it| it.to_vec1::<f32>()).expect("small"))
        };
        assert!(moments(&one) == moments(&other));
    }

    #[test]
    fn the_norm_is_the_same_on_any_number_of_threads() {
        let gradient: Vec<f32> = (0..100_003).map(|it| (it as f32 * 0.7).sin()).collect();
        let gradients = gradients(&gradient);
        let on = |threads| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| global_norm(gradients.values()).expect("a norm"))
        };
        assert_eq!(on(1), on(3));
        let wanted: f64 = gradient.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
        assert!((on(3) - wanted).abs() < 1e-9 * wanted);
    }

    #[test]
    fn a_loaded_optimizer_goes_on_as_if_never_stopped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("optimizer.safetensors");
        let (one, two) = (variables(&[1.0, 2.0]), variables(&[1.0, 2.0]));
        let mut straight = AdamW::new(config(), &one).expect("an optimizer");
        straight.update(&gradients(&[0.5, -0.5]), 0.1).expect("an update");
        straight.save(&path).expect("saves");
        two["w"].set(one["w"].as_tensor()).expect("same shape");
        let mut resumed = AdamW::new(config(), &two).expect("an optimizer");
        resumed.load(&path).expect("loads");
        for optimizer in [&mut straight, &mut resumed] {
            optimizer.update(&gradients(&[-0.1, 0.7]), 0.1).expect("an update");
        }
        assert_eq!(values(&one), values(&two));
    }
}
