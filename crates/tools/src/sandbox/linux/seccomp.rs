//! Layer 6: which system calls exist. An allow-list, because a deny-list ages with every kernel.
//!
//! Only the programs are made here; the runner installs them, since the call that starts Python has to be forbidden after
//! Python was started. Two programs, as one has one refusal: `clone3` does not exist (glibc falls back to `clone`, whose
//! flags a filter can read), and anything else not on the list is not permitted. The narrow one goes first, because the
//! list takes away the right to install another.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::super::task::Filters;
use super::system_calls::{ALWAYS, LEGACY};

/// Stands for the worker's own process id, which the runner puts in.
const OWN_PID_MARK: u64 = 0x5EC0_0B1D; // also in runner.py

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
    let own = |argument| int(argument, SeccompCmpOp::Eq, OWN_PID_MARK);
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
    #[allow(clippy::unnecessary_cast, reason = "another type with another C library")]
    rules.insert(libc::SYS_ioctl, one_of(1, &requests.map(|request| request as u64))?);
    // Thread names; is it dumpable, is it filtered.
    let options =
        [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_DUMPABLE, libc::PR_GET_SECCOMP];
    rules.insert(libc::SYS_prctl, one_of(0, &options.map(|option| option as u64))?);
    Ok(rules)
}

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
        let mark = (OWN_PID_MARK as u32).to_ne_bytes();
        let places = filters.allowing.windows(4).filter(|bytes| *bytes == mark).count();
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
