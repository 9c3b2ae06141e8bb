//! What a benchmark is: a TOML file. Those of the top-level `eval/` are in the binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::error::BenchmarkError;
use super::format::Format;
use crate::arith::Split;

/// A benchmark as its file describes it. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// What it is called on the command line: the name of its file.
    #[serde(skip)]
    pub name: String,
    pub title: String,
    /// Whether it may be trained on.
    pub role: Role,
    /// The licence as the data set states it, and what else its owners ask for.
    pub licence: String,
    /// The page of the data set.
    pub source: Option<String>,
    pub scorer: Scorer,
    /// What the agent is asked, with `{question}` and `{choices}` in it; without one, the question alone.
    pub prompt: Option<String>,
    /// The contest years that its problems are from, for overlap checks.
    #[serde(default)]
    pub years: Vec<i64>,
    pub dataset: Dataset,
    #[serde(default)]
    pub columns: Columns,
    pub choices: Option<Choices>,
    #[serde(default)]
    pub gold: GoldText,
    /// What results are broken down by: the name of the tag, and its column.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub keep: Keep,
    #[serde(default)]
    pub checks: Checks,
    pub overlap: Option<OverlapRule>,
}

/// What a benchmark is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Measured on, never trained on.
    Test,
    Train,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Test => "test",
            Role::Train => "train",
        })
    }
}

/// How answers are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scorer {
    /// Equivalence of mathematical expressions.
    Math,
    /// The letter of a choice.
    Choice,
}

/// Where the rows are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Dataset {
    /// The built-in generator, [`crate::arith`].
    Arith { split: Split, seed: u64, problems: u64 },
    /// Files of a data set on the Hugging Face Hub.
    Hub {
        /// `OWNER/NAME`.
        repo: String,
        /// A commit, so that everybody measures on the same rows; or a branch or tag.
        revision: String,
        files: Vec<HubFile>,
        /// Its terms must be accepted before it can be had.
        #[serde(default)]
        gated: bool,
    },
    /// A file on this machine; in a benchmark's file the path is relative to it.
    File { path: PathBuf },
}

/// One file of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    pub path: String,
    /// Told by the name where it is left out.
    pub format: Option<Format>,
    pub bytes: Option<u64>,
    /// What the content must be.
    pub sha256: Option<String>,
}

/// The columns that make a problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Without one, a problem is called by its benchmark and the number of its row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default)]
    pub question: String,
    /// Not where there are choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// The columns that hold the choices of a question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ChoicesKeys")]
pub enum Choices {
    /// The right one and the wrong ones, each in a column.
    Columns { right: String, wrong: Vec<String> },
    /// All in one list; `answer` holds the letter of the right one, or its index from 0.
    List { list: String, answer: String },
}

/// The keys of both, so that an unknown one is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoicesKeys {
    right: Option<String>,
    wrong: Option<Vec<String>>,
    list: Option<String>,
    answer: Option<String>,
}

impl TryFrom<ChoicesKeys> for Choices {
    type Error = &'static str;

    fn try_from(keys: ChoicesKeys) -> Result<Self, Self::Error> {
        match (keys.right, keys.wrong, keys.list, keys.answer) {
            (Some(right), Some(wrong), None, None) if (1..26).contains(&wrong.len()) => {
                Ok(Choices::Columns { right, wrong })
            }
            (None, None, Some(list), Some(answer)) => Ok(Choices::List { list, answer }),
            _ => Err("`choices` takes `right` and 1 to 25 columns `wrong`, or `list` and `answer`"),
        }
    }
}

/// How the gold answer stands in its column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldText {
    /// It is what follows the last of these.
    pub after: Option<String>,
    /// Separators of thousands, which are taken out of a number.
    pub thousands: Option<String>,
}

/// Which rows are problems of the benchmark; the others are left out, and counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Only rows whose answer is an integer.
    #[serde(default)]
    pub integer_answer: bool,
    pub range: Option<ColumnRange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnRange {
    pub column: String,
    pub from: i64,
    pub to: i64,
}

