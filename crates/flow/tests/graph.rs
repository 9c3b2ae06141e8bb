//! Drawings of flows: what is in them, and that their texts are what Mermaid and Graphviz read.

use std::collections::{HashMap, HashSet};

use agentflow_flow::graph::{Graph, NodeKind};
use agentflow_flow::{
    Context, Flow, Next, Node, Settled, Shape, ShapeKind, Step, StepError, all, approve, ask, each,
    each_settled, first_k, node, repeat, settled, step, switch,
};
use proptest::prelude::*;

async fn same(_: Context, value: u32) -> Result<u32, StepError> {
    Ok(value)
}

fn leaf(name: &str) -> Node<u32, u32> {
    step(name, same)
}

fn refund() -> Flow<u32, u32> {
    let sum = step("sum", async |_: Context, (a, b): (u32, u32)| Ok(a + b));
    let items = step("items", async |_: Context, n: u32| Ok((0..n).collect::<Vec<_>>()));
    let total = step("total", async |_: Context, all: Vec<u32>| Ok(all.into_iter().sum::<u32>()));
    let pay = Flow::new("pay")
        .then(approve("gate", |amount: &u32| *amount).describe("over 100"))
        .then(leaf("charge"));
    Flow::new("refund")
        .then(leaf("read").describe("the \"form\""))
        .then(all("check", (leaf("fraud"), leaf("limit"))))
        .then(sum)
        .then(items)
        .then(each("grade", 4, leaf("one")))
        .then(total)
        .then(
            switch("size")
                .end("nothing", |n| *n == 0, |n| n)
                .when("small", |n| *n < 100, same)
                .otherwise(pay),
        )
}

/// A loop whose body chooses: what an agent is.
fn agent() -> Flow<u32, u32> {
    let turn = |more: bool| {
        move |_: Context, n: u32| async move {
            Ok(if more { Next::Again(n + 1) } else { Next::Done(n) })
        }
    };
    let act = switch("act").when("search", |n| *n < 3, turn(true)).otherwise(turn(false));
    Flow::new("agent").then(repeat("turns", 8, act))
}

