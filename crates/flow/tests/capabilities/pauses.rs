//! Row 36: pause and resume.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentflow_flow::{
    Context, Decision, End, Ending, ErrorKind, Flow, Kind, MemoryStore, Next, Pause, Retry, RunId,
    StepError, StoreError, all, approve, ask, each, first_k, repeat, settled, step,
};
use futures::StreamExt;
use serde_json::json;

use super::humans::{Refund, count, counted, memory, said, times, waits_at};

/// A refund that waits for approval, and how often its steps ran.
fn refunds() -> (Flow<Refund, Refund>, [Arc<AtomicU32>; 2]) {
    let counts = [count(), count()];
    let flow = Flow::new("refund").then(counted("check", &counts[0]));
    let gate = approve("gate", |refund: &Refund| refund.clone());
    (flow.then(gate).then(counted("pay", &counts[1])), counts)
}

fn refund() -> Refund {
    Refund { amount: 70, to: "Ada".into() }
}

async fn paused(flow: &Flow<Refund, Refund>, store: &Arc<MemoryStore>) -> Pause {
    let report = flow.run(refund()).store(store.clone()).await;
    let [pause] = report.pauses() else { panic!("{report:?}") };
    pause.clone()
}

/// Row 36: pause and resume. A pause is plain data that survives a letter; with it, the run goes on where it stood, under
/// its name, and nothing is done twice.
#[tokio::test]
async fn a_pause_survives_a_letter() {
    let (flow, [checked, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    assert_eq!(
        (pause.path.as_str(), &pause.question),
        ("refund/gate", &json!({"amount": 70, "to": "Ada"}))
    );
    assert_eq!(pause.question::<Refund>().unwrap(), refund());
    assert!(pause.question::<u32>().is_err());
    assert_eq!((times(&checked), times(&paid)), (1, 0));

    let letter = serde_json::to_string(&pause).unwrap();
    let received: Pause = serde_json::from_str(&letter).unwrap();
    assert_eq!(received, pause);
    let resumed = flow.resume(store, received.run.clone()).decide(&received, Decision::yes()).await;

    assert_eq!(resumed.run, pause.run);
    assert_eq!((times(&checked), times(&paid)), (1, 1));
    assert_eq!(resumed.into_result().unwrap(), refund());
}

/// Row 36: pause and resume. What runs after the pause is what was written before it: nobody can change it in between.
#[tokio::test]
async fn what_was_approved_is_what_runs() {
    let (flow, _) = refunds();
    let store = memory();
    let mut pause = paused(&flow, &store).await;
    pause.question = json!({"amount": 7000, "to": "Mallory"});
    let run = pause.run.clone();
    let resumed = flow.resume(store, run).decide(&pause, Decision::yes()).await;
    assert_eq!(resumed.into_result().unwrap(), refund());
}

/// Row 36: pause and resume. Resumed without an answer, a run waits on, for the same answer.
#[tokio::test]
async fn without_an_answer_it_waits_on() {
    let (flow, [checked, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let again = flow.resume(store.clone(), pause.run.clone()).await;
    assert_eq!(again.pauses(), std::slice::from_ref(&pause));
    assert_eq!((times(&checked), times(&paid)), (1, 0));
    let resumed = flow.resume(store, pause.run.clone()).decide(&pause, Decision::yes()).await;
    assert!(matches!(resumed.end, End::Done(_)));
}

/// Row 36: pause and resume. A no after a pause is as final as a no at once.
#[tokio::test]
async fn a_no_after_a_pause_is_final() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let resume = || flow.resume(store.clone(), pause.run.clone());
    assert_eq!(said(resume().decide(&pause, Decision::no()).await), "`refund/gate`: denied");
    assert!(said(resume().await).ends_with("denied"));
    assert!(said(resume().decide(&pause, Decision::yes()).await).contains("was answered before"));
    assert_eq!(times(&paid), 0);
}

/// Row 36: pause and resume. A token is good for one answer; a second one does nothing.
#[tokio::test]
async fn a_token_is_good_for_one_answer() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let resume = || flow.resume(store.clone(), pause.run.clone()).decide(&pause, Decision::yes());
    assert!(resume().await.error().is_none());

    let second = resume().await;

    assert!(matches!(second.error().unwrap().kind, ErrorKind::Refused(_)));
    assert_eq!(
        said(second),
        "`refund`: the question at `refund/gate` was answered before, and a token is good for one answer; \
         resume the run without it"
    );
    assert_eq!(times(&paid), 1);
}

/// Row 36: pause and resume. Two answers at a time are refused, and neither is taken.
#[tokio::test]
async fn two_answers_to_one_question_are_refused() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let resume = || flow.resume(store.clone(), pause.run.clone()).decide(&pause, Decision::yes());
    assert_eq!(
        said(resume().decide(&pause, Decision::no()).await),
        "`refund`: two answers were given to the question at `refund/gate`, and a token is good for one; \
         decide on one of them"
    );
    assert_eq!(times(&paid), 0);
    assert!(matches!(resume().await.end, End::Done(_)));
}

/// Row 36: pause and resume. The token of another run opens nothing, and takes nothing from a good one beside it.
#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let (pause, other) = (paused(&flow, &store).await, paused(&flow, &store).await);
    assert_ne!(pause.token, other.token);
    let resume = || flow.resume(store.clone(), pause.run.clone());
    let message = "`refund`: the run did not ask at `refund/gate` with this token; \
                   answer the pause that its last report holds";
    assert_eq!(said(resume().decide(&other, Decision::yes()).await), message);
    let elsewhere = Pause { path: "refund/pay".to_owned(), ..pause.clone() };
    assert!(said(resume().decide(&elsewhere, true).await).contains("did not ask at `refund/pay`"));
    let both = resume().decide(&pause, Decision::yes()).decide(&other, Decision::yes());
    assert_eq!(said(both.await), message);
    assert_eq!(times(&paid), 0);
    assert!(matches!(resume().decide(&pause, Decision::yes()).await.end, End::Done(_)));
}

