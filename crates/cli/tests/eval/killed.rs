//! SIGKILL at any moment, ctrl-c, and taking the run up again.

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use crate::bench::{
    agentflow, attempts, check_record, kept, only_run, outcome, report, spawned, succeeded, until,
};

const ARGUMENTS: [&str; 15] = [
    "eval",
    "-b",
    "arith",
    "--limit",
    "45",
    "--repeats",
    "2",
    "--concurrency",
    "3",
    // Hot, so that a seed that is not the same shows.
    "--temperature",
    "0.8",
    "--seed",
    "7",
    "--backend",
    "local",
];

/// Kills a real evaluation at 50 random moments. What the survivors make of it is what one process makes in one go.
#[test]
fn fifty_kills_leave_the_report_as_it_is() {
    let whole = tempfile::tempdir().expect("a directory");
    succeeded(&mut agentflow(whole.path(), &ARGUMENTS));
    let whole = only_run(whole.path());

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut kills = 0;
    while kills < 50 {
        let dir = tempfile::tempdir().expect("a directory");
        let mut running = spawned(&mut agentflow(dir.path(), &ARGUMENTS));
        until("there is a run", || {
            std::fs::read_dir(dir.path().join("runs"))
                .is_ok_and(|runs| runs.flatten().any(|run| run.path().join("run.toml").exists()))
        });
        let run = only_run(dir.path());
        let resume = ["eval", "--resume", run.to_str().expect("a path")];
        loop {
            // At once, while it starts, or a moment after some more samples were kept.
            let wanted = kept(&run) + random.below(4);
            let mut ended = random.below(8) == 0;
            while !ended && kept(&run) < wanted {
                ended = running.try_wait().expect("a child").is_some();
                std::thread::sleep(Duration::from_micros(500));
            }
            std::thread::sleep(Duration::from_micros(random.below(60_000) as u64));
            if running.try_wait().expect("a child").is_some() || kills >= 50 {
                break;
            }
            running.kill().expect("it can be killed");
            running.wait().expect("it is dead");
            kills += 1;
            check_record(&run);
            running = spawned(&mut agentflow(dir.path(), &resume));
        }
        let status = running.wait().expect("it ends");
        assert!(status.success(), "after {kills} kills: {status}");
        check_record(&run);
        assert_eq!(attempts(&run), attempts(&whole), "after {kills} kills");
        assert_eq!(report(&run), report(&whole), "after {kills} kills");
    }
}

#[test]
fn ctrl_c_writes_a_partial_report_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments =
        ["eval", "-b", "arith", "--limit", "400", "--concurrency", "2", "--backend", "local"];
    let mut running = spawned(&mut agentflow(dir.path(), &arguments));
    until("there are samples", || {
        dir.path().join("runs").exists() && kept(&only_run(dir.path())) >= 5
    });
    interrupt(&running);
    let mut stderr = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!(running.wait().expect("it ends").code(), Some(130), "{stderr}");
    let run = only_run(dir.path());
    check_record(&run);
    let partial = report(&run);
    assert_eq!(partial["partial"], true);
    assert_eq!(partial["counts"]["samples"], kept(&run));
    assert!(run.join("report.html").exists() && run.join("report.md").exists());
    let name = run.file_name().and_then(|name| name.to_str()).expect("a name");
    let advice = format!("go on with: agentflow eval --resume runs/{name}");
    assert!(stderr.contains(&advice), "{stderr}");

    // And it goes on, as whatever kind it is, with nothing lost.
    let before = kept(&run);
    let mut resumed =
        spawned(&mut agentflow(dir.path(), &["runs", "resume", run.to_str().expect("a path")]));
    until("it goes on", || kept(&run) > before);
    resumed.kill().expect("it can be killed");
    resumed.wait().expect("it is dead");
    check_record(&run);
}

#[test]
fn the_second_ctrl_c_ends_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["eval", "-b", "arith", "--limit", "400", "--backend", "local"];
    let mut running = spawned(&mut agentflow(dir.path(), &arguments));
    until("there are samples", || {
        dir.path().join("runs").exists() && kept(&only_run(dir.path())) >= 2
    });
    interrupt(&running);
    interrupt(&running);
    assert_eq!(running.wait().expect("it ends").code(), Some(130));
    check_record(&only_run(dir.path()));
}

#[test]
fn two_processes_cannot_have_one_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["eval", "-b", "arith", "--limit", "400", "--backend", "local"];
    let mut running = spawned(&mut agentflow(dir.path(), &arguments));
    until("there are samples", || {
        dir.path().join("runs").exists() && kept(&only_run(dir.path())) >= 1
    });
    let run = only_run(dir.path());
    let resume = ["eval", "--resume", run.to_str().expect("a path")];
    let (code, _, stderr) = outcome(&mut agentflow(dir.path(), &resume));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("is in use by another process"), "{stderr}");
    running.kill().expect("it can be killed");
    running.wait().expect("it is dead");
}

/// What a terminal does on ctrl-c, to this process alone.
pub(crate) fn interrupt(process: &std::process::Child) {
    let sent = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

/// Moments, the same ones in every run of the test (xorshift64, Marsaglia 2003); what they hit is chance all the same.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
