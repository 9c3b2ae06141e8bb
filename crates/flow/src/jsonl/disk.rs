//! The files of journals: made, locked, read, added to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use super::Place;
use super::lines::{self, Lines, Unreadable};
use crate::store::{Record, StoreError};

/// The journal of one run, locked, with what waits to be written to it.
pub(super) struct JournalFile {
    file: File,
    path: PathBuf,
    fsync: bool,
    /// Nobody knows that the directory durably has it: also whoever made it may have been killed before.
    unlisted: bool,
    queue: Vec<(Record, oneshot::Sender<Result<(), StoreError>>)>,
    /// Why nothing can be written any more: after a torn line there must be no other.
    broken: Option<StoreError>,
}

impl JournalFile {
    /// Makes the file and locks it, or takes over one without records.
    pub(super) fn create(place: &Place) -> Result<Self, StoreError> {
        let path = place.path();
        let exists = || StoreError::Exists { run: place.run.clone() };
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        let mut created = options.clone().create_new(true).open(&path);
        if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            create_dir(&place.dir, place.fsync)
                .map_err(|error| failed("create", &place.dir, &error))?;
            created = options.clone().create_new(true).open(&path);
        }
        let file = match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(&path),
            created => created,
        };
        let file = file.map_err(|error| failed("create", &path, &error))?;
        let journal = Self::lock(file, place)?.ok_or_else(exists)?;
        if lines::any(&journal.file).map_err(|error| failed("read", &path, &error))? {
            return Err(exists());
        }
        journal.cut(0)?;
        Ok(journal)
    }

    /// Locks the file, and reads what it holds.
    pub(super) fn open(place: &Place) -> Result<(Self, Vec<Record>), StoreError> {
        let path = place.path();
        let file = OpenOptions::new().read(true).append(true).open(&path);
        let file = file.map_err(|error| not_opened(place, &error))?;
        let journal = Self::lock(file, place)?;
        let journal = journal.ok_or_else(|| StoreError::Leased { run: place.run.clone() })?;
        let Lines { records, whole, torn } = read(&journal.file, &path)?;
        if torn {
            journal.cut(whole)?;
        }
        Ok((journal, records))
    }

    /// `None` if somebody else holds the lock.
    fn lock(file: File, place: &Place) -> Result<Option<Self>, StoreError> {
        let path = place.path();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
        }
        let queue = Vec::new();
        Ok(Some(Self { file, path, fsync: place.fsync, unlisted: true, queue, broken: None }))
    }

    /// Leaves the whole lines.
    fn cut(&self, whole: u64) -> Result<(), StoreError> {
        self.file.set_len(whole).map_err(|error| failed("repair", &self.path, &error))
    }

    pub(super) fn queue(&mut self, record: Record, reply: oneshot::Sender<Result<(), StoreError>>) {
        self.queue.push((record, reply));
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes what is queued, in one piece. `buffer` is only there to be used again.
    pub(super) fn write(&mut self, buffer: &mut Vec<u8>) {
        if self.broken.is_some() {
            return;
        }
        buffer.clear();
        let lines = self.queue.iter().try_for_each(|(record, _)| lines::write(record, buffer));
        let written = lines.map_err(io::Error::from).and_then(|()| self.file.write_all(buffer));
        self.broken = written.err().map(|error| failed("write", &self.path, &error));
    }

    /// Makes what was written durable, and that the file is there; `dir` is what came of the latter for another file of
    /// the directory.
    pub(super) fn sync(&mut self, dir: &mut Option<Result<(), StoreError>>) {
        if !self.fsync || self.broken.is_some() {
            return;
        }
        let synced = self.file.sync_data().map_err(|error| failed("sync", &self.path, &error));
        let listed = match self.unlisted {
            true => dir.get_or_insert_with(|| list(&self.path)).clone(),
            false => Ok(()),
        };
        self.unlisted = false;
        self.broken = synced.and(listed).err();
    }

    /// Tells those who wait what came of it. The ones after a failure learn that it was before them.
    pub(super) fn acknowledge(&mut self) {
        let result = self.broken.clone().map_or(Ok(()), Err);
        for (_, reply) in self.queue.drain(..) {
            let _ = reply.send(result.clone()); // nobody may wait for it
        }
        if let Some(StoreError::Io { .. }) = &self.broken {
            self.broken = self.broken.take().map(|error| StoreError::Broken(error.to_string()));
        }
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started right now has a copy of the descriptor until it
        // executes its program, and the lock would live as long.
        let _ = self.file.unlock();
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.jsonl", self.run))
    }
}

/// The records of a run, read without its lock.
pub(super) fn load(place: &Place) -> Result<Vec<Record>, StoreError> {
    let path = place.path();
    let file = File::open(&path).map_err(|error| not_opened(place, &error))?;
    Ok(read(&file, &path)?.records)
}

pub(super) fn failed(action: &'static str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), problem: error.to_string() }
}

fn not_opened(place: &Place, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound {
            run: place.run.clone(),
            place: format!("`{}`", place.dir.display()),
        },
        _ => failed("open", &place.path(), error),
    }
}

fn read(file: &File, path: &Path) -> Result<Lines, StoreError> {
    lines::read(file).map_err(|problem| match problem {
        Unreadable::Io(error) => failed("read", path, &error),
        Unreadable::Line { line, problem } => {
            StoreError::Corrupt { path: path.to_owned(), line, problem }
        }
    })
}

/// Makes it durable that the directory has the file at `path`.
fn list(path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().expect("a journal is in a directory");
    sync_dir(dir).map_err(|error| failed("sync", dir, &error))
}

/// Makes `dir` and what is missing above it. The entry of each new directory is kept by the one above.
fn create_dir(dir: &Path, fsync: bool) -> io::Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    if fsync {
        new.into_iter().filter_map(Path::parent).try_for_each(sync_dir)?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match File::open(here)?.sync_all() {
        // A file system that cannot sync directories has nothing to be waited for.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
