//! Level 4: sums, counting and primes that want a loop; three families need two calls, the second on what the first
//! printed.
//!
//! One idiom a subtask, whichever family it is in: a range is `range(a,b+1)`, a count is a sum of truth values.

use super::{Draw, Family, Instance};

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "power_sum", level: 4, draw: power_sum },
    Family { name: "multiples_sum", level: 4, draw: multiples_sum },
    Family { name: "multiples_count", level: 4, draw: multiples_count },
    Family { name: "prime_count", level: 4, draw: prime_count },
    Family { name: "prime_above", level: 4, draw: prime_above },
    Family { name: "divisor_count", level: 4, draw: divisor_count },
    Family { name: "prime_above_digits", level: 4, draw: prime_above_digits },
    Family { name: "multiples_sum_remainder", level: 4, draw: multiples_sum_remainder },
    Family { name: "lcm_multiples_count", level: 4, draw: lcm_multiples_count },
];

/// The sum of the squares or cubes of `start..=end`; the exponent is a word that becomes a number.
fn power_sum(draw: &mut Draw) -> Option<Instance> {
    let (exponent, square, squares, squared, squaring, highest) = draw.pick(&[
        (2, "square", "squares", "squared", "squaring", 500),
        (3, "cube", "cubes", "cubed", "cubing", 150), // lower: long answers are hard to copy
    ]);
    let start = if draw.number(0, 2) == 0 { 1 } else { draw.wide(2, highest) };
    let end = start + draw.number(4, 40);
    Some(Instance::one_call(
        vec![
            ("start", start.to_string()),
            ("next", (start + 1).to_string()),
            ("end", end.to_string()),
            ("square", square.to_owned()),
            ("squares", squares.to_owned()),
            ("squared", squared.to_owned()),
            ("squaring", squaring.to_owned()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Add the powers in a loop.",
        format!("print(sum(i**{exponent} for i in range({start},{end}+1)))"),
        (start..=end).map(|number| number.pow(exponent)).sum(),
    ))
}

/// The sum of the multiples of `step` in a range.
fn multiples_sum(draw: &mut Draw) -> Option<Instance> {
    let step = draw.wide(2, 99);
    let span = Span::around_multiples(draw, step, 9_999)?;
    Some(Instance::one_call(
        vec![
            ("step", step.to_string()),
            ("start", span.start.to_string()),
            ("end", span.end.to_string()),
            ("span", span.text.clone()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Add the multiples in the range.",
        span.sum_program(step),
        span.sum_of_multiples(step),
    ))
}

/// How many multiples of `step` a range holds.
fn multiples_count(draw: &mut Draw) -> Option<Instance> {
    let step = draw.wide(2, 999);
    let span = Span::around_multiples(draw, step, 99_999)?;
    Some(Instance::one_call(
        vec![
            ("step", step.to_string()),
            ("start", span.start.to_string()),
            ("end", span.end.to_string()),
            ("span", span.text.clone()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Count the multiples in the range.",
        span.count_program(step),
        span.count_of_multiples(step),
    ))
}

/// How many primes a range holds. A range that starts at 1 is searched from 2, the first prime.
fn prime_count(draw: &mut Draw) -> Option<Instance> {
    let span = if draw.number(0, 3) == 0 {
        let end = draw.number(20, 300);
        Span::new(draw, 1, end)
    } else {
        let start = draw.wide(4, 99_999);
        let end = start + draw.number(10, 300);
        Span::new(draw, start, end)
    };
    let answer = (span.start..=span.end).filter(|&number| is_prime(number)).count() as i64;
    // Neither end is prime, so that "between" is exact whether or not the ends belong to it.
    if is_prime(span.start) || is_prime(span.end) || answer < 2 {
        return None;
    }
    let first = span.start.max(2);
    Some(Instance::one_call(
        vec![
            ("start", span.start.to_string()),
            ("end", span.end.to_string()),
            ("span", span.text.clone()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Count the primes in the range.",
        format!(
            "print(sum(all(n%d for d in range(2,int(n**.5)+1)) for n in range({first},{}+1)))",
            span.end
        ),
        answer,
    ))
}

/// The smallest prime greater than `number`.
fn prime_above(draw: &mut Draw) -> Option<Instance> {
    let number = draw.wide(10, 99_999);
    Some(Instance::one_call(
        vec![
            ("number", number.to_string()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Search upward for the next prime.",
        next_prime_program(number),
        next_prime(number),
    ))
}

/// How many divisors `number` has; primes and squares of primes are left out as too poor.
fn divisor_count(draw: &mut Draw) -> Option<Instance> {
    let number = draw.wide(12, 99_999);
    let answer = divisors(number);
    if answer < 4 {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("number", number.to_string()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        "Try every divisor and count.",
        format!("print(sum({number}%d==0 for d in range(1,{number}+1)))"),
        answer,
    ))
}

/// The smallest prime greater than `number`, then the sum of its digits times `factor`.
fn prime_above_digits(draw: &mut Draw) -> Option<Instance> {
    let number = draw.wide(10, 99_999);
    let factor = draw.wide(2, 999);
    let prime = next_prime(number);
    Some(Instance::two_calls(
        vec![
            ("number", number.to_string()),
            ("factor", factor.to_string()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        ("Find the next prime first.", next_prime_program(number), prime),
        (
            "Add its digits, then multiply.",
            format!("print(sum(map(int,str({prime})))*{factor})"),
            digit_sum(prime) * factor,
        ),
    ))
}

/// The sum of the multiples of `step` in a range, then its remainder by `modulus`.
fn multiples_sum_remainder(draw: &mut Draw) -> Option<Instance> {
    let step = draw.wide(2, 99);
    let modulus = draw.wide(3, 999);
    let span = Span::around_multiples(draw, step, 9_999)?;
    let sum = span.sum_of_multiples(step);
    // The second program copies the sum: six digits at most. Each multiple would leave nothing if `modulus` divided `step`.
    if sum > 999_999 || sum < modulus || step % modulus == 0 {
        return None;
    }
    Some(Instance::two_calls(
        vec![
            ("step", step.to_string()),
            ("modulus", modulus.to_string()),
            ("start", span.start.to_string()),
            ("end", span.end.to_string()),
            ("span", span.text.clone()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        ("Add the multiples first.", span.sum_program(step), sum),
        ("Take the remainder of the sum.", format!("print({sum}%{modulus})"), sum % modulus),
    ))
}

/// The least common multiple of two numbers, then how many multiples of it there are up to `end`.
fn lcm_multiples_count(draw: &mut Draw) -> Option<Instance> {
    let (first, second) = (draw.wide(4, 99), draw.wide(4, 99));
    let common = first / gcd(first, second) * second;
    let end = draw.wide(100, 99_999);
    // Neither divides the other, or there would be nothing to find; `end` is no multiple, so that it may be in or out.
    if common == first || common == second || end < 2 * common || end % common == 0 {
        return None;
    }
    let span = Span { start: 1, end, text: format!("up to {end}") };
    Some(Instance::two_calls(
        vec![
            ("first", first.to_string()),
            ("second", second.to_string()),
            ("end", end.to_string()),
            ("name", draw.name().to_owned()),
            ("things", packable(draw)?.to_owned()),
            ("place", draw.place().to_owned()),
        ],
        (
            "Find the least common multiple first.",
            format!("import math\nprint(math.lcm({first},{second}))"),
            common,
        ),
        (
            "Count its multiples in the range.",
            span.count_program(common),
            span.count_of_multiples(common),
        ),
    ))
}

/// The whole numbers `start..=end`, and how a question says so: "up to 900", "from 12 to 40".
struct Span {
    start: i64,
    end: i64,
    text: String,
}

impl Span {
    fn new(draw: &mut Draw, start: i64, end: i64) -> Self {
        let text = match draw.number(0, 2) {
            0 if start == 1 => format!("up to {end}"),
            0 => format!("from {start} through {end}"),
            1 => format!("from {start} to {end}"),
            _ => format!("between {start} and {end}"),
        };
        Self { start, end, text }
    }

    /// A range of at least three multiples of `step`, a third of the time from 1. No end of it is a multiple, so that
    /// "between" is exact whether or not the ends belong to it.
    fn around_multiples(draw: &mut Draw, step: i64, highest: i64) -> Option<Self> {
        let end = draw.wide(20, highest);
        let start = if draw.number(0, 2) == 0 { 1 } else { draw.wide(2, end) };
        let span = Self::new(draw, start, end);
        let exact = start % step != 0 && end % step != 0;
        (exact && start < end && span.count_of_multiples(step) >= 3).then_some(span)
    }

    fn count_of_multiples(&self, step: i64) -> i64 {
        self.end / step - (self.start - 1) / step
    }

    fn count_program(&self, step: i64) -> String {
        format!("print(sum(i%{step}==0 for i in range({},{}+1)))", self.start, self.end)
    }

    fn sum_of_multiples(&self, step: i64) -> i64 {
        let up_to = |last: i64| step * (last / step) * (last / step + 1) / 2;
        up_to(self.end) - up_to(self.start - 1)
    }

    fn sum_program(&self, step: i64) -> String {
        format!("print(sum(i for i in range({},{}+1) if i%{step}==0))", self.start, self.end)
    }
}

/// Things that go into the boxes and bags of the stories: no containers.
fn packable(draw: &mut Draw) -> Option<&'static str> {
    Some(draw.things()).filter(|things| !["boxes", "bags", "bottles"].contains(things))
}

fn next_prime_program(number: i64) -> String {
    format!("n={number}+1\nwhile not all(n%d for d in range(2,int(n**.5)+1)):n+=1\nprint(n)")
}

fn next_prime(number: i64) -> i64 {
    (number + 1..).find(|&candidate| is_prime(candidate)).expect("there is always a larger prime")
}

fn is_prime(number: i64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| number % divisor != 0)
}

/// Divisors come in pairs, except the root of a square.
fn divisors(number: i64) -> i64 {
    (1..)
        .take_while(|small| small * small <= number)
        .filter(|small| number % small == 0)
        .map(|small| if small * small == number { 1 } else { 2 })
        .sum()
}

fn digit_sum(number: i64) -> i64 {
    if number == 0 { 0 } else { number % 10 + digit_sum(number / 10) }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
