//! Journals in files: a directory per store, a file per run, a line of JSON per record.

mod disk;
mod lines;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use crate::id::RunId;
use crate::store::{Journal, Opened, Record, Store, StoreError};
use writer::{Job, Lease, Writer};

/// Keeps journals in the files of a directory, `<run>.jsonl` each, so that another process can go on with a run.
///
/// One thread writes them all: records that wait are written together and made durable together. A run whose process was
/// killed lost at most the record that was being written; its torn line is dropped when the run is resumed. Anything
/// else that is no record is refused, with its line: somebody changed the file.
///
/// The lease is a lock on the file. It ends with the process, however that ends, and is not seen by other machines on
/// most network file systems: keep the directory on a local one.
///
/// Whoever drops the last of a store and its journals waits until what is queued has been written.
///
/// ```
/// use std::sync::Arc;
/// use agentflow_flow::{Context, Flow, JsonlStore, RunId, step};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path().join("runs");
/// let flow = Flow::new("double").then(step("double", async |_cx: Context, x: u32| Ok(2 * x)));
/// let store = Arc::new(JsonlStore::new(dir));
/// let run = RunId::new("first").expect("it can name a file");
/// let report = flow.run(21).id(run.clone()).store(store.clone()).await;
/// assert_eq!(report.into_result()?, 42);
/// // Here or in another process:
/// assert_eq!(flow.resume(store, run).await.into_result()?, 42);
/// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
/// ```
pub struct JsonlStore {
    dir: PathBuf,
    fsync: bool,
    writer: Mutex<Option<Arc<Writer>>>,
}

/// What the writer needs to know about the journal of a run.
struct Place {
    run: RunId,
    dir: PathBuf,
    fsync: bool,
}

impl JsonlStore {
    /// A store in `dir`, which is made when the first run is.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), fsync: true, writer: Mutex::default() }
    }

    /// Whether a record counts as written only when it is on the disk itself: on by default. Off, journals outlive
    /// the process, also one that is killed, but not a power cut; a step takes microseconds instead of what the disk
    /// takes.
    pub fn fsync(self, on: bool) -> Self {
        Self { fsync: on, ..self }
    }

    /// The runs that have a journal here, in the order of their names.
    ///
    /// # Errors
    /// If the directory cannot be read. One that is not there yet has no runs.
    pub fn runs(&self) -> Result<Vec<RunId>, StoreError> {
        let failed = |error: &io::Error| disk::failed("list", &self.dir, error);
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&error)),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            // What is not named like a run was not put here by us.
            let run = name.to_str().and_then(|name| RunId::new(name.strip_suffix(".jsonl")?).ok());
            runs.extend(run);
        }
        runs.sort();
        Ok(runs)
    }

    fn place(&self, run: &RunId) -> Place {
        Place { run: run.clone(), dir: self.dir.clone(), fsync: self.fsync }
    }

    /// A lease that is not taken yet.
    fn lease(&self) -> Result<Lease, StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &*writer {
            Some(writer) => writer,
            None => {
                let started = Writer::start()
                    .map_err(|error| disk::failed("start a writer for", &self.dir, &error))?;
                writer.insert(Arc::new(started))
            }
        };
        Ok(Lease::new(writer.clone()))
    }
}

impl Store for JsonlStore {
    /// A file without one whole record is what a process left that was killed before anything began: it is taken over.
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let (lease, place) = (self.lease(), self.place(run));
        Box::pin(async move {
            let lease = lease?;
            lease.ask(|key, reply| Job::Create { key, place, reply }).await?;
            Ok(Box::new(lease) as Box<dyn Journal>)
        })
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        let (lease, place) = (self.lease(), self.place(run));
        Box::pin(async move {
            let lease = lease?;
            let records = lease.ask(|key, reply| Job::Open { key, place, reply }).await?;
            Ok((Box::new(lease) as Box<dyn Journal>, records))
        })
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        let place = self.place(run);
        Box::pin(async move {
            // Beside the writer, which does not wait for those who only look.
            let read = tokio::task::spawn_blocking(move || disk::load(&place)).await;
            read.unwrap_or_else(|_| Err(StoreError::Broken("the runtime shuts down".to_owned())))
        })
    }
}

impl Journal for Lease {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(|key, reply| Job::Append { key, record, reply })
    }
}
