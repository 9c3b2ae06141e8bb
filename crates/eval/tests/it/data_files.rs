//! Plain files: which columns are taken, what the texts become, which problems are selected.

use agentflow_eval::benchmark::{BenchmarkError, FileKeys, Options, Selection, Source};

use crate::folder::{Folder, golds, ids, keys, load_offline};

const ROWS: &str = r#"{"id": "a", "problem": "1 + 1?", "answer": "2", "level": 3}
{"id": "b", "problem": "  2 + 2?\n", "answer": 4, "level": null}

{"id": "c", "problem": "3 + 3?", "answer": "006", "extra": [1]}
"#;

#[test]
fn usual_columns_are_found_and_told() {
    let loaded = Folder::new().with("own.jsonl", ROWS).load("own.jsonl").expect("it loads");
    assert_eq!(ids(&loaded), ["a", "b", "c"]);
    assert_eq!(golds(&loaded), ["2", "4", "006"]);
    assert_eq!(loaded.problems[1].question, "2 + 2?");
    assert_eq!(loaded.problems[0].tags["level"], "3");
    assert!(loaded.problems[1].tags.is_empty() && loaded.problems[2].tags.is_empty());
    assert_eq!((loaded.name.as_str(), loaded.available, loaded.dataset.rows), ("own", 3, 3));
    let columns = &loaded.columns;
    assert_eq!((columns.question.as_str(), columns.answer.as_deref()), ("problem", Some("answer")));
    assert_eq!(columns.id.as_deref(), Some("id"));
    let file = &loaded.dataset.files[0];
    assert!(file.file.ends_with("own.jsonl"), "{}", file.file);
    // `sha256sum` of these rows.
    assert_eq!(file.sha256, "3855b16dc3553966e75d4d08871edf2a37b114e55cc3731754377ecf1d6ca02a");
}

#[test]
fn columns_are_named_where_they_have_other_names() {
    let folder = Folder::new().with("own.csv", "frage,antwort,nr\n1 + 1?,2,x\n2 + 2?,4,y\n");
    assert!(folder.error("own.csv").ends_with("name one with `--question-key`"));
    let mut options = keys("frage", "antwort");
    let loaded = folder.load_with("own.csv", &options).expect("it loads");
    assert_eq!(
        (ids(&loaded), golds(&loaded)),
        (vec!["own-1", "own-2"], vec!["2".into(), "4".into()])
    );
    options.keys.id = Some("nr".to_owned());
    assert_eq!(ids(&folder.load_with("own.csv", &options).expect("it loads")), ["x", "y"]);
    options.keys.answer = Some("Antwort".to_owned());
    let error = folder.load_with("own.csv", &options).expect_err("capitals differ").to_string();
    assert!(error.contains("no column `Antwort`; it has `frage`, `antwort`, `nr`"), "{error}");
}

#[test]
fn keys_are_for_plain_files_only() {
    let keys = FileKeys { id: Some("nr".to_owned()), ..FileKeys::default() };
    let options = Options { keys, ..Options::default() };
    let error = load_offline(&Source::Named("arith".to_owned()), &options).expect_err("no column");
    assert!(matches!(error, BenchmarkError::KeyWithoutFile { option: "--id-key", .. }), "{error}");
    assert!(error.is_usage());
}

/// Excel writes such files: a byte order mark, and lines that end in two characters.
#[test]
fn fields_of_csv_hold_commas_quotes_and_newlines() {
    let rows = "\u{feff}Question,Answer\r\n\"What is\r\n\"\"1,5\"\" + 1?\",\"2,5\"\r\nnext?,7\r\n";
    let loaded = Folder::new().with("own.csv", rows).load("own.csv").expect("it loads");
    assert_eq!(loaded.problems[0].question, "What is\r\n\"1,5\" + 1?");
    assert_eq!(golds(&loaded), ["2,5", "7"]);
}

#[test]
fn an_answer_behind_its_solution_is_cut_out() {
    let rows = r###"{"question": "a?", "answer": "First 1 + 1 = 2.\n#### 2"}
{"question": "b?", "answer": "One #### two\n#### 1,234"}
"###;
    let loaded = Folder::new().with("own.jsonl", rows).load("own.jsonl").expect("it loads");
    assert_eq!(golds(&loaded), ["2", "1,234"]);
}

#[test]
fn a_megabyte_of_answer_is_an_answer() {
    let answer = "7".repeat(1 << 20);
    let row = format!(r#"{{"question": "long?", "answer": "{answer}"}}"#);
    let loaded = Folder::new().with("own.jsonl", row).load("own.jsonl").expect("it loads");
    assert_eq!(golds(&loaded), [answer]);
}

#[test]
fn what_is_selected_keeps_the_order_of_the_file() {
    let rows: String = (0..100)
        .map(|n| format!("{{\"id\": {n}, \"question\": \"{n}?\", \"answer\": 0}}\n"))
        .collect();
    let folder = Folder::new().with("own.jsonl", rows);
    let select = |selection| {
        let loaded = folder.load_with("own.jsonl", &Options { selection, ..Options::default() })?;
        assert_eq!((loaded.available, loaded.selection), (100, selection));
        Ok::<Vec<u32>, BenchmarkError>(
            loaded.problems.iter().map(|problem| problem.id.parse().expect("a number")).collect(),
        )
    };
    assert_eq!(select(Selection::First(3)).expect("it loads"), [0, 1, 2]);
    assert_eq!(select(Selection::First(1000)).expect("it loads").len(), 100);
    let sample = |count, seed| select(Selection::Sample { count, seed });
    let drawn = sample(10, 5).expect("it loads");
    assert!(drawn.len() == 10 && drawn.is_sorted(), "{drawn:?}");
    assert_eq!(drawn, sample(10, 5).expect("it loads"));
    assert_ne!(drawn, sample(10, 6).expect("it loads"));
    assert_eq!(sample(100, 5).expect("it loads"), (0..100).collect::<Vec<_>>());
    let error = sample(101, 5).expect_err("there are too few").to_string();
    assert!(error.contains("100 problems, too few for 101"), "{error}");
}

#[test]
fn the_fingerprint_changes_with_what_is_asked() {
    let print = |rows: &str| {
        let folder = Folder::new().with("own.jsonl", rows);
        folder.load("own.jsonl").expect("it loads").fingerprint()
    };
    assert_eq!(print(ROWS), print(&ROWS.replace("\n\n", "\n")));
    assert_ne!(print(ROWS), print(&ROWS.replace("006", "6")));
    assert_ne!(print(ROWS), print(&ROWS.replace("3 + 3?", "3+3?")));
}

#[test]
fn a_name_wins_over_a_file_and_a_typo_is_told() {
    assert_eq!("gpqa".parse::<Source>().expect("it is known"), Source::Named("gpqa".to_owned()));
    assert!(matches!("./own.toml".parse::<Source>(), Ok(Source::Definition(_))));
    let error = "gsm8".parse::<Source>().expect_err("there is none").to_string();
    assert!(error.contains("unknown benchmark `gsm8`, did you mean `gsm8k`?"), "{error}");
    let folder = Folder::new().with("own.json", "[]");
    assert!(folder.error("own.json").contains("`own.json` is in no format that is read here"));
    assert!(folder.error("missing.jsonl").starts_with("cannot read `missing.jsonl`: No such file"));
}
