//! A run that is taken up again does what is missing, and nothing else.

use std::io::Write;
use std::sync::{Arc, Mutex};

use agentflow_eval::runner::{End, attempt_seed};
use agentflow_eval::{Outcome, RunDir, RunDirError};
use agentflow_llm::ChatRequest;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, number, right};

/// Right or wrong by the seed alone, as a model that draws.
fn drawn(request: &ChatRequest, _: usize) -> Result<String, agentflow_llm::ChatError> {
    let seed = request.sampling.seed.expect("attempts have seeds");
    Ok((number(request) + usize::from(seed.is_multiple_of(3))).to_string())
}

#[tokio::test]
async fn every_attempt_is_made_once_with_a_seed_of_its_own() {
    let mut bench = Bench::new(20, drawn);
    bench.repeats = 3;
    let finished = bench.run().await.expect("it runs");
    assert_eq!(finished.end, End::Complete);
    let samples = bench.samples();
    assert_eq!(samples.len(), 60);
    for ((problem, repeat), sample) in &samples {
        let seed = attempt_seed(5, problem, *repeat);
        assert_eq!(sample.trajectory.sampling.seed, Some(seed));
        let outcome = if seed.is_multiple_of(3) { Outcome::Wrong } else { Outcome::Right };
        assert_eq!(sample.eval.verdict.outcome, outcome);
        assert_eq!(sample.trajectory.id, format!("{problem}#{repeat}"));
        assert_eq!(sample.trajectory.benchmark.as_deref(), Some("numbers"));
        assert_eq!(sample.trajectory.gold.as_deref(), problem.strip_prefix("n/"));
    }
    let right = samples.values().filter(|sample| sample.trajectory.score == Some(1.0)).count();
    assert_eq!(finished.tally.right, right as u64);
    assert_eq!(finished.tally.tokens(), 600);
    let mut seeds = bench.seeds();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 60);
}

#[tokio::test]
async fn a_run_that_is_interrupted_again_and_again_ends_like_one_that_was_not() {
    let mut whole = Bench::new(30, drawn);
    whole.repeats = 2;
    whole.run().await.expect("it runs");

    // Every ninth request interrupts the run.
    let stop = Arc::new(Mutex::new(CancellationToken::new()));
    let interrupts = stop.clone();
    let mut bench = Bench::new(30, move |request, n| {
        if n % 9 == 8 {
            interrupts.lock().unwrap().cancel();
        }
        drawn(request, n)
    });
    bench.repeats = 2;
    let mut rounds = 0;
    loop {
        bench.cancel = CancellationToken::new();
        *stop.lock().unwrap() = bench.cancel.clone();
        let end = bench.run().await.expect("it runs").end;
        rounds += 1;
        match end {
            End::Complete => break,
            End::Interrupted => assert!(rounds < 100),
            other => panic!("{other:?}"),
        }
    }
    assert!(rounds > 3, "it was interrupted only {rounds} times");
    assert_eq!(bench.samples(), whole.samples());
}

#[tokio::test]
async fn what_is_kept_is_not_asked_again_and_a_torn_line_is() {
    let mut bench = Bench::new(10, right);
    bench.run().await.expect("it runs");
    let whole = bench.samples();
    let record = bench.file("trajectories.jsonl");
    let text = std::fs::read(&record).expect("a record");
    // The last line loses its end, as where the machine died.
    std::fs::write(&record, &text[..text.len() - 40]).expect("writes");
    assert_eq!(bench.run().await.expect("it runs").end, End::Complete);
    assert_eq!(bench.asked(), 11);
    assert_eq!(bench.samples(), whole);
    // And a third time there is nothing to do.
    assert_eq!(bench.run().await.expect("it runs").tally.right, 10);
    assert_eq!(bench.asked(), 11);
}

#[tokio::test]
async fn a_broken_record_is_refused_by_line() {
    let mut bench = Bench::new(3, right);
    bench.run().await.expect("it runs");
    let record = bench.file("trajectories.jsonl");
    let text = std::fs::read_to_string(&record).expect("a record");
    let (first, rest) = text.split_once('\n').expect("lines");
    let spoilt = |text: &str| std::fs::write(&record, text).expect("writes");
    spoilt(&format!("{{}}\n{rest}"));
    let error = bench.run().await.expect_err("line 1 is no sample").to_string();
    assert!(error.starts_with("line 1 of") && error.contains("missing field"), "{error}");
    spoilt(&format!("{}\n{rest}", first.replace("trajectory/1", "trajectory/9")));
    let error = bench.run().await.expect_err("another schema").to_string();
    assert!(error.contains("`agentflow.trajectory/9`, not `agentflow.trajectory/1`"), "{error}");
    spoilt(&format!("{first}\n{first}\n{rest}"));
    let error = bench.run().await.expect_err("twice the same").to_string();
    assert!(error.starts_with("line 2 of") && error.contains("is there twice"), "{error}");
    let mut file = std::fs::OpenOptions::new().append(true).open(&record).expect("opens");
    spoilt(&text);
    file.write_all(b"\xff\xfe\n").expect("writes");
    let error = bench.run().await.expect_err("no text").to_string();
    assert!(error.starts_with("line 4 of"), "{error}");
}

#[tokio::test]
async fn two_cannot_have_one_run() {
    let mut bench = Bench::new(3, right);
    let path = bench.file("");
    let other = RunDir::resume(&path).expect("it is free");
    let error = bench.run().await.expect_err("it is taken");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(other);
    bench.run().await.expect("it is free again");
    let nothing = RunDir::resume(&bench.root().join("no"));
    assert!(matches!(nothing, Err(RunDirError::NotARun { .. })));
}
