//! Checkpoints: all that a run needs to go on, in a directory that appears whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentflow_eval::RunDirError;
use agentflow_model::save_tensors;
use candle_core::{Device, Tensor, Var};

use crate::adamw::AdamW;

const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Why a checkpoint cannot be written or taken up.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Disk(#[from] RunDirError),
    #[error(
        "checkpoint `{path}` cannot be used: {problem}; remove it to fall back to the one before"
    )]
    Unusable { path: PathBuf, problem: String },
    #[error("cannot write `{path}`: {problem}")]
    Write { path: PathBuf, problem: String },
}

/// A checkpoint on disk.
pub(crate) struct Checkpoint {
    pub(crate) update: u64,
    pub(crate) path: PathBuf,
}

impl Checkpoint {
    /// Writes the checkpoint of `update` below `root`, weights and optimizer, and removes all but the newest `keep`.
    pub(crate) fn write(
        root: &Path,
        update: u64,
        variables: &BTreeMap<String, Var>,
        optimizer: &AdamW,
        keep: usize,
    ) -> Result<(), CheckpointError> {
        Self::write_with(root, update, keep, |dir| {
            save_variables(variables, &dir.join(WEIGHTS))?;
            save_optimizer(optimizer, dir)
        })
    }

    /// [`Checkpoint::write`] of the files that `fill` writes, synced, into the directory that it is given.
    pub(crate) fn write_with<E: From<CheckpointError>>(
        root: &Path,
        update: u64,
        keep: usize,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let beside = root.join("new.tmp");
        if beside.exists() {
            std::fs::remove_dir_all(&beside).map_err(io("remove", &beside))?;
        }
        std::fs::create_dir_all(&beside).map_err(io("create", &beside))?;
        fill(&beside)?;
        sync(&beside)?;
        let path = root.join(format!("update-{update:06}"));
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
        std::fs::rename(&beside, &path).map_err(io("rename to", &path))?;
        sync(root)?; // the name is on disk only when its directory is
        let all = Self::all(root);
        for old in &all[..all.len().saturating_sub(keep)] {
            std::fs::remove_dir_all(&old.path).map_err(io("remove", &old.path))?;
        }
        Ok(())
    }

    /// The newest checkpoint below `root`, if there is one.
    pub(crate) fn latest(root: &Path) -> Option<Self> {
        Self::all(root).pop()
    }

    /// Sets variables and optimizer to what they were.
    pub(crate) fn restore(
        &self,
        variables: &BTreeMap<String, Var>,
        optimizer: &mut AdamW,
    ) -> Result<(), CheckpointError> {
        load_variables(variables, &self.path.join(WEIGHTS)).map_err(|e| self.unusable(e))?;
        self.restore_optimizer(optimizer)
    }

    /// Sets an optimizer to what it was.
    pub(crate) fn restore_optimizer(&self, optimizer: &mut AdamW) -> Result<(), CheckpointError> {
        let loaded = optimizer.load(&self.path.join(OPTIMIZER));
        loaded.map_err(|e| self.unusable(e.to_string()))
    }

    pub(crate) fn unusable(&self, problem: String) -> CheckpointError {
        CheckpointError::Unusable { path: self.path.clone(), problem }
    }

    /// All checkpoints below `root`, oldest first.
    pub(crate) fn all(root: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
        let mut all: Vec<Self> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let update = entry.file_name().to_str()?.strip_prefix("update-")?.parse().ok()?;
                Some(Self { update, path: entry.path() })
            })
            .collect();
        all.sort_by_key(|checkpoint| checkpoint.update);
        all
    }
}

/// Writes variables as safetensors, synced.
pub(crate) fn save_variables(
    variables: &BTreeMap<String, Var>,
    path: &Path,
) -> Result<(), CheckpointError> {
    let tensors: BTreeMap<String, Tensor> =
        variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    save_tensors(path, &tensors).map_err(|error| failed(path, &error))
}

/// Writes the state of an optimizer into the directory of a checkpoint, synced.
pub(crate) fn save_optimizer(optimizer: &AdamW, dir: &Path) -> Result<(), CheckpointError> {
    let path = dir.join(OPTIMIZER);
    optimizer.save(&path).map_err(|error| failed(&path, &error))?;
    sync(&path)
}

/// Sets every variable to the tensor of its name in a safetensors file; says what does not fit.
pub(crate) fn load_variables(variables: &BTreeMap<String, Var>, path: &Path) -> Result<(), String> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| e.to_string())?;
    for (name, variable) in variables {
        let tensor = tensors.get(name).ok_or_else(|| format!("it has no `{name}`"))?;
        let set = tensor.to_device(variable.device()).and_then(|tensor| variable.set(&tensor));
        set.map_err(|e| format!("`{name}`: {e}"))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> CheckpointError {
    CheckpointError::Write { path: path.to_owned(), problem: error.to_string() }
}

/// Waits until a file, or the names in a directory, are on disk.
fn sync(path: &Path) -> Result<(), CheckpointError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(io("sync", path))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| RunDirError::Io { action, path, source }.into()
}
