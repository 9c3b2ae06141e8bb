//! Rows 26 to 28: shared state, context, envelope.

use std::sync::Arc;
use std::time::Duration;

use agentflow_flow::{
    Context, Data, ErrorKind, Flow, MemoryStore, Node, Retry, RunId, StepError, all, approve, each,
    step,
};
use tokio::sync::Barrier;

struct Prices(u32);
struct Stock(u32);

/// A step whose output is `look` at its context.
fn see<O: Data>(name: &str, look: fn(&Context) -> O) -> Node<u32, O> {
    step(name, move |cx: Context, _: u32| async move { Ok(look(&cx)) })
}

/// Row 26: shared state. The value that flows is the state: a step sees what the one before it made, and nobody else's.
#[tokio::test]
async fn branches_cannot_race_on_the_state() {
    let add = |name: &'static str| {
        step(name, move |_cx: Context, mut seen: Vec<String>| async move {
            for part in 0..3 {
                seen.push(format!("{name}{part}"));
                tokio::task::yield_now().await;
            }
            Ok(seen)
        })
    };
    let flow = Flow::new("f").then(all("g", (add("a"), add("b"))));

    let (a, b) = flow.run(vec!["start".to_owned()]).await.into_result().unwrap();

    assert_eq!(a, ["start", "a0", "a1", "a2"]);
    assert_eq!(b, ["start", "b0", "b1", "b2"]);
}

/// Row 26: shared state. What a run was provided with, every step can reach by its type, in groups and children, too.
#[tokio::test]
async fn what_was_provided_is_found_by_type() {
    let price = || see("price", |cx| cx.get::<Prices>().map(|prices| prices.0));
    let stock = || see("stock", |cx| cx.get::<Stock>().map(|stock| stock.0));
    let flow = Flow::new("f").then(all("g", (Flow::new("child").then(price()), stock())));

    let run = flow.run(0).provide(Arc::new(Prices(7))).provide(Arc::new(Stock(3)));
    assert_eq!(run.await.into_result().unwrap(), (Some(7), Some(3)));

    let one_only = flow.run(0).provide(Arc::new(Prices(7)));
    assert_eq!(one_only.await.into_result().unwrap(), (Some(7), None));

    let last_wins = flow.run(0).provide(Arc::new(Prices(1))).provide(Arc::new(Prices(2)));
    assert_eq!(last_wins.await.into_result().unwrap(), (Some(2), None));
}

/// Row 26: shared state. It is shared, not copied.
#[tokio::test]
async fn what_was_provided_is_the_very_thing() {
    let prices = Arc::new(Prices(7));
    let same = prices.clone();
    let look = step("look", move |cx: Context, _: u32| {
        let same = Arc::ptr_eq(&cx.get::<Prices>().unwrap(), &same);
        async move { Ok(same) }
    });
    let run = Flow::new("f").then(look).run(0).provide(prices);
    assert!(run.await.into_result().unwrap());
}

/// Row 26: shared state. What is needed and missing is named, with what to do, and is not tried again.
#[tokio::test]
async fn what_is_needed_and_missing_is_named() {
    let need = step("need", async |cx: Context, _: u32| Ok(cx.need::<Prices>()?.0));
    let flow = Flow::new("f").then(need).retry(Retry::at_once(3));

    assert_eq!(flow.run(0).provide(Arc::new(Prices(7))).await.into_result().unwrap(), 7);
    let error = flow.run(0).await.into_result().unwrap_err();

    assert!(matches!(error.kind, ErrorKind::Fatal(_)), "{error:?}");
    let wanted = format!(
        "`f/need`: the run was not provided with a `{}`; add it with `Run::provide`",
        std::any::type_name::<Prices>()
    );
    assert_eq!(error.to_string(), wanted);
}

/// Row 27: step context. It says which run, where, which attempt, and how long there is.
#[tokio::test(start_paused = true)]
async fn a_context_says_where_it_is() {
    let where_am_i = step("where", async |cx: Context, _: u32| {
        if cx.attempt() == 1 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            return Err(StepError::failed("once more"));
        }
        Ok((cx.run_id().to_string(), cx.path().to_string(), cx.attempt(), cx.remaining()))
    });
    let flow = Flow::new("f").then(all("g", (where_am_i.retry(Retry::at_once(2)),)));

    let run = flow.run(0).id(RunId::new("mine").unwrap()).deadline(Duration::from_secs(10));
    let ((run, path, attempt, remaining),) = run.await.into_result().unwrap();

    assert_eq!((run.as_str(), path.as_str(), attempt), ("mine", "f/g/where", 2));
    assert_eq!(remaining, Some(Duration::from_secs(6)));
    let limitless = see("left", |cx| cx.remaining());
    assert_eq!(Flow::new("f").then(limitless).run(0).await.into_result().unwrap(), None);
}

/// Row 27: step context. A branch and a hop know their number.
#[tokio::test]
async fn a_path_has_its_parts() {
    let number = see("number", |cx| {
        let branch = cx.path().parent().unwrap().clone();
        (cx.path().name().to_owned(), branch.name().to_owned(), branch.index())
    });
    let flow = Flow::new("f").then(each("e", 2, number));
    let seen = flow.run(vec![0, 0]).await.into_result().unwrap();
    let part = |index| ("number".to_owned(), "e".to_owned(), Some(index));
    assert_eq!(seen, [part(0), part(1)]);
}

