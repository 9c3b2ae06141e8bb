//! The Hub client against a real HTTP server that speaks the Hub's paths, on this machine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_model::hub::{Hub, HubError, HubSettings, Repo};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has, and how it behaves.
#[derive(Default)]
struct Site {
    files: HashMap<&'static str, Vec<u8>>,
    /// Connections that break after this many bytes of a body, before they hold.
    breaks: Vec<usize>,
    gated: bool,
    ignores_ranges: bool,
    lies: bool,
    /// Method, path and `Range` of each request.
    requests: Vec<String>,
    tokens: Vec<Option<String>>,
}

struct Server {
    url: String,
    site: Arc<Mutex<Site>>,
}

impl Server {
    async fn start(site: Site) -> Self {
        let site = Arc::new(Mutex::new(site));
        let app = axum::Router::new().fallback(answer).with_state(site.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, site }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().expect("not poisoned").requests)
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>, request: Request) -> Response {
    let mut site = site.lock().expect("not poisoned");
    let path = request.uri().path().to_owned();
    let range = header(request.headers(), "range");
    let said = range.as_ref().map_or(String::new(), |range| format!(" {range}"));
    site.requests.push(format!("{} {path}{said}", request.method()));
    site.tokens.push(header(request.headers(), "authorization"));
    if path == "/api/models/tiny/model/revision/main" {
        let siblings: Vec<String> =
            site.files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
        let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, siblings.join(","));
        return body.into_response();
    }
    if path.starts_with("/api/models/tiny/model/") {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RevisionNotFound")]).into_response();
    }
    let Some(name) = path.strip_prefix(&format!("/tiny/model/resolve/{COMMIT}/")) else {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "RepoNotFound")]).into_response();
    };
    if site.gated {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "GatedRepo")]).into_response();
    }
    let Some(content) = site.files.get(name).cloned() else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    };
    let etag = match name.ends_with(".safetensors") {
        true => format!("\"{:x}\"", Sha256::digest(&content)),
        false => format!("\"{:0>40}\"", content.len()),
    };
    let mut start = 0;
    if let Some(range) = range.filter(|_| !site.ignores_ranges) {
        let from = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        start = from.and_then(|from| from.parse().ok()).expect("an open range");
    }
    let mut body = content[start..].to_vec();
    if site.lies {
        body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let is_head = request.method() == axum::http::Method::HEAD;
    let body = if is_head || site.breaks.is_empty() {
        Body::from(body)
    } else {
        let sent = body[..site.breaks.remove(0).min(body.len())].to_vec();
        // A while later, so that what was sent is not lost with the connection.
        Body::from_stream(futures::stream::unfold(Some(sent), |sent| async move {
            match sent {
                Some(sent) => Some((Ok(Bytes::from(sent)), None)),
                None => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Err(std::io::Error::other("the cable was pulled")), None))
                }
            }
        }))
    };
    let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Response::builder()
        .status(status)
        .header("etag", etag)
        .header("x-repo-commit", COMMIT)
        .header("x-linked-size", content.len())
        .header("content-range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()))
        .body(body)
        .expect("a response")
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().expect("plain text").to_owned())
}

fn model_site() -> Site {
    let weights: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
    Site {
        files: HashMap::from([
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"model\": {}}".to_vec()),
            ("model.safetensors", weights),
            ("pytorch_model.bin", b"not wanted".to_vec()),
            ("README.md", b"not wanted either".to_vec()),
        ]),
        ..Site::default()
    }
}

fn settings(endpoint: &str, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: None,
        offline: false,
        retry_after: Duration::from_millis(1),
    }
}

async fn fetch_with(settings: HubSettings, repo: &str) -> Result<std::path::PathBuf, HubError> {
    let repo: Repo = repo.parse().expect("a repository");
    Hub::new(settings)?.fetch(&repo, &mut |_| {}).await
}

async fn fetch(server: &Server, cache: &Path) -> Result<std::path::PathBuf, HubError> {
    fetch_with(settings(&server.url, cache), "tiny/model").await
}

#[tokio::test]
async fn a_model_comes_into_the_shared_cache_once() {
    let server = Server::start(model_site()).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let repo: Repo = "tiny/model".parse().expect("a repository");
    let hub = Hub::new(settings(&server.url, cache.path())).expect("a client");
    let mut heard = Vec::new();
    let dir = hub
        .fetch(&repo, &mut |so_far| heard.push((so_far.bytes, so_far.total)))
        .await
        .expect("it comes");

    let root = cache.path().join("models--tiny--model");
    assert_eq!(dir, root.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).expect("a name"), COMMIT);
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    let weights = std::fs::read(dir.join("model.safetensors")).expect("it is readable");
    assert_eq!(weights, server.site.lock().expect("not poisoned").files["model.safetensors"]);
    #[cfg(unix)]
    {
        let target = std::fs::read_link(dir.join("model.safetensors")).expect("a link");
        assert!(target.starts_with("../../blobs"), "{}", target.display());
    }
    assert_eq!(heard.last(), Some(&(100_015, 100_015)));
    assert!(heard.is_sorted());

    server.requests();
    assert_eq!(fetch(&server, cache.path()).await.expect("it is there"), dir);
    assert_eq!(server.requests(), ["GET /api/models/tiny/model/revision/main"]);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let server = Server::start(Site { breaks: vec![30_000, 0, 20_000], ..model_site() }).await;
    server.site.lock().expect("not poisoned").files.retain(|name, _| name.starts_with("model"));
    let cache = tempfile::tempdir().expect("a temporary directory");
    let dir = fetch(&server, cache.path()).await.expect("it comes in the end");
    let weights = std::fs::read(dir.join("model.safetensors")).expect("it is readable");
    assert!(weights == server.site.lock().expect("not poisoned").files["model.safetensors"]);
    let ranges: Vec<String> = server
        .requests()
        .iter()
        .filter_map(|request| request.split_once("bytes=").map(|(_, from)| from.to_owned()))
        .collect();
    assert_eq!(ranges, ["30000-", "30000-", "50000-"]);
}

