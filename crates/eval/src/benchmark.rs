//! Benchmarks as data: a TOML file says where the rows are, which columns make a problem, what must hold of them and how
//! answers are judged. Those of the top-level `eval/` are in the binary; a file of one's own, or plain data, does as well.
//!
//! Start reading at [`load`].

mod choices;
mod dataset;
mod definition;
mod error;
mod format;
mod guess;
mod loaded;
mod overlap;
mod problems;
mod row;
mod selection;
mod source;
mod table;
mod text;

use agentflow_model::hub::{Downloaded, HubSettings};

use crate::{Gold, Problem, arith};

pub use dataset::{DataFile, DatasetRecord};
pub use definition::{
    Benchmark, Checks, Choices, ColumnRange, Columns, Dataset, GoldText, HubFile, IntegerRange,
    Keep, OverlapBy, OverlapRule, Role, Scorer,
};
pub use error::{BenchmarkError, Place};
pub use format::Format;
pub use guess::FileKeys;
pub use loaded::Loaded;
pub use overlap::{Compared, Overlap};
pub use selection::Selection;
pub use source::Source;

/// What a run may ask for beside the benchmark itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Columns of a plain data file.
    pub keys: FileKeys,
    /// Which problems; all without it.
    pub selection: Selection,
    /// Decides the order in which choices are shown.
    pub shuffle_seed: u64,
    /// Another split of the built-in arithmetic than its file says.
    pub split: Option<arith::Split>,
    /// Another seed of the built-in arithmetic than its file says.
    pub problem_seed: Option<u64>,
}

/// Loads a benchmark: its files from disk, the cache or the Hub, in this order; every row checked; training data compared
/// with the test sets; then the selection.
///
/// `on_progress` hears of downloads only.
///
/// # Errors
/// See [`BenchmarkError`]: each says what to do.
pub async fn load(
    source: &Source,
    options: &Options,
    hub: &HubSettings,
    on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
) -> Result<Loaded, BenchmarkError> {
    let benchmark = describe(source, options)?;
    let mut asked = whole(&benchmark, options, hub, on_progress).await?;
    if let Some(rule) = &benchmark.overlap {
        let mut overlap = Overlap::default();
        for other in &rule.against {
            let unknown = |source| BenchmarkError::OverlapUnknown {
                name: benchmark.name.clone(),
                against: other.clone(),
                source: Box::new(source),
            };
            let other: Source = other.parse().map_err(unknown)?;
            let other = describe(&other, &Options::default()).map_err(unknown)?;
            let test_set = whole(&other, &Options::default(), hub, on_progress).await;
            let test_set = test_set.map_err(unknown)?;
            overlap.remove(&mut asked, &rule.by, &test_set, &other.years);
        }
        asked.loaded.available = asked.questions.len();
        asked.loaded.overlap = Some(overlap);
    }
    asked.loaded.select(&options.selection)
}

/// What the source means.
fn describe(source: &Source, options: &Options) -> Result<Benchmark, BenchmarkError> {
    let benchmark = match source {
        Source::Data(path) => return guess::benchmark(path, &options.keys),
        Source::Named(name) => Benchmark::named(name)?.clone(),
        Source::Definition(path) => Benchmark::open(path)?,
    };
    match options.keys.first_set() {
        Some(option) => Err(BenchmarkError::KeyWithoutFile { option, name: benchmark.name }),
        None => Ok(benchmark),
    }
}

/// They are held in memory, a kilobyte each.
const MOST_GENERATED: usize = 1_000_000;

/// A benchmark before overlap and selection.
struct Whole {
    loaded: Loaded,
    /// Of each problem the question as it stands in the data set: without prompt and choices.
    questions: Vec<String>,
}

async fn whole(
    benchmark: &Benchmark,
    options: &Options,
    hub: &HubSettings,
    on_progress: &mut (dyn FnMut(Downloaded<'_>) + Send),
) -> Result<Whole, BenchmarkError> {
    if let Dataset::Arith { split, seed, problems } = &benchmark.dataset {
        let split = options.split.unwrap_or(*split);
        let seed = options.problem_seed.unwrap_or(*seed);
        // Endless: more than the usual number are made where more are asked for.
        let count = match options.selection {
            Selection::First(wanted) if wanted > MOST_GENERATED => {
                let name = benchmark.name.clone();
                return Err(BenchmarkError::TooFew { name, available: MOST_GENERATED, wanted });
            }
            Selection::First(count) => count as u64,
            Selection::All | Selection::Sample { .. } => *problems,
        };
        let problems: Vec<Problem> =
            (0..count).map(|index| generated(arith::problem(seed, split, index))).collect();
        let questions = problems.iter().map(|problem| problem.question.clone()).collect();
        let dataset = DatasetRecord::generated(&format!("arith/{split}/{seed}"), count);
        let mut loaded = Loaded::new(benchmark, problems, dataset);
        if split == arith::Split::Train {
            loaded.role = Role::Train;
        }
        return Ok(Whole { loaded, questions });
    }
    let (dataset, tables) = dataset::open(benchmark, hub, on_progress).await?;
    let read = problems::read(benchmark, &tables, options.shuffle_seed)?;
    let dataset = DatasetRecord { rows: read.rows, ..dataset };
    let mut loaded = Loaded::new(benchmark, read.problems, dataset);
    loaded.left_out = read.left_out;
    loaded.shuffle_seed = benchmark.choices.as_ref().map(|_| options.shuffle_seed);
    Ok(Whole { loaded, questions: read.questions })
}

fn generated(problem: arith::Problem) -> Problem {
    let tags = [
        ("level", problem.level.to_string()),
        // How many tool calls its demonstration takes: credit for single steps shows where there are several.
        ("calls", problem.calls.len().to_string()),
        ("family", problem.family),
        ("split", problem.split.to_string()),
    ];
    Problem {
        id: problem.id,
        question: problem.question,
        gold: Gold::Math { answer: problem.answer.to_string() },
        tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
