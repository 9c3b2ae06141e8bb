//! Time, output, memory, files and cancellation: what ends a run, what is said about it, and that nothing stays.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use agentflow_tools::{
    Cancel, End, Level, LevelWanted, Limits, PythonRun, Sandbox, SandboxConfig, observe,
};
use support::{quick, sandboxes};

const ALL: [Level; 4] = [Level::Strong, Level::Medium, Level::Basic, Level::None];

fn run_everywhere(limits: &Limits, code: &str, check: impl Fn(&PythonRun)) {
    for mut sandbox in sandboxes(&ALL, limits, false) {
        let run = sandbox.run(code).expect("the sandbox works");
        check(&run);
    }
}

#[test]
fn wall_time_ends_a_loop_and_what_was_printed_is_kept() {
    let limits = Limits { wall: Duration::from_millis(700), ..Limits::default() };
    run_everywhere(&limits, "print('before')\nwhile True: pass", |run| {
        assert_eq!((&run.end, run.stdout.as_str()), (&End::Timeout, "before\n"));
        let text = observe(run).text;
        assert_eq!(
            text,
            "timeout: the code ran longer than 0.7 s and was stopped\noutput before that:\nbefore"
        );
        assert!((700..1700).contains(&run.wall_ms), "{} ms", run.wall_ms);
    });
}

#[test]
fn processor_time_is_a_limit_of_its_own() {
    let limits =
        Limits { cpu: Duration::from_secs(1), wall: Duration::from_secs(20), ..Limits::default() };
    let code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
    for code in ["while True: pass", code] {
        run_everywhere(&limits, code, |run| {
            assert_eq!(run.end, End::Cpu);
            assert!(
                observe(run).text.starts_with("cpu: the code used more than 1 s of processor time")
            );
        });
    }
}

#[test]
fn an_allocation_beyond_the_limit_is_an_exception_that_names_it() {
    let limits = Limits { memory_mib: 300, ..Limits::default() };
    run_everywhere(&limits, "x = bytearray(400 << 20)", |run| {
        let error = "MemoryError: the limit is 300 MiB\n  line 1: x = bytearray(400 << 20)";
        assert_eq!((run.error.as_deref(), &run.end), (Some(error), &End::Exit(1)));
    });
}

#[test]
fn a_flood_is_ended_and_its_head_and_tail_are_kept() {
    let limits = Limits { output_bytes: 1000, ..Limits::default() };
    run_everywhere(&limits, "n = 0\nwhile True:\n  n += 1\n  print(n)", |run| {
        assert_eq!(run.end, End::Output);
        assert!(run.truncated && run.stdout.len() <= 1000);
        assert!(run.stdout.starts_with("1\n2\n3\n") && run.stdout.contains(" bytes left out] ..."));
    });
    run_everywhere(&limits, "for n in range(9999): print(n)\n'end'", |run| {
        assert!(run.ok && run.truncated, "{run:?}");
        assert!(
            run.stdout.starts_with("0\n1\n2\n") && run.stdout.ends_with("9999\n'end'\n")
                || run.stdout.ends_with("9998\n'end'\n")
        );
    });
}

#[test]
fn files_and_processes_have_limits() {
    let limits =
        Limits { file_mib: 2, processes: 8, wall: Duration::from_secs(5), ..Limits::default() };
    let one = "with open('big', 'wb') as f:\n  for _ in range(9): f.write(bytes(1 << 20))";
    run_everywhere(&limits, one, |run| assert!(!run.ok, "{run:?}"));
    let many = "import time\nfor n in range(9):\n  with open(str(n), 'wb') as f: f.write(bytes(1 << 20))\ntime.sleep(9)";
    run_everywhere(&limits, many, |run| {
        let no_space =
            run.error.as_deref().is_some_and(|error| error.starts_with("OSError: [Errno 28]"));
        assert!(run.end == End::Files || no_space, "{run:?}");
    });
    let threads = "import threading, time\nfor _ in range(60): threading.Thread(target=time.sleep, args=(9,)).start()";
    run_everywhere(&limits, threads, |run| {
        let refused = run
            .error
            .as_deref()
            .is_some_and(|error| error.starts_with("RuntimeError: can't start"));
        assert!(run.end == End::Processes || refused, "{run:?}");
    });
}