/// Row 36: pause and resume. An answer is for a run that asked, not for one that begins.
#[tokio::test]
async fn a_run_that_begins_takes_no_answers() {
    let (flow, [checked, _]) = refunds();
    let pause = paused(&flow, &memory()).await;
    let store = memory();
    let begins = flow.run(refund()).store(store.clone()).decide(&pause, Decision::yes()).await;
    assert_eq!(
        said(begins),
        "`refund`: an answer to `refund/gate` was given to a run that begins; resume the run that asked"
    );
    let kept_nowhere = flow.run(refund()).decide(&pause, Decision::yes()).await;
    assert!(said(kept_nowhere).contains("was given to a run that begins"));
    assert_eq!(times(&checked), 1);
    assert!(store.runs().is_empty());
}

/// Row 36: pause and resume. An answer that is none is refused with what it should be; the question stays open.
#[tokio::test]
async fn an_answer_of_another_type_is_refused() {
    let (flow, [checked, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let resume = || flow.resume(store.clone(), pause.run.clone());

    for _ in 0..2 {
        let refused = resume().decide(&pause, "go ahead".to_owned()).await;
        assert!(matches!(refused.error().unwrap().kind, ErrorKind::Refused(_)), "{refused:?}");
        let message = said(refused);
        let (what, remedy) = (
            "the answer is no `agentflow_flow::ask::Decision`: invalid type: string \"go ahead\"",
            "; resume the run with another answer to the same pause",
        );
        assert!(message.starts_with("`refund/gate`") && message.contains(what), "{message}");
        assert!(message.ends_with(remedy), "{message}");
    }
    assert_eq!(resume().await.pauses(), std::slice::from_ref(&pause));
    assert_eq!((times(&checked), times(&paid)), (1, 0));
    let resumed = resume().decide(&pause, Decision::yes()).await;
    assert_eq!(resumed.into_result().unwrap(), refund());
    assert_eq!(times(&paid), 1);
}

/// Row 36: pause and resume. Who answers at once wins over pausing, also in a run that is resumed; the pause is then spent.
#[tokio::test]
async fn an_answerer_wins_over_pausing() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let at_once =
        flow.run(refund()).store(store.clone()).answer(async |_: Refund| Ok(Decision::yes()));
    assert!(matches!(at_once.await.end, End::Done(_)));

    let pause = paused(&flow, &store).await;
    let resume = || flow.resume(store.clone(), pause.run.clone());
    let resumed = resume().answer(async |_: Refund| Ok(Decision::yes())).await;
    assert!(matches!(resumed.end, End::Done(_)));
    assert!(said(resume().decide(&pause, Decision::no()).await).contains("was answered before"));
    assert_eq!(times(&paid), 2);
}

/// Row 36: pause and resume. The answer in the journal wins over everybody: nobody is asked a second time.
#[tokio::test]
async fn nobody_is_asked_twice() {
    let asked = count();
    let fails_once = step("pay", async |cx: Context, r: Refund| match cx.attempt() {
        1 => Err(StepError::failed("declined")),
        _ => Ok(r),
    });
    let gate = approve("gate", |refund: &Refund| refund.clone()).unrecorded();
    let flow = Flow::new("f").then(gate).then(fails_once);
    let store = memory();
    let calls = asked.clone();
    let answer = move |_: Refund| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Decision::yes()) }
    };
    let report = flow.run(refund()).store(store.clone()).answer(answer.clone()).await;
    assert!(report.error().is_some());
    let resumed = flow.resume(store, report.run.clone()).answer(answer).await;
    assert!(matches!(resumed.end, End::Done(_)));
    assert_eq!(times(&asked), 1);
}

