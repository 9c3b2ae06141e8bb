//! Level 3: gcd and lcm, remainders and the two ways of rounding a quotient, digits.

use super::{Draw, Family, Instance};

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "gcd_of_two", level: 3, draw: gcd_of_two },
    Family { name: "equal_groups", level: 3, draw: equal_groups },
    Family { name: "lcm_of_two", level: 3, draw: lcm_of_two },
    Family { name: "meet_again", level: 3, draw: meet_again },
    Family { name: "remainder_of", level: 3, draw: remainder_of },
    Family { name: "full_boxes", level: 3, draw: full_boxes },
    Family { name: "boxes_needed", level: 3, draw: boxes_needed },
    Family { name: "largest_multiple", level: 3, draw: largest_multiple },
    Family { name: "digit_sum", level: 3, draw: digit_sum },
    Family { name: "reversed_number", level: 3, draw: reversed_number },
];

/// The parameters of the phrasings.
type Values = Vec<(&'static str, String)>;

/// What packs of two kinds of things are called.
const PACKS: &[&str] = &["packets", "sets", "parcels", "bundles", "packs"];

/// What things are packed into, one and many; `packable` never draws these as things.
const BOXES: &[(&str, &str)] = &[
    ("box", "boxes"),
    ("crate", "crates"),
    ("carton", "cartons"),
    ("case", "cases"),
    ("container", "containers"),
    ("bag", "bags"),
];

/// The greatest common divisor of two bare numbers.
fn gcd_of_two(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = with_common_divisor(draw, 999, 99)?;
    Some(Instance::one_call(
        vec![("a", a.to_string()), ("b", b.to_string()), ("name", draw.name().to_owned())],
        "Take the greatest common divisor.",
        format!("import math\nprint(math.gcd({a},{b}))"),
        gcd(a, b),
    ))
}

/// Identical packs, square tiles, equal pieces: stories whose answer is a greatest common divisor.
fn equal_groups(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = with_common_divisor(draw, 200, 30)?;
    let (things, other) = (packable(draw)?, packable(draw)?);
    if things == other {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("a", a.to_string()),
            ("b", b.to_string()),
            ("name", draw.name().to_owned()),
            ("place", draw.place().to_owned()),
            ("things", things.to_owned()),
            ("other", other.to_owned()),
            ("packs", draw.pick(PACKS).to_owned()),
        ],
        "Equal groups: the greatest common divisor.",
        format!("import math\nprint(math.gcd({a},{b}))"),
        gcd(a, b),
    ))
}

/// The least common multiple of two bare numbers.
fn lcm_of_two(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = (draw.wide(4, 9_999), draw.wide(4, 9_999));
    let lcm = proper_lcm(a, b).filter(|&lcm| lcm < 1_000_000)?;
    Some(Instance::one_call(
        vec![("a", a.to_string()), ("b", b.to_string()), ("name", draw.name().to_owned())],
        "Take the least common multiple.",
        format!("import math\nprint(math.lcm({a},{b}))"),
        lcm,
    ))
}

/// Buses that leave together again, packs that come out even: stories whose answer is a least common multiple.
fn meet_again(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = (draw.number(4, 99), draw.number(4, 99));
    let lcm = proper_lcm(a, b)?;
    let (name, friend) = (draw.name(), draw.name());
    let (things, other) = (packable(draw)?, packable(draw)?);
    if name == friend || things == other {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("a", a.to_string()),
            ("b", b.to_string()),
            ("name", name.to_owned()),
            ("friend", friend.to_owned()),
            ("place", draw.place().to_owned()),
            ("things", things.to_owned()),
            ("other", other.to_owned()),
        ],
        "They meet at the least common multiple.",
        format!("import math\nprint(math.lcm({a},{b}))"),
        lcm,
    ))
}

/// What is left of `a` after full groups of `b`.
fn remainder_of(draw: &mut Draw) -> Option<Instance> {
    let (a, b, values) = packing(draw)?;
    Some(Instance::one_call(values, "Take the remainder.", format!("print({a}%{b})"), a % b))
}

