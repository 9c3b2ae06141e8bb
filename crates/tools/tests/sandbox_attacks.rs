//! Hostile programs against each level, with the import guard on and off: nothing may get in, out, or stay.
//!
//! One test, one case after the other: whether a process survived can only be told while no other runs.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentflow_tools::{End, Level, Limits, PythonRun, Sandbox, observe};
use serde::Deserialize;
use support::{has, sandboxes};

#[derive(Deserialize)]
struct Case {
    id: String,
    code: String,
    must: Must,
    /// Levels below this one are known not to hold; see the levels' documentation.
    #[serde(default)]
    from: Option<Level>,
}

#[derive(Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Must {
    Blocked,
    Killed,
    Contained,
    Ok,
}

#[test]
fn every_attack_is_contained() {
    adopt_orphans();
    let host = Host::new();
    let cases: Vec<Case> = include_str!("cases/sandbox_attacks.jsonl")
        .lines()
        .chain(include_str!("cases/sandbox_attacks_more.jsonl").lines())
        .map(|line| serde_json::from_str(line).expect("a case per line"))
        .collect();
    let short = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    let mut failures = Vec::new();
    for guard in [true, false] {
        let levels = [Level::Strong, Level::Medium];
        let patient = sandboxes(&levels, &Limits::default(), guard);
        for (mut hasty, mut patient) in sandboxes(&levels, &short, guard).into_iter().zip(patient) {
            let level = hasty.level();
            let sympy = has(&hasty, "sympy");
            for case in &cases {
                if case.from.is_some_and(|from| level < from) || (case.id == "ok-sympy" && !sympy) {
                    continue;
                }
                // Only what is not going to end by itself is given little time. Of what may leave something behind,
                // the second run must not find it.
                let (sandbox, times) = match case.must {
                    Must::Killed => (&mut hasty, 1),
                    Must::Contained => (&mut patient, 2),
                    Must::Blocked | Must::Ok => (&mut patient, 1),
                };
                for _ in 0..times {
                    if let Err(failure) = host.judge(case, sandbox) {
                        failures.push(format!("{level}, guard {guard}: {}: {failure}", case.id));
                    }
                }
                if case.must == Must::Killed && !works(&mut patient) {
                    failures
                        .push(format!("{level}, guard {guard}: nothing runs after {}", case.id));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn works(sandbox: &mut Sandbox) -> bool {
    sandbox.run("6 * 7").is_ok_and(|run| run.ok && run.stdout == "42\n")
}

/// The host as an attacker would like it: a secret that everybody can read, a file that everybody can write, listeners.
struct Host {
    folder: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
    tcp: TcpListener,
    udp: UdpSocket,
    path_socket: UnixListener,
    abstract_socket: UnixListener,
    abstract_name: String,
    _inherited: OwnedFd,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("agentflow-canary-")
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir()
            .expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
        for (name, text) in [("secret.txt", "CANARY-SECRET-7f3a"), ("target.txt", "original")] {
            fs::write(path(name), text).expect("a file");
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o666))
                .expect("open to all");
        }
        let path_socket = UnixListener::bind(path("canary.sock")).expect("a socket");
        let abstract_name = format!("agentflow-canary-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a short name");
        let abstract_socket = UnixListener::bind_addr(&address).expect("a socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        tcp.set_nonblocking(true).expect("a flag");
        udp.set_nonblocking(true).expect("a flag");
        path_socket.set_nonblocking(true).expect("a flag");
        abstract_socket.set_nonblocking(true).expect("a flag");
        // Left open for every child: std would close it.
        let secret = fs::File::open(path("secret.txt")).expect("the secret");
        // SAFETY: only the flags of an open descriptor change.
        unsafe { libc::fcntl(secret.as_raw_fd(), libc::F_SETFD, 0) };
        // SAFETY: the only test of this binary, before it starts anything that reads the environment.
        unsafe {
            std::env::set_var("TAVILY_API_KEY", "tvly-CANARY-7f3a");
            std::env::set_var("AGENTFLOW_SECRET", "CANARY-7f3a");
        }
        let before = contents(folder.path());
        let _inherited = secret.into();
        Self { folder, before, tcp, udp, path_socket, abstract_socket, abstract_name, _inherited }
    }

    fn judge(&self, case: &Case, sandbox: &mut Sandbox) -> Result<(), String> {
        let started = Instant::now();
        let run = sandbox.run(&self.localize(&case.code)).map_err(|error| error.to_string())?;
        let took = started.elapsed();
        self.untouched()?;
        let PythonRun { stdout, error, end, .. } = &run;
        let shown = format!("{end}, {error:?}, printed {:.300}", stdout.escape_debug().to_string());
        let error = error.as_deref().unwrap_or_default();
        if stdout.contains("PWNED") || error.contains("PWNED:") {
            return Err(format!("got through: {shown}"));
        }
        if error.contains("FORGED")
            || (!stdout.contains("FORGED") && observe(&run).text.contains("FORGED"))
        {
            return Err(format!("forged: {shown}"));
        }
        if stdout.len() > sandbox.limits().output_bytes {
            return Err(format!("{} bytes of output", stdout.len()));
        }
        if took > sandbox.limits().wall + Duration::from_secs(1) {
            return Err(format!("took {took:?}"));
        }
        // Refused by the guard, or bounded before it grew: as good as killed.
        let denied = error.starts_with("ImportError: `")
            || stdout.contains("limited")
            || stdout.contains("denied");
        let held = match case.must {
            Must::Blocked => matches!(end, End::Exit(_)),
            Must::Killed => !matches!(end, End::Exit(_)) || denied,
            Must::Contained => true,
            Must::Ok => run.ok && stdout.contains("PASS"),
        };
        if held { Ok(()) } else { Err(format!("must be {:?}, but: {shown}", case.must)) }
    }

    /// The case's code with this fixture's names in place of the fixed ones, which another test may hold.
    fn localize(&self, code: &str) -> String {
        let folder = self.folder.path().to_str().expect("a plain path");
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.expect("bound").port().to_string()
        };
        code.replace("/tmp/../tmp/agentflow-canary", &format!("/tmp/..{folder}"))
            .replace("/tmp/agentflow-canary", folder)
            .replace("tmp/agentflow-canary", folder.trim_start_matches('/'))
            .replace("\\0agentflow-canary", &format!("\\0{}", self.abstract_name))
            .replace("47101", &port(self.tcp.local_addr()))
            .replace("47102", &port(self.udp.local_addr()))
    }

    fn untouched(&self) -> Result<(), String> {
        if contents(self.folder.path()) != self.before {
            let now = contents(self.folder.path());
            return Err(format!("the canary folder changed: {now:?}"));
        }
        let blocks = |result: std::io::Result<()>| matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
        let quiet = blocks(self.tcp.accept().map(drop))
            && blocks(self.udp.recv(&mut [0; 16]).map(drop))
            && blocks(self.path_socket.accept().map(drop))
            && blocks(self.abstract_socket.accept().map(drop));
        if !quiet {
            return Err("a listener was touched".into());
        }
        let survivors = children();
        if !survivors.is_empty() {
            return Err(format!("processes survived: {survivors:?}"));
        }
        Ok(())
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let entries = fs::read_dir(folder).expect("the canary folder").flatten();
    entries
        .map(|entry| {
            let kind = entry.file_type().expect("a kind");
            let text = if kind.is_file() {
                fs::read_to_string(entry.path()).expect("text")
            } else {
                format!("{kind:?}")
            };
            (entry.path(), text)
        })
        .collect()
}

/// Whatever loses its parent among our descendants becomes our child, so that survivors can be seen.
fn adopt_orphans() {
    // SAFETY: sets a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("our tasks").flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
