//! The binary as a user meets it: real processes, real files, and a real HTTP server that speaks Ollama's wire.

mod agentflow;
mod ollama;
#[cfg(target_os = "linux")] // it reads /proc
mod processes;

mod auto;
mod bad_input;
mod bench;
#[cfg(unix)]
mod dapo;
mod device;
mod eval;
mod eval_list;
mod help;
#[cfg(target_os = "linux")]
mod interrupt;
#[cfg(unix)]
mod judge;
mod model_command;
#[cfg(unix)]
mod prm;
mod prm_bad_input;
mod recorded_runs;
mod score;
#[cfg(unix)]
mod serve;
mod server_failures;
mod solve;
#[cfg(target_os = "linux")]
mod tools;
mod tools_command;
mod train;
mod train_dapo;
