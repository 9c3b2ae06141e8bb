//! The choices of a question, in the order in which they are shown.

use sha2::{Digest, Sha256};

use crate::Gold;

/// Shuffles the choices, the right one of which is at `right`, and tells its letter.
///
/// They are sorted by the SHA-256 of the seed, the question's id and their place in the data set. So the order of a
/// question depends on nothing else: not on other questions, the limit or the repeat, nor on this program's version.
pub(super) fn shuffled(seed: u64, id: &str, choices: &[String], right: usize) -> Gold {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by_cached_key(|place| {
        let hash = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(id)
            .chain_update([0, *place as u8]);
        <[u8; 32]>::from(hash.finalize())
    });
    let shown = order.iter().map(|place| choices[*place].clone()).collect();
    let at = order.iter().position(|place| *place == right).expect("the right one is among them");
    Gold::Choice { letter: letter(at), shown }
}

/// A, B, C, …
pub(super) fn letter(place: usize) -> char {
    char::from(b'A' + place as u8)
}

/// One a line, as the model sees them: `(A) …`.
pub(super) fn listed(shown: &[String]) -> String {
    let line = |(place, choice): (usize, &String)| format!("({}) {choice}", letter(place));
    shown.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Vec<String> {
        ["right", "wrong 1", "wrong 2", "wrong 3"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_order_hangs_on_seed_and_id_alone() {
        let letters = |seed: u64| -> String {
            (0..40).map(|n| shuffled(seed, &format!("q{n}"), &choices(), 0).text()).collect()
        };
        assert_eq!(letters(0), letters(0));
        assert_ne!(letters(0), letters(1));
        // From `hashlib` of Python: an older run must have been shown the same order.
        assert_eq!(letters(0), "BACAADDDCCCCCDDBCACCCABACABDADCADBBDCCBA");
    }

    #[test]
    fn every_letter_is_right_equally_often() {
        let mut counts = [0_u32; 4];
        for n in 0..4000 {
            let Gold::Choice { letter, shown } =
                shuffled(7, &format!("made up {n}"), &choices(), 0)
            else {
                panic!("it is a choice")
            };
            let at = (letter as u8 - b'A') as usize;
            assert_eq!(shown[at], "right");
            counts[at] += 1;
        }
        // Four standard deviations of a fair draw are 110.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 110), "{counts:?}");
    }

    #[test]
    fn they_are_listed_by_letter() {
        assert_eq!(listed(&choices()[..2]), "(A) right\n(B) wrong 1");
    }
}
