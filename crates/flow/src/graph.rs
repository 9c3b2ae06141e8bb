//! A flow drawn from its definition.

use serde::Serialize;

use crate::shape::Shape;

/// Placeholder until the drawing lands.
#[derive(Debug, Clone, Serialize)]
pub struct Graph;

impl Graph {
    pub(crate) fn new(_flow: &Shape) -> Self {
        Self
    }
}
