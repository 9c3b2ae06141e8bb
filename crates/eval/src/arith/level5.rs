//! Level 5: modular powers and small combinatorics; three families need two calls, the second on what the first
//! printed.
//!
//! One idiom a subtask, whichever family it is in: `pow(a,b,m)`, `math.comb(n,k)`, `math.perm(n,k)`, and for what
//! follows `math.gcd(a,b)`, `a%b` and `sum(map(int,str(n)))` as in level 3. Two groups come in the order of the story.

use super::{Draw, Family, Instance};

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "power_mod", level: 5, draw: power_mod },
    Family { name: "power_last_digits", level: 5, draw: power_last_digits },
    Family { name: "choose_group", level: 5, draw: choose_group },
    Family { name: "arrange_in_row", level: 5, draw: arrange_in_row },
    Family { name: "choose_from_two_groups", level: 5, draw: choose_from_two_groups },
    Family { name: "code_count", level: 5, draw: code_count },
    Family { name: "power_mod_gcd", level: 5, draw: power_mod_gcd },
    Family { name: "choose_remainder", level: 5, draw: choose_remainder },
    Family { name: "arrange_digit_sum", level: 5, draw: arrange_digit_sum },
];

/// Answers stay below this, intermediate numbers well below: long numbers are hard to copy.
const ANSWERS_BELOW: i64 = 100_000_000;

/// The most people or things that a question chooses from.
const LARGEST_POOL: i64 = 2_000;

/// Who is chosen or stands in a row.
const PEOPLE: &[&str] = &[
    "people", "students", "players", "children", "workers", "members", "singers", "runners",
    "dancers", "guests", "teachers", "pupils",
];

/// Two groups of people that send some of their own.
const GROUPS: &[(&str, &str)] = &[
    ("men", "women"),
    ("women", "men"),
    ("boys", "girls"),
    ("girls", "boys"),
    ("adults", "children"),
    ("doctors", "nurses"),
    ("teachers", "parents"),
    ("singers", "dancers"),
    ("engineers", "designers"),
    ("cooks", "waiters"),
    ("writers", "painters"),
    ("players", "coaches"),
];

/// The remainder of a power.
fn power_mod(draw: &mut Draw) -> Option<Instance> {
    let power = Power::draw(draw, 9_999, 99_999)?;
    let mut values = power.values();
    values.push(("name", draw.name().to_owned()));
    Some(Instance::one_call(
        values,
        "Take the power with a modulus.",
        power.program(),
        power.remainder,
    ))
}

/// The last digits of a power; the first of them is not 0, so that the number shows them all.
fn power_last_digits(draw: &mut Draw) -> Option<Instance> {
    let count = draw.number(1, 5);
    let (a, b) = (draw.wide(2, 999), draw.wide(2, 9_999));
    let modulus = 10_i64.pow(count as u32);
    let answer = power_remainder(a, b, modulus);
    // A power that is no longer than the digits asked for has nothing to cut off.
    if answer < modulus / 10 || answer == 0 || (a as f64).powf(b as f64) < modulus as f64 {
        return None;
    }
    let spelled = ["one", "two", "three", "four", "five"][count as usize - 1].to_owned();
    let written = if draw.pick(&[true, false]) { spelled } else { count.to_string() };
    let (tail, digits, are, they) = if count == 1 {
        let tail = draw.pick(&["last digit", "last digit", "units digit", "ones digit"]);
        (tail.to_owned(), "digit".to_owned(), "is", "it")
    } else {
        let last = draw.pick(&["last", "last", "final"]);
        (format!("{last} {written} digits"), format!("{written} digits"), "are", "they")
    };
    Some(Instance::one_call(
        values(
            [("a", a), ("b", b)],
            [
                ("bth", &ordinal(b)),
                ("tail", &tail),
                ("digits", &digits),
                ("are", are),
                ("they", they),
                ("name", draw.name()),
                ("place", draw.place()),
            ],
        ),
        "Keep the last digits of the power.",
        format!("print(pow({a},{b},10**{count}))"),
        answer,
    ))
}

/// How many groups of `k` there are in `n`.
fn choose_group(draw: &mut Draw) -> Option<Instance> {
    let k = draw.number(2, 10);
    let n = pool(draw, k, ANSWERS_BELOW, combinations)?;
    Some(Instance::one_call(
        selection_values(draw, n, k),
        "Count the ways to choose.",
        choose_program(n, k),
        combinations(n, k),
    ))
}