#[tokio::test]
async fn another_process_goes_on_where_the_first_was_killed() {
    let server = Server::start(model_site()).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let weights = server.site.lock().expect("not poisoned").files["model.safetensors"].clone();
    let blobs = cache.path().join("models--tiny--model/blobs");
    std::fs::create_dir_all(&blobs).expect("a directory");
    let partial = blobs.join(format!("{:x}.incomplete", Sha256::digest(&weights)));
    std::fs::write(&partial, &weights[..70_000]).expect("writes");
    let dir = fetch(&server, cache.path()).await.expect("it comes");
    assert!(std::fs::read(dir.join("model.safetensors")).expect("readable") == weights);
    assert!(server.requests().iter().any(|request| request.ends_with("bytes=70000-")));
    assert!(!partial.exists());
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_all_again() {
    let site = Site { breaks: vec![30_000], ignores_ranges: true, ..model_site() };
    let server = Server::start(site).await;
    server.site.lock().expect("not poisoned").files.retain(|name, _| name.starts_with("model"));
    let cache = tempfile::tempdir().expect("a temporary directory");
    let dir = fetch(&server, cache.path()).await.expect("it comes");
    let weights = std::fs::read(dir.join("model.safetensors")).expect("it is readable");
    assert!(weights == server.site.lock().expect("not poisoned").files["model.safetensors"]);
}

#[tokio::test]
async fn damaged_content_is_thrown_away() {
    let server = Server::start(Site { lies: true, ..model_site() }).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let error = fetch(&server, cache.path()).await.expect_err("refused");
    assert!(matches!(error, HubError::Damaged { .. }), "{error}");
    server.site.lock().expect("not poisoned").lies = false;
    assert!(fetch(&server, cache.path()).await.is_ok());
}

#[tokio::test]
async fn offline_uses_the_cache_and_sends_nothing() {
    let server = Server::start(model_site()).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let offline = || HubSettings { offline: true, ..settings(&server.url, cache.path()) };
    let error = fetch_with(offline(), "tiny/model").await.expect_err("nothing is cached");
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let dir = fetch(&server, cache.path()).await.expect("it comes");
    server.requests();
    assert_eq!(fetch_with(offline(), "tiny/model").await.expect("it is cached"), dir);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn without_a_network_the_cache_is_used_or_the_error_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let cache = tempfile::tempdir().expect("a temporary directory");
    let error =
        fetch_with(settings(&closed, cache.path()), "tiny/model").await.expect_err("refused");
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");

    let server = Server::start(model_site()).await;
    let dir = fetch(&server, cache.path()).await.expect("it comes");
    let found = fetch_with(settings(&closed, cache.path()), "tiny/model").await;
    assert_eq!(found.expect("it is cached"), dir);
}

#[tokio::test]
async fn what_the_hub_refuses_is_told_apart() {
    let server = Server::start(model_site()).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let ask = |repo: &'static str| fetch_with(settings(&server.url, cache.path()), repo);

    let none = ask("tiny/nothing").await.expect_err("it does not exist");
    assert!(matches!(none, HubError::NoRepo { has_token: false, .. }), "{none}");
    assert!(none.to_string().contains("`tiny/nothing`"), "{none}");
    let revision = ask("tiny/model@v9").await.expect_err("it does not exist");
    assert!(matches!(revision, HubError::NoRevision { .. }), "{revision}");
    let file = ask("tiny/model/x.gguf").await.expect_err("it does not exist");
    assert!(matches!(file, HubError::NoFile { .. }), "{file}");

    server.site.lock().expect("not poisoned").gated = true;
    let gated = ask("tiny/model").await.expect_err("it is gated");
    assert!(matches!(gated, HubError::Gated { has_token: false, .. }), "{gated}");
    assert!(gated.to_string().contains("HF_TOKEN"), "{gated}");
    let with_token =
        HubSettings { token: Some("hf_secret".to_owned()), ..settings(&server.url, cache.path()) };
    let gated = fetch_with(with_token, "tiny/model").await.expect_err("it is gated");
    assert!(!gated.to_string().contains("hf_secret"), "{gated}");
    let tokens = server.site.lock().expect("not poisoned").tokens.clone();
    assert_eq!(tokens.last(), Some(&Some("Bearer hf_secret".to_owned())));
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_named() {
    let server = Server::start(model_site()).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("writes");
    let error = fetch(&server, &file).await.expect_err("a file is no directory");
    assert!(matches!(error, HubError::Disk { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_CACHE"), "{error}");
}

#[tokio::test]
async fn of_several_gguf_files_one_must_be_named() {
    let files =
        HashMap::from([("a-Q8_0.gguf", b"GGUF8".to_vec()), ("a-Q4_K_M.gguf", b"GGUF4".to_vec())]);
    let server = Server::start(Site { files, ..Site::default() }).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let error = fetch(&server, cache.path()).await.expect_err("which?");
    assert!(error.to_string().contains("tiny/model/a-Q"), "{error}");
    let one = fetch_with(settings(&server.url, cache.path()), "tiny/model/a-Q4_K_M.gguf").await;
    assert_eq!(std::fs::read(one.expect("it comes")).expect("readable"), b"GGUF4");
}
