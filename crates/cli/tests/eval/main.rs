//! `agentflow eval` as a process: real weights, real loop, real Python; killed, interrupted, starved, and taken up again.

mod bench;
mod killed;
mod refused;
mod starved;
