//! Benchmarks from files and from a Hub on this machine. All questions are made up.

mod bad_files;
mod built_in;
mod data_files;
mod folder;
mod hub;
mod overlap;
mod parquet_files;
