//! Data sets from a real HTTP server that speaks the Hub's paths, on this machine.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_eval::benchmark::{Benchmark, BenchmarkError, Loaded, Options, Source, load};
use agentflow_model::hub::HubSettings;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::folder::{Folder, golds};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ROWS: &str = "{\"q\": \"1 + 1?\", \"a\": \"2\"}\n{\"q\": \"2 + 2?\", \"a\": \"4\"}\n";

/// Who may have the files.
#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    /// Whoever has this token.
    Accepted(&'static str),
}

struct Site {
    gate: Gate,
    requests: Vec<String>,
}

struct Server {
    url: String,
    site: Arc<Mutex<Site>>,
    cache: Folder,
}

impl Server {
    async fn start(gate: Gate) -> Self {
        let site = Arc::new(Mutex::new(Site { gate, requests: Vec::new() }));
        let app = axum::Router::new().fallback(answer).with_state(site.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, site, cache: Folder::new() }
    }

    fn settings(&self) -> HubSettings {
        settings(&self.url, self.cache.path())
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().expect("not poisoned").requests)
    }
}

/// Any data set, with one file `rows.jsonl`, at any revision.
async fn answer(State(site): State<Arc<Mutex<Site>>>, request: Request) -> Response {
    let mut site = site.lock().expect("not poisoned");
    let path = request.uri().path().to_owned();
    site.requests.push(format!("{} {path}", request.method()));
    let token = request.headers().get("authorization").map(|token| token.to_str().expect("text"));
    if token == Some("Bearer hf_wrong") {
        let told = [("x-error-message", "Invalid credentials in Authorization header")];
        return (StatusCode::UNAUTHORIZED, told).into_response();
    }
    let refused = |status, code| (status, [("x-error-code", code)]).into_response();
    if path.starts_with("/api/datasets/tiny/none/") {
        return refused(StatusCode::UNAUTHORIZED, "RepoNotFound");
    }
    if path.starts_with("/api/datasets/") {
        let files = r#"{"rfilename": "rows.jsonl"}, {"rfilename": "gpqa_diamond.csv"}"#;
        return format!(r#"{{"sha": "{COMMIT}", "siblings": [{files}]}}"#).into_response();
    }
    let may = match (site.gate, token) {
        (Gate::Open, _) => Ok(()),
        (Gate::Accepted(accepted), Some(token)) if token.ends_with(accepted) => Ok(()),
        (Gate::Accepted(_), Some(_)) => Err(StatusCode::FORBIDDEN),
        (Gate::Accepted(_), None) => Err(StatusCode::UNAUTHORIZED),
    };
    if let Err(status) = may {
        return refused(status, "GatedRepo");
    }
    if !path.starts_with("/datasets/") || !path.contains(&format!("/resolve/{COMMIT}/")) {
        return refused(StatusCode::NOT_FOUND, "EntryNotFound");
    }
    Response::builder()
        .header("etag", format!("\"{:x}\"", Sha256::digest(ROWS)))
        .header("x-linked-size", ROWS.len())
        .body(ROWS.into())
        .expect("a response")
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

/// A benchmark on the data set `tiny/set`; `more` stands behind it.
fn own(revision: &str, more: &str) -> Folder {
    let text = format!(
        "title = \"Own\"\nrole = \"test\"\nlicence = \"mine\"\nscorer = \"math\"\n\
         columns = {{ question = \"q\", answer = \"a\" }}\n{more}\n\
         [dataset]\nkind = \"hub\"\nrepo = \"tiny/set\"\nrevision = \"{revision}\"\n\
         files = [{{ path = \"rows.jsonl\" }}]\n"
    );
    Folder::new().with("own.toml", text)
}

async fn load_own(own: &Folder, settings: &HubSettings) -> Result<Loaded, BenchmarkError> {
    let source = Source::Definition(own.file("own.toml"));
    load(&source, &Options::default(), settings, &mut |_| {}).await
}

async fn load_named(name: &str, settings: &HubSettings) -> Result<Loaded, BenchmarkError> {
    load(&Source::Named(name.to_owned()), &Options::default(), settings, &mut |_| {}).await
}

#[tokio::test]
async fn a_data_set_comes_into_the_shared_cache_once() {
    let server = Server::start(Gate::Open).await;
    let own = own("main", "");
    let loaded = load_own(&own, &server.settings()).await.expect("it comes");
    assert_eq!(golds(&loaded), ["2", "4"]);
    let record = &loaded.dataset;
    assert_eq!((record.id.as_str(), record.revision.as_deref()), ("tiny/set", Some(COMMIT)));
    assert_eq!((record.rows, record.cached), (2, false));
    assert_eq!(record.files[0].file, "rows.jsonl");
    assert_eq!(record.files[0].sha256, format!("{:x}", Sha256::digest(ROWS)));
    let root = server.cache.file("datasets--tiny--set");
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).expect("a name"), COMMIT);
    let file = root.join("snapshots").join(COMMIT).join("rows.jsonl");
    assert_eq!(std::fs::read_to_string(file).expect("it is there"), ROWS);
    assert_eq!(
        server.requests(),
        [
            "GET /api/datasets/tiny/set/revision/main".to_owned(),
            format!("HEAD /datasets/tiny/set/resolve/{COMMIT}/rows.jsonl"),
            format!("GET /datasets/tiny/set/resolve/{COMMIT}/rows.jsonl"),
        ]
    );
    let again = load_own(&own, &server.settings()).await.expect("it is here");
    assert!(again.dataset.cached);
    assert_eq!(again.fingerprint(), loaded.fingerprint());
    assert_eq!(server.requests(), ["GET /api/datasets/tiny/set/revision/main"]);
}

