//! Replies that cannot be used: one retry with the error shown, then a recorded step that failed.

use agentflow_agent::trajectory::Stop;
use agentflow_llm::{ChatError, ChatReply, Role, Usage};
use serde_json::json;

use crate::bench::Bench;
use crate::scripted::{Turn, decides, decision, judges, reply, says};

#[tokio::test]
async fn a_bad_reply_is_asked_for_once_more_with_the_error_shown() {
    let bench = Bench::new([says("The answer is 72."), decides("answer", "72")]);
    let trajectory = bench.solve("How many?").await;
    assert_eq!(trajectory.answer.as_deref(), Some("72"));

    let requests = bench.planner.requests();
    let [first, second] = &requests[..] else { panic!("{requests:#?}") };
    let (before, after) = second.messages.split_at(first.messages.len());
    assert_eq!(before, first.messages);
    let [said, told] = after else { panic!("{after:#?}") };
    assert_eq!((said.role, &*said.content), (Role::Assistant, "The answer is 72."));
    assert_eq!(told.role, Role::User);
    insta::assert_snapshot!(told.content, @"Your reply could not be used: it is not JSON (expected value at line 1 column 1). Reply with exactly one JSON object with `thought`, `action` and `action_input`, and keep it short.");
    assert_eq!(second.schema, first.schema);

    // What is recorded fits together: these messages led to this reply, at the cost of both tries.
    let [step] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    assert_eq!(step.prompt, second.messages);
    assert_eq!(step.raw, decision("answer", "72").to_string());
    assert_eq!(step.usage, Usage { prompt_tokens: 20, completion_tokens: 10 });
}

#[tokio::test]
async fn two_bad_replies_are_a_failed_step_and_the_loop_goes_on() {
    let bench = Bench::new([
        says("nonsense"),
        says("more nonsense"),
        decides("code", "1 + 1"),
        decides("answer", "2"),
    ]);
    let (solved, events) = bench.watch("1 + 1?").await;
    let trajectory = solved.unwrap();
    let [bad, code, answer] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    assert_eq!((&bad.reply, &*bad.raw), (&None, "more nonsense"));
    assert!(!bad.observation.ok && !bad.verdict.sufficient);
    assert!(bad.observation.text.starts_with("the planner's reply could not be read: "));
    assert_eq!(bad.usage, Usage { prompt_tokens: 20, completion_tokens: 10 });
    assert_eq!((code.index, answer.index), (1, 2));
    assert_eq!(trajectory.stop, Stop::Answered);
    assert!(events[0].starts_with("failed: the planner's reply could not be read"), "{events:?}");

    // The next prompt is a fresh one, which shows the bad reply as a step.
    let next = bench.planner.requests()[2].messages.clone();
    assert_eq!(next.len(), 2);
    assert!(next[1].content.contains("Step 1: more nonsense\nfailed: the planner's reply"));
}

#[tokio::test]
async fn an_action_that_is_not_on_offer_is_not_executed() {
    let bench =
        Bench::new([decides("shell", "rm -rf /"), decides("Code", "1"), decides("answer", "no")]);
    let trajectory = bench.solve("?").await;
    let [bad, _] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    assert_eq!(bad.reply, None);
    let told = bench.planner.requests()[1].messages.last().unwrap().content.clone();
    assert!(told.contains("`action`") && told.contains("shell"), "{told}");
    assert!(told.contains("code") && told.contains("answer"), "{told}");
}

#[tokio::test]
async fn missing_and_mistyped_fields_are_named() {
    for (bad, named) in [
        (json!({ "thought": "t", "action": "code" }), "action_input"),
        (json!({ "thought": "t", "action": "code", "action_input": 72 }), "action_input"),
        (json!({ "thought": "t", "action": "answer", "action_input": " \n" }), "is empty"),
        (json!(["code"]), "object"),
    ] {
        let bench = Bench::new([says(bad.to_string()), decides("answer", "72")]);
        let trajectory = bench.solve("?").await;
        assert_eq!(trajectory.answer.as_deref(), Some("72"), "{bad}");
        let told = bench.planner.requests()[1].messages.last().unwrap().content.clone();
        assert!(told.contains(named), "{told}");
    }
}

#[tokio::test]
async fn a_decision_with_something_around_it_costs_no_retry() {
    let fenced = format!("Here it is:\n```json\n{}\n```", decision("code", "{1: 72}[1]"));
    let mut extra = decision("answer", "72");
    extra["confidence"] = json!(0.9);
    let bench = Bench::new([says(&*fenced), says(extra.to_string())]);
    let trajectory = bench.solve("?").await;
    assert_eq!(trajectory.answer.as_deref(), Some("72"));
    assert_eq!(bench.planner.requests().len(), 2);
    assert_eq!(trajectory.steps[0].raw, fenced);
    assert_eq!(trajectory.steps[0].observation.text, "72");
}

#[tokio::test]
async fn a_long_bad_reply_does_not_fill_the_context() {
    let bench = Bench::new([says("blah ".repeat(10_000)), decides("answer", "72")]);
    bench.solve("?").await;
    let told: usize =
        bench.planner.requests()[1].messages[2..].iter().map(|m| m.content.len()).sum();
    assert!(told < 3000, "{told} bytes");
}

#[tokio::test]
async fn thinking_that_left_no_room_is_switched_off_for_the_retry() {
    let empty = ChatReply { thinking: Some("hm ".repeat(100)), ..reply("") };
    let exhausted = Turn::Error(ChatError::ThinkingExhausted { reply: Box::new(empty) });
    let mut bench = Bench::new([exhausted, decides("code", "72"), decides("answer", "72")]);
    bench.settings.think = true;
    let trajectory = bench.solve("?").await;
    let requests = bench.planner.requests();
    let think: Vec<bool> = requests.iter().map(|request| request.think).collect();
    assert_eq!(think, [true, false, true]);
    // Some servers refuse messages without content.
    assert!(requests[1].messages.iter().all(|message| !message.content.trim().is_empty()));
    assert_eq!(trajectory.steps[0].usage, Usage { prompt_tokens: 20, completion_tokens: 10 });
}

#[tokio::test]
async fn a_verifier_that_cannot_be_read_says_go_on() {
    let exhausted = ChatError::ThinkingExhausted { reply: Box::new(reply("")) };
    for bad in [
        says("yes, sufficient: true"),
        says(r#"{"reason": "r", "sufficient": "true"}"#),
        says(r#"{"sufficient": true}"#),
        says(""),
        Turn::Error(exhausted),
    ] {
        let bench =
            Bench::new([decides("code", "72"), decides("answer", "72")]).judged([bad.clone()]);
        let trajectory = bench.solve("?").await;
        let verdict = &trajectory.steps[0].verdict;
        assert!(!verdict.sufficient, "{bad:?}");
        assert_eq!(verdict.reason, "the verifier's reply could not be read");
        assert_eq!(bench.planner.offered()[1].len(), 4, "all actions are on offer: {bad:?}");
        // It is paid for, though.
        assert_eq!(trajectory.usage, Usage { prompt_tokens: 30, completion_tokens: 15 });
        // And it is not asked again: the planner goes on without.
        assert_eq!(bench.judge.unwrap().requests().len(), 1);
    }
    let readable =
        Bench::new([decides("code", "72"), decides("answer", "72")]).judged([judges(true)]);
    readable.solve("?").await;
    assert_eq!(readable.planner.offered()[1], ["answer"]);
}
