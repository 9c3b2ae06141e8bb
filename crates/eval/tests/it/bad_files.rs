//! What is wrong in a file is named with its line and field, and nothing is loaded.

use crate::folder::Folder;

/// The content of `own.jsonl`, and all that is said of it.
#[test]
fn json_lines_are_checked() {
    let good = r#"{"id": 1, "question": "a?", "answer": "1"}"#;
    let after_good = |line: &str| format!("{good}\n\n{line}\n").into_bytes();
    let mut not_utf8 = after_good(r#"{"id": 2, "question": "?"#);
    not_utf8.truncate(not_utf8.len() - 1);
    not_utf8.extend(b"\xff\xfe\", \"answer\": \"1\"}\n");
    for (content, message) in [
        (b"".to_vec(), "`own.jsonl` has no rows"),
        (b"\n\n \n".to_vec(), "`own.jsonl` has no rows"),
        (
            b"{\"a\": 1, \"b\": 2}".to_vec(),
            "in `own.jsonl` it is not clear which column is the question; it has `a`, `b`; name one with `--question-key`",
        ),
        (
            b"{\"question\": \"a?\", \"solution\": \"2\"}".to_vec(),
            "in `own.jsonl` it is not clear which column is the answer; it has `question`, `solution`; name one with `--answer-key`",
        ),
        (
            after_good(r#"{"id": 2, "question": "a?", "answer": "#),
            "`own.jsonl`, line 3: is no JSON: EOF while parsing a value, column 38",
        ),
        (
            after_good(r#"{"id": 2, "question": "a?", "answer": NaN}"#),
            "`own.jsonl`, line 3: is no JSON: expected value, column 39",
        ),
        (after_good(r#"["a?", "1"]"#), "`own.jsonl`, line 3: is no JSON object; write one a line"),
        (not_utf8, "`own.jsonl`, line 3: is not UTF-8 (byte 25 of the line)"),
        (
            after_good(r#"{"id": 2, "question": "a?"}"#),
            "`own.jsonl`, line 3, field `answer`: is missing",
        ),
        (
            after_good(r#"{"id": 2, "question": "a?", "answer": " "}"#),
            "`own.jsonl`, line 3, field `answer`: is empty",
        ),
        (
            after_good(r#"{"id": 2, "question": null, "answer": "1"}"#),
            "`own.jsonl`, line 3, field `question`: is empty",
        ),
        (
            after_good(r#"{"id": 2, "question": ["a?"], "answer": "1"}"#),
            "`own.jsonl`, line 3, field `question`: is a list, not a text",
        ),
        (
            after_good(r#"{"id": 2, "question": "a?", "answer": 123456789012345678901}"#),
            "`own.jsonl`, line 3, field `answer`: is a number that is too large to be read exactly; write it as text",
        ),
        (
            after_good(r#"{"id": "1", "question": "b?", "answer": "1"}"#),
            "`own.jsonl`, line 3, field `id`: is `1` as in line 1; ids must differ (`--id-key` takes another column of a plain file)",
        ),
    ] {
        let shown = String::from_utf8_lossy(&content).into_owned();
        assert_eq!(Folder::new().with("own.jsonl", content).error("own.jsonl"), message, "{shown}");
    }
}

#[test]
fn csv_is_checked() {
    for (content, message) in [
        ("", "`own.csv` has no rows"),
        ("question,answer\n", "`own.csv` has no rows"),
        (
            "question,answer\na?,1\n\"b\n?\",2\nc?,3,4\n",
            "`own.csv`, line 5: has 3 fields, but the header has 2 (is a quote missing?)",
        ),
        (
            "question,answer\na?,1\n\"b?,2\nc?,3\n",
            "`own.csv`, line 3: has 1 fields, but the header has 2 (is a quote missing?)",
        ),
        ("question,answer\n\"a\n?\",1\nb?,\n", "`own.csv`, line 4, field `answer`: is empty"),
        (
            "question,answer,answer\na?,1,2\n",
            "`own.csv` is no CSV file: its header has the column `answer` twice",
        ),
    ] {
        assert_eq!(Folder::new().with("own.csv", content).error("own.csv"), message, "{content:?}");
    }
    let folder = Folder::new().with("own.csv", b"question,answer\na?,1\nb?,\xff\n");
    assert_eq!(folder.error("own.csv"), "`own.csv`, line 3: is not UTF-8 (field 2 of the row)");
}

/// A definition for `rows.jsonl`, with more lines behind it.
fn own(more: &str) -> String {
    format!(
        "title = \"Own\"\nrole = \"test\"\nlicence = \"mine\"\nscorer = \"math\"\n\
         dataset = {{ kind = \"file\", path = \"rows.jsonl\" }}\n\
         columns = {{ question = \"q\", answer = \"a\" }}\n{more}"
    )
}

#[test]
fn what_a_definition_checks_is_checked() {
    let rows = "{\"q\": \"a?\", \"a\": \"010\"}\n{\"q\": \"b?\", \"a\": \"1000\"}\n";
    for (more, message) in [
        (
            "checks = { integer = { from = 0, to = 999 } }",
            "`rows.jsonl`, line 2, field `a`: `1000` is no integer from 0 to 999",
        ),
        (
            "checks = { rows = 3 }",
            "`own` has 2 rows, not 3; the data set is another than the one that this benchmark describes, so its results would not compare; check `dataset` and `checks.rows`",
        ),
        (
            "keep = { range = { column = \"a\", from = 0, to = 99 } }\nchecks = { rows = 2, problems = 2 }",
            "`own` gives 1 problems, not 2; check `keep`, `overlap` and `checks.problems`",
        ),
        (
            "tags = { level = \"Level\" }",
            "`rows.jsonl` has no column `Level`; it has `q`, `a`; correct the name, or take a file of the layout that was expected",
        ),
        (
            "gold = { after = \"####\" }",
            "`rows.jsonl`, line 1, field `a`: has no `####`, which the answer follows",
        ),
    ] {
        let folder = Folder::new().with("rows.jsonl", rows).with("own.toml", own(more));
        assert_eq!(folder.error("own.toml"), message, "{more}");
    }
    let folder = Folder::new().with("rows.jsonl", rows).with("own.toml", own("check = 1\n"));
    let error = folder.error("own.toml");
    assert!(error.contains("line 7") && error.contains("unknown field `check`"), "{error}");
    assert!(error.contains("docs/eval.md"), "{error}");
}

#[test]
fn choices_are_checked() {
    let own = "title = \"Own\"\nrole = \"test\"\nlicence = \"mine\"\nscorer = \"choice\"\n\
        dataset = { kind = \"file\", path = \"rows.jsonl\" }\ncolumns = { question = \"q\" }\n\
        choices = { list = \"options\", answer = \"key\" }\n";
    let load = |row: &str, checks: &str| {
        let folder =
            Folder::new().with("rows.jsonl", row).with("own.toml", format!("{own}{checks}"));
        folder.load("own.toml").map(drop).map_err(|_| folder.error("own.toml"))
    };
    let row = |options: &str, key: &str| {
        format!(r#"{{"q": "which?", "options": {options}, "key": {key}}}"#)
    };
    assert_eq!(load(&row(r#"["x", "y", "z"]"#, "\"C\""), ""), Ok(()));
    assert_eq!(load(&row(r#"["x", "y", "y "]"#, "0"), ""), Ok(()));
    let place = "`rows.jsonl`, line 1, field";
    for (options, key, checks, message) in [
        (
            r#"["x", "y", "y "]"#,
            "0",
            "checks = { distinct_choices = true }",
            "`options`: choices 2 and 3 of the question are the same",
        ),
        (r#"["x", "y", "y "]"#, "1", "", "`options`: choices 2 and 3 of the question are the same"),
        (
            r#"["x", "y"]"#,
            "\"C\"",
            "",
            "`key`: `C` is neither a letter from A to B nor an index from 0",
        ),
        (
            r#"["x", "y"]"#,
            "-1",
            "",
            "`key`: `-1` is neither a letter from A to B nor an index from 0",
        ),
        (r#"["x"]"#, "0", "", "`options`: must hold 2 to 26 texts, none of them empty"),
        (r#"["x", ""]"#, "0", "", "`options`: must hold 2 to 26 texts, none of them empty"),
        (r#"["x", {}]"#, "0", "", "`options`: has something in it that is no text"),
        (r#""x""#, "0", "", "`options`: is not a list"),
    ] {
        assert_eq!(load(&row(options, key), checks), Err(format!("{place} {message}")));
    }
}