#[tokio::test]
async fn a_cached_commit_needs_no_network_at_all() {
    let server = Server::start(Gate::Open).await;
    let own = own(COMMIT, "");
    let benchmark = Benchmark::open(&own.file("own.toml")).expect("it is one");
    assert!(!benchmark.is_cached(&server.settings()));
    load_own(&own, &server.settings()).await.expect("it comes");
    assert!(benchmark.is_cached(&server.settings()));
    server.requests();
    assert!(load_own(&own, &server.settings()).await.expect("it is here").dataset.cached);
    assert_eq!(server.requests(), [""; 0]);
    let offline = HubSettings { offline: true, ..server.settings() };
    assert!(load_own(&own, &offline).await.expect("it is here").dataset.cached);
}

#[tokio::test]
async fn a_revision_of_several_parts_is_one_part_of_the_address() {
    let server = Server::start(Gate::Open).await;
    let own = own("refs/convert/parquet", "");
    load_own(&own, &server.settings()).await.expect("it comes");
    let first = "GET /api/datasets/tiny/set/revision/refs%2Fconvert%2Fparquet";
    assert_eq!(server.requests()[0], first);
    let offline = HubSettings { offline: true, ..server.settings() };
    assert!(load_own(&own, &offline).await.is_ok());
}

/// Each of the five ways to fail has an error of its own, which says what to do.
#[tokio::test]
async fn five_failures_are_told_apart() {
    let server = Server::start(Gate::Accepted("hf_accepted")).await;
    let error = load_named("gpqa", &server.settings()).await.expect_err("it is gated");
    assert!(matches!(error, BenchmarkError::NoToken { .. }), "{error}");
    let page = format!("{}/datasets/Idavidrein/gpqa", server.url);
    assert_eq!(
        error.to_string(),
        format!(
            "`Idavidrein/gpqa` is gated, and no token is set; accept its terms at {page}, then set `HF_TOKEN` to a token of yours"
        )
    );

    let with_token =
        |token: &str| HubSettings { token: Some(token.to_owned()), ..server.settings() };
    let error = load_named("gpqa", &with_token("hf_other")).await.expect_err("not accepted");
    assert!(matches!(error, BenchmarkError::TermsNotAccepted { .. }), "{error}");
    assert!(error.to_string().ends_with(&format!("accept its terms at {page} with that account")));
    assert!(!error.to_string().contains("hf_other"), "{error}");

    let own_set = own("main", "");
    let offline = HubSettings { offline: true, ..server.settings() };
    let error = load_own(&own_set, &offline).await.expect_err("it was never fetched");
    assert!(matches!(error, BenchmarkError::NotCached { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nowhere = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let nowhere = settings(&nowhere, server.cache.path());
    let error = load_own(&own_set, &nowhere).await.expect_err("nobody answers");
    assert!(matches!(error, BenchmarkError::NoNetwork { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert!(error.to_string().contains("`tiny/set` is not in the cache"), "{error}");

    let level = own("main", "tags = { level = \"level\" }");
    let error = load_own(&level, &with_token("hf_accepted")).await.expect_err("there is none");
    assert!(matches!(error, BenchmarkError::Column { .. }), "{error}");
    assert!(error.to_string().contains("no column `level`; it has `q`, `a`"), "{error}");
}

#[tokio::test]
async fn other_failures_are_told_too() {
    let server = Server::start(Gate::Open).await;
    let rows = own("main", "checks = { rows = 3 }");
    let error = load_own(&rows, &server.settings()).await.expect_err("there are two");
    assert!(matches!(error, BenchmarkError::Rows { expected: 3, found: 2, .. }), "{error}");

    let error = load_named("gpqa", &server.settings()).await.expect_err("it is another file");
    assert!(matches!(error, BenchmarkError::Content { .. }), "{error}");

    let wrong = HubSettings { token: Some("hf_wrong".to_owned()), ..server.settings() };
    let error = load_own(&own("main", ""), &wrong).await.expect_err("the token is unknown");
    assert!(error.to_string().contains("does not know the token in `HF_TOKEN`"), "{error}");

    let none = own("main", "");
    let text = std::fs::read_to_string(none.file("own.toml")).expect("it is there");
    let none = none.with("own.toml", text.replace("tiny/set", "tiny/none"));
    let error = load_own(&none, &server.settings()).await.expect_err("there is none");
    assert!(error.to_string().contains("there is no data set `tiny/none`"), "{error}");

    let outside = own("../main", "");
    let error = load_own(&outside, &server.settings()).await.expect_err("it leaves the cache");
    assert!(matches!(error, BenchmarkError::Repo { .. }), "{error}");
}

/// The promise that training data is apart from the test sets needs the test sets.
#[tokio::test]
async fn training_data_without_its_test_set_is_refused() {
    let server = Server::start(Gate::Accepted("hf_accepted")).await;
    let settings = HubSettings { token: Some("hf_accepted".to_owned()), ..server.settings() };
    let train = own("main", "overlap = { against = [\"gpqa\"], by = [\"text\"] }");
    let error = load_own(&train, &settings).await.expect_err("gpqa is another file here");
    let BenchmarkError::OverlapUnknown { against, source, .. } = &error else { panic!("{error}") };
    assert_eq!(against, "gpqa");
    assert!(matches!(**source, BenchmarkError::Content { .. }), "{source}");
}

/// A run loads in a task of its own.
#[tokio::test]
async fn loading_can_be_spawned() {
    let loading = tokio::spawn(async {
        let settings = settings("http://127.0.0.1:9", Path::new("no cache is here"));
        load_named("arith", &settings).await.map(|loaded| loaded.problems.len())
    });
    assert_eq!(loading.await.expect("it ends").expect("it loads"), 1000);
}
