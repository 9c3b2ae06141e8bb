//! The helpers for tests, and with them: a run that breaks at any record of its journal and is resumed ends like one that
//! was never interrupted.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::testing::{
    FaultyStore, Recorder, answers, fail_times, panic_times, record, scripted, slow,
};
use agentflow_flow::{
    Context, Decision, End, Ending, ErrorKind, Flow, Kind, MemoryStore, Next, Node, Record, Retry,
    Run, RunId, Settled, StepError, Store, all, approve, ask, each, each_settled, first_k, node,
    repeat, settled, step, switch,
};
use proptest::prelude::*;
use tokio::sync::Notify;

async fn plus_one(_: Context, n: u32) -> Result<u32, StepError> {
    Ok(n + 1)
}

fn id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

#[tokio::test]
async fn a_script_repeats_its_last_line_and_keeps_what_it_was_given() {
    let script = scripted("say", [10, 20]);
    let flow = Flow::new("f").then(each("all", 1, script.clone()));
    let said = flow.run(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]).await;
    assert_eq!(said.into_result().unwrap(), [10, 20, 20]);
    assert_eq!(script.inputs(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_script_without_lines_says_so() {
    let flow = Flow::new("f").then(scripted::<u32, u32>("say", []));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "`f/say`: a script without lines; give it one or more");
}

#[tokio::test]
async fn failures_are_counted_for_each_branch() {
    let flaky = node("one", fail_times(2, plus_one)).retry(Retry::at_once(3));
    let flow = Flow::new("f").then(each("all", 2, flaky));
    let (report, recorder) = record(flow.run(vec![1, 2])).await;
    assert_eq!(report.into_result().unwrap(), [2, 3]);
    assert_eq!([recorder.attempts("f/all[0]/one"), recorder.attempts("f/all[1]/one")], [3, 3]);
}

#[tokio::test]
async fn failures_are_counted_over_the_attempts_of_a_group() {
    let pair = all("pair", (node("a", fail_times(1, plus_one)), step("b", plus_one)));
    let flow = Flow::new("f").then(pair.retry(Retry::at_once(2)));
    let (report, recorder) = record(flow.run(1)).await;
    assert_eq!(report.into_result().unwrap(), (2, 2));
    assert_eq!(recorder.attempts("f/pair#2/a"), 1);
}

#[tokio::test]
async fn failures_are_counted_over_resumes_in_other_processes() {
    // A new flow for each run, as another process has it.
    let flow = || Flow::new("f").then(node("a", fail_times(2, plus_one)));
    let store = Arc::new(MemoryStore::new());
    let first = flow().run(1).id(id("r")).store(store.clone()).await;
    assert!(first.error().unwrap().to_string().contains("failure 1 of 2, as the test asked"));
    assert!(flow().resume(store.clone(), id("r")).await.into_result().is_err());
    assert_eq!(flow().resume(store, id("r")).await.into_result().unwrap(), 2);
}

#[tokio::test]
async fn a_panic_is_reported_and_heals_on_resume() {
    let flow = Flow::new("f").then(node("a", panic_times(1, plus_one)));
    let store = Arc::new(MemoryStore::new());
    let error = flow.run(1).id(id("r")).store(store.clone()).await.into_result().unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Panicked(text) if text.contains("panic 1 of 1")));
    assert_eq!(flow.resume(store, id("r")).await.into_result().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_step_takes_its_time_and_can_time_out() {
    let minute = Duration::from_secs(60);
    let flow = Flow::new("f").then(node("a", slow(minute, plus_one)));
    assert_eq!(flow.run(1).await.took, minute);
    let flow = Flow::new("f").then(node("a", slow(minute, plus_one)).timeout(minute / 2));
    let error = flow.run(1).await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Timeout(_)));
}

