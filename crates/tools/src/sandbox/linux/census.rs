use std::fs;
use std::path::Path;

/// Threads of all descendants of `ancestor`, itself left out. Counting stops at `enough`.
pub(super) fn descendant_threads(ancestor: libc::pid_t, enough: u64) -> u64 {
    let mut threads = 0;
    let mut families = vec![ancestor];
    while let Some(parent) = families.pop() {
        for task in names(&format!("/proc/{parent}/task")) {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{task}/children"));
            for child in children.unwrap_or_default().split_whitespace() {
                threads += names(&format!("/proc/{child}/task")).len() as u64;
                families.extend(child.parse::<libc::pid_t>());
                if threads > enough {
                    return threads;
                }
            }
        }
    }
    threads
}

/// Threads of `user` on the whole machine: what `RLIMIT_NPROC` counts.
pub(super) fn threads_of(user: u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    names("/proc")
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|name| fs::metadata(format!("/proc/{name}")).is_ok_and(|it| it.uid() == user))
        .map(|name| names(&format!("/proc/{name}/task")).len() as u64)
        .sum()
}

/// Bytes that the files below `folder` take, as far as that can be told from at most 4,096 of them; more are too many.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    const MOST_FILES: usize = 4096;
    let (mut bytes, mut files) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            files += 1;
            if files > MOST_FILES {
                return u64::MAX;
            }
            let Ok(metadata) = entry.metadata() else { continue }; // of the link, not of what it leads to
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
