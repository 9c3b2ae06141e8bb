//! Values: what an answer says, as far as it can be compared.

use super::algebra::{Fraction, Polynomial};
use super::region::Region;
use super::unit::Unit;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    Text(String),
    /// `(1, 2)`, `[0, 1)`: a point, a list or an interval; which, the other side decides.
    Bracket {
        open: char,
        close: char,
        items: Vec<Value>,
    },
    /// Items without brackets: in any order against a set or another list, in this order against a tuple.
    List(Vec<Value>),
    /// `x = 1, y = 2`: in this order against a tuple, by name against its like.
    Record(Vec<(String, Value)>),
    Set(Vec<Value>),
    Matrix(Vec<Vec<Fraction>>),
    /// Real numbers that satisfy a condition; `variable` where the condition named one.
    Region {
        region: Region,
        variable: Option<String>,
    },
    /// `x = 5` with a name on the left, which does not count against a plain value.
    Assignment {
        name: String,
        value: Box<Value>,
    },
    /// Both sides' difference, which is zero; `right` is what stood behind the last sign.
    Equation {
        difference: Polynomial,
        right: Box<Value>,
    },
    /// Differences that are positive (strict) or not negative.
    Inequalities(Vec<Inequality>),
    Ratio(Vec<Fraction>),
    /// A set that has a letter: ℝ is a region, but ℤ is this.
    Named(String),
}

/// A number or expression, and how it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) value: Fraction,
    /// Digits behind the point of a number that was written as a decimal.
    pub(crate) decimals: Option<u32>,
    pub(crate) kind: ScalarKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScalarKind {
    Plain,
    /// The value is the number before the sign: 50 for 50 %.
    Percent,
    /// The value is in degrees.
    Degrees,
    Quantity(Unit),
    /// Written in another base.
    Based,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inequality {
    pub(crate) difference: Polynomial,
    pub(crate) relation: char,
}

impl Scalar {
    pub(crate) fn plain(value: Fraction) -> Self {
        Self { value, decimals: None, kind: ScalarKind::Plain }
    }
}

impl Value {
    pub(crate) fn plain(value: Fraction) -> Self {
        Self::Scalar(Scalar::plain(value))
    }

    /// The value behind a name: 5 of `x = 5`.
    pub(crate) fn unnamed(&self) -> &Self {
        let mut value = self;
        while let Self::Assignment { value: inner, .. } = value {
            value = inner;
        }
        value
    }
}
