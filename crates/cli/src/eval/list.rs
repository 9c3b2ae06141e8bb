//! `agentflow eval list`: what can be measured on, and what is here already.

use std::io::Write;

use agentflow_eval::benchmark::{Benchmark, Dataset, Role, Scorer};
use agentflow_model::hub::HubSettings;
use serde::Serialize;

use crate::arguments::EvalListArgs;
use crate::{Failure, output};

/// A benchmark as `--json` prints it, one a line.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    title: &'static str,
    role: Role,
    scorer: Scorer,
    /// Problems that it has; of `arith`, as many as a run takes by itself.
    problems: Option<u64>,
    bytes: Option<u64>,
    licence: &'static str,
    /// Whether terms must be accepted on the Hub first.
    gated: bool,
    /// The page of the data set.
    source: Option<&'static str>,
    dataset: Option<&'static str>,
    revision: Option<&'static str>,
    /// Whether it runs without the network.
    cached: bool,
}

pub(crate) fn list(args: &EvalListArgs) -> Result<(), Failure> {
    let hub = HubSettings::from_variables(|variable| std::env::var(variable).ok());
    let entries: Vec<Entry> =
        Benchmark::list().iter().map(|benchmark| entry(benchmark, &hub)).collect();
    output::print(|out| {
        for entry in &entries {
            match args.json {
                true => writeln!(out, "{}", serde_json::to_string(entry)?)?,
                false => describe(entry, out)?,
            }
        }
        Ok(())
    })
}

fn entry(benchmark: &'static Benchmark, hub: &HubSettings) -> Entry {
    let (dataset, revision, gated) = match &benchmark.dataset {
        Dataset::Hub { repo, revision, gated, .. } => {
            (Some(repo.as_str()), Some(revision.as_str()), *gated)
        }
        Dataset::Arith { .. } | Dataset::File { .. } => (None, None, false),
    };
    Entry {
        name: &benchmark.name,
        title: &benchmark.title,
        role: benchmark.role,
        scorer: benchmark.scorer,
        problems: benchmark.problems(),
        bytes: benchmark.bytes(),
        licence: &benchmark.licence,
        gated,
        source: benchmark.source.as_deref(),
        dataset,
        revision,
        cached: benchmark.is_cached(hub),
    }
}

fn describe(entry: &Entry, out: &mut dyn Write) -> std::io::Result<()> {
    let here = match (entry.dataset, entry.cached, entry.gated) {
        (None, ..) => "built in",
        (_, true, _) => "cached",
        (_, false, true) => "gated, not cached",
        (_, false, false) => "not cached",
    };
    let problems = entry.problems.map_or(String::new(), |count| format!("{count} problems"));
    let size = entry.bytes.map_or(String::new(), |bytes| format!("{} kB", bytes.div_ceil(1000)));
    let (name, role) = (entry.name, entry.role.to_string());
    writeln!(out, "{name:<12} {role:<6} {problems:>13} {size:>7}  {here:<18} {}", entry.title)?;
    if let (Some(dataset), Some(revision)) = (entry.dataset, entry.revision) {
        let revision = revision.get(..12).unwrap_or(revision);
        writeln!(out, "{:<12} from {dataset} at {revision}", "")?;
    }
    writeln!(out, "{:<12} licence: {}", "", entry.licence)
}
