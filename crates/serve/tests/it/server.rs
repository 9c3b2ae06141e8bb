//! Starts servers, and asks them.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use agentflow_model::{Local, bundled};
use agentflow_serve::{Limits, Server};
use candle_core::{DType, Device};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const MODEL: &str = "tiny-planner";

/// Longest wait for what is to happen soon; whatever takes it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The bundled planner, loaded once for all tests.
pub(crate) fn planner() -> Local {
    static PLANNER: OnceLock<Local> = OnceLock::new();
    let load = || Local::load(&bundled::files(), MODEL, None, DType::F32, &Device::Cpu).unwrap();
    PLANNER.get_or_init(load).clone()
}

/// A server of the bundled planner.
pub(crate) async fn planning() -> Running {
    start(Server::of_local(planner(), MODEL, Limits::default()), PATIENCE).await
}

pub(crate) async fn start(server: Server, grace: Duration) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server.clone();
    let until = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(async move { serving.serve(listener, until, grace).await });
    let client = Client::builder().no_proxy().build().unwrap();
    Running { server, address, client, stop, task }
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.client.get(self.url() + path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.client.post(self.url() + path).json(&body).send().await.unwrap()
    }

    /// The answer to a request that succeeds.
    pub(crate) async fn ask(&self, path: &str, body: Value) -> Value {
        let response = self.post(path, body.clone()).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{path} {body}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status and body of a request that fails.
    pub(crate) async fn refused(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.post(path, body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The lines of a streamed answer.
    pub(crate) async fn lines(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.post(path, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let text = response.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until `(replies under way, requests that wait)` is `load`.
    pub(crate) async fn until_load(&self, load: (usize, usize)) {
        let reached = async {
            while self.server.load() != load {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        assert!(in_time.is_ok(), "the load stays {:?}, not {load:?}", self.server.load());
    }

    /// Asks the server to end; the handle is done when it has.
    pub(crate) fn stop(self) -> JoinHandle<std::io::Result<()>> {
        let _ = self.stop.send(());
        self.task
    }
}
