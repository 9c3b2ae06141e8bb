//! The backends against real HTTP servers on loopback.

mod failing_servers;
mod ollama_notices;
mod ollama_wire;
mod openai;
mod pool;
mod replay;
mod server;
