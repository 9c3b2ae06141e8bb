//! Checkpoints: weights and optimizer state of one update, in a directory that appears whole or not at all.

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
    #[error("cannot write the weights `{path}`: {problem}")]
    Write { path: PathBuf, problem: String },
}

/// A checkpoint on disk.
pub(crate) struct Checkpoint {
    pub update: u64,
    path: PathBuf,
}

impl Checkpoint {
    /// Writes the checkpoint of `update` below `root`, and removes all but the newest `keep`.
    pub(crate) fn write(
        root: &Path,
        update: u64,
        variables: &BTreeMap<String, Var>,
        optimizer: &AdamW,
        keep: usize,
    ) -> Result<(), CheckpointError> {
        let beside = root.join("new.tmp");
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| RunDirError::Io { action, path, source }
        };
        if beside.exists() {
            std::fs::remove_dir_all(&beside).map_err(io("remove", &beside))?;
        }
        std::fs::create_dir_all(&beside).map_err(io("create", &beside))?;
        save_variables(variables, &beside.join(WEIGHTS))?;
        let optimizer_path = beside.join(OPTIMIZER);
        optimizer.save(&optimizer_path).map_err(|e| CheckpointError::Write {
            path: optimizer_path.clone(),
            problem: e.to_string(),
        })?;
        sync(&optimizer_path)?;
        let path = root.join(format!("update-{update:06}"));
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
        std::fs::rename(&beside, &path).map_err(io("rename to", &path))?;
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
        load_variables(variables, &self.path.join(WEIGHTS))
            .and_then(|()| {
                let path = self.path.join(OPTIMIZER);
                optimizer.load(&path).map_err(|e| e.to_string())
            })
            .map_err(|problem| CheckpointError::Unusable { path: self.path.clone(), problem })
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

/// Writes variables as safetensors: whole or not at all.
pub(crate) fn save_variables(
    variables: &BTreeMap<String, Var>,
    path: &Path,
) -> Result<(), CheckpointError> {
    let tensors: BTreeMap<String, Tensor> =
        variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    save_tensors(path, &tensors)
        .map_err(|e| CheckpointError::Write { path: path.to_owned(), problem: e.to_string() })
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

fn sync(path: &Path) -> Result<(), CheckpointError> {
    let sync = std::fs::File::open(path).and_then(|file| file.sync_all());
    sync.map_err(|source| RunDirError::Io { action: "sync", path: path.to_owned(), source }.into())
}
