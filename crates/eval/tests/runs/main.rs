//! What is made of recorded runs: reports, comparisons, new verdicts, logs for other tools.

mod comparing;
mod exporting;
mod fixture;
mod listing;
mod reports;
mod rescoring;
