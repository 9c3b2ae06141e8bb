//! Linux: all layers.

mod census;
mod holder;
mod landlock;
mod namespaces;
mod privileges;
mod process;
mod seccomp;
mod system_calls;
mod view;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use self::holder::Orders;
use self::namespaces::{NOBODY, Root, SCRATCH};
use self::process::{Held, Polled};
use self::view::View;
use super::broker::{Pipes, Process, output_pipe, pipe};
use super::interpreter::Interpreter;
use super::limits::Limits;
use super::report::{Layer, Missing};
use super::rlimits::rlimits;
use super::scratch::Scratch;
use super::task::Filters;
use super::worker::{Descriptors, Worker};
use super::{Level, SandboxError};

/// What of a level stays the same from run to run.
pub(super) struct Containment {
    level: Level,
    interpreter: Interpreter,
    view: View,
    filters: Filters,
    landlock_abi: u32,
    /// Root without namespaces: become nobody, if nobody can read the interpreter.
    become_nobody: bool,
}

impl Containment {
    /// The containment of `level`. Whether this machine lets it happen shows when it is used.
    pub(super) fn new(level: Level, interpreter: &Interpreter) -> Result<Self, SandboxError> {
        let unavailable = |reason: String| SandboxError::Unavailable { level, reason };
        let landlock_abi = landlock::abi();
        if level == Level::Medium && landlock_abi == 0 {
            let reason = "no Landlock in this kernel (needs 5.13 or newer, and not disabled)";
            return Err(unavailable(reason.to_owned()));
        }
        let filters = match level {
            Level::None | Level::Basic => Filters::default(),
            Level::Medium | Level::Strong => seccomp::filters().map_err(|error| {
                unavailable(format!("no seccomp filter for this machine: {error}"))
            })?,
        };
        let view = View::of(interpreter);
        let own_namespace = level == Level::Strong;
        let become_nobody =
            user() == 0 && !own_namespace && level != Level::None && view.is_open_to_others();
        let interpreter = interpreter.clone();
        Ok(Self { level, interpreter, view, filters, landlock_abi, become_nobody })
    }

    /// The seccomp programs that the runner has to install.
    pub(super) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Starts the runner on `task`, with `cpu_s` seconds of processor time.
    pub(super) fn start(
        &self,
        task: File,
        limits: &Limits,
        cpu_s: u64,
    ) -> Result<(Box<dyn Process>, Pipes), SandboxError> {
        let failed = || SandboxError::start("preparing the process");
        let (root, scratch) = if self.level == Level::Strong {
            (Some(Root::new(&self.view, limits).map_err(failed())?), None)
        } else {
            (
                None,
                Some(self.host_scratch().map_err(SandboxError::start("making a scratch folder"))?),
            )
        };
        let folder = scratch.as_ref().map(Scratch::path);
        let rlimits = rlimits(limits, cpu_s, self.process_limit(limits));
        let worker = Worker::new(&self.interpreter, folder.unwrap_or(Path::new(SCRATCH)), rlimits)
            .map_err(failed())?;
        let ruleset = self.ruleset(folder)?;
        let landlock = ruleset.is_some().then(|| root.as_ref().map(|_| landlock::scratch_bits()));

        let (stdout, stdout_writer) = output_pipe().map_err(failed())?;
        let (stderr, stderr_writer) = output_pipe().map_err(failed())?;
        let (report, report_writer) = output_pipe().map_err(failed())?;
        let (status, status_writer) = output_pipe().map_err(failed())?;
        let (alive_reader, mut alive) = pipe().map_err(failed())?;
        let stdin = File::open("/dev/null").map_err(failed())?;
        let files =
            [stdin, stdout_writer, stderr_writer, task, report_writer, status_writer, alive_reader];
        let descriptors = Descriptors::new(files.into_iter().chain(ruleset)).map_err(failed())?;

        let orders = Orders {
            worker: &worker,
            descriptors: &descriptors,
            root: root.as_ref(),
            become_nobody: self.become_nobody,
            drop_capabilities: self.level != Level::None,
            landlock,
        };
        let namespaces = if root.is_some() { namespaces::FLAGS } else { 0 };
        // SAFETY: the child goes straight to `carry_out`, which makes bare system calls only and never returns.
        let holder = unsafe {
            match holder::fork(namespaces) {
                0 => orders.carry_out(),
                holder => holder,
            }
        };
        if holder < 0 {
            let what = if root.is_some() { "making namespaces" } else { "forking" };
            return Err(SandboxError::start(what)(io::Error::last_os_error()));
        }
        drop(descriptors);
        let polled = scratch.map(|scratch| Polled::new(scratch, limits));
        let maps = root.as_ref().map_or(Ok(()), |_| namespaces::write_maps(holder));
        let held = Held { holder, status, alive: None, root, polled, buried: false };
        // From here on `held` cleans up, whatever fails.
        maps.map_err(SandboxError::start("mapping users"))?;
        alive.write_all(b"g").map_err(failed())?;
        let held = held.with_alive(alive);
        Ok((Box::new(held), Pipes { stdout, stderr, report }))
    }