#[test]
fn mermaid_of_rows_groups_and_routes() {
    insta::assert_snapshot!(refund().graph().to_mermaid(), @r##"
    flowchart TD
        START(["refund"])
        n_read["read<br/>the #quot;form#quot;"]
        subgraph g_check["check (all at once)"]
            n_check_fork((" "))
            n_check_fraud["fraud"]
            n_check_limit["limit"]
            n_check_join((" "))
        end
        n_sum["sum"]
        n_items["items"]
        subgraph g_grade["grade (for each, 4 at once)"]
            n_grade_one["one"]
        end
        n_total["total"]
        n_size{"size"}
        n_size_nothing((" "))
        n_size_small["small"]
        n_size_otherwise_gate{{"gate<br/>over 100"}}
        n_size_otherwise_charge["charge"]
        END(["end"])
        START --> n_read
        n_read --> n_check_fork
        n_check_fork --> n_check_fraud
        n_check_fork --> n_check_limit
        n_check_fraud --> n_check_join
        n_check_limit --> n_check_join
        n_check_join --> n_sum
        n_sum --> n_items
        n_items --> n_grade_one
        n_grade_one --> n_total
        n_total --> n_size
        n_size -->|"nothing"| n_size_nothing
        n_size -->|"small"| n_size_small
        n_size -->|"otherwise"| n_size_otherwise_gate
        n_size_nothing --> END
        n_size_small --> END
        n_size_otherwise_gate --> n_size_otherwise_charge
        n_size_otherwise_charge --> END
    "##);
}

#[test]
fn dot_of_a_loop_that_chooses() {
    insta::assert_snapshot!(agent().graph().to_dot(), @r#"
    digraph "agent" {
        node [fontname="Helvetica", fontsize=12];
        edge [fontname="Helvetica", fontsize=10];
        graph [fontname="Helvetica", fontsize=11, style=rounded, labeljust=l];
        START [label="agent", shape=oval];
        subgraph cluster_g_turns {
            label="turns (repeat, at most 8 hops)";
            n_turns_act [label="act", shape=diamond];
            n_turns_act_search [label="search", shape=box, style=rounded];
            n_turns_act_otherwise [label="otherwise", shape=box, style=rounded];
            n_turns_join [label="", shape=point, width=0.1];
        }
        END [label="end", shape=oval];
        START -> n_turns_act;
        n_turns_act -> n_turns_act_search [label="search"];
        n_turns_act -> n_turns_act_otherwise [label="otherwise"];
        n_turns_act_search -> n_turns_join;
        n_turns_act_otherwise -> n_turns_join;
        n_turns_join -> n_turns_act [label="again"];
        n_turns_join -> END [label="done"];
    }
    "#);
}

#[test]
fn a_graph_is_json_and_comes_back() {
    let graph = refund().graph();
    let json = serde_json::to_value(&graph).unwrap();
    assert_eq!(
        json["nodes"][1],
        serde_json::json!({
            "id": "n_read", "kind": "step", "path": "refund/read", "name": "read", "about": "the \"form\""
        })
    );
    assert_eq!(
        json["groups"][1],
        serde_json::json!({
            "id": "g_grade", "kind": "each", "path": "refund/grade", "name": "grade", "detail": "4 at once"
        })
    );
    assert_eq!(
        json["edges"][11],
        serde_json::json!({ "from": "n_size", "to": "n_size_nothing", "label": "nothing" })
    );
    assert_eq!(serde_json::from_value::<Graph>(json).unwrap(), graph);
}

#[test]
fn questions_gates_and_groups_show_what_they_are() {
    let list = step("list", async |_: Context, (n, _): (u32, String)| Ok(vec![n]));
    let count = step("count", async |_: Context, all: Vec<Settled<u32>>| Ok(all.len() as u32));
    let taken = step("taken", async |_: Context, tried: Settled<u32>| Ok(tried?));
    let flow = Flow::new("f")
        .then(ask::<u32, String, String>("who", |_| "who?".to_owned()))
        .then(list)
        .then(first_k("race", 2, leaf("run")))
        .then(each_settled("grade", usize::MAX, leaf("one")))
        .then(count)
        .then(settled("try", leaf("inside")))
        .then(taken)
        .then(Flow::new("child").then(leaf("a")).then(leaf("b")));
    let mermaid = flow.graph().to_mermaid();
    for line in [
        r#"n_who[/"who"/]"#,
        r#"subgraph g_race["race (for each, the first 2)"]"#,
        r#"subgraph g_grade["grade (for each, settled, all at once)"]"#,
        r#"subgraph g_try["try (settled)"]"#,
        r#"subgraph g_child["child"]"#,
    ] {
        assert!(mermaid.lines().any(|known| known.trim() == line), "{line} in\n{mermaid}");
    }
}

#[test]
fn an_arm_that_ends_leads_on_to_what_follows_the_switch() {
    let choice = switch("choice").end("no", |n| *n == 0, |n| n).otherwise(same);
    let graph = Flow::new("f").then(choice).then(leaf("next")).graph();
    let ends: Vec<_> = graph.edges.iter().filter(|edge| edge.from == "n_choice_no").collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].to, "n_next");
}

