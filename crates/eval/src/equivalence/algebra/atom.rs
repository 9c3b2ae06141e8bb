//! Atoms, and the table that numbers them for one comparison.

use std::collections::HashMap;

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::One;

use super::super::bounds::{Read, Unreadable};
use super::{Fraction, Monomial, Polynomial};

/// What a polynomial is a polynomial in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Atom {
    Imaginary,
    Pi,
    Euler,
    Variable(String),
    /// A prime (or an integer without small factors) under a root, or with a power too large to write out.
    Prime(BigUint),
    /// A sum under a root, or with a power too large to multiply out.
    Sum(Polynomial),
    /// The base, an atom, to the power of a monomial: 2^x, e^(xy).
    Power(usize, Monomial),
    Function(Function, Vec<Fraction>),
}

/// A function that was not resolved into simpler atoms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    Sin,
    Cos,
    Arcsin,
    Arccos,
    Arctan,
    Ln,
    Abs,
    Floor,
    Ceiling,
    Factorial,
    Binomial,
    Minimum,
    Maximum,
    /// The first argument to the power of the second.
    Power,
    /// One that the text names but nobody defined, such as f.
    Named(String),
}

/// The atoms of one comparison, and the work it may still do.
#[derive(Debug)]
pub(crate) struct Atoms {
    list: Vec<Atom>,
    numbers: HashMap<Atom, usize>,
    work_left: u64,
    /// Set once an atom exists that may depend on others in a way the normal form does not see; only then may
    /// floating point overrule a difference.
    pub(crate) dependent: bool,
}

impl Atoms {
    pub(crate) const IMAGINARY: usize = 0;
    pub(crate) const PI: usize = 1;
    pub(crate) const EULER: usize = 2;

    /// `work`: what the comparison may do, in the units of [`bounds::WORK`].
    pub(crate) fn new(work: u64) -> Self {
        let list = vec![Atom::Imaginary, Atom::Pi, Atom::Euler];
        let numbers = list.iter().cloned().zip(0..).collect();
        Self { list, numbers, work_left: work, dependent: false }
    }

    pub(crate) fn work_left(&self) -> u64 {
        self.work_left
    }

    pub(crate) fn get(&self, number: usize) -> &Atom {
        &self.list[number]
    }

    /// The number of an atom, new or known.
    pub(crate) fn number(&mut self, atom: Atom) -> usize {
        if let Some(&number) = self.numbers.get(&atom) {
            return number;
        }
        match &atom {
            Atom::Prime(new) => {
                // Cofactors beyond trial division may share a factor that neither shows.
                let shares = self.list.iter().any(|known| match known {
                    Atom::Prime(known) => !known.gcd(new).is_one(),
                    _ => false,
                });
                self.dependent |= shares;
            }
            Atom::Sum(_) | Atom::Function(..) => self.dependent = true,
            _ => {}
        }
        let number = self.list.len();
        self.list.push(atom.clone());
        self.numbers.insert(atom, number);
        number
    }

    /// Pays for work; an error once the comparison has done its share.
    pub(crate) fn spend(&mut self, work: u64) -> Read<()> {
        match self.work_left.checked_sub(work) {
            Some(left) => {
                self.work_left = left;
                Ok(())
            }
            None => {
                self.work_left = 0;
                Err(Unreadable::Bound)
            }
        }
    }
}