/// Row 36: pause and resume. In a group, the others finish first; each branch asks for itself, and the answers may come
/// one by one. What was finished is not done again.
#[tokio::test]
async fn a_group_pauses_when_the_others_are_done() {
    let done = count();
    let slow = step("slow", async |_cx: Context, x: u32| {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Ok(x)
    });
    let slow = Flow::new("slow").then(slow).then(counted("done", &done));
    let gates = (approve("legal", |x: &u32| *x), slow, ask::<_, _, String>("press", |x: &u32| *x));
    let flow = Flow::new("f").then(all("g", gates));
    let store = memory();

    let first = flow.run(7).store(store.clone()).await;
    assert_eq!(waits_at(&first), ["f/g/legal", "f/g/press"]);
    assert_eq!(times(&done), 1);
    let (legal, press) = (&first.pauses()[0], &first.pauses()[1]);
    assert_ne!(legal.token, press.token);

    let resume = || flow.resume(store.clone(), first.run.clone());
    let second = resume().decide(press, "no comment".to_owned()).await;
    assert_eq!(second.pauses(), std::slice::from_ref(legal));
    let third = resume().decide(legal, Decision::yes()).await;

    assert_eq!(third.into_result().unwrap(), (7, 7, (7, "no comment".to_owned())));
    assert_eq!(times(&done), 1);
}

/// Row 36: pause and resume. Several pauses can be answered at once.
#[tokio::test]
async fn several_answers_can_come_at_once() {
    let flow = Flow::new("f").then(each("e", 2, approve("gate", |x: &u32| *x)));
    let store = memory();
    let report = flow.run(vec![1, 2, 3]).store(store.clone()).await;
    assert_eq!(waits_at(&report), ["f/e[0]/gate", "f/e[1]/gate", "f/e[2]/gate"]);
    let mut resumed = flow.resume(store, report.run.clone());
    for pause in report.pauses() {
        resumed = resumed.decide(pause, Decision::yes());
    }
    assert_eq!(resumed.await.into_result().unwrap(), [1, 2, 3]);
}

/// Row 36: pause and resume. Of a list, only the items that ask wait, with one worker as with many.
#[tokio::test]
async fn of_a_list_only_what_asks_waits() {
    for workers in [1, 3] {
        let done = count();
        let gate = agentflow_flow::switch("size")
            .when("large", |x: &u32| *x > 100, approve("gate", |x: &u32| *x))
            .otherwise(async |_cx: Context, x: u32| Ok(x));
        let item = Flow::new("item").then(gate).then(counted("done", &done));
        let flow = Flow::new("f").then(each("e", workers, item));
        let store = memory();

        let report = flow.run(vec![200, 1, 300, 2, 3]).store(store.clone()).await;
        assert_eq!(
            waits_at(&report),
            ["f/e[0]/item/size/large/gate", "f/e[2]/item/size/large/gate"]
        );
        assert_eq!(times(&done), 3);
        let (first, second) = (&report.pauses()[0], &report.pauses()[1]);
        let resume = || flow.resume(store.clone(), report.run.clone());
        assert_eq!(
            resume().decide(first, Decision::yes()).await.pauses(),
            std::slice::from_ref(second)
        );
        let resumed = resume().decide(second, Decision::yes()).await;
        assert_eq!(resumed.into_result().unwrap(), [200, 1, 300, 2, 3]);
        assert_eq!(times(&done), 5);
    }
}