/// How many full groups of `b` there are in `a`.
fn full_boxes(draw: &mut Draw) -> Option<Instance> {
    let (a, b, values) = packing(draw)?;
    Some(Instance::one_call(values, "Divide and round down.", format!("print({a}//{b})"), a / b))
}

/// How many groups of at most `b` hold all of `a`.
fn boxes_needed(draw: &mut Draw) -> Option<Instance> {
    let (a, b, values) = packing(draw)?;
    Some(Instance::one_call(
        values,
        "Divide and round up.",
        format!("print(-(-{a}//{b}))"),
        (a + b - 1) / b,
    ))
}

/// The largest multiple of `b` below `a`.
fn largest_multiple(draw: &mut Draw) -> Option<Instance> {
    let (a, b, values) = packing(draw)?;
    Some(Instance::one_call(
        values,
        "Round down to a multiple.",
        format!("print({a}//{b}*{b})"),
        a - a % b,
    ))
}

/// The sum of the decimal digits of `n`.
fn digit_sum(draw: &mut Draw) -> Option<Instance> {
    let n = draw.wide(100, 9_999_999);
    Some(Instance::one_call(
        vec![("n", n.to_string()), ("name", draw.name().to_owned())],
        "Add up the digits.",
        format!("print(sum(map(int,str({n}))))"),
        digits(n).sum(),
    ))
}

/// `n` written backwards; it does not end in 0, so no digit is lost, and is no palindrome.
fn reversed_number(draw: &mut Draw) -> Option<Instance> {
    let n = draw.wide(12, 999_999);
    let reversed = digits(n).fold(0, |reversed, digit| reversed * 10 + digit);
    if n % 10 == 0 || reversed == n {
        return None;
    }
    Some(Instance::one_call(
        vec![("n", n.to_string()), ("name", draw.name().to_owned())],
        "Reverse the digits.",
        format!("print(int(str({n})[::-1]))"),
        reversed,
    ))
}

/// `a` things in groups of `b`: at least two full groups and some left over, so that rounding down, rounding up and
/// the remainder all differ, and "below `a`" means the same as "not above `a`".
fn packing(draw: &mut Draw) -> Option<(i64, i64, Values)> {
    let (a, b) = (draw.wide(20, 99_999), draw.wide(3, 400));
    if a < 2 * b || a % b == 0 {
        return None;
    }
    let things = packable(draw)?;
    let (one, many) = draw.pick(BOXES);
    let values = vec![
        ("a", a.to_string()),
        ("b", b.to_string()),
        ("name", draw.name().to_owned()),
        ("place", draw.place().to_owned()),
        ("things", things.to_owned()),
        ("box", one.to_owned()),
        ("boxes", many.to_owned()),
    ];
    Some((a, b, values))
}

/// Things to pack or to stack; not the boxes and bags that other things are packed into.
fn packable(draw: &mut Draw) -> Option<&'static str> {
    Some(draw.things()).filter(|things| !["boxes", "bags"].contains(things))
}

/// Two numbers with a common divisor above 1, neither a multiple of the other.
fn with_common_divisor(
    draw: &mut Draw,
    largest_divisor: i64,
    largest_factor: i64,
) -> Option<(i64, i64)> {
    let divisor = draw.wide(2, largest_divisor);
    let (p, q) = (draw.number(2, largest_factor), draw.number(2, largest_factor));
    (gcd(p, q) == 1).then_some((divisor * p, divisor * q))
}

/// The least common multiple of two numbers of which neither is a multiple of the other.
fn proper_lcm(a: i64, b: i64) -> Option<i64> {
    let lcm = a / gcd(a, b) * b;
    (lcm != a && lcm != b).then_some(lcm)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Decimal digits, the last one first.
fn digits(n: i64) -> impl Iterator<Item = i64> {
    std::iter::successors(Some(n), |n| Some(n / 10).filter(|&rest| rest > 0)).map(|n| n % 10)
}
