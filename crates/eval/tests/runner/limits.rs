//! Runs that end before everything is attempted, and go on with more.

use std::time::Duration;

use agentflow_eval::Prices;
use agentflow_eval::runner::End;

use crate::bench::{Bench, TOKENS, right};

#[tokio::test]
async fn tokens_end_a_run_and_more_of_them_complete_it() {
    let mut bench = Bench::new(20, right);
    bench.limits.max_tokens = Some(10 * TOKENS);
    let finished = bench.run().await.expect("it ends");
    assert!(matches!(finished.end, End::OutOfTokens { limit: 100, .. }), "{:?}", finished.end);
    let done = finished.tally.done();
    // Those under way are finished.
    assert!((10..10 + bench.concurrency as u64).contains(&done), "{done}");

    // What earlier processes spent counts.
    assert!(matches!(bench.run().await.expect("it ends").end, End::OutOfTokens { .. }));
    assert_eq!(bench.asked() as u64, done);
    bench.limits.max_tokens = Some(1000 * TOKENS);
    assert_eq!(bench.run().await.expect("it ends").end, End::Complete);
    assert_eq!((bench.asked(), bench.samples().len()), (20, 20));
}

#[tokio::test]
async fn dollars_end_a_run() {
    let mut bench = Bench::new(20, right);
    // 7 and 3 tokens: a dollar an attempt.
    let prices = Prices { prompt: 1e6 / 14.0, completion: 1e6 / 6.0 };
    bench.limits.max_usd = Some((4.99, prices));
    bench.concurrency = 1;
    let finished = bench.run().await.expect("it ends");
    assert!(matches!(finished.end, End::OutOfMoney { .. }), "{:?}", finished.end);
    assert_eq!(finished.tally.done(), 5);
    assert_eq!(finished.end.to_string(), "the budget of $4.99 is used up ($5.0000 spent)");
}

#[tokio::test]
async fn a_budget_that_is_used_up_with_the_last_attempt_ends_a_complete_run() {
    let mut bench = Bench::new(5, right);
    bench.limits.max_tokens = Some(5 * TOKENS);
    bench.concurrency = 1;
    assert_eq!(bench.run().await.expect("it ends").end, End::Complete);
}

#[tokio::test]
async fn time_cuts_what_is_under_way() {
    let mut bench = Bench::new(2000, |request, n| {
        std::thread::sleep(Duration::from_millis(1));
        right(request, n)
    });
    bench.concurrency = 2;
    bench.limits.max_time = Some(Duration::from_millis(150));
    let finished = bench.run().await.expect("it ends");
    let limit = Duration::from_millis(150);
    assert_eq!(finished.end, End::OutOfTime { limit });
    let first = finished.tally.done();
    assert!(first < 2000);
    bench.limits.max_time = None;
    assert_eq!(bench.run().await.expect("it ends").end, End::Complete);
    assert_eq!(bench.samples().len(), 2000);
}