/// Row 36: pause and resume. A loop may pause in every hop; each question is its own.
#[tokio::test]
async fn a_loop_may_pause_in_every_hop() {
    let hops = count();
    let more = step("more", async |_cx: Context, (draft, comment): (String, String)| {
        Ok(match comment.as_str() {
            "" => Next::Done(draft),
            _ => Next::Again(format!("{draft} {comment}")),
        })
    });
    let hop = Flow::new("hop")
        .then(counted("write", &hops))
        .then(ask("review", String::clone))
        .then(more);
    let flow = Flow::new("f").then(repeat("drafts", 5, hop));
    let store = memory();

    let mut report = flow.run("a".to_owned()).store(store.clone()).await;
    for (hop, comment) in ["b", "c", ""].into_iter().enumerate() {
        let pause = report.pauses()[0].clone();
        assert_eq!(pause.path, format!("f/drafts[{hop}]/hop/review"));
        assert_eq!(pause.question, ["a", "a b", "a b c"][hop]);
        report =
            flow.resume(store.clone(), pause.run.clone()).decide(&pause, comment.to_owned()).await;
    }
    assert_eq!(report.into_result().unwrap(), "a b c");
    assert_eq!(times(&hops), 3);
}

/// Row 36: pause and resume. A child can pause as its parent can; so can one that is called, whose caller runs again up
/// to the call.
#[tokio::test]
async fn children_can_pause() {
    let (before, inside) = (count(), count());
    let child =
        Flow::new("child").then(counted("first", &inside)).then(approve("gate", |x: &u32| *x));
    let (called, calls) = (child.clone(), before.clone());
    let caller = step("caller", move |cx: Context, x: u32| {
        calls.fetch_add(1, Ordering::SeqCst);
        let called = called.clone();
        async move { Ok(cx.call("call", &called, x).await? + 1) }
    });
    let flow = Flow::new("f").then(child).then(caller.retry(Retry::at_once(3)));
    let store = memory();

    let first = flow.run(7).store(store.clone()).await;
    assert_eq!(waits_at(&first), ["f/child/gate"]);
    let resume = || flow.resume(store.clone(), first.run.clone());
    let second = resume().decide(&first.pauses()[0], Decision::yes()).await;
    assert_eq!(waits_at(&second), ["f/caller/call/gate"]);
    let third = resume().decide(&second.pauses()[0], Decision::yes()).await;

    assert_eq!(third.into_result().unwrap(), 8);
    assert_eq!(
        (times(&before), times(&inside)),
        (2, 2),
        "the caller twice, each child's step once"
    );
}

