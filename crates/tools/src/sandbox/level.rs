use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How well a run is contained; each level has all the layers of those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A fresh environment, resource limits, the broker's clock and output cap; within these, the code can do whatever
    /// the user can.
    None,
    /// No capabilities either, and as root another user if possible; files and the network are not contained.
    Basic,
    /// Landlock, seccomp, no capabilities. Leaks which paths exist; bounds the disk only by polling.
    Medium,
    /// Own namespaces and an own root as well: no foreign file, process or network is even visible.
    Strong,
}

/// The level a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelWanted {
    /// The best that works here, never [`Level::None`].
    #[default]
    Auto,
    /// Exactly this one, or an error.
    #[serde(untagged)]
    Exactly(Level),
}

impl LevelWanted {
    /// The levels to try, best first.
    pub(super) fn candidates(self) -> Vec<Level> {
        match self {
            Self::Auto => vec![Level::Strong, Level::Medium, Level::Basic],
            Self::Exactly(level) => vec![level],
        }
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Medium => "medium",
            Self::Strong => "strong",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for LevelWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Exactly(level) => level.fmt(f),
        }
    }
}

/// The text is not the name of a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown sandbox level `{found}`; use `auto`, `strong`, `medium`, `basic`, or `none` (no containment)"
)]
pub struct UnknownLevel {
    found: String,
}

impl FromStr for LevelWanted {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        [Level::None, Level::Basic, Level::Medium, Level::Strong]
            .into_iter()
            .find(|level| level.name() == text)
            .map(Self::Exactly)
            .ok_or_else(|| UnknownLevel { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_written_alike_in_json() {
        for name in ["auto", "strong", "medium", "basic", "none"] {
            let wanted: LevelWanted = name.parse().expect("a level's name");
            assert_eq!(wanted.to_string(), name);
            let json = serde_json::to_string(&wanted).expect("a level is a string");
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<LevelWanted>(&json).expect("its own JSON"), wanted);
        }
        let message = "paranoid".parse::<LevelWanted>().expect_err("not a level").to_string();
        assert!(message.contains("unknown sandbox level `paranoid`; use `auto`"), "{message}");
    }

    #[test]
    fn auto_never_ends_without_containment() {
        assert!(!LevelWanted::Auto.candidates().contains(&Level::None));
        assert!(Level::Strong > Level::Medium && Level::Medium > Level::Basic);
    }
}
