//! A graph in the language of Mermaid, which GitHub and many editors draw.

use std::fmt::Write as _;

use super::{Graph, Group, Item, Node, NodeKind};

impl Graph {
    /// The graph as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        let mut out = "flowchart TD\n".to_owned();
        self.mermaid_inside(None, 1, &mut out);
        for edge in &self.edges {
            let label = edge.label.as_deref().map(|label| format!("|\"{}\"|", escape(label)));
            let label = label.unwrap_or_default();
            line(&mut out, 1, &format!("{} -->{label} {}", edge.from, edge.to));
        }
        out
    }

    fn mermaid_inside(&self, within: Option<&str>, depth: usize, out: &mut String) {
        for item in self.within(within) {
            match item {
                Item::Node(node) => line(out, depth, &declaration(node)),
                Item::Group(group) => {
                    line(out, depth, &format!("subgraph {}[\"{}\"]", group.id, title(group)));
                    self.mermaid_inside(Some(&group.id), depth + 1, out);
                    line(out, depth, "end");
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
    let (open, close) = match node.kind {
        NodeKind::Start | NodeKind::End => ("([", "])"),
        NodeKind::Step => ("[", "]"),
        NodeKind::Ask => ("[/", "/]"),
        NodeKind::Approve => ("{{", "}}"),
        NodeKind::Switch => ("{", "}"),
        NodeKind::Pass | NodeKind::Fork | NodeKind::Join => return format!("{}((\" \"))", node.id),
    };
    let mut text = escape(&node.name);
    push_about(&mut text, node.about.as_deref());
    format!("{}{open}\"{text}\"{close}", node.id)
}

fn push_about(text: &mut String, about: Option<&str>) {
    if let Some(about) = about {
        text.push_str("<br/>");
        text.push_str(&escape(about));
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:indent$}{text}", "", indent = 4 * depth);
}

/// Text for a quoted label. Mermaid knows no backslash, only entity codes; it reads Markdown and icons in labels, too, so
/// punctuation is left as it is only where it follows a letter and means nothing.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut after_letter = false;
    for c in text.trim().replace("\r\n", "\n").chars() {
        match c {
            '\n' => out.push_str("<br/>"),
            c if c.is_control() => out.push(' '),
            c if c.is_alphanumeric() || c == ' ' => out.push(c),
            '_' | '-' | '.' | ',' | '/' | '\'' | '(' | ')' | '!' | '?' if after_letter => {
                out.push(c);
            }
            '"' => out.push_str("#quot;"),
            c if c.is_ascii() => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c => out.push(c),
        }
        after_letter = c.is_alphabetic();
    }
    out
}
