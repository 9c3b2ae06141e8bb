//! What `--help` and `--version` print.

use insta::assert_snapshot;

use crate::agentflow::agentflow;

fn printed(arguments: &[&str]) -> String {
    let ran = agentflow(arguments).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    // Lines that clap leaves blanks on differ for no reader.
    ran.stdout.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_of_the_whole() {
    assert_snapshot!(printed(&["--help"]));
}

#[test]
fn help_of_solve() {
    assert_snapshot!(printed(&["solve", "--help"]));
}

#[test]
fn short_help_of_solve() {
    assert_snapshot!(printed(&["solve", "-h"]));
}

#[test]
fn help_of_eval() {
    assert_snapshot!(printed(&["eval", "--help"]));
}

#[test]
fn help_of_eval_problems() {
    assert_snapshot!(printed(&["eval", "problems", "--help"]));
}

#[test]
fn help_of_train_collect() {
    assert_snapshot!(printed(&["train", "collect", "--help"]));
}

#[test]
fn help_of_train_label() {
    assert_snapshot!(printed(&["train", "label", "--help"]));
}

#[test]
fn help_of_train_prm() {
    assert_snapshot!(printed(&["train", "prm", "--help"]));
}

#[test]
fn help_of_prm_score() {
    assert_snapshot!(printed(&["prm", "score", "--help"]));
}

#[test]
fn help_of_train_sft() {
    assert_snapshot!(printed(&["train", "sft", "--help"]));
}

#[test]
fn help_of_train_dapo() {
    assert_snapshot!(printed(&["train", "dapo", "--help"]));
}

#[test]
fn help_of_tools_call() {
    assert_snapshot!(printed(&["tools", "call", "--help"]));
}

#[test]
fn help_of_serve() {
    assert_snapshot!(printed(&["serve", "--help"]));
}

#[test]
fn help_of_model() {
    assert_snapshot!(printed(&["model", "--help"]));
}

#[test]
fn help_of_model_random() {
    assert_snapshot!(printed(&["model", "random", "--help"]));
}

#[test]
fn help_of_bench_engine() {
    assert_snapshot!(printed(&["bench", "engine", "--help"]));
}

#[test]
fn version() {
    assert_eq!(printed(&["--version"]), concat!("agentflow ", env!("CARGO_PKG_VERSION")));
}

/// Without a word it is a misuse, but the answer is the same help.
#[test]
fn no_command_prints_help_on_stderr() {
    let ran = agentflow(&[]).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("Usage: agentflow <COMMAND>"), "{ran}");
}