/// Row 27: step context. The idempotency key names the purpose, not the attempt: it is the same when the step is tried
/// again, when a group around it is, and after a resume.
#[tokio::test]
async fn the_key_is_the_same_on_every_attempt_and_after_a_resume() {
    let keys = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = keys.clone();
    let pay = step("pay", move |cx: Context, works: u32| {
        note.lock().unwrap().push(cx.key());
        async move { if works > 0 { Ok(0) } else { Err(StepError::failed("declined")) } }
    });
    let group = all("order", (pay.retry(Retry::at_once(2)),)).retry(Retry::at_once(2));
    let flow = Flow::new("f").then(group);
    let store = Arc::new(MemoryStore::new());
    let id = RunId::new("mine").unwrap();

    let report = flow.run(0).id(id.clone()).store(store.clone()).await;
    assert!(report.error().is_some());
    let before = std::mem::take(&mut *keys.lock().unwrap());
    let report = flow.resume(store, id).await;
    assert!(report.error().is_some());

    assert_eq!(before, vec!["mine/f/order/pay"; 4]);
    let after = keys.lock().unwrap().clone();
    assert!(!after.is_empty() && after.iter().all(|key| key == "mine/f/order/pay"), "{after:?}");
}

/// Row 27: step context. Other items, hops and runs have other keys.
#[tokio::test]
async fn keys_of_other_purposes_differ() {
    let flow = Flow::new("f").then(each("e", 2, see("pay", |cx| cx.key())));
    let keys = async |id: &str| {
        flow.run(vec![0, 0]).id(RunId::new(id).unwrap()).await.into_result().unwrap()
    };
    assert_eq!(keys("one").await, ["one/f/e[0]/pay", "one/f/e[1]/pay"]);
    assert_eq!(keys("two").await, ["two/f/e[0]/pay", "two/f/e[1]/pay"]);
}

/// Row 28: envelope. Headers are those of the run, in all that is below it.
#[tokio::test]
async fn headers_are_inherited() {
    let tenant = |name: &str| see(name, |cx| cx.header("tenant").map(str::to_owned));
    let child = Flow::new("child").then(tenant("inside"));
    let calls = step("calls", {
        let child = child.clone();
        move |cx: Context, x: u32| {
            let child = child.clone();
            async move { cx.call("callee", &child, x).await }
        }
    });
    let flow = Flow::new("f").then(all("g", (tenant("here"), child, calls)));

    let acme = Some("acme".to_owned());
    let run = flow.run(0).header("tenant", "acme").header("topic", "refunds");
    assert_eq!(run.await.into_result().unwrap(), (acme.clone(), acme.clone(), acme));
    assert_eq!(flow.run(0).await.into_result().unwrap(), (None, None, None));
}

/// Row 28: envelope. What is set twice is the later one, so that defaults can be overridden: headers as well as budgets.
#[tokio::test]
async fn the_later_option_wins() {
    let flow = Flow::new("f").then(step("see", async |cx: Context, _: u32| {
        cx.spend("tokens", 10)?;
        Ok(cx.header("tenant").map(str::to_owned))
    }));
    let run = flow.run(0).header("tenant", "default").header("topic", "x").header("tenant", "acme");
    let run = run.budget("tokens", 5).budget("tokens", 50);
    assert_eq!(run.await.into_result().unwrap().as_deref(), Some("acme"));
}

/// Row 28: envelope. Two runs of one flow at the same time never get each other's values, headers, things or answers:
/// they meet in the middle of every step, and in the middle of a group.
#[tokio::test]
async fn two_runs_at_once_never_mix() {
    let meet = |name: &str| {
        step(name, async |cx: Context, x: u32| {
            cx.need::<Barrier>()?.wait().await;
            let own = cx.need::<Prices>()?.0;
            cx.progress(own);
            let header = cx.header("own").map(str::to_owned);
            if header == Some(own.to_string()) && x == own {
                Ok(x)
            } else {
                Err(StepError::fatal("mixed"))
            }
        })
    };
    let group = all("g", (meet("b"), meet("c")));
    let sum = step("sum", async |_cx: Context, (b, c): (u32, u32)| Ok(b + c));
    let gate = approve("gate", |x: &u32| *x);
    let flow = Flow::new("f").then(meet("a")).then(group).then(sum).then(gate);
    let barrier = Arc::new(Barrier::new(2));
    let run = |own: u32| {
        let run = flow.run(own).header("own", &own.to_string()).provide(Arc::new(Prices(own)));
        run.provide(barrier.clone()).answer(move |asked: u32| async move {
            let decision = agentflow_flow::Decision::yes();
            if asked == 2 * own { Ok(decision) } else { Err(StepError::fatal("mixed")) }
        })
    };
    // Each step of one run waits for a step of the other one; in the group, for any of the other three.
    let (one, two) = tokio::join!(run(10).into_future(), run(100).into_future());

    assert_ne!(one.run, two.run);
    assert_eq!(one.into_result().unwrap(), 20);
    assert_eq!(two.into_result().unwrap(), 200);
}
