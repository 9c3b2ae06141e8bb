//! Sets of real numbers as unions of intervals in normal form.

use std::cmp::Ordering;

use super::algebra::{Atoms, Fraction};
use super::bounds::{Read, Unreadable};

/// Disjoint intervals, ascending, none of which touches the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Region(pub(crate) Vec<Interval>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) from: End,
    pub(crate) to: End,
}

/// An end of an interval; `None` is infinity, which is always open.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) at: Option<Fraction>,
    pub(crate) closed: bool,
}

impl End {
    pub(crate) fn infinite() -> Self {
        Self { at: None, closed: false }
    }

    pub(crate) fn open(at: Fraction) -> Self {
        Self { at: Some(at), closed: false }
    }

    pub(crate) fn closed(at: Fraction) -> Self {
        Self { at: Some(at), closed: true }
    }
}

impl Interval {
    pub(crate) fn point(at: Fraction) -> Self {
        Self { from: End::closed(at.clone()), to: End::closed(at) }
    }
}

impl Region {
    pub(crate) fn reals() -> Self {
        Self(vec![Interval { from: End::infinite(), to: End::infinite() }])
    }

    /// Brings intervals into order and joins those that touch.
    ///
    /// # Errors
    /// If two ends cannot be compared, because they hold variables.
    pub(crate) fn new(mut intervals: Vec<Interval>, atoms: &mut Atoms) -> Read<Self> {
        let mut kept = Vec::with_capacity(intervals.len());
        for interval in intervals.drain(..) {
            if !is_empty(&interval, atoms)? {
                kept.push(interval);
            }
        }
        // Insertion sort: comparing ends may fail, and there are few.
        let mut sorted: Vec<Interval> = Vec::with_capacity(kept.len());
        for interval in kept {
            let mut place = sorted.len();
            while place > 0
                && from_order(&interval.from, &sorted[place - 1].from, atoms)? == Ordering::Less
            {
                place -= 1;
            }
            sorted.insert(place, interval);
        }
        let mut joined: Vec<Interval> = Vec::with_capacity(sorted.len());
        for interval in sorted {
            match joined.last_mut() {
                Some(last) if touches(&last.to, &interval.from, atoms)? => {
                    if to_order(&interval.to, &last.to, atoms)? == Ordering::Greater {
                        last.to = interval.to;
                    }
                }
                _ => joined.push(interval),
            }
        }
        Ok(Self(joined))
    }

    pub(crate) fn union(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        Self::new(self.0.iter().chain(&other.0).cloned().collect(), atoms)
    }

    pub(crate) fn intersection(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        let mut common = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                atoms.spend(20)?;
                let from = match from_order(&a.from, &b.from, atoms)? {
                    Ordering::Less => b.from.clone(),
                    _ => a.from.clone(),
                };
                let to = match to_order(&a.to, &b.to, atoms)? {
                    Ordering::Greater => b.to.clone(),
                    _ => a.to.clone(),
                };
                common.push(Interval { from, to });
            }
        }
        Self::new(common, atoms)
    }

    /// Everything else.
    pub(crate) fn complement(&self, atoms: &mut Atoms) -> Read<Self> {
        let mut gaps = Vec::new();
        let mut from = Some(End::infinite());
        for interval in &self.0 {
            if let (Some(from), Some(at)) = (from.take(), interval.from.at.clone()) {
                let to = End { at: Some(at), closed: !interval.from.closed };
                gaps.push(Interval { from, to });
            }
            let at = interval.to.at.clone();
            from = at.map(|at| End { at: Some(at), closed: !interval.to.closed });
        }
        if let Some(from) = from {
            gaps.push(Interval { from, to: End::infinite() });
        }
        Self::new(gaps, atoms)
    }
}

fn is_empty(interval: &Interval, atoms: &mut Atoms) -> Read<bool> {
    let (Some(from), Some(to)) = (&interval.from.at, &interval.to.at) else { return Ok(false) };
    Ok(match order(from, to, atoms)? {
        Ordering::Less => false,
        Ordering::Equal => !(interval.from.closed && interval.to.closed),
        Ordering::Greater => true,
    })
}

fn from_order(a: &End, b: &End, atoms: &mut Atoms) -> Read<Ordering> {
    match (&a.at, &b.at) {
        (None, None) => Ok(Ordering::Equal),
        (None, _) => Ok(Ordering::Less),
        (_, None) => Ok(Ordering::Greater),
        (Some(x), Some(y)) => Ok(order(x, y, atoms)?.then(b.closed.cmp(&a.closed))),
    }
}

fn to_order(a: &End, b: &End, atoms: &mut Atoms) -> Read<Ordering> {
    match (&a.at, &b.at) {
        (None, None) => Ok(Ordering::Equal),
        (None, _) => Ok(Ordering::Greater),
        (_, None) => Ok(Ordering::Less),
        (Some(x), Some(y)) => Ok(order(x, y, atoms)?.then(a.closed.cmp(&b.closed))),
    }
}

/// Whether an interval that ends here leaves no gap before one that begins there.
fn touches(to: &End, from: &End, atoms: &mut Atoms) -> Read<bool> {
    let (Some(x), Some(y)) = (&to.at, &from.at) else { return Ok(true) };
    Ok(match order(x, y, atoms)? {
        Ordering::Less => false,
        Ordering::Equal => to.closed || from.closed,
        Ordering::Greater => true,
    })
}

/// The order of two numbers: exact where it shows, in floating point elsewhere.
pub(crate) fn order(a: &Fraction, b: &Fraction, atoms: &mut Atoms) -> Read<Ordering> {
    if let (Some(a), Some(b)) = (a.as_rational(), b.as_rational()) {
        return Ok(a.cmp(&b));
    }
    if a.equals(b, atoms)? {
        return Ok(Ordering::Equal);
    }
    if a.has_variables(atoms) || b.has_variables(atoms) {
        return Err(Unreadable::Undefined);
    }
    match a.minus(b, atoms)?.is_negative(atoms) {
        Some(true) => Ok(Ordering::Less),
        Some(false) => Ok(Ordering::Greater),
        None => Err(Unreadable::Undefined),
    }
}
