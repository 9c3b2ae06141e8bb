//! Checkpoints: weights and optimizer state of one update, in a directory that appears whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use agentflow_eval::RunDirError;
use candle_core::{Device, Tensor, Var};

use super::SftError;
use crate::adamw::AdamW;

const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// A checkpoint on disk.
pub(super) struct Checkpoint {
    pub update: u64,
    path: PathBuf,
}

impl Checkpoint {
    /// Writes the checkpoint of `update` below `root`, and removes all but the newest `keep`.
    pub(super) fn write(
        root: &Path,
        update: u64,
        variables: &BTreeMap<String, Var>,
        optimizer: &AdamW,
        keep: usize,
    ) -> Result<(), SftError> {
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
        optimizer.save(&optimizer_path)?;
        sync(&optimizer_path)?;
        let path = root.join(format!("update-{update:06}"));
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
        std::fs::rename(&beside, &path).map_err(io("rename to", &path))?;
        let all = Self::all(root)?;
        for old in &all[..all.len().saturating_sub(keep)] {
            std::fs::remove_dir_all(&old.path).map_err(io("remove", &old.path))?;
        }
        Ok(())
    }

    /// The newest checkpoint below `root`, if there is one.
    pub(super) fn latest(root: &Path) -> Result<Option<Self>, SftError> {
        Ok(Self::all(root)?.pop())
    }

    /// Sets variables and optimizer to what they were.
    pub(super) fn restore(
        &self,
        variables: &BTreeMap<String, Var>,
        optimizer: &mut AdamW,
    ) -> Result<(), SftError> {
        let unusable = |problem: String| SftError::Checkpoint { path: self.path.clone(), problem };
        let tensors = candle_core::safetensors::load(self.path.join(WEIGHTS), &Device::Cpu)
            .map_err(|e| unusable(e.to_string()))?;
        for (name, variable) in variables {
            let tensor =
                tensors.get(name).ok_or_else(|| unusable(format!("it has no `{name}`")))?;
            variable.set(tensor).map_err(|e| unusable(format!("`{name}`: {e}")))?;
        }
        optimizer.load(&self.path.join(OPTIMIZER)).map_err(|e| unusable(e.to_string()))
    }

    /// All checkpoints below `root`, oldest first.
    fn all(root: &Path) -> Result<Vec<Self>, SftError> {
        let Ok(entries) = std::fs::read_dir(root) else { return Ok(Vec::new()) };
        let mut all: Vec<Self> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let update = entry.file_name().to_str()?.strip_prefix("update-")?.parse().ok()?;
                Some(Self { update, path: entry.path() })
            })
            .collect();
        all.sort_by_key(|checkpoint| checkpoint.update);
        Ok(all)
    }
}

/// Writes variables as safetensors, synced.
pub(super) fn save_variables(
    variables: &BTreeMap<String, Var>,
    path: &Path,
) -> Result<(), SftError> {
    let tensors: HashMap<String, Tensor> =
        variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    candle_core::safetensors::save(&tensors, path)?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), SftError> {
    let sync = std::fs::File::open(path).and_then(|file| file.sync_all());
    sync.map_err(|source| RunDirError::Io { action: "sync", path: path.to_owned(), source }.into())
}
