use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use super::super::SandboxError;
use super::super::broker::{Ended, Process};
use super::super::limits::Limits;
use super::super::python_run::End;
use super::super::scratch::Scratch;
use super::super::worker::{Note, Step};
use super::census;
use super::namespaces::Root;

/// A holder and all that is below it.
pub(super) struct Held {
    pub(super) holder: libc::pid_t,
    /// Where the holder says how things ended.
    pub(super) status: File,
    /// While this is open, the holder lets the worker run.
    pub(super) alive: Option<File>,
    pub(super) root: Option<Root>,
    /// Where there is no own root: what is polled instead.
    pub(super) polled: Option<Polled>,
    pub(super) buried: bool,
}

/// Limits that are kept by looking, at levels where the kernel does not keep them.
pub(super) struct Polled {
    scratch: Scratch,
    disk_bytes: u64,
    processes: u64,
}

impl Polled {
    pub(super) fn new(scratch: Scratch, limits: &Limits) -> Self {
        Self { scratch, disk_bytes: limits.file_mib << 20, processes: limits.processes }
    }
}

impl Process for Held {
    fn wake(&self) -> Option<RawFd> {
        Some(self.status.as_raw_fd())
    }

    fn try_end(&mut self) -> Result<Option<Ended>, SandboxError> {
        let mut bytes = [0; size_of::<Note>()];
        let length = match self.status.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(SandboxError::start("reading the holder's pipe")(error)),
        };
        self.kill();
        match Note::read(&bytes[..length]) {
            Some(note) if note.kind == Note::ENDED => Ok(Some(Ended {
                status: note.status,
                cpu: Duration::from_micros(note.cpu_us.unsigned_abs()),
            })),
            Some(note) => Err(self.explain(note)),
            // Killed from outside, with the worker: by the OOM killer, or by hand.
            None => Ok(Some(Ended { status: libc::SIGKILL, cpu: Duration::ZERO })),
        }
    }

    fn kill(&mut self) {
        if self.buried {
            return;
        }
        self.buried = true;
        self.alive = None;
        if self.root.is_some() {
            // SAFETY: our own child, not yet waited for, so the number is still its.
            unsafe { libc::kill(self.holder, libc::SIGKILL) };
        }
        // Without namespaces the holder does the killing, since it alone knows its descendants.
        const PATIENCE: Duration = Duration::from_secs(5);
        let started = Instant::now();
        loop {
            // SAFETY: as above.
            let waited = unsafe { libc::waitpid(self.holder, ptr::null_mut(), libc::WNOHANG) };
            if waited != 0 {
                return;
            }
            if started.elapsed() > PATIENCE {
                // SAFETY: as above.
                unsafe { libc::kill(self.holder, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn overstepped(&mut self) -> Option<End> {
        let polled = self.polled.as_ref()?;
        if census::descendant_threads(self.holder, polled.processes) > polled.processes {
            return Some(End::Processes);
        }
        (census::disk_bytes(polled.scratch.path()) > polled.disk_bytes).then_some(End::Files)
    }
}

impl Held {
    /// Lets the worker run as long as `alive` stays open.
    pub(super) fn with_alive(mut self, alive: File) -> Self {
        self.alive = Some(alive);
        self
    }

    fn explain(&self, note: Note) -> SandboxError {
        let step = STEPS.iter().find(|(step, _)| *step as i32 == note.failure.step);
        let mut step = step.map_or("an unknown step", |(_, words)| words).to_owned();
        if let (Some(root), true) = (&self.root, note.failure.step == Step::View as i32) {
            let path = root.path(usize::try_from(note.failure.index).unwrap_or(usize::MAX));
            step = format!("{step} `{path}`");
        }
        SandboxError::start(step)(io::Error::from_raw_os_error(note.failure.errno))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kill();
    }
}

const STEPS: [(Step, &str); 18] = [
    (Step::Descriptors, "passing the pipes on"),
    (Step::Session, "leaving the session"),
    (Step::Limits, "setting resource limits"),
    (Step::ScratchFolder, "entering the scratch folder"),
    (Step::Exec, "starting the interpreter"),
    (Step::Fork, "forking the worker"),
    (Step::MountPrivate, "making the mounts private"),
    (Step::MountStage, "mounting a stage for the new root"),
    (Step::Pivot, "moving to the stage"),
    (Step::MountRoot, "mounting the new root"),
    (Step::View, "showing"),
    (Step::MountScratch, "mounting the scratch folder"),
    (Step::ReadOnly, "making the new root read-only"),
    (Step::Detach, "leaving the old root"),
    (Step::User, "becoming nobody"),
    (Step::Capabilities, "dropping capabilities"),
    (Step::NoNewPrivileges, "giving up new privileges"),
    (Step::Landlock, "restricting file access with Landlock"),
];
