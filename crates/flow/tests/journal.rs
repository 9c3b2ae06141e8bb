//! What `JsonlStore` promises: journals in files, one writer each, read back after everything that can happen to a
//! process or a file.
#![cfg(unix)] // children are started through `sh`, and killed

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use agentflow_flow::{
    Context, Decision, End, Ending, ErrorKind, Failure, Flow, Journal, JsonlStore, Kind, Next,
    Outcome, Pause, Record, Retry, RunId, StepError, Store, StoreError, Tried, approve, each,
    repeat, step,
};
use futures::FutureExt;
use futures::executor::block_on;
use serde_json::value::RawValue;

const ROLE: &str = "AGENTFLOW_FLOW_JOURNAL_ROLE";
const DIR: &str = "AGENTFLOW_FLOW_JOURNAL_DIR";

fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn store(dir: &Path) -> Arc<JsonlStore> {
    Arc::new(JsonlStore::new(dir).fsync(false))
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn tried() -> Tried {
    Tried {
        attempt: 2,
        at_ms: 1_700_000_000_000,
        took_us: 35,
        spent: [("tokens".to_owned(), 7)].into(),
    }
}

fn ended(at_ms: u64) -> Record {
    Record::Ended { how: Ending::Done, at_ms }
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Adds a line to a file that steps write to as their effect on the world.
fn effect(path: &Path, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A journal with the records 0 and 1, given back.
async fn two_records(dir: &Path, name: &str) -> PathBuf {
    let journal = store(dir).create(&run(name)).await.unwrap();
    journal.append(ended(0)).await.unwrap();
    journal.append(ended(1)).await.unwrap();
    dir.join(format!("{name}.jsonl"))
}

#[tokio::test]
async fn every_kind_of_record_is_a_line_and_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let flow = Flow::new("halve").then(repeat(
        "halves",
        9,
        step("halve", async |_: Context, x: u32| {
            Ok(if x.is_multiple_of(2) { Next::Again(x / 2) } else { Next::Done(x) })
        }),
    ));
    let path = "halve/halves[0]/halve".to_owned();
    let token = serde_json::from_str("\"0123456789abcdef\"").unwrap();
    let failure = Failure {
        path: path.clone(),
        attempts: 3,
        kind: "timeout".to_owned(),
        message: "line 1\nline 2".to_owned(),
    };
    let records = [
        Record::Started { run: run("a"), shape: flow.shape(), input: raw("44"), at_ms: 1 },
        Record::Resumed { at_ms: 2 },
        Record::Output {
            path: path.clone(),
            value: raw(r#"{"text":"a\nb \u0000 é"}"#),
            tried: tried(),
        },
        Record::Spent { path: path.clone(), outcome: Outcome::Cancelled, tried: tried() },
        Record::Failed { path: path.clone(), failure: failure.clone(), tried: tried() },
        Record::Settled { path: path.clone(), failure },
        Record::Routed { path: path.clone(), label: "small".to_owned() },
        Record::Asked { path: path.clone(), token, question: raw(r#""really?""#) },
        Record::Answered {
            path,
            token: serde_json::from_str("\"0123456789abcdef\"").unwrap(),
            answer: raw(r#"{"approved":true}"#),
        },
        Record::Ended { how: Ending::Paused, at_ms: 3 },
    ];
    let journal = store(dir.path()).create(&run("a")).await.unwrap();
    for record in records.clone() {
        journal.append(record).await.unwrap();
    }
    drop(journal);

    assert_eq!(lines(&dir.path().join("a.jsonl")), texts(&records));
    let (_journal, read) = store(dir.path()).open(&run("a")).await.unwrap();
    assert_eq!(texts(&read), texts(&records));
}

/// The format is kept: journals of older versions are resumed by newer ones.
#[tokio::test]
async fn lines_look_like_this() {
    let dir = tempfile::tempdir().unwrap();
    let flow = Flow::new("double").then(step("double", async |_: Context, x: u32| Ok(2 * x)));
    flow.run(21).id(run("a")).store(store(dir.path())).await.into_result().unwrap();
    let lines = lines(&dir.path().join("a.jsonl"));
    // Times differ from run to run.
    let digits = |c: char| c.is_ascii_digit();
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let mut parts = line.split("_ms\":");
            let first = parts.next().unwrap().to_owned();
            parts.fold(first, |text, part| text + "_ms\":_" + part.trim_start_matches(digits))
        })
        .map(|line| match line.split_once("_us\":") {
            Some((before, after)) => format!("{before}_us\":_{}", after.trim_start_matches(digits)),
            None => line,
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"{"started":{"run":"a","shape":{"name":"double","kind":"sequence","children":[{"name":"double","kind":"step"}]},"input":21,"at_ms":_}}"#,
            r#"{"output":{"path":"double/double","value":42,"tried":{"attempt":1,"at_ms":_,"took_us":_}}}"#,
            r#"{"ended":{"how":"done","at_ms":_}}"#,
        ]
    );
}

#[tokio::test]
async fn json_that_is_laid_out_in_lines_becomes_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let show = step("show", async |_: Context, x: u32| Ok(raw(&format!("{{\n  \"x\":\n{x}}}"))));
    let read = step("read", async |_: Context, shown: Box<RawValue>| Ok(shown.get().len()));
    let flow = Flow::new("pretty").then(show).then(read);
    let store = store(dir.path());
    let length = flow.run(5).id(run("a")).store(store.clone()).await.into_result().unwrap();
    assert_eq!(length, 11);
    assert!(lines(&dir.path().join("a.jsonl"))[1].contains(r#""value":{   "x": 5},"#));
    assert_eq!(flow.resume(store, run("a")).await.into_result().unwrap(), 11);
}

#[tokio::test]
async fn a_run_begins_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    two_records(dir.path(), "a").await;
    let error = store.create(&run("a")).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "run `a` exists already; resume it, or start one under another id"
    );
    let _held = store.open(&run("a")).await.unwrap();
    let error = store.create(&run("a")).await.err().unwrap();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
}

#[tokio::test]
async fn a_run_that_never_began_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("none"));
    let expected = format!("there is no run `a` in `{}`", dir.path().join("none").display());
    assert_eq!(store.open(&run("a")).await.err().unwrap().to_string(), expected);
    assert_eq!(store.load(&run("a")).await.err().unwrap().to_string(), expected);
    assert!(!dir.path().join("none").exists(), "looking makes nothing");
}

#[tokio::test]
async fn runs_are_listed_by_name_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/runs");
    let store = JsonlStore::new(&dir);
    assert_eq!(store.runs().unwrap(), []);
    for name in ["b", "a.2", "a"] {
        store.create(&run(name)).await.unwrap();
    }
    fs::write(dir.join("notes.txt"), "").unwrap();
    fs::write(dir.join("no run.jsonl"), "").unwrap();
    assert_eq!(store.runs().unwrap(), [run("a"), run("a.2"), run("b")]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let runs = file.join("runs");
    let error = store(&runs).create(&run("a")).await.err().unwrap().to_string();
    assert!(error.starts_with("cannot create `"), "{error}");
    assert!(error.contains(&runs.display().to_string()), "{error}");
    let error = store(&file).runs().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot list `{}`: ", file.display())), "{error}");
}

// ── one writer ──

#[tokio::test]
async fn a_second_resumer_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    two_records(dir.path(), "a").await;
    let (first, second) = (store(dir.path()), store(dir.path()));
    let held = first.open(&run("a")).await.unwrap();
    for store in [&first, &second] {
        let error = store.open(&run("a")).await.err().unwrap();
        assert!(matches!(error, StoreError::Leased { .. }), "{error}");
    }
    drop(held);
    // Not "soon": what is asked of a store after the drop comes after it.
    let (_held, records) = first.open(&run("a")).await.unwrap();
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn looking_needs_no_lease_and_sees_what_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let journal = store.create(&run("a")).await.unwrap();
    for at_ms in 0..3 {
        journal.append(ended(at_ms)).await.unwrap();
        assert_eq!(store.load(&run("a")).await.unwrap().len(), at_ms as usize + 1);
    }
}

