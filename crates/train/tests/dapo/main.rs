//! Updates of a LoRA adapter on tiny models: against TRL and PEFT, against the sampler, and against themselves.

mod bench;
mod golden;
mod guards;
mod models;
mod properties;
mod refusals;
mod resume;
mod sampler;
