//! The directory that one run writes: whole lines, whole files, one writer.
//!
//! Appended records are whole lines, and a torn last line is dropped on resume. Files that are replaced are written
//! beside, synced and renamed. A lock file keeps a second process out; it is released when the process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("cannot {action} `{path}`: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("run directory `{path}` is in use by another process; wait for it, or start a new run")]
    InUse { path: PathBuf },
    #[error(
        "no run directory at `{path}`: it has no run.toml; give one that a command made, e.g. under `runs/`"
    )]
    NotARun { path: PathBuf },
    #[error("line {line} of `{path}` cannot be read: {problem}")]
    Line { path: PathBuf, line: usize, problem: String },
}

/// A run directory that this process alone writes.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes `<root>/<time>-<kind>-<short id>` and writes `run.toml`.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub fn create(root: &Path, kind: &str, run_toml: &str) -> Result<Self, RunDirError> {
        let now = jiff::Timestamp::now();
        let time = now.strftime("%Y%m%d-%H%M%S");
        // Unlike the time, the process differs between two runs that start in the same second.
        let id = (now.as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 40)) % 0xf_ffff;
        let path = root.join(format!("{time}-{kind}-{id:05x}"));
        std::fs::create_dir_all(&path).map_err(io("create", &path))?;
        let run = Self { _lock: lock(&path)?, path };
        run.write("run.toml", run_toml.as_bytes())?;
        Ok(run)
    }

    /// Takes up a run that was interrupted.
    ///
    /// # Errors
    /// If there is no run, or another process still writes it.
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        if !path.join("run.toml").is_file() {
            return Err(RunDirError::NotARun { path: path.to_owned() });
        }
        Ok(Self { _lock: lock(path)?, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file so that a reader sees the old content or the new one, never half of it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), RunDirError> {
        write_atomically(&self.path.join(name), content)
    }

    /// A file of JSON lines to append to, with the records that are in it already.
    ///
    /// # Errors
    /// If a line other than a torn last one is no record.
    pub fn lines<T: DeserializeOwned>(&self, name: &str) -> Result<(Lines, Vec<T>), RunDirError> {
        let mut records = Vec::new();
        let lines = self.lines_where(name, |line| {
            records.push(serde_json::from_slice(line).map_err(|e| e.to_string())?);
            Ok(true)
        })?;
        Ok((lines, records))
    }

    /// The same, read a line at a time: `keep` sees each, and says whether it stays or why it is no record. Where one has to
    /// go, the others are written beside and renamed, so that a kill leaves the old file or the new one.
    ///
    /// # Errors
    /// If the disk refuses, or `keep` does.
    pub fn lines_where(
        &self,
        name: &str,
        mut keep: impl FnMut(&[u8]) -> Result<bool, String>,
    ) -> Result<Lines, RunDirError> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        let mut dropped = Vec::new();
        let mut whole = 0;
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(io("read", &path))?;
            let Some(record) = line.strip_suffix(b"\n") else { break };
            match keep(record) {
                Ok(true) => {}
                Ok(false) => dropped.push(number),
                Err(problem) => return Err(RunDirError::Line { path, line: number, problem }),
            }
            whole += line.len() as u64;
        }
        if !line.is_empty() {
            tracing::warn!("dropped a torn last line of `{}`", path.display());
            file.set_len(whole).map_err(io("truncate", &path))?;
        }
        let mut lines = Lines { file, path, length: whole };
        if !dropped.is_empty() {
            lines = lines.without(&dropped)?;
        }
        lines.file.seek(SeekFrom::Start(lines.length)).map_err(io("read", &lines.path))?;
        Ok(lines)
    }
}

/// An open file of JSON lines.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
    /// Of the whole lines, in bytes.
    length: u64,
}

