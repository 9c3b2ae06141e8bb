//! The state of a run under way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use agentflow_eval::runner::attempt_seed;
use agentflow_eval::{Lines, Problem, RunDir, RunDirError};
use agentflow_model::{Adapter, AdapterTask, Grammar, LoadedModel, Local};
use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::records::{self, Evaluation, Metrics, RolloutMetrics};
use super::tally::Tally;
use super::{Event, Report, RunError, Training};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::curves::Curves;
use crate::dapo::rollout::Group;
use crate::dapo::rollout::credit::{self, Weights};
use crate::dapo::rollout::flow::{self, Flow, Job, Rolled, Setting};
use crate::dapo::{DapoError, Row, Trainer, UpdateMetrics};
use crate::policy::dynamic_sampling::{DropReason, Need, Refill, Signal};

const CHECKPOINTS: &str = "checkpoint";
const BEST: &str = "best";
/// Rollouts in a row without a group to learn from that end a run.
const HOPELESS: u32 = 3;

/// What a checkpoint keeps beside the trainer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    /// Done.
    rollouts: u64,
    /// In the endless row of problems: the next one.
    position: u64,
    /// Rollouts in a row without a group to learn from.
    idle: u32,
    refill: Option<Refill<Group>>,
    problems: String,
    base: String,
}

pub(super) struct Work<'a> {
    training: &'a Training<'a>,
    run: &'a RunDir,
    runtime: tokio::runtime::Runtime,
    flow: Flow,
    trainer: Trainer,
    /// As it was after the last rollout that was learnt from.
    outer: Outer,
    metrics: Curves,
    evaluations: Curves,
    evaluated: Vec<Evaluation>,
    samples: Lines,
    cancel: CancellationToken,
}

impl<'a> Work<'a> {
    /// From the last checkpoint of `run`, or from the beginning.
    pub(super) fn start(
        training: &'a Training<'a>,
        run: &'a RunDir,
        cancel: &CancellationToken,
    ) -> Result<Self, RunError> {
        let Training { config, base, placement, profile, problems, .. } = training;
        let loaded = base.load(placement.dtype, &placement.device)?;
        let adapter = config.model.adapter.as_deref();
        let adapter = adapter.map(|dir| Adapter::open(dir, DType::F32, &placement.device));
        let vocabulary = loaded.model.config().vocab_size;
        let grammar = Grammar::new(loaded.tokenizer.clone(), vocabulary, loaded.stop_ids[0])?;
        let grammar = Some(Arc::new(grammar));
        let mut trainer = Trainer::new(
            &loaded.model,
            adapter.transpose()?.as_ref(),
            grammar,
            config.of_updates(),
        )?;
        let began = Outer {
            rollouts: 0,
            position: 0,
            idle: 0,
            refill: config
                .dynamic_sampling
                .clone()
                .map(|it| Refill::new(it, config.rollout.problems))
                .transpose()?,
            problems: problems.clone(),
            base: loaded.digest.clone(),
        };
        let outer = match trainer.restore(&run.path().join(CHECKPOINTS))? {
            Some(outer) => taken_up(outer, &began, run)?,
            None => began,
        };
        let done = trainer.updates();
        let (metrics, _) =
            Curves::open(run, "metrics.jsonl", "train", done, |it: &Metrics| it.update.update)?;
        let (evaluations, evaluated) =
            Curves::open(run, "evaluations.jsonl", "held_out", done, |it: &Evaluation| it.update)?;
        let (mut samples, mut kept) = run.lines::<Value>("samples.jsonl")?;
        kept.retain(|line| line["update"].as_u64().is_some_and(|update| update <= done));
        samples.restart(&kept)?;
        let setting = Setting {
            max_steps: config.rollout.max_steps,
            max_tokens: u32::try_from(config.sampling.max_tokens).unwrap_or(u32::MAX),
            tool_timeout: config.rollout.tool_timeout,
            sandbox: config.rollout.sandbox,
            concurrency: config.rollout.concurrency,
            max_seconds: config.rollout.max_seconds,
            plain_logprobs: config.sampling.plain_logprobs,
        };
        let policy = LoadedModel { model: trainer.policy().clone(), ..loaded };
        let policy = Local::new(policy, &config.model.base, config.model.num_ctx);
        let flow = Flow::new(policy, *profile, setting, cancel.clone())?;
        let runtime = tokio::runtime::Runtime::new().map_err(RunError::Runtime)?;
        let cancel = cancel.clone();
        Ok(Self {
            training,
            run,
            runtime,
            flow,
            trainer,
            outer,
            metrics,
            evaluations,
            evaluated,
            samples,
            cancel,
        })
    }

