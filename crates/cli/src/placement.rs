//! From what was asked for a device and a dtype to what there is.

use agentflow_model::{DeviceError, Placement};

use crate::Failure;
use crate::arguments::PlacementArgs;

/// Where a model is computed. A binary with CUDA that falls back to the processor says why: it is far slower.
pub(crate) fn choose(args: &PlacementArgs) -> Result<Placement, Failure> {
    let (placement, reason) = Placement::choose(args.device, args.dtype).map_err(failure)?;
    if let Some(reason) = reason {
        tracing::warn!("the processor computes: {reason}");
    }
    tracing::info!("device {placement}, dtype {}", placement.dtype.as_str());
    Ok(placement)
}

/// Asking for what this binary or machine cannot have is a mistake in the arguments.
fn failure(error: DeviceError) -> Failure {
    match error {
        DeviceError::NotBuilt | DeviceError::Index { .. } => Failure::usage(error),
        _ => Failure::work(error),
    }
}
