//! Training a process reward model (PRM): `agentflow train prm --config configs/tiny/prm.toml`.
//!
//! A PRM reads a question, the decisions so far and one more, and says how good that one is. It is a decoder with one linear
//! output on the last token, trained by the mean squared error on step labels. One update: the next batch of a shuffled
//! epoch -> scores -> squared errors -> clipped gradients -> AdamW. Now and then it is measured on problems that were held
//! out; the weights with the smallest squared error there are the result.
//!
//! Everything is decided by the configuration and the labels, so a resumed run computes what the uninterrupted one would have,
//! on the processor to the last bit.
//!
//! Left out on purpose: dropout, label smoothing, a sigmoid on the output (HF's regression head has none; the reward clamps).

mod base;
mod config;
mod data;
mod error;
mod files;
#[cfg(test)]
mod golden;
mod measure;
mod model;
mod report;
mod text;
mod update;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use agentflow_eval::{RunDir, RunDirError};
use agentflow_model::{Adapter, AdapterTask, Config, ModelError, ModelFiles, Placement};
use candle_core::{DType, Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use config::{ConfigError, PrmConfig};
pub use data::DataSummary;
pub use error::PrmError;
pub use files::About;
pub use measure::{Bin, Measured};
pub use model::Prm;
pub use report::Report;
pub use text::Encoded;

use crate::adamw::AdamW;
use crate::checkpoint::{Checkpoint, CheckpointError, load_variables, save_variables};
use crate::curves::Curves;
use data::{Data, Example};
use measure::{Scored, measure};
use text::TRUNCATION_SIDE;
use update::{Computed, Trained};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Counts from 1: the updates done.
    pub update: u64,
    /// Mean squared error over the batch.
    pub loss: f64,
    /// Mean absolute error over the batch.
    pub mae: f64,
    pub lr: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub samples: usize,
    pub tokens: usize,
    /// Texts that lost their beginning.
    pub truncated: usize,
    /// Parts that the batch was computed in.
    pub parts: usize,
    pub samples_per_s: f64,
    pub wall_s: f64,
}

/// One line of `evaluations.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The updates done.
    pub update: u64,
    #[serde(flatten)]
    pub measured: Measured,
    pub wall_s: f64,
}

/// What training tells while it goes on.
pub enum Event<'a> {
    Update(&'a Metrics),
    Evaluated(&'a Evaluation),
}

/// A run that can begin: everything that can be wrong with its input has been looked at.
pub struct Training<'a> {
    config: &'a PrmConfig,
    base: &'a ModelFiles,
    placement: &'a Placement,
    decoder: Config,
    data: Data,
}

impl<'a> Training<'a> {
    /// Reads the base's configuration and tokenizer, and the labels.
    ///
    /// # Errors
    /// See [`PrmError`]; nothing has been written then.
    pub fn prepare(
        config: &'a PrmConfig,
        base: &'a ModelFiles,
        placement: &'a Placement,
    ) -> Result<Self, PrmError> {
        config.check()?;
        if placement.dtype == DType::F16 {
            return Err(PrmError::HalfPrecision);
        }
        let manifest = base.manifest()?;
        files::pad_id(base)?;
        let context = manifest.config.max_position_embeddings;
        if config.model.max_length > context {
            let wanted = format!("{} reads at most {context} tokens", base.place());
            return Err(
                ConfigError::new("model.max_length", config.model.max_length, wanted).into()
            );
        }
        let data = Data::read(config, &manifest.tokenizer)?;
        Ok(Self { config, base, placement, decoder: manifest.config, data })
    }

    pub fn data(&self) -> &DataSummary {
        &self.data.summary
    }

