//! Where an attempt's random numbers come from.

use sha2::{Digest, Sha256};

/// The seed of one attempt. It depends on the run's seed, the problem and the repeat, and on nothing else: not on the
/// order of attempts, not on which other problems there are, not on whether the run was interrupted.
///
/// 53 bits, so that every reader of JSON gets it exactly.
pub fn attempt_seed(seed: u64, problem: &str, repeat: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(repeat.to_le_bytes());
    hash.update(problem);
    let first: [u8; 8] = hash.finalize()[..8].try_into().expect("a hash has 32 bytes");
    u64::from_le_bytes(first) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_decides() {
        let seeds = [
            attempt_seed(0, "a", 0),
            attempt_seed(1, "a", 0),
            attempt_seed(0, "b", 0),
            attempt_seed(0, "a", 1),
        ];
        let distinct: std::collections::HashSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert!(seeds.iter().all(|seed| *seed < 1 << 53));
        // Computed with Python: int.from_bytes(sha256(bytes(8) + bytes(4) + b"a").digest()[:8], "little") >> 11
        assert_eq!(seeds[0], 7_674_878_214_620_930);
    }
}
