//! `agentflow eval`, and the runs that training data is made of, as processes: real weights, real loop, real Python; killed, interrupted, starved, and taken up again.

mod bench;
mod killed;
mod label;
mod refused;
mod starved;
