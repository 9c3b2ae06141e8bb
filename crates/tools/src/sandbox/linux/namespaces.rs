//! Layer 1 and 2: own user, mount, process, network, IPC, host name and cgroup namespaces, and in them a new root that
//! holds the [`View`] read-only and one scratch folder of limited size. After bubblewrap's `setup_newroot`.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::super::limits::Limits;
use super::super::worker::{Failure, Step, c_string};
use super::view::{DEVICES, View};

/// For `clone`. The time namespace is left out: it hides nothing that the clock does not say.
pub(super) const FLAGS: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Where the code works, inside. Not `/tmp`: that name may be needed for a shown folder.
pub(super) const SCRATCH: &str = "/scratch";

/// The user that the code runs as inside: nobody.
pub(super) const NOBODY: u32 = 65534;

/// The new root, ready to be made in a forked child.
pub(super) struct Root {
    stage: CString,
    made: Vec<Made>,
    scratch_options: CString,
}

/// One thing to make below the new root.
enum Made {
    Folder(CString),
    Link {
        target: CString,
        at: CString,
    },
    /// A read-only bind mount; `at` exists by then.
    Shown {
        source: CString,
        at: CString,
        device: bool,
    },
    EmptyFile(CString),
}

impl Root {
    pub(super) fn new(view: &View, limits: &Limits) -> io::Result<Self> {
        // Mounted over in the child's own namespace only; any folder will do, if it exists.
        let stage =
            ["/tmp", "/var/tmp", "/run", "/mnt"].into_iter().find(|path| Path::new(path).is_dir());
        let mut made = Vec::new();
        for (path, target) in &view.links {
            folders_above(path, &mut made)?;
            made.push(Made::Link {
                target: c_string(target.as_os_str().as_bytes())?,
                at: new(path)?,
            });
        }
        for path in &view.shown {
            show(path, false, &mut made)?;
        }
        for device in DEVICES {
            show(Path::new(device), true, &mut made)?;
        }
        made.push(Made::Folder(new(Path::new(SCRATCH))?));
        Ok(Self {
            stage: c_string(stage.unwrap_or("/").as_bytes())?,
            made,
            scratch_options: c_string(
                // One inode per 16 KiB: as many as ext4 would give.
                format!("size={0}m,nr_inodes={1},mode=0777", limits.file_mib, limits.file_mib * 64)
                    .as_bytes(),
            )?,
        })
    }

    /// Makes the new root and moves there.
    ///
    /// # Safety
    /// Only in a forked child, which is in its own mount namespace: bare system calls, nothing is allocated.
    pub(super) unsafe fn enter(&self) -> Result<(), Failure> {
        let plain = libc::MS_NOSUID | libc::MS_NODEV;
        // SAFETY: all strings are NUL-terminated and live as long as `self`, or forever.
        unsafe {
            check(
                Step::MountPrivate,
                mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None),
            )?;
            let size = Some(c"size=64k,mode=0755");
            check(
                Step::MountStage,
                mount(Some(c"tmpfs"), &self.stage, Some(c"tmpfs"), plain, size),
            )?;
            check(Step::Pivot, libc::chdir(self.stage.as_ptr()))?;
            check(Step::Pivot, libc::mkdir(c"old".as_ptr(), 0o755))?;
            check(Step::Pivot, libc::mkdir(c"new".as_ptr(), 0o755))?;
            check(Step::Pivot, pivot_root(c".", c"old"))?;
            check(Step::Pivot, libc::chdir(c"/".as_ptr()))?;

            let size = Some(c"size=1m,nr_inodes=1024,mode=0755");
            check(Step::MountRoot, mount(Some(c"tmpfs"), c"/new", Some(c"tmpfs"), plain, size))?;
            for (index, made) in self.made.iter().enumerate() {
                made.make().map_err(|()| Failure::at(Step::View, index))?;
            }
            let options = Some(self.scratch_options.as_c_str());
            let flags = plain | libc::MS_NOEXEC;
            check(
                Step::MountScratch,
                mount(Some(c"tmpfs"), c"/new/scratch", Some(c"tmpfs"), flags, options),
            )?;
            check(Step::ReadOnly, read_only(c"/new", 0, MOUNT_ATTR_NODEV))?;

            check(Step::Detach, libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH))?;
            check(Step::Detach, libc::chdir(c"/new".as_ptr()))?;
            check(Step::Detach, pivot_root(c".", c"."))?;
            check(Step::Detach, libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
            check(Step::Detach, libc::chdir(c"/".as_ptr()))?;
            check(Step::Detach, libc::sethostname(c"sandbox".as_ptr(), 7))?;
        }
        Ok(())
    }

    /// For messages: the path of the element that failed.
    pub(super) fn path(&self, index: usize) -> String {
        match self.made.get(index) {
            Some(
                Made::Folder(at)
                | Made::Link { at, .. }
                | Made::Shown { at, .. }
                | Made::EmptyFile(at),
            ) => at.to_string_lossy().trim_start_matches("/new").to_owned(),
            None => String::new(),
        }
    }
}

