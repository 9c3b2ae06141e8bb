//! Code that loops, floods or forks: an observation like any other, an answer all the same, and nothing left behind.

use crate::agentflow::{Ran, agentflow};
use crate::ollama::{Server, code_then_done};
use crate::processes::Descendants;

/// Has the planner run `code` with two seconds of time; what came of it, once no process is left.
fn run(code: &str) -> Ran {
    let server = Server::planning(code_then_done(code));
    let running =
        agentflow(&["solve", "hi", "--json", "--tool-timeout", "2"]).with(&server).start();
    let descendants = Descendants::of(running.id());
    let ran = running.wait();
    assert!(descendants.all_gone() > 0, "Python was never seen");
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert_eq!(ran.json()["answer"], "done", "{ran}");
    ran
}

fn observed(ran: &Ran) -> (bool, String) {
    let observation = &ran.json()["steps"][0]["observation"];
    let text = observation["text"].as_str().expect("an observation has a text").to_owned();
    (observation["ok"] == true, text)
}

#[test]
fn a_loop_is_ended() {
    let (ok, text) = observed(&run("while True: pass"));
    assert!(!ok && text.contains("2 s"), "{text}");
}

#[test]
fn sleep_is_ended() {
    let (ok, text) = observed(&run("import time\nprint('soon', flush=True)\ntime.sleep(1000)"));
    assert!(!ok && text.contains("2 s") && text.contains("soon"), "{text}");
}

#[test]
fn a_flood_is_cut() {
    let ran = run("while True: print('flood ' * 1000)");
    let (ok, text) = observed(&ran);
    assert!(!ok && text.len() < 64 << 10, "{} bytes", text.len());
    assert!(ran.json()["steps"][0]["observation"]["truncated"] == true);
    assert!(ran.stderr.lines().count() < 60, "{ran}");
}

#[test]
fn a_long_print_is_cut_and_goes_on() {
    let ran = run("print('x' * 100_000)");
    let (ok, text) = observed(&ran);
    assert!(ok && text.len() < 64 << 10, "{} bytes", text.len());
    assert!(ran.json()["steps"][0]["observation"]["truncated"] == true);
}

/// Whatever stops it first: the import guard, seccomp, or the limit on processes.
#[test]
fn a_fork_bomb_is_stopped() {
    for code in [
        "import os\nwhile True: os.fork()",
        "import threading\nimport time\nwhile True: threading.Thread(target=time.sleep, args=(1000,)).start()",
    ] {
        let (ok, text) = observed(&run(code));
        assert!(!ok, "{text}");
    }
}

#[test]
fn memory_is_bounded() {
    let (ok, text) = observed(&run("x = bytearray(64 << 30)"));
    assert!(!ok && text.contains("MemoryError"), "{text}");
}
