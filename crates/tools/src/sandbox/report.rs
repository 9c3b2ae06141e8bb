use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Level;

/// What contains the code on this machine, for `agentflow doctor` and for each trajectory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The level in force.
    pub level: Level,
    /// The interpreter, behind shims and virtual environments.
    pub python: PathBuf,
    /// Its version, e.g. `3.11.7`.
    pub python_version: String,
    /// Those of sympy, numpy and mpmath that the code can import.
    pub packages: Vec<String>,
    /// The layers in force, outermost last.
    pub layers: Vec<Layer>,
    /// The layers that are not.
    pub missing: Vec<Missing>,
}

/// One layer in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// E.g. `landlock`.
    pub name: &'static str,
    /// What it does here, e.g. `ABI 7`.
    pub detail: String,
}

/// One layer that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// E.g. `namespaces`.
    pub name: &'static str,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, python, python_version, .. } = self;
        writeln!(f, "sandbox level {level}, Python {python_version} at {}", python.display())?;
        let packages = self.packages.join(", ");
        writeln!(f, "  packages: {}", if packages.is_empty() { "none" } else { &packages })?;
        for Layer { name, detail } in &self.layers {
            writeln!(f, "  + {name}: {detail}")?;
        }
        for Missing { name, reason } in &self.missing {
            writeln!(f, "  - {name}: {reason}")?;
        }
        Ok(())
    }
}