#[tokio::test]
async fn a_script_of_answers_answers_questions_and_gates() {
    let flow = Flow::new("f")
        .then(ask::<u32, String, u32>("how many", |n| format!("more than {n}?")))
        .then(step("sum", async |_: Context, (a, b): (u32, u32)| Ok(a + b)))
        .then(approve("gate", |n| *n));
    let (more, gate) = (answers::<String, _>([2_u32]), answers::<u32, _>([Decision::no()]));
    let run = flow.run(1).answer(more.answerer()).answer(gate.answerer());
    let error = run.await.into_result().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Denied(_)), "{error}");
    assert_eq!(more.questions(), ["more than 1?"]);
    assert_eq!(gate.questions(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_recorder_has_every_event_in_its_order() {
    let wait = |seconds| slow(Duration::from_secs(seconds), plus_one);
    let even = switch("even").when("yes", |n| n % 2 == 0, plus_one).otherwise(plus_one);
    let flow = Flow::new("f")
        .then(all("both", (node("late", wait(2)), node("early", wait(1)))))
        .then(step("sum", async |_: Context, (a, b): (u32, u32)| Ok(a + b)))
        .then(even);
    let (report, recorder) = record(flow.run(1)).await;
    assert_eq!(report.into_result().unwrap(), 5);
    let order = ["f/both/early", "f/both/late", "f/both", "f/sum", "f/even/yes", "f/even"];
    assert_eq!(recorder.order(), order);
    assert_eq!(recorder.routes(), [("f/even".to_owned(), "yes".to_owned())]);
    assert_eq!(recorder.kinds("f/sum"), [&Kind::StepStarted, &Kind::StepDone]);
    assert_eq!(recorder.kinds("f"), [&Kind::RunStarted, &Kind::RunEnded(Ending::Done)]);
    let numbers: Vec<u64> = recorder.events().iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_recorder_of_ten_thousand_steps_misses_none() {
    let flow = Flow::new("f").then(each("all", 64, step("one", plus_one)));
    let (_, recorder) = record(flow.run((0..10_000).collect())).await;
    assert_eq!(recorder.order().len(), 10_001);
}

#[tokio::test]
async fn a_recorder_reads_what_a_dropped_run_left() {
    let forever = step("forever", async |_: Context, n: u32| {
        std::future::pending::<()>().await;
        Ok(n)
    });
    let (events, run) = Flow::new("f").then(forever).run(1).events(usize::MAX);
    assert!(futures::FutureExt::now_or_never(run).is_none(), "polled once, then dropped");
    let recorder = Recorder::drain(events).await;
    assert_eq!(recorder.kinds("f/forever"), [&Kind::StepStarted, &Kind::StepCancelled]);
    assert_eq!(recorder.kinds("f"), [&Kind::RunStarted, &Kind::RunEnded(Ending::Cancelled)]);
}

async fn three_steps(store: FaultyStore) -> (Vec<String>, Option<String>) {
    let store = Arc::new(store);
    let flow = ["a", "b", "c"].iter().fold(Flow::new("f"), |f, name| f.then(step(name, plus_one)));
    let report = flow.run(0).id(id("r")).store(store.clone()).await;
    let kept = store.load(&id("r")).await.unwrap();
    let kept = kept.iter().map(|record| match record {
        Record::Output { path, .. } => path.clone(),
        Record::Started { .. } => "started".to_owned(),
        Record::Ended { how, .. } => format!("{how:?}"),
        other => format!("{other:?}"),
    });
    (kept.collect(), report.error().map(ToString::to_string))
}

#[tokio::test]
async fn a_store_that_fails_from_a_record_keeps_those_before() {
    let (kept, error) = three_steps(FaultyStore::new(MemoryStore::new()).fail_from(3)).await;
    assert_eq!(kept, ["started", "f/a"]);
    let text = "`f/b`: cannot append to `FaultyStore`: record 3 fails, as the test asked";
    assert_eq!(error.as_deref(), Some(text));
}

#[tokio::test]
async fn a_store_that_fails_after_a_record_keeps_it() {
    let (kept, error) = three_steps(FaultyStore::new(MemoryStore::new()).fail_after(3)).await;
    assert_eq!(kept, ["started", "f/a", "f/b"]);
    assert!(error.unwrap().starts_with("`f/b`: "));
}

#[tokio::test]
async fn a_store_without_faults_tells_of_each_record() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = told.clone();
    let store =
        FaultyStore::new(MemoryStore::new()).after_each(move |n| hook.lock().unwrap().push(n));
    let (kept, error) = three_steps(store).await;
    assert_eq!((kept.len(), error), (5, None));
    assert_eq!(*told.lock().unwrap(), [1, 2, 3, 4, 5]);
}

/// The paths at which a leaf of the rich flow was called.
#[derive(Default)]
struct Calls(Mutex<Vec<String>>);

type Log = Vec<String>;

/// A step that adds its name to the log that flows.
fn leaf(name: &'static str) -> Node<Log, Log> {
    step(name, called(name))
}

fn called(
    name: &'static str,
) -> impl Fn(Context, Log) -> futures::future::Ready<Result<Log, StepError>> + Clone {
    move |cx: Context, mut log: Log| {
        cx.need::<Calls>().unwrap().0.lock().unwrap().push(cx.path().to_string());
        log.push(name.to_owned());
        futures::future::ready(Ok(log))
    }
}

fn after(seconds: u64, name: &'static str) -> Node<Log, Log> {
    node(name, slow(Duration::from_secs(seconds), called(name)))
}

/// The logs of branches, as one line of the log.
fn folded<T: std::fmt::Debug>(branches: &T) -> Log {
    vec![format!("{branches:?}")]
}

/// Something of everything: its output says what happened in it, down to the number of attempts of a failure.
fn rich() -> Flow<Log, Log> {
    let look = all(
        "look",
        (
            node("flaky", fail_times(2, slow(Duration::from_secs(3), called("flaky")))),
            after(1, "quick"),
            Flow::new("child").then(after(2, "first")).then(leaf("second")),
        ),
    );
    let join = step("join", async |_: Context, logs: (Log, Log, Log)| Ok(folded(&logs)));

    let split = step("split", async |_: Context, log: Log| {
        Ok((0..4).map(|n| [log.clone(), vec![n.to_string()]].concat()).collect::<Vec<Log>>())
    });
    let item = Flow::new("item").then(node("odd", fail_times(1, called("odd")))).then(
        switch("kind")
            .when("zero", |log: &Log| log.contains(&"0".to_owned()), called("zero"))
            .otherwise(called("more")),
    );

    // Gives up on two of them: one for good at once, one after all attempts.
    let strict = |cx: Context, log: Log| async move {
        match log.iter().any(|line| line == "1") {
            true => Err(StepError::fatal("it is one")),
            false => called("strict")(cx, log).await,
        }
    };
    let picky = switch("picky")
        .when(
            "three",
            |log: &Log| log.contains(&"3".to_owned()),
            node("never", fail_times(9, called("never"))),
        )
        .otherwise(node("strict", strict));
    let fold_settled = step("fold settled", async |_: Context, all: Vec<Settled<Log>>| {
        Ok(all.into_iter().map(|one| folded(&one)).collect::<Vec<Log>>())
    });

    // The last item comes first.
    let runner = step("runner", async |cx: Context, log: Log| {
        let item = cx.path().parent().and_then(|run| run.parent());
        let place = item.and_then(|item| item.index()).expect("it runs below an item") as u64;
        tokio::time::sleep(Duration::from_secs(20 - 5 * place)).await;
        called("runner")(cx, log).await
    });
    let fold = step("fold", async |_: Context, logs: Vec<Log>| Ok(folded(&logs)));

    let more = |log: &Log| log.iter().filter(|line| *line == "think").count() < 3;
    let turn = Flow::new("turn").then(node("think", fail_times(1, called("think")))).then(
        switch("again?")
            .when("again", more, async |_: Context, log: Log| Ok(Next::<Log, Log>::Again(log)))
            .otherwise(async |_: Context, log: Log| Ok(Next::Done(log))),
    );

    let unlucky = async |cx: Context, log: Log| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _: Log = called("unlucky")(cx, log).await?;
        Err::<Log, _>(StepError::failed("out of luck"))
    };
    let pair = all(
        "pair",
        (after(1, "lucky"), node("unlucky", unlucky).retry(Retry::never()), after(5, "late")),
    );
    let recover =
        step("recover", async |_: Context, tried: Settled<(Log, Log, Log)>| Ok(folded(&tried)));

    let again = all(
        "again",
        (after(1, "good"), node("bad", fail_times(1, called("bad"))).retry(Retry::never())),
    );
    let fold_pair = step("fold pair", async |_: Context, logs: (Log, Log)| Ok(folded(&logs)));

    Flow::new("rich")
        .retry(Retry { jitter: false, ..Retry::attempts(3) })
        .then(look)
        .then(join)
        .then(split)
        .then(each("grade", 2, item))
        .then(each_settled("try", 3, picky))
        .then(fold_settled)
        .then(first_k("race", 3, Flow::new("run").then(leaf("warm")).then(runner)))
        .then(fold)
        .then(repeat("loop", 5, turn))
        .then(settled("risk", pair))
        .then(recover)
        .then(again.retry(Retry::at_once(2)))
        .then(fold_pair)
        .then(approve("gate", |log: &Log| log.len()))
        .then(leaf("last"))
}

/// With what every process gives to a run; the calls of its leaves.
fn given(run: Run<Log>) -> (Run<Log>, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    (run.provide(calls.clone()).answer(answers::<usize, _>([Decision::yes()]).answerer()), calls)
}

/// A run that nothing interrupts: its output, and its journal.
async fn uninterrupted() -> (Log, Vec<Record>) {
    let store = MemoryStore::new();
    let (run, _) = given(rich().run(Log::new()).id(id("whole")).store(Arc::new(store.clone())));
    let output = run.await.into_result().unwrap();
    (output, store.load(&id("whole")).await.unwrap())
}

fn outputs(records: &[Record]) -> BTreeMap<String, String> {
    let output = |record: &Record| match record {
        Record::Output { path, value, .. } => Some((path.clone(), value.get().to_owned())),
        _ => None,
    };
    records.iter().filter_map(output).collect()
}

/// How a process is stopped.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// Its store fails at this record, counted from 1 in each process.
    Before(u64),
    /// Its store keeps this record and fails.
    After(u64),
    /// The run is dropped as soon as this record is durable.
    Dropped(u64),
    Never,
}

