//! What a run measures, piece by piece: two halves of one run have to agree in all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agentflow_eval::benchmark::Loaded;
use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::arguments::{EvalRunArgs, LoopArgs};
use crate::backend::Chosen;

/// Everything that decides what an attempt computes, by name. What only decides how fast or how far a run goes is left out:
/// concurrency, budgets, addresses, time-outs of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Measured(BTreeMap<String, String>);

impl Measured {
    pub(super) fn of(args: &EvalRunArgs, loaded: &Loaded, chosen: &Chosen, sandbox: &str) -> Self {
        let mut all = Self::default();
        all.set("benchmark", label(loaded));
        let problems = format!("{} {}", loaded.problems.len(), loaded.fingerprint());
        all.set("benchmark.problems", problems);
        all.set("benchmark.repeats", args.repeats);
        all.add_model(chosen);
        all.add_loop(&args.agent, sandbox);
        all
    }

    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// The model, and how it is asked.
    pub(crate) fn add_model(&mut self, chosen: &Chosen) {
        let (info, settings) = (chosen.model.info(), &chosen.settings);
        let sampling = &settings.sampling;
        self.set("model", format!("{} ({})", info.name, info.backend));
        self.set("model.digest", or_none(&info.digest));
        self.set("model.adapter", or_none(&info.adapter));
        if let Some(placement) = &chosen.placement {
            let stored = if placement.as_stored { ", weights as stored" } else { "" };
            self.set("model.device", placement);
            self.set("model.dtype", format!("{}{stored}", placement.dtype.as_str()));
        }
        self.set("prompts", chosen.profile.version());
        self.set("sampling.temperature", sampling.temperature);
        self.set("sampling.top_p", sampling.top_p);
        self.set("sampling.seed", or_none(&sampling.seed));
        self.set("sampling.think", settings.think);
        self.set("sampling.max_tokens", settings.max_tokens);
        self.set("sampling.num_ctx", or_none(&info.num_ctx));
    }

    /// The agent loop, and how its tools are contained.
    pub(crate) fn add_loop(&mut self, args: &LoopArgs, sandbox: &str) {
        self.set("loop.max_steps", args.max_steps);
        self.set("loop.max_total_tokens", or_none(&args.max_total_tokens));
        self.set("loop.max_seconds", or_none(&args.max_seconds));
        self.set("tools.timeout", args.tool_timeout);
        self.set("tools.sandbox", sandbox);
    }

    /// Refuses to go on with a run that measured something else.
    pub(crate) fn check(&self, before: &Self, run: &std::path::Path) -> Result<(), Failure> {
        let names: std::collections::BTreeSet<_> = before.0.keys().chain(self.0.keys()).collect();
        let mut differences = String::new();
        for name in names {
            let value = |of: &Self| of.0.get(name).cloned().unwrap_or_else(|| "none".to_owned());
            let (was, is) = (value(before), value(self));
            if was != is {
                let _ = write!(differences, "\n  {name}: was {was}, is {is}");
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(anyhow!(
            "run `{}` cannot go on, for its second half would measure something else:{differences}\n\
             undo that, or start a new run without --resume",
            run.display()
        )))
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}: {value}"))
    }
}

/// The benchmark as reports name it, e.g. `aime24` or `arith/test`.
pub(super) fn label(loaded: &Loaded) -> String {
    // `arith/SPLIT/SEED`; the seed is in the names of its problems.
    match loaded.dataset.id.rsplit_once('/') {
        Some((split, _)) if loaded.dataset.files.is_empty() && split.starts_with("arith/") => {
            split.to_owned()
        }
        _ => loaded.name.clone(),
    }
}

fn or_none(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}
