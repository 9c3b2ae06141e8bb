//! The process that becomes Python: everything it needs is prepared before the fork, because after it, in the child of a
//! program with threads, only bare system calls are safe (signal-safety(7)): no allocation, no locks, no panics.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::interpreter::Interpreter;
use super::rlimits::Rlimit;

/// The descriptors of the child, in this order from 0 on: those from [`STATUS`] on never reach Python.
pub(super) struct Descriptors {
    files: Vec<OwnedFd>,
}

/// Where a child says which step of the set-up failed; see [`Note`].
pub(super) const STATUS: RawFd = 5;
/// Says "go", and hangs up when the broker is gone.
pub(super) const ALIVE: RawFd = 6;
/// A Landlock ruleset.
pub(super) const RULESET: RawFd = 7;

impl Descriptors {
    /// stdin, stdout, stderr, the task, the report, and those from [`STATUS`] on.
    pub(super) fn new(files: impl IntoIterator<Item = File>) -> io::Result<Self> {
        // Above all numbers that `install` gives away, so that no `dup2` closes one that is still to come.
        const FLOOR: libc::c_int = 32;
        let above = |file: File| {
            // SAFETY: `file` is open; the result is checked before it is owned.
            match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FLOOR) } {
                -1 => Err(io::Error::last_os_error()),
                // SAFETY: just made by the kernel for us.
                descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
            }
        };
        Ok(Self { files: files.into_iter().map(above).collect::<io::Result<_>>()? })
    }

    /// Gives the files their numbers and closes everything else.
    ///
    /// # Safety
    /// Only between fork and exec: it takes every descriptor away from whoever owns it.
    pub(super) unsafe fn install(&self) -> Result<(), Failure> {
        for (number, file) in self.files.iter().enumerate() {
            // SAFETY: bare system call on an open descriptor.
            if unsafe { libc::dup2(file.as_raw_fd(), number as RawFd) } < 0 {
                return Err(Failure::last(Step::Descriptors));
            }
        }
        // SAFETY: as this function's own contract.
        unsafe { close_from(self.files.len() as RawFd) };
        Ok(())
    }
}

/// A step of the set-up, for the message when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Step {
    Descriptors,
    Session,
    Limits,
    ScratchFolder,
    Exec,
    #[cfg(target_os = "linux")]
    Fork,
    #[cfg(target_os = "linux")]
    MountPrivate,
    #[cfg(target_os = "linux")]
    MountStage,
    #[cfg(target_os = "linux")]
    Pivot,
    #[cfg(target_os = "linux")]
    MountRoot,
    #[cfg(target_os = "linux")]
    View,
    #[cfg(target_os = "linux")]
    MountScratch,
    #[cfg(target_os = "linux")]
    ReadOnly,
    #[cfg(target_os = "linux")]
    Detach,
    #[cfg(target_os = "linux")]
    User,
    #[cfg(target_os = "linux")]
    Capabilities,
    #[cfg(target_os = "linux")]
    NoNewPrivileges,
    #[cfg(target_os = "linux")]
    Landlock,
}

/// A failed step, with the kernel's error number and, of a list, which element.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Failure {
    pub(super) step: i32,
    pub(super) errno: i32,
    pub(super) index: i32,
}

impl Failure {
    /// Of the system call just made. Safe in a forked child: only reads `errno`.
    pub(super) fn last(step: Step) -> Self {
        Self::at(step, 0)
    }

    pub(super) fn at(step: Step, index: usize) -> Self {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Self { step: step as i32, errno, index: index as i32 }
    }
}

/// What the child tells the broker; small enough for a pipe to pass in one piece.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Note {
    /// `FAILED` or `ENDED`.
    pub(super) kind: i32,
    pub(super) failure: Failure,
    /// Of `ENDED`: the worker's wait status and processor time.
    pub(super) status: i32,
    pub(super) cpu_us: i64,
}

impl Note {
    pub(super) const FAILED: i32 = 1;
    #[cfg(target_os = "linux")]
    pub(super) const ENDED: i32 = 2;

    pub(super) fn failed(failure: Failure) -> Self {
        Self { kind: Self::FAILED, failure, status: 0, cpu_us: 0 }
    }

    /// Sends it; safe in a forked child.
    pub(super) fn send(&self) {
        // SAFETY: a `Note` is plain data without padding that matters, and outlives the call.
        unsafe { libc::write(STATUS, ptr::from_ref(self).cast(), size_of::<Self>()) };
    }