    /// Trains to the end of the schedule, or until the held-out error falls no more, or until `on_event` returns false; then
    /// the run can be resumed.
    ///
    /// Gives the report, whose model is in `<run>/model`, or `None` where it was interrupted.
    ///
    /// # Errors
    /// See [`PrmError`]; what was trained so far is in the last checkpoint.
    pub fn run(
        &self,
        run: &RunDir,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<Option<Report>, PrmError> {
        self.check_labels(run)?;
        let PrmConfig { schedule, optimizer, batch, .. } = self.config;
        let mut trainer = Trainer::start(self, run)?;
        let mut go_on = true;
        while trainer.done < schedule.updates && !trainer.is_over() {
            if !go_on {
                trainer.checkpoint()?;
                return Ok(None);
            }
            let started = Instant::now();
            let update = trainer.done + 1;
            let lr = optimizer.lr * schedule.factor(update - 1);
            let examples = self.batch(update - 1);
            let computed = trainer.trained.gradients(&examples, batch)?;
            trainer.check_scores(&computed, &examples)?;
            let grad_norm = trainer.optimizer.update(&computed.gradients, lr)?;
            trainer.check_norm(grad_norm)?;
            trainer.trained.refresh()?;
            trainer.done = update;
            let metrics = metrics(update, lr, grad_norm, &examples, &computed, started);
            trainer.metrics.append(update, &metrics)?;
            go_on = on_event(Event::Update(&metrics));
            if update.is_multiple_of(self.config.eval.every) || update == schedule.updates {
                let evaluation = trainer.evaluate()?;
                go_on &= on_event(Event::Evaluated(&evaluation));
            }
            if update.is_multiple_of(self.config.checkpoint.every) {
                trainer.checkpoint()?;
            }
        }
        trainer.finish().map(Some)
    }

    /// A run that goes on must read what it began with.
    fn check_labels(&self, run: &RunDir) -> Result<(), PrmError> {
        let path = run.path().join(DATA_FILE);
        let Ok(text) = std::fs::read_to_string(&path) else {
            let summary =
                serde_json::to_value(&self.data.summary).expect("plain numbers and texts");
            return Ok(run.write(DATA_FILE, format!("{summary:#}\n").as_bytes())?);
        };
        let then: DataSummary = serde_json::from_str(&text)
            .map_err(|e| ModelError::Invalid { path, problem: e.to_string() })?;
        let now = &self.data.summary;
        if *now == then {
            return Ok(());
        }
        let told = |it: &DataSummary| {
            format!(
                "{} decisions, {}",
                it.train_decisions + it.held_out_decisions,
                it.digest.get(..15).unwrap_or_default()
            )
        };
        Err(PrmError::LabelsChanged { now: told(now), then: told(&then) })
    }

    /// The examples of update `update`, which counts from 0: the next ones of an endless row of epochs, each shuffled anew.
    fn batch(&self, update: u64) -> Vec<&Example> {
        let (samples, all) = (self.config.batch.samples as u64, self.data.train.len() as u64);
        let mut epoch: Option<(u64, Vec<usize>)> = None;
        (update * samples..(update + 1) * samples)
            .map(|at| {
                let order = match &mut epoch {
                    Some((number, order)) if *number == at / all => order,
                    other => &mut other.insert((at / all, self.epoch(at / all))).1,
                };
                &self.data.train[order[(at % all) as usize]]
            })
            .collect()
    }

    fn epoch(&self, number: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(number + 1); // stream 0 makes the head
        let mut order: Vec<usize> = (0..self.data.train.len()).collect();
        order.shuffle(&mut rng);
        order
    }
}

/// What a run read, kept in its directory.
const DATA_FILE: &str = "data.json";
/// The folder of a run directory with the weights that were best so far.
const BEST: &str = "best";

/// The state of a run under way.
struct Trainer<'a> {
    training: &'a Training<'a>,
    run: &'a RunDir,
    trained: Trained,
    optimizer: AdamW,
    metrics: Curves,
    evaluations: Curves,
    /// All so far.
    evaluated: Vec<Evaluation>,
    mean_label: f64,
    /// Updates done.
    done: u64,
}

