//! A micro-batch without padding: the tokens of its rows one after the other.

use serde::{Deserialize, Serialize};

use super::LossError;
use super::window::Window;

/// How much better than expected: of a whole completion, or of each of its tokens. In JSON a number or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credit {
    Row(f64),
    /// One a token; for credit by step.
    Tokens(Vec<f64>),
}

impl Credit {
    fn of_token(&self, token: usize) -> f64 {
        match self {
            Self::Row(advantage) => *advantage,
            Self::Tokens(advantages) => advantages[token],
        }
    }
}

/// One completion of a micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedRow {
    /// Where it stands in the [`Window`].
    pub window_row: usize,
    pub advantage: Credit,
    /// True on tokens that count in the loss. Tokens left out altogether need no entry: packing only the tokens that
    /// count is the cheapest.
    pub mask: Vec<bool>,
}

/// Whole rows of a window, packed; token `t` of the micro-batch is entry `t` of every `[T]` tensor of the loss.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    rows: Vec<PackedRow>,
    tokens: usize,
}

impl MicroBatch {
    /// # Errors
    /// If a row is not in the window, counts other tokens than the window says (then the denominators would be wrong),
    /// has another number of advantages than tokens, or an advantage that is not finite.
    pub fn new(rows: Vec<PackedRow>, window: &Window) -> Result<Self, LossError> {
        for (index, row) in rows.iter().enumerate() {
            let Some(known) = window.rows().get(row.window_row) else {
                let (window_row, rows) = (row.window_row, window.rows().len());
                return Err(LossError::NotInWindow { row: index, window_row, rows });
            };
            let found = row.mask.iter().filter(|&&counts| counts).count();
            if found != known.loss_tokens {
                let wanted = known.loss_tokens;
                return Err(LossError::LossTokens { row: index, found, wanted });
            }
            if let Credit::Tokens(advantages) = &row.advantage
                && advantages.len() != row.mask.len()
            {
                let (found, wanted) = (advantages.len(), row.mask.len());
                return Err(LossError::Advantages { row: index, found, wanted });
            }
            let advantages = (0..row.mask.len()).map(|token| row.advantage.of_token(token));
            if !advantages
                .zip(&row.mask)
                .all(|(advantage, counts)| !counts || advantage.is_finite())
            {
                return Err(LossError::NotFinite { row: index });
            }
        }
        let tokens = rows.iter().map(|row| row.mask.len()).sum();
        Ok(Self { rows, tokens })
    }

    /// T: all packed tokens, whether they count or not.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub fn rows(&self) -> &[PackedRow] {
        &self.rows
    }

    /// For each token the index of its row in this micro-batch.
    pub(super) fn row_of_token(&self) -> Vec<u32> {
        let rows = self.rows.iter().enumerate();
        rows.flat_map(|(index, row)| std::iter::repeat_n(index as u32, row.mask.len())).collect()
    }

    pub(super) fn mask(&self) -> Vec<u8> {
        self.rows.iter().flat_map(|row| row.mask.iter().map(|&counts| u8::from(counts))).collect()
    }

    /// For each token its advantage; 0 on tokens that do not count.
    pub(super) fn advantages(&self) -> Vec<f64> {
        let mut advantages = Vec::with_capacity(self.tokens);
        for row in &self.rows {
            for (token, &counts) in row.mask.iter().enumerate() {
                advantages.push(if counts { row.advantage.of_token(token) } else { 0.0 });
            }
        }
        advantages
    }

    /// For each token what it weighs: the weight of its row in the window; 0 where it does not count.
    pub(super) fn weights(&self, of_window_rows: &[f64]) -> Vec<f64> {
        let rows = self.rows.iter();
        rows.flat_map(|row| {
            let weight = of_window_rows[row.window_row];
            row.mask.iter().map(move |&counts| if counts { weight } else { 0.0 })
        })
        .collect()
    }
}
