//! Watches one process from outside: wall clock, output, cancellation. What it says is the truth about a run.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::SandboxError;
use super::cancel::Cancel;
use super::limits::Limits;
use super::output::Output;
use super::python_run::End;

/// A started interpreter with everything below it.
pub(super) trait Process {
    /// A descriptor that becomes readable when [`try_end`](Self::try_end) has something to say.
    fn wake(&self) -> Option<RawFd>;

    /// How it ended, once it has, and once nothing of it is left.
    fn try_end(&mut self) -> Result<Option<Ended>, SandboxError>;

    /// Kills it and all its descendants, and waits until they are gone.
    fn kill(&mut self);

    /// What only polling can see: the limits that the kernel does not keep at this level.
    fn overstepped(&mut self) -> Option<End> {
        None
    }
}

/// The kernel's word on a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// As `wait4` gives it.
    pub(super) status: i32,
    pub(super) cpu: Duration,
}

/// Our ends of the pipes, non-blocking.
pub(super) struct Pipes {
    pub(super) stdout: File,
    pub(super) stderr: File,
    pub(super) report: File,
}

/// What is known once nothing runs any more.
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) report: Vec<u8>,
    pub(super) wall: Duration,
}

/// What the clock measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The whole run.
    Run,
    /// The time since the last report: one snippet of a batch.
    Report,
}

/// How soon a cancellation is seen, and how often limits are polled.
const TICK: Duration = Duration::from_millis(20);
/// How soon the end of a process is seen that has no descriptor to wait for.
const SHORT_TICK: Duration = Duration::from_millis(2);
/// One snippet's report is its error text: a few kilobytes. A batch's reports carry output too, all of it ours.
const REPORT_BYTES: usize = 64 << 10;

/// Follows `process` to its end, or ends it.
pub(super) fn watch(
    process: &mut dyn Process,
    pipes: Pipes,
    limits: &Limits,
    cpu_s: u64,
    clock: Clock,
    cancel: &Cancel,
) -> Result<Outcome, SandboxError> {
    let started = Instant::now();
    let mut deadline = started + limits.wall;
    let mut next_poll = started + TICK;
    let mut taps = Taps::new(pipes, limits, clock);
    loop {
        let now = Instant::now();
        let stop = if cancel.is_cancelled() {
            Some(End::Cancelled)
        } else if now >= deadline {
            Some(End::Timeout)
        } else if taps.flooded(limits) {
            Some(End::Output)
        } else if now >= next_poll {
            next_poll = now + TICK;
            process.overstepped()
        } else {
            None
        };
        if let Some(end) = stop {
            process.kill();
            taps.drain();
            return Ok(taps.outcome(end, started.elapsed()));
        }
        let tick = if process.wake().is_some() { TICK } else { SHORT_TICK };
        let reported = taps.wait(process.wake(), tick.min(deadline - now));
        if reported && clock == Clock::Report {
            deadline = Instant::now() + limits.wall;
        }
        if let Some(ended) = process.try_end()? {
            taps.drain();
            let end = if taps.flooded(limits) { End::Output } else { classify(ended, cpu_s) };
            return Ok(taps.outcome(end, started.elapsed()));
        }
    }
}

/// The pipes, and what came out of them.
struct Taps {
    pipes: [Option<File>; 3],
    stdout: Output,
    stderr: Output,
    report: Vec<u8>,
    report_limit: usize,
}

impl Taps {
    fn new(pipes: Pipes, limits: &Limits, clock: Clock) -> Self {
        const LAST_WORDS: usize = 4 << 10; // of the interpreter itself, for our error messages
        Self {
            pipes: [Some(pipes.stdout), Some(pipes.stderr), Some(pipes.report)],
            stdout: Output::new(limits.output_bytes),
            stderr: Output::new(LAST_WORDS),
            report: Vec::new(),
            report_limit: if clock == Clock::Run { REPORT_BYTES } else { usize::MAX },
        }
    }

    fn flooded(&self, limits: &Limits) -> bool {
        self.stdout.total() + self.stderr.total() > limits.flood_bytes()
    }

