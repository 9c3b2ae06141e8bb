//! The planner in the binary, end to end: real weights, real loop, real Python, and no server anywhere.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `agentflow` with `arguments`, where nobody listens for Ollama.
fn agentflow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    // The discard port of this machine: whatever asked it for a model would fail, and nothing else may be asked.
    command.args(arguments).env("OLLAMA_HOST", "127.0.0.1:9").stdin(Stdio::null());
    for name in ["AGENTFLOW_LOG", "AGENTFLOW_PYTHON", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    // Nor is there a way out through a proxy.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env(name, "http://127.0.0.1:9");
    }
    command
}

fn succeeded(command: &mut Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// The command of the README.
#[test]
fn the_question_of_the_readme_is_answered() {
    let (stdout, stderr) =
        succeeded(&mut agentflow(&["solve", "What is 15% of 240, then doubled?"]));
    assert_eq!(stdout, "72\n", "{stderr}");
    assert!(stderr.starts_with("model: the bundled tiny planner"), "{stderr}");
    for label in ["step 1  ", "code  ", "result  ", "verdict  ", "answer  72"] {
        assert!(stderr.contains(label), "no `{label}` in\n{stderr}");
    }
}

/// Tokens are drawn, with temperature, from the seed alone: everything but times is the same byte for byte.
#[test]
fn a_seed_makes_two_runs_identical_apart_from_times() {
    let run = |seed: &str| {
        let question = "A shop sells 14 boxes of 36 pens. How many pens is that?";
        let mut arguments = vec!["solve", question, "--backend", "local", "--json"];
        arguments.extend(["--temperature", "1.5", "--seed", seed]);
        // Hot as it is, it may fail to answer; that has to be repeated, too.
        let output = agentflow(&arguments).output().expect("the binary was built");
        String::from_utf8(output.stdout).expect("JSON is UTF-8")
    };
    let without_times = |text: &str| {
        text.lines().filter(|line| !line.contains("\"wall_")).collect::<Vec<_>>().join("\n")
    };
    let written = |text: &str| {
        let trajectory: Value = serde_json::from_str(text).expect("a trajectory");
        let steps = trajectory["steps"].as_array().expect("steps").clone();
        steps.iter().map(|step| step["raw"].clone()).collect::<Vec<_>>()
    };
    let first = run("5");
    assert_eq!(without_times(&first), without_times(&run("5")));
    assert_ne!(written(&first), written(&run("6")), "the seed decides nothing");
}

/// Loose on purpose: `results/tiny/` has the measured figures, this only notices that something broke.
#[test]
fn most_problems_of_the_benchmark_are_solved() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command =
        agentflow(&["eval", "-b", "arith", "--limit", "40", "--json", "--backend", "local"]);
    let (stdout, stderr) = succeeded(command.current_dir(dir.path()));
    let report: Value = serde_json::from_str(&stdout).expect("a report");
    assert_eq!(report["counts"]["samples"], 40);
    let right = report["counts"]["right"].as_u64().expect("a number");
    assert!(right >= 36, "{right} of 40\n{stdout}\n{stderr}");
}

/// As from a script or a service: no terminal, no input, nowhere to write.
#[test]
fn it_works_with_standard_input_closed_and_from_an_empty_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let binary = env!("CARGO_BIN_EXE_agentflow");
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "exec \"$0\" solve 'What is 12% of 350?' --backend local --quiet <&-",
        binary,
    ]);
    let (stdout, stderr) = succeeded(shell.current_dir(dir.path()));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("42\n", ""));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0, "it left files");
}

/// What it is recorded as, so that its trajectories are not taken for another model's.
#[test]
fn its_trajectories_name_it() {
    let arguments = ["solve", "What is 12% of 350?", "--backend", "local", "--json", "--quiet"];
    let (stdout, _) = succeeded(&mut agentflow(&arguments));
    let trajectory: Value = serde_json::from_str(&stdout).expect("a trajectory");
    assert_eq!(trajectory["model"]["backend"], "local");
    assert!(
        trajectory["model"]["name"].as_str().is_some_and(|name| name.contains("tiny")),
        "{stdout}"
    );
    assert_eq!(trajectory["prompts"], "compact/1");
    let step = &trajectory["steps"][0];
    let count = |key: &str| step[key].as_array().map(Vec::len);
    assert!(
        count("token_ids").is_some_and(|tokens| tokens > 0)
            && count("token_ids") == count("logprobs"),
        "{step}"
    );
}