#[test]
fn daemons_and_fork_bombs_end_with_the_run_even_without_containment() {
    let limits = Limits { wall: Duration::from_secs(3), ..Limits::default() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The code may run as nobody.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    let alive = folder.path().join("alive");
    let daemon = format!(
        "import os, time\n\
         if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    \
         while True:\n      open({alive:?}, 'a').write('x')\n      time.sleep(0.01)\n  os._exit(0)\n\
         while not os.path.exists({alive:?}): time.sleep(0.01)"
    );
    let bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass";
    for mut sandbox in sandboxes(&[Level::Basic, Level::None], &limits, false) {
        let run = sandbox.run(&daemon).expect("the sandbox works");
        assert!(run.ok, "{run:?}");
        let length = || fs::metadata(&alive).expect("the daemon wrote").len();
        let before = length();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(length(), before, "the daemon is still writing");
        fs::remove_file(&alive).expect("the file");

        let run = sandbox.run(bomb).expect("the sandbox works");
        assert!(matches!(run.end, End::Processes | End::Timeout), "{run:?}");
    }
}

#[test]
fn a_crash_is_told_by_its_signal() {
    run_everywhere(
        &Limits::default(),
        "import signal\nsignal.raise_signal(signal.SIGSEGV)",
        |run| {
            assert_eq!(run.end, End::Signal("SEGV".to_owned()));
            assert_eq!(run.error.as_deref(), Some("signal:SEGV: the interpreter crashed"));
        },
    );
}

#[test]
fn an_end_without_a_report_is_no_result() {
    run_everywhere(&Limits::default(), "import os\nprint('72')\nos._exit(0)", |run| {
        assert!(!run.ok && run.end == End::Exit(0), "{run:?}");
        assert!(
            observe(run)
                .text
                .starts_with("the interpreter ended early (exit:0), so there is no result")
        );
    });
}

#[test]
fn cancellation_ends_a_run_at_once_and_stays() {
    for level in ALL {
        let cancel = Cancel::default();
        let Some(mut sandbox) = sandboxes(&[level], &Limits::default(), true).pop() else {
            continue;
        };
        sandbox.set_cancel(cancel.clone());
        let switch = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        let started = Instant::now();
        let run = sandbox.run("print('on it')\nwhile True: pass").expect("the sandbox works");
        switch.join().expect("the switch was thrown");
        assert_eq!(run.end, End::Cancelled);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(sandbox.run("1").expect("the sandbox works").end, End::Cancelled);
        assert!(sandbox.cancel().is_cancelled());
    }
}

#[test]
fn what_the_code_left_in_its_folder_is_removed_and_links_lead_the_host_nowhere() {
    let kept = tempfile::tempdir().expect("a temporary folder");
    fs::write(kept.path().join("kept"), "x").expect("a file");
    symlink(kept.path(), kept.path().join("self")).expect("a link");
    let code = format!(
        "import os\nos.symlink({:?}, 'out')\nos.makedirs('locked/in')\nos.chmod('locked', 0)\nprint(os.getcwd())",
        kept.path()
    );
    for mut sandbox in sandboxes(&ALL, &quick(), false) {
        let run = sandbox.run(&code).expect("the sandbox works");
        assert!(run.ok, "{run:?}");
        assert!(!fs::exists(run.stdout.trim()).expect("an answer"), "{}", run.stdout);
        assert!(kept.path().join("kept").exists());
    }
}

#[test]
fn code_of_any_size_gets_in() {
    let code = format!("x = '{}'\nlen(x)", "y".repeat(3 << 20));
    run_everywhere(&Limits::default(), &code, |run| {
        assert_eq!(run.stdout, format!("{}\n", 3 << 20));
    });
}

#[test]
fn many_sandboxes_run_at_once() {
    let mut threads = Vec::new();
    for number in 0..8 {
        threads.push(std::thread::spawn(move || {
            let mut sandbox = support::sandbox();
            for round in 0..5 {
                let run =
                    sandbox.run(&format!("{number} * 10 + {round}")).expect("the sandbox works");
                assert_eq!(run.stdout, format!("{}\n", number * 10 + round));
            }
        }));
    }
    for thread in threads {
        thread.join().expect("no thread panicked");
    }
}

#[test]
fn the_report_says_what_is_in_force_and_what_is_not() {
    for sandbox in sandboxes(&ALL, &quick(), true) {
        let report = sandbox.report();
        let named = |name: &str| {
            (
                report.layers.iter().any(|it| it.name == name),
                report.missing.iter().any(|it| it.name == name),
            )
        };
        for (layer, least) in [
            ("namespaces", Level::Strong),
            ("seccomp", Level::Medium),
            ("capabilities", Level::Basic),
        ] {
            let there = sandbox.level() >= least;
            assert_eq!(named(layer), (there, !there), "{layer} in\n{report}");
        }
        assert!(
            report.to_string().starts_with(&format!("sandbox level {}, Python 3.", report.level))
        );
        assert_eq!(serde_json::to_value(report).expect("JSON")["level"], report.level.to_string());
    }
}

#[test]
fn a_python_that_is_not_there_is_named() {
    let python = Some("/nonexistent/python3".into());
    let error = Sandbox::new(SandboxConfig { python, ..SandboxConfig::default() })
        .err()
        .expect("no python");
    assert_eq!(
        error.to_string(),
        "`/nonexistent/python3` cannot be used as Python: No such file or directory (os error 2); \
         install Python 3.8 or newer, or set `AGENTFLOW_PYTHON` to its path"
    );
}

/// Started by the next test as a program of its own.
#[test]
#[ignore = "runs until it is killed"]
fn endless() {
    let level = std::env::var("SANDBOX_LEVEL").expect("set by the test that starts this");
    let level: LevelWanted = level.parse().expect("a level");
    let limits =
        Limits { wall: Duration::from_secs(60), cpu: Duration::from_secs(60), ..Limits::default() };
    let config = SandboxConfig { level, limits, ..SandboxConfig::default() };
    let mut sandbox = Sandbox::new(config).expect("probed by the test that starts this");
    let beat = std::env::var("SANDBOX_BEAT").expect("set by the test that starts this");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::write(beat, "running").expect("a file");
    });
    let _ = sandbox.run("while True: pass");
}

