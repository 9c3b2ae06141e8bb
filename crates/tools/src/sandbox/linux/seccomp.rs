//! Layer 6: which system calls exist. An allow-list, because a deny-list ages with every kernel.
//!
//! Only the programs are made here; the runner installs them, since the call that starts Python has to be forbidden after
//! Python was started. Two programs, as one has one refusal: `clone3` does not exist (glibc falls back to `clone`, whose
//! flags a filter can read), and anything else not on the list is not permitted. The narrow one goes first, because the
//! list takes away the right to install another.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::super::task::Filters;

/// Stands for the worker's own process id, which the runner puts in.
const PID_PLACEHOLDER: u64 = 0x5EC0_0B1D; // also in runner.py

/// The two programs, as the bytes of `struct sock_filter`.
pub(super) fn filters() -> Result<Filters, BackendError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let permit = SeccompAction::Allow;
    let narrow = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        permit.clone(),
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    let forbid = SeccompAction::Errno(libc::EPERM as u32);
    let allowing = SeccompFilter::new(allowed()?, forbid, permit, architecture)?;
    Ok(Filters { narrow: bytes(&narrow.try_into()?), allowing: bytes(&allowing.try_into()?) })
}

/// How many calls are allowed, for the report.
pub(super) fn allowed_count() -> usize {
    ALWAYS.len() + LEGACY.len() + BY_ARGUMENT
}

const BY_ARGUMENT: usize = 6;

/// Every call that is allowed, some only with certain arguments.
fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().chain(LEGACY).map(|call| (*call, Vec::new())).collect();
    let own = |argument| int(argument, SeccompCmpOp::Eq, PID_PLACEHOLDER);
    // Of two refusals the kernel takes that of the newer program, so this one has to leave `clone3` to the narrow one.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Threads, but no processes.
    let thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    rules.insert(libc::SYS_clone, vec![rule([int(0, thread, libc::CLONE_THREAD as u64)?])?]);
    // Signals to itself only: there are levels at which others are in sight.
    rules.insert(libc::SYS_kill, vec![rule([own(0)?])?]);
    rules.insert(libc::SYS_tgkill, vec![rule([own(0)?])?]);
    // Limits can be read.
    let read_only = [long(0, 0)?, long(2, 0)?];
    rules.insert(libc::SYS_prlimit64, vec![rule(read_only)?]);
    // Is it a terminal, how wide; how much is there to read; blocking or not, closed on exec or not. Not TIOCSTI.
    let requests = [
        libc::TCGETS,
        libc::TIOCGWINSZ,
        libc::FIONREAD,
        libc::FIONBIO,
        libc::FIOCLEX,
        libc::FIONCLEX,
    ];
    rules.insert(libc::SYS_ioctl, one_of(1, &requests.map(|request| request as u64))?);
    // Thread names; is it dumpable, is it filtered.
    let options =
        [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_DUMPABLE, libc::PR_GET_SECCOMP];
    rules.insert(libc::SYS_prctl, one_of(0, &options.map(|option| option as u64))?);
    Ok(rules)
}

/// On every architecture.
const ALWAYS: &[c_long] = &[
    // Descriptors
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    // Files, where Landlock and the mounts let them
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_utimensat,
    libc::SYS_umask,
    // Memory
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // Signals
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_restart_syscall,
    // Threads and itself
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time, chance, the machine
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// `fchmodat2`, which newer C libraries try first, and miss only when it does not exist; not in the `libc` crate everywhere.
const FCHMODAT2: c_long = 452;

/// Older forms of the above, which newer architectures left out.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_symlink,
    libc::SYS_link,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[c_long] = &[];

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into())
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| rule([int(argument, SeccompCmpOp::Eq, *value)?])).collect()
}

/// The kernel reads 32 bits of an `int`, so the filter must not look at the other 32.
fn int(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
}

fn long(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_process_id_is_found_by_its_bytes_alone() {
        let filters = filters().expect("the filters compile");
        let placeholder = (PID_PLACEHOLDER as u32).to_ne_bytes();
        let places = filters.allowing.windows(4).filter(|bytes| *bytes == placeholder).count();
        assert_eq!(places, 2, "`kill` and `tgkill`, each once");
        assert!(include_str!("../runner.py").contains("0x5EC0_0B1D"));
    }

    const LEFT_TO_THE_NARROW_ONE: usize = 1;

    #[test]
    fn what_starts_programs_connects_or_escapes_is_not_on_the_list() {
        let allowed = allowed().expect("the rules are well formed");
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_memfd_create,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_seccomp,
            libc::SYS_pidfd_open,
            libc::SYS_shmget,
            libc::SYS_open_by_handle_at,
            libc::SYS_openat2,
            libc::SYS_setrlimit,
        ] {
            assert!(!allowed.contains_key(&call), "call {call}");
        }
        assert_eq!(allowed.len(), allowed_count() + LEFT_TO_THE_NARROW_ONE);
    }
}
