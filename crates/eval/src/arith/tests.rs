//! What holds for every family and phrasing, and for the splits.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::template::Template;
use super::*;

fn problems(split: Split, count: u64) -> impl Iterator<Item = Problem> {
    (0..count).map(move |index| problem(7, split, index))
}

#[test]
fn five_levels_of_eight_to_ten_families() {
    let mut names = HashSet::new();
    let mut of_level = [0; 5];
    for family in families() {
        assert!(names.insert(family.name), "two families are called `{}`", family.name);
        of_level[usize::from(family.level) - 1] += 1;
    }
    assert!(of_level.iter().all(|count| (8..=10).contains(count)), "{of_level:?}");
}

#[test]
fn every_family_has_twenty_five_phrasings_shared_with_no_other() {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (family, phrasings) in REGISTRY.iter() {
        let (train, held_out) = phrasings.lists();
        assert!(train.len() + held_out.len() >= 25, "`{}` has too few", family.name);
        assert!(held_out.len() >= 5, "`{}` holds out too few", family.name);
        for Template(text) in train.iter().chain(held_out) {
            if let Some(other) = seen.insert(text, family.name) {
                panic!("`{text}` is a phrasing of `{other}` and of `{}`", family.name);
            }
        }
    }
}

/// Expanding panics on a parameter that is not drawn or a bracket that is not closed.
#[test]
fn every_phrasing_of_every_family_expands() {
    for (family, phrasings) in REGISTRY.iter() {
        for split in Split::ALL {
            let mut rng = ChaCha8Rng::seed_from_u64(split as u64);
            let instance = (0..10_000)
                .find_map(|_| (family.draw)(&mut Draw::new(&mut rng, split)))
                .unwrap_or_else(|| panic!("`{}` draws nothing", family.name));
            let (train, held_out) = phrasings.lists();
            for template in train.iter().chain(held_out) {
                for _ in 0..20 {
                    let question = template.expand(&instance.values, &mut rng);
                    let odd =
                        question.contains(['{', '}', '[', ']', '|']) || question.contains("  ");
                    assert!(!odd && question.is_ascii() && question.len() > 3, "`{question}`");
                }
            }
        }
    }
}

#[test]
fn splits_share_neither_numbers_nor_names_nor_held_out_phrasings() {
    let numbers = |problem: &Problem| {
        let code: Vec<&str> = problem.calls.iter().map(|call| call.code.as_str()).collect();
        let code = code.join(" ");
        let mut numbers: Vec<String> = code
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        numbers.sort();
        numbers
    };
    let trained: Vec<Problem> = problems(Split::Train, 5000).collect();
    let trained_numbers: HashSet<_> = trained.iter().map(numbers).collect();
    let trained_phrasings: HashMap<&str, usize> = REGISTRY
        .iter()
        .map(|(family, phrasings)| (family.name, phrasings.lists().0.len()))
        .collect();
    for problem in &trained {
        assert!(problem.phrasing < trained_phrasings[problem.family.as_str()], "{}", problem.id);
    }
    for split in [Split::Test, Split::TestPhrasing] {
        for problem in problems(split, 2000) {
            assert!(!trained_numbers.contains(&numbers(&problem)), "{} is in train", problem.id);
            let known = problem.phrasing < trained_phrasings[problem.family.as_str()];
            assert_eq!(
                known,
                split == Split::Test,
                "{}: phrasing {}",
                problem.id,
                problem.phrasing
            );
            for name in words::NAMES.train {
                assert!(
                    !problem.question.contains(&format!("{name} ")),
                    "{}: {name}",
                    problem.question
                );
            }
        }
    }
}

#[test]
fn a_third_of_levels_four_and_five_needs_two_dependent_calls() {
    let mut of = [0_u32; 5];
    let mut two = [0_u32; 5];
    for problem in problems(Split::Test, 5000) {
        let level = usize::from(problem.level) - 1;
        of[level] += 1;
        if let [first, second] = problem.calls.as_slice() {
            two[level] += 1;
            assert!(second.code.contains(&first.result.to_string()), "{}", problem.id);
        }
    }
    for level in [3, 4] {
        let share = f64::from(two[level]) / f64::from(of[level]);
        assert!((0.28..0.39).contains(&share), "level {}: {share}", level + 1);
    }
    assert_eq!(two[..3], [0, 0, 0]);
}

#[test]
fn the_last_call_prints_the_answer() {
    for split in Split::ALL {
        for problem in problems(split, 500) {
            assert_eq!(problem.calls.last().map(|call| call.result), Some(problem.answer));
        }
    }
}

/// The question of the README is of a trained kind.
#[test]
fn the_readme_question_is_a_trained_phrasing() {
    let (_, phrasings) = REGISTRY
        .iter()
        .find(|(family, _)| family.name == "percent_of_then_times")
        .expect("the family exists");
    let values = vec![
        ("percent", "15".to_owned()),
        ("number", "240".to_owned()),
        ("doubled", "doubled".to_owned()),
    ];
    let Template(text) = &phrasings.lists().0[0];
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    assert_eq!(Template::new(text).expand(&values, &mut rng), "What is 15% of 240, then doubled?");
}

proptest! {
    #[test]
    fn a_problem_is_a_function_of_its_id(seed: u64, index in 0..1_000_000_u64) {
        for split in Split::ALL {
            prop_assert_eq!(problem(seed, split, index), problem(seed, split, index));
        }
    }

    #[test]
    fn levels_take_turns(index in 0..1_000_000_u64) {
        prop_assert_eq!(u64::from(problem(1, Split::Train, index).level), index % 5 + 1);
    }
}
