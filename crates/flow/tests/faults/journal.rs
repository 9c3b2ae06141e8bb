//! What a run writes, and what is made of it: 10, 11, 12, 13, 14.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::{
    Context, Ending, ErrorKind, Flow, JsonlStore, Kind, MemoryStore, Record, StepError, Store,
    StoreError, all, each, step,
};
use tokio::sync::Notify;

use crate::probe::{Count, SECOND, counted, fails, id, nap, pass, watched};

/// Two Orchflow resumes of one checkpoint file both ran the effects.
#[tokio::test]
async fn line_10_one_resumer() {
    let dir = tempfile::tempdir().unwrap();
    for store in
        [Arc::new(MemoryStore::new()) as Arc<dyn Store>, Arc::new(JsonlStore::new(dir.path()))]
    {
        let (effects, ready, go) =
            (Count::default(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (does, is_ready, goes) = (effects.clone(), ready.clone(), go.clone());
        let effect = step("effect", move |_cx: Context, x: u32| {
            let (does, ready, go) = (does.clone(), is_ready.clone(), goes.clone());
            async move {
                if does.up() > 1 {
                    ready.notify_one();
                    go.notified().await;
                    return Ok(x);
                }
                Err(StepError::failed("down"))
            }
        });
        let flow = Flow::new("f").then(effect);
        let report = flow.run(1).id(id("r")).store(store.clone()).await;
        assert!(report.error().is_some());

        let first = tokio::spawn(flow.resume(store.clone(), id("r")).into_future());
        ready.notified().await;
        let second = flow.resume(store.clone(), id("r")).await;
        let error = &second.error().unwrap().kind;
        assert!(matches!(error, ErrorKind::Store(StoreError::Leased { .. })), "{error}");
        // Nor can it be begun anew under its name.
        let again = flow.run(1).id(id("r")).store(store).await;
        let error = &again.error().unwrap().kind;
        assert!(matches!(error, ErrorKind::Store(StoreError::Exists { .. })), "{error}");
        go.notify_one();
        assert_eq!(first.await.unwrap().into_result().unwrap(), 1);
        assert_eq!(effects.get(), 2);
    }
}

/// In words.
async fn records(store: &impl Store, run: &str) -> Vec<String> {
    let records = store.load(&id(run)).await.unwrap();
    let word = |record: Record| match record {
        Record::Started { .. } => "started".to_owned(),
        Record::Resumed { .. } => "resumed".to_owned(),
        Record::Output { path, .. } => format!("output {path}"),
        Record::Failed { path, .. } => format!("failed {path}"),
        Record::Ended { how, .. } => format!("ended {how:?}"),
        other => format!("{other:?}"),
    };
    records.into_iter().map(word).collect()
}

/// Orchflow writes nothing before the first item ends, and a run that was cancelled stays "running".
#[tokio::test(start_paused = true)]
async fn line_11_start_failure_cancel_and_end_are_records() {
    let store = MemoryStore::new();
    let flow = Flow::new("f").then(nap::<u32>("a", 1000)).then(pass("b"));
    let kept = Arc::new(store.clone());

    let run = tokio::spawn(flow.run(1).id(id("cancelled")).store(kept.clone()).into_future());
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(records(&store, "cancelled").await, ["started"]);
    run.abort();
    assert!(run.await.is_err());
    assert_eq!(records(&store, "cancelled").await, ["started", "ended Cancelled"]);

    let _ = flow.resume(kept.clone(), id("cancelled")).await;
    assert_eq!(
        records(&store, "cancelled").await[2..],
        ["resumed", "output f/a", "output f/b", "ended Done"]
    );

    let flow = Flow::new("f").then(pass::<u32>("a")).then(fails("b", 1));
    let _ = flow.run(1).id(id("failed")).store(kept).await;
    assert_eq!(
        records(&store, "failed").await,
        ["started", "output f/a", "failed f/b", "ended Failed"]
    );
}

/// In a file: what a step finished is there before the next one starts, and a torn last record is dropped.
/// (Orchflow does not fsync its file, and writes it after the item.)
#[tokio::test]
async fn line_11_a_torn_record_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.jsonl");
    let (calls, seen) = (Count::default(), Arc::new(Mutex::new(Vec::new())));
    let (sees, reads) = (seen.clone(), file.clone());
    let look = step("look", move |_cx: Context, x: u32| {
        sees.lock().unwrap().push(std::fs::read_to_string(&reads).unwrap());
        async move { Ok(x) }
    });
    let flow = Flow::new("f").then(counted("a", &calls)).then(look).then(counted("b", &calls));
    let store = Arc::new(JsonlStore::new(dir.path()));
    let report = flow.run(7).id(id("r")).store(store.clone()).await;
    assert_eq!(report.into_result().unwrap(), 7);
    drop(store);
    assert!(seen.lock().unwrap()[0].lines().last().unwrap().contains("\"f/a\""));

    // The process was killed while it wrote the output of `b`.
    let text = std::fs::read_to_string(&file).unwrap();
    let of_b = text.find(r#""f/b""#).unwrap();
    std::fs::File::create(&file).unwrap().write_all(&text.as_bytes()[..of_b + 3]).unwrap();
    let report = flow.resume(Arc::new(JsonlStore::new(dir.path())), id("r")).await;
    assert_eq!(report.into_result().unwrap(), 7);
    assert_eq!((calls.get(), seen.lock().unwrap().len()), (3, 1), "only `b` runs again");
}

/// Orchflow writes state and all traces again after every item: 2.6 ms a step grow to 24.9 ms over 200 steps. Here
/// the bytes that a step adds are those of its own output.
#[tokio::test]
async fn line_12_checkpoint_cost_follows_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.jsonl");
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let flow = (0..200).fold(Flow::new("f"), |flow, n| {
        let (sizes, file) = (sizes.clone(), file.clone());
        flow.then(step(&format!("s{n:03}"), move |_cx: Context, _: String| {
            sizes.lock().unwrap().push(std::fs::metadata(&file).unwrap().len());
            async move { Ok("x".repeat(10_000)) }
        }))
    });
    let store = Arc::new(JsonlStore::new(dir.path()).fsync(false));
    let report = flow.run("go".to_owned()).id(id("r")).store(store).await;
    assert!(report.error().is_none());
    let sizes = sizes.lock().unwrap();
    let added: Vec<u64> = sizes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(added.len(), 199);
    for (step, bytes) in added.iter().enumerate() {
        assert!((10_000..10_200).contains(bytes), "step {step} added {bytes} bytes");
    }
}

/// An Orchflow group of which one branch failed reruns whole. Of 10,000 items only the missing one runs.
#[tokio::test]
async fn line_13_only_what_is_missing_runs_again() {
    let (graded, healed) = (Count::default(), Count::default());
    let (grades, heals) = (graded.clone(), healed.clone());
    let grade = step("grade", move |_cx: Context, item: u32| {
        grades.up();
        let fails = item == 9_999 && heals.up() == 1;
        async move { if fails { Err(StepError::failed("down")) } else { Ok(item % 7) } }
    });
    let flow = Flow::new("f").then(each("items", 1, grade));
    let store = Arc::new(MemoryStore::new());
    let items: Vec<u32> = (0..10_000).collect();
    let report = flow.run(items.clone()).id(id("r")).store(store.clone()).await;
    assert_eq!(report.error().unwrap().path, "f/items[9999]/grade");
    assert_eq!(graded.get(), 10_000);
    let report = flow.resume(store, id("r")).await;
    assert_eq!(report.into_result().unwrap(), items.iter().map(|x| x % 7).collect::<Vec<_>>());
    assert_eq!(graded.get(), 10_001);
}

/// The same for different branches, and groups in groups.
#[tokio::test(start_paused = true)]
async fn line_13_a_finished_branch_of_a_failed_group_stays_finished() {
    let (calls, tries) = (Count::default(), Count::default());
    let tried = tries.clone();
    let flaky = step("flaky", move |_cx: Context, x: u32| {
        let first = tried.up() == 1;
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if first { Err(StepError::failed("down")) } else { Ok(x) }
        }
    });
    let inner = all("inner", (counted::<u32>("a", &calls), flaky));
    let flow = Flow::new("f").then(all("outer", (counted::<u32>("b", &calls), inner)));
    let store = Arc::new(MemoryStore::new());
    assert!(flow.run(1).id(id("r")).store(store.clone()).await.error().is_some());
    let (report, events) = watched(flow.resume(store, id("r"))).await;
    assert_eq!(report.into_result().unwrap(), (1, (1, 1)));
    assert_eq!((calls.get(), tries.get()), (2, 2));
    let replayed = events.iter().filter(|event| event.kind == Kind::Replayed).count();
    assert_eq!(replayed, 2);
}

