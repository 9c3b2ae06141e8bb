//! `--backend auto`: the best model at hand, and a line that says which.

use crate::agentflow::agentflow;
use crate::ollama::{Server, closed, decide};

fn easy() -> Server {
    Server::planning(vec![decide("Easy.", "answer", "4")])
}

#[test]
fn ollama_is_used_where_it_has_a_model() {
    let server = easy();
    let ran = agentflow(&["solve", "hi"]).with(&server).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "4\n"), "{ran}");
    let line = format!("model: qwen3:8b on Ollama at {}", server.url);
    assert_eq!(ran.stderr.lines().next(), Some(line.as_str()), "{ran}");
    assert_eq!(server.asked()[0]["model"], "qwen3:8b");
}

#[test]
fn a_model_asked_for_by_name_is_used() {
    let server = easy();
    let ran = agentflow(&["solve", "hi", "--model", "qwen3:8b", "--quiet"]).with(&server).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
}

#[test]
fn an_address_beats_the_environment() {
    let server = easy();
    let ran = agentflow(&["solve", "hi", "--url", &server.url, "--quiet"])
        .env("OLLAMA_HOST", &closed())
        .run();
    assert_eq!(ran.stdout, "4\n", "{ran}");
}

/// The bundled planner takes over, whatever it makes of the question.
#[test]
fn without_ollama_one_line_says_so_and_what_to_install() {
    let fallback = |server: &str| {
        let ran =
            agentflow(&["solve", "What is 2 + 2?", "--quiet"]).env("OLLAMA_HOST", server).run();
        ran.stderr.lines().next().unwrap_or_default().replace(server, "http://SERVER")
    };
    insta::assert_snapshot!(fallback(&closed()), @r"model: the bundled tiny planner, which knows school arithmetic only (no Ollama at http://SERVER; for more, install it from https://ollama.com and run `ollama pull qwen3:8b`)");
    insta::assert_snapshot!(fallback(&Server::having(vec![]).url), @r"model: the bundled tiny planner, which knows school arithmetic only (Ollama has no model; `ollama pull qwen3:8b` gets one)");
    insta::assert_snapshot!(fallback(&Server::stuck().url), @r"model: the bundled tiny planner, which knows school arithmetic only (Ollama at http://SERVER does not answer; see what it is busy with, or wait for it with --backend ollama)");
}
