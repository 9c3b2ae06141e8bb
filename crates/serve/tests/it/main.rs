//! The server over real sockets: with the bundled planner where a model is needed, with one that never ends where only
//! its going on or ending matters.

mod endless;
mod server;

mod clients_of_ours;
mod ending;
mod flood;
mod limits;
mod ollama;
mod openai;
mod tools;
