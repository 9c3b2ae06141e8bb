//! What the tests of rows 37 and 38 share: steps that note that they ran, journals as text, a store that meddles.

use std::future::ready;
use std::sync::Arc;
use std::sync::Mutex;

use agentflow_flow::{
    Context, Data, Journal, MemoryStore, Node, Opened, Record, Report, RunId, StepError, Store,
    StoreError, step,
};
use futures::future::BoxFuture;

/// The paths of the steps that ran, in their order.
#[derive(Clone, Default)]
pub(super) struct Ran(pub(super) Arc<Mutex<Vec<String>>>);

impl Ran {
    /// A step that notes that it ran.
    pub(super) fn step<I: Data, O: Data>(
        &self,
        name: &str,
        work: impl Fn(&Context, I) -> Result<O, StepError> + Send + Sync + 'static,
    ) -> Node<I, O> {
        let ran = self.clone();
        step(name, move |cx: Context, input: I| {
            ran.0.lock().unwrap().push(cx.path().to_string());
            ready(work(&cx, input))
        })
    }

    pub(super) fn add(&self, name: &str, n: u32) -> Node<u32, u32> {
        self.step(name, move |_, x: u32| Ok(x + n))
    }

    /// Fails in its first attempt.
    pub(super) fn fails_once(&self, name: &str) -> Node<u32, u32> {
        self.step(name, |cx, x| match cx.attempt() {
            1 => Err(StepError::failed("no")),
            _ => Ok(x),
        })
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(super) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

pub(super) fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

pub(super) fn said<O: std::fmt::Debug>(report: Report<O>) -> String {
    report.into_result().unwrap_err().to_string()
}

pub(super) async fn records(store: &MemoryStore, run: &RunId) -> Vec<String> {
    let line = |record: Record| match record {
        Record::Started { shape, input, .. } => format!("started {} on {input}", shape.name),
        Record::Resumed { .. } => "resumed".to_owned(),
        Record::Output { path, value, tried } => format!("{path} #{} gave {value}", tried.attempt),
        Record::Failed { path, failure, tried } => {
            format!("{path} #{} failed: {}", tried.attempt, failure.message)
        }
        Record::Settled { path, failure } => format!("{path} settled: {failure}"),
        Record::Routed { path, label } => format!("{path} took {label}"),
        Record::Asked { path, question, .. } => format!("{path} asked {question}"),
        Record::Answered { path, answer, .. } => format!("{path} answered {answer}"),
        Record::Ended { how, .. } => format!("ended {how:?}"),
        other => panic!("{other:?}"),
    };
    store.load(run).await.unwrap().into_iter().map(line).collect()
}

/// A store that does to every record what `append` says, before it is kept.
#[derive(Clone)]
pub(super) struct Meddling<F> {
    pub(super) inner: MemoryStore,
    pub(super) append: F,
}

pub(super) struct MeddlingJournal<F> {
    pub(super) inner: Arc<dyn Journal>,
    pub(super) append: F,
}

impl<F> Store for Meddling<F>
where
    F: Fn(&Record) -> BoxFuture<'static, Result<(), StoreError>> + Clone + Send + Sync + 'static,
{
    fn create(&self, run: &RunId) -> BoxFuture<'static, Result<Box<dyn Journal>, StoreError>> {
        let (created, append) = (self.inner.create(run), self.append.clone());
        Box::pin(async move {
            let inner = Arc::from(created.await?);
            Ok(Box::new(MeddlingJournal { inner, append }) as Box<dyn Journal>)
        })
    }

    fn open(&self, run: &RunId) -> BoxFuture<'static, Result<Opened, StoreError>> {
        self.inner.open(run)
    }

    fn load(&self, run: &RunId) -> BoxFuture<'static, Result<Vec<Record>, StoreError>> {
        self.inner.load(run)
    }
}

impl<F> Journal for MeddlingJournal<F>
where
    F: Fn(&Record) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
{
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), StoreError>> {
        let (before, inner) = ((self.append)(&record), self.inner.clone());
        Box::pin(async move {
            before.await?;
            inner.append(record).await
        })
    }
}
