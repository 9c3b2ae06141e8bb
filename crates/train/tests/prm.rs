//! A whole PRM run, small: the bundled planner as base, real files.

use std::path::{Path, PathBuf};

use agentflow_eval::RunDir;
use agentflow_model::{DtypeChoice, ModelFiles, Placement, bundled};
use agentflow_train::label::LABELS_FILE;
use agentflow_train::prm::{Event, Metrics, Prm, PrmConfig, PrmError, Report, Training};
use serde_json::{Value, json};

const CONFIG: &str = r#"
seed = 5
[model]
base = "bundled"
max_length = 64
[data]
labels = "labels.jsonl"
held_out = 0.25
[batch]
samples = 6
max_tokens = 128
recompute = false
workers = 2
[optimizer]
lr = 1e-3
beta1 = 0.9
beta2 = 0.98
eps = 1e-8
weight_decay = 0.01
max_grad_norm = 1.0
[schedule]
kind = "cosine"
updates = 12
warmup = 2
floor = 0.1
[eval]
every = 3
patience = 9
[checkpoint]
every = 4
keep = 2
"#;

/// 16 problems with three decisions each: searching is worth nothing, answering all, and thinking half.
fn labels() -> Vec<Value> {
    let decision = |problem: usize, (step, (action, label)): (usize, (&str, f64))| {
        json!({
            "schema": "agentflow.label/1", "run": null, "trajectory": format!("t-{problem}"), "step": step,
            "benchmark": "arith", "problem_id": format!("p-{problem}"), "state": format!("s-{problem}"),
            "last": action == "answer", "outcome": 1.0,
            "text": format!(
                "<|im_start|>user\nWhat is {problem} plus {problem}?<|im_end|>\n<|im_start|>assistant\n\
                 {{\"thought\": \"Now.\", \"action\": \"{action}\", \"action_input\": \"{problem}\"}}<|im_end|>"
            ),
            "prm_prompt": "prm-compact/1", "label": label, "missing": null,
            "by": {"labeller": "consensus", "judge": label, "monte_carlo": label, "margin": 0.1},
            "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "wall_ms": 1
        })
    };
    let decisions = [("search", 0.0), ("answer", 1.0), ("think", 0.5)];
    (0..16)
        .flat_map(|problem| decisions.into_iter().enumerate().map(move |it| decision(problem, it)))
        .collect()
}

struct Place {
    dir: tempfile::TempDir,
    config: PrmConfig,
}

impl Place {
    fn new(labels: &[Value]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let text: String = labels.iter().map(|label| format!("{label}\n")).collect();
        let file = dir.path().join(LABELS_FILE);
        std::fs::write(&file, text).expect("writes");
        let mut config: PrmConfig = toml::from_str(CONFIG).expect("a complete configuration");
        config.data.labels = vec![file];
        Self { dir, config }
    }

    fn start(&self) -> RunDir {
        RunDir::create(self.dir.path(), "prm", "seed = 5\n").expect("a run directory")
    }

    /// Trains until `go_on` says no.
    fn train(
        &self,
        run: &RunDir,
        mut go_on: impl FnMut(&Metrics) -> bool,
    ) -> Result<Option<Report>, PrmError> {
        let (base, placement) = (bundled::files(), cpu());
        let training = Training::prepare(&self.config, &base, &placement)?;
        training.run(run, &mut |event| match event {
            Event::Update(metrics) => go_on(metrics),
            Event::Evaluated(_) => true,
        })
    }

    fn refused(&self) -> String {
        let (base, placement) = (bundled::files(), cpu());
        match Training::prepare(&self.config, &base, &placement) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string().replace(self.dir.path().to_str().expect("text"), "DIR"),
        }
    }
}

fn cpu() -> Placement {
    Placement::cpu(DtypeChoice::F32)
}

/// The lines of a file of the run, without what differs from run to run.
fn lines(run: &RunDir, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.path().join(file)).expect("lines");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        let object = value.as_object_mut().expect("an object");
        object.remove("wall_s");
        object.remove("samples_per_s");
        value
    };
    text.lines().map(line).collect()
}

fn weights(run: &RunDir) -> Vec<u8> {
    std::fs::read(run.path().join("model/model.safetensors")).expect("the trained weights")
}

