//! A family of problems: how its numbers are drawn, what the answer is, which tool calls find it.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::template::Template;
use super::{Draw, Split};

/// One kind of problem.
pub struct Family {
    /// Unique over all levels, e.g. `percent_of`.
    pub name: &'static str,
    pub level: u8,
    /// Draws one instance, or `None` where the numbers drawn make no good problem (then they are drawn again).
    pub draw: fn(&mut Draw) -> Option<Instance>,
}

/// The numbers of one problem and how it is solved; the words come from a phrasing.
pub struct Instance {
    /// What the phrasings may name, e.g. `("percent", "15")`.
    pub values: Vec<(&'static str, String)>,
    pub answer: i64,
    pub calls: Vec<Call>,
}

/// One tool call of the demonstration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What the planner says before it: short, without numbers (naming the kind of step, nothing to copy wrongly).
    pub thought: String,
    /// Python; prints `result`.
    pub code: String,
    /// What the program prints: the answer on the last call, what the next call uses before it.
    pub result: i64,
}

impl Instance {
    /// A problem that one call solves. `values` are the parameters of the phrasings.
    pub fn one_call(
        values: Vec<(&'static str, String)>,
        thought: &str,
        code: String,
        answer: i64,
    ) -> Self {
        Self {
            values,
            answer,
            calls: vec![Call { thought: thought.to_owned(), code, result: answer }],
        }
    }

    /// A problem of two dependent calls: `second` makes its program from what the first printed.
    pub fn two_calls(
        values: Vec<(&'static str, String)>,
        (first_thought, first_code, first_result): (&str, String, i64),
        (second_thought, second_code, answer): (&str, String, i64),
    ) -> Self {
        let call = |thought: &str, code, result| Call { thought: thought.to_owned(), code, result };
        let calls = vec![
            call(first_thought, first_code, first_result),
            call(second_thought, second_code, answer),
        ];
        Self { values, answer, calls }
    }

    /// Whether this number tuple belongs to the test splits: one in ten, by a hash of the numbers in its programs.
    ///
    /// Programs hold every number of the problem and no word of it; the numbers are sorted first. So a held-out tuple
    /// stays held out whatever the family, the order of the operands, the names and the phrasing.
    pub(super) fn is_held_out(&self) -> bool {
        let code: Vec<&str> = self.calls.iter().map(|call| call.code.as_str()).collect();
        let code = code.join(" ");
        let mut numbers: Vec<&str> = code
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .collect();
        numbers.sort_unstable();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a: stable over Rust versions, unlike `DefaultHasher`
        for byte in numbers.join(" ").bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        (hash >> 32).is_multiple_of(10)
    }
}

/// The phrasings of one family, as its TOML table gives them.
pub(super) struct Phrasings {
    train: Vec<Template>,
    held_out: Vec<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhrasingTable {
    train: Vec<String>,
    held_out: Vec<String>,
}

impl Phrasings {
    /// A phrasing of the split, with its index in the family.
    pub(super) fn pick(&self, split: Split, rng: &mut ChaCha8Rng) -> (usize, &Template) {
        let all: Vec<(usize, &Template)> =
            self.train.iter().chain(&self.held_out).enumerate().collect();
        let (train, held_out) = all.split_at(self.train.len());
        let list = if split == Split::TestPhrasing { held_out } else { train };
        *list.choose(rng).expect("every family has phrasings of both kinds")
    }

    #[cfg(test)]
    pub(super) fn lists(&self) -> (&[Template], &[Template]) {
        (&self.train, &self.held_out)
    }
}

/// Joins the families of a level with the phrasings of its file.
///
/// # Panics
/// If file and code disagree. Both are compiled in, and a test reads every one of them.
pub(super) fn with_phrasings(families: &'static [Family], file: &str) -> Vec<(Family, Phrasings)> {
    let mut tables: BTreeMap<String, PhrasingTable> =
        toml::from_str(file).expect("phrasing files are valid TOML");
    let joined = families
        .iter()
        .map(|family| {
            let table = tables
                .remove(family.name)
                .unwrap_or_else(|| panic!("family `{}` has no phrasings", family.name));
            // Read once, kept for the life of the process.
            let templates = |texts: Vec<String>| {
                texts.into_iter().map(|text| Template::new(text.leak())).collect()
            };
            let phrasings =
                Phrasings { train: templates(table.train), held_out: templates(table.held_out) };
            (Family { ..*family }, phrasings)
        })
        .collect();
    assert!(tables.is_empty(), "phrasings without a family: {:?}", tables.keys());
    joined
}