/// Row 36: pause and resume. To wait is no failure: it uses up no attempt, and no timeout runs on while nobody is there.
#[tokio::test(start_paused = true)]
async fn waiting_uses_nothing_up() {
    let gate =
        approve("gate", |x: &u32| *x).retry(Retry::at_once(2)).timeout(Duration::from_secs(1));
    let group = all("g", (gate,)).retry(Retry::at_once(2)).timeout(Duration::from_secs(1));
    let flow = Flow::new("f").then(settled("s", group));
    let store = memory();
    let mut report = flow.run(7).store(store.clone()).await;
    for _ in 0..5 {
        assert_eq!(waits_at(&report), ["f/s/g/gate"]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        report = flow.resume(store.clone(), report.run.clone()).await;
    }
    let resumed =
        flow.resume(store, report.run.clone()).decide(&report.pauses()[0], Decision::yes()).await;
    assert!(resumed.trace.iter().all(|attempt| attempt.attempt == 1));
    assert_eq!(resumed.into_result().unwrap().unwrap(), (7,));
}

/// Row 36: pause and resume. A branch that fails fails the group, also while another waits; after it has healed, the same
/// question is still open.
#[tokio::test]
async fn a_failure_wins_over_a_pause() {
    let fails_once = step("fails", async |cx: Context, x: u32| match cx.attempt() {
        1 => Err(StepError::failed("no")),
        _ => Ok(x),
    });
    let flow = Flow::new("f").then(all("g", (approve("gate", |x: &u32| *x), fails_once)));
    let store = memory();
    let failed = flow.run(7).store(store.clone()).await;
    assert!(failed.pauses().is_empty());
    assert_eq!(failed.error().unwrap().to_string(), "`f/g/fails`: no");
    let paused = flow.resume(store.clone(), failed.run.clone()).await;
    assert_eq!(waits_at(&paused), ["f/g/gate"]);
    let resumed =
        flow.resume(store, failed.run.clone()).decide(&paused.pauses()[0], Decision::yes()).await;
    assert_eq!(resumed.into_result().unwrap(), (7, 7));
}

/// Row 36: pause and resume. A question whose branch is not wanted any more is not put to anybody: a report has the
/// pauses that the run really waits for.
#[tokio::test]
async fn a_question_that_nobody_waits_for_is_withdrawn() {
    let fails = step("fails", async |_cx: Context, _: u32| -> Result<u32, StepError> {
        Err(StepError::failed("no"))
    });
    let group = all("g", (approve("early", |x: &u32| *x), fails));
    let flow = Flow::new("f").then(settled("s", group)).then(approve("late", |_: &_| 0_u32));
    let report = flow.run(7).store(memory()).await;
    assert_eq!(waits_at(&report), ["f/late"]);

    let racer = agentflow_flow::switch("size")
        .when("large", |x: &u32| *x > 100, approve("gate", |x: &u32| *x))
        .otherwise(async |_cx: Context, x: u32| Ok(x));
    let flow = Flow::new("f").then(first_k("k", 1, racer)).then(approve("late", |_: &_| 0_u32));
    let report = flow.run(vec![200, 1]).store(memory()).await;
    assert_eq!(waits_at(&report), ["f/late"]);
}

/// Row 36: pause and resume. Events tell that somebody is asked, and that the run waits; the trace does, too.
#[tokio::test]
async fn a_pause_is_told() {
    let (flow, _) = refunds();
    let (events, report) = flow.run(refund()).store(memory()).events(64);
    let report = report.await;
    assert_eq!(format!("{:?}", report.trace.last().unwrap().outcome), "Paused");
    let kinds: Vec<Kind> = events.map(|event| event.kind).collect().await;
    let question = json!({"amount": 70, "to": "Ada"});
    assert_eq!(kinds[kinds.len() - 2..], [Kind::Asked(question), Kind::RunEnded(Ending::Paused)]);
}

/// Row 36: pause and resume. Two who answer at the same moment: one goes on, the other is refused.
#[tokio::test]
async fn two_who_resume_at_once_do_not_both() {
    let (flow, [_, paid]) = refunds();
    let slow = step("slow", async |_cx: Context, r: Refund| {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Ok(r)
    });
    let flow = flow.then(slow);
    let store = memory();
    let pause = paused(&flow, &store).await;
    let resume = || {
        let run = flow.resume(store.clone(), pause.run.clone());
        run.decide(&pause, Decision::yes()).into_future()
    };
    let (one, two) = tokio::join!(resume(), resume());
    assert!(matches!(one.end, End::Done(_)));
    assert!(matches!(two.error().unwrap().kind, ErrorKind::Store(StoreError::Leased { .. })));
    assert_eq!(times(&paid), 1);
}

/// Row 36: pause and resume. A flow that was changed meanwhile does not take the answer: it would be for another step. The
/// one that asked still can.
#[tokio::test]
async fn a_changed_flow_does_not_take_the_answer() {
    let (flow, [_, paid]) = refunds();
    let store = memory();
    let pause = paused(&flow, &store).await;
    let changed = Flow::new("refund")
        .then(counted::<Refund>("check", &count()))
        .then(approve("gate", |refund: &Refund| refund.clone()))
        .then(counted("transfer", &paid));
    let refused =
        changed.resume(store.clone(), pause.run.clone()).decide(&pause, Decision::yes()).await;
    let wanted = format!(
        "`refund`: the flow has changed since run `{}` began: node 4 was `pay (step)`, and is `transfer (step)` now; \
         resume with the version that began it, or start a new run",
        pause.run
    );
    assert_eq!(said(refused), wanted);
    assert_eq!(times(&paid), 0);
    let resumed = flow.resume(store, pause.run.clone()).decide(&pause, Decision::yes()).await;
    assert!(matches!(resumed.end, End::Done(_)));
}

/// Row 36: pause and resume. A run nobody knows cannot be resumed, whatever is answered.
#[tokio::test]
async fn an_unknown_run_is_not_resumed() {
    let (flow, _) = refunds();
    let pause = paused(&flow, &memory()).await;
    let id = RunId::new("nobody").unwrap();
    let resumed = flow.resume(memory(), id).decide(&pause, Decision::yes()).await;
    assert_eq!(said(resumed), "`refund`: there is no run `nobody` in memory");
}
