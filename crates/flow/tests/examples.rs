//! The examples as their readers run them: real processes, and what they print.
//!
//! `cargo test` builds the examples, too; before `cargo test --test examples`, say `cargo build --examples`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The example's binary, which cargo builds beside the directory of the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("it is in `<profile>/deps`");
    let path = target.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "no `{}`; run `cargo build --examples` first", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

fn run(name: &str, args: &[&str]) -> Output {
    example(name).args(args).output().expect("the example starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Standard output of an example that does its work.
fn done(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

/// Standard error of an example that ends with `code`.
fn fails(name: &str, args: &[&str], code: i32) -> String {
    let output = run(name, args);
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

/// How often `line` begins a line of `text`.
fn count(text: &str, line: &str) -> usize {
    text.lines().filter(|found| found.starts_with(line)).count()
}

#[test]
fn research_tries_again_what_is_flaky_and_publishes_what_the_reviewer_left() {
    let output = run("research", &["--answer", "shorter", "--answer", "publish"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "# how does a client retry without making an outage worse?\n\n\
         - An outage is metastable when retries alone keep it going after its cause is gone. (papers/metastable failures)\n\
         - A retry storm keeps an outage going: every failed call becomes three calls to a server that is down. (web/retry storms)\n\
         - With backoff and jitter each client waits longer before a retry, and never as long as the others. (papers/jitter)\n"
    );
    let events = stderr(&output);
    assert_eq!(count(&events, "research/search/optional/web failed: 503"), 1, "{events}");
    assert_eq!(count(&events, "research/search/optional/web again in"), 1, "{events}");
    assert_eq!(count(&events, "research/search/papers done"), 1, "{events}");
    assert_eq!(count(&events, "research/review[1]/round/edit done"), 1, "{events}");
    assert_eq!(count(&events, "research/review[2]"), 0, "{events}");
}

#[test]
fn research_goes_on_without_the_source_that_never_answers() {
    let article = done("research", &["--web-fails", "3", "--answer", "publish"]);
    let without = "Without the web: `research/search/optional/web`, 3 attempts: 503";
    assert_eq!(count(&article, without), 1, "{article}");
    assert!(!article.contains("(web/"), "{article}");
    assert!(article.contains("(papers/"), "{article}");
}

#[test]
fn research_reads_the_answer_from_standard_input_and_says_when_there_is_none() {
    let mut command = example("research");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, b"publish\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(count(&stdout(&output), "- "), 4);

    let error = fails("research", &[], 1);
    let expected = "error: `research/review[0]/round/reviewer`: standard input has ended";
    assert_eq!(count(&error, expected), 1, "{error}");
}

#[test]
fn research_that_is_rejected_or_never_accepted_is_not_published() {
    let error = fails("research", &["--answer", "reject"], 1);
    let expected = "error: `research/review[0]/round/edit`: the reviewer rejects the draft";
    assert_eq!(count(&error, expected), 1, "{error}");

    let shorter = ["--answer", "shorter"].repeat(5);
    let error = fails("research", &shorter, 1);
    assert_eq!(count(&error, "error: `research/review`: no result after 5 hops"), 1, "{error}");
}

/// A directory with the payments and runs of one test.
struct Shop(tempfile::TempDir);

impl Shop {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().expect("a path that is text")
    }

    fn request(&self, amount: &str, order: &str) -> String {
        done("refund", &["request", amount, "--order", order, "--dir", self.dir()])
    }

    /// A request that waits; the file with its pause.
    fn asks(&self, amount: &str) -> PathBuf {
        let pause = self.request(amount, "A-1");
        let json: Value = serde_json::from_str(&pause).expect("a pause as JSON");
        assert_eq!(json["path"], "refund/route/large/manager");
        assert_eq!(json["question"]["amount"].to_string(), amount);
        let path =
            self.0.path().join(format!("pause-{}.json", json["run"].as_str().expect("a run")));
        fs::write(&path, pause).expect("the pause is kept");
        path
    }

    fn decide(&self, pause: &Path, decision: &str) -> Output {
        let pause = pause.to_str().expect("a path that is text");
        run("refund", &["decide", self.dir(), pause, decision, "--by", "ann", "--note", "seen"])
    }

    fn payments(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.0.path().join("payments.jsonl")).unwrap_or_default();
        let amount = |line: &str| {
            let payment: Value = serde_json::from_str(line).expect("a payment");
            payment["amount"].as_u64().expect("a number")
        };
        text.lines().map(amount).collect()
    }
}

#[test]
fn refund_of_a_small_sum_is_paid_and_a_fraud_ends_unpaid() {
    let shop = Shop::new();
    assert_eq!(shop.request("25", "A-1"), "paid back 25 for order A-1\n");
    assert_eq!(shop.payments(), [25]);
    let rejected = "rejected: order A-1 was not paid like that\n";
    assert_eq!(shop.request("5000", "A-1"), rejected);
    assert_eq!(shop.request("376", "A-1"), rejected, "25 of the 400 are paid back");
    assert_eq!(shop.request("20", "A-3"), rejected.replace("A-1", "A-3"), "the card was stolen");
    assert_eq!(shop.payments(), [25]);
}

#[test]
fn refund_waits_for_another_process_and_takes_its_decision_once() {
    let shop = Shop::new();
    let pause = shop.asks("250");
    assert_eq!(shop.payments(), [0; 0]);

    let approved = shop.decide(&pause, "--approve");
    assert_eq!(stdout(&approved), "paid back 250 for order A-1\n");
    assert_eq!(shop.payments(), [250]);

    for decision in ["--approve", "--deny"] {
        let again = shop.decide(&pause, decision);
        assert_eq!(again.status.code(), Some(1));
        let expected =
            "error: `refund`: the question at `refund/route/large/manager` was answered before";
        assert_eq!(count(&stderr(&again), expected), 1, "{}", stderr(&again));
    }
    assert_eq!(shop.payments(), [250]);

    let resumed = done("refund", &["resume", shop.dir(), pause.to_str().expect("text")]);
    assert_eq!(resumed, "paid back 250 for order A-1\n", "a run that is done says so again");
    assert_eq!(shop.payments(), [250]);
}

#[test]
fn refund_that_is_denied_is_never_paid() {
    let shop = Shop::new();
    let pause = shop.asks("250");
    let denied = shop.decide(&pause, "--deny");
    assert_eq!(denied.status.code(), Some(1));
    assert_eq!(stderr(&denied), "error: `refund/route/large/manager`: denied by ann: seen\n");
    assert_eq!(shop.decide(&pause, "--approve").status.code(), Some(1));
    assert_eq!(shop.payments(), [0; 0]);
}

#[test]
fn refund_of_more_than_was_paid_is_not_approved_in_parts() {
    let shop = Shop::new();
    let pauses = [shop.asks("250"), shop.asks("250")];
    assert_eq!(shop.decide(&pauses[0], "--approve").status.code(), Some(0));
    let second = shop.decide(&pauses[1], "--approve");
    let expected = "error: `refund/route/large/pay`: order A-1 was paid back in the meantime\n";
    assert_eq!(stderr(&second), expected);
    assert_eq!(shop.payments(), [250]);
}

#[test]
fn refund_takes_no_pause_but_one_that_it_gave() {
    let shop = Shop::new();
    let pause = shop.asks("250");
    let text = fs::read_to_string(&pause).expect("it is there");
    let mut json: Value = serde_json::from_str(&text).expect("a pause");
    json["token"] = "0".repeat(32).into();
    fs::write(&pause, json.to_string()).expect("it is changed");
    let forged = shop.decide(&pause, "--approve");
    assert!(stderr(&forged).contains("did not ask at"), "{}", stderr(&forged));

    fs::write(&pause, "approved!").expect("it is changed");
    let broken = shop.decide(&pause, "--approve");
    assert!(stderr(&broken).contains("holds no pause"), "{}", stderr(&broken));
    assert_eq!(shop.payments(), [0; 0]);
}

#[test]
fn refund_draws_its_routes() {
    let graph = done("refund", &["graph"]);
    assert_eq!(count(&graph, "flowchart TD"), 1, "{graph}");
    for route in ["fraud", "small", "large"] {
        assert!(graph.contains(&format!("-->|\"{route}\"|")), "{graph}");
    }
}

#[test]
fn triage_answers_each_message_with_its_own_headers_and_ends_each_in_a_report() {
    let output = done("triage", &[]);
    let mut lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.pop(), Some("4 of 5 answered"));
    lines.sort_unstable(); // they come as they end
    let expected = [
        "0, 8 tokens: for acme, trace 0: The marketing report shows reach and clicks of the last thirty days. (help/reports)",
        "1, 6 tokens: for globex, trace 1: Every dashboard can be exported as CSV with the button at the top. (help/export)",
    ];
    assert_eq!(lines[..2], expected);
    assert!(lines[2].contains("(status/checkout)"), "{output}");
    let hops = "3, 0 tokens: no answer: `triage/controller`: no result after 3 hops";
    assert!(lines[3].starts_with(hops), "{output}");
    let two_hops = ["(help/sharing)", "(help/export)"];
    assert!(two_hops.iter().all(|source| lines[4].contains(source)), "{output}");
}

#[test]
fn triage_stops_a_message_that_is_out_of_tokens_and_only_that() {
    let help = "how do I export a dashboard and invite a guest?";
    let output = done("triage", &["--tokens", "12", help, "show the marketing report"]);
    assert!(output.contains("the budget of 12 tokens is used up"), "{output}");
    assert_eq!(count(&output, "1 of 2 answered"), 1, "{output}");
}

#[test]
fn events_are_handled_in_turn_and_an_error_event_by_its_handler() {
    let output = run("events", &[]);
    assert_eq!(output.status.code(), Some(0));
    let answer = "Lisbon: 24 °C in July\nOslo: 18 °C in July\nno station in Atlantis\n";
    assert_eq!(stdout(&output), answer);
    let handled = stderr(&output);
    let labels: Vec<&str> = handled.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = "question lookup lookup lookup summary failed lookup failed summary idle";
    assert_eq!(labels.join(" "), expected);
    assert_eq!(count(&handled, "  no station in Oslow; is it Oslo?"), 1, "{handled}");
}

#[test]
fn events_without_a_place_and_with_too_many_end_all_the_same() {
    assert!(done("events", &["compare nothing"]).starts_with("the question names no place"));
    let many = format!("compare {}", "Oslo, ".repeat(60));
    let error = fails("events", &[&many], 1);
    assert_eq!(count(&error, "error: `weather/desk`: no result after 50 hops"), 1, "{error}");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let wrong: [(&str, &[&str]); 7] = [
        ("research", &["--loud"]),
        ("research", &["--web-fails", "often"]),
        ("refund", &[]),
        ("refund", &["request", "25"]),
        ("refund", &["decide", "dir", "pause.json", "--approve"]),
        ("triage", &["--tokens"]),
        ("events", &["one", "two"]),
    ];
    for (name, args) in wrong {
        let error = fails(name, args, 2);
        assert_eq!(count(&error, &format!("usage: {name}")), 1, "{error}");
    }
}
