//! One run of `agentflow eval` or `agentflow train collect`, new or taken up again.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_agent::trajectory::{ModelRecord, SamplingRecord};
use agentflow_eval::benchmark::{self, FileKeys, Loaded, Options, Role, Selection, Source};
use agentflow_eval::runner::{self, End, Finished, Limits, Plan, Record};
use agentflow_eval::statistics::detectable_difference;
use agentflow_eval::{
    Dataset, INFO_FILE, Prices, Report, RunDir, RunInfo, same_answer, write_reports,
};
use agentflow_llm::PoolConfig;
use agentflow_model::hub::HubSettings;
use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use super::Purpose;
use super::kept::{self, Kept};
use super::measured::{Measured, label};
use super::watch::Watch;
use super::{table, watch};
use crate::Failure;
use crate::arguments::EvalRunArgs;
use crate::backend::{self, Chosen};
use crate::narrate::Narrator;
use crate::progress::Progress;
use crate::run_record::RunRecord;
use crate::{interrupt, output, solve};

/// A server that is started anew, with a large model to load, is waited for this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The share of questions that flip between two runs, for what a run can see: between the extremes that were seen, see
/// docs/eval.md.
const USUAL_FLIP_RATE: f64 = 0.3;

pub(crate) fn run(args: EvalRunArgs, purpose: Purpose) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(measure(args, purpose))
}

async fn measure(args: EvalRunArgs, purpose: Purpose) -> Result<(), Failure> {
    let cancel = interrupt::on_ctrl_c();
    let narrator = Narrator::new(false);
    let (taken_up, args) = match args.resume.clone() {
        Some(path) => {
            let (dir, args, record) = kept::take_up(&path, purpose.kind(), args)?;
            (Some((dir, record)), args)
        }
        None => (None, kept::with_whole_paths(args)),
    };
    let (loaded, chosen) = tokio::select! {
        both = prepare(&args, purpose, &narrator) => both?,
        () = cancel.cancelled() => return Err(Failure::Interrupted),
    };
    let executors = (0..args.concurrency)
        .map(|_| solve::executor(&args.agent))
        .collect::<Result<Vec<_>, _>>()?;
    let level = executors[0].sandbox().report().level.to_string();
    let measured = Measured::of(&args, &loaded, &chosen, &level);
    say_what(&args, purpose, &loaded, &narrator);
    if args.dry_run {
        return output::print(|out| measured.lines().try_for_each(|line| writeln!(out, "{line}")));
    }
    let dir = match taken_up {
        Some((dir, record)) => {
            measured.check(&record.config.measured, dir.path())?;
            say_version(&record, &narrator);
            dir
        }
        None => {
            let (kind, seed) = (purpose.kind(), args.model.seed);
            let kept = Kept::new(&args, &measured, &loaded)?;
            let record = RunRecord::new(kind, seed, chosen.placement.as_ref(), kept).to_toml()?;
            RunDir::create(&args.runs, kind, &record).map_err(Failure::work)?
        }
    };
    let info = info(&args, &loaded, &chosen, &dir);
    let text = serde_json::to_vec_pretty(&info).context("cannot serialize what is measured")?;
    dir.write(INFO_FILE, &text).map_err(Failure::work)?;
    let record = Record::open(&dir, args.keep_failures).map_err(Failure::work)?;
    let earlier = record.earlier_wall();
    let mut watch = Watch::new(info.problems * u64::from(info.repeats), record.tally());
    watch.say(&format!("run {}", dir.path().display()));
    say_on_cancel(&cancel);

    // A pattern: each attempt has one of `executors`.
    let executor = Arc::new(Mutex::new(solve::executor(&args.agent)?));
    let solver = solve::solver(&chosen, executor, &args.agent, cancel);
    let plan = plan(&args, loaded, &info);
    let on_event = &mut |event| watch.event(event);
    let finished = runner::run(&dir, record, plan, solver, executors, on_event).await;
    watch.finish();
    let how = resume_command(purpose, dir.path());
    let finished = finished.map_err(|error| {
        Failure::work(anyhow!(error).context(format!("the run stopped; go on with: {how}")))
    })?;
    let wall = earlier.map(|earlier| (earlier + finished.wall).as_secs_f64());
    let report = write_reports(dir.path(), &info, wall, &same_answer).map_err(Failure::work)?;
    // Of a run that was interrupted, standard output has no result.
    if finished.end != End::Interrupted {
        print(&report, &args)?;
    }
    narrator.notice(&format!("reports: {}/report.{{html,md,json}}", dir.path().display()));
    end(finished, &how, &narrator)
}

