//! Without room on the disk.

use std::process::Command;

use crate::bench::{agentflow, check_record, kept, only_run, outcome, report, succeeded};

/// Files may grow to so many bytes, and what would be more is refused, as by a full disk.
#[test]
fn a_full_disk_is_said_and_leaves_no_half_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments =
        ["eval", "-b", "arith", "--limit", "40", "--concurrency", "2", "--backend", "local"];
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "bash"]);
    let plain = agentflow(dir.path(), &arguments);
    shell.arg(plain.get_program()).args(plain.get_args()).current_dir(dir.path());
    shell.env("OLLAMA_HOST", "127.0.0.1:9");
    let (code, _, stderr) = outcome(&mut shell);
    assert_eq!(code, Some(1), "{stderr}");
    let run = only_run(dir.path());
    for part in ["cannot append to `", "trajectories.jsonl", "too large", "--resume runs/"] {
        assert!(stderr.contains(part), "no `{part}` in\n{stderr}");
    }
    let record = std::fs::read(run.join("trajectories.jsonl")).expect("a record");
    assert_eq!(record.last(), Some(&b'\n'), "there is a half line");
    check_record(&run);
    let before = kept(&run);
    assert!((1..40).contains(&before), "{before}");

    // With room, it goes on.
    succeeded(&mut agentflow(dir.path(), &["eval", "--resume", run.to_str().expect("a path")]));
    check_record(&run);
    assert_eq!(report(&run)["counts"]["samples"], 40);
}
