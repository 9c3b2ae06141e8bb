use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder of the host for one run, where there is no own file system; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// An empty folder that only the owner can enter.
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentflow-").tempdir()?;
        Ok(Self { path: folder.keep() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            // The code may have locked folders of its own; links are not followed.
            unlock(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes `folder` and all folders below it passable, however deep.
fn unlock(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_folder_is_removed_and_what_a_link_leads_to_is_not() {
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        fs::write(elsewhere.path().join("kept"), "").expect("a file");
        let scratch = Scratch::new().expect("a scratch folder");
        let path = scratch.path().to_owned();
        let locked = path.join("locked");
        fs::create_dir(&locked).expect("a folder");
        fs::write(locked.join("file"), "").expect("a file");
        std::os::unix::fs::symlink(elsewhere.path(), path.join("link")).expect("a link");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("its permissions");
        drop(scratch);
        assert!(!path.exists());
        assert!(elsewhere.path().join("kept").exists());
    }
}
