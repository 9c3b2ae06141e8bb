//! Layer 4: nobody's rights, no capabilities, and no way to get any back.

use std::ptr;

use super::super::worker::{Failure, Step};

/// Becomes user and group `id`, with no other groups. Needs the capabilities that [`drop_capabilities`] takes away.
///
/// # Safety
/// Only in a forked child: it changes who the process is.
pub(super) unsafe fn become_user(id: u32) -> Result<(), Failure> {
    // Raw calls: the libc wrappers would ask all threads to follow, and the parent's threads are not here.
    // SAFETY: bare system calls with numbers, and one null pointer for an empty list.
    unsafe {
        // Refused where only one user is mapped; then there is no group to give up that we know of.
        libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>());
        if libc::syscall(libc::SYS_setresgid, id, id, id) < 0
            || libc::syscall(libc::SYS_setresuid, id, id, id) < 0
        {
            return Err(Failure::last(Step::User));
        }
    }
    Ok(())
}

/// Empties the bounding set, where we may.
///
/// # Safety
/// Only in a forked child.
pub(super) unsafe fn empty_bounding_set() {
    // SAFETY: bare system calls; a number beyond the last capability is refused.
    unsafe {
        for capability in 0..64 {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
    }
}

/// Gives up all capabilities, and with no_new_privs every way to gain some by running a program.
///
/// # Safety
/// Only in a forked child.
pub(super) unsafe fn drop_capabilities() -> Result<(), Failure> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    const VERSION_3: u32 = 0x2008_0522; // two sets of 32 bits
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: bare system calls with valid pointers to what the kernel's version 3 expects.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if libc::syscall(libc::SYS_capset, &header, &none) < 0 {
            return Err(Failure::last(Step::Capabilities));
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return Err(Failure::last(Step::NoNewPrivileges));
        }
    }
    Ok(())
}
