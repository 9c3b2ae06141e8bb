//! A temporary folder of data files, and loading from it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentflow_eval::benchmark::{BenchmarkError, FileKeys, Loaded, Options, Source, load};
use agentflow_model::hub::HubSettings;

/// Removed with what is in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.file(name), content).expect("it is writable");
        self
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn load(&self, name: &str) -> Result<Loaded, BenchmarkError> {
        self.load_with(name, &Options::default())
    }

    pub(crate) fn load_with(
        &self,
        name: &str,
        options: &Options,
    ) -> Result<Loaded, BenchmarkError> {
        let file = self.file(name);
        let source: Source = file.to_str().expect("a plain path").parse()?;
        load_offline(&source, options)
    }

    /// The message of the error, with the folder cut off from paths.
    pub(crate) fn error(&self, name: &str) -> String {
        let error = self.load(name).expect_err("it is wrong");
        error.to_string().replace(&format!("{}/", self.path().display()), "")
    }
}

/// Loads what needs no Hub.
pub(crate) fn load_offline(source: &Source, options: &Options) -> Result<Loaded, BenchmarkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let nowhere = HubSettings {
        endpoint: "http://127.0.0.1:9".to_owned(),
        cache: PathBuf::from("no cache is here"),
        token: None,
        offline: true,
        retry_after: Duration::from_millis(1),
    };
    runtime.block_on(load(source, options, &nowhere, &mut |_| panic!("nothing is fetched")))
}

pub(crate) fn keys(question: &str, answer: &str) -> Options {
    let (question, answer) = (Some(question.to_owned()), Some(answer.to_owned()));
    Options { keys: FileKeys { question, answer, id: None }, ..Options::default() }
}

/// The answers of mathematical problems.
pub(crate) fn golds(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(|problem| problem.gold.text()).collect()
}

pub(crate) fn ids(loaded: &Loaded) -> Vec<&str> {
    loaded.problems.iter().map(|problem| problem.id.as_str()).collect()
}
