use super::limits::Limits;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// One resource limit of the kernel, ready to be set in a forked child.
#[derive(Clone, Copy)]
pub(super) struct Rlimit {
    resource: Resource,
    soft: u64,
    hard: u64,
}

/// `limits` in the kernel's terms. `processes` counts all of a user's, on the whole machine unless in an own user
/// namespace, so the caller says how many.
pub(super) fn rlimits(limits: &Limits, cpu_s: u64, processes: Option<u64>) -> Vec<Rlimit> {
    let both = |resource, value| Rlimit { resource, soft: value, hard: value };
    let mut rlimits = vec![
        both(libc::RLIMIT_AS, limits.memory_mib << 20),
        // SIGXCPU at the soft limit can be caught; SIGKILL at the hard one cannot.
        Rlimit { resource: libc::RLIMIT_CPU, soft: cpu_s, hard: cpu_s + 1 },
        both(libc::RLIMIT_FSIZE, limits.file_mib << 20),
        both(libc::RLIMIT_NOFILE, 64),
        both(libc::RLIMIT_CORE, 0),
        both(libc::RLIMIT_MEMLOCK, 0),
    ];
    #[cfg(target_os = "linux")]
    rlimits.push(both(libc::RLIMIT_MSGQUEUE, 0));
    rlimits.extend(processes.map(|count| both(libc::RLIMIT_NPROC, count)));
    rlimits
}

impl Rlimit {
    /// Sets it; not above the present hard limit, which even root may not raise everywhere. Below 0 on error. Safe in a
    /// forked child: bare system calls.
    pub(super) fn set(&self) -> libc::c_int {
        let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `present` is valid for both calls.
        unsafe {
            if libc::getrlimit(self.resource, &mut present) < 0 {
                return -1;
            }
            present.rlim_max = (self.hard as libc::rlim_t).min(present.rlim_max);
            present.rlim_cur = (self.soft as libc::rlim_t).min(present.rlim_max);
            libc::setrlimit(self.resource, &present)
        }
    }
}