#[tokio::test]
async fn a_lease_is_held_across_processes_and_ends_with_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    two_records(dir.path(), "a").await;
    let store = store(dir.path());
    let mut holder = again("hold", dir.path());
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut holder, "held");
    let error = store.open(&run("a")).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "run `a` is held by another process, or by another run of this one; wait for it, or stop it"
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    store.open(&run("a")).await.unwrap();
}

/// Between its start and its program, a process that is being started has a copy of every open file.
#[test]
fn processes_that_are_being_started_do_not_keep_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    block_on(two_records(dir.path(), "a"));
    let store = store(dir.path());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let refused = (0..500).find_map(|_| block_on(store.open(&run("a"))).err());
        over.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{}", refused.unwrap());
    });
}

#[tokio::test]
async fn whoever_goes_away_while_a_journal_is_opened_leaves_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let _ = store.create(&run("a")).now_or_never();
    store.create(&run("a")).await.unwrap().append(ended(0)).await.unwrap();
    for _ in 0..20 {
        let _ = store.open(&run("a")).now_or_never();
        store.open(&run("a")).await.unwrap();
    }
}

#[test]
fn dropping_the_last_handle_waits_for_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let store = JsonlStore::new(dir.path());
    let journal = block_on(store.create(&run("a"))).unwrap();
    drop(store);
    for at_ms in 0..100 {
        drop(journal.append(ended(at_ms)));
    }
    drop(journal);
    assert_eq!(lines(&dir.path().join("a.jsonl")).len(), 100);
}

