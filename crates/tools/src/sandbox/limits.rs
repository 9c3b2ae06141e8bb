use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one run may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock time; everything is killed when it is over.
    pub wall: Duration,
    /// Processor time, rounded up to whole seconds by the kernel's limit.
    pub cpu: Duration,
    /// Address space, in MiB.
    pub memory_mib: u64,
    /// All files together (one file, where the scratch folder is no file system of its own), in MiB.
    pub file_mib: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Output that is kept, half from the head and half from the tail, in bytes. The rest is counted; a run that goes
    /// on writing is ended at [`Limits::flood_bytes`].
    pub output_bytes: usize,
}

impl Limits {
    /// Output at which a run is ended, in bytes: far above what is kept, so that a long but finite print survives.
    pub fn flood_bytes(&self) -> u64 {
        const LEAST: u64 = 4 << 20;
        (self.output_bytes as u64).saturating_mul(64).max(LEAST)
    }

    /// Whole seconds of processor time, at least one: the unit of `RLIMIT_CPU`.
    pub(super) fn cpu_s(&self) -> u64 {
        (self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0)).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory_mib: 1536, // sympy and numpy together map about 400 MiB
            file_mib: 16,
            processes: 32,
            output_bytes: 16 << 10, // about 4,000 tokens, half of a small model's context
        }
    }
}