#[tokio::test]
async fn skipped_nodes_are_those_that_a_run_did_not_come_to() {
    let pay = Flow::new("pay")
        .then(each("parts", 2, leaf("part")))
        .then(step("sum", async |_: Context, parts: Vec<u32>| Ok(parts.into_iter().sum::<u32>())));
    let parts = step("split", async |_: Context, n: u32| Ok(vec![n, n]));
    let none = step("none", async |_: Context, _: Vec<u32>| Ok(0));
    let flow = Flow::new("f")
        .then(parts)
        .then(switch("size").when("none", |all: &Vec<u32>| all[0] == 0, none).otherwise(pay));
    let graph = flow.graph();
    let skipped = async |input| {
        let trace = flow.run(input).await.trace;
        graph.skipped(&trace).iter().map(|node| node.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(skipped(3).await, ["f/size/none/none"]);
    assert_eq!(skipped(0).await, ["f/size/otherwise/parts/part", "f/size/otherwise/sum"]);
}

#[test]
fn what_an_invalid_flow_repeats_is_told_apart() {
    let graph = Flow::new("f").then(leaf("a b")).then(leaf("a_b")).then(leaf("a b")).graph();
    let ids: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["START", "n_a_b", "n_a_b_2", "n_a_b_3", "END"]);
}

#[test]
fn a_flow_without_nodes_is_an_edge() {
    let graph = Flow::<u32, u32>::new("nothing").graph();
    assert_eq!((graph.nodes.len(), graph.edges.len()), (2, 1));
}

/// A step that says it is made of something else.
struct Shaped(Shape);

impl Step<u32> for Shaped {
    type Output = u32;

    async fn run(&self, _: Context, input: u32) -> Result<u32, StepError> {
        Ok(input)
    }

    fn shape(&self) -> Shape {
        self.0.clone()
    }
}

fn flow_of(name: &str, shapes: Vec<Shape>) -> Flow<u32, u32> {
    shapes.into_iter().fold(Flow::new(name), |flow, shape| {
        let (name, about) = (shape.name.clone(), shape.about.clone());
        // A shape without a name is that of the node itself.
        let made = node(&name, Shaped(Shape { name: String::new(), ..shape }));
        flow.then(match about {
            Some(about) => made.describe(&about),
            None => made,
        })
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        "\\PC{1,8}",
        r##"["'`#&;:|<>{}()\[\]\\/*_~%@^.$+=-]{1,6}"##,
        Just("end".to_owned()),
        Just("1. do it".to_owned()),
        Just("größe 数 🦀".to_owned()),
        Just("style:x#y;z".to_owned()),
        Just("two\nlines\tand a tab".to_owned()),
        Just("#quot; &amp; &#35; \\N".to_owned()),
        Just("<b>bold</b> `code` fa:fa-car".to_owned()),
    ]
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let leaf_kind = prop_oneof![
        Just(ShapeKind::Step),
        Just(ShapeKind::Ask),
        Just(ShapeKind::Approve),
        Just(ShapeKind::End),
    ];
    let about = || proptest::option::weighted(0.3, any_name());
    let made = |(name, kind, about, children)| Shape { name, kind, about, detail: None, children };
    let leaf = (any_name(), leaf_kind, about(), Just(Vec::new())).prop_map(made);
    leaf.prop_recursive(4, 24, 4, move |inside| {
        let kind = prop_oneof![
            Just(ShapeKind::Sequence),
            Just(ShapeKind::All),
            Just(ShapeKind::Each),
            Just(ShapeKind::EachSettled),
            Just(ShapeKind::FirstK),
            Just(ShapeKind::Switch),
            Just(ShapeKind::Repeat),
            Just(ShapeKind::Settled),
        ];
        (any_name(), kind, about(), prop::collection::vec(inside, 0..4)).prop_map(made)
    })
}

proptest! {
    #[test]
    fn every_node_is_on_a_way_from_start_to_end(
        name in any_name(),
        shapes in prop::collection::vec(any_shape(), 0..4),
    ) {
        let graph = flow_of(&name, shapes).graph();
        let ids: HashSet<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
        prop_assert_eq!(ids.len(), graph.nodes.len());
        for edge in &graph.edges {
            prop_assert!(ids.contains(edge.from.as_str()) && ids.contains(edge.to.as_str()));
        }
        let ways = |back: bool| {
            let mut ways: HashMap<&str, Vec<&str>> = HashMap::new();
            for edge in &graph.edges {
                let (from, to) = if back { (&edge.to, &edge.from) } else { (&edge.from, &edge.to) };
                ways.entry(from).or_default().push(to);
            }
            ways
        };
        prop_assert_eq!(&reached("START", &ways(false)), &ids);
        prop_assert_eq!(&reached("END", &ways(true)), &ids);
        let marks = |kind| graph.nodes.iter().filter(|node| node.kind == kind).count();
        prop_assert_eq!((marks(NodeKind::Start), marks(NodeKind::End)), (1, 1));
    }

    #[test]
    fn texts_say_what_the_graph_says(
        name in any_name(),
        shapes in prop::collection::vec(any_shape(), 0..4),
    ) {
        let graph = flow_of(&name, shapes).graph();
        let said = said(&graph);
        prop_assert_eq!(&read_mermaid(&graph.to_mermaid()), &said);
        prop_assert_eq!(&read_dot(&graph.to_dot()), &said);
    }
}

fn reached<'a>(from: &'a str, ways: &HashMap<&'a str, Vec<&'a str>>) -> HashSet<&'a str> {
    let mut seen = HashSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in ways.get(at).into_iter().flatten() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

/// What a drawing shows: texts by id, those of frames included; edges; what is in which frame.
#[derive(Debug, Default, PartialEq)]
struct Said {
    texts: HashMap<String, String>,
    edges: Vec<(String, String, String)>,
    within: HashMap<String, String>,
}

fn said(graph: &Graph) -> Said {
    let shown = |text: &str| text.trim().replace(|c: char| c.is_control() && c != '\n', " ");
    let with_about = |text: String, about: &Option<String>| match about {
        Some(about) => format!("{text}\n{}", shown(about)),
        None => text,
    };
    let mut said = Said::default();
    for node in &graph.nodes {
        let text = match node.kind {
            NodeKind::Pass | NodeKind::Fork | NodeKind::Join => String::new(),
            _ => with_about(shown(&node.name), &node.about),
        };
        said.texts.insert(node.id.clone(), text);
        said.within.extend(node.within.clone().map(|group| (node.id.clone(), group)));
    }
    for group in &graph.groups {
        let caption = match group.kind {
            ShapeKind::All => " (all at once)",
            ShapeKind::Each | ShapeKind::FirstK => " (for each)",
            ShapeKind::EachSettled => " (for each, settled)",
            ShapeKind::Repeat => " (repeat)",
            ShapeKind::Settled => " (settled)",
            _ => "",
        };
        let title = with_about(shown(&group.name) + caption, &group.about);
        said.texts.insert(group.id.clone(), title);
        said.within.extend(group.within.clone().map(|around| (group.id.clone(), around)));
    }
    for edge in &graph.edges {
        let label = edge.label.as_deref().map_or(String::new(), shown);
        said.edges.push((edge.from.clone(), edge.to.clone(), label));
    }
    said
}

/// Reads the lines that we write, and only those: a quote in a label that ends it too early fails here.
fn read_mermaid(text: &str) -> Said {
    let mut said = Said::default();
    let mut around: Vec<String> = Vec::new();
    for line in text.lines().skip(1).map(str::trim) {
        if line == "end" {
            around.pop().expect("an open subgraph");
        } else if let Some((from, rest)) = line.split_once(" -->") {
            let (label, to) = match rest.strip_prefix("|\"") {
                Some(rest) => rest.split_once("\"| ").expect("a label ends"),
                None => ("", rest.trim_start()),
            };
            said.edges.push((from.to_owned(), to.to_owned(), entities(label)));
        } else {
            let group = line.strip_prefix("subgraph ");
            let (before, rest) = group.unwrap_or(line).split_once('"').expect("a label begins");
            let (label, after) = rest.rsplit_once('"').expect("a label ends");
            assert!(!label.contains('"') && !after.contains('"'), "{line}");
            let id = before.trim_end_matches(['(', '[', '{', '/']).to_owned();
            let label = if label == " " { "" } else { label };
            said.texts.insert(id.clone(), entities(label));
            said.within.extend(around.last().map(|group| (id.clone(), group.clone())));
            if group.is_some() {
                around.push(id);
            }
        }
    }
    assert_eq!(around, [""; 0], "every subgraph ends");
    said
}

/// The text that Mermaid shows for a label: codes such as `#35;` and `#quot;`.
fn entities(label: &str) -> String {
    let mut out = String::new();
    let lines = label.replace("<br/>", "\n");
    let mut rest = lines.as_str();
    while let Some((before, code)) = rest.split_once('#') {
        let (code, after) = code.split_once(';').expect("a code ends");
        out.push_str(before);
        let number = if code == "quot" { 34 } else { code.parse().expect("a number") };
        out.push(char::from_u32(number).expect("a character"));
        rest = after;
    }
    out + rest
}

/// As [`read_mermaid`], for DOT.
fn read_dot(text: &str) -> Said {
    let mut said = Said::default();
    let mut around: Vec<String> = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in &lines[4..lines.len() - 1] {
        if *line == "}" {
            around.pop().expect("an open subgraph");
        } else if let Some(group) = line.strip_prefix("subgraph cluster_") {
            let id = group.strip_suffix(" {").expect("it is opened").to_owned();
            said.within.extend(around.last().map(|group| (id.clone(), group.clone())));
            around.push(id);
        } else if let Some(title) = line.strip_prefix("label=") {
            let group = around.last().expect("in a subgraph").clone();
            said.texts.insert(group, quoted(title.strip_suffix(';').expect("it ends")).0);
        } else if let Some((from, rest)) = line.split_once(" -> ") {
            let rest = rest.strip_suffix(';').expect("it ends");
            let (to, label) = match rest.split_once(" [label=") {
                Some((to, label)) => (to, quoted(label).0),
                None => (rest, String::new()),
            };
            said.edges.push((from.to_owned(), to.to_owned(), label));
        } else {
            let (id, rest) = line.split_once(" [label=").expect("a label begins");
            let (label, after) = quoted(rest);
            assert!(after.starts_with(", shape="), "{line}");
            said.texts.insert(id.to_owned(), label);
            said.within.extend(around.last().map(|group| (id.to_owned(), group.clone())));
        }
    }
    said
}

/// The text of the quoted string that `text` begins with, as Graphviz shows it, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"').expect("a string begins").char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out.replace("&amp;", "&"), &text[at + 2..]),
            '\\' => match chars.next().expect("something is escaped").1 {
                'n' => out.push('\n'),
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    panic!("a string ends: {text}");
}

#[test]
#[ignore = "needs Graphviz: run it with `cargo test -- --ignored` where `dot` is installed"]
fn graphviz_draws_what_we_write() {
    let names = ["a \"b\" \\N", "<c> &amp; {d|e}", "größe 数 🦀\nline"];
    let shapes = names.map(|name| Shape {
        name: name.to_owned(),
        kind: ShapeKind::Step,
        about: Some(name.to_owned()),
        detail: None,
        children: Vec::new(),
    });
    let text = flow_of("f \"g\"", shapes.to_vec()).graph().to_dot();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.dot");
    std::fs::write(&file, text).unwrap();
    let drawn = std::process::Command::new("dot").arg("-Tplain").arg(&file).output().unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    assert_eq!(String::from_utf8_lossy(&drawn.stderr), "");
    let plain = String::from_utf8(drawn.stdout).unwrap();
    assert_eq!(plain.lines().filter(|line| line.starts_with("node ")).count(), 5, "{plain}");
    assert_eq!(plain.lines().filter(|line| line.starts_with("edge ")).count(), 4, "{plain}");
}
