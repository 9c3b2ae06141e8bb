//! Any Unix: a fresh environment, an own process group, resource limits, and the broker. Files and the network are not
//! contained, and the report says so. Compiled on Linux for its tests.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::time::Duration;

use super::broker::{Ended, Pipes, Process, output_pipe};
use super::interpreter::Interpreter;
use super::limits::Limits;
use super::report::{Layer, Missing};
use super::rlimits::rlimits;
use super::scratch::Scratch;
use super::task::Filters;
use super::worker::{Descriptors, Note, Step, Worker};
use super::{Level, SandboxError};

/// Level basic, or none.
pub(super) struct Containment {
    interpreter: Interpreter,
    filters: Filters,
}

impl Containment {
    pub(super) fn new(level: Level, interpreter: &Interpreter) -> Result<Self, SandboxError> {
        if level > Level::Basic {
            let reason = "it needs Linux".to_owned();
            return Err(SandboxError::Unavailable { level, reason });
        }
        Ok(Self { interpreter: interpreter.clone(), filters: Filters::default() })
    }

    pub(super) fn filters(&self) -> &Filters {
        &self.filters
    }

    pub(super) fn start(
        &self,
        task: File,
        limits: &Limits,
        cpu_s: u64,
    ) -> Result<(Box<dyn Process>, Pipes), SandboxError> {
        let failed = || SandboxError::start("preparing the process");
        let scratch = Scratch::new().map_err(SandboxError::start("making a scratch folder"))?;
        let worker = Worker::new(&self.interpreter, scratch.path(), rlimits(limits, cpu_s, None))
            .map_err(failed())?;
        let (stdout, stdout_writer) = output_pipe().map_err(failed())?;
        let (stderr, stderr_writer) = output_pipe().map_err(failed())?;
        let (report, report_writer) = output_pipe().map_err(failed())?;
        let (status, status_writer) = output_pipe().map_err(failed())?;
        let stdin = File::open("/dev/null").map_err(failed())?;
        let files = [stdin, stdout_writer, stderr_writer, task, report_writer, status_writer];
        let descriptors = Descriptors::new(files).map_err(failed())?;
        // SAFETY: the child makes bare system calls only, and ends or becomes Python.
        let pid = unsafe {
            match libc::fork() {
                0 => {
                    Worker::reset_signals();
                    let failure = match descriptors.install() {
                        Ok(()) => worker.exec(|| Ok(())),
                        Err(failure) => failure,
                    };
                    Note::failed(failure).send();
                    libc::_exit(126)
                }
                pid => pid,
            }
        };
        if pid < 0 {
            return Err(SandboxError::start("forking")(io::Error::last_os_error()));
        }
        let group = Group { pid, status, ended: None, _scratch: scratch };
        Ok((Box::new(group), Pipes { stdout, stderr, report }))
    }

    pub(super) fn layers(&self) -> (Vec<Layer>, Vec<Missing>) {
        let layer = |name, detail: &str| Layer { name, detail: detail.to_owned() };
        let layers = vec![
            layer("environment", "fresh and allow-listed; own session, no foreign descriptor"),
            layer("broker", "wall clock, output cap, and the end of the process group"),
            layer(
                "limits",
                "processor time, file size, descriptors, memory where the system keeps it",
            ),
        ];
        let reason = "on Linux only; the code can read and write files, and has the network";
        let missing = ["namespaces", "landlock", "seccomp"]
            .map(|name| Missing { name, reason: reason.to_owned() });
        (layers, missing.into())
    }
}

/// A process and its group; what leaves the group is not seen.
struct Group {
    pid: libc::pid_t,
    status: File,
    ended: Option<Ended>,
    _scratch: Scratch,
}

