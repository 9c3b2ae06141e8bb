//! Arithmetic of small matrices, rows of entries.

use super::algebra::{Atoms, Fraction};
use super::bounds::{Read, Unreadable};

pub(super) type Rows = Vec<Vec<Fraction>>;

pub(super) fn plus(left: &Rows, right: &Rows, atoms: &mut Atoms) -> Read<Rows> {
    if left.len() != right.len() || left[0].len() != right[0].len() {
        return Err(Unreadable::Undefined);
    }
    let row = |(a, b): (&Vec<Fraction>, &Vec<Fraction>), atoms: &mut Atoms| {
        a.iter().zip(b).map(|(a, b)| a.plus(b, atoms)).collect::<Read<Vec<_>>>()
    };
    left.iter().zip(right).map(|rows| row(rows, atoms)).collect()
}

pub(super) fn scaled(rows: &Rows, factor: &Fraction, atoms: &mut Atoms) -> Read<Rows> {
    let row = |row: &Vec<Fraction>, atoms: &mut Atoms| {
        row.iter().map(|cell| cell.times(factor, atoms)).collect::<Read<Vec<_>>>()
    };
    rows.iter().map(|cells| row(cells, atoms)).collect()
}

pub(super) fn times(left: &Rows, right: &Rows, atoms: &mut Atoms) -> Read<Rows> {
    if left[0].len() != right.len() {
        return Err(Unreadable::Undefined);
    }
    let mut product = Vec::with_capacity(left.len());
    for row in left {
        let mut cells = Vec::with_capacity(right[0].len());
        for column in 0..right[0].len() {
            let mut sum = Fraction::integer(0);
            for (cell, below) in row.iter().zip(right) {
                sum = sum.plus(&cell.times(&below[column], atoms)?, atoms)?;
            }
            cells.push(sum);
        }
        product.push(cells);
    }
    Ok(product)
}

pub(super) fn transposed(rows: &Rows) -> Rows {
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].clone()).collect()).collect()
}

/// By expansion along the first row, up to 4 × 4.
pub(super) fn determinant(rows: &Rows, atoms: &mut Atoms) -> Read<Fraction> {
    if rows.len() != rows[0].len() || rows.len() > 4 {
        return Err(Unreadable::Undefined);
    }
    if rows.len() == 1 {
        return Ok(rows[0][0].clone());
    }
    let mut sum = Fraction::integer(0);
    for column in 0..rows.len() {
        let rest = |row: &Vec<Fraction>| -> Vec<Fraction> {
            let cells = row.iter().enumerate().filter(|(at, _)| *at != column);
            cells.map(|(_, cell)| cell.clone()).collect()
        };
        let minor = rows[1..].iter().map(rest).collect();
        let term = rows[0][column].times(&determinant(&minor, atoms)?, atoms)?;
        sum = if column % 2 == 0 { sum.plus(&term, atoms)? } else { sum.minus(&term, atoms)? };
    }
    Ok(sum)
}