/// The problems and the model. A mistake in either is found before the other takes its time.
async fn prepare(
    args: &EvalRunArgs,
    purpose: Purpose,
    narrator: &Narrator,
) -> Result<(Loaded, Chosen), Failure> {
    purpose.check_name(&args.benchmark)?;
    let mut loaded = load(args).await?;
    purpose.check(&args.benchmark, &mut loaded)?;
    let pool = PoolConfig { patience: PATIENCE, ..PoolConfig::new(args.concurrency as usize) };
    let chosen = backend::choose(&args.model, pool, narrator).await?;
    Ok((loaded, chosen))
}

async fn load(args: &EvalRunArgs) -> Result<Loaded, Failure> {
    let source: Source = args.benchmark.parse().map_err(Failure::usage)?;
    let seed = args.model.seed;
    let options = Options {
        keys: FileKeys {
            question: args.question_key.clone(),
            answer: args.answer_key.clone(),
            id: args.id_key.clone(),
        },
        selection: match (args.limit, args.sample) {
            (_, Some(count)) => Selection::Sample { count: count as usize, seed },
            (Some(count), None) => Selection::First(count as usize),
            (None, None) => Selection::All,
        },
        shuffle_seed: seed,
        split: args.split,
        problem_seed: args.problem_seed,
    };
    let hub = HubSettings::from_variables(|variable| std::env::var(variable).ok());
    let mut fetching: Option<Progress> = None;
    let loaded = benchmark::load(&source, &options, &hub, &mut |so_far| {
        const KILOBYTE: u64 = 1000;
        let progress =
            fetching.get_or_insert_with(|| Progress::new(so_far.total.div_ceil(KILOBYTE), "kB"));
        progress.update(so_far.bytes / KILOBYTE, so_far.file.to_owned());
    })
    .await;
    if let Some(progress) = fetching {
        progress.finish();
    }
    let loaded = loaded.map_err(Failure::work)?;
    if loaded.problems.is_empty() {
        return Err(Failure::usage(anyhow!("`{}` has no problems to run", args.benchmark)));
    }
    Ok(loaded)
}

fn info(args: &EvalRunArgs, loaded: &Loaded, chosen: &Chosen, dir: &RunDir) -> RunInfo {
    let (model, sampling) = (chosen.model.info(), &chosen.settings.sampling);
    let name = dir.path().file_name().unwrap_or_default();
    let dataset = loaded.dataset.revision.is_some().then(|| Dataset {
        id: loaded.dataset.id.clone(),
        revision: loaded.dataset.revision.clone(),
        split: None,
    });
    RunInfo {
        run: name.to_string_lossy().into_owned(),
        benchmark: label(loaded),
        dataset,
        model: ModelRecord::from(model),
        sampling: SamplingRecord {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            think: chosen.settings.think,
            num_ctx: model.num_ctx,
        },
        prompts: chosen.profile.version().to_owned(),
        max_steps: args.agent.max_steps,
        problems: loaded.problems.len() as u64,
        repeats: args.repeats,
        choices_seed: loaded.shuffle_seed,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("AGENTFLOW_COMMIT").to_owned(),
        prices: prices(args),
    }
}

fn prices(args: &EvalRunArgs) -> Option<Prices> {
    args.usd_in.zip(args.usd_out).map(|(prompt, completion)| Prices { prompt, completion })
}

