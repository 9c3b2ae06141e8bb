//! The mathematics of policy optimisation, without models, rollouts or files: numbers in, numbers out.
//!
//! In the order of an update: [`overlong`] decides which tokens count and what length costs, [`dynamic_sampling`] which
//! groups carry a signal, [`advantage`] how much better a completion was than its group, and [`loss`] what to minimise.
//! DAPO (arXiv 2503.14476) is `loss::dapo` with all of them. The formulas, their sources and the tests that pin them
//! stand in `docs/dapo.md`.
//!
//! Left out on purpose: value network, generalised advantage estimation, importance correction between sampler and
//! trainer (both run the same weights here).

pub mod advantage;
pub mod dynamic_sampling;
pub mod loss;
pub mod overlong;

/// A configuration key that makes no sense, or not together with another.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{key}` is {value}; {wanted}")]
pub struct PolicyConfigError {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) wanted: &'static str,
}

impl PolicyConfigError {
    /// `Ok` where `holds`, else the error.
    pub(crate) fn unless(
        holds: bool,
        key: &'static str,
        value: &dyn std::fmt::Display,
        wanted: &'static str,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { key, value: value.to_string(), wanted }) }
    }
}
