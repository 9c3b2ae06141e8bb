//! What ends a run before everything is attempted. It ends cleanly: what is kept stays, and the run can be resumed.

use std::fmt;
use std::time::Duration;

use agentflow_llm::Usage;

use crate::Prices;

/// What a whole run may cost, that of earlier processes included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Prompt and completion tokens. Once they are used up no attempt begins, and those under way go on to their end: what
    /// they used is spent, and would have to be spent again.
    pub max_tokens: Option<u64>,
    /// The same, in dollars, at these prices.
    pub max_usd: Option<(f64, Prices)>,
    /// Of this process; what is under way then is cut, and left for the next.
    pub max_time: Option<Duration>,
    /// The first attempt that fails, after its retries, ends the run.
    pub fail_fast: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Nothing is left to attempt.
    Complete,
    Interrupted,
    OutOfTokens {
        spent: u64,
        limit: u64,
    },
    OutOfMoney {
        spent: f64,
        limit: f64,
    },
    OutOfTime {
        limit: Duration,
    },
    /// An attempt failed, and the run was to end then.
    FailFast {
        problem: String,
        error: String,
    },
    /// So many attempts in a row failed that the next would, too.
    Failing {
        in_a_row: u64,
        error: String,
    },
}

impl Limits {
    /// The end of a run that has used `usage` by now, if it is over.
    pub(super) fn reached(&self, usage: Usage) -> Option<End> {
        let spent = usage.prompt_tokens + usage.completion_tokens;
        if let Some(limit) = self.max_tokens.filter(|limit| spent >= *limit) {
            return Some(End::OutOfTokens { spent, limit });
        }
        let (limit, prices) = self.max_usd.as_ref()?;
        let spent = cost(prices, usage);
        (spent >= *limit).then_some(End::OutOfMoney { spent, limit: *limit })
    }
}

/// Dollars.
fn cost(prices: &Prices, usage: Usage) -> f64 {
    let (prompt, completion) = (usage.prompt_tokens as f64, usage.completion_tokens as f64);
    (prompt * prices.prompt + completion * prices.completion) / 1e6
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutOfTokens { spent, limit } => {
                write!(f, "the budget of {limit} tokens is used up ({spent} spent)")
            }
            Self::OutOfMoney { spent, limit } => {
                write!(f, "the budget of ${limit} is used up (${spent:.4} spent)")
            }
            Self::OutOfTime { limit } => write!(f, "the time of {limit:?} is up"),
            Self::FailFast { problem, error } => write!(f, "`{problem}` failed: {error}"),
            Self::Failing { in_a_row, error } => {
                write!(f, "the last {in_a_row} attempts all failed, the last with: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_counted_by_kind_of_token() {
        let prices = Prices { prompt: 0.5, completion: 2.0 };
        let usage = Usage { prompt_tokens: 1_000_000, completion_tokens: 250_000 };
        assert_eq!(cost(&prices, usage), 1.0);
        let limits = Limits { max_usd: Some((1.0, prices)), ..Limits::default() };
        assert_eq!(limits.reached(usage), Some(End::OutOfMoney { spent: 1.0, limit: 1.0 }));
        assert_eq!(limits.reached(Usage { completion_tokens: 249_999, ..usage }), None);
        let limits = Limits { max_tokens: Some(1_250_000), ..Limits::default() };
        let reached = limits.reached(usage);
        assert_eq!(reached, Some(End::OutOfTokens { spent: 1_250_000, limit: 1_250_000 }));
    }
}