impl Group {
    /// Waits for the leader with `options`, and once it is dead kills the rest of the group.
    fn wait(&mut self, options: libc::c_int) {
        if self.ended.is_some() {
            return;
        }
        let mut status = 0;
        // SAFETY: plain data, for which zeros are valid; then pointers to locals and our own child's number.
        let (waited, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(self.pid, &mut status, options, &mut usage), usage)
        };
        if waited == 0 {
            return;
        }
        // SAFETY: the group's number stays taken while anyone is in it; else the call fails.
        unsafe { libc::kill(-self.pid, libc::SIGKILL) };
        #[allow(clippy::useless_conversion, reason = "another type on another system")]
        let time = |it: libc::timeval| {
            Duration::from_secs(it.tv_sec.unsigned_abs())
                + Duration::from_micros(it.tv_usec.unsigned_abs().into())
        };
        self.ended = Some(Ended { status, cpu: time(usage.ru_utime) + time(usage.ru_stime) });
    }
}

impl Process for Group {
    fn wake(&self) -> Option<RawFd> {
        None
    }

    fn try_end(&mut self) -> Result<Option<Ended>, SandboxError> {
        self.wait(libc::WNOHANG);
        let mut bytes = [0; size_of::<Note>()];
        match (self.ended, self.status.read(&mut bytes)) {
            (Some(_), Ok(length @ 1..)) => {
                let note = Note::read(&bytes[..length]);
                let (errno, step) =
                    note.map_or((0, 0), |note| (note.failure.errno, note.failure.step));
                let doing = if step == Step::Exec as i32 { "starting" } else { "preparing" };
                let error = io::Error::from_raw_os_error(errno);
                Err(SandboxError::start(format!("{doing} the interpreter"))(error))
            }
            (ended, _) => Ok(ended),
        }
    }

    fn kill(&mut self) {
        if self.ended.is_none() {
            // SAFETY: our own child, not waited for, so both numbers are still its.
            unsafe {
                libc::kill(-self.pid, libc::SIGKILL);
                libc::kill(self.pid, libc::SIGKILL);
            }
            self.wait(0);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::{Clock, watch};
    use super::super::cancel::Cancel;
    use super::super::interpreter::locate;
    use super::super::python_run::End;
    use super::super::task::Task;
    use super::*;

    fn run(code: &str, limits: &Limits) -> (End, String) {
        let interpreter = Interpreter::ask(&locate().expect("python3")).expect("a usable one");
        let containment =
            Containment::new(Level::Basic, &interpreter).expect("basic works anywhere");
        let task = Task {
            snippets: &[code],
            batch: false,
            filters: containment.filters(),
            interpreter: &interpreter,
            limits,
            import_guard: false,
        };
        let (file, _) = task.write().expect("the task");
        let (mut process, pipes) =
            containment.start(file, limits, limits.cpu_s()).expect("a start");
        let outcome =
            watch(process.as_mut(), pipes, limits, limits.cpu_s(), Clock::Run, &Cancel::default());
        let outcome = outcome.expect("an end");
        (outcome.end, outcome.stdout.text().0)
    }

    #[test]
    fn code_runs_and_loops_are_killed() {
        assert_eq!(run("6 * 7", &Limits::default()), (End::Exit(0), "42\n".to_owned()));
        let short = Limits { wall: Duration::from_millis(300), ..Limits::default() };
        assert_eq!(run("while True: pass", &short).0, End::Timeout);
        let code = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)";
        assert_eq!(run(code, &Limits::default()).0, End::Signal("SEGV".into()));
    }

    #[test]
    fn the_group_dies_with_its_leader() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let alive = folder.path().join("alive");
        let code = format!(
            "import os, time\nif os.fork() == 0:\n  while True:\n    open({alive:?}, 'a').write('x')\n    time.sleep(0.01)\n\
             while not os.path.exists({alive:?}): time.sleep(0.01)"
        );
        assert_eq!(run(&code, &Limits::default()).0, End::Exit(0));
        let length = || std::fs::metadata(&alive).expect("the child wrote").len();
        let before = length();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(length(), before, "the child is still writing");
    }

    #[test]
    fn levels_beyond_it_are_refused_and_the_report_says_what_is_missing() {
        let interpreter = Interpreter::ask(&locate().expect("python3")).expect("a usable one");
        let error =
            Containment::new(Level::Strong, &interpreter).err().expect("Linux only").to_string();
        assert!(error.contains("`strong` does not work here: it needs Linux"), "{error}");
        let containment = Containment::new(Level::None, &interpreter).expect("none works anywhere");
        assert_eq!(containment.layers().1.len(), 3);
    }
}