impl Made {
    /// # Safety
    /// As [`Root::enter`].
    unsafe fn make(&self) -> Result<(), ()> {
        // SAFETY: NUL-terminated strings, owned by `self`.
        let result = unsafe {
            match self {
                Self::Folder(at) => exists(libc::mkdir(at.as_ptr(), 0o755)),
                Self::Link { target, at } => exists(libc::symlink(target.as_ptr(), at.as_ptr())),
                Self::EmptyFile(at) => exists(libc::mknod(at.as_ptr(), libc::S_IFREG | 0o644, 0)),
                Self::Shown { source, at, device } => {
                    let flags = libc::MS_BIND | libc::MS_REC;
                    if mount(Some(source), at, None, flags, None) < 0 {
                        return Err(());
                    }
                    // On a device `NODEV` would forbid to open it; `NOEXEC` elsewhere would forbid Python.
                    let attributes = if *device { MOUNT_ATTR_NOEXEC } else { MOUNT_ATTR_NODEV };
                    read_only(at, AT_RECURSIVE, attributes)
                }
            }
        };
        if result < 0 { Err(()) } else { Ok(()) }
    }
}

/// Lets the child's user be somebody: for root, everybody whom we know, so that it can first read what only root can and
/// then be nobody, outside too; for others, nobody inside is the user outside.
pub(super) fn write_maps(child: libc::pid_t) -> io::Result<()> {
    // SAFETY: these calls only return numbers.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let write = |file: &str, text: &str| {
        fs::write(format!("/proc/{child}/{file}"), text)
            .map_err(|error| io::Error::new(error.kind(), format!("writing `{file}`: {error}")))
    };
    if user == 0 {
        write("uid_map", &identity(&fs::read_to_string("/proc/self/uid_map")?))?;
        write("gid_map", &identity(&fs::read_to_string("/proc/self/gid_map")?))
    } else {
        write("uid_map", &format!("{NOBODY} {user} 1"))?;
        write("setgroups", "deny")?; // without it, a group that denies access could be dropped
        write("gid_map", &format!("{NOBODY} {group} 1"))
    }
}

/// A map of everybody whom `map`, ours, knows, to the same number.
fn identity(map: &str) -> String {
    let mut lines = String::new();
    for line in map.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) {
            lines.push_str(&format!("{first} {first} {count}\n"));
        }
    }
    lines
}

/// Adds the steps that show the real `path` in the new root.
fn show(path: &Path, device: bool, made: &mut Vec<Made>) -> io::Result<()> {
    folders_above(path, made)?;
    made.push(match path.is_dir() {
        true => Made::Folder(new(path)?),
        false => Made::EmptyFile(new(path)?),
    });
    let source = c_string(&[b"/old", path.as_os_str().as_bytes()].concat())?;
    made.push(Made::Shown { source, at: new(path)?, device });
    Ok(())
}

fn folders_above(path: &Path, made: &mut Vec<Made>) -> io::Result<()> {
    let mut above: Vec<&Path> =
        path.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
    above.reverse();
    for folder in above {
        made.push(Made::Folder(new(folder)?));
    }
    Ok(())
}

/// `path` below the new root, while it is being made.
fn new(path: &Path) -> io::Result<CString> {
    c_string(&[b"/new", path.as_os_str().as_bytes()].concat())
}

const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `mount_setattr` (Linux 5.12) only adds attributes, so those that are locked in a user namespace stay.
unsafe fn read_only(path: &CStr, flags: libc::c_uint, more: u64) -> libc::c_int {
    let attributes = MountAttributes {
        set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | more,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: valid pointers, and the size of what the second points to.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            ptr::from_ref(&attributes),
            size_of::<MountAttributes>(),
        ) as libc::c_int
    }
}

unsafe fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> libc::c_int {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: NUL-terminated strings or null, all of which outlive the call.
    unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    }
}

unsafe fn pivot_root(new: &CStr, old: &CStr) -> libc::c_int {
    // SAFETY: NUL-terminated strings.
    unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) as libc::c_int }
}

fn check(step: Step, result: libc::c_int) -> Result<(), Failure> {
    if result < 0 { Err(Failure::last(step)) } else { Ok(()) }
}

/// What is there already needs not be made.
fn exists(result: libc::c_int) -> libc::c_int {
    let there = io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST);
    if result < 0 && there { 0 } else { result }
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn a_map_of_everybody_keeps_the_numbers_of_a_container() {
        let container = "         0     100000      65536\n     65536       1000          1\n";
        assert_eq!(identity(container), "0 0 65536\n65536 65536 1\n");
    }
}
