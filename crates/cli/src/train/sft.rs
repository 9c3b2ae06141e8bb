//! `agentflow train sft`: configuration in, a run directory out.

use std::sync::atomic::Ordering;

use agentflow_eval::RunDir;
use agentflow_model::{DtypeChoice, Placement};
use agentflow_train::sft::{self, Metrics, SftConfig};
use anyhow::{Context, anyhow};

use crate::Failure;
use crate::arguments::SftArgs;
use crate::progress::Progress;
use crate::run_record::RunRecord;
use crate::{config, interrupt, output};

pub(crate) fn run(args: SftArgs) -> Result<(), Failure> {
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
        return output::print(|out| out.write_all(text.as_bytes()));
    }
    let run = match run {
        Some(run) => run,
        None => {
            let placement = Placement::cpu(DtypeChoice::F32);
            let record = RunRecord::new("sft", config.seed, Some(&placement), &config).to_toml()?;
            RunDir::create(&args.runs, "sft", &record).map_err(Failure::work)?
        }
    };
    let interrupted = interrupt::after_the_update()?;
    let mut progress = Progress::new(config.schedule.updates, "updates");
    progress.say(&format!("run {}", run.path().display()));
    let mut pace = Pace::default();
    let trained = sft::train(&config, &run, &mut |metrics| {
        progress.update(metrics.update, pace.message(metrics));
        !interrupted.load(Ordering::Relaxed)
    })
    .map_err(Failure::work)?;
    progress.finish();
    match trained {
        Some(model) => output::print(|out| writeln!(out, "{}", model.display())),
        None => {
            progress.say(&format!(
                "interrupted; go on with: agentflow train sft --resume {}",
                run.path().display()
            ));
            Err(Failure::Interrupted)
        }
    }
}

/// The pace of a run, over all updates since it was started or resumed.
#[derive(Default)]
struct Pace {
    tokens: u64,
    seconds: f64,
}

impl Pace {
    fn message(&mut self, metrics: &Metrics) -> String {
        self.tokens += metrics.tokens;
        self.seconds += metrics.wall_s;
        format!("loss {:.4}, {:.0} tokens/s", metrics.loss, self.tokens as f64 / self.seconds)
    }
}
