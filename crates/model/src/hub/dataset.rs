//! One file of a data set: from the cache where it can be, else from the Hub.

use std::path::PathBuf;

use super::cache::RepoCache;
use super::{Downloaded, Hub, HubError, HubSettings, Repo};

/// A file of a data set, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFile {
    pub path: PathBuf,
    /// The commit that the revision was, when it was last seen.
    pub commit: String,
    /// Whether nothing had to be fetched.
    pub cached: bool,
}

impl Hub {
    /// The file of a data set ([`Repo::dataset`]). A file of a commit that is cached is taken without a word to the Hub.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn dataset_file(
        &self,
        repo: &Repo,
        on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
    ) -> Result<DatasetFile, HubError> {
        if repo.is_pinned()
            && let Some(found) = self.settings.cached_dataset_file(repo)
        {
            return Ok(found);
        }
        let mut cached = true;
        let path = self
            .fetch(repo, &mut |so_far| {
                cached = false;
                on_progress(so_far);
            })
            .await?;
        let commit = RepoCache::new(&self.settings.cache, repo).commit_of(&path);
        Ok(DatasetFile { commit: commit.unwrap_or_else(|| repo.revision.clone()), path, cached })
    }
}

impl HubSettings {
    /// The file of a data set, if it is in the cache; of a branch as it was last seen.
    pub fn cached_dataset_file(&self, repo: &Repo) -> Option<DatasetFile> {
        let cache = RepoCache::new(&self.cache, repo);
        let path = cache.find(repo)?;
        Some(DatasetFile { commit: cache.commit_of(&path)?, path, cached: true })
    }
}