impl<'a> Trainer<'a> {
    /// From the last checkpoint of `run`, or from the beginning.
    fn start(training: &'a Training<'a>, run: &'a RunDir) -> Result<Self, PrmError> {
        let Training { config, base, placement, decoder, data } = training;
        let mut decoder = decoder.clone();
        decoder.tie_word_embeddings = true; // there is no head for tokens
        let (dtype, device, workers) = (placement.dtype, &placement.device, config.batch.workers);
        let trained = match &config.lora {
            None => {
                let tensors = base::tensors(base, &decoder, config.seed, DType::F32, device)?;
                Trained::whole(&decoder, tensors, dtype, workers)?
            }
            Some(lora) => {
                let tensors = base::tensors(base, &decoder, config.seed, dtype, device)?;
                let adapter = Adapter::init(&decoder, lora, config.seed, DType::F32, device)?;
                Trained::adapted(&decoder, tensors, adapter, dtype, workers)?
            }
        };
        let mut optimizer = AdamW::new(config.optimizer.clone(), &trained.masters)?;
        let mut done = 0;
        if let Some(checkpoint) = Checkpoint::latest(&run.path().join("checkpoint")) {
            checkpoint.restore(&trained.masters, &mut optimizer)?;
            trained.refresh()?;
            done = checkpoint.update;
        }
        let (metrics, _) =
            Curves::open(run, "metrics.jsonl", "train", done, |line: &Metrics| line.update)?;
        let (evaluations, evaluated) =
            Curves::open(run, "evaluations.jsonl", "held_out", done, |line: &Evaluation| {
                line.update
            })?;
        let mean_label = data.mean_label();
        Ok(Self {
            training,
            run,
            trained,
            optimizer,
            metrics,
            evaluations,
            evaluated,
            mean_label,
            done,
        })
    }

    /// Measures the held-out decisions, and keeps the weights where they are the best so far.
    fn evaluate(&mut self) -> Result<Evaluation, PrmError> {
        let started = Instant::now();
        let held_out = &self.training.data.held_out;
        let texts: Vec<&[u32]> = held_out.iter().map(|example| example.ids.as_slice()).collect();
        let scores = model::scores(&self.trained.model, self.trained.head(), &texts)?;
        let scored: Vec<Scored> = held_out
            .iter()
            .zip(scores)
            .map(|(example, score)| Scored {
                score: f64::from(score),
                label: f64::from(example.label),
                problem: example.problem,
                state: example.state,
                last: example.last,
                length: example.ids.len(),
            })
            .collect();
        let measured = measure(&scored, self.mean_label);
        if !measured.mse.is_finite() {
            let place = "on the held-out decisions".to_owned();
            return Err(self.diverged("error", self.done, place));
        }
        let wall_s = started.elapsed().as_secs_f64();
        let evaluation = Evaluation { update: self.done, measured, wall_s };
        self.evaluated.push(evaluation.clone());
        if best(&self.evaluated, self.done).is_some_and(|best| best.update == self.done) {
            let path = best_path(self.run, self.done);
            let folder = self.run.path().join(BEST);
            std::fs::create_dir_all(&folder).map_err(|source| RunDirError::Io {
                action: "create",
                path: folder,
                source,
            })?;
            save_variables(&self.trained.masters, &path)?;
        }
        self.evaluations.append(self.done, &evaluation)?;
        Ok(evaluation)
    }

    /// Whether the last evaluations were no better than one before, as often in a row as is waited for.
    fn is_over(&self) -> bool {
        let Some(best) = best(&self.evaluated, self.done) else { return false };
        let since = self.evaluated.iter().filter(|it| it.update > best.update).count() as u64;
        since >= self.training.config.eval.patience
    }

