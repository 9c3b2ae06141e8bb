//! The judge against servers that a test scripts, and against a model in this process.

mod consensus;
mod local;
mod prompt;
mod sample;
mod server;
mod wire;
