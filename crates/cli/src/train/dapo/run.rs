//! `agentflow train dapo --config FILE`: problems in, a run directory with an adapter out.

use std::io::Write;

use agentflow_eval::RunDir;
use agentflow_eval::benchmark::{
    self, Benchmark, Dataset, Loaded, Options, Role, Selection, Source,
};
use agentflow_model::ModelFiles;
use agentflow_model::hub::HubSettings;
use agentflow_train::dapo::DapoError;
use agentflow_train::dapo::run::{Evaluation, Event, Metrics, Plan, RunConfig, RunError, Training};
use agentflow_train::prm::PrmError;
use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::arguments::{DapoArgs, PlacementArgs};
use crate::progress::Progress;
use crate::run_record::RunRecord;
use crate::{config, interrupt, model_source, output, placement};

/// What `run.toml` holds beside the rest: a resumed run computes where the first part did.
#[derive(Serialize, Deserialize)]
struct Settings {
    placement: PlacementArgs,
    train: RunConfig,
}

pub(super) fn run(args: DapoArgs) -> Result<(), Failure> {
    let (settings, resumed) = match (&args.resume, &args.config) {
        (Some(path), _) => {
            let run = RunDir::resume(path).map_err(Failure::usage)?;
            (RunRecord::<Settings>::read(&path.join("run.toml"))?.config, Some(run))
        }
        (None, Some(file)) => {
            let train = config::load::<RunConfig>(file, &args.overrides)?;
            (Settings { placement: args.placement, train }, None)
        }
        (None, None) => return Err(Failure::usage(anyhow!("give --config FILE or --resume RUN"))),
    };
    let train = &settings.train;
    train.check().map_err(Failure::usage)?;
    let (loaded, base) = inputs(train)?;
    let placement = placement::choose(&settings.placement)?;
    if args.dry_run {
        let plan = Plan::new(train, &base, &placement).map_err(failure)?;
        let text = toml::to_string(train).context("cannot print the configuration")?;
        return output::print(|out| write!(out, "{text}\n{plan}"));
    }
    let training = Training::prepare(train, loaded, &base, &placement).map_err(failure)?;
    let is_new = resumed.is_none();
    let run = match resumed {
        Some(run) => run,
        None => {
            let record = RunRecord::new("dapo", train.seed, Some(&placement), &settings);
            RunDir::create(&args.runs, "dapo", &record.to_toml()?).map_err(Failure::work)?
        }
    };
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    interrupt::then(move || {
        stop.cancel();
        let _ = writeln!(
            std::io::stderr(),
            "ending the attempts or updates in work, and writing a checkpoint; ctrl-c again ends at once"
        );
    })?;
    let mut progress = Progress::new(train.schedule.updates, "updates");
    progress.say(&format!("run {}", run.path().display()));
    if is_new {
        let (to_learn, held_out) = training.problems();
        progress.say(&format!("{to_learn} problems to learn from, {held_out} held out"));
    }
    let mut has_begun = false;
    let trained = training.run(&run, &cancel, &mut |event| match event {
        Event::Rolled(_) => {}
        Event::Update(metrics) => {
            let update = metrics.update.update;
            if !std::mem::replace(&mut has_begun, true) {
                progress.start_at(update - 1);
            }
            progress.update(update, message(metrics));
        }
        Event::Evaluated(evaluation) => progress.say(&told(evaluation)),
        Event::Notice(text) => progress.say(&text),
    });
    progress.finish();
    match trained.map_err(failure)? {
        Some(report) => {
            progress.say(&format!(
                "{} updates: {:.1} % of the held-out problems before, {:.1} % at best, after update {}",
                report.updates,
                100.0 * report.first.accuracy,
                100.0 * report.best.accuracy,
                report.best.update
            ));
            output::print(|out| writeln!(out, "{}", run.path().join("adapter").display()))
        }
        None => {
            progress.say(&format!(
                "interrupted; go on with: agentflow train dapo --resume {}",
                run.path().display()
            ));
            Err(Failure::Interrupted)
        }
    }
}

/// The problems and the base. A test set of ours is refused before it is fetched.
fn inputs(train: &RunConfig) -> Result<(Loaded, ModelFiles), Failure> {
    let rollout = &train.rollout;
    let source: Source = rollout.benchmark.parse().map_err(Failure::usage)?;
    let named = Benchmark::list().iter().find(|benchmark| benchmark.name == rollout.benchmark);
    if let Some(Benchmark { role: Role::Test, dataset, name, .. }) = named
        && !matches!(dataset, Dataset::Arith { .. })
    {
        return Err(failure(RunError::TestSet { name: name.clone() }));
    }
    let options = Options {
        selection: rollout.pool.map_or(Selection::All, Selection::First),
        shuffle_seed: train.seed,
        split: rollout.split,
        problem_seed: rollout.problem_seed,
        ..Options::default()
    };
    let hub = HubSettings::from_variables(|variable| std::env::var(variable).ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let loaded = benchmark::load(&source, &options, &hub, &mut |_| {}).await;
        let loaded = loaded.map_err(Failure::work)?;
        if loaded.role != Role::Train {
            return Err(failure(RunError::TestSet { name: loaded.dataset.id }));
        }
        let base = &*train.model.base;
        Ok((loaded, model_source::files((base != "bundled").then_some(base)).await?))
    })
}

fn message(metrics: &Metrics) -> String {
    let Metrics { rollout, update } = metrics;
    let prm = rollout.prm.map_or(String::new(), |prm| format!("PRM {prm:.3}, "));
    format!(
        "{:.1} % right, {prm}{} of {} groups kept, loss {:.4}, {:.0} tokens/s",
        100.0 * rollout.accuracy,
        rollout.kept,
        rollout.seen,
        update.loss.unwrap_or(f64::NAN),
        rollout.tokens_per_s
    )
}

fn told(it: &Evaluation) -> String {
    let failed =
        if it.failed > 0 { format!(", {} attempts failed", it.failed) } else { String::new() };
    format!(
        "held-out after {} updates: {} of {} right, {:.1} %{failed}",
        it.update,
        it.right,
        it.problems,
        100.0 * it.accuracy
    )
}

/// A mistake in what was given has another exit code than a failed computation.
fn failure(error: RunError) -> Failure {
    match error {
        RunError::Config(_)
        | RunError::TestSet { .. }
        | RunError::Few { .. }
        | RunError::HalfPrecision
        | RunError::Changed { .. }
        | RunError::Profile(_)
        | RunError::Dapo(DapoError::Config(_) | DapoError::OtherAdapter { .. })
        | RunError::Prm(
            PrmError::NotAPrm { .. }
            | PrmError::OtherPrompt { .. }
            | PrmError::NoPrompt { .. }
            | PrmError::Truncation { .. },
        ) => Failure::usage(error),
        other => Failure::work(other),
    }
}
