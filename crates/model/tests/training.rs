//! The training pass against the plain one, and the parts of a packed batch against each alone.

mod common;

use std::collections::{BTreeMap, HashMap};

use agentflow_model::{Config, Qwen3, Result, Sequences, Weights, ops};
use candle_core::{DType, Device, Tensor, Var};

use common::{config, prompt, tensors};

/// Around the blocks of the kernels, in no order.
const LENGTHS: [usize; 6] = [17, 1, 130, 16, 3, 49];

/// Every weight of a model as a variable.
fn variables(config: &Config, dtype: DType) -> BTreeMap<String, Var> {
    let tensors = tensors(config, 5, DType::F32).into_iter();
    tensors
        .map(|(name, tensor)| {
            let tensor = tensor.to_dtype(dtype).expect("a cast");
            (name, Var::from_tensor(&tensor).expect("a variable"))
        })
        .collect()
}

/// A model over variables, of which only those that `is_trained` are tracked.
fn model_over(
    config: &Config,
    variables: &BTreeMap<String, Var>,
    is_trained: impl Fn(&str) -> bool,
) -> Qwen3 {
    let tensor = |(name, var): (&String, &Var)| {
        let tensor =
            if is_trained(name) { var.as_tensor().clone() } else { var.as_detached_tensor() };
        (name.clone(), tensor)
    };
    let tensors: HashMap<String, Tensor> = variables.iter().map(tensor).collect();
    let dtype = variables.values().next().expect("there are variables").dtype();
    let weights = Weights::from_tensors(tensors, dtype, &Device::Cpu);
    Qwen3::new(config, &weights).expect("every tensor is there")
}

fn prompts() -> Vec<Vec<u32>> {
    LENGTHS.iter().enumerate().map(|(i, &length)| prompt(length, i as u64 + 1)).collect()
}

/// What a token is trained to say, and how much that weighs: nothing for some.
fn targets(tokens: usize) -> (Vec<u32>, Vec<f32>) {
    let ids = prompt(tokens, 99);
    let weights = (0..tokens).map(|i| [0.0, 0.3, -0.2, 1.0][i % 4] / tokens as f32).collect();
    (ids, weights)
}

/// A loss over the vocabulary, by the model's own head.
fn loss(model: &Qwen3, hidden: &Tensor) -> Result<Tensor> {
    let (ids, weights) = targets(hidden.dim(0)?);
    let (ids, weights) = (Tensor::new(ids, &Device::Cpu)?, Tensor::new(weights, &Device::Cpu)?);
    Ok(ops::cross_entropy(&model.logits(hidden)?, &ids, &weights)?)
}

fn gradients(
    model: &Qwen3,
    variables: &BTreeMap<String, Var>,
    recompute: bool,
) -> Result<(f32, BTreeMap<String, Tensor>)> {
    let sequences = Sequences::new(&prompts())?;
    model.gradients(&sequences, variables, recompute, |hidden| {
        let loss = loss(model, hidden)?;
        let value = loss.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        Ok((loss, value))
    })
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32 values");
    values.into_iter().map(f32::to_bits).collect()
}

/// Asserts that values differ by at most `tolerance` of the largest of `wanted`.
fn assert_close(name: &str, found: &Tensor, wanted: &Tensor, tolerance: f64) {
    let flat = |x: &Tensor| -> Vec<f64> {
        let wide = x.to_dtype(DType::F64).and_then(|x| x.flatten_all());
        wide.and_then(|x| x.to_vec1()).expect("numbers")
    };
    assert_eq!(found.dims(), wanted.dims(), "{name}");
    let (found, wanted) = (flat(found), flat(wanted));
    let size = wanted.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let is_near = (found - wanted).abs() <= tolerance * size;
        assert!(is_near, "{name}, value {at}: {found} is not {wanted} (largest {size})");
    }
}

#[test]
fn recomputing_changes_no_bit() -> Result<()> {
    for shape in 0..4 {
        let config = config(shape);
        let variables = variables(&config, DType::F32);
        let model = model_over(&config, &variables, |_| true);
        let (kept_loss, kept) = gradients(&model, &variables, false)?;
        let (loss, recomputed) = gradients(&model, &variables, true)?;
        assert_eq!(kept_loss.to_bits(), loss.to_bits());
        assert_eq!(kept.len(), variables.len());
        for (name, grad) in &kept {
            assert_eq!(bits(grad), bits(&recomputed[name]), "{name}");
            assert!(
                bits(grad).iter().any(|bits| f32::from_bits(*bits) != 0.0),
                "{name} has no gradient"
            );
        }
    }
    Ok(())
}

/// The reference: every sequence alone through `Qwen3::forward`, and candle's `backward` through the whole graph.
#[test]
fn gradients_are_those_of_the_whole_graph() -> Result<()> {
    for shape in 0..4 {
        let config = config(shape);
        let variables = variables(&config, DType::F32);
        let model = model_over(&config, &variables, |_| true);
        let hidden: Vec<Tensor> = prompts()
            .iter()
            .map(|ids| {
                let ids = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
                Ok(model.forward(&ids, None)?.squeeze(0)?)
            })
            .collect::<Result<_>>()?;
        let wanted_loss = loss(&model, &Tensor::cat(&hidden, 0)?)?;
        let wanted = wanted_loss.backward()?;
        for recompute in [false, true] {
            let (loss, found) = gradients(&model, &variables, recompute)?;
            assert!((loss - wanted_loss.to_scalar::<f32>()?).abs() < 1e-6);
            for (name, var) in &variables {
                let wanted = wanted.get(var).expect("every variable has a gradient");
                assert_close(name, &found[name], wanted, 1e-5);
            }
        }
    }
    Ok(())
}

