//! What servers answer, and what becomes of it.

use agentflow_llm::{ChatError, Usage};
use agentflow_train::label::{Labelled, Labeller, LabellerError, Provenance, Scores};

use crate::sample::{case, usual};
use crate::server::{Answer, Server};

const GOOD: &str = r#"{"step": 2, "reason": "It forgets to add 5.", "progress": 1, "correctness": 0, "tool": 4, "input": 4, "novelty": 4}"#;
const WRONG_STEP: &str = r#"{"step": 1, "reason": "The product is right.", "progress": 4, "correctness": 4, "tool": 4, "input": 4, "novelty": 4}"#;
const SEVEN: &str = r#"{"step": 2, "reason": "Good, 7 of 10.", "progress": 7, "correctness": 7, "tool": 7, "input": 7, "novelty": 7}"#;

async fn label(server: &Server) -> Labelled {
    server.judge("judge").label(&case(usual(), 1)).await.expect("it is answered")
}

/// Why there is no label, and what the judge wrote last.
fn missing(labelled: &Labelled) -> (&str, Option<&str>) {
    let Provenance::Judge { scores: None, reason: None, raw, .. } = &labelled.by else {
        panic!("a missing label has no scores: {labelled:?}");
    };
    (labelled.label.as_ref().expect_err("no label"), raw.as_deref())
}

#[tokio::test]
async fn a_rating_is_asked_for_and_combined() {
    let server = Server::start(&[Answer::Content(GOOD)]).await;
    let labelled = label(&server).await;
    // The weighted mean is 0.425, and a wrong decision gets 0.25 at most.
    assert_eq!(labelled.label, Ok(0.25));
    assert_eq!(labelled.usage, Usage { prompt_tokens: 100, completion_tokens: 20 });
    let Provenance::Judge { model, rubric, scores, reason, raw } = labelled.by else {
        panic!("a judge made it");
    };
    assert_eq!((model.name.as_str(), model.backend.as_str()), ("judge", "openai"));
    assert_eq!(rubric, "rubric/1+gold");
    let grades = Scores { progress: 0.25, correctness: 0.0, tool: 1.0, input: 1.0, novelty: 1.0 };
    assert_eq!(scores, Some(grades));
    assert_eq!(reason.as_deref(), Some("It forgets to add 5."));
    assert_eq!(raw.as_deref(), Some(GOOD));

    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0]["temperature"], &asked[0]["seed"]), (&0.0.into(), &0.into()));
    let schema = &asked[0]["response_format"]["json_schema"];
    assert_eq!(schema["strict"], true);
    // Any step of the attempt, so that a rating of another one shows.
    assert_eq!(schema["schema"]["properties"]["step"]["enum"], serde_json::json!([1, 2]));
}

#[tokio::test]
async fn what_is_no_rating_is_asked_for_once_more_with_the_error_shown() {
    for (bad, problem) in [
        (SEVEN, "`progress` is 7, and grades are whole numbers from 0 to 4"),
        (WRONG_STEP, "it rates step 1, and step 2 was to be rated"),
        ("Looks good, 7 out of 10!", "the reply is no JSON object, but `Looks good, 7 out of 10!`"),
    ] {
        let server = Server::start(&[Answer::Content(bad), Answer::Content(GOOD)]).await;
        let labelled = label(&server).await;
        assert_eq!(labelled.label, Ok(0.25));
        assert_eq!(labelled.usage, Usage { prompt_tokens: 200, completion_tokens: 40 }, "of both");
        let messages = server.asked()[1]["messages"].as_array().expect("messages").clone();
        assert_eq!(messages[2]["content"], bad);
        let again = messages[3]["content"].as_str().expect("text");
        assert!(again.contains(problem) && again.contains("step 2 once more"), "{again}");
    }
}

#[tokio::test]
async fn twice_no_rating_is_missing_with_the_cause_and_never_0() {
    let refusal = "I cannot rate this.";
    for (answer, problem, raw) in [
        (Answer::Refusal(refusal), "the judge refused: `I cannot rate this.`", refusal),
        (
            Answer::Content(SEVEN),
            "`progress` is 7, and grades are whole numbers from 0 to 4",
            SEVEN,
        ),
        (Answer::Content(WRONG_STEP), "it rates step 1, and step 2 was to be rated", WRONG_STEP),
        (Answer::Content("7/10"), "the reply is no JSON object, but `7/10`", "7/10"),
        (Answer::Cut(GOOD), "the reply was cut off after 20 tokens", GOOD),
    ] {
        let server = Server::start(&[answer]).await;
        let labelled = label(&server).await;
        assert_eq!(missing(&labelled), (problem, Some(raw)));
        assert_eq!(server.asked().len(), 2, "{problem}");
        assert_eq!(labelled.usage, Usage { prompt_tokens: 200, completion_tokens: 40 });
    }
}

/// Neither another try nor another run makes it fit.
#[tokio::test]
async fn a_prompt_beyond_the_window_is_missing_at_once() {
    let server = Server::start(&[Answer::TooLong]).await;
    let labelled = label(&server).await;
    let (problem, raw) = missing(&labelled);
    assert!(problem.contains("maximum context length is 4096"), "{problem}");
    assert_eq!((raw, server.asked().len()), (None, 1));
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let server = Server::start(&[Answer::Busy, Answer::Content(GOOD)]).await;
    assert_eq!(label(&server).await.label, Ok(0.25));
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1], "the same question, without a complaint");
}

/// Not a label, and not a missing one: who asks tries again, or leaves it to a resumed run.
#[tokio::test]
async fn a_judge_that_hangs_labels_nothing_and_can_be_asked_later() {
    let server = Server::start(&[Answer::Silence, Answer::Content(GOOD)]).await;
    let judge = server.judge("judge");
    let case = case(usual(), 1);
    let error = judge.label(&case).await.expect_err("nothing came");
    assert!(matches!(error, LabellerError::Chat(ChatError::Timeout { .. })), "{error}");
    assert_eq!(judge.label(&case).await.expect("it answers now").label, Ok(0.25));
}
