//! A whole SFT run, small: real demonstrations, real tool, real files.

use std::path::{Path, PathBuf};

use agentflow_eval::RunDir;
use agentflow_train::sft::{self, Metrics, SftConfig};

const CONFIG: &str = r#"
seed = 3
[model]
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
rope_theta = 10000.0
max_position_embeddings = 512
init_std = 0.05
[tokenizer]
vocab_size = 400
problems = 60
[data]
recovery_share = 0.2
noise_share = 0.5
noise_words = 0.2
clean_end = 0.5
[batch]
sequences = 4
workers = 2
[optimizer]
lr = 1e-2
beta1 = 0.9
beta2 = 0.95
eps = 1e-8
weight_decay = 0.01
max_grad_norm = 1.0
[schedule]
kind = "cosine"
updates = 12
warmup = 2
floor = 0.1
[checkpoint]
every = 4
keep = 2
"#;

fn config() -> SftConfig {
    toml::from_str(CONFIG).expect("a complete configuration")
}

fn start(config: &SftConfig, root: &Path) -> RunDir {
    RunDir::create(root, "sft", &toml::to_string(config).expect("TOML")).expect("a run directory")
}

/// Trains to the end and gives the model's weights and the metrics.
fn train(config: &SftConfig, run: &RunDir) -> (Vec<u8>, Vec<Metrics>) {
    let model = sft::train(config, run, &mut |_| true).expect("it trains").expect("to the end");
    (weights(&model), metrics(run))
}

fn weights(model: &Path) -> Vec<u8> {
    std::fs::read(model.join("model.safetensors")).expect("the trained weights")
}

fn metrics(run: &RunDir) -> Vec<Metrics> {
    let (_, lines) = run.lines("metrics.jsonl").expect("metrics");
    lines
}

fn without_time(metrics: &[Metrics]) -> Vec<Metrics> {
    metrics.iter().map(|line| Metrics { wall_s: 0.0, ..line.clone() }).collect()
}

#[test]
fn the_loss_falls_and_the_model_loads() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let run = start(&config(), root.path());
    let (_, metrics) = train(&config(), &run);
    assert_eq!(metrics.len(), 12);
    let (first, last) = (metrics[0].loss, metrics[11].loss);
    // ln 400 = 6.0 for a model that knows nothing.
    assert!((5.0..7.0).contains(&first) && last < first - 0.5, "{first} to {last}");
    assert!(metrics.iter().all(|line| line.completion_tokens < line.tokens));

    let files =
        agentflow_model::ModelFiles::directory(&run.path().join("model")).expect("a directory");
    let device = candle_core::Device::Cpu;
    let loaded = files.load(candle_core::DType::F32, &device).expect("a valid model directory");
    assert_eq!(loaded.prompt_profile, "compact");
}

/// Interrupted after update 6, behind the checkpoint of update 4: what comes out is bit for bit the same.
#[test]
fn a_resumed_run_computes_what_the_uninterrupted_one_does() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let straight = start(&config(), root.path());
    let (wanted, wanted_metrics) = train(&config(), &straight);

    let run = start(&config(), root.path());
    let stopped = sft::train(&config(), &run, &mut |line| line.update < 6).expect("it trains");
    assert_eq!(stopped, None);
    // As after kill -9: the last checkpoint is gone, the log ran ahead of the one before.
    std::fs::remove_dir_all(run.path().join("checkpoint/update-000006")).expect("it was written");
    assert_eq!(metrics(&run).len(), 6);
    let path: PathBuf = run.path().to_owned();
    drop(run);

    let run = RunDir::resume(&path).expect("the run can be taken up");
    let (found, found_metrics) = train(&config(), &run);
    assert_eq!(without_time(&found_metrics), without_time(&wanted_metrics));
    assert!(found == wanted, "the weights differ");
}

/// The loss of a batch must not depend on how it is split over workers.
#[test]
fn the_number_of_workers_changes_rounding_only() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut losses = Vec::new();
    for workers in [1, 2, 4] {
        let mut config = config();
        config.batch.workers = workers;
        config.schedule.updates = 4;
        let run = start(&config, root.path());
        losses.push(train(&config, &run).1);
    }
    for (a, b) in losses[0].iter().zip(&losses[1]).chain(losses[0].iter().zip(&losses[2])) {
        assert!((a.loss - b.loss).abs() < 1e-4, "{} and {}", a.loss, b.loss);
        assert!(
            (a.grad_norm - b.grad_norm).abs() < 1e-3 * a.grad_norm,
            "{} and {}",
            a.grad_norm,
            b.grad_norm
        );
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let run = start(&config(), root.path());
    sft::train(&config(), &run, &mut |line| line.update < 4).expect("it trains");
    let weights = run.path().join("checkpoint/update-000004/model.safetensors");
    let bytes = std::fs::read(&weights).expect("the checkpoint");
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).expect("writes");
    let error = sft::train(&config(), &run, &mut |_| true).expect_err("half a file");
    let message = error.to_string();
    assert!(message.contains("update-000004") && message.contains("remove it"), "{message}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_key() {
    let refused = |change: fn(&mut SftConfig)| {
        let mut config = config();
        change(&mut config);
        config.check().expect_err("it makes no sense").to_string()
    };
    assert!(refused(|c| c.batch.workers = 9).starts_with("`batch.workers` is 9"));
    assert!(refused(|c| c.model.num_key_value_heads = 0).contains("`model.num_attention_heads`"));
    assert!(refused(|c| c.data.noise_share = 1.5).starts_with("`data.noise_share` is 1.5"));
}
