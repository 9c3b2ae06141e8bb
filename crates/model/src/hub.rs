//! Models and data sets from the Hugging Face Hub: `Qwen/Qwen3-0.6B` becomes a directory in the cache that Python's
//! `huggingface_hub` and `transformers` share; of a data set one file at a time is asked for ([`Hub::dataset_file`]).
//!
//! Spoken here directly, over the HTTP client that the backends use: hf-hub 1.0 starts an interrupted file again from
//! its first byte, and brings 70 crates for a transfer protocol that the Hub does not ask for. Left out on purpose:
//! uploads, private mirrors with another layout.
//!
//! The cache: `models--OWNER--NAME/blobs/ETAG` (`datasets--…` of data sets) holds content, `snapshots/COMMIT/FILE` links to it, `refs/REVISION` names the
//! commit. A file being fetched is `blobs/ETAG.incomplete`, and is gone on with where it stopped.

mod cache;
mod dataset;
mod error;
mod settings;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, redirect};
use serde::Deserialize;

pub use dataset::DatasetFile;
pub use error::HubError;
pub use settings::{HubSettings, Repo, RepoKind};

use cache::RepoCache;
use transfer::Remote;

/// A connection to the Hub. Nothing is sent before something is asked for.
pub struct Hub {
    settings: HubSettings,
    client: Client,
    /// Follows redirects on the Hub only: what a file is stands in the answer before it leads elsewhere.
    heads: Client,
}

/// How far a download has come.
#[derive(Debug, Clone, Copy)]
pub struct Downloaded<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes of all files of this download that are here.
    pub bytes: u64,
    /// Bytes of all files of this download.
    pub total: u64,
}

/// The answer of `/api/models/…` or `/api/datasets/…`, as far as it is needed.
#[derive(Deserialize)]
struct RepoInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// # Errors
    /// If the system's TLS settings cannot be used.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        let client = |policy: redirect::Policy| {
            Client::builder()
                .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(20))
                .read_timeout(Duration::from_secs(60))
                .redirect(policy)
                .build()
                .map_err(|source| HubError::network(&settings.endpoint, source))
        };
        let same_host = redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first().and_then(|url| url.host_str());
            if attempt.previous().len() < 5 && attempt.url().host_str() == first {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let (client, heads) = (client(redirect::Policy::default())?, client(same_host)?);
        Ok(Self { settings, client, heads })
    }

    /// The model directory, or the file that `repo` names, from the cache; what is missing there is fetched first.
    ///
    /// A branch is asked for anew each time. Where the Hub cannot be reached, what is cached of it is used.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn fetch(
        &self,
        repo: &Repo,
        on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
    ) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.settings.cache, repo);
        if self.settings.offline {
            return cache.find(repo).ok_or_else(|| HubError::NotCached {
                kind: repo.kind,
                repo: repo.to_string(),
                cache: self.settings.cache.clone(),
            });
        }
        let info = match self.info(repo).await {
            Ok(info) => info,
            Err(error @ HubError::Network { .. }) => {
                let Some(found) = cache.find(repo) else { return Err(error) };
                tracing::warn!("{error}; `{repo}` is taken from the cache");
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        let files = wanted_files(repo, &info)?;
        let mut missing = Vec::new();
        for file in files.iter().filter(|file| !cache.snapshot(&info.sha).join(file).exists()) {
            let remote = self.remote(repo, &info.sha, file).await?;
            missing.push((file, remote));
        }
        let total = missing.iter().map(|(_, remote)| remote.size).sum();
        let mut before = 0;
        for (file, remote) in missing {
            let mut on_bytes =
                |bytes| on_progress(Downloaded { file, bytes: before + bytes, total });
            self.transfer(&cache, &remote, &mut on_bytes).await?;
            cache.link(&info.sha, file, &remote.etag)?;
            before += remote.size;
        }
        // Last: a commit that is named is complete.
        cache.name(&repo.revision, &info.sha)?;
        cache.find(repo).ok_or_else(|| HubError::NoModel { repo: repo.to_string() })
    }

    async fn info(&self, repo: &Repo) -> Result<RepoInfo, HubError> {
        let (endpoint, kind) = (&self.settings.endpoint, repo.kind.plural());
        // Revisions such as `refs/convert/parquet` are one part of the path.
        let revision = repo.revision.replace('/', "%2F");
        let url = format!("{endpoint}/api/{kind}/{}/revision/{revision}", repo.id);
        let response = self.send(self.client.get(&url), &url).await?;
        let response = self.accept(response, repo).await?;
        let info: RepoInfo =
            response.json().await.map_err(|source| HubError::network(&url, source))?;
        // It becomes the name of a directory.
        if info.sha.is_empty() || !info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(HubError::BadAnswer { url, problem: "it names no commit".to_owned() });
        }
        Ok(info)
    }

    /// What a file is, without its content.
    async fn remote(&self, repo: &Repo, commit: &str, file: &str) -> Result<Remote, HubError> {
        let url = format!("{}/resolve/{commit}/{file}", repo.page(&self.settings.endpoint));
        let response = self.send(self.heads.head(&url), &url).await?;
        let response = if response.status().is_redirection() {
            response // to where large files are kept; the headers are the Hub's
        } else {
            self.accept(response, repo).await?
        };
        Remote::of(&response, url, file)
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
    ) -> Result<Response, HubError> {
        let request = match &self.settings.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.map_err(|source| HubError::network(url, source))
    }

    /// Sorts the Hub's refusals: its header says more than the status, which is 401 for what does not exist, too.
    async fn accept(&self, response: Response, repo: &Repo) -> Result<Response, HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = response.headers().get("x-error-message");
        if message.is_some_and(|text| text.as_bytes().starts_with(b"Invalid credentials")) {
            return Err(HubError::BadToken { endpoint: self.settings.endpoint.clone() });
        }
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        let (id, kind, endpoint) = (repo.id.clone(), repo.kind, self.settings.endpoint.clone());
        let has_token = self.settings.token.is_some();
        Err(match (code, status) {
            (Some("GatedRepo"), _) | (None, StatusCode::FORBIDDEN) => {
                HubError::Gated { repo: id, page: repo.page(&endpoint), has_token }
            }
            (Some("RevisionNotFound"), _) => {
                HubError::NoRevision { repo: id, revision: repo.revision.clone() }
            }
            (Some("RepoNotFound"), _)
            | (None, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) => {
                HubError::NoRepo { kind, repo: id, endpoint, has_token }
            }
            _ => HubError::BadAnswer {
                url: response.url().to_string(),
                problem: format!("the Hub answered {status}"),
            },
        })
    }
}

