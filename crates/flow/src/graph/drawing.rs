//! From the tree that a definition is to nodes and edges.

use std::collections::{HashMap, HashSet};

use super::{Edge, Graph, Group, Node, NodeKind};
use crate::shape::{Shape, ShapeKind};

/// START, the nodes of the flow in a row, END.
pub(super) fn draw(flow: &Shape) -> Graph {
    let graph =
        Graph { name: flow.name.clone(), nodes: Vec::new(), groups: Vec::new(), edges: Vec::new() };
    let taken = HashSet::from(["START".to_owned(), "END".to_owned()]);
    let mut drawing = Drawing { graph, taken };
    let inside = Place { path: &flow.name, within: None };
    drawing.mark("START", NodeKind::Start, &flow.name);
    let start = Part::single("START".to_owned());
    let row = drawing.row_after(start, &flow.children, inside);
    drawing.mark("END", NodeKind::End, "end");
    drawing.lead(row.exits, "END");
    drawing.in_order()
}

struct Drawing {
    graph: Graph,
    /// Ids that are in use.
    taken: HashSet<String>,
}

/// Where something is drawn.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Of what is around it.
    path: &'a str,
    /// The id of the group around it.
    within: Option<&'a str>,
}

/// A drawn part: the node that leads into it, and the ways out of it.
struct Part {
    entry: String,
    exits: Vec<Exit>,
}

/// A way out of a part that leads nowhere yet.
struct Exit {
    from: String,
    label: Option<&'static str>,
}

impl Drawing {
    fn part(&mut self, shape: &Shape, place: Place) -> Part {
        let path = format!("{}/{}", place.path, shape.name);
        if shape.kind == ShapeKind::Switch && !shape.children.is_empty() {
            return self.switch(shape, &path, place.within);
        }
        if shape.children.is_empty() {
            let kind = match shape.kind {
                ShapeKind::Ask => NodeKind::Ask,
                ShapeKind::Approve => NodeKind::Approve,
                ShapeKind::End => NodeKind::Pass,
                _ => NodeKind::Step,
            };
            return Part::single(self.node(shape, kind, &path, place.within));
        }
        let group = self.group(shape, &path, place.within);
        let inside = Place { path: &path, within: Some(&group) };
        match shape.kind {
            ShapeKind::All => self.all(shape, inside),
            ShapeKind::Repeat => self.repeat(shape, inside),
            _ => self.row(&shape.children, inside).expect("it has children"),
        }
    }

    /// One after the other; `None` for none.
    fn row(&mut self, shapes: &[Shape], place: Place) -> Option<Part> {
        let (first, others) = shapes.split_first()?;
        let first = self.part(first, place);
        Some(self.row_after(first, others, place))
    }

    fn row_after(&mut self, first: Part, shapes: &[Shape], place: Place) -> Part {
        shapes.iter().fold(first, |row, shape| {
            let next = self.part(shape, place);
            self.lead(row.exits, &next.entry);
            Part { entry: row.entry, exits: next.exits }
        })
    }

    fn switch(&mut self, shape: &Shape, path: &str, within: Option<&str>) -> Part {
        let choice = self.node(shape, NodeKind::Switch, path, within);
        let mut exits = Vec::new();
        for arm in &shape.children {
            let arm_path = format!("{path}/{}", arm.name);
            // The label on the edge names an arm of several nodes; a frame around them would only repeat it.
            let row = match arm.kind {
                ShapeKind::Sequence => self.row(&arm.children, Place { path: &arm_path, within }),
                _ => None,
            };
            let drawn = row.unwrap_or_else(|| self.part(arm, Place { path, within }));
            self.edge(&choice, &drawn.entry, Some(&arm.name));
            exits.extend(drawn.exits);
        }
        Part { entry: choice, exits }
    }

