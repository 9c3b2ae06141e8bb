//! A process is killed at 200 random moments of a flow, and started again each time: what it comes to is what it would
//! have come to undisturbed, what was recorded is not done again, and nothing is left out.
#![cfg(unix)] // SIGKILL

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentflow_flow::{
    Context, Flow, JsonlStore, Next, Record, Retry, RunId, Settled, StepError, Store, StoreError,
    all, each, each_settled, repeat, step, switch,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const DIR: &str = "AGENTFLOW_FLOW_KILL_DIR";
const KILLS: usize = 200;
const INPUT: u64 = 20;

/// Steps that the flow below can have in flight at once: four grades, the story and the survey.
const WIDTH: usize = 6;

// ── the flow ──

/// Where a step leaves its path as the last thing that it does: its effect on the world.
struct Effects(File);

/// The work of a leaf: some of them take a moment, most are over at once.
async fn leave(cx: &Context) -> Result<(), StepError> {
    let effects = cx.need::<Effects>()?;
    let path = cx.path().to_string();
    if path.len().is_multiple_of(3) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (&effects.0).write_all(format!("{path}\n").as_bytes())?;
    Ok(())
}

fn mix(x: u64) -> u64 {
    x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ x
}

/// A group with a group in it, a flow in it and a flow chosen at run time; a loop with a choice in it; branches of which
/// some fail; steps that need a second attempt; outputs of some bytes and of 100,000.
fn flow() -> Flow<u64, String> {
    let number = |name: &str| {
        step(name, async |cx: Context, x: u64| {
            leave(&cx).await?;
            Ok(mix(x))
        })
    };
    let flaky = step("flaky", async |cx: Context, x: u64| {
        if cx.attempt() == 1 && x.is_multiple_of(2) {
            return Err(StepError::failed(std::io::Error::other("not at the first attempt")));
        }
        leave(&cx).await?;
        Ok(mix(x))
    });
    let flaky = flaky.retry(Retry::at_once(2));
    let grade = Flow::new("grade").then(number("read")).then(flaky).then(number("mark"));
    let story = step("story", async |cx: Context, items: Vec<u64>| {
        leave(&cx).await?;
        Ok(items.iter().map(|item| format!("{item} ").repeat(600)).collect::<String>())
    });
    let survey = step("survey", async |cx: Context, items: Vec<u64>| {
        let ask = Flow::new("ask").then(step("one", async |cx: Context, x: u64| {
            leave(&cx).await?;
            Ok(mix(x) % 10)
        }));
        let mut sum = 0;
        for (index, item) in items.into_iter().enumerate().take(4) {
            sum += cx.call(&format!("ask {index}"), &ask, item).await?;
        }
        leave(&cx).await?;
        Ok(sum)
    });
    let turn = Flow::new("turn")
        .then(number("think"))
        .then(
            switch("way")
                .when("even", |x: &u64| x.is_multiple_of(2), number("halve"))
                .otherwise(Flow::new("odd").then(number("triple")).then(number("add"))),
        )
        .then(step("decide", async |cx: Context, x: u64| {
            leave(&cx).await?;
            Ok(if x.is_multiple_of(8) { Next::Done(x) } else { Next::Again(x) })
        }));
    let risky = step("risky", async |cx: Context, x: u64| match x % 3 {
        0 => Err(StepError::fatal(std::io::Error::other(format!("{x} is a multiple of 3")))),
        _ => leave(&cx).await.map(|()| x),
    });
    Flow::new("killed")
        .then(step("plan", async |cx: Context, items: u64| {
            leave(&cx).await?;
            Ok((0..items).map(mix).collect::<Vec<u64>>())
        }))
        .then(all("group", (each("grades", 4, grade), story, survey)))
        .then(step("sum", async |cx: Context, (grades, story, survey): (Vec<u64>, String, u64)| {
            leave(&cx).await?;
            Ok(grades.iter().fold(survey + story.len() as u64, |sum, grade| mix(sum ^ grade)))
        }))
        .then(repeat("loop", 100, turn))
        .then(step("spread", async |cx: Context, x: u64| {
            leave(&cx).await?;
            Ok((x..x + 9).collect::<Vec<u64>>())
        }))
        .then(each_settled("risks", 4, risky))
        .then(step("tell", async |cx: Context, risks: Vec<Settled<u64>>| {
            leave(&cx).await?;
            Ok(format!("{risks:?}"))
        }))
}

/// The process that is killed: this binary, started again. Does nothing unless the test below has started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let effects = OpenOptions::new().append(true).create(true).open(dir.join("effects")).unwrap();
    // Only the machine is not to fail here, so nothing has to wait for the disk.
    let store = Arc::new(JsonlStore::new(dir).fsync(false));
    let id = RunId::new("run").unwrap();
    let begun = match store.load(&id).await {
        Ok(records) => !records.is_empty(),
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    let run = match begun {
        true => flow().resume(store, id),
        false => flow().run(INPUT).id(id).store(store),
    };
    let told = run.provide(Arc::new(Effects(effects))).await.into_result().unwrap();
    fs::write(dir.join("result"), told).unwrap();
}

// ── the killing ──

#[test]
fn a_flow_that_is_killed_200_times_ends_as_if_undisturbed() {
    let calm = Calm::new();
    // A flow that does not do much is easy to interrupt well.
    assert!(calm.paths.len() > 80, "{}", calm.paths.len());

    let mut random = StdRng::seed_from_u64(0x6b69_6c6c);
    let mut kills = 0;
    while kills < KILLS {
        kills += run_with_kills(&calm, &mut random);
    }
}

/// The run that nobody disturbs.
struct Calm {
    result: String,
    /// Of all steps with an effect, which are all that are recorded.
    paths: BTreeSet<String>,
    journal_len: u64,
    took: Duration,
}

impl Calm {
    fn new() -> Self {
        let place = Place::new();
        let begun = Instant::now();
        place.check(place.start().wait().unwrap());
        let took = begun.elapsed();
        let effects = place.effects();
        let paths: BTreeSet<String> = effects.iter().cloned().collect();
        assert_eq!(paths.len(), effects.len(), "each step runs once");
        assert_eq!(place.recorded(), once(&paths));
        Self { result: place.result(), paths, journal_len: place.journal_len(), took }
    }
}

/// One run: killed at random moments until it ends before its killer comes. The kills that met the flow at work.
fn run_with_kills(calm: &Calm, random: &mut StdRng) -> usize {
    let place = Place::new();
    let (mut kills, mut done) = (0, 0);
    loop {
        let recorded_before = place.recorded();
        let journal_before = place.journal_len();
        let mut process = place.start();
        // Half of the moments are spread over time; half over progress, which does not depend on how busy the machine is.
        match random.random() {
            true => std::thread::sleep(calm.took.mul_f64(random.random())),
            false => {
                let left = calm.journal_len.saturating_sub(journal_before);
                let len = journal_before + random.random_range(0..=left);
                while place.journal_len() < len && process.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }
        process.kill().unwrap();
        let status = process.wait().unwrap();

        let recorded = place.recorded();
        let effects = place.effects().split_off(done);
        done += effects.len();
        for path in &effects {
            assert!(!recorded_before.contains_key(path), "`{path}` was recorded, and ran again");
        }
        let unrecorded: Vec<&String> =
            effects.iter().filter(|path| !recorded.contains_key(*path)).collect();
        assert!(unrecorded.len() <= WIDTH, "more than was in flight: {unrecorded:?}");
        if status.signal() != Some(9) {
            place.check(status);
            assert_eq!(unrecorded, [""; 0]);
            break;
        }
        kills += usize::from(place.journal_len() > journal_before);
    }
    assert_eq!(place.result(), calm.result);
    assert_eq!(place.recorded(), once(&calm.paths), "every step is recorded once");
    let ran: BTreeSet<String> = place.effects().into_iter().collect();
    assert_eq!(ran, calm.paths, "every step ran");
    kills
}

fn once(paths: &BTreeSet<String>) -> BTreeMap<String, usize> {
    paths.iter().map(|path| (path.clone(), 1)).collect()
}

/// What one run leaves, in a directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self) -> Child {
        let said = File::create(self.file("said")).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIR, self.0.path())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap()
    }

    fn check(&self, status: ExitStatus) {
        let said = || fs::read_to_string(self.file("said")).unwrap();
        assert!(status.success(), "{status}\n{}", said());
    }

    fn result(&self) -> String {
        fs::read_to_string(self.file("result")).unwrap()
    }

    /// The paths that steps have left, in their order.
    fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn journal_len(&self) -> u64 {
        fs::metadata(self.file("run.jsonl")).map_or(0, |file| file.len())
    }

    /// How often each output is in the whole lines of the journal. Read here and not by the store, whose word this is
    /// to check.
    fn recorded(&self) -> BTreeMap<String, usize> {
        let journal = fs::read(self.file("run.jsonl")).unwrap_or_default();
        let whole = journal.split_inclusive(|byte| *byte == b'\n');
        let mut recorded = BTreeMap::new();
        for line in whole.filter(|line| line.ends_with(b"\n")) {
            if let Record::Output { path, .. } = serde_json::from_slice(line).unwrap() {
                *recorded.entry(path).or_default() += 1;
            }
        }
        recorded
    }
}
