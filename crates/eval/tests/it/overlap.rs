//! Training data is compared with the test sets when it is loaded, and what they share is taken out.

use agentflow_eval::benchmark::{BenchmarkError, Compared, OverlapBy, Role};

use crate::built_in::definition;
use crate::folder::{Folder, golds, ids};

const HEADER: &str = "ID,Year,Problem Number,Question,Answer,Part\n";

const TRAIN: &str = "1983-1,1983,1,What is $1+1$?,2,\n\
    2000-I-1,2000,1,What is $\\frac{4}{2} + 7$?,009,I\n\
    2022-II-8,2022,8,What are $2+2$ and $2+3$?,080 or 081 (both were accepted),II\n\
    2023-I-2,2023,2,\"What is,\nin all, $3+3$?\",6,I\n\
    2023-I-3,2023,3,What is $4+4$?,8,I\n\
    2024-II-1,2024,1,What is $5+5$?,10,II\n";

/// The made-up files with the definitions of `aime_train` and its two test sets.
fn folder(aime24: &str, aime25: &str) -> Folder {
    let train = definition("aime_train", "train.csv", 6);
    let train =
        train.replace("\"aime24\"", "\"aime24.toml\"").replace("\"aime25\"", "\"aime25.toml\"");
    // Of Parquet rows elsewhere; here the rows are lines.
    Folder::new()
        .with("train.csv", format!("{HEADER}{TRAIN}"))
        .with("aime24.jsonl", aime24)
        .with("aime25.jsonl", aime25)
        .with("aime_train.toml", train)
        .with("aime24.toml", definition("aime24", "aime24.jsonl", 1))
        .with("aime25.toml", definition("aime25", "aime25.jsonl", 1))
}

const APART_24: &str =
    r#"{"id": "60", "problem": "What is $9+9$?", "answer": "018", "year": "2024"}"#;
const APART_25: &str = r#"{"id": "0", "problem": "What is $8+9$?", "answer": "017"}"#;

fn compared(with: &str, same_id: usize, same_text: usize) -> Compared {
    let by = vec![OverlapBy::Year, OverlapBy::Id, OverlapBy::Text];
    Compared { with: with.to_owned(), problems: 1, by, same_year: 0, same_id, same_text }
}

#[test]
fn what_is_apart_stays_and_the_comparison_is_told() {
    let loaded = folder(APART_24, APART_25).load("aime_train.toml").expect("it loads");
    assert_eq!(loaded.role, Role::Train);
    assert_eq!(ids(&loaded), ["1983-1", "2000-I-1", "2023-I-2", "2023-I-3"]);
    assert_eq!(golds(&loaded), ["2", "009", "6", "8"]);
    let left_out: Vec<_> =
        loaded.left_out.iter().map(|(why, rows)| format!("{why}: {rows}")).collect();
    assert_eq!(left_out, ["Answer no integer: 1", "Year not 1983 to 2023: 1"]);
    let overlap = loaded.overlap.expect("it was compared");
    assert_eq!(overlap.compared, [compared("aime24", 0, 0), compared("aime25", 0, 0)]);
    assert_eq!(
        overlap.to_string(),
        "overlap with aime24 (1 problems): 0 by year, 0 by id, 0 by text\n\
         overlap with aime25 (1 problems): 0 by year, 0 by id, 0 by text"
    );
}

#[test]
fn a_test_problem_is_taken_out_however_it_is_spelled() {
    let by_text = APART_24.replace("What is $9+9$?", "what is  $ \\\\dfrac42+7 $ ?");
    let by_id = APART_25.replace("\"0\"", "\"2023-I-2\"");
    let loaded = folder(&by_text, &by_id).load("aime_train.toml").expect("it loads");
    assert_eq!(ids(&loaded), ["1983-1", "2023-I-3"]);
    assert_eq!(loaded.available, 2);
    let overlap = loaded.overlap.expect("it was compared");
    assert_eq!(overlap.compared, [compared("aime24", 0, 1), compared("aime25", 1, 0)]);
    assert_eq!(overlap.removed, ["2000-I-1", "2023-I-2"]);
    assert!(overlap.to_string().ends_with("2 taken out: 2000-I-1, 2023-I-2"), "{overlap}");
}

#[test]
fn a_problem_of_a_test_year_is_taken_out() {
    let folder = folder(APART_24, APART_25);
    let own = std::fs::read_to_string(folder.file("aime_train.toml")).expect("it is there");
    let folder = folder.with("aime_train.toml", own.replace("to = 2023", "to = 2024"));
    let loaded = folder.load("aime_train.toml").expect("it loads");
    assert!(!ids(&loaded).contains(&"2024-II-1"));
    let overlap = loaded.overlap.expect("it was compared");
    assert_eq!((overlap.compared[0].same_year, overlap.compared[1].same_year), (1, 0));
}

/// Without the test set nothing is known, and so nothing is trained on.
#[test]
fn a_test_set_that_cannot_be_read_stops_the_training_set() {
    let folder = folder(APART_24, "{}");
    let error = folder.load("aime_train.toml").expect_err("aime25 is broken");
    assert!(matches!(error, BenchmarkError::OverlapUnknown { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("`aime_train` is training data") && text.contains("aime25.jsonl"),
        "{text}"
    );
}
