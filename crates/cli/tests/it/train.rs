//! `agentflow train sft`: the run directory, and going on after ctrl-c.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::agentflow::{Agentflow, Ran, agentflow, soon};
use crate::bad_input::CONFIG;

struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("tiny.toml"), CONFIG).expect("writes");
        Self(dir)
    }

    fn train(&self, more: &[&str]) -> Agentflow {
        agentflow(&[&["train", "sft"], more].concat()).inside(self.0.path())
    }

    /// The one run that was started here.
    fn run(&self) -> Option<PathBuf> {
        let mut runs = fs::read_dir(self.0.path().join("runs")).ok()?;
        Some(runs.next()?.expect("an entry").path())
    }
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    // The last line may be under way.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn updates(run: &Path) -> Vec<u64> {
    metrics(run).iter().map(|line| line["update"].as_u64().expect("a number")).collect()
}

#[test]
fn dry_run_prints_the_resolved_configuration_and_leaves_nothing() {
    let place = Workplace::new();
    let dry = |more: &[&str]| {
        place.train(&[&["--config", "tiny.toml", "--dry-run"], more].concat()).run()
    };
    let ran = dry(&["--set", "optimizer.lr=1", "--set", "schedule.updates=7"]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert!(ran.stdout.contains("lr = 1.0\n") && ran.stdout.contains("updates = 7\n"), "{ran}");
    assert!(place.run().is_none());
    // What it prints is a configuration, the same one.
    fs::write(place.0.path().join("tiny.toml"), &ran.stdout).expect("writes");
    assert_eq!(dry(&[]).stdout, ran.stdout);
}

#[test]
fn a_run_leaves_its_directory_and_prints_where_the_model_is() {
    let place = Workplace::new();
    let ran = place.train(&["--config", "tiny.toml", "--set", "seed=11"]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let run = place.run().expect("a run directory");
    assert_eq!(place.0.path().join(ran.stdout.trim_end()), run.join("model"));
    assert!(ran.stderr.starts_with("run runs/"), "{ran}");
    let record = fs::read_to_string(run.join("run.toml")).expect("run.toml");
    for part in
        ["version = ", "commit = ", "argv = ", "seed = 11", "device = \"cpu\"", "[config.schedule]"]
    {
        assert!(record.contains(part), "no `{part}` in {record}");
    }
    assert_eq!(updates(&run), [1, 2, 3]);
    assert!(run.join("checkpoint").is_dir());
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "agentflow.json",
    ] {
        assert!(run.join("model").join(name).is_file(), "no {name}");
    }
}

/// Ctrl-c ends it with a checkpoint, and the resumed run ends where the uninterrupted one does.
#[test]
fn an_interrupted_run_is_resumed() {
    let place = Workplace::new();
    let running = place.train(&["--config", "tiny.toml", "--set", "schedule.updates=1000"]).start();
    assert!(soon(|| place.run().is_some_and(|run| updates(&run).len() >= 2)), "no update was made");
    running.signal("INT");
    let ran = running.wait();
    let run = place.run().expect("a run directory");
    let name = format!("runs/{}", run.file_name().expect("a name").to_str().expect("text"));
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(130), ""), "{ran}");
    assert!(
        ran.stderr.contains(&format!("go on with: agentflow train sft --resume {name}\n")),
        "{ran}"
    );
    let done = updates(&run).len() as u64;
    assert!((2..1000).contains(&done), "{done}");

    let twice = place.train(&["--resume", &name]).start();
    assert!(soon(|| updates(&run).len() as u64 > done), "it does not go on");
    // Held still while another asks for its run, however fast the machine trains.
    twice.signal("STOP");
    assert_in_use(&place.train(&["--resume", &name]).run());
    twice.signal("INT");
    twice.signal("CONT");
    assert_eq!(twice.wait().code(), Some(130));

    let ran = place.train(&["--resume", &name]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert_eq!(updates(&run), (1..=1000).collect::<Vec<_>>());
    assert!(run.join("model/model.safetensors").is_file());
}

/// Two processes must not write one run.
fn assert_in_use(ran: &Ran) {
    assert_ne!(ran.code(), Some(0), "{ran}");
    assert!(ran.stderr.contains("is in use by another process"), "{ran}");
}
