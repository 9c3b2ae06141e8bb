//! `agentflow train label`: recorded decisions in, `labels.jsonl` out.
//!
//! Start reading at [`run`]; which runs are labelled is in `recorded.rs`, who labels them in a file for each labeller.

mod consensus;
mod judge;
mod monte_carlo;
mod recorded;
mod table;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentflow_agent::trajectory::{ModelRecord, SamplingRecord};
use agentflow_eval::{Prices, RunDir};
use agentflow_llm::Usage;
use agentflow_train::label::judge::Judge;
use agentflow_train::label::{
    self, Cases, End, Finished, Kept as Record, LabelInfo, LabelReport, Labeller, Plan, Selection,
};
use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use crate::arguments::LabelArgs;
use crate::backend::Chosen;
use crate::eval::{self, Kept, Measured};
use crate::narrate::Narrator;
use crate::run_record::RunRecord;
use crate::{Failure, interrupt, output};
use recorded::Recorded;
use watch::Watch;

const KIND: &str = "label";

/// Who labels, and what a record says of that.
struct Who {
    labeller: Arc<dyn Labeller>,
    /// E.g. `monte-carlo, 8 continuations`.
    name: String,
    /// The same, where it is a judge: it can be asked twice.
    judge: Option<Judge>,
    /// The model that it asks.
    chosen: Chosen,
    /// Labels under way at the same time.
    concurrency: usize,
    /// What decides the labels, beside the decisions.
    measured: Measured,
}

pub(crate) fn run(args: LabelArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(label(args))
}

async fn label(args: LabelArgs) -> Result<(), Failure> {
    let cancel = interrupt::on_ctrl_c();
    let narrator = Narrator::new(false);
    let (taken_up, mut args) = match args.resume.clone() {
        Some(path) => {
            let (dir, merged, record) = eval::resumed(&path, &args.runs, KIND, &args, &args.typed)?;
            let LabelArgs { resume, json, typed, .. } = args;
            (Some((dir, record)), LabelArgs { resume, json, typed, ..merged })
        }
        None => (None, args),
    };
    if !args.consensus.is_empty() {
        return match taken_up {
            None => consensus::run(&args),
            Some(_) => Err(Failure::usage(anyhow!(
                "a consensus is made in one go, so there is nothing to resume; make it anew with --consensus"
            ))),
        };
    }
    // Of a resumed run the prices are in its record.
    if args.budget_usd.is_some() && prices(&args).is_none() {
        return Err(Failure::usage(anyhow!(
            "--budget-usd needs the prices of a million tokens, --usd-in and --usd-out"
        )));
    }
    let recorded = recorded::open(&args)?;
    let paths: Vec<PathBuf> = recorded.iter().map(|run| run.path.clone()).collect();
    args.collected.clone_from(&paths);
    let cases = Cases::read(&paths, selection(&args)).map_err(Failure::usage)?;
    let who = tokio::select! {
        who = who(&mut args, &recorded, &cancel, &narrator) => who?,
        () = cancel.cancelled() => return Err(Failure::Interrupted),
    };
    let mut measured = who.measured.clone();
    measured.set("labeller", &who.name);
    measured.set("decisions", format!("{} {}", cases.cases.len(), cases.fingerprint()));
    let dir = match taken_up {
        Some((dir, record)) => {
            measured.check(&record.config.measured, dir.path())?;
            eval::say_version(&record, &narrator);
            dir
        }
        None => {
            eval::with_whole_model(&mut args.model);
            let kept = Kept::new(&args, &measured, &benchmarks(&recorded))?;
            let placement = who.chosen.placement.as_ref();
            let record = RunRecord::new(KIND, args.model.seed, placement, kept).to_toml()?;
            RunDir::create(&args.runs, KIND, &record).map_err(Failure::work)?
        }
    };
    let info = info(&args, &recorded, &cases, &who, &dir);
    info.write(&dir).map_err(Failure::work)?;
    let record = Record::open(&dir).map_err(Failure::work)?;
    let earlier = record.earlier_wall();
    let mut watch = Watch::new(info.decisions, record.tally());
    say_what(&info, &watch);
    let (left, estimate) = label::left(&cases.cases, &*who.labeller, &record);
    say_estimate(left, estimate, &args, &watch);
    watch.say(&format!("run {}", dir.path().display()));
    eval::say_on_cancel(&cancel);

    let plan = Plan {
        cases: cases.cases.clone(),
        concurrency: who.concurrency,
        retries: args.retries,
        budget: args.budget_usd.zip(prices(&args)),
    };
    let on_event = &mut |event| watch.event(event);
    let finished = label::run(record, plan, who.labeller, &cancel, on_event).await;
    watch.finish();
    let how = format!("agentflow train label --resume {}", dir.path().display());
    let finished = finished.map_err(|error| {
        Failure::work(anyhow!(error).context(format!("the run stopped; go on with: {how}")))
    })?;
    let wall = earlier.map(|earlier| (earlier + finished.wall).as_secs_f64());
    let failed = finished.failed_by_cause.clone();
    let report = label::write_report(&dir, info, failed, wall).map_err(Failure::work)?;
    // Of a run that was interrupted, standard output has no result.
    if finished.end != End::Interrupted {
        print(&report, args.json)?;
    }
    narrator.notice(&format!("labels: {}", dir.path().join(label::LABELS_FILE).display()));
    if finished.end == End::Complete
        && let (Some(count), Some(judge)) = (args.agreement, &who.judge)
    {
        judge::again(&dir, judge, &cases.cases, count as usize, &args, &cancel).await?;
    }
    end(&finished, &how, &narrator)
}

