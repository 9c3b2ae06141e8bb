//! A store that breaks where a test says.

use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use crate::id::RunId;
use crate::store::{Journal, Opened, Record, Store, StoreError};

/// A [`Store`] around another one that breaks at a given record, as when a disk is full or a process dies. What it kept
/// until then is in the store inside, for another run to resume.
///
/// It counts the records of all its runs together, from 1: the first is the start of a run.
///
/// ```
/// use std::sync::Arc;
/// use agentflow_flow::testing::{FaultyStore, scripted};
/// use agentflow_flow::{ErrorKind, Flow, MemoryStore, RunId};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (first, second) = (scripted("first", [1]), scripted("second", [2]));
/// let flow = Flow::new("f").then(first.clone()).then(second.clone());
/// let (store, id) = (MemoryStore::new(), RunId::new("monday")?);
///
/// let breaks = Arc::new(FaultyStore::new(store.clone()).fail_from(3));
/// let report = flow.run(0).id(id.clone()).store(breaks).await;
/// assert!(matches!(report.error().unwrap().kind, ErrorKind::Store(_)));
///
/// assert_eq!(flow.resume(Arc::new(store), id).await.into_result()?, 2);
/// assert_eq!(first.inputs().len(), 1); // its output was record 2
/// assert_eq!(second.inputs().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct FaultyStore {
    inside: Box<dyn Store>,
    faults: Faults,
}

#[derive(Clone)]
struct Faults {
    /// This record and all later ones are not kept.
    lost_from: u64,
    /// From this record on, every append fails.
    fail_from: u64,
    hook: Option<Arc<dyn Fn(u64) + Send + Sync>>,
    appended: Arc<AtomicU64>,
}

impl FaultyStore {
    /// Around `store`, and without faults yet.
    pub fn new(store: impl Store) -> Self {
        let (lost_from, fail_from) = (u64::MAX, u64::MAX);
        let faults = Faults { lost_from, fail_from, hook: None, appended: Arc::default() };
        Self { inside: Box::new(store), faults }
    }

    /// Record `n` and all later ones are lost, and their appends fail: a crash before record `n` was durable.
    pub fn fail_from(mut self, n: u64) -> Self {
        (self.faults.lost_from, self.faults.fail_from) = (n, n);
        self
    }

    /// Record `n` is kept, and its append fails all the same; later ones are lost. A crash between a write and the word
    /// that it was done.
    pub fn fail_after(mut self, n: u64) -> Self {
        (self.faults.lost_from, self.faults.fail_from) = (n.saturating_add(1), n);
        self
    }

    /// Calls `hook` with the number of each record that has become durable: to end the process after some record, or the
    /// run. It is called also where the run does not wait for the record.
    pub fn after_each(mut self, hook: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.faults.hook = Some(Arc::new(hook));
        self
    }

    /// How many records were appended so far, lost ones included.
    pub fn appended(&self) -> u64 {
        self.faults.appended.load(Ordering::SeqCst)
    }
}

impl Store for FaultyStore {
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let (created, faults) = (self.inside.create(run), self.faults.clone());
        Box::pin(async move { Ok(faults.around(created.await?)) })
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        let (opened, faults) = (self.inside.open(run), self.faults.clone());
        Box::pin(async move {
            let (journal, records) = opened.await?;
            Ok((faults.around(journal), records))
        })
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        self.inside.load(run)
    }
}

impl Faults {
    fn around(self, inside: Box<dyn Journal>) -> Box<dyn Journal> {
        Box::new(FaultyJournal { inside, faults: self })
    }
}

struct FaultyJournal {
    inside: Box<dyn Journal>,
    faults: Faults,
}

impl Journal for FaultyJournal {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        let Faults { lost_from, fail_from, hook, appended } = &self.faults;
        let n = appended.fetch_add(1, Ordering::SeqCst) + 1;
        if n >= *lost_from {
            return Box::pin(ready(Err(asked_for(n))));
        }
        let (written, fails) = (self.inside.append(record), n >= *fail_from);
        let written = match hook.clone() {
            None => written,
            Some(hook) => {
                let told = written.inspect(move |written| {
                    if written.is_ok() {
                        hook(n);
                    }
                });
                told_in_any_case(told.boxed())
            }
        };
        Box::pin(async move {
            written.await?;
            if fails { Err(asked_for(n)) } else { Ok(()) }
        })
    }
}

/// A run does not wait for every record; a task does.
fn told_in_any_case(
    written: BoxFuture<'static, Result<(), StoreError>>,
) -> BoxFuture<'static, Result<(), StoreError>> {
    let Ok(runtime) = Handle::try_current() else {
        return written; // a run that is dropped outside of its runtime
    };
    let task = runtime.spawn(written);
    Box::pin(async move {
        task.await.unwrap_or_else(|error| Err(StoreError::Broken(format!("the hook: {error}"))))
    })
}

fn asked_for(record: u64) -> StoreError {
    let problem = format!("record {record} fails, as the test asked");
    StoreError::Io { action: "append to", path: PathBuf::from("FaultyStore"), problem }
}
