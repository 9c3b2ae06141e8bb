use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::SandboxError;

/// A Python interpreter, and the folders that it needs to run, by its own word.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Interpreter {
    pub(super) version: [u32; 3],
    /// The real program, behind shims and virtual environments.
    pub(super) executable: PathBuf,
    /// The standard library.
    pub(super) standard: Vec<PathBuf>,
    /// Folders with the packages of `packages`.
    pub(super) site: Vec<PathBuf>,
    /// Folders with shared libraries.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(super) libraries: Vec<PathBuf>,
    /// The dynamic loader.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(super) loader: Option<PathBuf>,
    /// Those of sympy, numpy, mpmath that are installed.
    pub(super) packages: Vec<String>,
    implementation: String,
}

/// `AGENTFLOW_PYTHON`, or `python3` on `PATH`.
pub(super) fn locate() -> Result<PathBuf, SandboxError> {
    locate_in(env::var_os("AGENTFLOW_PYTHON"), env::var_os("PATH").unwrap_or_default())
}

fn locate_in(wanted: Option<OsString>, folders: OsString) -> Result<PathBuf, SandboxError> {
    if let Some(path) = wanted.filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    env::split_paths(&folders)
        .map(|folder| folder.join("python3"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let looked =
                if folders.is_empty() { "it is empty".into() } else { folders.to_string_lossy() };
            SandboxError::NoPython { looked: looked.into_owned() }
        })
}

impl Interpreter {
    /// Asks the interpreter at `path` where it keeps its files. Outside the sandbox, but no code of others is involved.
    pub(super) fn ask(path: &Path) -> Result<Self, SandboxError> {
        let bad = |reason: String| SandboxError::BadPython { path: path.to_owned(), reason };
        let answer = answer(path).map_err(bad)?;
        let interpreter: Self = serde_json::from_str(&answer)
            .map_err(|error| bad(format!("it did not describe itself ({error})")))?;
        let [major, minor, _] = interpreter.version;
        if interpreter.implementation != "CPython" || (major, minor) < (3, 8) {
            return Err(bad(format!("it is {} {major}.{minor}", interpreter.implementation)));
        }
        Ok(interpreter)
    }

    pub(super) fn version(&self) -> String {
        let [major, minor, micro] = self.version;
        format!("{major}.{minor}.{micro}")
    }
}

/// What the interpreter printed, or why there is nothing.
fn answer(path: &Path) -> Result<String, String> {
    const PATIENCE: Duration = Duration::from_secs(20); // a cold disk; usually 0.1 s
    let mut child = Command::new(path)
        .args(["-E", "-W", "ignore", "-c", include_str!("interpreter.py")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    let status = loop {
        // Its few kilobytes fit into the pipe, so it can be left unread until the end.
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let read = |pipe: Option<&mut dyn Read>| {
        let mut text = String::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(1 << 16).read_to_string(&mut text);
        }
        text
    };
    if !status.success() {
        let said = read(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
        let said = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        return Err(format!("{status}: {said}"));
    }
    Ok(read(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_searched_unless_the_environment_names_a_python() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("python3"), "").expect("a file");
        let path: OsString = format!("/nonexistent:{}", folder.path().display()).into();
        let found = locate_in(None, path.clone()).expect("it is there");
        assert_eq!(found, folder.path().join("python3"));
        let found = locate_in(Some("/opt/python".into()), path.clone()).expect("not searched");
        assert_eq!(found, Path::new("/opt/python"));
        let found = locate_in(Some("".into()), path).expect("an empty wish is none");
        assert_eq!(found, folder.path().join("python3"));
    }

    #[test]
    fn without_python_the_message_says_where_it_was_sought_and_what_to_do() {
        let error = locate_in(None, "/nonexistent/a:/nonexistent/b".into()).expect_err("no python");
        assert_eq!(
            error.to_string(),
            "python3 was not found (looked on `PATH`: /nonexistent/a:/nonexistent/b); install Python 3.8 or newer, \
             or set `AGENTFLOW_PYTHON` to its path"
        );
    }

    #[test]
    fn what_is_no_python_is_named_with_the_reason() {
        for (path, reason) in [
            ("/nonexistent/python3", "No such file or directory"),
            ("/bin/true", "it did not describe itself"),
            ("/bin/false", "exit status: 1"),
            ("/", "ermission denied"),
        ] {
            let error = Interpreter::ask(Path::new(path)).expect_err("no python").to_string();
            let start = format!("`{path}` cannot be used as Python: ");
            assert!(error.starts_with(&start) && error.contains(reason), "{error}");
        }
    }
}
