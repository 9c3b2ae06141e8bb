//! The loop as it should go: steps in order, exceptions read, everything recorded.

use agentflow_agent::trajectory::{Decision, Stop, Verdict};
use agentflow_llm::{Role, Usage};

use crate::bench::Bench;
use crate::scripted::{Turn, decides, decision, judges, reply};

#[tokio::test]
async fn think_code_answer_is_told_in_order() {
    let bench = Bench::new([
        decides("think", "15% of 240 is 36"),
        decides("code", "2 * 0.15 * 240"),
        decides("answer", " 72 "),
    ])
    .judged([judges(false), judges(false)]);
    let (solved, events) = bench.watch("What is 15% of 240, then doubled?").await;
    assert_eq!(
        events,
        [
            "step 0: think",
            "result: 15% of 240 is 36",
            "step 0 done, sufficient: false",
            "step 1: code",
            "result: 72.0",
            "step 1 done, sufficient: false",
            "step 2: answer",
            "result:  72 ",
            "step 2 done, sufficient: true",
        ]
    );
    let trajectory = solved.unwrap();
    assert_eq!((trajectory.stop, trajectory.answer.as_deref()), (Stop::Answered, Some("72")));
}

#[tokio::test]
async fn the_record_is_complete() {
    let mut first = reply(decision("code", "6 * 7").to_string());
    first.thinking = Some("hm".to_owned());
    first.token_ids = Some(vec![3, 1, 4]);
    first.logprobs = Some(vec![-0.5, -0.25, -1.0]);
    let bench = Bench::new([Turn::Reply(first), decides("answer", "42")]).judged([judges(false)]);
    let trajectory = bench.solve("Six times seven?").await;

    assert_eq!(trajectory.schema, "agentflow.trajectory/1");
    assert_eq!((&*trajectory.id, &*trajectory.question), ("test/1", "Six times seven?"));
    assert_eq!((trajectory.error, trajectory.gold, trajectory.score), (None, None, None));
    assert_eq!((&*trajectory.model.name, &*trajectory.model.backend), ("scripted", "replay"));
    assert_eq!(trajectory.model.digest.as_deref(), Some("sha256:0"));
    let sampling = &trajectory.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (0.5, 1.0, Some(7)));
    assert_eq!((sampling.think, sampling.num_ctx), (false, Some(4096)));
    assert_eq!(trajectory.prompts, "full/1");
    assert!(["strong", "medium", "basic"].contains(&&*trajectory.sandbox));
    // Planner, verifier, planner.
    assert_eq!(trajectory.usage, Usage { prompt_tokens: 30, completion_tokens: 15 });

    let [code, answer] = &trajectory.steps[..] else { panic!("{:#?}", trajectory.steps) };
    let requests = bench.planner.requests();
    assert_eq!(code.prompt, requests[0].messages);
    assert_eq!(answer.prompt, requests[1].messages);
    assert_eq!((code.index, answer.index), (0, 1));
    assert_eq!(code.raw, decision("code", "6 * 7").to_string());
    let decided = Decision {
        thought: "I choose code".to_owned(),
        action: "code".to_owned(),
        action_input: "6 * 7".to_owned(),
    };
    assert_eq!(code.reply, Some(decided));
    assert_eq!(code.thinking.as_deref(), Some("hm"));
    assert_eq!(code.token_ids, Some(vec![3, 1, 4]));
    assert_eq!(code.logprobs, Some(vec![-0.5, -0.25, -1.0]));
    assert_eq!((code.observation.ok, &*code.observation.text), (true, "42"));
    let verdict = Verdict { sufficient: false, reason: "the judge says so".to_owned() };
    assert_eq!(code.verdict, verdict);
    assert_eq!(code.usage, Usage { prompt_tokens: 20, completion_tokens: 10 });
    assert_eq!(answer.usage, Usage { prompt_tokens: 10, completion_tokens: 5 });
    assert!(answer.verdict.sufficient);
}

#[tokio::test]
async fn an_exception_is_read_by_the_planner_last_line_first() {
    let bench = Bench::new([
        decides("code", "def half(n):\n    return n / 0\nhalf(240)"),
        decides("answer", "none"),
    ]);
    let trajectory = bench.solve("What is half of 240?").await;
    let observation = &trajectory.steps[0].observation;
    assert!(!observation.ok);
    assert_eq!(observation.text.lines().next(), Some("ZeroDivisionError: division by zero"));
    let read = &bench.planner.requests()[1].messages;
    let [system, user] = &read[..] else { panic!("{read:#?}") };
    assert_eq!((system.role, user.role), (Role::System, Role::User));
    assert!(user.content.contains("failed: ZeroDivisionError: division by zero\n  line 3"));
    assert_eq!(trajectory.stop, Stop::Answered);
}

#[tokio::test]
async fn nothing_of_one_question_is_in_the_prompts_of_the_next() {
    let turns = [
        decides("think", "quagga in the thought"),
        decides("code", "print('quagga in the code')"),
        decides("answer", "quagga in the answer"),
        decides("code", "1 + 1"),
        decides("answer", "2"),
    ];
    let bench = Bench::new(turns).judged([judges(false), judges(false), judges(false)]);
    bench.solve("Is the quagga extinct?").await;
    let (asked, judged) = (bench.planner.requests().len(), 2);
    let second = bench.solve("What is 1 + 1?").await;
    assert_eq!(second.answer.as_deref(), Some("2"));
    assert_eq!(second.usage, Usage { prompt_tokens: 30, completion_tokens: 15 });
    let judge = bench.judge.as_ref().unwrap();
    let later = [&bench.planner.requests()[asked..], &judge.requests()[judged..]].concat();
    assert_eq!(later.len(), 3);
    for request in later {
        assert!(!serde_json::to_string(&request).unwrap().contains("quagga"), "{request:#?}");
    }
}

#[tokio::test]
async fn a_warning_is_told_once_whoever_caused_it() {
    let warning = |text: &str, turn: Turn| match turn {
        Turn::Reply(reply) => {
            Turn::Reply(agentflow_llm::ChatReply { warnings: vec![text.to_owned()], ..reply })
        }
        other => other,
    };
    let bench = Bench::new([
        warning("of a first try", crate::scripted::says("no json")),
        warning("cut", decides("code", "1")),
        warning("cut", decides("code", "2")),
        warning("cut", decides("answer", "2")),
    ])
    .judged([warning("of the verifier", judges(false)), warning("cut", judges(false))]);
    let (_, events) = bench.watch("How many?").await;
    let warnings: Vec<_> = events.iter().filter(|event| event.starts_with("warning")).collect();
    // The first try broke the schema, so its reply came inside an error.
    assert_eq!(warnings, ["warning: of a first try", "warning: cut", "warning: of the verifier"]);
}

#[tokio::test]
async fn the_compact_profile_goes_on_with_the_conversation() {
    let mut bench = Bench::new([decides("code", "6 * 7"), decides("answer", "42")]);
    bench.profile = agentflow_agent::prompt::Profile::Compact;
    let trajectory = bench.solve("Six times seven?").await;
    assert_eq!(trajectory.prompts, "compact/1");
    let requests = bench.planner.requests();
    // The second prompt extends the first: a cache of the first stays good.
    assert_eq!(requests[1].messages[..2], requests[0].messages);
    let tail: Vec<_> =
        requests[1].messages[2..].iter().map(|m| (m.role, m.content.as_str())).collect();
    let said = r#"{"thought": "I choose code", "action": "code", "action_input": "6 * 7"}"#;
    assert_eq!(tail, [(Role::Assistant, said), (Role::Tool, "42")]);
}
