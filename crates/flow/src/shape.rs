//! What a flow is made of, read off its definition without running anything.

use serde::{Deserialize, Serialize};

/// A node and what is inside it: the source of [`Graph`](crate::Graph) and of the check that a resumed run is resumed by
/// the flow that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The node's name; of an arm of a `switch`, its label.
    pub name: String,
    /// What it does with what is inside it.
    pub kind: ShapeKind,
    /// What [`Node::describe`](crate::Node::describe) said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// For graphs: `at most 8 hops`, `4 at once`. A run may be resumed with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is inside, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Shape>,
}

/// What a node does with the nodes inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShapeKind {
    /// Work; nothing that we can see inside.
    Step,
    /// One after the other.
    Sequence,
    /// All of them at once, on the same input.
    All,
    /// One of them, for every item of a list.
    Each,
    /// The same, going on when one fails.
    EachSettled,
    /// The same, until enough are done.
    FirstK,
    /// One of its arms.
    Switch,
    /// An arm that ends: nothing to do in it.
    End,
    /// Again and again.
    Repeat,
    /// A failure of what is inside becomes a value.
    Settled,
    /// A question to a human.
    Ask,
    /// A human may say no.
    Approve,
}

impl ShapeKind {
    /// Whether it is nothing without nodes inside.
    pub(crate) fn holds_nodes(self) -> bool {
        !matches!(self, Self::Step | Self::Ask | Self::Approve | Self::End)
    }
}

impl Shape {
    /// A step with nothing inside, to be named by its node.
    pub fn step() -> Self {
        Self::new(ShapeKind::Step, Vec::new())
    }

    pub(crate) fn new(kind: ShapeKind, children: Vec<Shape>) -> Self {
        Self { name: String::new(), kind, about: None, detail: None, children }
    }

    pub(crate) fn detail(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// One line per node, indented by depth: name and kind. Two flows with the same outline take the same places.
    pub fn outline(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.outline_into(0, &mut lines);
        lines
    }

    fn outline_into(&self, depth: usize, lines: &mut Vec<String>) {
        let kind = format!("{:?}", self.kind).to_lowercase();
        lines.push(format!("{:indent$}{} ({kind})", "", self.name, indent = 2 * depth));
        for child in &self.children {
            child.outline_into(depth + 1, lines);
        }
    }
}