#[test]
fn it_learns_the_labels_and_leaves_what_it_promises() {
    let place = Place::new(&labels());
    let run = place.start();
    let report = place.train(&run, |_| true).expect("it trains").expect("to the end");
    assert_eq!(report.data.train_decisions, 36);
    assert_eq!((report.data.held_out_decisions, report.data.held_out_problems), (12, 4));
    assert!(report.held_out.mae < 0.7 * report.held_out.baseline_mae, "{:?}", report.held_out);
    // Three pairs a state.
    assert_eq!((report.held_out.pairs, report.held_out.problems_that_vary), (12, 4));
    assert!(report.held_out.pairwise_accuracy.expect("pairs") > 0.8, "{:?}", report.held_out);
    let metrics = lines(&run, "metrics.jsonl");
    assert_eq!(metrics.len(), 12);
    assert!(metrics.iter().all(|line| line["parts"].as_u64() >= Some(2)), "it does not accumulate");
    assert_eq!(lines(&run, "evaluations.jsonl").len(), 4);
    for file in [
        "report.json",
        "report.md",
        "calibration.svg",
        "data.json",
        "tensorboard/train",
        "tensorboard/held_out",
    ] {
        assert!(run.path().join(file).exists(), "no {file}");
    }
    // The best weights at each of the two checkpoints that are kept, and no others.
    let best = std::fs::read_dir(run.path().join("best")).expect("a folder").count();
    assert!((1..=2).contains(&best), "{best}");

    // What it wrote is what it measured.
    let prm = Prm::open(&run.path().join("model"), &cpu()).expect("a PRM");
    prm.check_prompt(None).expect("of this version");
    assert_eq!(prm.about().held_out_mae, Some(report.held_out.mae));
    let text = |action: &str| {
        let labels = labels();
        let found = labels.iter().find(|label| label["text"].to_string().contains(action));
        found.and_then(|label| label["text"].as_str()).expect("a text").to_owned()
    };
    let ids: Vec<Vec<u32>> = ["search", "answer"]
        .map(|action| prm.encode(&text(action)).expect("a tokenizer").ids)
        .to_vec();
    let scores = prm.scores(&ids).expect("scores");
    assert!(scores[0] + 0.2 < scores[1], "{scores:?}");
    let config: Value = serde_json::from_slice(
        &std::fs::read(run.path().join("model/config.json")).expect("config.json"),
    )
    .expect("JSON");
    for (key, wanted) in [
        ("architectures", json!(["Qwen3ForSequenceClassification"])),
        ("id2label", json!({"0": "LABEL_0"})),
        ("label2id", json!({"LABEL_0": 0})),
        ("problem_type", json!("regression")),
        ("pad_token_id", json!(0)),
        ("dtype", json!("float32")),
        ("torch_dtype", json!("float32")),
    ] {
        assert_eq!(config[key], wanted, "{key}");
    }
}

/// Stopped after update 6, behind the checkpoint of update 4: what comes out is bit for bit the same.
#[test]
fn a_resumed_run_computes_what_the_uninterrupted_one_does() {
    let place = Place::new(&labels());
    let straight = place.start();
    place.train(&straight, |_| true).expect("it trains").expect("to the end");

    let run = place.start();
    let stopped = place.train(&run, |line| line.update < 6).expect("it trains");
    assert!(stopped.is_none());
    // As after kill -9: the last checkpoint is gone, the logs ran ahead of the one before.
    std::fs::remove_dir_all(run.path().join("checkpoint/update-000006")).expect("it was written");
    assert_eq!(
        (lines(&run, "metrics.jsonl").len(), lines(&run, "evaluations.jsonl").len()),
        (6, 2)
    );
    place.train(&run, |_| true).expect("it trains").expect("to the end");
    for file in ["metrics.jsonl", "evaluations.jsonl"] {
        assert_eq!(lines(&run, file), lines(&straight, file), "{file}");
    }
    assert!(weights(&run) == weights(&straight), "the weights differ");
}

/// The loss of a batch must not depend on how it is cut, nor on what is kept of it.
#[test]
fn parts_workers_and_recomputing_change_rounding_only() {
    let mut metrics = Vec::new();
    for (max_tokens, workers, recompute) in [(4096, 1, false), (64, 1, false), (4096, 2, true)] {
        let mut place = Place::new(&labels());
        place.config.batch.max_tokens = max_tokens;
        place.config.batch.workers = workers;
        place.config.batch.recompute = recompute;
        place.config.schedule.updates = 3;
        let run = place.start();
        place.train(&run, |_| true).expect("it trains");
        metrics.push(lines(&run, "metrics.jsonl"));
    }
    assert_eq!(metrics[0][0]["parts"], 1);
    assert_eq!(metrics[1][0]["parts"], 3, "{}", metrics[1][0]);
    for other in &metrics[1..] {
        for (a, b) in metrics[0].iter().zip(other) {
            for key in ["loss", "mae", "grad_norm"] {
                let (a, b) =
                    (a[key].as_f64().expect("a number"), b[key].as_f64().expect("a number"));
                assert!((a - b).abs() < 1e-3 * a.abs().max(1e-2), "{key}: {a} and {b}");
            }
        }
    }
}

