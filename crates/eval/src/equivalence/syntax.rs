//! The tree of an answer. Chains are flat, so its depth is that of brackets, bounded by [`bounds::DEPTH`].
//!
//! [`bounds::DEPTH`]: super::bounds::DEPTH

use super::token::Literal;
use super::unit::Unit;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Number(Literal),
    /// A variable or a constant: `x`, `x_1`, `π`, `e`, `ℝ`, `∞`.
    Symbol(String),
    Text(String),
    Sum(Vec<(Sign, Node)>),
    /// Factors; divisors are marked.
    Product(Vec<(Factor, Node)>),
    Power(Box<Node>, Box<Node>),
    Root {
        radicand: Box<Node>,
        degree: Option<Box<Node>>,
    },
    /// A function that is known, with its base or superscript-free arguments.
    Call(&'static str, Vec<Node>),
    /// A function that only the text knows: f(x).
    Apply(String, Vec<Node>),
    Factorial(Box<Node>),
    Percent(Box<Node>),
    Degrees(Box<Node>),
    Quantity(Box<Node>, Unit),
    /// Digits in a base.
    Based(String, u32),
    /// A sum or product with bounds: the body, its index, from, to.
    Series {
        product: bool,
        body: Box<Node>,
        index: String,
        from: Box<Node>,
        to: Box<Node>,
    },
    /// `(…)`, `[…]`, `]…[` with commas in them, or one item between unlike brackets.
    Bracket {
        open: char,
        close: char,
        items: Vec<Node>,
    },
    Set(Vec<Node>),
    /// `{x | condition}`.
    Builder(Box<Node>),
    /// Items without brackets, and what joined them.
    List {
        items: Vec<Node>,
        joined: Joined,
    },
    Matrix(Vec<Vec<Node>>),
    /// `a < b ≤ c`: one operator between each two sides. `named`: the first side is only a name.
    Relation {
        sides: Vec<Node>,
        operators: Vec<char>,
        named: bool,
        name: String,
    },
    /// ∪, ∩ or ∖ between sets.
    Sets(Vec<Node>, Vec<char>),
    Ratio(Vec<Node>),
    EmptySet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
    PlusMinus,
    MinusPlus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    Times,
    Over,
}

/// What stood between the items of a list: the weightiest word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Joined {
    Comma,
    And,
    Or,
    Semicolon,
}

impl Node {
    /// Whether `±` stands in this expression, outside lists and brackets of several items.
    pub(crate) fn has_plus_minus(&self) -> bool {
        match self {
            Node::Sum(terms) => terms.iter().any(|(sign, node)| {
                matches!(sign, Sign::PlusMinus | Sign::MinusPlus) || node.has_plus_minus()
            }),
            Node::Product(factors) => factors.iter().any(|(_, node)| node.has_plus_minus()),
            Node::Power(a, b) => a.has_plus_minus() || b.has_plus_minus(),
            Node::Root { radicand, .. } => radicand.has_plus_minus(),
            Node::Call(_, items) | Node::Apply(_, items) => items.iter().any(Node::has_plus_minus),
            Node::Factorial(a) | Node::Percent(a) | Node::Degrees(a) | Node::Quantity(a, _) => {
                a.has_plus_minus()
            }
            Node::Bracket { items, .. } => items.iter().any(Node::has_plus_minus),
            Node::Relation { sides, .. } => sides.iter().any(Node::has_plus_minus),
            _ => false,
        }
    }
}