// ── what can happen to a file ──

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_not_built_upon() {
    let dir = tempfile::tempdir().unwrap();
    let file = two_records(dir.path(), "a").await;
    let whole = fs::read(&file).unwrap();
    let next = format!("{}\n", serde_json::to_string(&ended(2)).unwrap());
    let store = store(dir.path());
    for torn in 1..next.len() {
        fs::write(&file, [&whole[..], &next.as_bytes()[..torn]].concat()).unwrap();
        assert_eq!(store.load(&run("a")).await.unwrap().len(), 2);
        let (journal, records) = store.open(&run("a")).await.unwrap();
        assert_eq!(records.len(), 2, "torn after {torn} bytes");
        journal.append(ended(3)).await.unwrap();
        drop(journal);
        let (_, records) = store.open(&run("a")).await.unwrap();
        assert_eq!(texts(&records), texts(&[ended(0), ended(1), ended(3)]));
    }
}

#[tokio::test]
async fn a_line_that_was_changed_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let file = two_records(dir.path(), "a").await;
    let store = store(dir.path());
    let line = |at_ms| serde_json::to_string(&ended(at_ms)).unwrap();
    for (text, number) in [
        (format!("{}\nhello\n{}\n", line(0), line(1)), 2),
        (format!("{}\n\n{}\n", line(0), line(1)), 2),
        // A write that is cut short has no newline: this one was not.
        (format!("{}\n{}\n{{\"ended\":\n", line(0), line(1)), 3),
        (format!("\u{0}\n{}\n", line(0)), 1),
    ] {
        fs::write(&file, &text).unwrap();
        let start = format!("line {number} of `{}` is not a record: ", file.display());
        let end = "; restore the file, or start the run anew";
        for error in [
            store.open(&run("a")).await.err().unwrap().to_string(),
            store.load(&run("a")).await.err().unwrap().to_string(),
        ] {
            assert!(error.starts_with(&start) && error.ends_with(end), "{error}");
        }
        assert!(matches!(store.create(&run("a")).await, Err(StoreError::Exists { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "nothing is repaired by guessing");
    }
}

#[tokio::test]
async fn a_process_killed_before_its_first_record_does_not_use_up_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let flow = Flow::new("double").then(step("double", async |_: Context, x: u32| Ok(2 * x)));
    let store = store(dir.path());
    let file = dir.path().join("a.jsonl");
    for left in ["", r#"{"started":{"run":"a","sha"#] {
        fs::write(&file, left).unwrap();
        let report = flow.resume(store.clone(), run("a")).await;
        assert_eq!(
            report.error().unwrap().to_string(),
            "`double`: the journal of run `a` does not begin with its start; nothing was done yet, so start it anew"
        );
        let report = flow.run(21).id(run("a")).store(store.clone()).await;
        assert_eq!(report.into_result().unwrap(), 42);
        assert_eq!(store.load(&run("a")).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_name_is_not_taken_over_from_a_process_that_has_just_begun() {
    let dir = tempfile::tempdir().unwrap();
    let _begun = store(dir.path()).create(&run("a")).await.unwrap();
    let error = store(dir.path()).create(&run("a")).await.err().unwrap();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
}

#[tokio::test]
async fn a_journal_that_was_copied_elsewhere_is_resumed_there() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broken = Arc::new(AtomicBool::new(true));
    let calls = Arc::new(AtomicU32::new(0));
    let (is_broken, count) = (broken.clone(), calls.clone());
    let flow = Flow::new("copy")
        .then(step("first", move |_: Context, x: u32| {
            let calls = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok(x + calls) }
        }))
        .then(step("second", move |_: Context, x: u32| {
            let broken = is_broken.load(Ordering::Relaxed);
            async move { if broken { Err(std::fmt::Error.into()) } else { Ok(10 * x) } }
        }));
    let report = flow.run(1).id(run("a")).store(store(here.path())).await;
    assert_eq!(report.error().unwrap().path, "copy/second");

    fs::copy(here.path().join("a.jsonl"), there.path().join("b.jsonl")).unwrap();
    broken.store(false, Ordering::Relaxed);
    let report = flow.resume(store(there.path()), run("b")).await;
    assert_eq!(report.into_result().unwrap(), 10);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

// ── runs on it ──

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_share_the_journal_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(JsonlStore::new(dir.path())); // with fsync
    // Of very different lengths, so that mixed lines would show.
    let long = step("long", async |_: Context, x: usize| Ok("ab".repeat(x * x)));
    let flow = Flow::new("branches").then(each("each", 200, long));
    let items: Vec<usize> = (0..200).collect();
    let report = flow.run(items.clone()).id(run("a")).store(store.clone()).await;
    let expected: Vec<String> = items.into_iter().map(|x| "ab".repeat(x * x)).collect();
    assert_eq!(report.into_result().unwrap(), expected);

    let mut recorded: Vec<(String, String)> = Vec::new();
    for record in store.load(&run("a")).await.unwrap() {
        if let Record::Output { path, value, .. } = record {
            recorded.push((path, serde_json::from_str(value.get()).unwrap()));
        }
    }
    recorded.sort_by_key(|(_, value)| value.len());
    let paths = (0..200).map(|index| format!("branches/each[{index}]/long"));
    assert_eq!(recorded, paths.zip(expected).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_that_is_dropped_says_so_and_can_be_resumed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let stuck = Arc::new(AtomicBool::new(true));
    let is_stuck = stuck.clone();
    let flow = Flow::new("slow").then(step("quick", async |_: Context, x: u32| Ok(x + 1))).then(
        step("stuck", move |_: Context, x: u32| {
            let stuck = is_stuck.load(Ordering::Relaxed);
            async move { if stuck { std::future::pending().await } else { Ok(x + 1) } }
        }),
    );
    let (mut events, report) = flow.run(1).id(run("a")).store(store.clone()).events(16);
    let report = tokio::spawn(report);
    while let Some(event) = events.next().await {
        if event.path == "slow/stuck" && event.kind == Kind::StepStarted {
            break;
        }
    }
    report.abort();
    assert!(report.await.unwrap_err().is_cancelled());

    let (journal, records) = store.open(&run("a")).await.unwrap();
    assert!(matches!(records.last(), Some(Record::Ended { how: Ending::Cancelled, .. })));
    drop(journal);
    stuck.store(false, Ordering::Relaxed);
    assert_eq!(flow.resume(store, run("a")).await.into_result().unwrap(), 3);
}

#[test]
fn a_pause_is_approved_by_a_second_process_and_by_no_third() {
    let dir = tempfile::tempdir().unwrap();
    let effects = dir.path().join("effects");
    succeed(&mut again("ask", dir.path()));
    assert_eq!(lines(&effects), ["find"]);
    succeed(&mut again("approve", dir.path()));
    assert_eq!(lines(&effects), ["find", "pay 5"]);
    succeed(&mut again("approve again", dir.path()));
    assert_eq!(lines(&effects), ["find", "pay 5"]);
}

/// A disk that is really full, as far as the process can tell: files may not grow beyond a few kilobytes.
#[tokio::test]
async fn a_full_disk_fails_the_run_at_the_step_and_the_step_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut sh = Command::new("sh");
    sh.args(["-c", r#"trap '' XFSZ; ulimit -f 32; exec "$0" "$@""#]);
    sh.arg(std::env::current_exe().unwrap());
    succeed(as_child(&mut sh, "fill the disk", dir.path()));

    // The disk has room again, and the torn line is gone: only the step that was not recorded runs again.
    let (flow, calls) = report_flow();
    let report = flow.resume(store(dir.path()), run("full")).await;
    assert_eq!(report.into_result().unwrap(), BIG);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

// ── other processes: this binary, started again ──

/// Does nothing unless it was started by a test above.
#[tokio::test]
async fn child() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let dir = Path::new(&dir);
    match role.as_str() {
        "hold" => hold(dir).await,
        "ask" => ask(dir).await,
        "approve" => approve_it(dir).await,
        "approve again" => approve_again(dir).await,
        "fill the disk" => fill_the_disk(dir).await,
        role => panic!("no such role: {role}"),
    }
}

fn again(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_child(&mut command, role, dir);
    command
}

fn as_child<'a>(command: &'a mut Command, role: &str, dir: &Path) -> &'a mut Command {
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(DIR, dir)
}

fn succeed(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    assert!(status.success(), "{status}\n{}", String::from_utf8_lossy(&said));
}

fn wait_for_line(child: &mut Child, line: &str) {
    let mut said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(said.any(|said| said.unwrap() == line), "the child ended first");
}

async fn hold(dir: &Path) {
    let _held = store(dir).open(&run("a")).await.unwrap();
    std::io::stdout().write_all(b"\nheld\n").unwrap();
    // Until it is killed; or until the parent is, which closes our input.
    let _ = std::io::stdin().read(&mut [0]);
}

fn refund(dir: &Path) -> Flow<u32, u32> {
    let effects = dir.join("effects");
    let (finds, pays) = (effects.clone(), effects);
    Flow::new("refund")
        .then(step("find", move |_: Context, amount: u32| {
            effect(&finds, "find");
            async move { Ok(amount) }
        }))
        .then(approve("gate", |amount: &u32| format!("refund {amount}?")))
        .then(step("pay", move |_: Context, amount: u32| {
            effect(&pays, &format!("pay {amount}"));
            async move { Ok(amount) }
        }))
}

async fn ask(dir: &Path) {
    let report = refund(dir).run(5).id(run("a")).store(store(dir)).await;
    let [pause] = report.pauses() else { panic!("{:?}", report.end) };
    fs::write(dir.join("pause.json"), serde_json::to_string(pause).unwrap()).unwrap();
}

fn kept_pause(dir: &Path) -> Pause {
    serde_json::from_str(&fs::read_to_string(dir.join("pause.json")).unwrap()).unwrap()
}

async fn approve_it(dir: &Path) {
    let pause = kept_pause(dir);
    assert_eq!(pause.question::<String>().unwrap(), "refund 5?");
    let resumed = refund(dir).resume(store(dir), pause.run.clone());
    let report = resumed.decide(&pause, Decision::yes().by("Ada")).await;
    assert_eq!(report.into_result().unwrap(), 5);
}

async fn approve_again(dir: &Path) {
    let pause = kept_pause(dir);
    let resumed = refund(dir).resume(store(dir), pause.run.clone());
    let report = resumed.decide(&pause, Decision::yes().by("Eve")).await;
    let End::Failed(error) = report.end else { panic!("{:?}", report.end) };
    assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("a token is good for one answer"), "{error}");
}

const BIG: usize = 100_000;

/// Also counts how often `big` ran; its first attempt fails.
fn report_flow() -> (Flow<usize, usize>, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let flow = Flow::new("report")
        .then(step("small", async |_: Context, size: usize| Ok(size)))
        .then(
            step("big", move |cx: Context, size: usize| {
                count.fetch_add(1, Ordering::Relaxed);
                async move {
                    match cx.attempt() {
                        1 => Err(StepError::failed(std::fmt::Error)),
                        _ => Ok("x".repeat(size)),
                    }
                }
            })
            .retry(Retry::at_once(3)),
        )
        .then(step("measure", async |_: Context, text: String| Ok(text.len())));
    (flow, calls)
}

async fn fill_the_disk(dir: &Path) {
    let store = store(dir);

    let (flow, calls) = report_flow();
    let report = flow.run(BIG).id(run("full")).store(store.clone()).await;
    let End::Failed(error) = report.end else { panic!("{:?}", report.end) };
    let file = dir.join("full.jsonl");
    let problem = std::io::Error::from_raw_os_error(27); // EFBIG
    assert_eq!(
        error.to_string(),
        format!("`report/big`, 2 attempts: cannot write `{}`: {problem}", file.display())
    );
    assert!(matches!(error.kind, ErrorKind::Store(_)), "{error:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 2, "the third attempt is not made");
    let written = fs::read(file).unwrap();
    assert_ne!(written.last(), Some(&b'\n'), "the line is torn");

    // What there is room for is not written either, once a line may be torn.
    let journal: Box<dyn Journal> = store.create(&run("direct")).await.unwrap();
    journal.append(ended(0)).await.unwrap();
    let text = serde_json::to_string(&"x".repeat(BIG)).unwrap();
    let big = Record::Output { path: "a/b".to_owned(), value: raw(&text), tried: tried() };
    let error = journal.append(big).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    for _ in 0..2 {
        let later = journal.append(ended(1)).await.unwrap_err();
        assert!(matches!(later, StoreError::Broken(_)), "{later}");
        assert_eq!(later.to_string(), format!("the store failed before: {error}"));
    }
}