    /// Everything that is left to do.
    ///
    /// # Errors
    /// [`RunError::Interrupted`] where it was told to stop; then a checkpoint can be written.
    pub(super) fn all(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        let config = self.training.config;
        loop {
            let done = self.trainer.updates();
            let is_over = done >= config.schedule.updates;
            if self.is_evaluation_due(done, is_over) {
                let evaluation = self.evaluate()?;
                on_event(Event::Evaluated(&evaluation));
            }
            if is_over {
                return Ok(());
            }
            // What was rolled out before an interruption is rolled out again: only whole rollouts count.
            let mut outer = self.outer.clone();
            let (mut groups, metrics) = self.rollout(&mut outer)?;
            on_event(Event::Rolled(&metrics));
            if metrics.missing > 0 {
                let what = if groups.is_empty() {
                    "there is no update"
                } else {
                    "it is learnt from these"
                };
                on_event(Event::Notice(format!(
                    "rollout {}: {} of {} groups carry a signal after {} rounds ({}); {what}",
                    metrics.number,
                    metrics.kept,
                    config.rollout.problems,
                    metrics.rounds,
                    listed(&metrics)
                )));
            }
            if groups.is_empty() {
                outer.idle += 1;
                if outer.idle >= HOPELESS {
                    let dropped = listed(&metrics);
                    return Err(RunError::NoSignal { rollouts: outer.idle, dropped });
                }
                self.outer = outer;
                continue;
            }
            outer.idle = 0;
            self.learn(&mut groups, &metrics, on_event)?;
            self.outer = outer;
            let now = self.trainer.updates();
            let crossed = |every: u64| now / every > done / every;
            if crossed(config.samples.every) || done == 0 {
                self.write_samples(&groups)?;
            }
            if crossed(config.checkpoint.every) {
                self.checkpoint()?;
            }
            if self.cancel.is_cancelled() {
                return Err(RunError::Interrupted);
            }
        }
    }

    fn is_evaluation_due(&self, done: u64, is_over: bool) -> bool {
        let every = self.training.config.eval.every;
        match self.evaluated.last() {
            None => true,
            Some(last) => last.update < done && (is_over || done / every > last.update / every),
        }
    }

    /// Fills a batch with groups, rates them, and gives them advantages.
    fn rollout(&self, outer: &mut Outer) -> Result<(Vec<Group>, RolloutMetrics), RunError> {
        let started = Instant::now();
        // Keys and values of earlier prompts are not those of the weights as they are now.
        self.flow.policy().engine().forget_prefixes()?;
        let config = self.training.config;
        let wanted = config.rollout.problems;
        outer.rollouts += 1;
        let mut tally = Tally::new(outer.rollouts);
        let mut groups = match outer.refill.take() {
            None => {
                let (complete, dropped): (Vec<Group>, Vec<Group>) = self
                    .round(outer, wanted, &mut tally)?
                    .into_iter()
                    .partition(|group| group.attempts.iter().all(|it| it.outcome.is_some()));
                if !dropped.is_empty() {
                    tally.metrics.dropped.insert(DropReason::Incomplete, dropped.len());
                }
                tally.metrics.seen = wanted;
                tally.metrics.rounds = 1;
                complete
            }
            Some(mut refill) => {
                while let Need::Groups(count) = refill.needed() {
                    refill.round();
                    for group in self.round(outer, count, &mut tally)? {
                        let scores = match self.signal() {
                            Signal::Outcome { .. } => group.outcomes(),
                            Signal::Spread { .. } | Signal::PrmError { .. } => {
                                group.first_rewards()
                            }
                        };
                        refill.offer(group.position, &scores, group);
                    }
                }
                let (mut groups, counts) = refill.take();
                for group in groups.iter_mut().take(counts.carried) {
                    freeze(group)?;
                }
                tally.metrics.seen = counts.seen;
                tally.metrics.rounds = counts.rounds;
                tally.metrics.carried = counts.carried;
                tally.metrics.dropped = counts.dropped;
                outer.refill = Some(refill);
                groups
            }
        };
        if let Some(error) = tally.only_failures() {
            return Err(RunError::AllFailed { rollout: outer.rollouts, error });
        }
        let weights = Weights { outcome: config.reward.outcome, prm: config.reward.prm };
        let punishment = config.overlong.soft_punishment;
        credit::assign(&mut groups, &config.advantage, weights, punishment)?;
        let metrics = tally.finish(&groups, wanted, started);
        Ok((groups, metrics))
    }

