//! The cards that a driver lists, and whether this binary runs on one.

use super::DeviceError;

/// A card as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The number behind `cuda:`.
    pub index: usize,
    /// E.g. `NVIDIA H200`.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory in all.
    pub memory: usize,
}

/// The compute capability that the kernels were compiled for, where the build named it (`CUDA_COMPUTE_CAP`).
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "asked of real cards only"))]
pub(super) fn built_for() -> Option<(u32, u32)> {
    let digits: u32 = option_env!("CUDA_COMPUTE_CAP")?.parse().ok()?;
    Some((digits / 10, digits % 10))
}

/// The card with number `index`, if this binary runs on it.
///
/// # Errors
/// If there is none, or one of another compute capability.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "asked of real cards only"))]
pub(super) fn usable(
    cards: &[Card],
    index: usize,
    built: Option<(u32, u32)>,
) -> Result<Card, DeviceError> {
    if cards.is_empty() {
        return Err(DeviceError::NoCard);
    }
    let Some(card) = cards.get(index) else {
        let found: Vec<String> =
            cards.iter().map(|card| format!("cuda:{} ({})", card.index, card.name)).collect();
        return Err(DeviceError::Index { wanted: index, found: found.join(", ") });
    };
    match built {
        Some(built) if !runs_on(built, card.capability) => {
            Err(DeviceError::Capability { card: card.clone(), built })
        }
        _ => Ok(card.clone()),
    }
}

/// From 9.0 on kernels are compiled for one capability exactly (`sm_90a`); the driver translates older ones for any
/// later card.
fn runs_on(built: (u32, u32), card: (u32, u32)) -> bool {
    if built >= (9, 0) { card == built } else { card >= built }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: usize, name: &str, capability: (u32, u32)) -> Card {
        Card { index, name: name.to_owned(), capability, memory: 1 << 30 }
    }

    fn refusal(cards: &[Card], index: usize, built: Option<(u32, u32)>) -> String {
        usable(cards, index, built).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_card_of_the_capability_built_for_is_taken() {
        let cards = [card(0, "NVIDIA H200", (9, 0)), card(1, "NVIDIA A100", (8, 0))];
        assert_eq!(usable(&cards, 0, Some((9, 0))).ok().as_ref(), Some(&cards[0]));
        assert_eq!(usable(&cards, 1, Some((8, 0))).ok().as_ref(), Some(&cards[1]));
        assert!(usable(&cards, 0, Some((8, 0))).is_ok(), "older kernels are translated");
        assert!(usable(&cards, 1, None).is_ok(), "a build that does not say is tried");
    }

    #[test]
    fn refusals_say_what_was_found_and_what_to_do() {
        let cards = [card(0, "NVIDIA H200", (9, 0)), card(1, "NVIDIA A100", (8, 0))];
        assert_eq!(
            refusal(&[], 0, None),
            "no CUDA device: the driver finds no card that it can use; see what `nvidia-smi` says, or use --device cpu"
        );
        assert_eq!(
            refusal(&cards, 2, Some((9, 0))),
            "there is no cuda:2: this machine has cuda:0 (NVIDIA H200), cuda:1 (NVIDIA A100)"
        );
        assert_eq!(
            refusal(&cards, 1, Some((9, 0))),
            "cuda:1 (NVIDIA A100) has compute capability 8.0, but this binary was built for 9.0; \
             build it again with CUDA_COMPUTE_CAP=80 scripts/cuda-build.sh, or use --device cpu"
        );
        let newer = [card(0, "NVIDIA RTX 5090", (12, 0))];
        assert!(refusal(&newer, 0, Some((9, 0))).contains("CUDA_COMPUTE_CAP=120"));
    }
}
