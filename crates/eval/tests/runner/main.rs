//! The runner against models that do what a test tells them to, in real run directories.

mod bench;
mod failures;
mod limits;
mod resume;
