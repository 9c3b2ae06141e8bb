//! The process between broker and worker. In an own process namespace it is process 1, and its end is everybody's;
//! elsewhere it adopts whatever the worker leaves behind, and ends only when all of that is dead.

use std::ptr;

use super::super::worker::{ALIVE, Descriptors, Failure, Note, RULESET, Step, Worker};
use super::namespaces::{NOBODY, Root};
use super::{landlock, privileges};

/// What is to be done in the child, by references to what the broker prepared.
pub(super) struct Orders<'a> {
    pub(super) worker: &'a Worker,
    pub(super) descriptors: &'a Descriptors,
    /// The new root: there are namespaces.
    pub(super) root: Option<&'a Root>,
    /// Become nobody, where that is not the user namespace's work.
    pub(super) become_nobody: bool,
    /// Give up capabilities.
    pub(super) drop_capabilities: bool,
    /// There is a ruleset on [`RULESET`]; these rights for the scratch folder are to be added.
    pub(super) landlock: Option<Option<u64>>,
}

impl Orders<'_> {
    /// Everything from the fork to the end of the holder.
    ///
    /// # Safety
    /// Only in a child just forked. Bare system calls throughout: the broker has threads, whose locks may be held in this
    /// copy for ever.
    pub(super) unsafe fn carry_out(&self) -> ! {
        // SAFETY: as this function's own contract.
        unsafe {
            match self.prepare() {
                Ok(()) => {}
                Err(failure) => give_up(failure),
            }
            let worker = fork(0);
            if worker < 0 {
                give_up(Failure::last(Step::Fork));
            }
            if worker == 0 {
                // If the holder dies, so does the worker; in a process namespace the kernel sees to that anyway.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                give_up(self.worker.exec(|| self.confine()));
            }
            self.attend(worker)
        }
    }

    unsafe fn prepare(&self) -> Result<(), Failure> {
        // SAFETY: as `carry_out`.
        unsafe {
            Worker::reset_signals();
            self.descriptors.install()?;
            libc::setsid();
            let mut go = 0u8;
            // The user namespace is mapped by then. No byte, but the end: the broker is gone already.
            if libc::read(ALIVE, ptr::from_mut(&mut go).cast(), 1) != 1 {
                libc::_exit(1);
            }
            // Readable by nobody but root: this is a copy of the broker's memory. Not before the mapping, which goes
            // through `/proc` and would be refused.
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            if let Some(root) = self.root {
                root.enter()?;
                privileges::empty_bounding_set();
                privileges::become_user(NOBODY)?;
                privileges::drop_capabilities()?;
            } else {
                libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            }
        }
        Ok(())
    }

    /// The last steps in the worker, before it becomes Python.
    unsafe fn confine(&self) -> Result<(), Failure> {
        // SAFETY: as `carry_out`.
        unsafe {
            if self.drop_capabilities {
                privileges::empty_bounding_set();
                if self.become_nobody {
                    privileges::become_user(NOBODY)?;
                }
                privileges::drop_capabilities()?;
                // Another user: the kernel forgot it.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            }
            if let Some(bits) = self.landlock {
                landlock::restrict(
                    RULESET,
                    bits.map(|bits| (self.worker.scratch.as_c_str(), bits)),
                )?;
            }
        }
        Ok(())
    }

    /// Waits for the worker's end or the broker's, kills what is left, and says how the worker ended.
    unsafe fn attend(&self, worker: libc::pid_t) -> ! {
        // SAFETY: as `carry_out`; all pointers are to locals.
        unsafe {
            let handle = libc::syscall(libc::SYS_pidfd_open, worker, 0) as libc::c_int;
            let slot = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut slots = [slot(ALIVE), slot(handle)];
            let mut status = 0;
            let mut usage: libc::rusage = std::mem::zeroed();
            loop {
                // Without a handle (before Linux 5.3) the worker is looked after every few milliseconds.
                let patience = if handle < 0 { 3 } else { -1 };
                libc::poll(slots.as_mut_ptr(), slots.len() as libc::nfds_t, patience);
                if slots[0].revents != 0 {
                    // The broker hung up: it wants the end, or met its own.
                    slots[0].fd = -1;
                    libc::kill(worker, libc::SIGKILL);
                    libc::kill(-worker, libc::SIGKILL);
                }
                if libc::wait4(worker, &mut status, libc::WNOHANG, &mut usage) == worker {
                    break;
                }
            }
            if self.root.is_none() {
                bury(worker);
            }
            let us = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
            let none = Failure { step: 0, errno: 0, index: 0 };
            let cpu_us = us(usage.ru_utime) + us(usage.ru_stime);
            Note { kind: Note::ENDED, failure: none, status, cpu_us }.send();
            // In a process namespace this kills everybody in it.
            libc::_exit(0)
        }
    }
}

/// Kills the worker's process group, and everything that came to us as its parent died, until there is nothing.
unsafe fn bury(worker: libc::pid_t) {
    // SAFETY: bare system calls with pointers to locals.
    unsafe {
        loop {
            libc::kill(-worker, libc::SIGKILL);
            let list = libc::open(
                c"/proc/thread-self/children".as_ptr(),
                libc::O_RDONLY | libc::O_CLOEXEC,
            );
            let mut text = [0u8; 4096];
            let length =
                if list < 0 { 0 } else { libc::read(list, text.as_mut_ptr().cast(), text.len()) };
            libc::close(list);
            let mut pid = 0;
            for byte in &text[..usize::try_from(length).unwrap_or(0)] {
                if byte.is_ascii_digit() {
                    pid = pid * 10 + libc::pid_t::from(byte - b'0');
                } else if pid > 0 {
                    libc::kill(pid, libc::SIGKILL);
                    libc::kill(-pid, libc::SIGKILL);
                    pid = 0;
                }
            }
            // Waits for one, takes those that are dead too, and stops when there are none left.
            if libc::waitpid(-1, ptr::null_mut(), 0) < 0 {
                return;
            }
            while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
        }
    }
}

/// A fork without the C library's hooks, which take locks. In the child it returns 0.
///
/// # Safety
/// The child may make bare system calls only, until it becomes another program.
pub(super) unsafe fn fork(namespaces: libc::c_int) -> libc::pid_t {
    let none = 0usize;
    // SAFETY: without a stack and with no pointers the call is a plain fork; zeros fit both orders of the arguments.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            (namespaces | libc::SIGCHLD) as libc::c_ulong,
            none,
            none,
            none,
            none,
        ) as libc::pid_t
    }
}

/// Says what failed, and ends.
unsafe fn give_up(failure: Failure) -> ! {
    Note::failed(failure).send();
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(126) }
}