    fn signal(&self) -> Signal {
        let config = self.training.config.dynamic_sampling.as_ref();
        config.map_or(Signal::Outcome { right: 1.0 }, |config| config.signal)
    }

    /// One round of attempts, at the next `count` problems.
    fn round(
        &self,
        outer: &mut Outer,
        count: usize,
        tally: &mut Tally,
    ) -> Result<Vec<Group>, RunError> {
        let Training { config, pool, profile, prm, .. } = self.training;
        let size = config.rollout.group_size;
        let temperature = config.sampling.temperature;
        let problems = pool.from(outer.position, count);
        let positions = || (outer.position..).zip(&problems);
        let jobs: Vec<Job<'_>> = positions()
            .flat_map(|(position, problem)| {
                let key = format!("{}/{position}/{}", outer.rollouts, problem.id);
                (0..size).map(move |sample| Job {
                    problem,
                    seed: attempt_seed(config.seed, &key, sample),
                })
            })
            .collect();
        let rolled = self.runtime.block_on(self.flow.attempts(&jobs, temperature))?;
        let of_problems = rolled.chunks(size as usize).zip(positions());
        let mut groups: Vec<Group> = of_problems
            .map(|(rolled, (position, problem))| {
                self.flow.group(position, problem, rolled, temperature)
            })
            .collect();
        if let Some(prm) = prm {
            flow::rate(&mut groups, &rolled, *profile, prm, config.reward.length.as_ref())?;
        }
        outer.position += count as u64;
        tally.add(&groups);
        Ok(groups)
    }

