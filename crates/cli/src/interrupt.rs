//! Ctrl-c: the first ends the work cleanly, the second at once.

use tokio_util::sync::CancellationToken;

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
