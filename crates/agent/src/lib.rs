//! The agent: a planner that decides, an executor that acts, a verifier that judges, and the record of it all.
//!
//! Start reading at [`Solver::solve`]. What a model reads is made in [`prompt`] and nowhere else; what is recorded is in
//! [`trajectory`].
//!
//! **Invariant:** only the planner is trained, so everything it reads and writes goes through [`prompt::PlannerPrompt`]
//! and [`trajectory::Decision`].

pub mod prompt;
pub mod trajectory;

mod executor;
mod memory;
mod planner;
mod solver;
mod verifier;

pub use executor::Executor;
pub use memory::Memory;
pub use planner::{CallSettings, Planned, Planner};
pub use solver::{Budget, Event, SolveError, Solver};
pub use trajectory::Trajectory;
pub use verifier::{Judged, Verifier};