/// A kill that no handler sees must leave nothing running: not the holder, not Python.
#[test]
fn nothing_survives_a_killed_broker() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for level in sandboxes(&ALL, &quick(), true).iter().map(Sandbox::level) {
        let beat = folder.path().join(level.to_string());
        let mut broker = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "endless"])
            .env("SANDBOX_LEVEL", level.to_string())
            .env("SANDBOX_BEAT", &beat)
            // Without an own file system the scratch folder stays when nobody is left to remove it.
            .env("TMPDIR", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("this test, again");
        let started = Instant::now();
        while !beat.exists() {
            assert!(started.elapsed() < Duration::from_secs(30), "the broker never started");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(100));
        let family = descendants(broker.id());
        assert!(family.len() >= 2, "holder and worker at {level}: {family:?}");
        broker.kill().expect("a kill");
        broker.wait().expect("an end");
        let started = Instant::now();
        while family.iter().any(is_running) {
            assert!(started.elapsed() < Duration::from_secs(5), "{family:?} survived at {level}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn descendants(ancestor: u32) -> Vec<String> {
    let (mut all, mut parents) = (Vec::new(), vec![ancestor.to_string()]);
    while let Some(parent) = parents.pop() {
        for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                all.push(child.to_owned());
                parents.push(child.to_owned());
            }
        }
    }
    all
}

fn is_running(pid: &String) -> bool {
    // A zombie runs nothing; it waits for a parent to look.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