/// Alone, or with texts of every length: the same bits.
#[test]
fn a_score_does_not_depend_on_its_company() {
    let place = Place::new(&labels());
    let run = place.start();
    place.train(&run, |line| line.update < 1).expect("it trains");
    let mut config = place.config.clone();
    config.schedule.updates = 1;
    let place = Place { config, ..place };
    let run = place.start();
    place.train(&run, |_| true).expect("it trains").expect("to the end");
    let prm = Prm::open(&run.path().join("model"), &cpu()).expect("a PRM");
    let texts: Vec<Vec<u32>> = (0..40_u32)
        .map(|n| (0..1 + n * n % 700).map(|at| (at * 37 + n * 11) % 1500).collect())
        .collect();
    let together = prm.scores(&texts).expect("scores");
    for (text, score) in texts.iter().zip(&together) {
        let alone = prm.scores(&[text]).expect("a score")[0];
        assert_eq!(alone.to_bits(), score.to_bits(), "of {} tokens", text.len());
    }
    assert!(prm.scores(&[Vec::<u32>::new()]).is_err());
    assert!(prm.scores(&[vec![1536]]).is_err());
}

#[test]
fn training_ends_where_the_held_out_error_falls_no_more() {
    let mut labels = labels();
    // What is held out contradicts what is trained on, so it cannot get better for long.
    for label in &mut labels {
        let odd = label["problem_id"].as_str().expect("an id").len() % 2 == 1;
        label["label"] = json!(if odd { 1.0 } else { 0.0 });
    }
    let mut place = Place::new(&labels);
    place.config.schedule.updates = 500;
    place.config.eval.every = 1;
    place.config.eval.patience = 2;
    place.config.optimizer.lr = 3e-2;
    let run = place.start();
    let report = place.train(&run, |_| true).expect("it trains").expect("to the end");
    assert!(report.stopped_early && report.updates < 500, "{}", report.updates);
    assert_eq!(report.updates, report.best_update + 2);
    assert_eq!(report.evaluations.len() as u64, report.updates);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint() {
    let place = Place::new(&labels());
    let run = place.start();
    assert!(place.train(&run, |line| line.update < 5).expect("it trains").is_none());
    let kept = run.path().join("checkpoint/update-000005/model.safetensors");
    let before = std::fs::read(&kept).expect("the checkpoint");
    let mut config = place.config.clone();
    config.optimizer.lr = 1e38;
    let place = Place { config, ..place };
    let error = place.train(&run, |_| true).expect_err("far too large").to_string();
    assert!(error.starts_with("the ") && error.contains("is not a number ("), "{error}");
    assert!(error.contains("lower `optimizer.lr`"), "{error}");
    assert!(error.ends_with("the checkpoint of update 5 stays"), "{error}");
    assert_eq!(std::fs::read(&kept).expect("the checkpoint"), before);
}

#[test]
fn labels_that_cannot_be_trained_on_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut labels = labels();
        change(&mut labels);
        Place::new(&labels).refused()
    };
    let none = refused(&|labels| labels.clear());
    assert_eq!(
        none,
        "there is no label in `DIR/labels.jsonl`; label a run with `agentflow train label`"
    );
    let missing = refused(&|labels| {
        for label in labels {
            label["label"] = Value::Null;
        }
    });
    assert!(missing.contains("(48 decisions have none)"), "{missing}");
    let outside = refused(&|labels| labels[4]["label"] = json!(7.0));
    assert!(outside.starts_with("`DIR/labels.jsonl`: line 5 has the label 7"), "{outside}");
    let mixed = refused(&|labels| labels[9]["prm_prompt"] = json!("prm-full/1"));
    assert!(
        mixed.contains("line 10 of `DIR/labels.jsonl` is of the PRM text `prm-full/1`, but line 1"),
        "{mixed}"
    );
    let unknown = refused(&|labels| labels[0]["prm_prompt"] = json!("prm-full/0"));
    assert!(unknown.contains("`prm-full/0`, which this version does not make"), "{unknown}");
    let single = refused(&|labels| labels.truncate(3));
    assert!(single.starts_with("all labels are about one problem, `p-0`"), "{single}");
}