fn plan(args: &EvalRunArgs, loaded: Loaded, info: &RunInfo) -> Plan {
    Plan {
        benchmark: info.benchmark.clone(),
        problems: loaded.problems,
        repeats: args.repeats,
        seed: args.model.seed,
        concurrency: args.concurrency as usize,
        retries: args.retries,
        limits: Limits {
            max_tokens: args.max_tokens_total,
            max_usd: args.max_usd.zip(prices(args)),
            max_time: args.max_time.map(Duration::from_secs_f64),
            fail_fast: args.fail_fast,
        },
    }
}

/// What is measured on, and what the measurement can see.
fn say_what(args: &EvalRunArgs, purpose: Purpose, loaded: &Loaded, narrator: &Narrator) {
    let (count, available) = (loaded.problems.len(), loaded.available);
    let of = if count < available { format!(" of {available}") } else { String::new() };
    narrator.notice(&format!("benchmark: {}, {count}{of} problems", label(loaded)));
    for (why, count) in &loaded.left_out {
        narrator.notice(&format!("left out: {count} rows, {why}"));
    }
    if let Some(overlap) = &loaded.overlap {
        overlap.to_string().lines().for_each(|line| narrator.notice(line));
    }
    let measures = purpose == Purpose::Measure;
    if measures && loaded.role == Role::Train {
        narrator
            .warning("this is training data: what a model trained on it gets here says nothing");
    }
    if let Some(points) = detectable_difference(count, USUAL_FLIP_RATE).filter(|_| measures) {
        let fewer = if args.repeats > 1 { ", fewer with the repeats" } else { "" };
        narrator.notice(&format!(
            "power: another run of these {count} questions has to differ by about {:.0} points to be told apart{fewer}",
            100.0 * points
        ));
    }
    if args.repeats > 1 && args.model.temperature == 0.0 {
        narrator.warning(
            "at temperature 0 every attempt at a problem is the same; give the repeats a --temperature",
        );
    }
}

/// A change of the program may change what it computes; nobody but a person can know.
pub(crate) fn say_version<C>(record: &RunRecord<C>, narrator: &Narrator) {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("AGENTFLOW_COMMIT"));
    if (record.version.as_str(), record.commit.as_str()) != (version, commit) {
        narrator.warning(&format!(
            "the run was begun by version {} ({}), and is gone on with by {version} ({commit})",
            record.version, record.commit
        ));
    }
}

pub(crate) fn say_on_cancel(cancel: &CancellationToken) {
    let cancel = cancel.clone();
    tokio::spawn(async move {
        cancel.cancelled().await;
        Narrator::new(false)
            .notice("ending, and writing the report of what there is; ctrl-c again ends at once");
    });
}

fn print(report: &Report, args: &EvalRunArgs) -> Result<(), Failure> {
    if !args.json {
        return output::print(|out| table::write(report, out));
    }
    let text = serde_json::to_string_pretty(report).context("cannot serialize the report")?;
    output::print(|out| writeln!(out, "{text}"))
}

fn end(finished: Finished, how: &str, narrator: &Narrator) -> Result<(), Failure> {
    let tally = finished.tally;
    match finished.end {
        // A benchmark where nothing could be attempted was not measured.
        End::Complete if tally.failed == tally.done() => {
            let error = finished.last_failure.unwrap_or_default();
            return Err(Failure::work(anyhow!("every attempt failed: {error}; go on with: {how}")));
        }
        End::Complete => return Ok(()),
        End::FailFast { .. } | End::Failing { .. } => {
            return Err(Failure::work(anyhow!("{}; go on with: {how}", finished.end)));
        }
        End::Interrupted => {
            let so_far = watch::accuracy(&tally);
            narrator.notice(&format!("{so_far} of {} attempts; go on with: {how}", tally.done()));
            return Err(Failure::Interrupted);
        }
        End::OutOfTokens { .. } | End::OutOfMoney { .. } | End::OutOfTime { .. } => {}
    }
    narrator.notice(&format!("{}; go on, with more of it, by: {how}", finished.end));
    Ok(())
}

fn resume_command(purpose: Purpose, run: &Path) -> String {
    format!("{} --resume {}", purpose.command(), run.display())
}
