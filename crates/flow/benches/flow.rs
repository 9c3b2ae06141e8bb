//! What a step, a branch, a run and a record cost: `cargo bench -p agentflow-flow`
//! (`-- --quick` for a look, `-- --runs 99 sequential each` for calm figures of some; `--exact` for names in full).
//!
//! The trace is kept everywhere, and a reader of the live events has to get every single one of them; `no_events` in a
//! name means the same without the reader. The clock starts before a run is made, and stops when its report and its
//! events have been read and dropped. On one thread, unless the name says `multi_thread`: a worker per core.
//!
//! Each figure is the median; fastest and slowest stand beside it. All are measured in turns of ten, so that a busy
//! minute of the machine does not fall on one of them.

#![allow(clippy::print_stdout)] // a benchmark prints its figures

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentflow_flow::{
    Context, Data, End, Flow, JsonlStore, Kind, Node, Run, Store, all, each, step,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const STEPS: usize = 1000;
const BRANCHES: usize = 1000;
/// In one measurement, short enough to be done between two interruptions: 30 of them are 15,000 runs.
const RUNS: usize = 500;
/// Of 1 MB each.
const RECORDS: usize = 20;
/// At the beginning and at the end of a run of a thousand steps with 10 kB of output each.
const SOME: usize = 100;
/// Measurements of the same thing in a row.
const STRETCH: usize = 10;
/// More than any run here has: a reader that loses one would not have read them all.
const EVENTS: usize = 4096;

fn main() -> std::io::Result<()> {
    let one = Builder::new_current_thread().enable_all().build()?;
    let many = Builder::new_multi_thread().enable_all().build()?;
    let mut figures = Figures { arguments: Arguments::read(), all: Vec::new() };
    for (runtime, threads) in [(&one, ""), (&many, "_multi_thread")] {
        for (watched, events) in [(true, ""), (false, "_no_events")] {
            let name = |what: &str| format!("{what}{events}{threads}");
            in_memory(&mut figures, Bench { runtime, watched }, name);
        }
    }
    in_files(&mut figures, Bench { runtime: &one, watched: true });
    figures.measure();
    Ok(())
}

fn in_memory<'a>(figures: &mut Figures<'a>, bench: Bench<'a>, name: impl Fn(&str) -> String) {
    let flow = chain(STEPS);
    figures.add(name("sequential_step"), "us", STEPS, move || bench.time(1, &flow, 0));

    let items = || (0..BRANCHES as u64).collect::<Vec<_>>();
    for (what, at_once) in [("each_branch", BRANCHES), ("each_branch_64_at_once", 64)] {
        let flow = Flow::new("group").then(each("each", at_once, no_op("branch")));
        figures.add(name(what), "us", BRANCHES, move || bench.time(1, &flow, items()));
    }
    let flow = group_of_12();
    figures.add(name("all_branch"), "us", 12 * 100, move || bench.time(100, &flow, 0));

    let flow = chain(3);
    figures.add(name("three_step_run"), "us", RUNS, move || bench.time(RUNS, &flow, 0));
}

fn in_files<'a>(figures: &mut Figures<'a>, bench: Bench<'a>) {
    for (fsync, suffix, steps) in [(false, "", STEPS), (true, "_fsync", SOME)] {
        let name = |what: &str| format!("{what}{suffix}");
        let flow = chain(steps);
        let measure = move || bench.time_kept(1, fsync, &flow, 0);
        figures.add(name("recorded_step"), "us", steps, measure);

        // The text as a list of lines, 1 MB of JSON.
        let lines = async |_cx: Context, _: u64| Ok(vec!["x".repeat(1000); 1000]);
        let flow = (1..RECORDS).fold(Flow::new("large").then(step("fill", lines)), |flow, i| {
            flow.then(no_op(&format!("s{i}")))
        });
        let measure = move || bench.time_kept(1, fsync, &flow, 0);
        figures.add(name("record_1mb"), "ms", RECORDS, measure);
    }
    figures.add("disk_1mb_fsync".to_owned(), "ms", RECORDS, disk);
    figures.add("journal_first_100".to_owned(), "us", SOME, move || bench.growth().0);
    figures.add("journal_last_100".to_owned(), "us", SOME, move || bench.growth().1);
}

fn no_op<T: Data>(name: &str) -> Node<T, T> {
    step(name, async |_cx: Context, value: T| Ok(value))
}

fn chain(steps: usize) -> Flow<u64, u64> {
    (0..steps).fold(Flow::new("chain"), |flow, i| flow.then(no_op(&format!("s{i}"))))
}

fn group_of_12() -> Flow<u64, impl Data> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"].map(no_op);
    Flow::new("group").then(all("all", (a, b, c, d, e, f, g, h, i, j, k, l)))
}

/// How runs are run.
#[derive(Clone, Copy)]
struct Bench<'a> {
    runtime: &'a Runtime,
    watched: bool,
}

