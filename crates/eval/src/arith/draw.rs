//! What a family may draw: numbers of even digit length, names and things of the right split.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::Split;
use super::words::{self, Words};

/// The source of everything random in one problem.
pub struct Draw<'a> {
    rng: &'a mut ChaCha8Rng,
    held_out: bool,
}

impl<'a> Draw<'a> {
    pub(super) fn new(rng: &'a mut ChaCha8Rng, split: Split) -> Self {
        Self { rng, held_out: split != Split::Train }
    }

    /// A number in `low..=high`, every value equally likely.
    pub fn number(&mut self, low: i64, high: i64) -> i64 {
        self.rng.random_range(low..=high)
    }

    /// A number in `low..=high`, every *length* equally likely: small planners must learn to copy long numbers too.
    pub fn wide(&mut self, low: i64, high: i64) -> i64 {
        let lengths = digits(low)..=digits(high);
        let length = self.rng.random_range(lengths);
        let first = 10_i64.pow(length - 1).max(low);
        let last = (10_i64.pow(length) - 1).min(high);
        self.rng.random_range(first.min(last)..=last)
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(self.rng).expect("a family offers at least one choice")
    }

    /// A first name.
    pub fn name(&mut self) -> &'static str {
        self.word(&words::NAMES)
    }

    /// A countable thing in the plural, e.g. `marbles`.
    pub fn things(&mut self) -> &'static str {
        self.word(&words::THINGS)
    }

    /// A place that sells or keeps things, e.g. `bakery`.
    pub fn place(&mut self) -> &'static str {
        self.word(&words::PLACES)
    }

    fn word(&mut self, words: &Words) -> &'static str {
        let list = if self.held_out { words.held_out } else { words.train };
        list.choose(self.rng).expect("word lists are not empty")
    }
}

fn digits(number: i64) -> u32 {
    number.max(1).ilog10() + 1
}
