//! Attempts that fail: tried again, kept by cause, made again on resume.

use std::collections::BTreeSet;

use agentflow_eval::Outcome;
use agentflow_eval::runner::{End, Event};
use agentflow_llm::ChatError;

use crate::bench::{Bench, down, number, right};

fn kept_errors(bench: &Bench) -> Vec<String> {
    let samples = bench.samples();
    samples.values().filter_map(|sample| sample.trajectory.error.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_heals_is_tried_again() {
    // Each problem fails once.
    let seen = std::sync::Mutex::new(BTreeSet::new());
    let mut bench = Bench::new(6, move |request, n| {
        if seen.lock().unwrap().insert(number(request)) { Err(down()) } else { right(request, n) }
    });
    bench.retries = 1;
    let finished = bench.run().await.expect("it runs");
    assert_eq!((finished.end, finished.tally.right, finished.tally.failed), (End::Complete, 6, 0));
    let again = bench.events.iter().filter(|event| matches!(event, Event::TriedAgain { .. }));
    assert_eq!(again.count(), 6);
    let log = std::fs::read_to_string(bench.file("events.jsonl")).expect("a log");
    assert_eq!(log.matches("\"event\":\"tried_again\"").count(), 6, "{log}");
    assert_eq!(log.matches("out of memory").count(), 6, "{log}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_kept_by_cause_and_the_rest_goes_on() {
    let mut bench = Bench::new(10, |request, n| match number(request) {
        3 => Err(down()),
        7 => Err(ChatError::BadRequest { text: "`top_p` is odd".to_owned() }),
        _ => right(request, n),
    });
    bench.retries = 2;
    let finished = bench.run().await.expect("it runs");
    assert_eq!((finished.end, finished.tally.right, finished.tally.failed), (End::Complete, 8, 2));
    assert_eq!(bench.asked(), 8 + 2 * 3);
    let errors = kept_errors(&bench);
    assert!(
        errors[0].contains("out of memory") && errors[1].contains("`top_p` is odd"),
        "{errors:?}"
    );
    let failed = &bench.samples()[&("n/3".to_owned(), 0)];
    assert_eq!(failed.eval.verdict.outcome, Outcome::Failed);
    assert_eq!(failed.trajectory.score, None);
}

#[tokio::test]
async fn a_resumed_run_makes_failed_attempts_again_unless_told_otherwise() {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = healthy.clone();
    let mut bench = Bench::new(10, move |request, n| {
        let well =
            now.load(std::sync::atomic::Ordering::SeqCst) || number(request).is_multiple_of(2);
        if well { right(request, n) } else { Err(down()) }
    });
    assert_eq!(bench.run().await.expect("it runs").tally.failed, 5);
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);

    bench.keep_failures = true;
    let finished = bench.run().await.expect("it runs");
    assert_eq!((finished.end, finished.tally.failed), (End::Complete, 5));
    assert_eq!(bench.asked(), 10);

    bench.keep_failures = false;
    let finished = bench.run().await.expect("it runs");
    assert_eq!((finished.tally.right, finished.tally.failed), (10, 0));
    assert_eq!((bench.asked(), bench.samples().len()), (15, 10));
}

#[tokio::test]
async fn fail_fast_ends_at_the_first_failure_and_keeps_what_there_is() {
    let mut bench =
        Bench::new(
            50,
            |request, n| if number(request) == 9 { Err(down()) } else { right(request, n) },
        );
    bench.limits.fail_fast = true;
    bench.concurrency = 2;
    let finished = bench.run().await.expect("it ends");
    let End::FailFast { problem, error } = &finished.end else { panic!("{:?}", finished.end) };
    assert_eq!(problem, "n/9#0");
    assert!(error.contains("out of memory"), "{error}");
    assert!((9..=12).contains(&finished.tally.done()), "{:?}", finished.tally);
    assert_eq!(bench.samples().len() as u64, finished.tally.done());
}

#[tokio::test]
async fn a_model_that_is_gone_ends_the_run_before_all_is_failed() {
    let mut bench =
        Bench::new(500, |request, n| if n < 30 { right(request, n) } else { Err(down()) });
    bench.concurrency = 1;
    let finished = bench.run().await.expect("it ends");
    let End::Failing { in_a_row, .. } = finished.end else { panic!("{:?}", finished.end) };
    assert_eq!((in_a_row, finished.tally.right, finished.tally.failed), (20, 30, 20));
}
