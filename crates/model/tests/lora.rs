//! Adapters that are trained here: at first they change nothing, then everything that has them; PEFT reads what is written.
//!
//! `golden/lora/written` and `written-score` are such files, and `golden/lora/written.json` what PEFT computes with them
//! (`scripts/golden/lora_written.py`).

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentflow_model::{
    Adapter, AdapterTask, Config, Limits, LoraConfig, Qwen3, Request, Result, Sample, Sequences,
    Weights, ops, save_tensors,
};
use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;

use common::{complete, config, engine, noise, prompt, sampling, tensors};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn lora(targets: &[&str], rslora: bool) -> LoraConfig {
    let targets = targets.iter().map(|&target| target.to_owned()).collect();
    LoraConfig { rank: 3, alpha: 5.0, targets, rslora, dropout: 0.0 }
}

fn new_adapter(config: &Config, lora: &LoraConfig) -> Result<Adapter> {
    Adapter::init(config, lora, 17, DType::F32, &Device::Cpu)
}

/// Sets every variable to what an optimizer might have made of it.
fn train(adapter: &Adapter) -> Result<()> {
    for (salt, var) in adapter.variables().values().enumerate() {
        let mut next = noise(salt as u64 + 1);
        let values = (0..var.elem_count()).map(|_| 0.3 * next()).collect();
        var.set(&Tensor::from_vec::<_, f32>(values, var.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

fn sequences() -> Result<Sequences> {
    Sequences::new(&[prompt(19, 1), prompt(4, 2), prompt(33, 3)])
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let wide = tensor.to_dtype(DType::F32).and_then(|x| x.flatten_all());
    wide.and_then(|x| x.to_vec1()).expect("numbers")
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Logits by the engine's arithmetic and by that of training.
fn logits(model: &Qwen3) -> Result<[Tensor; 2]> {
    let engine = model.logits(&model.hidden_packed(&sequences()?)?)?;
    let none = BTreeMap::new();
    let (training, _) = model.gradients(&sequences()?, &none, false, |hidden| {
        let logits = model.logits(hidden)?;
        Ok((logits.sum_all()?, logits.detach()))
    })?;
    Ok([engine, training])
}

fn replies(model: &Qwen3) -> Vec<(Vec<u32>, Vec<u32>)> {
    let sample = Sample::new(sampling(1.0, 3), 12);
    let replies =
        complete(&engine(model, Limits::default()), vec![Request::group(prompt(20, 9), sample, 2)]);
    let bits = |logprobs: Vec<f32>| logprobs.into_iter().map(f32::to_bits).collect();
    replies.into_iter().flatten().map(|it| (it.ids(), bits(it.logprobs()))).collect()
}

#[test]
fn a_new_adapter_changes_no_bit_and_a_trained_one_everything() -> Result<()> {
    for shape in 0..4 {
        let config = config(shape);
        let base = common::model(&config, 3, DType::F32);
        for targets in
            [&["all-linear"][..], &["q_proj", "v_proj"], &["up_proj"], &["down_proj", "o_proj"]]
        {
            let adapter = new_adapter(&config, &lora(targets, shape % 2 == 1))?;
            let adapted = base.with_adapter(&adapter)?;
            for (adapted, base) in logits(&adapted)?.iter().zip(&logits(&base)?) {
                assert_eq!(bits(adapted), bits(base), "shape {shape}, {targets:?}");
            }
            assert_eq!(replies(&adapted), replies(&base));

            // The model that has the adapter sees what the optimizer does to it, in both of its passes.
            train(&adapter)?;
            let [engine, training] = logits(&adapted)?;
            assert!(largest_difference(&engine, &training) < 1e-4);
            assert!(largest_difference(&engine, &logits(&base)?[0]) > 0.05, "{targets:?}");
            assert_ne!(replies(&adapted), replies(&base), "shape {shape}, {targets:?}");
        }
    }
    Ok(())
}

#[test]
fn only_the_adapter_gets_gradients() -> Result<()> {
    let config = config(1);
    let base = common::model(&config, 3, DType::F32);
    let adapter = new_adapter(&config, &lora(&["all-linear"], true))?;
    train(&adapter)?;
    let (model, variables) = (base.with_adapter(&adapter)?, adapter.variables());
    let sequences = sequences()?;
    let targets = Tensor::new(prompt(sequences.ids().len(), 5), &Device::Cpu)?;
    let loss = |hidden: &Tensor| -> Result<Tensor> {
        let weights = Tensor::full(1f32 / 56.0, 56, &Device::Cpu)?;
        Ok(ops::cross_entropy(&model.logits(hidden)?, &targets, &weights)?)
    };
    let gradients = |recompute| {
        model.gradients(&sequences, &variables, recompute, |hidden| {
            let loss = loss(hidden)?;
            let value = f64::from(loss.to_scalar::<f32>()?);
            Ok((loss, value))
        })
    };
    let ((_, kept), (_, found)) = (gradients(false)?, gradients(true)?);
    assert_eq!(found.len(), 3 * 7 * 2);
    for (name, var) in &variables {
        assert_eq!(bits(&kept[name]), bits(&found[name]), "{name}");
        // Along its own gradient, the loss moves by the square of its length.
        let (start, grad) = (var.as_tensor().copy()?, &found[name]);
        let length = grad.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
        assert!(length > 1e-4, "{name} has next to no gradient");
        let step = 0.005 / f64::from(length);
        let moved = |step: f64| -> Result<f64> {
            var.set(&(&start + (grad * step)?)?)?;
            Ok(gradients(true)?.0)
        };
        let slope = (moved(step)? - moved(-step)?) / 0.01;
        var.set(&start)?;
        let wanted = f64::from(length);
        assert!((slope - wanted).abs() < 2e-2 * wanted + 4e-4, "{name}: {slope}, not {wanted}");
    }
    Ok(())
}

#[test]
fn initialisation_is_that_of_peft() -> Result<()> {
    let config = config(0);
    let all = new_adapter(&config, &lora(&["all-linear"], false))?.variables();
    assert_eq!(all.len(), 2 * 7 * 2);
    for (name, var) in &all {
        let values = values(var);
        if name.ends_with(".lora_B.weight") {
            assert!(values.iter().all(|&x| x == 0.0), "{name}");
            continue;
        }
        let bound = 1.0 / (var.dims()[1] as f32).sqrt();
        let largest = values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{name}: {largest}, not {bound}");
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.3 * bound, "{name}: {mean}");
    }
    let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    let other = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    assert_ne!(bits(&all[name]), bits(&all[other]));
    let queries = new_adapter(&config, &lora(&["q_proj"], false))?.variables();
    assert_eq!(queries.len(), 4);
    assert_eq!(bits(&all[name]), bits(&queries[name]));
    Ok(())
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut LoraConfig)| {
        let mut lora = lora(&["q_proj"], false);
        change(&mut lora);
        new_adapter(&config(0), &lora).expect_err("refused").to_string()
    };
    assert_eq!(refused(&|it| it.rank = 0), "`lora.rank` is 0; give a positive number, e.g. 16");
    assert_eq!(refused(&|it| it.dropout = 0.1), "`lora.dropout` is 0.1; only 0 is computed here");
    assert_eq!(
        refused(&|it| it.targets.clear()),
        "`lora.targets` is empty; use `all-linear` to adapt every layer"
    );
    assert_eq!(
        refused(&|it| it.targets.push("query".to_owned())),
        "`lora.targets` has `query`; use `all-linear`, or any of `q_proj`, `k_proj`, `v_proj`, `o_proj`, \
         `gate_proj`, `up_proj`, `down_proj`"
    );
    assert!(refused(&|it| it.alpha = f64::NAN).contains("`lora.alpha`"));
    let text = r#"{"rank": 1, "alpha": 2, "targets": ["q_proj"], "bias": "all"}"#;
    assert!(serde_json::from_str::<LoraConfig>(text).is_err());
}

#[test]
fn what_is_saved_opens_again() -> Result<()> {
    let config = config(2);
    let base = common::model(&config, 3, DType::F32);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let score = Tensor::from_vec(prompt(64, 3), (1, 64), &Device::Cpu)?.to_dtype(DType::F32)?;
    for (i, rslora) in [false, true].into_iter().enumerate() {
        let adapter = new_adapter(&config, &lora(&["k_proj", "down_proj"], rslora))?;
        train(&adapter)?;
        let dir = dir.path().join("new").join(i.to_string());
        let task = AdapterTask::SequenceClassification { score: rslora.then_some(&score) };
        adapter.save(&dir, "base", task)?;
        let opened = Adapter::open(&dir, DType::F32, &Device::Cpu)?;
        assert_eq!(opened.score().map(bits), rslora.then(|| bits(&score)));
        assert!(opened.variables().is_empty());
        let wanted = base.with_adapter(&adapter)?.hidden_packed(&sequences()?)?;
        let found = base.with_adapter(&opened)?.hidden_packed(&sequences()?)?;
        assert_eq!(bits(&found), bits(&wanted));

        // Trained further, the copy moves and what it was opened from does not.
        let trained = opened.trainable()?;
        let names: Vec<String> = trained.variables().into_keys().collect();
        assert_eq!(names, adapter.variables().into_keys().collect::<Vec<_>>());
        for var in trained.variables().values() {
            var.set(&var.affine(1.5, 0.0)?)?;
        }
        let moved = base.with_adapter(&trained)?.hidden_packed(&sequences()?)?;
        assert!(largest_difference(&moved, &wanted) > 1e-3);
        let still = base.with_adapter(&opened)?.hidden_packed(&sequences()?)?;
        assert_eq!(bits(&still), bits(&wanted));

        // Written over what is there, with nothing left beside.
        trained.save(&dir, "base", AdapterTask::CausalLm)?;
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors"]);
        let again = Adapter::open(&dir, DType::F32, &Device::Cpu)?;
        assert_eq!(bits(&base.with_adapter(&again)?.hidden_packed(&sequences()?)?), bits(&moved));
    }
    Ok(())
}

#[test]
fn merged_weights_compute_what_the_adapter_does() -> Result<()> {
    let config = config(1);
    let adapter = new_adapter(&config, &lora(&["all-linear"], true))?;
    train(&adapter)?;
    let mut merged: BTreeMap<String, Tensor> =
        tensors(&config, 3, DType::F32).into_iter().collect();
    let before = merged["model.embed_tokens.weight"].clone();
    adapter.merge_into(&mut merged)?;
    assert_eq!(bits(&merged["model.embed_tokens.weight"]), bits(&before));

    let dir = tempfile::tempdir().expect("a temporary directory");
    save_tensors(&dir.path().join("model.safetensors"), &merged)?;
    let weights = Weights::open(dir.path(), DType::F32, &Device::Cpu)?;
    let found = Qwen3::new(&config, &weights)?.hidden_packed(&sequences()?)?;
    let base = common::model(&config, 3, DType::F32);
    let wanted = base.with_adapter(&adapter)?.hidden_packed(&sequences()?)?;
    assert!(largest_difference(&found, &wanted) < 1e-4);

    // In bf16 it is the sum in f32, rounded once.
    let mut half: BTreeMap<String, Tensor> = tensors(&config, 3, DType::BF16).into_iter().collect();
    let name = "model.layers.0.mlp.up_proj.weight";
    let weight = half[name].to_dtype(DType::F32)?;
    adapter.merge_into(&mut half)?;
    let variables = adapter.variables();
    let pair = |half: &str| {
        variables[&format!("base_model.model.model.layers.0.mlp.up_proj.{half}.weight")].as_tensor()
    };
    let product = pair("lora_B").matmul(pair("lora_A"))?;
    let wanted = (weight + (product * (5.0 / 3f64.sqrt()))?)?.to_dtype(DType::BF16)?;
    assert_eq!(half[name].dtype(), DType::BF16);
    assert_eq!(bits(&half[name]), bits(&wanted));

    // A weight that is not there: nothing is changed.
    let mut missing = half.clone();
    missing.remove("model.layers.2.mlp.up_proj.weight");
    let error = adapter.merge_into(&mut missing).expect_err("refused").to_string();
    assert!(error.contains("`model.layers.2.mlp.up_proj`"), "{error}");
    assert_eq!(bits(&missing[name]), bits(&half[name]));
    Ok(())
}

/// The golden model with the adapter whose files PEFT has read.
fn written() -> Result<(Qwen3, Adapter, Tensor)> {
    let dir = golden("tied-gqa");
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).expect("the golden model");
    let config = Config::from_json(&text, &path)?;
    let model = Qwen3::new(&config, &Weights::open(&dir, DType::F32, &Device::Cpu)?)?;
    let lora = LoraConfig { rank: 2, ..lora(&["all-linear"], true) };
    let adapter = new_adapter(&config, &lora)?;
    train(&adapter)?;
    let mut next = noise(77);
    let score = (0..config.hidden_size).map(|_| next()).collect();
    let score = Tensor::from_vec::<_, f32>(score, (1, config.hidden_size), &Device::Cpu)?;
    Ok((model, adapter, score))
}

fn save_written(dir: &Path) -> Result<()> {
    let (_, adapter, score) = written()?;
    adapter.save(&dir.join("written"), "tied-gqa", AdapterTask::CausalLm)?;
    let task = AdapterTask::SequenceClassification { score: Some(&score) };
    adapter.save(&dir.join("written-score"), "tied-gqa", task)
}

#[test]
#[ignore = "writes the files that scripts/golden/lora_written.py reads"]
fn write_golden_adapters() -> Result<()> {
    save_written(&golden("lora"))
}

#[test]
fn peft_computes_the_same_with_what_is_written() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    save_written(dir.path())?;
    for name in ["written", "written-score"] {
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let read = |dir: &Path| std::fs::read(dir.join(name).join(file)).expect("a file");
            assert!(read(dir.path()) == read(&golden("lora")), "{name}/{file} has other bytes");
        }
    }
    let text = std::fs::read_to_string(golden("lora/written.json")).expect("the golden values");
    let values: Value = serde_json::from_str(&text).expect("JSON");
    let rows = |key: &str| -> Vec<Vec<f32>> {
        serde_json::from_value(values[key].clone()).expect("rows of numbers")
    };
    let ids: Vec<u32> = serde_json::from_value(values["ids"].clone()).expect("ids");
    let sequences = Sequences::new(&[ids])?;
    let (base, adapter, score) = written()?;
    let model = base.with_adapter(&adapter)?;
    let hidden = model.hidden_packed(&sequences)?;
    let count = hidden.dim(0)?;
    let last = model.logits(&hidden.narrow(0, count - 2, 2)?)?;
    let wanted = Tensor::new(rows("last_logits"), &Device::Cpu)?;
    assert!(largest_difference(&last, &wanted) < 1e-5);
    let score = ops::linear(&hidden.narrow(0, count - 1, 1)?, &score)?;
    assert!(largest_difference(&score, &Tensor::new(rows("score"), &Device::Cpu)?) < 1e-5);
    assert!(largest_difference(&hidden, &base.hidden_packed(&sequences)?) > 0.5);
    Ok(())
}

#[test]
fn adapters_of_one_base_are_independent() -> Result<()> {
    let config = config(0);
    let base = common::model(&config, 3, DType::F32);
    let [one, other] = [0, 1].map(|_| new_adapter(&config, &lora(&["o_proj"], false)));
    let (one, other) = (one?, other?);
    train(&one)?;
    let hidden = |adapter: &Adapter| base.with_adapter(adapter)?.hidden_packed(&sequences()?);
    assert!(largest_difference(&hidden(&one)?, &hidden(&other)?) > 1e-3);
    let zero: Vec<Var> = other.variables().into_values().collect();
    assert_eq!(zero.len(), 4);
    assert_eq!(bits(&hidden(&other)?), bits(&base.hidden_packed(&sequences()?)?));
    Ok(())
}