    fn checkpoint(&self) -> Result<(), PrmError> {
        let (root, keep) =
            (self.run.path().join("checkpoint"), self.training.config.checkpoint.keep);
        Checkpoint::write(&root, self.done, &self.trained.masters, &self.optimizer, keep)?;
        // The best weights at each checkpoint are needed to go on from there; all others are not.
        let best_at =
            |update| best(&self.evaluated, update).map(|best| best_path(self.run, best.update));
        let kept = Checkpoint::all(&root).iter().map(|it| it.update).collect::<Vec<u64>>();
        let needed: Vec<PathBuf> = kept.into_iter().filter_map(best_at).collect();
        let Ok(entries) = std::fs::read_dir(self.run.path().join(BEST)) else { return Ok(()) };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if !needed.contains(&path) {
                std::fs::remove_file(&path).map_err(|source| RunDirError::Io {
                    action: "remove",
                    path,
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Writes the model of the best evaluation, and the report.
    fn finish(&self) -> Result<Report, PrmError> {
        let Training { config, base, data, .. } = self.training;
        if !self.done.is_multiple_of(config.checkpoint.every) {
            self.checkpoint()?;
        }
        let best = best(&self.evaluated, self.done).expect("the last update is evaluated");
        let path = best_path(self.run, best.update);
        load_variables(&self.trained.masters, &path)
            .map_err(|problem| CheckpointError::Unusable { path, problem })?;
        let measured = &best.measured;
        let about = About {
            prm_prompt: Some(data.summary.prm_prompt.clone()),
            max_length: Some(config.model.max_length),
            truncation_side: Some(TRUNCATION_SIDE.to_owned()),
            base: Some(config.model.base.clone()),
            labels: Some(data.summary.digest.clone()),
            update: Some(best.update),
            held_out_mae: Some(measured.mae),
            baseline_mae: Some(measured.baseline_mae),
            pairwise_accuracy: measured.pairwise_accuracy,
        };
        let model = self.run.path().join("model");
        files::save(base, &self.training.decoder, &self.tensors()?, &about, &model)?;
        if let Some(adapter) = &self.trained.adapter {
            let task = AdapterTask::SequenceClassification { score: Some(self.trained.head()) };
            let dir = self.run.path().join("adapter");
            adapter.save(&dir, &config.model.base, task)?;
            files::save_about(&about, &dir)?;
        }
        let report = Report::new(self.training, self.done, best, &self.evaluated);
        report.write(self.run)?;
        Ok(report)
    }

    /// All weights in f32, with what was trained: an adapter is merged into the base.
    fn tensors(&self) -> Result<BTreeMap<String, Tensor>, PrmError> {
        let Training { config, base, placement, decoder, .. } = self.training;
        let trained = &self.trained.masters;
        let Some(adapter) = &self.trained.adapter else {
            let detached = |(name, it): (&String, &Var)| (name.clone(), it.as_detached_tensor());
            return Ok(trained.iter().map(detached).collect());
        };
        let mut tensors = base::tensors(base, decoder, config.seed, DType::F32, &placement.device)?;
        adapter.merge_into(&mut tensors)?;
        tensors.insert(model::SCORE.to_owned(), self.trained.head().detach());
        Ok(tensors)
    }

    fn check_scores(&self, computed: &Computed, examples: &[&Example]) -> Result<(), PrmError> {
        if computed.loss.is_finite() {
            return Ok(());
        }
        let wrong = computed.scores.iter().position(|score| !score.is_finite());
        let place = match wrong {
            Some(at) => format!("first in {}", examples[at].place),
            None => "the squares are too large".to_owned(),
        };
        Err(self.diverged("loss", self.done + 1, place))
    }

    fn check_norm(&self, grad_norm: f64) -> Result<(), PrmError> {
        match grad_norm.is_finite() {
            true => Ok(()),
            false => {
                let place = "though the loss is one".to_owned();
                Err(self.diverged("gradient", self.done + 1, place))
            }
        }
    }

    fn diverged(&self, what: &'static str, update: u64, place: String) -> PrmError {
        let kept = match Checkpoint::latest(&self.run.path().join("checkpoint")) {
            Some(checkpoint) => format!("the checkpoint of update {} stays", checkpoint.update),
            None => "there is no checkpoint yet".to_owned(),
        };
        PrmError::Diverged { what, update, place, kept }
    }
}

/// The evaluation with the smallest squared error up to `update`; the first of several.
fn best(evaluated: &[Evaluation], update: u64) -> Option<&Evaluation> {
    evaluated
        .iter()
        .filter(|it| it.update <= update)
        .min_by(|a, b| a.measured.mse.total_cmp(&b.measured.mse))
}

fn best_path(run: &RunDir, update: u64) -> PathBuf {
    run.path().join(BEST).join(Path::new(&format!("update-{update:06}.safetensors")))
}

fn metrics(
    update: u64,
    lr: f64,
    grad_norm: f64,
    examples: &[&Example],
    computed: &Computed,
    started: Instant,
) -> Metrics {
    let errors = examples.iter().zip(&computed.scores);
    let absolute: f64 = errors.map(|(it, score)| f64::from((score - it.label).abs())).sum();
    let wall_s = started.elapsed().as_secs_f64();
    Metrics {
        update,
        loss: computed.loss,
        mae: absolute / examples.len() as f64,
        lr,
        grad_norm,
        samples: examples.len(),
        tokens: examples.iter().map(|it| it.ids.len()).sum(),
        truncated: examples.iter().filter(|it| it.truncated).count(),
        parts: computed.parts,
        samples_per_s: examples.len() as f64 / wall_s,
        wall_s,
    }
}
