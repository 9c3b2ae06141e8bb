//! `agentflow eval`: problems through the real agent loop, scored; so far of the arithmetic benchmark only.

mod list;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Event, SolveError, Trajectory};
use agentflow_eval::RunDir;
use agentflow_eval::arith::{self, Problem};
use anyhow::{Context, anyhow};
use futures::StreamExt;
use serde::Serialize;

use crate::Failure;
use crate::arguments::{EvalRunArgs, ProblemsArgs};
use crate::narrate::Narrator;
use crate::progress::Progress;
use crate::run_record::RunRecord;
use crate::{backend, interrupt, output, solve};

pub(crate) use list::list;

/// `agentflow eval problems`: one JSON object a line.
pub(crate) fn problems(args: &ProblemsArgs) -> Result<(), Failure> {
    output::print(|out| {
        (0..args.limit).try_for_each(|index| {
            let problem = arith::problem(args.seed, args.split, index);
            writeln!(out, "{}", serde_json::to_string(&problem)?)
        })
    })
}

/// What a run measured.
#[derive(Debug, Serialize)]
struct Report {
    benchmark: String,
    split: String,
    problem_seed: u64,
    model: String,
    digest: Option<String>,
    all: Score,
    levels: BTreeMap<u8, Score>,
    families: BTreeMap<String, Score>,
    wall_s: f64,
}

/// Right answers of how many.
#[derive(Debug, Default, Clone, Serialize)]
struct Score {
    correct: u64,
    problems: u64,
}

impl Score {
    fn add(&mut self, correct: bool) {
        self.problems += 1;
        self.correct += u64::from(correct);
    }

    /// Percent correct with its 95 % Wilson interval (Wilson 1927).
    fn percent(&self) -> (f64, f64, f64) {
        let (n, p) =
            (self.problems.max(1) as f64, self.correct as f64 / self.problems.max(1) as f64);
        let z = 1.959_964_f64;
        let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        (100.0 * p, 100.0 * (centre - half).max(0.0), 100.0 * (centre + half).min(1.0))
    }
}

pub(crate) fn run(args: EvalRunArgs) -> Result<(), Failure> {
    if args.benchmark != "arith" {
        return Err(Failure::usage(anyhow!(
            "unknown benchmark `{}`; this version has `arith`",
            args.benchmark
        )));
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(measure(args))
}

async fn measure(args: EvalRunArgs) -> Result<(), Failure> {
    let cancel = interrupt::on_ctrl_c();
    let narrator = Narrator::new(false);
    let chosen = tokio::select! {
        chosen = backend::choose(&args.model, &narrator) => chosen?,
        () = cancel.cancelled() => return Err(Failure::Interrupted),
    };
    let record = RunRecord::new(args.model.seed, "cpu", &args).to_toml()?;
    let run = RunDir::create(&args.runs, "eval", &record).map_err(Failure::work)?;
    let mut progress = Progress::new(args.limit, "problems");
    progress.say(&format!("run {}", run.path().display()));
    let (mut lines, _) =
        run.lines::<serde_json::Value>("trajectories.jsonl").map_err(Failure::work)?;

    let started = Instant::now();
    // Each attempt in flight has an executor of its own: a sandbox runs one call at a time.
    let executors: VecDeque<_> = (0..args.concurrency)
        .map(|_| Ok(Arc::new(Mutex::new(solve::executor(&args.agent)?))))
        .collect::<Result<_, Failure>>()?;
    let free = Mutex::new(executors);
    let free = &free;
    let (chosen, agent, cancel, narrator) = (&chosen, &args.agent, &cancel, &narrator);
    let mut attempts = futures::stream::iter(0..args.limit)
        .map(|index| async move {
            let problem = arith::problem(args.problem_seed, args.split, index);
            let executor = lock(free).pop_front().expect("one executor for each attempt in flight");
            let solver = solve::solver(chosen, executor.clone(), agent, cancel.clone());
            let mut warn = |event: Event| {
                if let Event::Warning { text } = event {
                    narrator.warning(&format!("`{}`: {text}", problem.id));
                }
            };
            let solved = solver.solve(&problem.id, &problem.question, &mut warn).await;
            lock(free).push_back(executor);
            (problem, solved)
        })
        .buffered(args.concurrency as usize);

    let info = chosen.model.info();
    let mut report = Report {
        benchmark: args.benchmark.clone(),
        split: args.split.to_string(),
        problem_seed: args.problem_seed,
        model: format!("{} ({})", info.name, info.backend),
        digest: info.digest.clone(),
        all: Score::default(),
        levels: BTreeMap::new(),
        families: BTreeMap::new(),
        wall_s: 0.0,
    };
    while let Some((problem, solved)) = attempts.next().await {
        let trajectory = match solved {
            Ok(trajectory) => scored(&problem, trajectory, &args.benchmark),
            Err(SolveError::Interrupted) => return Err(Failure::Interrupted),
            Err(other) => return Err(Failure::work(other)),
        };
        lines.append(&trajectory).map_err(Failure::work)?;
        if trajectory.stop == Stop::Failed {
            let error = trajectory.error.unwrap_or_default();
            return Err(Failure::work(anyhow!("`{}` failed: {error}", problem.id)));
        }
        let correct = trajectory.score == Some(1.0);
        report.all.add(correct);
        report.levels.entry(problem.level).or_default().add(correct);
        report.families.entry(problem.family).or_default().add(correct);
        let Score { correct, problems } = report.all;
        progress.update(problems, format!("{correct} right"));
    }
    progress.finish();
    report.wall_s = started.elapsed().as_secs_f64();
    let json = serde_json::to_vec_pretty(&report).context("cannot serialize the report")?;
    run.write("report.json", &json).map_err(Failure::work)?;
    print(&report, args.json)
}

fn scored(problem: &Problem, mut trajectory: Trajectory, benchmark: &str) -> Trajectory {
    let correct = trajectory.answer.as_deref().and_then(|answer| answer.parse::<i64>().ok())
        == Some(problem.answer);
    trajectory.gold = Some(problem.answer.to_string());
    trajectory.benchmark = Some(format!("{benchmark}/{}", problem.split));
    trajectory.problem_id = Some(problem.id.clone());
    trajectory.score = Some(f64::from(u8::from(correct)));
    trajectory
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if !json {
        return output::print(|out| table(report, out));
    }
    let text = serde_json::to_string_pretty(report).context("cannot serialize the report")?;
    output::print(|out| writeln!(out, "{text}"))
}

fn table(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{} {} (problem seed {}), {}",
        report.benchmark, report.split, report.problem_seed, report.model
    )?;
    let mut row = |name: &str, score: &Score| {
        let (percent, low, high) = score.percent();
        writeln!(
            out,
            "{name:<10} {:>5}/{:<5} {percent:>6.1} %  [{low:.1}, {high:.1}]",
            score.correct, score.problems
        )
    };
    row("all", &report.all)?;
    for (level, score) in &report.levels {
        row(&format!("level {level}"), score)?;
    }
    writeln!(out, "figure arith.{} {:.1} %", report.split, report.all.percent().0)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
