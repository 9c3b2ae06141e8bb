use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::super::interpreter::Interpreter;

/// The part of the file system that Python needs, to be shown read-only: real folders and files, and the symbolic links
/// that lead to them (`/lib -> usr/lib`).
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Real paths, none below another.
    pub(super) shown: BTreeSet<PathBuf>,
    /// Path and target.
    pub(super) links: BTreeSet<(PathBuf, PathBuf)>,
}

/// Devices that the code may open, for reading and writing.
pub(super) const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

impl View {
    /// Program, loader, standard library, packages, shared libraries, and the loader's cache.
    pub(super) fn of(interpreter: &Interpreter) -> Self {
        let mut view = Self::default();
        let folders =
            interpreter.standard.iter().chain(&interpreter.libraries).chain(&interpreter.site);
        for path in folders.chain([&interpreter.executable]).chain(&interpreter.loader) {
            view.show(path);
        }
        // Debian keeps the links to BLAS there; its numpy lies below `/usr/lib`.
        if interpreter.site.iter().any(|path| path.starts_with("/usr/lib")) {
            view.show(Path::new("/etc/alternatives"));
        }
        view.show(Path::new("/etc/ld.so.cache"));
        view.drop_nested();
        view
    }

    /// Whether users that own none of it can read it.
    pub(super) fn is_open_to_others(&self) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let has = |path: &Path, bits| {
            fs::metadata(path).is_ok_and(|it| it.permissions().mode() & bits == bits)
        };
        self.shown.iter().all(|path| {
            let itself = if path.is_dir() { 0o005 } else { 0o004 };
            has(path, itself) && path.ancestors().skip(1).all(|folder| has(folder, 0o001))
        })
    }

    /// Adds `path`, and each symbolic link on the way to it. What does not exist is not needed.
    fn show(&mut self, path: &Path) {
        const LINKS: usize = 40; // the kernel's own limit
        self.walk(path.to_owned(), LINKS);
    }

    fn walk(&mut self, path: PathBuf, links_left: usize) {
        let mut real = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            match part {
                Component::ParentDir => {
                    real.pop();
                    continue;
                }
                part => real.push(part),
            }
            let Ok(target) = fs::read_link(&real) else { continue };
            if links_left == 0 {
                return;
            }
            let from = real.parent().unwrap_or(Path::new("/")).join(&target);
            self.links.insert((real, target));
            return self.walk(from.join(parts.as_path()), links_left - 1);
        }
        // The root itself would be everything.
        if real.parent().is_some() && real.exists() {
            self.shown.insert(real);
        }
    }

    /// Paths and links below a shown folder are there with it.
    fn drop_nested(&mut self) {
        let all = self.shown.clone();
        let below = |path: &Path| path.ancestors().skip(1).any(|folder| all.contains(folder));
        self.shown.retain(|path| !below(path));
        self.links.retain(|(path, _)| !below(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_shown_as_links_and_nested_folders_once() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let root = temporary.path().canonicalize().expect("its real path");
        fs::create_dir_all(root.join("usr/lib/python")).expect("folders");
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).expect("a link");
        fs::write(root.join("usr/lib/python/os.py"), "").expect("a file");

        let mut view = View::default();
        view.show(&root.join("lib/python/os.py"));
        view.show(&root.join("usr/lib/python"));
        view.show(&root.join("lib/absent"));
        view.drop_nested();
        assert_eq!(view.shown, BTreeSet::from([root.join("usr/lib/python")]));
        assert_eq!(view.links, BTreeSet::from([(root.join("lib"), PathBuf::from("usr/lib"))]));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let link = temporary.path().join("self");
        std::os::unix::fs::symlink("self", &link).expect("a link");
        let mut view = View::default();
        view.show(&link);
        assert!(view.shown.is_empty());
    }
}