/// The files of a repository that make a model here.
fn wanted_files(repo: &Repo, info: &RepoInfo) -> Result<Vec<String>, HubError> {
    let listed: Vec<&str> = info
        .siblings
        .iter()
        .map(|sibling| sibling.rfilename.as_str())
        .filter(|name| name.split('/').all(|part| !matches!(part, "" | "." | "..")))
        .collect();
    if let Some(file) = &repo.file {
        return match listed.contains(&file.as_str()) {
            true => Ok(vec![file.clone()]),
            false => Err(HubError::NoFile { repo: repo.id.clone(), file: file.clone() }),
        };
    }
    let is_sharded = listed.contains(&"model.safetensors.index.json");
    let is_wanted = |name: &str| match name {
        "config.json"
        | "generation_config.json"
        | "tokenizer.json"
        | "tokenizer_config.json"
        | "chat_template.jinja"
        | crate::PROFILE_FILE
        | "model.safetensors.index.json"
        | "adapter_config.json"
        | "adapter_model.safetensors" => true,
        "model.safetensors" => !is_sharded,
        shard => is_sharded && shard.starts_with("model-") && shard.ends_with(".safetensors"),
    };
    let files: Vec<String> =
        listed.iter().filter(|name| is_wanted(name)).map(|name| (*name).to_owned()).collect();
    if files.iter().any(|file| file.ends_with(".safetensors")) {
        return Ok(files);
    }
    let ggufs: Vec<String> = listed
        .iter()
        .filter(|name| name.ends_with(".gguf"))
        .map(|name| (*name).to_owned())
        .collect();
    match ggufs.len() {
        0 => Err(HubError::NoModel { repo: repo.id.clone() }),
        1 => Ok(ggufs),
        _ => Err(HubError::SeveralFiles { repo: repo.id.clone(), files: ggufs }),
    }
}