impl Lines {
    /// Appends one record as one line, in one write. Where the disk takes only a part of it, that part is taken back.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(record).map_err(|e| RunDirError::Io {
            action: "serialize a record for",
            path: self.path.clone(),
            source: e.into(),
        })?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // Where this fails as well, the next reader drops the torn line.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(io("append to", &self.path)(source));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Has the disk keep what was appended, also where the machine dies.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_data().map_err(io("sync", &self.path))
    }

    /// Replaces the file by one without the lines `dropped`, counted from 1, in order.
    fn without(self, dropped: &[usize]) -> Result<Self, RunDirError> {
        let beside = self.path.with_extension("tmp");
        let (mut old, path) = (self.file, self.path);
        old.seek(SeekFrom::Start(0)).map_err(io("read", &path))?;
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).read(true).write(true);
        let mut new = BufWriter::new(options.open(&beside).map_err(io("create", &beside))?);
        let mut dropped = dropped.iter().peekable();
        let mut length = 0;
        for (index, line) in BufReader::new(old).split(b'\n').enumerate() {
            let line = line.map_err(io("read", &path))?;
            if dropped.next_if_eq(&&(index + 1)).is_some() {
                continue;
            }
            new.write_all(&line)
                .and_then(|()| new.write_all(b"\n"))
                .map_err(io("write", &beside))?;
            length += line.len() as u64 + 1;
        }
        let file = new.into_inner().map_err(|e| io("write", &beside)(e.into_error()))?;
        file.sync_all().map_err(io("write", &beside))?;
        std::fs::rename(&beside, &path).map_err(io("rename to", &path))?;
        Ok(Self { file, path, length })
    }

    /// Starts the file anew with `records`: a resumed trainer drops what came after its checkpoint.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn restart<T: Serialize>(&mut self, records: &[T]) -> Result<(), RunDirError> {
        self.length = 0;
        self.file.set_len(0).map_err(io("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io("truncate", &self.path))?;
        records.iter().try_for_each(|record| self.append(record))
    }
}

/// Writes beside, syncs, renames.
///
/// # Errors
/// If the disk refuses.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), RunDirError> {
    stream_atomically(path, |out| out.write_all(content).map_err(io("write", path)))
}

/// As [`write_atomically`], for a file too large to be held.
///
/// # Errors
/// Those of `write`, or if the disk refuses; the old file is then still there.
pub fn stream_atomically<E: From<RunDirError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let beside = path.with_extension("tmp");
    let mut out = BufWriter::new(File::create(&beside).map_err(io("create", &beside))?);
    write(&mut out)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(io("write", &beside))?;
    std::fs::rename(&beside, path).map_err(|source| io("rename to", path)(source).into())
}

/// A process that was just killed may have begun to start another, e.g. a tool, which has a copy of the lock until it
/// executes its program: for so long, a lock that is taken is asked for again.
const HALF_STARTED: Duration = Duration::from_secs(1);

fn lock(path: &Path) -> Result<File, RunDirError> {
    let name = path.join("lock");
    let file = File::create(&name).map_err(io("create", &name))?;
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if asked.elapsed() < HALF_STARTED => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(RunDirError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", &name)(source)),
        }
    }
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> RunDirError + 'a {
    move |source| RunDirError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(root: &Path) -> RunDir {
        RunDir::create(root, "test", "seed = 1\n").expect("a fresh directory can be written")
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_the_rest_kept() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let run = run_in(root.path());
        let (mut lines, before) = run.lines::<u32>("numbers.jsonl").expect("a new file");
        assert!(before.is_empty());
        lines.append(&1).expect("append");
        lines.append(&2).expect("append");
        lines.file.write_all(b"34").expect("a write that is cut off");
        let (mut lines, before) = run.lines::<u32>("numbers.jsonl").expect("reads again");
        assert_eq!(before, [1, 2]);
        lines.append(&3).expect("append");
        let text = std::fs::read_to_string(run.path().join("numbers.jsonl")).expect("reads");
        assert_eq!(text, "1\n2\n3\n");
    }

    #[test]
    fn lines_that_are_not_kept_are_gone_and_appending_goes_on() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let run = run_in(root.path());
        run.write("numbers.jsonl", b"1\n22\n3\n44\n5").expect("write");
        let odd = |line: &[u8]| Ok(line.len() == 1);
        let mut lines = run.lines_where("numbers.jsonl", odd).expect("reads");
        lines.append(&6).expect("append");
        let text = std::fs::read_to_string(run.path().join("numbers.jsonl")).expect("reads");
        assert_eq!(text, "1\n3\n6\n");
        assert!(!run.path().join("numbers.tmp").exists());
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let run = run_in(root.path());
        run.write("numbers.jsonl", b"1\nx\n3\n").expect("write");
        let error = run.lines::<u32>("numbers.jsonl").expect_err("line 2 is no number");
        assert!(error.to_string().starts_with("line 2 of"), "{error}");
    }

    #[test]
    fn a_second_writer_is_kept_out() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let run = run_in(root.path());
        assert!(matches!(RunDir::resume(run.path()), Err(RunDirError::InUse { .. })));
        let path = run.path().to_owned();
        drop(run);
        RunDir::resume(&path).expect("the lock goes with its holder");
    }
}
