//! The agent with a scripted model and the real tools.

mod bench;
mod budgets;
mod continuing;
mod loop_ends;
mod prompts;
mod requests;
mod resuming;
mod scripted;
mod solving;
mod trajectories;
mod unreadable;
