//! How fast an update is, on the bundled planner:
//! `cargo test --release -p agentflow-train --test dapo -- --ignored --nocapture speed`.

use std::io::Write;
use std::time::Instant;

use agentflow_model::bundled;
use agentflow_train::dapo::{Row, Trainer};
use candle_core::{DType, Device};

use crate::models::{config, rows};

/// 48 rows of 60 to 180 tokens, their prompts included.
fn window() -> Vec<Row> {
    let mut rows = rows(16, 1);
    for row in &mut rows {
        row.prompt = row.prompt.iter().copied().cycle().take(60 + row.prompt.len() * 8).collect();
        row.completion = row.completion.iter().copied().cycle().take(40).collect();
        row.sampled = vec![true; 40];
        row.truncated = false;
    }
    rows
}

#[test]
#[ignore = "prints figures, asserts nothing"]
fn speed() {
    let planner = bundled::files().load(DType::F32, &Device::Cpu).expect("the planner");
    let window = window();
    let tokens: usize = window.iter().map(|row| row.prompt.len() + row.completion.len()).sum();
    let variants =
        [(1, 1000, true), (1, 4000, true), (2, 1000, true), (2, 4000, true), (2, 1000, false)];
    let mut trainers: Vec<Trainer> = variants
        .iter()
        .map(|&(workers, budget, recompute)| {
            let mut config = config();
            (config.batch.workers, config.batch.micro_batch_tokens) = (workers, budget);
            config.batch.recompute = recompute;
            Trainer::new(&planner.model, None, None, config).expect("a trainer")
        })
        .collect();
    let mut best = vec![f64::INFINITY; variants.len()];
    for _ in 0..5 {
        // In turn, so that all see the same neighbours on the machine.
        for (trainer, best) in trainers.iter_mut().zip(&mut best) {
            let started = Instant::now();
            trainer.update(&window).expect("an update");
            *best = best.min(started.elapsed().as_secs_f64());
        }
    }
    let mut out = std::io::stdout();
    for ((workers, budget, recompute), seconds) in variants.into_iter().zip(best) {
        let name = format!("dapo.update_{workers}_workers_{budget}_tokens_recompute_{recompute}");
        let _ = writeln!(out, "figure {name} {:.0} tokens/s", tokens as f64 / seconds);
    }
}
