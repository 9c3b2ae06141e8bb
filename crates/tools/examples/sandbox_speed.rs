//! What a run costs at each level: `cargo run --release -p agentflow-tools --example sandbox_speed`.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use agentflow_tools::{Level, LevelWanted, Sandbox, SandboxConfig, SandboxError};

fn main() -> Result<(), SandboxError> {
    const RUNS: usize = 50;
    const SNIPPETS: usize = 5000;
    for level in [Level::Strong, Level::Medium, Level::Basic, Level::None] {
        let config =
            SandboxConfig { level: LevelWanted::Exactly(level), ..SandboxConfig::default() };
        let mut sandbox = match Sandbox::new(config) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        print!("{}", sandbox.report());
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let started = Instant::now();
            sandbox.run("print(1)")?;
            times.push(started.elapsed());
        }
        times.sort();
        let started = Instant::now();
        sandbox.run_batch(&vec!["print(1)"; SNIPPETS])?;
        let each = started.elapsed() / SNIPPETS as u32;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!("figure tools.one_shot_{level} {:.1} ms", milliseconds(times[RUNS / 2]));
        println!("figure tools.batch_snippet_{level} {:.3} ms", milliseconds(each));
    }
    Ok(())
}
