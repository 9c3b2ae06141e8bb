//! A graph in the language of Graphviz.

use std::fmt::Write as _;

use super::{Graph, Group, Item, Node, NodeKind};

impl Graph {
    /// The graph as a Graphviz digraph: `dot -Tsvg` draws it.
    pub fn to_dot(&self) -> String {
        let mut out = format!("digraph \"{}\" {{\n", escape(&self.name));
        line(&mut out, 1, "node [fontname=\"Helvetica\", fontsize=12];");
        line(&mut out, 1, "edge [fontname=\"Helvetica\", fontsize=10];");
        line(
            &mut out,
            1,
            "graph [fontname=\"Helvetica\", fontsize=11, style=rounded, labeljust=l];",
        );
        self.dot_inside(None, 1, &mut out);
        for edge in &self.edges {
            let label =
                edge.label.as_deref().map(|label| format!(" [label=\"{}\"]", escape(label)));
            let label = label.unwrap_or_default();
            line(&mut out, 1, &format!("{} -> {}{label};", edge.from, edge.to));
        }
        out.push_str("}\n");
        out
    }

    fn dot_inside(&self, within: Option<&str>, depth: usize, out: &mut String) {
        for item in self.within(within) {
            match item {
                Item::Node(node) => line(out, depth, &declaration(node)),
                Item::Group(group) => {
                    // Graphviz frames what is called `cluster`.
                    line(out, depth, &format!("subgraph cluster_{} {{", group.id));
                    line(out, depth + 1, &format!("label=\"{}\";", title(group)));
                    self.dot_inside(Some(&group.id), depth + 1, out);
                    line(out, depth, "}");
                }
            }
        }
    }
}

fn title(group: &Group) -> String {
    let mut title = escape(&group.name);
    let caption = group.caption();
    if !caption.is_empty() {
        let _ = write!(title, " ({caption})");
    }
    push_about(&mut title, group.about.as_deref());
    title
}

fn declaration(node: &Node) -> String {
    let shape = match node.kind {
        NodeKind::Start | NodeKind::End => "shape=oval",
        NodeKind::Step => "shape=box, style=rounded",
        NodeKind::Ask => "shape=parallelogram",
        NodeKind::Approve => "shape=hexagon",
        NodeKind::Switch => "shape=diamond",
        NodeKind::Pass => return format!("{} [label=\"\", shape=circle, width=0.15];", node.id),
        NodeKind::Fork | NodeKind::Join => {
            return format!("{} [label=\"\", shape=point, width=0.1];", node.id);
        }
    };
    let mut text = escape(&node.name);
    push_about(&mut text, node.about.as_deref());
    format!("{} [label=\"{text}\", {shape}];", node.id)
}

fn push_about(text: &mut String, about: Option<&str>) {
    if let Some(about) = about {
        text.push_str("\\n");
        text.push_str(&escape(about));
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:indent$}{text}", "", indent = 4 * depth);
}

/// Text for a quoted string. Graphviz reads backslashes and, in labels, entities such as `&amp;`.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().replace("\r\n", "\n").chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