impl Bench<'_> {
    /// Of so many runs, one after another.
    fn time<I: Data, O: Data>(self, runs: usize, flow: &Flow<I, O>, input: I) -> Duration {
        let flow = flow.clone();
        self.time_of(runs, move || flow.run(input.clone()))
    }

    /// Of so many runs that keep journals.
    fn time_kept<I: Data, O: Data>(
        self,
        runs: usize,
        fsync: bool,
        flow: &Flow<I, O>,
        input: I,
    ) -> Duration {
        let (_dir, store) = store(fsync);
        let flow = flow.clone();
        self.time_of(runs, move || flow.run(input.clone()).store(store.clone()))
    }

    /// Of the first and of the last steps of a run that keeps a journal, from the start of each to that of the next.
    fn growth(self) -> (Duration, Duration) {
        let starts = Arc::new(Mutex::new(Vec::with_capacity(STEPS)));
        let flow = (0..STEPS).fold(Flow::new("growth"), |flow, i| {
            let starts = starts.clone();
            flow.then(step(&format!("s{i}"), move |_cx: Context, text: String| {
                starts.lock().expect("nothing panics").push(Instant::now());
                async move { Ok(text) }
            }))
        });
        // The second of two in a row: a processor that was idle a moment ago wakes up more slowly.
        self.time_kept(2, false, &flow, "y".repeat(10_000));
        let starts = &starts.lock().expect("nothing panics")[STEPS..];
        (starts[SOME] - starts[0], starts[STEPS - 1] - starts[STEPS - 1 - SOME])
    }

    fn time_of<O: Data>(self, runs: usize, run: impl Fn() -> Run<O> + Send + 'static) -> Duration {
        let watched = self.watched;
        // Spawned: what `block_on` is given stays on its own thread, and would talk to the workers across that.
        let work = self.runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..runs {
                finish(run(), watched).await;
            }
            start.elapsed()
        });
        self.runtime.block_on(work).expect("the bench does not panic")
    }
}

/// One in a directory beside the build, which is on a disk where `/tmp` may be in memory.
fn store(fsync: bool) -> (TempDir, Arc<dyn Store>) {
    let dir = directory();
    let store = JsonlStore::new(dir.path()).fsync(fsync);
    (dir, Arc::new(store))
}

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build can be written to")
}

/// What the disk itself takes for 1 MB after 1 MB.
fn disk() -> Duration {
    let dir = directory();
    let mut file = File::create(dir.path().join("floor")).expect("a file");
    let block = vec![b'x'; 1_000_000];
    let start = Instant::now();
    for _ in 0..RECORDS {
        file.write_all(&block).and_then(|()| file.sync_data()).expect("the disk has room");
    }
    start.elapsed()
}

async fn finish<O: Data>(run: Run<O>, watched: bool) {
    let report = if watched {
        let (mut events, report) = run.events(EVENTS);
        let report = tokio::spawn(report);
        while let Some(event) = events.next().await {
            assert!(!matches!(black_box(event).kind, Kind::Lagged(_)), "an event was lost");
        }
        report.await.expect("a run does not panic")
    } else {
        run.await
    };
    assert!(matches!(black_box(report).end, End::Done(_)), "the run is done");
}

/// What is to be measured, and what was.
struct Figures<'a> {
    arguments: Arguments,
    all: Vec<Figure<'a>>,
}

struct Figure<'a> {
    name: String,
    unit: &'static str,
    measure: Box<dyn Fn() -> f64 + 'a>,
    measured: Vec<f64>,
}

impl<'a> Figures<'a> {
    /// The time of one of the `parts` that `measure` does.
    fn add(
        &mut self,
        name: String,
        unit: &'static str,
        parts: usize,
        measure: impl Fn() -> Duration + 'a,
    ) {
        if self.arguments.want(&name) {
            let scale = if unit == "ms" { 1e3 } else { 1e6 };
            let measure = Box::new(move || measure().as_secs_f64() * scale / parts as f64);
            self.all.push(Figure { name, unit, measure, measured: Vec::new() });
        }
    }

    fn measure(mut self) {
        let runs = self.arguments.runs;
        let mut left = runs;
        while left > 0 {
            let stretch = left.min(STRETCH);
            for Figure { measure, measured, .. } in &mut self.all {
                measure(); // caches, page tables, threads
                measured.extend((0..stretch).map(|_| measure()));
            }
            left -= stretch;
        }
        println!("median of {runs} [fastest .. slowest]");
        for Figure { name, unit, measured, .. } in &mut self.all {
            measured.sort_by(f64::total_cmp);
            let (low, middle, high) = (measured[0], measured[runs / 2], measured[runs - 1]);
            println!("{name:48} {middle:8.3} {unit} [{low:.3} .. {high:.3}]");
        }
        for Figure { name, unit, measured, .. } in &self.all {
            println!("figure flow.{name} {:.3} {unit}", measured[runs / 2]);
        }
        let median = |name: &str| {
            Some(self.all.iter().find(|figure| figure.name == name)?.measured[runs / 2])
        };
        if let (Some(first), Some(last)) = (median("journal_first_100"), median("journal_last_100"))
        {
            println!("figure flow.journal_last_vs_first {:.2} x", last / first);
        }
    }
}

struct Arguments {
    runs: usize,
    exact: bool,
    filters: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let (mut runs, mut exact, mut filters) = (30, false, Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {} // cargo says it
                "--quick" => runs = 3,
                "--runs" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    runs = number.filter(|runs| *runs > 0).expect("`--runs` takes a number");
                }
                "--exact" => exact = true,
                _ => filters.push(argument),
            }
        }
        Self { runs, exact, filters }
    }

    fn want(&self, name: &str) -> bool {
        let fits =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter) };
        self.filters.is_empty() || self.filters.iter().any(fits)
    }
}
