//! `agentflow train prm`: configuration and labels in, a run directory out.

use std::sync::atomic::Ordering;

use agentflow_eval::RunDir;
use agentflow_model::ModelFiles;
use agentflow_train::prm::{DataSummary, Event, Measured, Metrics, PrmConfig, PrmError, Training};
use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::arguments::{PlacementArgs, TrainPrmArgs};
use crate::progress::Progress;
use crate::run_record::RunRecord;
use crate::{config, interrupt, model_source, output, placement};

/// What `run.toml` holds beside the rest: a resumed run computes where the first part did.
#[derive(Serialize, Deserialize)]
struct Settings {
    placement: PlacementArgs,
    train: PrmConfig,
}

pub(crate) fn run(args: TrainPrmArgs) -> Result<(), Failure> {
    let (settings, resumed) = match (&args.resume, &args.config) {
        (Some(path), _) => {
            let run = RunDir::resume(path).map_err(Failure::usage)?;
            (RunRecord::<Settings>::read(&path.join("run.toml"))?.config, Some(run))
        }
        (None, Some(file)) => {
            let train = config::load::<PrmConfig>(file, &args.overrides)?;
            (Settings { placement: args.placement, train }, None)
        }
        (None, None) => return Err(Failure::usage(anyhow!("give --config FILE or --resume RUN"))),
    };
    settings.train.check().map_err(Failure::usage)?;
    if args.dry_run {
        let text = toml::to_string(&settings.train).context("cannot print the configuration")?;
        return output::print(|out| out.write_all(text.as_bytes()));
    }
    let base = base(&settings.train.model.base)?;
    let placement = placement::choose(&settings.placement)?;
    let training = Training::prepare(&settings.train, &base, &placement).map_err(failure)?;
    let is_new = resumed.is_none();
    let run = match resumed {
        Some(run) => run,
        None => {
            let seed = settings.train.seed;
            let record = RunRecord::new("prm", seed, Some(&placement), &settings).to_toml()?;
            RunDir::create(&args.runs, "prm", &record).map_err(Failure::work)?
        }
    };
    let interrupted = interrupt::after_the_update()?;
    let mut progress = Progress::new(settings.train.schedule.updates, "updates");
    progress.say(&format!("run {}", run.path().display()));
    if is_new {
        progress.say(&told(training.data()));
    }
    let mut pace = Pace::default();
    let trained = training.run(&run, &mut |event| {
        match event {
            Event::Update(metrics) => {
                if pace.samples == 0 {
                    progress.start_at(metrics.update - 1);
                }
                progress.update(metrics.update, pace.message(metrics));
            }
            Event::Evaluated(evaluation) => {
                progress.say(&format!(
                    "held-out after {} updates: {}",
                    evaluation.update,
                    measured(&evaluation.measured)
                ));
            }
        }
        !interrupted.load(Ordering::Relaxed)
    });
    progress.finish();
    match trained.map_err(failure)? {
        Some(report) => {
            let early = if report.stopped_early { ", stopped early" } else { "" };
            progress.say(&format!(
                "best after {} of {} updates{early}: {}",
                report.best_update,
                report.updates,
                measured(&report.held_out)
            ));
            output::print(|out| writeln!(out, "{}", run.path().join("model").display()))
        }
        None => {
            progress.say(&format!(
                "interrupted; go on with: agentflow train prm --resume {}",
                run.path().display()
            ));
            Err(Failure::Interrupted)
        }
    }
}

/// What the configuration names: a directory, a repository on the Hub, or the planner in this binary.
fn base(name: &str) -> Result<ModelFiles, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(model_source::files((name != "bundled").then_some(name)))
}

/// A mistake in what was given has another exit code than a failed computation.
fn failure(error: PrmError) -> Failure {
    match error {
        PrmError::Config(_)
        | PrmError::HalfPrecision
        | PrmError::Unreadable { .. }
        | PrmError::Label { .. }
        | PrmError::NoLabels { .. }
        | PrmError::UnknownPrompt { .. }
        | PrmError::MixedPrompts { .. }
        | PrmError::OneProblem { .. }
        | PrmError::LabelsChanged { .. } => Failure::usage(error),
        _ => Failure::work(error),
    }
}

fn told(data: &DataSummary) -> String {
    let mut text = format!(
        "{} decisions of {} problems to train on, {} of {} held out; text {}",
        data.train_decisions,
        data.train_problems,
        data.held_out_decisions,
        data.held_out_problems,
        data.prm_prompt
    );
    for (count, what) in [
        (data.without_label, "without a label left out"),
        (data.truncated, "longer than `model.max_length`, their beginning cut off"),
    ] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text
}

fn measured(it: &Measured) -> String {
    let pairs = match it.pairwise_accuracy {
        Some(share) => format!(", {:.1} % of {} pairs in order", 100.0 * share, it.pairs),
        None => String::new(),
    };
    let share = it.mae_ratio.map_or(String::new(), |ratio| format!("{:.0} % of ", 100.0 * ratio));
    format!("MAE {:.4} ({share}the mean's {:.4}){pairs}", it.mae, it.baseline_mae)
}

/// The pace of a run, over all updates since it was started or resumed.
#[derive(Default)]
struct Pace {
    samples: usize,
    seconds: f64,
}

impl Pace {
    fn message(&mut self, metrics: &Metrics) -> String {
        self.samples += metrics.samples;
        self.seconds += metrics.wall_s;
        format!(
            "loss {:.4}, MAE {:.4}, {:.1} samples/s",
            metrics.loss,
            metrics.mae,
            self.samples as f64 / self.seconds
        )
    }
}
