//! What is made of recorded runs: reports, comparisons, new verdicts, logs for other tools.

mod fixture;
mod reports;
