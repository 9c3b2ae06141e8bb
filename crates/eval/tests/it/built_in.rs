//! The benchmarks of the binary on made-up rows in the layout of their data sets.

use agentflow_eval::benchmark::{Benchmark, Loaded, Options, Role, Selection, Source};
use agentflow_eval::{Gold, arith};

use crate::folder::{Folder, golds, ids, load_offline};
use crate::parquet_files::{Cells, parquet};

/// The file of a built-in benchmark, for rows of its own instead of the Hub's.
pub(crate) fn definition(name: &str, rows: &str, count: usize) -> String {
    let eval = concat!(env!("CARGO_MANIFEST_DIR"), "/../../eval");
    let text = std::fs::read_to_string(format!("{eval}/{name}.toml")).expect("it is built in");
    let mut table: toml::Table = text.parse().expect("it is TOML");
    let dataset = toml::toml! { kind = "file" path = rows };
    table.insert("dataset".to_owned(), dataset.into());
    let checks = table["checks"].as_table_mut().expect("it has checks");
    checks.insert("rows".to_owned(), (count as i64).into());
    checks.remove("problems");
    table.to_string()
}

fn load(name: &str, rows_name: &str, rows: impl AsRef<[u8]>, count: usize) -> Loaded {
    let own = format!("{name}.toml");
    let folder = Folder::new().with(rows_name, rows).with(&own, definition(name, rows_name, count));
    folder.load(&own).expect("it loads")
}

#[test]
fn arith_is_made_as_long_as_asked() {
    let load = |selection, split| {
        let options = Options { selection, split, ..Options::default() };
        load_offline(&Source::Named("arith".to_owned()), &options).expect("it needs nothing")
    };
    let whole = load(Selection::All, None);
    assert_eq!((whole.problems.len(), whole.role), (1000, Role::Test));
    assert_eq!(whole.dataset.id, "arith/test/0");
    let first = &whole.problems[0];
    let made = arith::problem(0, arith::Split::Test, 0);
    assert_eq!((&first.id, &first.question), (&made.id, &made.question));
    assert_eq!(first.gold, Gold::Math { answer: made.answer.to_string() });
    assert_eq!(first.tags["level"], "1");
    let longer = load(Selection::First(1200), None);
    assert_eq!(longer.problems[..1000], whole.problems);
    assert_eq!(longer.problems.len(), 1200);
    let endless = Options { selection: Selection::First(usize::MAX), ..Options::default() };
    let error = load_offline(&Source::Named("arith".to_owned()), &endless).expect_err("too many");
    assert!(error.to_string().contains("`arith` has 1000000 problems"), "{error}");
    let train = load(Selection::First(5), Some(arith::Split::Train));
    assert_eq!((train.role, train.dataset.id.as_str()), (Role::Train, "arith/train/0"));
}

#[test]
fn aime24_keeps_leading_zeros() {
    let rows = parquet(&[
        ("id", Cells::Integers(vec![60, 61])),
        ("problem", Cells::Texts(vec!["Find $a$.", "Find $b$."])),
        ("solution", Cells::Texts(vec!["It is \\boxed{073}.", "204"])),
        ("answer", Cells::Texts(vec!["073", "204"])),
        ("url", Cells::Texts(vec!["https://x", "https://y"])),
        ("year", Cells::Texts(vec!["2024", "2024"])),
    ]);
    let loaded = load("aime24", "rows.parquet", rows, 2);
    assert_eq!(
        (ids(&loaded), golds(&loaded)),
        (vec!["60", "61"], vec!["073".into(), "204".into()])
    );
    assert_eq!(loaded.problems[0].tags["year"], "2024");
}