#[test]
fn what_is_left_out_or_cut_is_counted() {
    let mut labels = labels();
    labels[3]["label"] = Value::Null;
    let text = labels[5]["text"].as_str().expect("a text").to_owned();
    labels[5]["text"] = json!(format!("<|im_start|>user\n{}{text}", "and then ".repeat(80)));
    let place = Place::new(&labels);
    let (base, placement) = (bundled::files(), cpu());
    let training = Training::prepare(&place.config, &base, &placement).expect("it can be read");
    assert_eq!((training.data().without_label, training.data().truncated), (1, 1));
    // Problems are not divided.
    assert_eq!(training.data().train_decisions + training.data().held_out_decisions, 47);
}

#[test]
fn a_run_does_not_go_on_with_other_labels() {
    let place = Place::new(&labels());
    let run = place.start();
    place.train(&run, |line| line.update < 2).expect("it trains");
    let mut changed = labels();
    changed[0]["label"] = json!(0.25);
    let text: String = changed.iter().map(|label| format!("{label}\n")).collect();
    std::fs::write(&place.config.data.labels[0], text).expect("writes");
    let error = place.train(&run, |_| true).expect_err("other labels").to_string();
    assert!(error.starts_with("the labels are not those that the run began with"), "{error}");
}

#[test]
fn a_prm_of_another_text_is_refused() {
    let mut place = Place::new(&labels());
    place.config.schedule.updates = 1;
    let run = place.start();
    place.train(&run, |_| true).expect("it trains").expect("to the end");
    let dir: PathBuf = run.path().join("model");
    let refused = |about: Option<Value>| {
        let file = dir.join("agentflow.json");
        match about {
            Some(about) => std::fs::write(&file, about.to_string()).expect("writes"),
            None => std::fs::remove_file(&file).expect("removes"),
        }
        let prm = Prm::open(&dir, &cpu()).expect("a PRM");
        prm.check_prompt(None).expect_err("of another text").to_string()
    };
    let other = refused(Some(json!({"prm_prompt": "prm-full/0"})));
    assert!(
        other.contains("was trained on the text `prm-full/0`") && other.contains("--force"),
        "{other}"
    );
    let none = refused(None);
    assert!(none.contains("does not say in agentflow.json") && none.contains("--force"), "{none}");
    // A language model is none.
    write_bundled(&dir);
    let error = match Prm::open(&dir, &cpu()) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("its architecture is `Qwen3ForCausalLM`"), "{error}");
}

fn write_bundled(dir: &Path) {
    let ModelFiles::Embedded(files) = bundled::files() else { panic!("it is in the binary") };
    for (name, content) in files {
        std::fs::write(dir.join(name), content).expect("writes");
    }
}

#[test]
fn the_configurations_that_are_shipped_can_be_run() {
    for text in [
        include_str!("../../../configs/tiny/prm.toml"),
        include_str!("../../../configs/prm-qwen3-0.6b.toml"),
    ] {
        let config: PrmConfig = toml::from_str(text).expect("a complete configuration");
        config.check().expect("it makes sense");
    }
}

/// In bf16 the weights that are trained stay in f32: updates far smaller than a bf16 step add up.
#[test]
fn bf16_is_computed_in_and_not_trained_in() {
    let mut place = Place::new(&labels());
    place.config.optimizer.lr = 1e-6;
    place.config.schedule.updates = 2;
    let run = place.start();
    let base = bundled::files();
    let placement = Placement::cpu(DtypeChoice::Bf16);
    let training = Training::prepare(&place.config, &base, &placement).expect("it can begin");
    training.run(&run, &mut |_| true).expect("it trains").expect("to the end");
    let name = "model.norm.weight";
    let load = |path: &Path| {
        candle_core::safetensors::load(path, &candle_core::Device::Cpu).expect("weights")[name]
            .clone()
    };
    let dir = place.dir.path().join("base");
    std::fs::create_dir(&dir).expect("a folder");
    write_bundled(&dir);
    let before = load(&dir.join("model.safetensors"));
    let after = load(&run.path().join("model/model.safetensors"));
    let moved = (before - after).and_then(|it| it.abs()?.max_all()?.to_scalar::<f32>());
    let moved = moved.expect("the same shape");
    assert!(moved > 0.0 && moved < 1e-5, "{moved}");

    let half = Placement::cpu(DtypeChoice::F16);
    let error = Training::prepare(&place.config, &base, &half).err().expect("no f16");
    assert!(error.to_string().starts_with("gradients do not fit into f16"), "{error}");
}
