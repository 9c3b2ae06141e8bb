//! `report.json`, `report.md`, `report.html` of recorded runs.

use agentflow_eval::report::Method;
use agentflow_eval::{
    Outcome, Prices, Report, RunDirError, RunInfo, Sample, Summary, write_reports,
};
use serde_json::Value;

use crate::fixture::{GREEDY, UNREACHABLE, WARM, equal, info, run_dir, samples};

fn report(samples: &[Sample], info: &RunInfo) -> Report {
    let summaries: Vec<Summary> = samples.iter().map(Summary::of).collect();
    Report::of(info, &summaries, Some(10.0), &equal)
}

#[test]
fn a_run_of_single_answers() {
    let samples = samples(WARM, 0);
    let report = report(&samples, &info(&samples, 20, 1));
    let counts = &report.counts;
    assert_eq!((counts.right, counts.wrong, counts.no_answer, counts.failed), (12, 8, 0, 0));
    assert_eq!((counts.asked, counts.missing, report.partial), (20, 0, false));
    assert_eq!(report.accuracy.value, 0.6);
    assert_eq!(report.accuracy.method, Method::Wilson);
    // The minimal runner printed [38.7, 78.1] for it.
    assert!((report.accuracy.interval.lower - 0.387).abs() < 5e-4);
    assert!((report.accuracy.interval.upper - 0.781).abs() < 5e-4);
    assert!(report.repeats.is_none());
    // The one attempt that ended early: 5 steps, of which 3 replies could not be read, and a program that failed.
    assert_eq!((report.replies.invalid, report.tools.errors), (3, 1));
    assert_eq!(report.stops["budget"], 1);
    assert_eq!(report.by_tag["level"].values().map(|score| score.samples).sum::<u64>(), 20);
    assert_eq!(report.by_steps.iter().map(|row| row.right).sum::<u64>(), 12);
    let speed = report.speed.expect("the time is known");
    assert_eq!(speed.samples_per_s, 2.0);
}

#[test]
fn several_answers_a_question() {
    let mut all = samples(GREEDY, 0);
    all.extend(samples(WARM, 1));
    all.extend(samples(WARM, 2));
    let report = report(&all, &info(&all, 20, 4));
    // 15 right of the greedy attempts and 12 of the warm ones, which are here twice.
    assert!((report.accuracy.value - (15.0 + 24.0) / 60.0).abs() < 1e-12);
    assert_eq!(report.accuracy.method, Method::StudentT);
    let repeats = report.repeats.expect("several answers were asked for");
    assert_eq!((repeats.asked, repeats.obtained), (4, (3, 3)));
    assert!(report.partial, "the fourth answers are missing");
    assert_eq!(report.counts.missing, 20);
    // One question was gained and four lost: pass@3 is 16 of 20, pass^3 is 11 of 20, and two equal answers win.
    let at = |rows: &[agentflow_eval::statistics::OfK], k| {
        rows.iter().find(|row| row.k == k).expect("a row").value
    };
    assert!((at(&repeats.pass_at, 3) - 0.8).abs() < 1e-12);
    assert!((at(&repeats.pass_hat, 3) - 0.55).abs() < 1e-12);
    assert!((at(&repeats.pass_at, 1) - report.accuracy.value).abs() < 1e-12);
    assert_eq!(repeats.majority.right, 12);
    let text = Report { repeats: Some(repeats), ..report }.to_markdown();
    assert!(text.contains("4 answers a question were asked for, and 3 obtained"), "{text}");
}

#[test]
fn failures_are_counted_by_cause_and_are_not_right() {
    let mut all = samples(GREEDY, 0);
    all[0] = samples(UNREACHABLE, 0).remove(0);
    let report = report(&all, &info(&all, 20, 1));
    assert_eq!((report.counts.failed, report.counts.right), (1, 15));
    assert_eq!(report.counts.failed_by_cause["cannot reach the model server at `…`"], 1);
    assert_eq!(report.accuracy.value, 0.75);
}

#[test]
fn an_attempt_made_again_replaces_the_first() {
    let mut all = samples(UNREACHABLE, 0);
    all.extend(samples(GREEDY, 0));
    let root = tempfile::tempdir().expect("a directory");
    let info = info(&all[1..], 20, 1);
    let run = run_dir(root.path(), "again", &all, &info);
    let report = write_reports(&run, &info, None, &equal).expect("writes");
    assert_eq!((report.counts.samples, report.counts.failed, report.counts.right), (20, 0, 15));
    let page = std::fs::read_to_string(run.join("report.html")).expect("reads");
    assert!(!page.contains("cannot reach the model server"), "the replaced attempt is not shown");
}