/// One process: begins the run or takes it up, until it ends or is stopped. Nothing that is recorded is called again.
async fn process(
    flow: &Flow<Log, Log>,
    kept: &MemoryStore,
    run: &RunId,
    stop: Stop,
) -> Option<End<Log>> {
    let dropped = Arc::new(Notify::new());
    let store = FaultyStore::new(kept.clone());
    let store = match stop {
        Stop::Before(n) => store.fail_from(n),
        Stop::After(n) => store.fail_after(n),
        Stop::Dropped(n) => {
            let dropped = dropped.clone();
            store.after_each(move |record| {
                if record == n {
                    dropped.notify_one();
                }
            })
        }
        Stop::Never => store,
    };
    let before = kept.load(run).await.unwrap_or_default();
    let (run, calls) = given(match before.is_empty() {
        true => flow.run(Log::new()).id(run.clone()).store(Arc::new(store)),
        false => flow.resume(Arc::new(store), run.clone()),
    });
    let end = tokio::select! {
        biased;
        () = dropped.notified() => None,
        report = run.into_future() => Some(report.end),
    };
    let before = outputs(&before);
    let again: Vec<String> =
        calls.0.lock().unwrap().iter().filter(|path| before.contains_key(*path)).cloned().collect();
    assert_eq!(again, [""; 0], "recorded, and called again");
    end
}

