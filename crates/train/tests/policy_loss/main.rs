//! The losses against TRL's, against hand-made numbers, and what must hold for any input.

mod golden;
mod numbers;
mod properties;
mod refusals;
mod rows;
