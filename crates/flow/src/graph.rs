//! A flow drawn from its definition: what can follow what, as data, as Mermaid and as DOT.

mod dot;
mod drawing;
mod mermaid;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::report::Attempt;
use crate::shape::{Shape, ShapeKind};

/// The nodes of a flow and the ways between them, read off its definition. The same flow gives the same text each time,
/// so a drawing can be kept beside the code and compared in a test.
///
/// It shows how a run can succeed. A failure ends the run from everywhere, and has no edges.
///
/// ```
/// use agentflow_flow::{Context, Flow, step};
///
/// let flow = Flow::new("greet")
///     .then(step("trim", async |_cx: Context, name: String| Ok(name.trim().to_owned())));
/// assert_eq!(flow.graph().to_mermaid(), r#"flowchart TD
///     START(["greet"])
///     n_trim["trim"]
///     END(["end"])
///     START --> n_trim
///     n_trim --> END
/// "#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The flow's name.
    pub name: String,
    /// In the order of the definition, from START to END.
    pub nodes: Vec<Node>,
    /// Frames around nodes, outer ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// In the order in which a reader follows them.
    pub edges: Vec<Edge>,
}

/// A point of a graph: something that runs, or a mark such as START.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// ASCII letters, digits and `_`; unique in the graph, groups included.
    pub id: String,
    /// How it is drawn.
    pub kind: NodeKind,
    /// As in events and traces, without the numbers of branches, hops and attempts.
    pub path: String,
    /// What the definition calls it.
    pub name: String,
    /// What [`Node::describe`](crate::Node::describe) said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The id of the innermost group around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

/// What stands at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeKind {
    /// The one way in.
    Start,
    /// The one way out.
    End,
    /// Work.
    Step,
    /// A question to a human.
    Ask,
    /// A human may say no.
    Approve,
    /// A choice: its edges are labelled with the routes.
    Switch,
    /// An arm that ends the switch with nothing to do.
    Pass,
    /// Where branches part.
    Fork,
    /// Where they come together.
    Join,
}

/// A frame around what a node holds: a parallel group, a loop, a flow in the flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// ASCII letters, digits and `_`; unique in the graph, nodes included.
    pub id: String,
    /// What it does with what is inside it.
    pub kind: ShapeKind,
    /// Of the node that it is.
    pub path: String,
    /// What the definition calls it.
    pub name: String,
    /// What `describe` said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Limits, such as `at most 8 hops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id of the group around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

/// A way from one node to another, by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The id of a node.
    pub from: String,
    /// The id of a node.
    pub to: String,
    /// The route of a switch; `again` or `done` of a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Graph {
    pub(crate) fn new(flow: &Shape) -> Self {
        drawing::draw(flow)
    }

    /// The nodes that a run did not come to: the arms that were not taken, and what lies behind a failure.
    /// `trace` is that of its [`Report`](crate::Report).
    pub fn skipped(&self, trace: &[Attempt]) -> Vec<&Node> {
        let visited: HashSet<String> =
            trace.iter().map(|attempt| place(&attempt.path.to_string())).collect();
        let is_mark = |node: &&Node| {
            matches!(node.kind, NodeKind::Start | NodeKind::End | NodeKind::Fork | NodeKind::Join)
        };
        self.nodes.iter().filter(|node| !is_mark(node) && !visited.contains(&node.path)).collect()
    }

    /// What lies directly within the group `id`, or within none, in the order of the definition.
    fn within(&self, id: Option<&str>) -> Vec<Item<'_>> {
        let groups: HashMap<&str, &Group> =
            self.groups.iter().map(|group| (group.id.as_str(), group)).collect();
        let mut shown = HashSet::new();
        let mut items = Vec::new();
        for node in &self.nodes {
            // From the node outwards, up to what lies directly there.
            let (mut item, mut around) = (Item::Node(node), node.within.as_deref());
            while around != id {
                let Some(group) = around.and_then(|around| groups.get(around)) else { break };
                (item, around) = (Item::Group(group), group.within.as_deref());
            }
            let new = match item {
                Item::Node(_) => true,
                Item::Group(group) => shown.insert(group.id.as_str()),
            };
            if around == id && new {
                items.push(item);
            }
        }
        items
    }
}

enum Item<'a> {
    Node(&'a Node),
    Group(&'a Group),
}

impl Group {
    /// What the frame does with its content: `for each, 4 at once`.
    fn caption(&self) -> String {
        let what = match self.kind {
            ShapeKind::All => "all at once",
            ShapeKind::Each | ShapeKind::FirstK => "for each",
            ShapeKind::EachSettled => "for each, settled",
            ShapeKind::Repeat => "repeat",
            ShapeKind::Settled => "settled",
            _ => "",
        };
        let parts = [Some(what), self.detail.as_deref()];
        let parts: Vec<&str> =
            parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }
}

/// The place in the definition of a path in a run: `refund/grade[3]#2/one` is at `refund/grade/one`. Names have none of
/// `[`, `]` and `#`.
fn place(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(['[', '#']).next().unwrap_or(""));
    segments.collect::<Vec<_>>().join("/")
}
