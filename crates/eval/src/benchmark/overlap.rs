//! No problem of a test set may be trained on: the comparison, and what it found.

use std::collections::HashSet;

use serde::Serialize;

use super::Whole;
use super::definition::OverlapBy;
use super::text::normalized;

/// What training data shares with test sets. Everything shared was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    pub compared: Vec<Compared>,
    /// The ids of the training problems that were taken out.
    pub removed: Vec<String>,
}

/// The comparison with one test set. A problem that is the same in several ways is counted in each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The test set.
    pub with: String,
    /// Its problems.
    pub problems: usize,
    /// What was compared.
    pub by: Vec<OverlapBy>,
    pub same_year: usize,
    pub same_id: usize,
    pub same_text: usize,
}

impl Overlap {
    /// Takes out of `training` what `test_set`, whose problems are of these `years`, has, too.
    pub(super) fn remove(
        &mut self,
        training: &mut Whole,
        by: &[OverlapBy],
        test_set: &Whole,
        years: &[i64],
    ) {
        let tested = &test_set.loaded.problems;
        let ids: HashSet<&str> = tested.iter().map(|one| one.id.as_str()).collect();
        let texts: HashSet<String> =
            test_set.questions.iter().map(|question| normalized(question)).collect();
        let mut compared = Compared {
            with: test_set.loaded.name.clone(),
            problems: tested.len(),
            by: by.to_vec(),
            same_year: 0,
            same_id: 0,
            same_text: 0,
        };
        let mut keep = Vec::with_capacity(training.questions.len());
        for (problem, question) in training.loaded.problems.iter().zip(&training.questions) {
            let year = problem.tags.get("year").and_then(|year| year.parse().ok());
            let mut is_shared = false;
            let mut count = |how: OverlapBy, same: bool, counter: &mut usize| {
                let same = same && by.contains(&how);
                *counter += usize::from(same);
                is_shared |= same;
            };
            let same_year = year.is_some_and(|year| years.contains(&year));
            count(OverlapBy::Year, same_year, &mut compared.same_year);
            count(OverlapBy::Id, ids.contains(problem.id.as_str()), &mut compared.same_id);
            let same_text = texts.contains(&normalized(question));
            count(OverlapBy::Text, same_text, &mut compared.same_text);
            if is_shared {
                self.removed.push(problem.id.clone());
            }
            keep.push(!is_shared);
        }
        retain(&mut training.loaded.problems, &keep);
        retain(&mut training.questions, &keep);
        self.compared.push(compared);
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| *keep.next().expect("one for each item"));
}

/// One line a test set, for people.
impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, one) in self.compared.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "overlap with {} ({} problems):", one.with, one.problems)?;
            for (place, by) in one.by.iter().enumerate() {
                let (count, what) = match by {
                    OverlapBy::Year => (one.same_year, "year"),
                    OverlapBy::Id => (one.same_id, "id"),
                    OverlapBy::Text => (one.same_text, "text"),
                };
                write!(f, "{} {count} by {what}", if place == 0 { "" } else { "," })?;
            }
        }
        match self.removed.len() {
            0 => Ok(()),
            count => write!(f, "\n{count} taken out: {}", self.removed.join(", ")),
        }
    }
}
