//! The environment that every Hugging Face tool reads, and how a repository is written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Where the Hub and its cache are, and who asks.
#[derive(Clone)]
pub struct HubSettings {
    pub endpoint: String,
    pub cache: PathBuf,
    pub token: Option<String>,
    /// Use what is cached, and send nothing.
    pub offline: bool,
    /// Wait before a broken transfer is taken up again; it doubles each time.
    pub retry_after: Duration,
}

impl HubSettings {
    /// `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, with the meanings and
    /// the precedence that `huggingface_hub` gives them; `variable` looks one up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let user_home = get("HOME").or_else(|| get("USERPROFILE")).unwrap_or_default();
        let in_home = |path: String| match path.strip_prefix("~/") {
            Some(rest) => Path::new(&user_home).join(rest),
            None => PathBuf::from(path),
        };
        let home = get("HF_HOME").map(in_home).unwrap_or_else(|| {
            let caches = get("XDG_CACHE_HOME").map(in_home);
            caches.unwrap_or_else(|| Path::new(&user_home).join(".cache")).join("huggingface")
        });
        let token_file = get("HF_TOKEN_PATH").map(in_home).unwrap_or_else(|| home.join("token"));
        let token = get("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let offline = get("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self {
            endpoint: get("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            cache: get("HF_HUB_CACHE").map(in_home).unwrap_or_else(|| home.join("hub")),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: matches!(offline.as_str(), "1" | "true" | "yes" | "on"),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Leaves the token out.
impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// What a repository on the Hub holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    Model,
    Dataset,
}

impl RepoKind {
    /// As the Hub's addresses and the cache's folders have it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }
}

impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RepoKind::Model => "model",
            RepoKind::Dataset => "data set",
        })
    }
}

/// A repository on the Hub. A model is written `OWNER/NAME`, with `@REVISION` behind it for another branch, tag or commit than `main`, and `/FILE` for
/// one file of many, e.g. `Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    pub kind: RepoKind,
    /// `OWNER/NAME`.
    pub id: String,
    pub revision: String,
    pub file: Option<String>,
}

impl Repo {
    /// A file of a data set; the revision may have several parts, as `refs/convert/parquet` has.
    ///
    /// # Errors
    /// Says which of the three cannot be one, and what it should look like.
    pub fn dataset(id: &str, revision: &str, file: &str) -> Result<Self, String> {
        let (owner, name) = id.split_once('/').unwrap_or_default();
        if !is_plain(owner) || !is_plain(name) {
            return Err(format!("`{id}` is no data set on the Hub; write OWNER/NAME"));
        }
        if !revision.split('/').all(is_plain) {
            return Err(format!("`{revision}` is no revision; write a commit, a branch or a tag"));
        }
        if !file.split('/').all(is_plain) {
            return Err(format!(
                "`{file}` is no file of a data set; write it as its page shows it"
            ));
        }
        let (id, revision, file) = (id.to_owned(), revision.to_owned(), Some(file.to_owned()));
        Ok(Self { kind: RepoKind::Dataset, id, revision, file })
    }

    /// Where it is found with a browser.
    pub fn page(&self, endpoint: &str) -> String {
        match self.kind {
            RepoKind::Model => format!("{endpoint}/{}", self.id),
            RepoKind::Dataset => format!("{endpoint}/datasets/{}", self.id),
        }
    }

    /// Whether the revision can never mean anything else.
    pub(super) fn is_pinned(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// Each becomes a part of a path and of a URL.
fn is_plain(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !part.is_empty()
        && !part.starts_with('.')
        && !part.contains("..")
}

impl FromStr for Repo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a model on the Hub; write OWNER/NAME, e.g. `Qwen/Qwen3-0.6B`")
        };
        let mut parts = text.splitn(3, '/');
        let (owner, name) = parts.next().zip(parts.next()).ok_or_else(wrong)?;
        let file = parts.next().map(str::to_owned);
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts_are_plain = [owner, name, revision].into_iter().all(is_plain);
        let file_is_plain = file.as_deref().is_none_or(|file| file.split('/').all(is_plain));
        if !(parts_are_plain && file_is_plain) {
            return Err(wrong());
        }
        let (id, revision) = (format!("{owner}/{name}"), revision.to_owned());
        Ok(Self { kind: RepoKind::Model, id, revision, file })
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        match &self.file {
            Some(file) => write!(f, "/{file}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_nearer_variable_wins() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[("HOME", "/h"), xdg]), Path::new("/x/huggingface/hub"));
        let home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[("HOME", "/h"), xdg, home]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "/c"), ("HF_HOME", "/e")]), Path::new("/c"));
    }

    #[test]
    fn offline_and_endpoint_are_read_as_python_reads_them() {
        assert!(!settings(&[]).offline && !settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(settings(&[("HF_HUB_OFFLINE", "True")]).offline);
        assert_eq!(settings(&[]).endpoint, "https://huggingface.co");
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_never_shown() {
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(home.path().join("token"), "hf_file\n").expect("writes");
        let home = ("HF_HOME", home.path().to_str().expect("a plain path"));
        assert_eq!(settings(&[home]).token.as_deref(), Some("hf_file"));
        let both = settings(&[home, ("HF_TOKEN", "hf_variable")]);
        assert_eq!(both.token.as_deref(), Some("hf_variable"));
        assert!(!format!("{both:?}").contains("hf_variable"));
    }

    #[test]
    fn repositories_are_read_and_paths_are_none() {
        let repo = |text: &str| text.parse::<Repo>();
        let plain = repo("Qwen/Qwen3-0.6B").expect("a repository");
        assert_eq!((plain.revision.as_str(), plain.file.as_deref()), ("main", None));
        let full = repo("Qwen/Q-GGUF@v1.0/sub/q.gguf").expect("a repository");
        assert_eq!((full.id.as_str(), full.revision.as_str()), ("Qwen/Q-GGUF", "v1.0"));
        assert_eq!(full.file.as_deref(), Some("sub/q.gguf"));
        assert_eq!(full.to_string(), "Qwen/Q-GGUF@v1.0/sub/q.gguf");
        for path in ["qwen3", "./model", "../a/b", "/a/b", "a/../b", "a/b/../../c", "a/", "a b/c"] {
            assert!(repo(path).is_err(), "{path}");
        }
    }

    #[test]
    fn files_of_data_sets_are_read_and_paths_are_none() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let repo = Repo::dataset("openai/gsm8k", commit, "main/test.parquet").expect("a file");
        assert!(repo.is_pinned());
        assert_eq!(repo.page("https://hub"), "https://hub/datasets/openai/gsm8k");
        let branch = Repo::dataset("a/b", "refs/convert/parquet", "x.csv").expect("a file");
        assert!(!branch.is_pinned());
        for (id, revision, file) in [
            ("gsm8k", "main", "x.csv"),
            ("../b", "main", "x.csv"),
            ("a/b/c", "main", "x.csv"),
            ("a/b", "../main", "x.csv"),
            ("a/b", "", "x.csv"),
            ("a/b", "main", "/etc/x.csv"),
            ("a/b", "main", "../x.csv"),
        ] {
            assert!(Repo::dataset(id, revision, file).is_err(), "{id} {revision} {file}");
        }
    }
}