    /// What is in force, and what is not.
    pub(super) fn layers(&self) -> (Vec<Layer>, Vec<Missing>) {
        let mut layers = vec![
            layer(
                "environment",
                "fresh and allow-listed; own session, no terminal, no foreign descriptor",
            ),
            layer("broker", "wall clock, output cap, and the end of every descendant"),
            layer(
                "limits",
                match self.level {
                    Level::Strong => "memory, processor time, disk, descriptors, processes",
                    _ => {
                        "memory, processor time, file size, descriptors; disk and processes by polling"
                    }
                },
            ),
        ];
        let mut missing = Vec::new();
        if self.level == Level::Strong {
            layers.push(layer(
                "namespaces",
                "user, mount, pid, net, ipc, uts, cgroup; read-only root, scratch of limited size",
            ));
        } else {
            missing.push(lacks("namespaces", "not at this level; which paths exist can be told"));
        }
        if self.level >= Level::Medium && self.landlock_abi > 0 {
            layers.push(layer("landlock", format!("ABI {}", self.landlock_abi)));
        } else if self.level >= Level::Medium {
            missing.push(lacks(
                "landlock",
                "not in this kernel (needs 5.13 or newer, and not disabled)",
            ));
        } else {
            missing.push(lacks("landlock", "not at this level; the code can read and write files"));
        }
        if self.level >= Level::Basic {
            layers.push(layer("capabilities", "none, and no new privileges"));
        } else {
            missing.push(lacks("capabilities", "not at this level"));
        }
        if self.level == Level::Strong || self.become_nobody {
            layers.push(layer(
                "user",
                if user() == 0 { "nobody" } else { "no other than the caller's, alone" },
            ));
        } else if user() == 0 && self.level != Level::None {
            missing.push(lacks(
                "user",
                "runs as root, without its capabilities: others cannot read this Python",
            ));
        }
        if self.level >= Level::Medium {
            layers.push(layer(
                "seccomp",
                format!("{} system calls allowed", seccomp::allowed_count()),
            ));
        } else {
            missing.push(lacks(
                "seccomp",
                "not at this level; the code has the network and other programs",
            ));
        }
        (layers, missing)
    }

    fn host_scratch(&self) -> io::Result<Scratch> {
        let scratch = Scratch::new()?;
        if self.become_nobody {
            std::os::unix::fs::chown(scratch.path(), Some(NOBODY), Some(NOBODY))?;
        }
        Ok(scratch)
    }

    fn ruleset(&self, scratch: Option<&Path>) -> Result<Option<File>, SandboxError> {
        if self.level < Level::Medium {
            return Ok(None);
        }
        landlock::ruleset(&self.view, scratch).map_err(|error| {
            SandboxError::start("making a Landlock ruleset")(io::Error::other(error))
        })
    }

    /// The kernel counts the processes of a user; in an own user namespace, only those inside.
    fn process_limit(&self, limits: &Limits) -> Option<u64> {
        match self.level {
            Level::Strong => Some(limits.processes),
            _ if self.become_nobody => Some(census::threads_of(NOBODY) + limits.processes),
            _ if user() == 0 => None, // exempt
            _ => Some(census::threads_of(user()) + limits.processes),
        }
    }
}

fn user() -> u32 {
    // SAFETY: only returns a number.
    unsafe { libc::geteuid() }
}

fn layer(name: &'static str, detail: impl Into<String>) -> Layer {
    Layer { name, detail: detail.into() }
}

fn lacks(name: &'static str, reason: impl Into<String>) -> Missing {
    Missing { name, reason: reason.into() }
}
