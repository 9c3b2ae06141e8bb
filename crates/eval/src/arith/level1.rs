//! Level 1: percentages and two-step word problems; one line of Python each.

use super::{Draw, Family, Instance};

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "percent_of", level: 1, draw: percent_of },
    Family { name: "percent_of_then_times", level: 1, draw: percent_of_then_times },
    Family { name: "percent_increase", level: 1, draw: percent_increase },
    Family { name: "percent_decrease", level: 1, draw: percent_decrease },
    Family { name: "percent_left", level: 1, draw: percent_left },
    Family { name: "change_from_purchase", level: 1, draw: change_from_purchase },
    Family { name: "gain_then_lose", level: 1, draw: gain_then_lose },
    Family { name: "combined_total", level: 1, draw: combined_total },
    Family { name: "share_after_giving", level: 1, draw: share_after_giving },
    Family { name: "bare_arithmetic", level: 1, draw: bare_arithmetic },
];

/// `percent` % of `number`.
fn percent_of(draw: &mut Draw) -> Option<Instance> {
    let (percent, number) = percentage(draw)?;
    Some(Instance::one_call(
        values(
            [("percent", percent), ("number", number)],
            [
                ("name", draw.name()),
                ("things", draw.things()),
                ("place", draw.place()),
                ("kind", draw.pick(KINDS)),
                ("item", draw.pick(ITEMS)),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Take the percentage.",
        format!("print({number}*{percent}//100)"),
        number * percent / 100,
    ))
}

/// `percent` % of `number`, then doubled, tripled or quadrupled: the factor is mostly a word that becomes a number.
fn percent_of_then_times(draw: &mut Draw) -> Option<Instance> {
    let (percent, number) = percentage(draw)?;
    let (factor, doubled, double, doubling, twice) = draw.pick(&[
        (2, "doubled", "double", "doubling", "twice"),
        (3, "tripled", "triple", "tripling", "three times"),
        (4, "quadrupled", "quadruple", "quadrupling", "four times"),
    ]);
    Some(Instance::one_call(
        values(
            [("percent", percent), ("number", number), ("factor", factor)],
            [
                ("doubled", doubled),
                ("double", double),
                ("doubling", doubling),
                ("twice", twice),
                ("name", draw.name()),
                ("things", draw.things()),
                ("kind", draw.pick(KINDS)),
                ("item", draw.pick(ITEMS)),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Take the percentage, then multiply.",
        format!("print({number}*{percent}//100*{factor})"),
        number * percent / 100 * factor,
    ))
}

/// `number` and `percent` % on top: raises, taxes, tips.
fn percent_increase(draw: &mut Draw) -> Option<Instance> {
    let (percent, number) = percentage(draw)?;
    let (name, other) = two_names(draw)?;
    Some(Instance::one_call(
        values(
            [("percent", percent), ("number", number)],
            [
                ("name", name),
                ("other", other),
                ("things", draw.things()),
                ("place", draw.place()),
                ("item", draw.pick(ITEMS)),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Increase the number by the percentage.",
        format!("print({number}*(100+{percent})//100)"),
        number + number * percent / 100,
    ))
}

/// `number` less `percent` %: discounts and cuts.
fn percent_decrease(draw: &mut Draw) -> Option<Instance> {
    let (percent, number) = percentage(draw)?;
    Some(Instance::one_call(
        values(
            [("percent", percent), ("number", number)],
            [
                ("name", draw.name()),
                ("place", draw.place()),
                ("item", draw.pick(ITEMS)),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Reduce the number by the percentage.",
        format!("print({number}*(100-{percent})//100)"),
        number - number * percent / 100,
    ))
}

/// How many of `number` things are left when `percent` % are gone (or are of some kind, and the others are asked for).
fn percent_left(draw: &mut Draw) -> Option<Instance> {
    let (percent, number) = percentage(draw)?;
    Some(Instance::one_call(
        values(
            [("percent", percent), ("number", number)],
            [
                ("name", draw.name()),
                ("things", draw.things()),
                ("place", draw.place()),
                ("kind", draw.pick(KINDS)),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Find the part that is left.",
        format!("print({number}*(100-{percent})//100)"),
        number - number * percent / 100,
    ))
}

/// `count` things at `price` each, from `paid`: the change.
fn change_from_purchase(draw: &mut Draw) -> Option<Instance> {
    let count = draw.wide(2, 300);
    let price = draw.wide(2, 400);
    let cost = count * price;
    let paid = if draw.pick(&[true, false]) {
        let note = draw.pick(&[10, 50, 100, 500, 1_000]);
        (cost / note + 1) * note
    } else {
        cost + draw.wide(2, 9_999)
    };
    Some(Instance::one_call(
        values(
            [("count", count), ("price", price), ("paid", paid)],
            [
                ("name", draw.name()),
                ("things", draw.things()),
                ("place", draw.place()),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Subtract the cost from the money.",
        format!("print({paid}-{count}*{price})"),
        paid - cost,
    ))
}

/// `start`, then `gain` more and `loss` fewer, in either order.
fn gain_then_lose(draw: &mut Draw) -> Option<Instance> {
    let start = draw.wide(10, 99_999);
    let gain = draw.wide(2, 99_999);
    // Below `start`, so that a phrasing may tell the loss first.
    let loss = draw.wide(2, start - 1);
    let (name, other) = two_names(draw)?;
    Some(Instance::one_call(
        values(
            [("start", start), ("gain", gain), ("loss", loss)],
            [
                ("name", name),
                ("other", other),
                ("things", draw.things()),
                ("place", draw.place()),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Add the gain, subtract the loss.",
        format!("print({start}+{gain}-{loss})"),
        start + gain - loss,
    ))
}

/// One has `number`, the other `difference` more (or fewer): how many together.
fn combined_total(draw: &mut Draw) -> Option<Instance> {
    let number = draw.wide(10, 99_999);
    let difference = draw.wide(2, number - 1);
    let (name, other) = two_names(draw)?;
    let (sign, more, less, larger, ahead) = draw.pick(&[
        ('+', "more", "more", "larger", "ahead of"),
        ('-', "fewer", "less", "smaller", "behind"),
    ]);
    let second = if sign == '+' { number + difference } else { number - difference };
    Some(Instance::one_call(
        values(
            [("number", number), ("difference", difference)],
            [
                ("more", more),
                ("less", less),
                ("larger", larger),
                ("ahead", ahead),
                ("name", name),
                ("other", other),
                ("things", draw.things()),
                ("place", draw.place()),
                ("money", draw.pick(MONEY)),
            ],
        ),
        "Add both amounts together.",
        format!("print(2*{number}{sign}{difference})"),
        number + second,
    ))
}

/// `start` less `given`, the rest shared equally by `groups`.
fn share_after_giving(draw: &mut Draw) -> Option<Instance> {
    let groups = draw.wide(2, 60);
    let share = draw.wide(2, 2_000);
    let given = draw.wide(2, 9_999);
    let start = given + groups * share;
    let (name, other) = two_names(draw)?;
    Some(Instance::one_call(
        values(
            [("start", start), ("given", given), ("groups", groups)],
            [
                ("name", name),
                ("other", other),
                ("things", draw.things()),
                ("place", draw.place()),
                ("money", draw.pick(MONEY)),
                ("people", draw.pick(&["friends", "children", "students", "players", "guests"])),
            ],
        ),
        "Subtract first, then share equally.",
        format!("print(({start}-{given})//{groups})"),
        share,
    ))
}

/// Plain arithmetic without a story, as symbols, spoken, as a command and as a noun phrase.
fn bare_arithmetic(draw: &mut Draw) -> Option<Instance> {
    let shape = draw.number(0, 9);
    let sums_only = matches!(shape, 0 | 1 | 6 | 7);
    let (a, b) = if sums_only {
        (draw.wide(2, 999_999), draw.wide(2, 999_999))
    } else {
        (draw.wide(2, 9_999), draw.wide(2, 999))
    };
    let c = draw.wide(2, 99_999);
    let times = draw.pick(&["*", "x"]);
    let (code, symbols, spoken, command, noun, answer) = match shape {
        0 => (
            format!("{a}+{b}"),
            format!("{a} + {b}"),
            format!("{a} plus {b}"),
            format!("add {a} and {b}"),
            format!("the sum of {a} and {b}"),
            a + b,
        ),
        1 if a > b => (
            format!("{a}-{b}"),
            format!("{a} - {b}"),
            format!("{a} minus {b}"),
            format!("subtract {b} from {a}"),
            format!("the difference between {a} and {b}"),
            a - b,
        ),
        2 => (
            format!("{a}*{b}"),
            format!("{a} {times} {b}"),
            format!("{a} times {b}"),
            format!("multiply {a} by {b}"),
            format!("the product of {a} and {b}"),
            a * b,
        ),
        3 => {
            let product = a * b;
            (
                format!("{product}//{b}"),
                format!("{product} / {b}"),
                format!("{product} divided by {b}"),
                format!("divide {product} by {b}"),
                format!("the quotient of {product} and {b}"),
                a,
            )
        }
        4 => (
            format!("{a}*{b}+{c}"),
            format!("{a} {times} {b} + {c}"),
            format!("{a} times {b}, plus {c}"),
            format!("multiply {a} by {b}, then add {c}"),
            format!("the product of {a} and {b}, plus {c}"),
            a * b + c,
        ),
        5 if a * b > c => (
            format!("{a}*{b}-{c}"),
            format!("{a} {times} {b} - {c}"),
            format!("{a} times {b}, minus {c}"),
            format!("multiply {a} by {b}, then subtract {c}"),
            format!("the product of {a} and {b}, minus {c}"),
            a * b - c,
        ),
        6 if a + b > c => (
            format!("{a}+{b}-{c}"),
            format!("{a} + {b} - {c}"),
            format!("{a} plus {b}, minus {c}"),
            format!("add {a} and {b}, then subtract {c}"),
            format!("the sum of {a} and {b}, minus {c}"),
            a + b - c,
        ),
        7 => (
            format!("{a}+{b}+{c}"),
            format!("{a} + {b} + {c}"),
            format!("{a} plus {b} plus {c}"),
            format!("add up {a}, {b} and {c}"),
            format!("the sum of {a}, {b} and {c}"),
            a + b + c,
        ),
        8 => (
            format!("({c}+{a})*{b}"),
            format!("({c} + {a}) {times} {b}"),
            format!("the sum of {c} and {a}, times {b}"),
            format!("add {c} and {a}, then multiply the sum by {b}"),
            format!("the sum of {c} and {a}, multiplied by {b}"),
            (c + a) * b,
        ),
        9 => (
            format!("{c}+{a}*{b}"),
            format!("{c} + {a} {times} {b}"),
            format!("{c} plus the product of {a} and {b}"),
            format!("add {c} to the product of {a} and {b}"),
            format!("the sum of {c} and the product of {a} and {b}"),
            c + a * b,
        ),
        // A difference that is not positive.
        _ => return None,
    };
    let compact = symbols.replace(' ', "");
    Some(Instance::one_call(
        vec![
            ("symbols", symbols),
            ("compact", compact),
            ("spoken", spoken),
            ("command", command),
            ("noun", noun),
        ],
        "Compute the expression.",
        format!("print({code})"),
        answer,
    ))
}

/// `percent` and a `number` of which it is whole; half of the percentages are everyday ones.
fn percentage(draw: &mut Draw) -> Option<(i64, i64)> {
    let percent = if draw.pick(&[true, false]) {
        draw.pick(&[
            4, 5, 8, 10, 12, 15, 16, 20, 24, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 90,
        ])
    } else {
        draw.number(1, 99)
    };
    let step = (1..=100).find(|step| percent * step % 100 == 0)?;
    let number = draw.wide(20, 99_999) / step * step;
    (number > 0).then_some((percent, number))
}

fn two_names(draw: &mut Draw) -> Option<(&'static str, &'static str)> {
    let (name, other) = (draw.name(), draw.name());
    (name != other).then_some((name, other))
}

/// The parameters of the phrasings: numbers as digits, then words.
fn values<const N: usize, const W: usize>(
    numbers: [(&'static str, i64); N],
    words: [(&'static str, &str); W],
) -> Vec<(&'static str, String)> {
    let numbers = numbers.into_iter().map(|(name, number)| (name, number.to_string()));
    numbers.chain(words.into_iter().map(|(name, word)| (name, word.to_owned()))).collect()
}

/// What a thing may be, before or after the noun.
const KINDS: &[&str] =
    &["red", "blue", "green", "yellow", "white", "new", "old", "small", "large", "damaged"];

/// Things with a high price, in the singular; each takes "a".
const ITEMS: &[&str] = &[
    "car", "boat", "piano", "laptop", "machine", "camera", "bike", "sofa", "tractor", "guitar",
    "printer", "phone",
];

/// A money unit must be drawn: alternatives inside a phrasing would mix two of them.
const MONEY: &[&str] = &["dollars", "euros", "pounds", "francs", "pesos"];