#[test]
fn aime25_and_math500_are_json_lines() {
    let rows = r#"{"problem": "Find $a$.", "answer": "70", "id": "0"}"#;
    assert_eq!(golds(&load("aime25", "rows.jsonl", rows, 1)), ["70"]);
    let rows = r#"{"problem": "Find $a$.", "solution": "s", "answer": "\\frac{14}{3}", "subject": "Algebra", "level": 5, "unique_id": "test/algebra/1.json"}"#;
    let loaded = load("math500", "rows.jsonl", rows, 1);
    assert_eq!(
        (ids(&loaded), golds(&loaded)),
        (vec!["test/algebra/1.json"], vec!["\\frac{14}{3}".into()])
    );
    let tags: Vec<_> = loaded.problems[0].tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(tags, ["level=5", "subject=Algebra"]);
}

#[test]
fn gsm8k_answers_stand_behind_their_solution() {
    let solutions =
        vec!["6 * 7 = <<6*7=42>>42\n#### 42", "Much.\n#### 1,234,567", "Less.\n#### -5"];
    let rows = parquet(&[
        ("question", Cells::Texts(vec!["a?", "b?", "c?"])),
        ("answer", Cells::Texts(solutions)),
    ]);
    let loaded = load("gsm8k", "rows.parquet", rows, 3);
    assert_eq!(golds(&loaded), ["42", "1234567", "-5"]);
    assert_eq!(ids(&loaded), ["gsm8k-1", "gsm8k-2", "gsm8k-3"]);
}

/// Made-up questions: none of the data set may stand here.
const GPQA: &str = "Pre-Revision Question,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3,Record ID,Subdomain,High-level domain,Canary String\n\
    old,\"Which of these is a colour,\nsays the child?\",blue,\"seven, or so\",Tuesday,\"loud\n\",made-up-1,Colours,Kitchen,none\n\
    old,Which of these is a number?,seven,blue,Tuesday,loud,made-up-2,Numbers,Kitchen,none\n";

#[test]
fn gpqa_shows_choices_in_an_order_of_the_question() {
    let loaded = load("gpqa", "rows.csv", GPQA, 2);
    let problem = &loaded.problems[0];
    let Gold::Choice { letter, shown } = &problem.gold else { panic!("{:?}", problem.gold) };
    assert_eq!(shown[(*letter as u8 - b'A') as usize], "blue");
    let mut sorted = shown.clone();
    sorted.sort();
    assert_eq!(sorted, ["Tuesday", "blue", "loud", "seven, or so"]);
    let expected = format!(
        "Which of these is a colour,\nsays the child?\n\n(A) {}\n(B) {}\n(C) {}\n(D) {}\n\n\
         One choice is right. Answer with its letter alone: A, B, C or D.",
        shown[0], shown[1], shown[2], shown[3]
    );
    assert_eq!(problem.question, expected);
    assert_eq!((problem.id.as_str(), problem.tags["domain"].as_str()), ("made-up-1", "Kitchen"));
    assert_eq!(loaded.shuffle_seed, Some(0));
}

#[test]
fn the_order_of_choices_does_not_hang_on_other_questions() {
    let whole = load("gpqa", "rows.csv", GPQA, 2);
    let (header, rows) = GPQA.split_once('\n').expect("a header");
    let second = &rows[rows.find("old,Which").expect("a second row")..];
    let alone = load("gpqa", "rows.csv", format!("{header}\n{second}"), 1);
    assert_eq!(alone.problems[0], whole.problems[1]);
    let folder =
        Folder::new().with("rows.csv", GPQA).with("gpqa.toml", definition("gpqa", "rows.csv", 2));
    let orders: std::collections::BTreeSet<String> = (0..20)
        .map(|shuffle_seed| {
            let options = Options { shuffle_seed, ..Options::default() };
            folder.load_with("gpqa.toml", &options).expect("it loads").problems[0].question.clone()
        })
        .collect();
    assert!(orders.len() > 8, "{} orders of 24 in 20 draws", orders.len());
}

#[test]
fn every_built_in_one_says_what_it_is() {
    for benchmark in Benchmark::list() {
        assert!(!benchmark.title.is_empty() && !benchmark.licence.is_empty(), "{}", benchmark.name);
        assert!(benchmark.problems().is_some(), "{}", benchmark.name);
    }
}