    /// Waits until there is something to read or `wake` is readable, and reads it; whether a report came.
    fn wait(&mut self, wake: Option<RawFd>, patience: Duration) -> bool {
        let slot = |fd: Option<RawFd>| libc::pollfd {
            fd: fd.unwrap_or(-1), // poll skips negative ones
            events: libc::POLLIN,
            revents: 0,
        };
        let fds = self.pipes.each_ref().map(|pipe| pipe.as_ref().map(AsRawFd::as_raw_fd));
        let mut slots = [slot(fds[0]), slot(fds[1]), slot(fds[2]), slot(wake)];
        // Rounded up: a wait of zero would spin through the last millisecond.
        let milliseconds = patience.as_millis() as libc::c_int + 1;
        // SAFETY: `slots` is valid and has as many elements as we say.
        unsafe { libc::poll(slots.as_mut_ptr(), slots.len() as libc::nfds_t, milliseconds) };
        let before = self.report.len();
        for (tap, slot) in slots[..3].iter().enumerate() {
            if slot.revents != 0 {
                self.read(tap);
            }
        }
        self.report.len() > before
    }

    /// One read from a pipe; whether there may be more.
    fn read(&mut self, tap: usize) -> bool {
        let Some(pipe) = &mut self.pipes[tap] else { return false };
        let mut buffer = [0; 64 << 10];
        match pipe.read(&mut buffer) {
            Ok(length @ 1..) => {
                let bytes = &buffer[..length];
                match tap {
                    0 => self.stdout.push(bytes),
                    1 => self.stderr.push(bytes),
                    // One byte more than allowed is kept: enough to see that there was too much.
                    _ => {
                        let room = (self.report_limit
                            + usize::from(self.report_limit < usize::MAX))
                        .saturating_sub(self.report.len());
                        self.report.extend_from_slice(&bytes[..length.min(room)]);
                    }
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Ok(_) | Err(_) => {
                self.pipes[tap] = None;
                false
            }
        }
    }

    /// Reads what is left. Nobody writes any more, so this ends: pipes are small.
    fn drain(&mut self) {
        for tap in 0..self.pipes.len() {
            while self.read(tap) {}
        }
    }

    fn outcome(self, end: End, wall: Duration) -> Outcome {
        let Self { stdout, stderr, report, .. } = self;
        Outcome { end, stdout, stderr, report, wall }
    }
}

/// Names the end of a process that nobody here killed.
fn classify(ended: Ended, cpu_s: u64) -> End {
    if libc::WIFEXITED(ended.status) {
        return End::Exit(libc::WEXITSTATUS(ended.status));
    }
    match libc::WTERMSIG(ended.status) {
        libc::SIGXCPU => End::Cpu,
        libc::SIGXFSZ => End::Files,
        // Ours are not counted here, and the code cannot send any but to itself: the hard limit or the OOM killer.
        libc::SIGKILL if ended.cpu >= Duration::from_secs(cpu_s) => End::Cpu,
        libc::SIGKILL => End::Memory,
        signal => End::Signal(signal_name(signal)),
    }
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 12] = [
        (libc::SIGABRT, "ABRT"),
        (libc::SIGALRM, "ALRM"),
        (libc::SIGBUS, "BUS"),
        (libc::SIGFPE, "FPE"),
        (libc::SIGHUP, "HUP"),
        (libc::SIGILL, "ILL"),
        (libc::SIGINT, "INT"),
        (libc::SIGPIPE, "PIPE"),
        (libc::SIGSEGV, "SEGV"),
        (libc::SIGSYS, "SYS"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGTRAP, "TRAP"),
    ];
    match NAMES.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => (*name).to_owned(),
        None => signal.to_string(),
    }
}

/// A pipe of two close-on-exec files; ours, the reading one, does not block.
pub(super) fn output_pipe() -> io::Result<(File, File)> {
    let (ours, theirs) = pipe()?;
    // SAFETY: `ours` is open; only its status flags change.
    unsafe {
        let flags = libc::fcntl(ours.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok((ours, theirs))
}

/// A pipe: reader, writer.
pub(super) fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = io::pipe()?;
    Ok((
        File::from(std::os::fd::OwnedFd::from(reader)),
        File::from(std::os::fd::OwnedFd::from(writer)),
    ))
}
