//! `run.toml`: what a run was, in full: version, commit, command line, seed, device, resolved configuration.

use std::path::Path;

use agentflow_model::Placement;
use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunRecord<C> {
    /// Which command goes on with it, e.g. `eval`.
    #[serde(default)]
    pub(crate) kind: String,
    pub(crate) version: String,
    pub(crate) commit: String,
    pub(crate) argv: Vec<String>,
    pub(crate) seed: u64,
    /// Where the model computed, e.g. `cuda:0 (NVIDIA H200)`; none for a model on a server.
    pub(crate) device: Option<String>,
    /// What it computed in, e.g. `bf16`.
    pub(crate) dtype: Option<String>,
    pub(crate) config: C,
}

impl<C> RunRecord<C> {
    pub(crate) fn new(kind: &str, seed: u64, placement: Option<&Placement>, config: C) -> Self {
        Self {
            kind: kind.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("AGENTFLOW_COMMIT").to_owned(),
            argv: std::env::args().collect(),
            seed,
            device: placement.map(Placement::to_string),
            dtype: placement.map(|placement| placement.dtype.as_str().to_owned()),
            config,
        }
    }

    pub(crate) fn to_toml(&self) -> Result<String, Failure>
    where
        C: Serialize,
    {
        Ok(toml::to_string(self).context("cannot write run.toml")?)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Failure>
    where
        C: DeserializeOwned,
    {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))
            .map_err(Failure::usage)?;
        toml::from_str(&text)
            .with_context(|| {
                format!(
                    "`{}` is of another kind of run; resume it with the command that made it",
                    path.display()
                )
            })
            .map_err(Failure::usage)
    }
}