/// How many rows of `k` out of `n` there are: the order counts.
fn arrange_in_row(draw: &mut Draw) -> Option<Instance> {
    let k = draw.number(2, 6);
    let n = pool(draw, k, ANSWERS_BELOW, arrangements)?;
    Some(Instance::one_call(
        selection_values(draw, n, k),
        "Count the ordered arrangements.",
        arrange_program(n, k),
        arrangements(n, k),
    ))
}

/// `k` of `n` from one group and `j` of `m` from another.
fn choose_from_two_groups(draw: &mut Draw) -> Option<Instance> {
    let (k, j) = (draw.number(2, 5), draw.number(2, 5));
    let (n, m) = (draw.wide(k + 2, 60), draw.wide(j + 2, 60));
    let answer = combinations(n, k) * combinations(m, j);
    let (one, two) = draw.pick(GROUPS);
    let (things, other) = (packable(draw)?, packable(draw)?);
    if answer >= ANSWERS_BELOW || things == other {
        return None;
    }
    Some(Instance::one_call(
        values(
            [("n", n), ("k", k), ("m", m), ("j", j)],
            [
                ("one", one),
                ("two", two),
                ("name", draw.name()),
                ("things", things),
                ("other", other),
                ("place", draw.place()),
            ],
        ),
        "Choose from both groups and multiply.",
        format!("import math\nprint(math.comb({n},{k})*math.comb({m},{j}))"),
        answer,
    ))
}

/// Codes of `a` letters out of `p` and `b` digits out of `q`, with repeats.
fn code_count(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = (draw.number(2, 6), draw.number(2, 6));
    let all_letters = draw.pick(&[true, false]);
    let all_digits = draw.pick(&[true, false]);
    let p = if all_letters { 26 } else { draw.number(3, 26) };
    let q = if all_digits { 10 } else { draw.number(3, 10) };
    let answer = p.pow(a as u32).checked_mul(q.pow(b as u32))?;
    if answer >= ANSWERS_BELOW {
        return None;
    }
    // Everybody knows how many letters and digits there are, so a question need not say it.
    let (letters, digits) = if p == 26 && q == 10 && draw.pick(&[true, false]) {
        (format!("{a} letters"), format!("{b} digits"))
    } else {
        let (before, after) =
            draw.pick(&[("(each out of ", ")"), ("(", " possible)"), ("from a set of ", "")]);
        (format!("{a} letters {before}{p}{after}"), format!("{b} digits {before}{q}{after}"))
    };
    Some(Instance::one_call(
        values(
            [("a", a), ("b", b), ("p", p), ("q", q)],
            [
                ("letters", &letters),
                ("digits", &digits),
                ("name", draw.name()),
                ("things", draw.things()),
                ("place", draw.place()),
            ],
        ),
        "Multiply the choices for every place.",
        format!("print({p}**{a}*{q}**{b})"),
        answer,
    ))
}

/// The remainder of a power, then its greatest common divisor with `c`.
fn power_mod_gcd(draw: &mut Draw) -> Option<Instance> {
    let power = Power::draw(draw, 999, 9_999)?;
    let r = power.remainder;
    // Built to have something in common: the divisors of two random numbers are mostly 1.
    let divisors: Vec<i64> = (2..=r).filter(|divisor| r % divisor == 0).collect();
    let c = draw.pick(&divisors) * draw.number(2, 99);
    let (things, other) = (packable(draw)?, packable(draw)?);
    if r == power.a || r == power.b || c == r || things == other {
        return None;
    }
    let mut values = power.values();
    values.extend([
        ("c", c.to_string()),
        ("name", draw.name().to_owned()),
        ("things", things.to_owned()),
        ("other", other.to_owned()),
    ]);
    Some(Instance::two_calls(
        values,
        ("Find the remainder of the power first.", power.program(), r),
        (
            "Take its greatest common divisor.",
            format!("import math\nprint(math.gcd({r},{c}))"),
            gcd(r, c),
        ),
    ))
}

/// How many groups of `k` there are in `n`, then the remainder of that number by `m`.
fn choose_remainder(draw: &mut Draw) -> Option<Instance> {
    let k = draw.number(2, 7);
    let n = pool(draw, k, 1_000_000, combinations)?;
    let m = draw.wide(3, 999);
    let count = combinations(n, k);
    if count <= m || count % m == 0 || m == n || m == k {
        return None;
    }
    let mut values = selection_values(draw, n, k);
    values.push(("m", m.to_string()));
    Some(Instance::two_calls(
        values,
        ("Count the choices first.", choose_program(n, k), count),
        ("Take the remainder of the count.", format!("print({count}%{m})"), count % m),
    ))
}

