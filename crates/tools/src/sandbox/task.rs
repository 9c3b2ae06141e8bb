//! What goes to the runner on descriptor 3 and what comes back on descriptor 4.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

use super::interpreter::Interpreter;
use super::limits::Limits;

/// The seccomp programs that the runner installs, as bytes; see `seccomp.rs`.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub(super) narrow: Vec<u8>,
    pub(super) allowing: Vec<u8>,
}

/// One start of the runner.
pub(super) struct Task<'a> {
    pub(super) snippets: &'a [&'a str],
    /// All snippets in one interpreter, output captured inside; else exactly one, output streamed.
    pub(super) batch: bool,
    pub(super) filters: &'a Filters,
    pub(super) interpreter: &'a Interpreter,
    pub(super) limits: &'a Limits,
    pub(super) import_guard: bool,
}

/// Tells the reports of one start from those of another.
pub(super) type RunId = [u8; 16];

impl Task<'_> {
    /// The file for descriptor 3 and the id that the reports will carry.
    pub(super) fn write(&self) -> io::Result<(File, RunId)> {
        let id = fresh_id();
        let site: Vec<_> =
            self.interpreter.site.iter().map(|path| path.to_string_lossy()).collect();
        let mut frames = Vec::new();
        let mut frame = |bytes: &[u8]| {
            // A frame of 4 GiB does not fit the sandbox's memory; its length is cut, and the code will not parse.
            frames.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            frames.extend_from_slice(bytes);
        };
        frame(&id);
        frame(if self.batch { b"batch" } else { b"run" });
        frame(&self.filters.narrow);
        frame(&self.filters.allowing);
        frame(site.join("\n").as_bytes());
        frame(self.interpreter.packages.join("\n").as_bytes());
        frame(if self.import_guard { b"on" } else { b"off" });
        frame(self.limits.memory_mib.to_string().as_bytes());
        for snippet in self.snippets {
            frame(snippet.as_bytes());
        }
        let mut file = anonymous_file()?;
        file.write_all(&frames)?;
        Ok((file, id))
    }
}

/// What the runner says of one snippet. A claim: the code could have written it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) wall_ms: u64,
    pub(super) printed: Vec<u8>,
    pub(super) error: Option<String>,
}

impl Said {
    /// Takes the first report off `bytes`; `None` when it is torn or not of the run `id`.
    pub(super) fn read(bytes: &mut &[u8], id: &RunId) -> Option<Self> {
        let mut rest = bytes.strip_prefix(id.as_slice())?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(part)
        };
        let number = |part: &[u8]| part.try_into().ok().map(u32::from_le_bytes);
        let (code, wall_ms, failed) = (number(part()?)?, number(part()?)?, part()? == [1]);
        let (printed, error) = (part()?.to_vec(), String::from_utf8_lossy(part()?).into_owned());
        *bytes = rest;
        Some(Self {
            code: i32::try_from(code).ok()?,
            wall_ms: wall_ms.into(),
            printed,
            error: failed.then_some(error),
        })
    }
}

fn fresh_id() -> RunId {
    // `RandomState` is keyed from the system's randomness; an id has to be unlike others, no secret.
    let half = || RandomState::new().hash_one(std::time::Instant::now()).to_le_bytes();
    let mut id = RunId::default();
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    id
}

#[cfg(target_os = "linux")]
fn anonymous_file() -> io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a NUL-terminated literal.
    let descriptor = unsafe { libc::memfd_create(c"agentflow-task".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

#[cfg(not(target_os = "linux"))]
fn anonymous_file() -> io::Result<File> {
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &RunId, parts: [&[u8]; 5]) -> Vec<u8> {
        let mut bytes = id.to_vec();
        for part in parts {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn a_report_is_read_and_taken_off() {
        let id = [7; 16];
        let parts: [&[u8]; 5] = [&1u32.to_le_bytes(), &12u32.to_le_bytes(), &[1], b"out", b"error"];
        let twice = [report(&id, parts), report(&id, parts)].concat();
        let mut bytes = twice.as_slice();
        let said = Said::read(&mut bytes, &id).expect("a whole report");
        let error = Some("error".to_owned());
        assert_eq!(said, Said { code: 1, wall_ms: 12, printed: b"out".to_vec(), error });
        assert_eq!(Said::read(&mut bytes, &id), Some(said));
        assert!(bytes.is_empty());
    }

    #[test]
    fn torn_foreign_and_forged_reports_are_none() {
        let id = [7; 16];
        let zero = 0u32.to_le_bytes();
        let whole = report(&id, [&zero, &zero, &[0], b"", b""]);
        for length in 0..whole.len() {
            assert_eq!(Said::read(&mut &whole[..length], &id), None, "{length} bytes");
        }
        assert_eq!(Said::read(&mut whole.as_slice(), &[8; 16]), None);
        let huge = [id.as_slice(), &u32::MAX.to_le_bytes(), b"rest"].concat();
        assert_eq!(Said::read(&mut huge.as_slice(), &id), None);
    }
}
