//! Corners of the engine where time, memory or a user's own code could break a promise.

mod branches;
mod journal;
mod panics;
mod probe;
mod questions;
mod time;