#[test]
fn nothing_measured_yet_is_no_crash() {
    let samples = samples(GREEDY, 0);
    let report = report(&[], &info(&samples, 20, 1));
    assert!(report.partial);
    assert_eq!((report.accuracy.interval.lower, report.accuracy.interval.upper), (0.0, 1.0));
    assert!(report.to_markdown().contains("Nothing was measured yet."));
}

#[test]
fn tokens_are_paid_for_where_prices_are_known() {
    let samples = samples(GREEDY, 0);
    let prices = Some(Prices { prompt: 1e6, completion: 2e6 });
    let report = report(&samples, &RunInfo { prices, ..info(&samples, 20, 1) });
    let wanted = (report.tokens.prompt + 2 * report.tokens.completion) as f64;
    assert_eq!(report.cost_dollars, Some(wanted));
}

#[test]
fn the_table_as_markdown() {
    let samples = samples(GREEDY, 0);
    insta::assert_snapshot!(report(&samples, &info(&samples, 25, 1)).to_markdown());
}

#[test]
fn the_json_is_read_back() {
    let mut all = samples(GREEDY, 0);
    all.extend(samples(WARM, 1));
    let report = report(&all, &info(&all, 20, 2));
    let json = serde_json::to_string(&report).expect("serializes");
    assert!(json.starts_with("{\"schema\":\"agentflow.report/1\""));
    assert_eq!(serde_json::from_str::<Report>(&json).expect("reads"), report);
}

/// The JSON in the script element `id`.
fn script<'a>(page: &'a str, id: &str) -> &'a str {
    let open = format!("<script type=\"application/json\" id=\"{id}\">");
    let start = page.find(&open).unwrap_or_else(|| panic!("no element `{id}`")) + open.len();
    &page[start..start + page[start..].find("</script>").expect("it ends")]
}

#[test]
fn the_page_holds_every_attempt_and_no_hostile_markup() {
    let hostile = "</script><script>alert('x')</script><!-- \u{2028}\u{2029} <b>& \"q\"";
    let mut all = samples(WARM, 0);
    let trajectory = &mut all[3].trajectory;
    trajectory.question = hostile.to_owned();
    trajectory.answer = Some(hostile.to_owned());
    trajectory.steps[0].observation.text = hostile.to_owned();
    all[3].eval.tags.insert("level".to_owned(), hostile.to_owned());
    all[3].eval.verdict.how = hostile.to_owned();
    let root = tempfile::tempdir().expect("a directory");
    let info = RunInfo { benchmark: hostile.to_owned(), ..info(&all, 20, 1) };
    let run = run_dir(root.path(), "hostile", &all, &info);
    write_reports(&run, &info, None, &equal).expect("writes");
    let page = std::fs::read_to_string(run.join("report.html")).expect("reads");

    let index: Value = serde_json::from_str(script(&page, "index")).expect("JSON");
    assert_eq!(index.as_array().map(Vec::len), Some(20));
    for (id, sample) in all.iter().enumerate() {
        let record: Value = serde_json::from_str(script(&page, &format!("a{id}"))).expect("JSON");
        assert_eq!(record["question"], *sample.trajectory.question);
        assert_eq!(record["steps"].as_array().map(Vec::len), Some(sample.trajectory.steps.len()));
        assert_eq!(record["line"], id + 1);
        assert_eq!(index[id]["outcome"] == "right", sample.eval.verdict.outcome == Outcome::Right);
    }
    // 20 attempts, the index and the script itself: nothing that came from a model opened another element.
    assert_eq!(page.matches("<script").count(), 22);
    assert_eq!(page.matches("</script>").count(), 22);
    assert!(!page.contains("<!--") && !page.contains("alert('x')</script>"));
    assert!(!page.contains("src=\"") && !page.contains("@import") && !page.contains("url("));
}

#[test]
fn a_torn_last_line_is_no_sample_yet_and_a_broken_one_is_named() {
    let all = samples(GREEDY, 0);
    let root = tempfile::tempdir().expect("a directory");
    let info = info(&all, 20, 1);
    let run = run_dir(root.path(), "torn", &all, &info);
    let path = run.join("trajectories.jsonl");
    let whole = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &whole[..whole.len() - 20]).expect("writes");
    let report = write_reports(&run, &info, None, &equal).expect("writes");
    assert_eq!((report.counts.samples, report.counts.missing), (19, 1));

    std::fs::write(&path, [b"{}\n".as_slice(), &whole].concat()).expect("writes");
    let error = write_reports(&run, &info, None, &equal).expect_err("line 1 is no sample");
    assert!(matches!(error, RunDirError::Line { line: 1, .. }), "{error}");
    let error = RunInfo::read(&root.path().join("nowhere")).expect_err("there is no run");
    assert!(matches!(error, RunDirError::NotARun { .. }), "{error}");
}