    /// The updates of a rollout.
    fn learn(
        &mut self,
        groups: &mut [Group],
        rollout: &RolloutMetrics,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RunError> {
        let config = self.training.config;
        let per_window = groups.len().div_ceil(config.rollout.windows);
        let rows = |groups: &[Group]| -> Vec<Row> {
            groups.iter().flat_map(Group::decisions).map(|it| it.row.clone()).collect()
        };
        let mut windows: Vec<Vec<Row>> =
            groups.chunks(per_window).map(rows).filter(|rows| !rows.is_empty()).collect();
        if windows.iter().flatten().any(|row| row.old_logprobs.is_some()) {
            for rows in &mut windows {
                self.trainer.prepare(rows, true)?;
            }
        }
        let mut written = Ok(());
        let metrics = &mut self.metrics;
        let mut write = |update: &UpdateMetrics| {
            let line = Metrics { rollout: rollout.clone(), update: update.clone() };
            if written.is_ok() {
                written = metrics.append(update.update, &line);
            }
            on_event(Event::Update(&line));
        };
        let learnt = self.trainer.learn(&mut windows, &mut write);
        if let Err(DapoError::Guard(found)) = &learnt
            && let Some(update) = &found.metrics
        {
            write(update);
        }
        learnt?;
        Ok(written?)
    }

    /// Greedy attempts at the held-out problems; keeps the adapter where it is the best so far.
    fn evaluate(&mut self) -> Result<Evaluation, RunError> {
        let started = Instant::now();
        self.flow.policy().engine().forget_prefixes()?;
        let update = self.trainer.updates();
        let problems: &[Problem] = self.training.pool.held_out();
        let jobs: Vec<Job<'_>> = problems.iter().map(|problem| Job { problem, seed: 0 }).collect();
        let rolled = self.runtime.block_on(self.flow.attempts(&jobs, 0.0))?;
        let count = |wanted| rolled.iter().filter(|it| it.outcome == wanted).count();
        let right = count(Some(1.0));
        let calls: usize = rolled.iter().map(Rolled::calls).sum();
        let evaluation = Evaluation {
            update,
            problems: problems.len(),
            right,
            failed: count(None),
            accuracy: right as f64 / problems.len() as f64,
            calls: calls as f64 / problems.len() as f64,
            wall_s: started.elapsed().as_secs_f64(),
        };
        self.evaluated.push(evaluation.clone());
        if best(&self.evaluated, update).is_some_and(|best| best.update == update) {
            self.save_adapter(&self.best_path(update))?;
        }
        self.evaluations.append(update, &evaluation)?;
        Ok(evaluation)
    }

    fn write_samples(&mut self, groups: &[Group]) -> Result<(), RunError> {
        let update = self.trainer.updates();
        for group in groups.iter().take(self.training.config.samples.groups) {
            for attempt in &group.attempts {
                self.samples.append(&records::sample(update, group, attempt))?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint of what was learnt from whole rollouts.
    pub(super) fn checkpoint(&mut self) -> Result<(), RunError> {
        let config = self.training.config;
        let root = self.run.path().join(CHECKPOINTS);
        let outer = serde_json::to_value(&self.outer).expect("a state is plain JSON");
        self.trainer.save(&root, config.checkpoint.keep, &config.model.base, &outer)?;
        self.samples.sync()?;
        // The best adapter at each checkpoint is needed to go on from there; all others are not.
        let kept: Vec<u64> = Checkpoint::all(&root).iter().map(|it| it.update).collect();
        let needed: Vec<PathBuf> = kept
            .into_iter()
            .filter_map(|update| best(&self.evaluated, update))
            .map(|best| self.best_path(best.update))
            .collect();
        let Ok(entries) = std::fs::read_dir(self.run.path().join(BEST)) else { return Ok(()) };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if !needed.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Leaves the adapter of the best evaluation in `<run>/adapter`, and the last one in `<run>/last`.
    pub(super) fn finish(mut self) -> Result<Report, RunError> {
        self.checkpoint()?;
        let updates = self.trainer.updates();
        self.save_adapter(&self.run.path().join("last"))?;
        let missing = "the adapter is evaluated before the first update";
        let best = best(&self.evaluated, updates).expect(missing).clone();
        let first = self.evaluated.first().expect(missing).clone();
        let (from, to) = (self.best_path(best.update), self.run.path().join("adapter"));
        let adapter = Adapter::open(&from, DType::F32, &self.training.placement.device)?;
        replace(&to, |dir| {
            Ok(adapter.save(dir, &self.training.config.model.base, AdapterTask::CausalLm)?)
        })?;
        Ok(Report { updates, first, best })
    }

    fn save_adapter(&self, to: &Path) -> Result<(), RunError> {
        let base = &self.training.config.model.base;
        replace(to, |dir| Ok(self.trainer.save_adapter(dir, base)?))
    }

    fn best_path(&self, update: u64) -> PathBuf {
        self.run.path().join(BEST).join(format!("update-{update:06}"))
    }
}

/// The evaluation with the most right answers up to `update`; the first of several.
fn best(evaluated: &[Evaluation], update: u64) -> Option<&Evaluation> {
    let until = evaluated.iter().filter(|it| it.update <= update);
    until.reduce(|best, it| if it.right > best.right { it } else { best })
}

/// What a checkpoint says, of a run that goes on with the same problems and base.
fn taken_up(outer: Value, began: &Outer, run: &RunDir) -> Result<Outer, RunError> {
    let path = run.path().join(CHECKPOINTS);
    let outer: Outer = serde_json::from_value(outer)
        .map_err(|e| CheckpointError::Unusable { path, problem: e.to_string() })?;
    if outer.problems != began.problems {
        return Err(RunError::Changed { what: "set of problems" });
    }
    if outer.base != began.base {
        return Err(RunError::Changed { what: "base model" });
    }
    Ok(outer)
}

/// Rows of an earlier rollout are compared with the policy that sampled them.
fn freeze(group: &mut Group) -> Result<(), RunError> {
    for decided in group.decisions_mut() {
        let sampled = decided.row.sampled_logprobs.clone();
        decided.row.old_logprobs = Some(sampled.ok_or(RunError::NoSampledLogprobs)?);
    }
    Ok(())
}

/// Why groups were dropped, e.g. `5 all_right, 1 all_wrong`.
fn listed(metrics: &RolloutMetrics) -> String {
    let reasons = metrics.dropped.iter().map(|(reason, count)| {
        let reason = serde_json::to_value(reason).unwrap_or_default();
        format!("{count} {}", reason.as_str().unwrap_or_default())
    });
    let reasons: Vec<String> = reasons.collect();
    if reasons.is_empty() { "none dropped".to_owned() } else { reasons.join(", ") }
}

/// Fills a directory beside `to`, and puts it there whole.
fn replace(to: &Path, fill: impl FnOnce(&Path) -> Result<(), RunError>) -> Result<(), RunError> {
    let beside = to.with_extension("tmp");
    if beside.exists() {
        remove(&beside)?;
    }
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| RunDirError::Io { action, path, source }
    };
    std::fs::create_dir_all(&beside).map_err(io("create", &beside))?;
    fill(&beside)?;
    if to.exists() {
        remove(to)?;
    }
    Ok(std::fs::rename(&beside, to).map_err(io("rename to", to))?)
}

fn remove(path: &Path) -> Result<(), RunError> {
    Ok(std::fs::remove_dir_all(path).map_err(|source| RunDirError::Io {
        action: "remove",
        path: path.to_owned(),
        source,
    })?)
}
