//! The capability table, row by row: what Orchflow, StepFlow, PenguiFlow and Microflow can do, restated for this engine,
//! and what they got wrong. Each test names its row.

mod budgets;
mod cancel;
mod checkpoints;
mod children;
mod choice;
mod events;
mod humans;
mod journals;
mod loops;
mod parallel;
mod pauses;
mod probe;
mod recovery;
mod reports;
mod resume;
mod retries;
mod sequence;
mod state;
mod streams;
mod time;
mod types;
