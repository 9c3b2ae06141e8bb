//! What an agent may do: a [`Tool`] turns one call of the planner into one [`Observation`].
//!
//! Start reading at [`Tool`]; the four built-in tools are in [`Toolbox::built_in`]. Only [`Code`] runs anything: Python,
//! inside the [`Sandbox`], whose layers and levels are described in [`sandbox`].
//!
//! **Invariant:** what the policy got wrong (an exception, a time-out, a flood of output) is an observation it can read;
//! [`SandboxError`] means that the sandbox itself failed.

pub mod sandbox;

mod echo;
mod observation;
mod python;
mod search;
mod tool;
mod toolbox;

pub use echo::{Answer, Think};
pub use observation::{Observation, observe};
pub use python::Code;
pub use sandbox::{
    Cancel, End, Level, LevelWanted, Limits, PythonRun, Report, Sandbox, SandboxConfig,
    SandboxError,
};
pub use search::Search;
pub use tool::Tool;
pub use toolbox::Toolbox;
