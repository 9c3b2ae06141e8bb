//! One repository in the shared cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::HubError;
use super::settings::Repo;

pub(super) struct RepoCache {
    /// `…/models--OWNER--NAME` or `…/datasets--OWNER--NAME`.
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &Repo) -> Self {
        let folder = format!("{}--{}", repo.kind.plural(), repo.id.replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The snapshot of the revision as it was last seen, or the file in it.
    pub(super) fn find(&self, repo: &Repo) -> Option<PathBuf> {
        let named = fs::read_to_string(self.root.join("refs").join(&repo.revision)).ok();
        // A commit is its own name.
        let commit = named.map_or(repo.revision.clone(), |commit| commit.trim().to_owned());
        let snapshot = self.snapshot(&commit);
        let found = match &repo.file {
            Some(file) => snapshot.join(file),
            None => snapshot,
        };
        found.exists().then_some(found)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that a found file belongs to.
    pub(super) fn commit_of(&self, found: &Path) -> Option<String> {
        let inside = found.strip_prefix(self.root.join("snapshots")).ok()?;
        Some(inside.iter().next()?.to_str()?.to_owned())
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits until no other process fetches this blob; Python's `filelock` takes the same lock.
    pub(super) async fn lock(&self, etag: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(HubError::disk(&path))?;
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        let locked = locked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        locked.map_err(HubError::disk(&path))
    }

    /// Puts a blob into a snapshot under its name.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        if path.exists() {
            return Ok(());
        }
        let _ = fs::remove_file(&path); // a link to a blob that was deleted
        // From `snapshots/COMMIT/FILE` back to the repository; deeper for files in folders.
        let up: PathBuf = vec![".."; 2 + file.split('/').count() - 1].iter().collect();
        #[cfg(unix)]
        let linked = std::os::unix::fs::symlink(up.join("blobs").join(etag), &path);
        #[cfg(not(unix))]
        let linked = {
            let _ = up;
            fs::copy(self.blob(etag), &path).map(drop)
        };
        linked.map_err(HubError::disk(&path))
    }

    /// Remembers which commit a revision is.
    pub(super) fn name(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        create_parent(&path)?;
        fs::write(&path, commit).map_err(HubError::disk(&path))
    }
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(HubError::disk(parent))
}
