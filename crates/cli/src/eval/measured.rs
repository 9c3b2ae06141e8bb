//! What a run measures, piece by piece: two halves of one run have to agree in all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agentflow_eval::benchmark::Loaded;
use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::arguments::EvalRunArgs;
use crate::backend::Chosen;

/// Everything that decides what an attempt computes, by name. What only decides how fast or how far a run goes is left out:
/// concurrency, budgets, addresses, time-outs of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Measured(BTreeMap<String, String>);

impl Measured {
    pub(super) fn of(args: &EvalRunArgs, loaded: &Loaded, chosen: &Chosen, sandbox: &str) -> Self {
        let (info, settings) = (chosen.model.info(), &chosen.settings);
        let sampling = &settings.sampling;
        let mut all = BTreeMap::new();
        let mut is = |name: &str, value: String| _ = all.insert(name.to_owned(), value);
        is("benchmark", label(loaded));
        is("benchmark.problems", format!("{} {}", loaded.problems.len(), loaded.fingerprint()));
        is("benchmark.repeats", args.repeats.to_string());
        is("model", format!("{} ({})", info.name, info.backend));
        is("model.digest", or_none(&info.digest));
        is("model.adapter", or_none(&info.adapter));
        if let Some(placement) = &chosen.placement {
            let stored = if placement.as_stored { ", weights as stored" } else { "" };
            is("model.device", placement.to_string());
            is("model.dtype", format!("{}{stored}", placement.dtype.as_str()));
        }
        is("prompts", chosen.profile.version().to_owned());
        is("sampling.temperature", sampling.temperature.to_string());
        is("sampling.top_p", sampling.top_p.to_string());
        is("sampling.seed", or_none(&sampling.seed));
        is("sampling.think", settings.think.to_string());
        is("sampling.max_tokens", settings.max_tokens.to_string());
        is("sampling.num_ctx", or_none(&info.num_ctx));
        is("loop.max_steps", args.agent.max_steps.to_string());
        is("loop.max_total_tokens", or_none(&args.agent.max_total_tokens));
        is("loop.max_seconds", or_none(&args.agent.max_seconds));
        is("tools.timeout", args.agent.tool_timeout.to_string());
        is("tools.sandbox", sandbox.to_owned());
        Self(all)
    }

    /// Refuses to go on with a run that measured something else.
    pub(super) fn check(&self, before: &Self, run: &std::path::Path) -> Result<(), Failure> {
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

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
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
