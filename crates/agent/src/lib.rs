//! The agent: a planner that decides, an executor that acts, a verifier that judges, and the record of it all.
//!
//! Start reading at [`Solver::flow`]: the loop is a flow of `agentflow-flow`, so that it can be watched, kept and taken up
//! again like any other; its nodes are in `steps.rs`, and what flows is in `attempt.rs`. What a model reads is made in [`prompt`] and nowhere else; what is recorded is in
//! [`trajectory`].
//!
//! **Invariant:** only the planner is trained, so everything it reads and writes goes through [`prompt::PlannerPrompt`]
//! and [`trajectory::Decision`].

pub mod prm_input;
pub mod prompt;
pub mod trajectory;

mod attempt;
mod broken;
mod event;
mod executor;
mod memory;
mod planner;
mod solver;
mod steps;
mod verifier;

pub use attempt::{Attempt, Ended};
pub use event::Event;
pub use executor::Executor;
pub use memory::Memory;
pub use planner::{CallSettings, Planned, Planner};
pub use prm_input::prm_input;
pub use solver::{Budget, SolveError, Solver};
pub use trajectory::Trajectory;
pub use verifier::{Judged, Verifier};