/// What must hold of the data, or it is not loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Rows of the files.
    pub rows: Option<u64>,
    /// Problems, after what is left out; an overlap found is taken off.
    pub problems: Option<u64>,
    /// Every answer is an integer of this range.
    pub integer: Option<IntegerRange>,
    /// No two choices of a question are the same.
    #[serde(default)]
    pub distinct_choices: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerRange {
    pub from: i64,
    pub to: i64,
}

/// Which test sets a training set is compared with, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlapRule {
    /// Names of benchmarks, or files beside this one.
    pub against: Vec<String>,
    pub by: Vec<OverlapBy>,
}

/// By what two problems are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlapBy {
    /// The tag `year` is one of the test set's `years`.
    Year,
    Id,
    /// The letters and digits of the question.
    Text,
}

impl Benchmark {
    /// Every benchmark of the binary, by name.
    pub fn list() -> &'static [Benchmark] {
        &BUILT_IN
    }

    /// The benchmark of this name.
    ///
    /// # Errors
    /// If there is none; the message names those there are.
    pub fn named(name: &str) -> Result<&'static Benchmark, BenchmarkError> {
        Self::list()
            .iter()
            .find(|benchmark| benchmark.name == name)
            .ok_or_else(|| BenchmarkError::unknown(name))
    }

    /// Reads one's own benchmark.
    ///
    /// # Errors
    /// If the file cannot be read, or does not describe a benchmark.
    pub fn open(path: &Path) -> Result<Benchmark, BenchmarkError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BenchmarkError::Read { path: path.to_owned(), source })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut benchmark = Self::parse(&name, &text)
            .map_err(|problem| BenchmarkError::Definition { path: path.to_owned(), problem })?;
        let beside = path.parent().unwrap_or(Path::new(""));
        if let Dataset::File { path } = &mut benchmark.dataset {
            *path = beside.join(&path);
        }
        for other in benchmark.overlap.iter_mut().flat_map(|overlap| &mut overlap.against) {
            if super::source::is_file_name(other) {
                *other = beside.join(&other).to_string_lossy().into_owned();
            }
        }
        Ok(benchmark)
    }

    fn parse(name: &str, text: &str) -> Result<Benchmark, String> {
        let mut benchmark: Benchmark =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        benchmark.name = name.to_owned();
        benchmark.check()?;
        Ok(benchmark)
    }

    /// What the types do not say.
    fn check(&self) -> Result<(), String> {
        if matches!(self.dataset, Dataset::Arith { .. }) {
            return Ok(()); // the generator knows all the rest
        }
        if self.columns.question.is_empty() {
            return Err("`columns.question` is missing; it names the column of the question".into());
        }
        match (self.scorer, &self.choices, &self.columns.answer) {
            (Scorer::Math, None, Some(_)) | (Scorer::Choice, Some(_), None) => {}
            (Scorer::Math, Some(_), _) => {
                return Err("`choices` needs `scorer = \"choice\"`".into());
            }
            (Scorer::Math, None, None) => {
                return Err("`columns.answer` is missing; it names the column of the answer".into());
            }
            (Scorer::Choice, None, _) => {
                return Err("`scorer = \"choice\"` needs a section `choices`".into());
            }
            (Scorer::Choice, Some(_), Some(_)) => {
                return Err("`columns.answer` has no use beside `choices`; take it out".into());
            }
        }
        if let Some(prompt) = &self.prompt {
            if !prompt.contains("{question}") {
                return Err("`prompt` has no `{question}` in it".into());
            }
            if prompt.contains("{choices}") != self.choices.is_some() {
                return Err(
                    "`{choices}` belongs in `prompt` where there are choices, and only there"
                        .into(),
                );
            }
        }
        let by_year =
            self.overlap.as_ref().is_some_and(|overlap| overlap.by.contains(&OverlapBy::Year));
        if by_year && !self.tags.contains_key("year") {
            return Err("`overlap.by` has `year`, so `tags.year` must name its column".into());
        }
        match &self.dataset {
            Dataset::Hub { files, .. } if files.is_empty() => {
                Err("`dataset.files` is empty; name at least one".into())
            }
            _ => Ok(()),
        }
    }
}