/// After an Orchflow resume, tuples are lists and integer keys are strings.
#[tokio::test]
async fn line_14_the_same_value_after_resume() {
    type Value = (u8, BTreeMap<i32, (char, Option<f64>)>, BTreeSet<(u8, u8)>);
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let sees = seen.clone();
    let make = step("make", async |_cx: Context, x: u8| {
        let map = BTreeMap::from([(-1, ('a', Some(0.1 + 0.2))), (7, ('é', None))]);
        Ok((x, map, BTreeSet::from([(1, 2), (3, 4)])))
    });
    let take = step("take", move |_cx: Context, value: Value| {
        let mut seen = sees.lock().unwrap();
        seen.push(value);
        let first = seen.len() == 1;
        async move { if first { Err(StepError::failed("down")) } else { Ok(()) } }
    });
    let flow = Flow::new("f").then(make).then(take);
    let store = Arc::new(MemoryStore::new());
    assert!(flow.run(1).id(id("r")).store(store.clone()).await.error().is_some());
    assert!(flow.resume(store, id("r")).await.error().is_none());
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1].1[&-1].1.unwrap().to_bits(), (0.1_f64 + 0.2).to_bits());
}

/// An Orchflow value that is not JSON raises after the step ran, and leaves no file and no failure event. Here it fails
/// when it is written, at its path, and no later step sees it.
#[tokio::test]
async fn line_14_a_value_that_does_not_come_back_fails_where_it_is_made() {
    let next = Count::default();
    let counts = next.clone();
    let make =
        step("make", async |_cx: Context, _: u32| Ok(BTreeMap::from([((1_u8, 2_u8), 3_u8)])));
    let take = step("take", move |_cx: Context, _: BTreeMap<(u8, u8), u8>| {
        counts.up();
        async { Ok(()) }
    });
    let flow = Flow::new("f").then(make).then(take);
    let store = MemoryStore::new();
    let (report, events) = watched(flow.run(1).id(id("r")).store(Arc::new(store.clone()))).await;
    let error = report.error().unwrap();
    assert!(matches!(error.kind, ErrorKind::Invalid(_)), "{error}");
    assert_eq!(error.path, "f/make");
    assert_eq!(next.get(), 0);
    assert!(events.iter().any(|event| matches!(event.kind, Kind::StepFailed { .. })));
    assert_eq!(events.last().unwrap().kind, Kind::RunEnded(Ending::Failed));
    assert_eq!(records(&store, "r").await, ["started", "failed f/make", "ended Failed"]);
    // Without a store nothing has to come back.
    assert!(flow.run(1).await.error().is_none());
}