    /// Fork and join, so that two groups in a row are not joined by an edge from each to each.
    fn all(&mut self, shape: &Shape, inside: Place) -> Part {
        let fork = self.bar(NodeKind::Fork, inside);
        let mut branches = Vec::new();
        for branch in &shape.children {
            let drawn = self.part(branch, inside);
            self.edge(&fork, &drawn.entry, None);
            branches.extend(drawn.exits);
        }
        let join = self.bar(NodeKind::Join, inside);
        self.lead(branches, &join);
        Part { entry: fork, exits: vec![Exit { from: join, label: None }] }
    }

    fn repeat(&mut self, shape: &Shape, inside: Place) -> Part {
        let mut body = self.row(&shape.children, inside).expect("it has children");
        if body.exits.len() > 1 {
            let join = self.bar(NodeKind::Join, inside);
            self.lead(body.exits, &join);
            body.exits = vec![Exit { from: join, label: None }];
        }
        for exit in &mut body.exits {
            self.edge(&exit.from, &body.entry, Some("again"));
            exit.label = Some("done");
        }
        body
    }

    fn mark(&mut self, id: &str, kind: NodeKind, name: &str) {
        self.graph.nodes.push(Node {
            id: id.to_owned(),
            kind,
            path: self.graph.name.clone(),
            name: name.to_owned(),
            about: None,
            within: None,
        });
    }

    /// A fork or a join of the group at `inside`.
    fn bar(&mut self, kind: NodeKind, inside: Place) -> String {
        let name = if kind == NodeKind::Fork { "fork" } else { "join" };
        let id = self.id("n", &format!("{}/{name}", inside.path));
        self.graph.nodes.push(Node {
            id: id.clone(),
            kind,
            path: inside.path.to_owned(),
            name: name.to_owned(),
            about: None,
            within: inside.within.map(str::to_owned),
        });
        id
    }

    fn node(&mut self, shape: &Shape, kind: NodeKind, path: &str, within: Option<&str>) -> String {
        let id = self.id("n", path);
        self.graph.nodes.push(Node {
            id: id.clone(),
            kind,
            path: path.to_owned(),
            name: shape.name.clone(),
            about: shape.about.clone(),
            within: within.map(str::to_owned),
        });
        id
    }

    fn group(&mut self, shape: &Shape, path: &str, within: Option<&str>) -> String {
        let id = self.id("g", path);
        self.graph.groups.push(Group {
            id: id.clone(),
            kind: shape.kind,
            path: path.to_owned(),
            name: shape.name.clone(),
            about: shape.about.clone(),
            detail: shape.detail.clone(),
            within: within.map(str::to_owned),
        });
        id
    }

    fn edge(&mut self, from: &str, to: &str, label: Option<&str>) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.graph.edges.push(Edge { from, to, label: label.map(str::to_owned) });
    }

    fn lead(&mut self, exits: Vec<Exit>, to: &str) {
        for exit in exits {
            self.edge(&exit.from, to, exit.label);
        }
    }

    /// The edges in the order of the nodes that they leave.
    fn in_order(self) -> Graph {
        let mut graph = self.graph;
        let ids = graph.nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index));
        let position: HashMap<String, usize> = ids.collect();
        graph.edges.sort_by_key(|edge| position[&edge.from]);
        graph
    }

    /// An id that shows where in the flow it is, so that a change elsewhere does not change it. The prefix keeps it from
    /// being a word of Mermaid or DOT, such as `end`.
    fn id(&mut self, prefix: &str, path: &str) -> String {
        let inside = &path[self.graph.name.len()..];
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let first: String = prefix.chars().chain(inside.chars().map(safe)).collect();
        let mut id = first.clone();
        let mut others = 1;
        while !self.taken.insert(id.clone()) {
            others += 1;
            id = format!("{first}_{others}");
        }
        id
    }
}

impl Part {
    fn single(id: String) -> Self {
        Self { entry: id.clone(), exits: vec![Exit { from: id, label: None }] }
    }
}
