//! maj@k: the answer that most attempts agree on.

/// Index of the first answer of the largest group of equal ones; `None` where no attempt gave an answer.
///
/// `equal` decides, so that 1/2 and 0.5 vote together. A tie goes to the group seen first, and no answer is no vote. An
/// answer joins the first group whose first member it equals, for equality of answers need not be transitive.
pub fn majority<T>(answers: &[Option<T>], equal: impl Fn(&T, &T) -> bool) -> Option<usize> {
    let mut groups: Vec<(usize, &T, usize)> = Vec::new(); // index of the first member, the member, votes
    for (index, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else { continue };
        match groups.iter_mut().find(|(_, first, _)| equal(first, answer)) {
            Some((_, _, votes)) => *votes += 1,
            None => groups.push((index, answer, 1)),
        }
    }
    // `max_by_key` would take the last of several.
    groups.iter().rev().max_by_key(|(_, _, votes)| *votes).map(|(index, _, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: &[Option<&str>]) -> Option<usize> {
        majority(answers, |a, b| a.trim_start_matches('0') == b.trim_start_matches('0'))
    }

    #[test]
    fn the_largest_group_wins_by_equivalence() {
        assert_eq!(of(&[Some("9"), Some("73"), Some("073")]), Some(1));
    }

    #[test]
    fn a_tie_goes_to_the_first_seen() {
        assert_eq!(of(&[Some("1"), Some("2"), Some("2"), Some("1")]), Some(0));
        assert_eq!(of(&[None, Some("5"), Some("4")]), Some(1));
    }

    #[test]
    fn no_answer_never_wins() {
        assert_eq!(of(&[None, None, Some("4")]), Some(2));
        assert_eq!(of(&[None, None]), None);
        assert_eq!(of(&[]), None);
    }
}
