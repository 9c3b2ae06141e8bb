//! Ctrl-c: the first ends the work cleanly, the second at once.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// A token that ctrl-c cancels.
pub(crate) fn on_ctrl_c() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return; // no handler to be had: the system's own ends the process
        }
        cancel.cancel();
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(130);
    });
    token
}

/// What training asks between two updates: true once ctrl-c was pressed, which is also told.
pub(crate) fn after_the_update() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let stop = interrupted.clone();
    then(move || {
        stop.store(true, Ordering::Relaxed);
        // Nothing is left to do where stderr is closed.
        let _ = writeln!(
            std::io::stderr(),
            "finishing the update in work, and writing a checkpoint; ctrl-c again ends at once"
        );
    })?;
    Ok(interrupted)
}

/// Runs `action` on the first ctrl-c, for commands that have no runtime of their own.
pub(crate) fn then(action: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the signal handler")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                action();
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(130);
            }
        });
    });
    Ok(())
}
