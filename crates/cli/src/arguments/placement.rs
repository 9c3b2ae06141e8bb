//! Where a model is computed, and in what.

use agentflow_model::{DeviceChoice, DtypeChoice};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Of every command that loads a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct PlacementArgs {
    /// Where a local model computes: auto, cpu, cuda or cuda:N; auto is a card that this binary can use, else cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// What a local model computes in: auto, f32, bf16 or f16; auto is bf16 on a card, else f32
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub(crate) dtype: DtypeChoice,
}

impl PlacementArgs {
    /// Whether anything but the defaults was asked for: then a model in this process is meant.
    pub(crate) fn is_chosen(&self) -> bool {
        *self != Self::default()
    }
}