/// The labeller that was asked for.
async fn who(
    args: &mut LabelArgs,
    recorded: &[Recorded],
    cancel: &CancellationToken,
    narrator: &Narrator,
) -> Result<Who, Failure> {
    match (args.monte_carlo, args.judge) {
        (Some(rollouts), _) => monte_carlo::who(args, rollouts, recorded, cancel, narrator).await,
        (None, Some(backend)) => judge::who(args, backend, narrator).await,
        (None, None) => Err(Failure::usage(anyhow!(
            "say who labels: --monte-carlo K goes on K times from the state after each decision, --judge WHERE has a \
             stronger model rate it, and --consensus keeps that on which two such runs agree"
        ))),
    }
}

fn prices(args: &LabelArgs) -> Option<Prices> {
    args.usd_in.zip(args.usd_out).map(|(prompt, completion)| Prices { prompt, completion })
}

fn selection(args: &LabelArgs) -> Selection {
    match (args.limit, args.sample) {
        (_, Some(count)) => Selection::Sample { count: count as usize, seed: args.model.seed },
        (Some(count), None) => Selection::First(count as usize),
        (None, None) => Selection::All,
    }
}

/// Of all runs, e.g. `arith/train`.
fn benchmarks(recorded: &[Recorded]) -> String {
    let mut all: Vec<&str> = recorded.iter().map(|run| &*run.info.benchmark).collect();
    all.dedup();
    all.join(", ")
}

fn info(
    args: &LabelArgs,
    recorded: &[Recorded],
    cases: &Cases,
    who: &Who,
    dir: &RunDir,
) -> LabelInfo {
    let (model, settings) = (who.chosen.model.info(), &who.chosen.settings);
    let sampling = &settings.sampling;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    LabelInfo {
        run: name(dir.path()),
        labels: recorded.iter().map(|run| name(&run.path)).collect(),
        benchmarks: recorded.iter().map(|run| run.info.benchmark.clone()).collect(),
        labeller: who.name.clone(),
        model: ModelRecord::from(model),
        sampling: SamplingRecord {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            think: settings.think,
            num_ctx: model.num_ctx,
        },
        trajectories: cases.trajectories,
        failed_trajectories: cases.failed,
        unreadable_steps: cases.unreadable,
        decisions: cases.cases.len() as u64,
        distinct: label::distinct(&cases.cases, &*who.labeller),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("AGENTFLOW_COMMIT").to_owned(),
        prices: prices(args),
    }
}

fn say_what(info: &LabelInfo, watch: &Watch) {
    let LabelInfo { decisions, distinct, trajectories, labeller, .. } = info;
    watch.say(&format!(
        "{labeller}: {decisions} decisions of {trajectories} trajectories, {distinct} to be labelled"
    ));
    for (count, what) in [
        (info.failed_trajectories, "trajectories, for the attempt failed"),
        (info.unreadable_steps, "steps, for no decision could be read"),
    ] {
        if count > 0 {
            watch.say(&format!("left out: {count} {what}"));
        }
    }
}

/// What is to come, where the labeller can tell.
fn say_estimate(left: u64, usage: Usage, args: &LabelArgs, watch: &Watch) {
    if usage == Usage::default() {
        return;
    }
    let Usage { prompt_tokens, completion_tokens } = usage;
    let cost = prices(args).map(|prices| label::dollars(prices, usage));
    let dollars = cost.map_or_else(String::new, |cost| format!(", ${cost:.4}"));
    watch.say(&format!(
        "estimate: {left} ratings, about {prompt_tokens} prompt and {completion_tokens} completion tokens{dollars}"
    ));
    if let (Some(cost), Some(budget)) = (cost, args.budget_usd)
        && cost > budget
    {
        watch.say(&format!("the budget of ${budget} may not reach for all of them"));
    }
}

fn print(report: &LabelReport, json: bool) -> Result<(), Failure> {
    if !json {
        return output::print(|out| table::write(report, out));
    }
    let text = serde_json::to_string_pretty(report).context("cannot serialize the report")?;
    output::print(|out| writeln!(out, "{text}"))
}

fn end(finished: &Finished, how: &str, narrator: &Narrator) -> Result<(), Failure> {
    let tally = &finished.tally;
    match &finished.end {
        End::Complete if tally.failed == 0 => Ok(()),
        End::Complete => {
            let causes = finished.failed_by_cause.keys().cloned().collect::<Vec<_>>().join("; ");
            Err(Failure::work(anyhow!(
                "{} of {} decisions could not be labelled: {causes}; go on with: {how}",
                tally.failed,
                tally.failed + tally.kept()
            )))
        }
        End::Failing { .. } => Err(Failure::work(anyhow!("{}; go on with: {how}", finished.end))),
        End::Interrupted => {
            narrator.notice(&format!("{} decisions are done; go on with: {how}", tally.kept()));
            Err(Failure::Interrupted)
        }
        End::OutOfMoney { .. } => {
            narrator.notice(&format!("{}; go on, with more of it, by: {how}", finished.end));
            Ok(())
        }
    }
}
