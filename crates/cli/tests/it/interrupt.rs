//! Ctrl-c and kill -9 in the middle of the work: prompt ends, and no process stays behind.

use crate::agentflow::{Running, agentflow, soon};
use crate::ollama::{Answer, Server, code_then_done};
use crate::processes::{Descendants, descendants};

fn looping(server: &Server) -> Running {
    let running = agentflow(&["solve", "hi", "--tool-timeout", "1000"]).with(server).start();
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
    let running = looping(&server);
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
    let running = looping(&server);
    let seen = Descendants::of(running.id());
    running.signal("KILL");
    assert_eq!(running.wait().code(), None);
    assert!(seen.all_gone() > 0);
}
