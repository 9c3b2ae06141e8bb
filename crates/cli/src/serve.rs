//! `agentflow serve`: a local model behind Ollama's API, until ctrl-c.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use agentflow_model::bundled;
use agentflow_serve::{Limits, Server};
use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::arguments::ServeArgs;
use crate::{backend, interrupt, placement};

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let served = runtime.block_on(serve(&args));
    // A reply that was cut off may be inside a forward pass; nobody waits for it.
    runtime.shutdown_background();
    served
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let shutdown = interrupt::on_ctrl_c();
    on_terminate(shutdown.clone());
    let name = name(args)?;
    let placement = placement::choose(&args.placement)?;
    // Before the model, which takes longer: a port that is taken is known at once.
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::work(anyhow!("cannot listen on {address}: {error}; choose another with --port"))
    })?;
    let dir = Some(args.model.as_str()).filter(|model| *model != "bundled");
    let model =
        backend::load(dir, args.adapter.as_deref(), &name, args.num_ctx, &placement).await?;
    let limits =
        Limits { concurrency: args.concurrency as usize, queue: args.queue, ..Limits::default() };
    let server = Server::of_local(model, &name, limits);
    let address = listener.local_addr().context("cannot tell the address")?;
    say(&format!(
        "serving {name} at http://{address}, for clients of OpenAI at http://{address}/v1"
    ));
    if !address.ip().is_loopback() {
        say("warning: other machines can use it, without a password");
    }
    let ended = shutdown.clone();
    tokio::spawn(async move {
        ended.cancelled().await;
        say("ending: replies under way are finished; ctrl-c again ends them, too");
    });
    let grace = Duration::from_secs_f64(args.grace);
    let until = async move { shutdown.cancelled().await };
    server.serve(listener, until, grace).await.context("the server failed").map_err(Failure::Work)
}

/// Has `shutdown` cancelled by SIGTERM, too: it is how services are ended.
#[cfg(unix)]
fn on_terminate(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::spawn(async move {
        terminate.recv().await;
        shutdown.cancel();
    });
}

#[cfg(not(unix))]
fn on_terminate(_: CancellationToken) {}

/// What clients call the model.
fn name(args: &ServeArgs) -> Result<String, Failure> {
    let name = match &args.name {
        Some(name) => name.trim().to_owned(),
        None if args.model == "bundled" => bundled::NAME.to_owned(),
        None => Path::new(&args.model)
            .canonicalize()
            .ok()
            .and_then(|dir| dir.file_name().map(|name| name.to_string_lossy().into_owned()))
            // Loading it will say what is wrong.
            .unwrap_or_else(|| args.model.clone()),
    };
    if name.is_empty() {
        return Err(Failure::usage(anyhow!("--name is empty; give what clients call the model")));
    }
    Ok(name)
}

fn say(line: &str) {
    // Nothing is left to do where stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