/// Only what is trained gets gradients, and the same ones as when all is trained.
#[test]
fn frozen_weights_change_nothing() -> Result<()> {
    let config = config(1); // untied, three layers
    let variables = variables(&config, DType::F32);
    let all = gradients(&model_over(&config, &variables, |_| true), &variables, true)?.1;
    for kind in
        ["model.layers.2.", "model.layers.1.self_attn.k_proj", "model.embed_tokens", "model.norm"]
    {
        let is_trained = |name: &str| name.starts_with(kind);
        let model = model_over(&config, &variables, is_trained);
        let trained: BTreeMap<String, Var> = variables
            .iter()
            .filter(|(name, _)| is_trained(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        for recompute in [false, true] {
            let (_, found) = gradients(&model, &trained, recompute)?;
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                trained.keys().collect::<Vec<_>>(),
                "{kind}"
            );
            for (name, grad) in &found {
                assert_eq!(bits(grad), bits(&all[name]), "{kind}: {name}");
                assert!(
                    bits(grad).iter().any(|bits| f32::from_bits(*bits) != 0.0),
                    "{kind}: {name}"
                );
            }
        }
    }
    Ok(())
}

/// A head with a variable of its own; a variable that the loss does not reach has zeros.
#[test]
fn a_head_may_have_variables() -> Result<()> {
    let config = config(0);
    let mut variables = variables(&config, DType::F32);
    let model = model_over(&config, &variables, |_| true);
    let score = Var::from_tensor(&Tensor::full(0.1f32, (1, config.hidden_size), &Device::Cpu)?)?;
    variables.insert("score.weight".to_owned(), score.clone());
    variables.insert("unused".to_owned(), Var::zeros((2, 3), DType::F32, &Device::Cpu)?);
    let sequences = Sequences::new(&prompts())?;
    let ends: Vec<u32> = sequences.ends().iter().map(|&end| end as u32).collect();
    let (scores, grads) = model.gradients(&sequences, &variables, true, |hidden| {
        let last = hidden.index_select(&Tensor::new(ends.as_slice(), &Device::Cpu)?, 0)?;
        let scores = ops::linear(&last, &score)?;
        Ok((scores.sqr()?.sum_all()?, scores.detach()))
    })?;
    assert_eq!(scores.dims(), [LENGTHS.len(), 1]);
    assert_eq!(bits(&grads["unused"]), [0; 6]);

    // d Σ s² / d score = Σ 2 s · hidden
    let hidden = model.hidden_packed(&sequences)?;
    let last = hidden.index_select(&Tensor::new(ends.as_slice(), &Device::Cpu)?, 0)?;
    let wanted = (scores.t()?.matmul(&last)? * 2.0)?;
    assert_close("score.weight", &grads["score.weight"], &wanted, 1e-5);
    Ok(())
}

#[test]
fn hidden_states_do_not_depend_on_their_company() -> Result<()> {
    for shape in 0..4 {
        let config = config(shape);
        let model = common::model(&config, 3, DType::F32);
        // Longer than one pass in all, and one sequence that is longer than a pass for itself.
        let mut prompts = prompts();
        prompts.extend([prompt(500, 20), prompt(300, 21), prompt(511, 22)]);
        let sequences = Sequences::new(&prompts)?;
        let together = model.hidden_packed(&sequences)?;
        assert_eq!(together.dims(), [sequences.ids().len(), config.hidden_size]);
        for (ids, start) in prompts.iter().zip(sequences.starts()) {
            let alone = model.hidden_packed(&Sequences::new(&[ids])?)?;
            assert_eq!(bits(&alone), bits(&together.narrow(0, start, ids.len())?));
            let row = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            assert_close("forward", &alone, &model.forward(&row, None)?.squeeze(0)?, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn sequences_that_cannot_be_read_are_refused() {
    let config = config(0);
    let model = common::model(&config, 3, DType::F32);
    let message = |sequences: Result<Sequences>| {
        sequences.and_then(|it| model.hidden_packed(&it)).expect_err("refused").to_string()
    };
    assert_eq!(
        message(Sequences::new(&[vec![1], vec![]])),
        "the token sequence cannot be used: sequence 1 has no tokens"
    );
    assert_eq!(
        message(Sequences::new::<Vec<u32>>(&[])),
        "the token sequence cannot be used: there are no tokens"
    );
    assert_eq!(
        message(Sequences::new(&[vec![1, 512]])),
        "the token sequence cannot be used: token 512 is outside the vocabulary of 512"
    );
    let long = message(Sequences::new(&[vec![1; 513]]));
    assert!(long.contains("513") && long.contains("512"), "{long}");
}
