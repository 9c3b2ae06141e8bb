//! The training pass against the plain one, and the parts of a packed batch against each alone.

mod common;

use std::collections::{BTreeMap, HashMap};

use agentflow_model::{
    Adapter, Config, LoraConfig, Qwen3, Result, Sequences, TokenMask, Weights, logprobs, ops,
};
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

/// bf16 copies of f32 variables, for the forward and the backward pass; the gradients come in bf16.
#[test]
fn half_precision_gradients_are_near_full() -> Result<()> {
    for shape in [0, 1] {
        let config = config(shape);
        let masters = variables(&config, DType::F32);
        let half: BTreeMap<String, Var> = masters
            .iter()
            .map(|(name, var)| Ok((name.clone(), Var::from_tensor(&var.to_dtype(DType::BF16)?)?)))
            .collect::<Result<_>>()?;
        // What rounding the weights alone changes is not counted.
        for (name, var) in &masters {
            var.set(&half[name].to_dtype(DType::F32)?)?;
        }
        let (_, wanted) = gradients(&model_over(&config, &masters, |_| true), &masters, false)?;
        let model = model_over(&config, &half, |_| true);
        let ((_, kept), (_, found)) =
            (gradients(&model, &half, false)?, gradients(&model, &half, true)?);
        for (name, wanted) in &wanted {
            assert_eq!(found[name].dtype(), DType::BF16);
            let wide = |grads: &BTreeMap<String, Tensor>| grads[name].to_dtype(DType::F32);
            assert_eq!(bits(&wide(&kept)?), bits(&wide(&found)?), "{name}");
            let off = (wide(&found)? - wanted)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
            let size = wanted.sqr()?.sum_all()?.to_scalar::<f32>()?;
            assert!((off / size).sqrt() < 0.1, "{name}: off by {} of {}", off.sqrt(), size.sqrt());
        }

        // A frozen weight beside a trained one: the same gradient, and none for the frozen one.
        let name = "model.layers.0.mlp.gate_proj.weight";
        let one = BTreeMap::from([(name.to_owned(), half[name].clone())]);
        let (_, alone) = gradients(&model_over(&config, &half, |it| it == name), &one, true)?;
        assert_close(name, &alone[name], &found[name], 0.05);
    }
    Ok(())
}

/// Adapters are trained over weights that stay in bf16 as their file stores them.
#[test]
fn an_adapter_is_trained_over_stored_halves() -> Result<()> {
    let config = config(1);
    let stored = tensors(&config, 5, DType::BF16);
    let wide = stored.iter().map(|(name, it)| Ok((name.clone(), it.to_dtype(DType::F32)?)));
    let wide = wide.collect::<Result<HashMap<_, _>>>()?;
    let base = |tensors| Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
    let lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        targets: vec!["all-linear".to_owned()],
        rslora: false,
        dropout: 0.0,
    };
    let adapter = Adapter::init(&config, &lora, 3, DType::F32, &Device::Cpu)?;
    for var in adapter.variables().values() {
        var.set(&Tensor::rand(-0.2f32, 0.2, var.shape(), &Device::Cpu)?)?;
    }
    let gradients = |weights: Weights| {
        let model = Qwen3::new(&config, &weights)?.with_adapter(&adapter)?;
        gradients(&model, &adapter.variables(), true)
    };
    let (wanted_loss, wanted) = gradients(base(wide))?;
    let (loss, found) = gradients(base(stored).packed())?;
    assert!((loss - wanted_loss).abs() < 1e-5, "{loss} is not {wanted_loss}");
    for (name, wanted) in &wanted {
        assert_close(name, &found[name], wanted, 1e-4);
    }
    Ok(())
}

/// A policy's log-probabilities: those of the scorer, masks and temperature included, and a gradient.
#[test]
fn token_logprobs_are_those_of_the_scorer() -> Result<()> {
    let config = config(0);
    let variables = variables(&config, DType::F32);
    let model = model_over(&config, &variables, |_| true);
    let ids = prompt(30, 4);
    let mask: Vec<Option<TokenMask>> = (10..30)
        .map(|at| {
            let mut mask = TokenMask::alloc(config.vocab_size);
            (0..512).filter(|id| id % 5 == ids[at] % 5).for_each(|id| mask.allow_token(id));
            (at % 2 == 0).then_some(mask)
        })
        .collect();
    let completion: Vec<bool> = (0..30).map(|at| at >= 10).collect();
    let scored = logprobs(&model, &ids, &completion, 0.8, Some(&mask))?;
    let targets = Tensor::new(&ids[10..], &Device::Cpu)?;
    let sequences = Sequences::new(&[&ids])?;
    let (found, grads) = model.gradients(&sequences, &variables, true, |hidden| {
        let before = hidden.narrow(0, 9, 20)?;
        let (logprobs, _) = model.token_logprobs(&before, &targets, 0.8, Some(&mask))?;
        Ok((logprobs.mean_all()?, logprobs.detach()))
    })?;
    for (found, scored) in found.to_vec1::<f32>()?.iter().zip(&scored) {
        assert!((found - scored.logprob).abs() < 1e-5, "{found} is not {}", scored.logprob);
    }
    let length = grads["model.layers.0.mlp.up_proj.weight"].sqr()?.sum_all()?;
    assert!(length.to_scalar::<f32>()? > 1e-6);
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
