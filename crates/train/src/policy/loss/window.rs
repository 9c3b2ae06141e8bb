//! The denominators: what one token weighs in the loss of the whole optimizer window.
//!
//! A window is everything between two optimizer updates. Each loss is a sum over tokens of `weight × token loss`, and the
//! weights come from the window, never from the micro-batch: so the losses of micro-batches add up to the loss of the
//! window, however it is cut. (TRL divides by the tokens of the generation batch times GA / SPG, which is the same where
//! a generation batch is one window, and an average of its windows otherwise.)

use std::collections::BTreeMap;

/// One completion of an optimizer window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRow {
    /// The prompt tokens it was sampled from.
    pub group: u64,
    /// Its tokens that count, after tool output and truncated completions are masked.
    pub loss_tokens: usize,
}

/// All completions of an optimizer window, on every micro-batch.
#[derive(Debug, Clone)]
pub struct Window {
    rows: Vec<WindowRow>,
    tokens: usize,
    group_tokens: BTreeMap<u64, usize>,
    max_completion_length: usize,
}

impl Window {
    /// `max_completion_length`, in tokens, is the fixed denominator of `dr_grpo`; the other losses do not read it.
    pub fn new(rows: Vec<WindowRow>, max_completion_length: usize) -> Self {
        let mut group_tokens: BTreeMap<u64, usize> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.loss_tokens > 0) {
            *group_tokens.entry(row.group).or_default() += row.loss_tokens;
        }
        let tokens = rows.iter().map(|row| row.loss_tokens).sum();
        Self { rows, tokens, group_tokens, max_completion_length }
    }

    pub fn rows(&self) -> &[WindowRow] {
        &self.rows
    }

    /// N: the loss tokens of the window.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The same for every token: 1 / N. Long completions weigh more than short ones (DAPO, section 3.3).
    pub fn token_mean(&self) -> Vec<f64> {
        vec![reciprocal(self.tokens); self.rows.len()]
    }

    /// 1 / (groups × tokens of the group). Groups without a loss token do not count.
    pub fn group_token_mean(&self) -> Vec<f64> {
        let groups = self.group_tokens.len();
        let tokens = |row: &WindowRow| self.group_tokens.get(&row.group).copied().unwrap_or(0);
        self.rows.iter().map(|row| reciprocal(groups) * reciprocal(tokens(row))).collect()
    }

    /// 1 / (rows × tokens of the row). Rows without a loss token count as rows, as in TRL.
    pub fn sequence_mean(&self) -> Vec<f64> {
        let rows = reciprocal(self.rows.len());
        self.rows.iter().map(|row| rows * reciprocal(row.loss_tokens)).collect()
    }

    /// The same for every token, whatever was sampled: 1 / (rows × `max_completion_length`).
    pub fn fixed_length(&self) -> Vec<f64> {
        let weight = reciprocal(self.rows.len()) * reciprocal(self.max_completion_length);
        vec![weight; self.rows.len()]
    }
}

/// 1 / `count`; of nothing, nothing is weighed, and 1 does no harm.
fn reciprocal(count: usize) -> f64 {
    1.0 / count.max(1) as f64
}
