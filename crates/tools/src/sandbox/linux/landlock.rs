//! Layer 3: the kernel checks every path that is opened against a list, whatever namespaces there are.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

use super::super::worker::{Failure, Step};
use super::view::{DEVICES, View};

/// The newest interface that we know; an older kernel gives what it has.
const NEWEST: ABI = ABI::V7;

/// The version of the kernel's interface, 0 without Landlock.
pub(super) fn abi() -> u32 {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no pointer and returns a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Everything is forbidden but reading the view, the devices and, if it exists already, all within `scratch`. No TCP;
/// no signals and no abstract sockets beyond ourselves. `None` where the kernel has no Landlock.
pub(super) fn ruleset(view: &View, scratch: Option<&Path>) -> Result<Option<File>, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let mut allow = |path: &Path, access| -> Result<(), RulesetError> {
        // A path that is gone needs no rule; a file takes no rights of folders.
        let Ok(descriptor) = PathFd::new(path) else { return Ok(()) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        (&mut ruleset).add_rule(PathBeneath::new(descriptor, access)).map(|_| ())
    };
    for path in &view.shown {
        allow(path, AccessFs::from_read(NEWEST))?;
    }
    for device in DEVICES {
        allow(Path::new(device), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    if let Some(scratch) = scratch {
        allow(scratch, in_scratch())?;
    }
    Ok(Option::<OwnedFd>::from(ruleset).map(File::from))
}

/// What the code may do in its scratch folder: anything with files, folders and links, but run nothing.
fn in_scratch() -> landlock::BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST)
        & !(AccessFs::Execute
            | AccessFs::IoctlDev
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeSock
            | AccessFs::MakeFifo)
}

/// The same as bits, as far as this kernel knows them, for [`restrict`].
pub(super) fn scratch_bits() -> u64 {
    let known: u64 = match abi() {
        0 => 0,
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    };
    in_scratch().bits() & known
}

/// Allows `scratch`, which only exists in the child, and puts the ruleset in force.
///
/// # Safety
/// Only in a forked child, after no_new_privs.
pub(super) unsafe fn restrict(
    ruleset: RawFd,
    scratch: Option<(&CStr, u64)>,
) -> Result<(), Failure> {
    #[repr(C, packed)]
    struct PathBeneathAttribute {
        allowed: u64,
        parent: RawFd,
    }
    const PATH_BENEATH: libc::c_int = 1;
    // SAFETY: bare system calls with valid pointers; the kernel copies what they point to.
    unsafe {
        if let Some((path, allowed)) = scratch {
            let folder = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            let rule = PathBeneathAttribute { allowed, parent: folder };
            if folder < 0
                || libc::syscall(
                    libc::SYS_landlock_add_rule,
                    ruleset,
                    PATH_BENEATH,
                    &raw const rule,
                    0,
                ) < 0
            {
                return Err(Failure::last(Step::Landlock));
            }
            libc::close(folder);
        }
        if libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) < 0 {
            return Err(Failure::last(Step::Landlock));
        }
    }
    Ok(())
}
