//! The files of a data set: on disk, in the cache of the Hub, or fetched into it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agentflow_model::hub::{DatasetFile, Downloaded, Hub, HubError, HubSettings, Repo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::definition::{Benchmark, Dataset, HubFile};
use super::error::BenchmarkError;
use super::format::Format;
use super::table::Table;

/// Where the rows of a run are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// `OWNER/NAME` on the Hub, a path, or `arith/SPLIT/SEED`.
    pub id: String,
    /// The commit on the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub files: Vec<DataFile>,
    pub rows: u64,
    /// Whether nothing had to be fetched.
    pub cached: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    pub file: String,
    pub sha256: String,
}

impl DatasetRecord {
    pub(super) fn generated(id: &str, rows: u64) -> Self {
        Self { id: id.to_owned(), revision: None, files: Vec::new(), rows, cached: true }
    }
}

impl Benchmark {
    /// Whether everything of it is on this machine.
    pub fn is_cached(&self, hub: &HubSettings) -> bool {
        match &self.dataset {
            Dataset::Arith { .. } => true,
            Dataset::File { path } => path.is_file(),
            Dataset::Hub { repo, revision, files, .. } => files.iter().all(|file| {
                Repo::dataset(repo, revision, &file.path)
                    .is_ok_and(|repo| hub.cached_dataset_file(&repo).is_some())
            }),
        }
    }

    /// How many problems it has, where its file says so; of the built-in arithmetic how many are made by themselves.
    pub fn problems(&self) -> Option<u64> {
        match &self.dataset {
            Dataset::Arith { problems, .. } => Some(*problems),
            _ => self.checks.problems.or(self.checks.rows),
        }
    }

    /// Bytes of its files, where they are known.
    pub fn bytes(&self) -> Option<u64> {
        match &self.dataset {
            Dataset::Arith { .. } => None,
            Dataset::File { path } => path.metadata().ok().map(|metadata| metadata.len()),
            Dataset::Hub { files, .. } => files.iter().map(|file| file.bytes).sum(),
        }
    }
}

/// Opens the files of a benchmark; the record still lacks the number of rows.
pub(super) async fn open(
    benchmark: &Benchmark,
    hub: &HubSettings,
    on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
) -> Result<(DatasetRecord, Vec<Table>), BenchmarkError> {
    match &benchmark.dataset {
        Dataset::Arith { .. } => unreachable!("it has no files"),
        Dataset::File { path } => {
            let format = Format::of(path);
            let table = table(path, format)?;
            let file = path.display().to_string();
            let files = vec![DataFile { file: file.clone(), sha256: sha256(path)? }];
            Ok((
                DatasetRecord { id: file, revision: None, files, rows: 0, cached: true },
                vec![table],
            ))
        }
        Dataset::Hub { repo, revision, files, .. } => {
            let (mut record_files, mut tables) = (Vec::new(), Vec::new());
            let (mut commit, mut cached) = (revision.clone(), true);
            for file in files {
                let found = fetched(hub, repo, revision, file, on_progress).await?;
                let sha256 = checked(benchmark, file, &found.path)?;
                tables.push(table(&found.path, file.format.or(Format::of(Path::new(&file.path))))?);
                record_files.push(DataFile { file: file.path.clone(), sha256 });
                commit = found.commit;
                cached &= found.cached;
            }
            let revision = Some(commit);
            let record =
                DatasetRecord { id: repo.clone(), revision, files: record_files, rows: 0, cached };
            Ok((record, tables))
        }
    }
}

async fn fetched(
    settings: &HubSettings,
    repo: &str,
    revision: &str,
    file: &HubFile,
    on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
) -> Result<DatasetFile, BenchmarkError> {
    let file = Repo::dataset(repo, revision, &file.path)
        .map_err(|problem| BenchmarkError::Repo { repo: repo.to_owned(), problem })?;
    let hub = Hub::new(settings.clone()).map_err(BenchmarkError::of_hub)?;
    hub.dataset_file(&file, on_progress).await.map_err(|error| match error {
        HubError::Network { url, problem } => {
            BenchmarkError::NoNetwork { repo: repo.to_owned(), url, problem }
        }
        other => BenchmarkError::of_hub(other),
    })
}

fn table(path: &Path, format: Option<Format>) -> Result<Table, BenchmarkError> {
    let format = format.ok_or_else(|| BenchmarkError::Format { path: path.to_owned() })?;
    Table::open(path, format)
}

/// The SHA-256 of a file, if it is what the benchmark says.
fn checked(benchmark: &Benchmark, file: &HubFile, path: &Path) -> Result<String, BenchmarkError> {
    let found = sha256(path)?;
    match &file.sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(BenchmarkError::Content {
            name: benchmark.name.clone(),
            path: path.to_owned(),
            expected: expected.clone(),
            found,
        }),
        _ => Ok(found),
    }
}

fn sha256(path: &Path) -> Result<String, BenchmarkError> {
    let unreadable = |source| BenchmarkError::Read { path: PathBuf::from(path), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0_u8; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