/// How many rows of `k` out of `n` there are, then the sum of the digits of that number.
fn arrange_digit_sum(draw: &mut Draw) -> Option<Instance> {
    let k = draw.number(2, 5);
    let n = pool(draw, k, 10_000_000, arrangements)?;
    let count = arrangements(n, k);
    Some(Instance::two_calls(
        selection_values(draw, n, k),
        ("Count the arrangements first.", arrange_program(n, k), count),
        (
            "Add up the digits of the count.",
            format!("print(sum(map(int,str({count}))))"),
            digit_sum(count),
        ),
    ))
}

/// `a` to the power `b`, divided by `m`.
struct Power {
    a: i64,
    b: i64,
    m: i64,
    remainder: i64,
}

impl Power {
    /// A power whose remainder is neither 0 nor 1, nor the same for every exponent.
    fn draw(draw: &mut Draw, largest_base: i64, largest_modulus: i64) -> Option<Self> {
        let (a, b) = (draw.wide(2, largest_base), draw.wide(2, 9_999));
        let m = draw.wide(3, largest_modulus);
        let remainder = power_remainder(a, b, m);
        let smaller_than_modulus = (a as f64).powf(b as f64) < m as f64;
        let plain = remainder > 1 && a % m > 1 && a * a % m != a % m && !smaller_than_modulus;
        plain.then_some(Self { a, b, m, remainder })
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        values([("a", self.a), ("b", self.b), ("m", self.m)], [("bth", &ordinal(self.b))])
    }

    fn program(&self) -> String {
        format!("print(pow({},{},{}))", self.a, self.b, self.m)
    }
}

/// A number to choose `k` from, at least two more, such that `count` of both stays below `limit`.
fn pool(draw: &mut Draw, k: i64, limit: i64, count: fn(i64, i64) -> i64) -> Option<i64> {
    let largest = (k + 2..=LARGEST_POOL).take_while(|&n| count(n, k) < limit).last()?;
    // Even lengths only where there are three or more, or half of the pools would be the few of one digit.
    let pool = if largest < 100 { draw.number(k + 2, largest) } else { draw.wide(k + 2, largest) };
    Some(pool)
}

fn selection_values(draw: &mut Draw, n: i64, k: i64) -> Vec<(&'static str, String)> {
    values(
        [("n", n), ("k", k)],
        [
            ("people", draw.pick(PEOPLE)),
            ("name", draw.name()),
            ("things", draw.things()),
            ("place", draw.place()),
        ],
    )
}

/// The parameters of the phrasings: numbers as digits, then words.
fn values<const N: usize, const W: usize>(
    numbers: [(&'static str, i64); N],
    words: [(&'static str, &str); W],
) -> Vec<(&'static str, String)> {
    let numbers = numbers.into_iter().map(|(name, number)| (name, number.to_string()));
    numbers.chain(words.into_iter().map(|(name, word)| (name, word.to_owned()))).collect()
}

/// Things that go into the boxes and bags of the stories: no containers.
fn packable(draw: &mut Draw) -> Option<&'static str> {
    Some(draw.things()).filter(|things| !["boxes", "bags", "bottles"].contains(things))
}

fn choose_program(n: i64, k: i64) -> String {
    format!("import math\nprint(math.comb({n},{k}))")
}

fn arrange_program(n: i64, k: i64) -> String {
    format!("import math\nprint(math.perm({n},{k}))")
}

/// `n` over `k`. Every partial product is itself a binomial coefficient, so each division is exact.
fn combinations(n: i64, k: i64) -> i64 {
    (1..=k).fold(1, |count, i| count * (n - k + i) / i)
}

fn arrangements(n: i64, k: i64) -> i64 {
    (n - k + 1..=n).product()
}

/// `base` to the power `exponent` by repeated squaring, every product taken modulo `modulus` (below 2^31).
fn power_remainder(base: i64, exponent: i64, modulus: i64) -> i64 {
    let (mut result, mut square, mut rest) = (1, base % modulus, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result = result * square % modulus;
        }
        square = square * square % modulus;
        rest /= 2;
    }
    result
}

/// 1st, 2nd, 3rd, 4th, 11th, 21st.
fn ordinal(number: i64) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

fn digit_sum(number: i64) -> i64 {
    if number == 0 { 0 } else { number % 10 + digit_sum(number / 10) }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