    /// The note in `bytes`, if they are a whole one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: there are enough bytes, and every bit pattern is a valid `Note`.
        Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
}

/// The program to become, ready for `execve`.
pub(super) struct Worker {
    executable: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Null-terminated, pointing into the two above.
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    pub(super) scratch: CString,
    pub(super) rlimits: Vec<Rlimit>,
}

impl Worker {
    /// Python with the runner, in the folder `scratch`.
    pub(super) fn new(
        interpreter: &Interpreter,
        scratch: &Path,
        rlimits: Vec<Rlimit>,
    ) -> io::Result<Self> {
        let arguments = [
            "python3",
            "-s", // no packages of the user
            "-S", // no `site`: faster, and no `.pth` or `sitecustomize`
            "-B", // no bytecode is written
            "-X",
            "utf8",
            "-W",
            "ignore", // warnings are noise to the planner
            "-c",
            include_str!("runner.py"),
        ];
        let environment = environment(scratch);
        let mut worker = Self {
            executable: c_string(interpreter.executable.as_os_str().as_bytes())?,
            arguments: arguments
                .iter()
                .map(|text| c_string(text.as_bytes()))
                .collect::<io::Result<_>>()?,
            environment: environment
                .iter()
                .map(|text| c_string(text))
                .collect::<io::Result<_>>()?,
            argv: Vec::new(),
            envp: Vec::new(),
            scratch: c_string(scratch.as_os_str().as_bytes())?,
            rlimits,
        };
        worker.argv = pointers(&worker.arguments);
        worker.envp = pointers(&worker.environment);
        Ok(worker)
    }

    /// Leaves the caller's session and terminal, takes the limits on, and becomes Python; `inside` runs just before.
    ///
    /// # Safety
    /// Only in a forked child, with the descriptors in place; `inside` must be as careful.
    pub(super) unsafe fn exec(&self, inside: impl FnOnce() -> Result<(), Failure>) -> Failure {
        // SAFETY: bare system calls with pointers that live as long as `self`.
        unsafe {
            if libc::setsid() < 0 {
                return Failure::last(Step::Session);
            }
            if libc::chdir(self.scratch.as_ptr()) < 0 {
                return Failure::last(Step::ScratchFolder);
            }
            libc::umask(0o077);
            for (index, rlimit) in self.rlimits.iter().enumerate() {
                // Elsewhere some limits exist by name only.
                if rlimit.set() < 0 && cfg!(target_os = "linux") {
                    return Failure::at(Step::Limits, index);
                }
            }
            if let Err(failure) = inside() {
                return failure;
            }
            for descriptor in [STATUS, ALIVE, RULESET] {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            libc::execve(self.executable.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
        }
        Failure::last(Step::Exec)
    }

    /// Handlers and masks of the caller are not Python's.
    ///
    /// # Safety
    /// Only in a forked child.
    pub(super) unsafe fn reset_signals() {
        // SAFETY: bare system calls; numbers that are no signals are refused.
        unsafe {
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        }
    }
}

/// An allow-list: nothing of the caller's environment gets through.
fn environment(scratch: &Path) -> Vec<Vec<u8>> {
    let folder = scratch.as_os_str().as_bytes();
    let fixed = [
        "LANG=C.UTF-8",
        "LC_ALL=C.UTF-8",
        "TZ=UTC",
        // The same set prints in the same order in every run. The runner takes it out of sight.
        "PYTHONHASHSEED=0",
        // Thread pools would meet the limits on processes and address space.
        "OPENBLAS_NUM_THREADS=1",
        "OMP_NUM_THREADS=1",
        "MKL_NUM_THREADS=1",
    ];
    let mut environment: Vec<Vec<u8>> = fixed.iter().map(|text| text.as_bytes().to_vec()).collect();
    environment.extend([[b"HOME=", folder].concat(), [b"TMPDIR=", folder].concat()]);
    environment
}

/// # Safety
/// Only in a forked child: closes what others own.
unsafe fn close_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: bare system call.
        let closed = unsafe {
            libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0)
        };
        if closed == 0 {
            return;
        }
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid; closing a number that is not open does nothing.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for descriptor in first..(limit.rlim_cur.min(1 << 20) as RawFd) {
            libc::close(descriptor);
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

pub(super) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}
