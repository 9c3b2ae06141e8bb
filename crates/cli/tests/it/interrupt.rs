//! Ctrl-c and kill -9 in the middle of the work: prompt ends, and no process stays behind.

use crate::agentflow::{Agentflow, Running, agentflow, soon};
use crate::ollama::{Answer, Server, code_then_done, decide};
use crate::processes::{Descendants, descendants};

const SOLVE: [&str; 4] = ["solve", "hi", "--tool-timeout", "1000"];

/// A run whose tool loops.
fn looping(command: Agentflow) -> Running {
    let running = command.start();
    // Half a second of processor time: it is past every start-up, in the loop.
    let busy = || descendants(running.id()).iter().any(|process| process.processor_ticks() > 50);
    assert!(soon(busy), "no tool ever ran");
    running
}

#[test]
fn ctrl_c_while_the_model_is_silent() {
    let server = Server::planning(vec![Answer::Silence]);
    let running = agentflow(&["solve", "hi"]).with(&server).start();
    assert!(soon(|| !server.asked().is_empty()), "the model was never asked");
    let descendants = Descendants::of(running.id());
    running.signal("INT");
    let ran = running.wait();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(130), ""), "{ran}");
    assert!(ran.stderr.ends_with("error: interrupted\n"), "{ran}");
    descendants.all_gone();
}

#[test]
fn ctrl_c_while_the_server_is_silent() {
    let server = Server::stuck();
    let running =
        agentflow(&["solve", "hi", "--backend", "ollama", "--model", "m"]).with(&server).start();
    // It has a handler as soon as it is about to connect; before that, the system's own ends it.
    std::thread::sleep(std::time::Duration::from_millis(100));
    running.signal("INT");
    let ran = running.wait();
    assert!(ran.code().is_none_or(|code| code == 130), "{ran}");
}

#[test]
fn ctrl_c_while_a_tool_loops() {
    let server = Server::planning(code_then_done("while True: pass"));
    let running = looping(agentflow(&SOLVE).with(&server));
    let descendants = Descendants::of(running.id());
    running.signal("INT");
    let ran = running.wait();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(130), ""), "{ran}");
    assert!(descendants.all_gone() > 0);
}

/// Nobody is left to clean up, so the kernel has to.
#[test]
fn kill_9_while_a_tool_loops() {
    let server = Server::planning(code_then_done("while True: pass"));
    let running = looping(agentflow(&SOLVE).with(&server));
    let seen = Descendants::of(running.id());
    running.signal("KILL");
    assert_eq!(running.wait().code(), None);
    assert!(seen.all_gone() > 0);
}

#[test]
fn ctrl_c_while_the_tools_of_a_benchmark_loop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::planning(vec![decide("Loop.", "code", "while True: pass")]);
    let command = agentflow(&["eval", "--limit", "9", "--tool-timeout", "1000"]);
    let running = looping(command.with(&server).inside(dir.path()));
    let descendants = Descendants::of(running.id());
    running.signal("INT");
    let ran = running.wait();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(130), ""), "{ran}");
    assert!(descendants.all_gone() > 0);
}

#[test]
fn ctrl_c_while_a_called_tool_loops() {
    let running =
        looping(agentflow(&["tools", "call", "code", "while True: pass", "--timeout", "1000"]));
    let descendants = Descendants::of(running.id());
    running.signal("INT");
    let ran = running.wait();
    assert_eq!(ran.code(), Some(130), "{ran}");
    assert!(descendants.all_gone() > 0);
}
