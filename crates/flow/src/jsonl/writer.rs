//! The thread that writes the journals of a store, and the handles of those who write through it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::Place;
use super::disk::JournalFile;
use crate::store::{Record, StoreError};

/// What the thread is asked to do. It does it in the order in which it was asked.
pub(super) enum Job {
    Create { key: u64, place: Place, reply: Reply<()> },
    Open { key: u64, place: Place, reply: Reply<Vec<Record>> },
    Append { key: u64, record: Record, reply: Reply<()> },
    Close { key: u64 },
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The thread, as long as somebody may have something to write.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    keys: AtomicU64,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("flow-journal".to_owned())
            .spawn(move || work(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), keys: AtomicU64::new(0) })
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("taken only when it is dropped");
        // That the thread is gone is noticed by those who wait for its reply.
        let _ = jobs.send(job);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does what is queued, and ends
        }
    }
}

/// A place among the open files of the writer, given back when it is dropped. The thread never holds one: a file that
/// was opened for somebody who went away in the meantime is closed like any other.
pub(super) struct Lease {
    writer: Arc<Writer>,
    key: u64,
}

impl Lease {
    pub(super) fn new(writer: Arc<Writer>) -> Self {
        let key = writer.keys.fetch_add(1, Ordering::Relaxed);
        Self { writer, key }
    }

    /// Queues a job now; what came of it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(u64, Reply<T>) -> Job,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(job(self.key, reply));
        Box::pin(async move {
            let gone = || StoreError::Broken("the thread that writes journals has died".to_owned());
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.writer.send(Job::Close { key: self.key });
    }
}

fn work(queue: &Receiver<Job>) {
    let mut files = Files::default();
    while let Ok(job) = queue.recv() {
        files.serve(job, queue);
    }
}

#[derive(Default)]
struct Files {
    open: HashMap<u64, JournalFile>,
    /// Those with something to write.
    waiting: Vec<u64>,
    buffer: Vec<u8>,
}

/// More memory than this is given back after a large record.
const BUFFER: usize = 4 << 20;

impl Files {
    /// Does `job` and all that is queued behind it, then writes what is to be written, once for each file.
    fn serve(&mut self, job: Job, queue: &Receiver<Job>) {
        self.take(job);
        while let Ok(job) = queue.try_recv() {
            self.take(job);
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.commit(&waiting);
        self.buffer.shrink_to(BUFFER);
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Create { key, place, reply } => {
                let created = JournalFile::create(&place);
                let _ = reply.send(created.map(|file| {
                    self.open.insert(key, file);
                }));
            }
            Job::Open { key, place, reply } => {
                let opened = JournalFile::open(&place);
                let _ = reply.send(opened.map(|(file, records)| {
                    self.open.insert(key, file);
                    records
                }));
            }
            Job::Append { key, record, reply } => {
                let file = self.open.get_mut(&key).expect("a lease appends after it was taken");
                if !file.has_queue() {
                    self.waiting.push(key);
                }
                file.queue(record, reply);
            }
            Job::Close { key } => {
                // Only that of a run that was dropped still waits: all others have heard of their last record.
                if self.open.get(&key).is_some_and(JournalFile::has_queue) {
                    self.commit(&[key]);
                }
                self.open.remove(&key);
            }
        }
    }

    /// All files are written before the first is waited for: the disk then has them all to put in one order.
    fn commit(&mut self, keys: &[u64]) {
        for key in keys {
            if let Some(file) = self.open.get_mut(key) {
                file.write(&mut self.buffer);
            }
        }
        let mut dir = None;
        for key in keys {
            if let Some(file) = self.open.get_mut(key) {
                file.sync(&mut dir);
            }
        }
        for key in keys {
            if let Some(file) = self.open.get_mut(key) {
                file.acknowledge();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::store::Ending;

    /// The writes that this thread has asked the kernel for; `None` where the kernel does not count them.
    fn writes() -> Option<u64> {
        let counts = std::fs::read_to_string("/proc/thread-self/io").ok()?;
        counts.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok())
    }

    #[test]
    fn what_waits_is_written_at_once_per_file() {
        let dir = tempfile::tempdir().unwrap();
        let (jobs, queue) = channel();
        for key in 0..2 {
            let run = RunId::new(&format!("run-{key}")).unwrap();
            let place = Place { run, dir: dir.path().to_owned(), fsync: true };
            jobs.send(Job::Create { key, place, reply: oneshot::channel().0 }).unwrap();
        }
        let answers: Vec<_> = (0..200)
            .map(|at_ms| {
                let (reply, answer) = oneshot::channel();
                let record = Record::Ended { how: Ending::Done, at_ms };
                jobs.send(Job::Append { key: at_ms % 2, record, reply }).unwrap();
                answer
            })
            .collect();

        let mut files = Files::default();
        let before = writes();
        files.serve(queue.recv().unwrap(), &queue);
        assert_eq!(before.map(|before| before + 2), writes());

        assert!(answers.into_iter().all(|mut answer| matches!(answer.try_recv(), Ok(Ok(())))));
        for (key, first) in [(0, 0), (1, 1)] {
            let text = std::fs::read_to_string(dir.path().join(format!("run-{key}.jsonl")));
            let expected: String = (first..200)
                .step_by(2)
                .map(|at_ms| format!("{{\"ended\":{{\"how\":\"done\",\"at_ms\":{at_ms}}}}}\n"))
                .collect();
            assert_eq!(text.unwrap(), expected);
        }
    }
}
