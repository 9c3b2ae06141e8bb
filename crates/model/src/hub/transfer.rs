//! One file from the Hub to the cache, going on where an earlier attempt stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use futures::StreamExt;
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, RANGE};
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::Hub;
use super::cache::{RepoCache, create_parent};
use super::error::HubError;

/// Attempts in a row that bring nothing before a transfer is given up.
const ATTEMPTS: u32 = 5;

/// A file as the Hub describes it.
pub(super) struct Remote {
    url: String,
    /// Names the content; for large files it is its SHA-256.
    pub(super) etag: String,
    pub(super) size: u64,
}

impl Remote {
    pub(super) fn of(response: &Response, url: String, file: &str) -> Result<Self, HubError> {
        let header = |name: &str| text(response.headers(), name);
        let etag = header("x-linked-etag").or_else(|| header(ETAG.as_str()));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        // It becomes the name of a file.
        let is_plain = |etag: &String| {
            !etag.is_empty()
                && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let size = header("x-linked-size").or_else(|| header(CONTENT_LENGTH.as_str()));
        match (etag.filter(is_plain), size.and_then(|size| size.parse().ok())) {
            (Some(etag), Some(size)) => Ok(Self { url, etag, size }),
            _ => Err(HubError::BadAnswer {
                problem: format!("it says neither what `{file}` is nor how long"),
                url,
            }),
        }
    }

    fn damaged(&self, problem: String) -> HubError {
        HubError::Damaged { url: self.url.clone(), problem }
    }
}

impl Hub {
    /// Brings a file into the cache; `on_bytes` hears how many of its bytes are here.
    pub(super) async fn transfer(
        &self,
        cache: &RepoCache,
        remote: &Remote,
        on_bytes: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), HubError> {
        let blob = cache.blob(&remote.etag);
        let _lock = cache.lock(&remote.etag).await?;
        if blob.exists() {
            return Ok(()); // another file with this content, or another process was here
        }
        let partial = blob.with_file_name(format!("{}.incomplete", remote.etag));
        create_parent(&partial)?;
        let (mut failures, mut wait) = (0, self.settings.retry_after);
        loop {
            let before = length(&partial);
            match self.attempt(remote, &partial, on_bytes).await {
                Ok(()) => break,
                Err(error @ HubError::Network { .. }) => {
                    failures = if length(&partial) > before { 0 } else { failures + 1 };
                    if failures >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::info!("{error}; trying again");
                    tokio::time::sleep(wait).await;
                    wait = if failures == 0 { self.settings.retry_after } else { wait * 2 };
                }
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = check(remote, &partial) {
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
        std::fs::rename(&partial, &blob).map_err(HubError::disk(&blob))
    }

    /// Asks for the bytes that are missing, and appends them.
    async fn attempt(
        &self,
        remote: &Remote,
        partial: &Path,
        on_bytes: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), HubError> {
        let mut have = length(partial);
        if have > remote.size {
            std::fs::remove_file(partial).map_err(HubError::disk(partial))?;
            have = 0;
        }
        on_bytes(have);
        if have == remote.size && partial.exists() {
            return Ok(());
        }
        let request = self.client.get(&remote.url);
        let request =
            if have > 0 { request.header(RANGE, format!("bytes={have}-")) } else { request };
        let response = self.send(request, &remote.url).await?;
        let status = response.status();
        // Without ranges the server sends it all again.
        let append = status == StatusCode::PARTIAL_CONTENT
            && text(response.headers(), "content-range")
                .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
        if !append {
            have = 0;
        }
        match status {
            StatusCode::OK => {}
            StatusCode::PARTIAL_CONTENT if append => {}
            // Servers in trouble are worth another try.
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                let problem = format!("the Hub answered {status}");
                return Err(HubError::Network { url: remote.url.clone(), problem });
            }
            _ => {
                let problem = format!("the Hub answered {status}");
                return Err(HubError::BadAnswer { url: remote.url.clone(), problem });
            }
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(append)
            .truncate(!append)
            .open(partial)
            .map_err(HubError::disk(partial))?;
        let mut body = response.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|source| HubError::network(&remote.url, source))?;
            file.write_all(&piece).map_err(HubError::disk(partial))?;
            have += piece.len() as u64;
            on_bytes(have);
        }
        if have < remote.size {
            let problem = format!("the connection ended after {have} of {} bytes", remote.size);
            return Err(HubError::Network { url: remote.url.clone(), problem });
        }
        file.sync_all().map_err(HubError::disk(partial))
    }
}

/// Compares length and, where the Hub tells it, SHA-256.
fn check(remote: &Remote, path: &Path) -> Result<(), HubError> {
    let found = length(path);
    if found != remote.size {
        return Err(remote.damaged(format!("{found} of {} bytes", remote.size)));
    }
    if remote.etag.len() != 64 {
        return Ok(()); // small files: the hash of a git blob
    }
    let mut file = File::open(path).map_err(HubError::disk(path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0_u8; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(HubError::disk(path))? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let found = format!("{:x}", hash.finalize());
    if found == remote.etag {
        return Ok(());
    }
    Err(remote.damaged(format!("its SHA-256 is {found}, not {}", remote.etag)))
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
