//! `agentflow train dapo`: a run, or, with `--replay`, rows in, a line of metrics an update and an adapter out.

mod run;

use std::path::Path;

use std::sync::Arc;

use agentflow_model::{Adapter, Config, Grammar, ModelFiles, Placement, Qwen3, bundled};
use agentflow_train::dapo::{DapoConfig, DapoError, Row, Trainer, UpdateMetrics, replay};
use anyhow::{Context, anyhow};
use candle_core::DType;
use serde_json::Value;

use crate::Failure;
use crate::arguments::DapoArgs;
use crate::{config, model, output, placement};

/// What holds without --config.
const REPLAY: &str = include_str!("../../../../configs/dapo-replay.toml");

pub(crate) fn run(args: DapoArgs) -> Result<(), Failure> {
    match (&args.replay, &args.out) {
        (Some(rows), Some(out)) => replayed(&args, rows, out),
        _ => run::run(args),
    }
}

fn replayed(args: &DapoArgs, rows: &Path, out: &Path) -> Result<(), Failure> {
    let config = configuration(args)?;
    is_free(out)?;
    let windows = replay::windows(&model::read(rows)?, config.sampling.temperature)
        .with_context(|| format!("cannot replay `{}`", rows.display()))?;
    let placement = placement::choose(&args.placement)?;
    let files = model::files(args.model.as_deref())?;
    let mut trainer = trainer(args, config, &windows, &files, &placement)?;
    for (mut rows, line) in windows.into_iter().zip(1..) {
        let updated = trainer.prepare(&mut rows, false).and_then(|()| trainer.update(&rows));
        if let Err(DapoError::Guard(found)) = &updated
            && let Some(metrics) = &found.metrics
        {
            print(metrics, args.json)?;
        }
        print(&updated.with_context(|| format!("update {line}"))?, args.json)?;
    }
    let base = args.model.as_deref().unwrap_or(bundled::NAME);
    trainer.save_adapter(out, base).map_err(Failure::work)
}

fn configuration(args: &DapoArgs) -> Result<DapoConfig, Failure> {
    let mut config: DapoConfig = match &args.config {
        Some(file) => config::load(file, &args.overrides)?,
        None => config::parse(REPLAY, "configs/dapo-replay.toml", &args.overrides)?,
    };
    let is_asked_for = args.overrides.iter().any(|key| key.starts_with("lora."));
    if args.adapter.is_some() && args.config.is_none() && !is_asked_for {
        config.lora = None;
    }
    config.check().map_err(Failure::usage)?;
    Ok(config)
}

/// Refuses to write over anything, before there is something to write.
fn is_free(out: &Path) -> Result<(), Failure> {
    let name = out.display();
    match std::fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(anyhow!("--out `{name}` is not empty; give a new or an empty directory")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow!("--out `{name}`: {error}; give a new or an empty directory")),
    }
    .map_err(Failure::usage)
}

fn trainer(
    args: &DapoArgs,
    config: DapoConfig,
    windows: &[Vec<Row>],
    files: &ModelFiles,
    placement: &Placement,
) -> Result<Trainer, Failure> {
    let Placement { dtype, device, .. } = placement;
    let shape = shape(files)?;
    let weights = files.weights(*dtype, device).map_err(Failure::work)?;
    let base = Qwen3::new(&shape, &weights).map_err(Failure::work)?;
    let adapter = args.adapter.as_deref().map(|dir| Adapter::open(dir, DType::F32, device));
    let adapter = adapter.transpose().map_err(Failure::work)?;
    let has_grammar = windows.iter().flatten().any(|row| row.grammar.is_some());
    let grammar = has_grammar.then(|| grammar(files, &shape)).transpose()?;
    Trainer::new(&base, adapter.as_ref(), grammar, config).map_err(|error| match error {
        DapoError::Config(_) | DapoError::OtherAdapter { .. } => Failure::usage(error),
        other => Failure::work(other),
    })
}

/// The configuration of a model, without its tokenizer: rows are token ids.
fn shape(files: &ModelFiles) -> Result<Config, Failure> {
    let ModelFiles::Directory(dir) = files else {
        return Ok(files.manifest().map_err(Failure::work)?.config);
    };
    let path = dir.join("config.json");
    let text = model::read(&path)?;
    Config::from_json(&text, &path).map_err(Failure::work)
}

fn grammar(files: &ModelFiles, shape: &Config) -> Result<Arc<Grammar>, Failure> {
    let manifest = files.manifest().map_err(Failure::work)?;
    let end = manifest.stop_ids.first().copied();
    let end = end.ok_or_else(|| anyhow!("the model names no token that ends a reply"))?;
    let grammar = Grammar::new(manifest.tokenizer, shape.vocab_size, end);
    Ok(Arc::new(grammar.map_err(Failure::work)?))
}

fn print(metrics: &UpdateMetrics, json: bool) -> Result<(), Failure> {
    let value = |name: &str| metrics.values.get(name).copied();
    let [low, high] = ["clip_ratio/low_mean", "clip_ratio/high_mean"].map(value);
    if json {
        let mut line = serde_json::to_value(metrics).context("cannot print the metrics")?;
        for (name, share) in [("clip_fraction_low", low), ("clip_fraction_high", high)] {
            if let Some(share) = share {
                line[name] = Value::from(share);
            }
        }
        return output::print(|out| writeln!(out, "{line}"));
    }
    let shown = |number: Option<f64>| number.map_or("no number".to_owned(), |n| format!("{n:.6}"));
    let UpdateMetrics { update, loss, grad_norm, loss_tokens, .. } = metrics;
    let (loss, norm) = (shown(*loss), shown(*grad_norm));
    let share = |share: Option<f64>| 100.0 * share.unwrap_or(0.0);
    let (low, high) = (share(low), share(high));
    let outcome = match &metrics.not_finite {
        Some(name) => format!("; skipped, for `{name}` is not finite, or its gradient is not"),
        None if !metrics.applied => "; skipped, for no token counts".to_owned(),
        None => String::new(),
    };
    output::print(|out| {
        writeln!(
            out,
            "update {update}: loss {loss}, gradient norm {norm}, {loss_tokens} tokens, clipped {low:.1} % low and {high:.1} % high{outcome}"
        )
    })
}
