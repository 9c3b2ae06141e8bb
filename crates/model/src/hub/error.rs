//! What can go wrong between here and the Hub.

use std::path::{Path, PathBuf};

use super::settings::RepoKind;

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "`{repo}` is not in the cache `{cache}`, and HF_HUB_OFFLINE forbids asking the Hub; unset it, or fetch the {kind} first"
    )]
    NotCached { kind: RepoKind, repo: String, cache: PathBuf },
    #[error(
        "there is no {kind} `{repo}` at {endpoint}, or it is private; check the name{}",
        if *.has_token { ", and that your token may read it" } else { ", or set `HF_TOKEN` to a token that may read it" }
    )]
    NoRepo { kind: RepoKind, repo: String, endpoint: String, has_token: bool },
    #[error("`{repo}` has no revision `{revision}`; its page on the Hub lists branches and tags")]
    NoRevision { repo: String, revision: String },
    #[error(
        "`{repo}` is gated: accept its terms at {page}{}",
        if *.has_token { ", with the account that your token belongs to" } else { ", then set `HF_TOKEN` to a token of yours" }
    )]
    Gated { repo: String, page: String, has_token: bool },
    #[error(
        "{endpoint} does not know the token in `HF_TOKEN` (or the file that `huggingface-cli login` wrote); make a new one at {endpoint}/settings/tokens"
    )]
    BadToken { endpoint: String },
    #[error(
        "cannot get `{url}`: {problem}; check the network, or set `HF_ENDPOINT` to a mirror (what is here already stays)"
    )]
    Network { url: String, problem: String },
    #[error(
        "cannot write `{path}`: {source}; make room, or set `HF_HUB_CACHE` to a directory on another disk"
    )]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("unexpected answer for `{url}`: {problem}")]
    BadAnswer { url: String, problem: String },
    #[error("`{url}` came damaged ({problem}); it was thrown away, so try again")]
    Damaged { url: String, problem: String },
    #[error("`{repo}` has neither safetensors nor GGUF files, so it is no model that runs here")]
    NoModel { repo: String },
    #[error("`{repo}` has no file `{file}`")]
    NoFile { repo: String, file: String },
    #[error(
        "`{repo}` has several GGUF files; name one, e.g. `{repo}/{}` (there are: {})", files[0], files.join(", ")
    )]
    SeveralFiles { repo: String, files: Vec<String> },
}

impl HubError {
    pub(super) fn network(url: &str, source: reqwest::Error) -> Self {
        // The innermost cause says what happened: "connection refused", not "error sending request".
        let mut cause: &dyn std::error::Error = &source;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Network { url: url.to_owned(), problem: cause.to_string() }
    }

    pub(super) fn disk(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }
}
