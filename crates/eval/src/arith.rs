//! The built-in arithmetic benchmark: word problems with integer answers, made from a seed.
//!
//! A *family* is one kind of problem ("15 % of 240, then doubled"); a *phrasing* is one way to say it. Families live
//! in `level1.rs` … `level5.rs`, phrasings in `phrasings/level1.toml` …, so that wording can be widened without code.
//!
//! Three splits, disjoint by construction:
//! - `train`: trained phrasings, and 9 of 10 number tuples;
//! - `test`: trained phrasings, the tenth number tuple, names and things that `train` never uses;
//! - `test-phrasing`: phrasings that are in no other split, with the numbers and names of `test`.
//!
//! Every problem carries the demonstration that solves it: one Python program a tool call, and what the call prints.
//! Start reading at [`problem`].

mod draw;
mod family;
mod level1;
mod level2;
mod level3;
mod level4;
mod level5;
mod template;
mod words;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use draw::Draw;
pub use family::{Call, Family, Instance};

use family::Phrasings;

/// Which of the three disjoint parts a problem belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Test,
    TestPhrasing,
}

impl Split {
    pub const ALL: [Split; 3] = [Split::Train, Split::Test, Split::TestPhrasing];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
            Split::TestPhrasing => "test-phrasing",
        })
    }
}

/// A split name that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("unknown split `{0}`; the arithmetic benchmark has `train`, `test` and `test-phrasing`")]
pub struct UnknownSplit(String);

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(text: &str) -> Result<Self, UnknownSplit> {
        Split::ALL
            .into_iter()
            .find(|split| split.to_string() == text)
            .ok_or_else(|| UnknownSplit(text.to_owned()))
    }
}

/// One word problem, its answer, and the demonstration that solves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `arith/<split>/<seed>/<index>`: enough to make the problem again.
    pub id: String,
    pub split: Split,
    /// 1 (percentages) to 5 (modular powers, combinatorics).
    pub level: u8,
    pub family: String,
    /// Index of the phrasing in its family; phrasings of `test-phrasing` count on after the trained ones.
    pub phrasing: usize,
    pub question: String,
    pub answer: i64,
    /// One entry a tool call, in order; each later program uses what the one before printed.
    pub calls: Vec<Call>,
}

/// Every family of the benchmark, by level.
pub fn families() -> impl Iterator<Item = &'static Family> {
    REGISTRY.iter().map(|(family, _)| family)
}

/// The `index`-th problem of a split. The same arguments always give the same problem.
///
/// Levels take turns (`index` 0 to 4 is one of each), families within a level are drawn evenly.
pub fn problem(seed: u64, split: Split, index: u64) -> Problem {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index * 3 + split as u64);
    let level = (index % 5) as u8 + 1;
    let of_level: Vec<_> = REGISTRY.iter().filter(|(family, _)| family.level == level).collect();
    let (family, phrasings) = of_level.choose(&mut rng).expect("every level has a family");

    // Tuples are drawn until one falls on this side of the train/test line; 1 in 10 does for `test`.
    let instance = loop {
        let mut draw = Draw::new(&mut rng, split);
        if let Some(instance) = (family.draw)(&mut draw)
            && instance.is_held_out() == (split != Split::Train)
        {
            break instance;
        }
    };
    let (phrasing, template) = phrasings.pick(split, &mut rng);
    let question = template.expand(&instance.values, &mut rng);
    Problem {
        id: format!("arith/{split}/{seed}/{index}"),
        split,
        level,
        family: family.name.to_owned(),
        phrasing,
        question,
        answer: instance.answer,
        calls: instance.calls,
    }
}

/// Families with their phrasings, read once.
static REGISTRY: LazyLock<Vec<(Family, Phrasings)>> = LazyLock::new(|| {
    let levels: [(&[Family], &str); 5] = [
        (level1::FAMILIES, include_str!("arith/phrasings/level1.toml")),
        (level2::FAMILIES, include_str!("arith/phrasings/level2.toml")),
        (level3::FAMILIES, include_str!("arith/phrasings/level3.toml")),
        (level4::FAMILIES, include_str!("arith/phrasings/level4.toml")),
        (level5::FAMILIES, include_str!("arith/phrasings/level5.toml")),
    ];
    levels.into_iter().flat_map(|(families, file)| family::with_phrasings(families, file)).collect()
});

#[cfg(test)]
mod tests;
