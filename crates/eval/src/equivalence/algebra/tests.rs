use num_rational::BigRational;

use super::super::bounds::{Unreadable, WORK};
use super::{Atom, Atoms, Exponent, Fraction, cosine, sine};

fn variable(name: &str, atoms: &mut Atoms) -> Fraction {
    Fraction::atom(Atom::Variable(name.to_owned()), atoms)
}

#[test]
fn products_of_roots_have_one_normal_form() {
    let atoms = &mut Atoms::new(WORK);
    let root = |n: i64, atoms: &mut Atoms| {
        Fraction::integer(n).to_the_rational(Exponent::new(1, 2), atoms).expect("a root")
    };
    let (two, three) = (root(2, atoms), root(3, atoms));
    let product = two.times(&three, atoms).expect("a product");
    assert_eq!(product, root(6, atoms));
    assert!(!atoms.dependent, "roots of primes are independent");
}

#[test]
fn a_division_by_zero_is_undefined() {
    let atoms = &mut Atoms::new(WORK);
    let x = variable("x", atoms);
    let zero = x.minus(&x, atoms).expect("a difference");
    assert_eq!(x.over(&zero, atoms), Err(Unreadable::Undefined));
}

#[test]
fn sine_and_cosine_agree_with_floating_point_at_every_twelfth_of_a_turn() {
    let atoms = &mut Atoms::new(WORK);
    let pi = Fraction::atom(Atom::Pi, atoms);
    for step in -60i32..=60 {
        for parts in [12, 10, 8, 5, 7] {
            let turns = Fraction::constant(BigRational::new(step.into(), parts.into()));
            let angle = pi.times(&turns, atoms).expect("an angle");
            let exact = f64::from(step) / f64::from(parts) * std::f64::consts::PI;
            let s = sine(&angle, atoms).expect("a sine").at(atoms, 0).expect("a value");
            let c = cosine(&angle, atoms).expect("a cosine").at(atoms, 0).expect("a value");
            assert!(
                (s.re - exact.sin()).abs() < 1e-9,
                "sin({step}/{parts} π): {} {}",
                s.re,
                exact.sin()
            );
            assert!(
                (c.re - exact.cos()).abs() < 1e-9,
                "cos({step}/{parts} π): {} {}",
                c.re,
                exact.cos()
            );
        }
    }
}

#[test]
fn work_is_bounded() {
    let atoms = &mut Atoms::new(1_000);
    let mut sum = Fraction::integer(0);
    for name in ["a", "b", "c", "d", "f", "g", "h"] {
        let term = variable(name, atoms);
        sum = sum.plus(&term, atoms).expect("a small sum");
    }
    assert_eq!(sum.to_the_rational(Exponent::from_integer(20), atoms), Err(Unreadable::Bound));
}
