//! `agentflow train`: configuration in, a run directory out.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agentflow_eval::RunDir;
use agentflow_train::sft::{self, Metrics, SftConfig};
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::arguments::SftArgs;
use crate::config;
use crate::run_record::RunRecord;

pub(crate) fn sft(args: SftArgs) -> Result<(), Failure> {
    let (config, run) = match (&args.resume, &args.config) {
        (Some(path), _) => {
            let run = RunDir::resume(path).map_err(Failure::usage)?;
            let record = RunRecord::<SftConfig>::read(&path.join("run.toml"))?;
            (record.config, Some(run))
        }
        (None, Some(file)) => (config::load::<SftConfig>(file, &args.overrides)?, None),
        (None, None) => return Err(Failure::usage(anyhow!("give --config FILE or --resume RUN"))),
    };
    config.check().map_err(Failure::usage)?;
    if args.dry_run {
        let text = toml::to_string(&config).context("cannot print the configuration")?;
        return write_out(&text);
    }
    let run = match run {
        Some(run) => run,
        None => {
            let record = RunRecord::new(config.seed, "cpu", &config).to_toml()?;
            RunDir::create(&args.runs, "sft", &record).map_err(Failure::work)?
        }
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    listen(interrupted.clone())?;
    let mut progress = Progress::new(config.schedule.updates, run.path());
    let trained = sft::train(&config, &run, &mut |metrics| {
        progress.update(metrics);
        !interrupted.load(Ordering::Relaxed)
    })
    .map_err(Failure::work)?;
    progress.finish();
    match trained {
        Some(model) => write_out(&format!("{}\n", model.display())),
        None => {
            progress.say(&format!(
                "interrupted; go on with: agentflow train sft --resume {}",
                run.path().display()
            ));
            Err(Failure::Interrupted)
        }
    }
}

/// Ctrl-c ends the run after the update in work, with a checkpoint.
fn listen(interrupted: Arc<AtomicBool>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the signal handler")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.store(true, Ordering::Relaxed);
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(130);
            }
        });
    });
    Ok(())
}

/// A bar on a terminal, a line every ten seconds in a log.
struct Progress {
    bar: Option<ProgressBar>,
    updates: u64,
    last_line: Instant,
    tokens: u64,
    seconds: f64,
}

impl Progress {
    fn new(updates: u64, run: &Path) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} updates, {eta} left, {msg}")
                .expect("the template is well formed");
            ProgressBar::new(updates).with_style(style)
        });
        let progress = Self { bar, updates, last_line: Instant::now(), tokens: 0, seconds: 0.0 };
        progress.say(&format!("run {}", run.display()));
        progress
    }

    fn update(&mut self, metrics: &Metrics) {
        self.tokens += metrics.tokens;
        self.seconds += metrics.wall_s;
        let message = format!(
            "loss {:.4}, {:.0} tokens/s",
            metrics.loss,
            self.tokens as f64 / self.seconds
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(metrics.update);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() > Duration::from_secs(10) => {
                self.last_line = Instant::now();
                self.say(&format!("update {}/{}, {message}", metrics.update, self.updates));
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }
}

fn write_out(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(())
}