static BUILT_IN: LazyLock<Vec<Benchmark>> = LazyLock::new(|| {
    let files: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/benchmarks.rs"));
    let parse = |(name, text): &(&str, &str)| {
        Benchmark::parse(name, text).unwrap_or_else(|problem| panic!("eval/{name}.toml: {problem}"))
    };
    files.iter().map(parse).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    const MATH: &str = "title = \"T\"\nrole = \"test\"\nlicence = \"MIT\"\nscorer = \"math\"\n\
        [dataset]\nkind = \"file\"\npath = \"rows.jsonl\"\n[columns]\nquestion = \"q\"\nanswer = \"a\"\n";

    #[test]
    fn the_built_in_ones_are_what_the_docs_promise() {
        let names: Vec<&str> = Benchmark::list().iter().map(|one| one.name.as_str()).collect();
        let wanted =
            ["aime24", "aime25", "aime_train", "arith", "gpqa", "gsm8k", "gsm8k_train", "math500"];
        assert_eq!(names, wanted);
        for benchmark in Benchmark::list() {
            assert_eq!(benchmark.role == Role::Train, benchmark.name.ends_with("_train"));
            assert_eq!(benchmark.role == Role::Train, benchmark.overlap.is_some());
            let Dataset::Hub { revision, gated, .. } = &benchmark.dataset else { continue };
            let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit, "{}: {revision}", benchmark.name);
            assert_eq!(*gated, benchmark.name == "gpqa");
            assert!(benchmark.source.is_some() && benchmark.checks.rows.is_some());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = Benchmark::named("aime2024").expect_err("there is none").to_string();
        assert!(error.contains("did you mean `aime24`?"), "{error}");
        assert!(error.contains("gsm8k_train"), "{error}");
        assert!(Benchmark::named("gpqa").is_ok());
    }

    #[test]
    fn unknown_keys_are_errors_wherever_they_stand() {
        assert!(Benchmark::parse("own", MATH).is_ok());
        for (section, key) in [
            ("", "rows = 3\n"),
            ("[checks]\n", "row = 3\n"),
            ("[keep]\n", "integers = true\n"),
            ("[gold]\n", "behind = \"####\"\n"),
            ("[choices]\n", "rigth = \"r\"\nwrong = []\n"),
        ] {
            let text = match section {
                "" => format!("{key}{MATH}"),
                _ => format!("{MATH}{section}{key}"),
            };
            let error = Benchmark::parse("own", &text).expect_err(key);
            let name = key.split_once(' ').expect("a key").0;
            assert!(error.contains("line ") && error.contains(&format!("`{name}`")), "{error}");
        }
        let dataset = MATH.replace("path =", "revision = \"main\"\npath =");
        let error = Benchmark::parse("own", &dataset).expect_err("a file has none");
        assert!(error.contains("`revision`"), "{error}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let error = |text: &str| Benchmark::parse("own", text).expect_err(text);
        let choice = MATH.replace("\"math\"", "\"choice\"");
        assert!(error(&choice).contains("`choices`"));
        assert!(error(&MATH.replace("answer = \"a\"\n", "")).contains("`columns.answer`"));
        assert!(error(&MATH.replace("question = \"q\"\n", "")).contains("`columns.question`"));
        let prompt = format!("prompt = \"{{question}} {{choices}}\"\n{MATH}");
        assert!(error(&prompt).contains("`{choices}`"));
        assert!(error(&format!("prompt = \"Solve it.\"\n{MATH}")).contains("`{question}`"));
        let half = format!("{choice}[choices]\nright = \"r\"\nanswer = \"a\"\n");
        assert!(error(&half).contains("`list` and `answer`"));
        let years = format!("{MATH}[overlap]\nagainst = [\"aime24\"]\nby = [\"year\"]\n");
        assert!(error(&years).contains("`tags.year`"));
    }
}
