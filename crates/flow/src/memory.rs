//! Journals in the memory of this process: for tests, and for pauses that need not outlive it.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;

use crate::id::RunId;
use crate::store::{Journal, Opened, Record, Store, StoreError};

/// Keeps journals in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<RunId, Kept>>>);

#[derive(Default)]
struct Kept {
    records: Vec<Record>,
    leased: bool,
}

impl MemoryStore {
    /// A store that knows no run yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The runs it knows, in the order of their names.
    pub fn runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.lock().keys().cloned().collect();
        runs.sort();
        runs
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(run: &RunId) -> StoreError {
        StoreError::NotFound { run: run.clone(), place: "memory".to_owned() }
    }

    fn lease(&self, run: &RunId) -> Box<dyn Journal> {
        Box::new(Lease { store: self.clone(), run: run.clone() })
    }
}

impl Store for MemoryStore {
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let mut kept = self.lock();
        let created = match kept.get(run) {
            Some(known) if known.leased || !known.records.is_empty() => {
                Err(StoreError::Exists { run: run.clone() })
            }
            // Without a record, nothing had begun when whoever made it was stopped.
            _ => {
                kept.insert(run.clone(), Kept { records: Vec::new(), leased: true });
                Ok(self.lease(run))
            }
        };
        Box::pin(ready(created))
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        let opened = match self.lock().get_mut(run) {
            None => Err(Self::unknown(run)),
            Some(Kept { leased: true, .. }) => Err(StoreError::Leased { run: run.clone() }),
            Some(kept) => {
                kept.leased = true;
                Ok((self.lease(run), kept.records.clone()))
            }
        };
        Box::pin(ready(opened))
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        let records = self.lock().get(run).map(|kept| kept.records.clone());
        Box::pin(ready(records.ok_or_else(|| Self::unknown(run))))
    }
}

struct Lease {
    store: MemoryStore,
    run: RunId,
}

impl Journal for Lease {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        if let Some(kept) = self.store.lock().get_mut(&self.run) {
            kept.records.push(record);
        }
        Box::pin(ready(Ok(())))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(kept) = self.store.lock().get_mut(&self.run) {
            kept.leased = false;
        }
    }
}