/// What a whole journal looks like, whoever wrote it: every output once, the same ones, every attempt once.
fn assert_same_journal(records: &[Record], whole: &[Record]) {
    let (ours, theirs) = (outputs(records), outputs(whole));
    let paths = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&ours), paths(&theirs));
    for (path, output) in &ours {
        assert_eq!(output, &theirs[path], "{path}");
    }
    let mut seen = HashSet::new();
    for record in records {
        let what = match record {
            Record::Output { path, .. } => format!("output of {path}"),
            Record::Failed { path, tried, .. } => format!("failure {} of {path}", tried.attempt),
            Record::Settled { path, .. } => format!("settling of {path}"),
            Record::Routed { path, .. } => format!("route of {path}"),
            Record::Asked { path, .. } => format!("question of {path}"),
            Record::Answered { path, .. } => format!("answer of {path}"),
            _ => continue,
        };
        assert!(seen.insert(what.clone()), "recorded twice: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_at_any_record_ends_like_one_that_is_not() {
    let (output, whole) = uninterrupted().await;
    assert!(whole.len() > 60, "it is rich: {} records", whole.len());
    for n in 1..=whole.len() as u64 {
        for stop in [Stop::Before(n), Stop::After(n), Stop::Dropped(n)] {
            let (kept, run) = (MemoryStore::new(), id("stopped"));
            let first = process(&rich(), &kept, &run, stop).await;
            assert!(!matches!(first, Some(End::Paused(_))), "{stop:?}");
            let second = process(&rich(), &kept, &run, Stop::Never).await;
            let Some(End::Done(resumed)) = second else { panic!("{stop:?}: {second:?}") };
            assert_eq!(resumed, output, "{stop:?}");
            assert_same_journal(&kept.load(&run).await.unwrap(), &whole);
        }
    }
}

#[tokio::test]
async fn a_failure_for_good_stands_though_its_process_was_stopped_at_it() {
    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    let lone = step("lone", move |_: Context, n: u32| {
        *count.lock().unwrap() += 1;
        async move { if n == 0 { Ok(n) } else { Err(StepError::fatal("never")) } }
    });
    let flow = Flow::new("f").then(settled("try", lone));
    let store = MemoryStore::new();
    let stopped = FaultyStore::new(store.clone()).fail_after(2); // the failure
    let _ = flow.run(1).id(id("r")).store(Arc::new(stopped)).await;
    let (report, recorder) = record(flow.resume(Arc::new(store), id("r"))).await;
    let failure = report.into_result().unwrap().unwrap_err();
    assert_eq!(failure.to_string(), "`f/try/lone`: never");
    assert_eq!((failure.kind.as_str(), *calls.lock().unwrap()), ("fatal", 1));
    assert_eq!(recorder.replayed(), ["f/try/lone"]);
}

#[tokio::test]
async fn a_failure_that_ended_its_run_is_tried_again_on_resume() {
    let flow = Flow::new("f").then(node("a", fail_times(1, plus_one)));
    let store = MemoryStore::new();
    let stopped = FaultyStore::new(store.clone()).fail_after(2); // the failure, and no end of the run
    let _ = flow.run(1).id(id("r")).store(Arc::new(stopped)).await;
    let resume = || async { flow.resume(Arc::new(store.clone()), id("r")).await.into_result() };
    let error = resume().await.unwrap_err();
    assert_eq!((error.kind.name(), error.attempts), ("failed", 1));
    assert_eq!(resume().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_that_came_first_come_in_the_same_order_again() {
    let wait = async |_: Context, seconds: u64| {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(seconds)
    };
    let item = Flow::new("item")
        .then(step("wait", wait))
        .then(step("on", async |_: Context, n: u64| Ok(n)));
    let flow = Flow::new("f").then(first_k("race", 2, item));
    for n in 1..=9 {
        let store = MemoryStore::new();
        let stopped = FaultyStore::new(store.clone()).fail_from(n);
        let _ = flow.run(vec![3, 2, 1]).id(id("r")).store(Arc::new(stopped)).await;
        let run = match n {
            1 => flow.run(vec![3, 2, 1]).id(id("r")).store(Arc::new(store)),
            _ => flow.resume(Arc::new(store), id("r")),
        };
        assert_eq!(run.await.into_result().unwrap(), [1, 2], "record {n}");
    }
}

#[tokio::test]
async fn the_id_of_a_run_that_could_not_begin_is_free() {
    let (flow, store) = (Flow::new("f").then(step("a", plus_one)), MemoryStore::new());
    let full = FaultyStore::new(store.clone()).fail_from(1);
    assert!(flow.run(1).id(id("r")).store(Arc::new(full)).await.error().is_some());
    let again = flow.run(1).id(id("r")).store(Arc::new(store)).await;
    assert_eq!(again.into_result().unwrap(), 2);
}

/// Ends its run twice before it is done.
fn rich_and_unlucky() -> Flow<Log, Log> {
    let breaks = all("end", (leaf("calm"), node("breaks", panic_times(2, called("breaks")))));
    let fold = step("fold end", async |_: Context, logs: (Log, Log)| Ok(folded(&logs)));
    rich().then(breaks).then(fold)
}

/// Runs it in as many processes as it takes, each stopped as `stops` says.
async fn to_the_end(stops: &[Stop]) -> (Log, Vec<Record>, usize) {
    let (kept, run) = (MemoryStore::new(), id("often"));
    let mut stops = stops.iter().copied().chain(std::iter::repeat(Stop::Never));
    for processes in 1..100 {
        let stop = stops.next().expect("it has no end");
        if let Some(End::Done(output)) = process(&rich_and_unlucky(), &kept, &run, stop).await {
            return (output, kept.load(&run).await.unwrap(), processes);
        }
    }
    panic!("a hundred processes are enough for two failures and {stops:?}");
}

fn any_stop() -> impl Strategy<Value = Stop> {
    let record = 1..40_u64;
    prop_oneof![
        record.clone().prop_map(Stop::Before),
        record.clone().prop_map(Stop::After),
        record.prop_map(Stop::Dropped),
    ]
}

proptest! {
    #[test]
    fn a_run_that_is_stopped_again_and_again_ends_like_one_that_is_not(
        stops in prop::collection::vec(any_stop(), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (output, whole, processes) = to_the_end(&[]).await;
            assert_eq!(processes, 3);
            let (resumed, records, _) = to_the_end(&stops).await;
            assert_eq!(resumed, output);
            assert_same_journal(&records, &whole);
        });
    }
}
