//! Level 2: rates and mixtures; one line of Python each.
//!
//! Speeds, wages, prices and flows come with their units, so most families draw a unit system first and then numbers
//! that are ordinary in it. Where two pairs of numbers meet (legs, mixtures), the program takes them in the order of
//! the story: first pair, second pair.

use super::{Draw, Family, Instance};

pub(super) const FAMILIES: &[Family] = &[
    Family { name: "distance_travelled", level: 2, draw: distance_travelled },
    Family { name: "travel_time", level: 2, draw: travel_time },
    Family { name: "average_speed", level: 2, draw: average_speed },
    Family { name: "overtime_wage", level: 2, draw: overtime_wage },
    Family { name: "mixture_price", level: 2, draw: mixture_price },
    Family { name: "solution_mix", level: 2, draw: solution_mix },
    Family { name: "tank_fill_time", level: 2, draw: tank_fill_time },
    Family { name: "ratio_share", level: 2, draw: ratio_share },
    Family { name: "unit_conversion", level: 2, draw: unit_conversion },
];

/// How far something gets at a constant speed.
fn distance_travelled(draw: &mut Draw) -> Option<Instance> {
    let motion = Motion::draw(draw);
    let time = draw.wide(2, motion.longest);
    let speed = draw.wide(motion.slowest, motion.fastest);
    let mut values = motion.values;
    values.extend([("speed", speed.to_string()), ("time", time.to_string())]);
    Some(Instance::one_call(
        values,
        "Multiply speed by time.",
        format!("print({speed}*{time})"),
        speed * time,
    ))
}

/// How long a distance takes at a constant speed.
fn travel_time(draw: &mut Draw) -> Option<Instance> {
    let motion = Motion::draw(draw);
    let time = draw.wide(2, motion.longest);
    let speed = draw.wide(motion.slowest, motion.fastest);
    let distance = speed * time;
    let mut values = motion.values;
    values.extend([("speed", speed.to_string()), ("distance", distance.to_string())]);
    Some(Instance::one_call(
        values,
        "Divide distance by speed.",
        format!("print({distance}//{speed})"),
        time,
    ))
}

/// All distance over all time, of two legs at different speeds.
fn average_speed(draw: &mut Draw) -> Option<Instance> {
    let motion = Motion::draw(draw);
    let longest = motion.longest.min(600);
    let (t1, t2) = (draw.wide(2, longest), draw.wide(2, longest));
    let average = draw.wide(motion.slowest, motion.fastest);
    let d1 = draw.number(motion.slowest * t1, motion.fastest * t1);
    let d2 = average * (t1 + t2) - d1;
    if d2 < motion.slowest * t2 || d2 > motion.fastest * t2 {
        return None;
    }
    let mut values = motion.values;
    values.extend([
        ("d1", d1.to_string()),
        ("t1", t1.to_string()),
        ("d2", d2.to_string()),
        ("t2", t2.to_string()),
    ]);
    Some(Instance::one_call(
        values,
        "Divide total distance by total time.",
        format!("print(({d1}+{d2})//({t1}+{t2}))"),
        average,
    ))
}

/// Normal hours at one rate, overtime at a better one.
fn overtime_wage(draw: &mut Draw) -> Option<Instance> {
    let (currency, least, most) = draw.pick(&[
        ("dollars", 9, 150),
        ("euros", 9, 150),
        ("pounds", 9, 150),
        ("francs", 15, 180),
        ("crowns", 80, 1_500),
        ("pesos", 60, 1_200),
        ("rupees", 90, 2_500),
        ("yen", 900, 12_000),
    ]);
    let rate = draw.wide(least, most);
    let over = draw.number(rate + 1, rate * 2);
    let hours = draw.wide(4, 180);
    let extra = draw.wide(2, 60);
    Some(Instance::one_call(
        vec![
            ("name", draw.name().to_owned()),
            ("place", draw.place().to_owned()),
            ("currency", currency.to_owned()),
            ("hours", hours.to_string()),
            ("rate", rate.to_string()),
            ("extra", extra.to_string()),
            ("over", over.to_string()),
        ],
        "Add normal pay and overtime pay.",
        format!("print({hours}*{rate}+{extra}*{over})"),
        hours * rate + extra * over,
    ))
}

/// The price per unit of two goods mixed.
fn mixture_price(draw: &mut Draw) -> Option<Instance> {
    let (x, y, liquid) = draw.pick(GOODS);
    let (unit, one) = draw.pick(if liquid { VOLUMES } else { WEIGHTS });
    let (currency, cheapest, dearest) = draw.pick(&[
        ("dollars", 3, 150),
        ("euros", 3, 150),
        ("pesos", 20, 2_500),
        ("rupees", 20, 3_000),
        ("cents", 40, 9_000),
        ("yen", 100, 20_000),
    ]);
    let (a, b) = (draw.wide(2, 999), draw.wide(2, 999));
    let average = draw.wide(cheapest, dearest);
    // Every pair of prices with this average lies a whole number of steps away from it.
    let divisor = gcd(a, b);
    let (p_step, q_step) = (b / divisor, a / divisor);
    let most_steps = average / p_step.max(q_step);
    let steps = draw.number(-most_steps, most_steps);
    let (p, q) = (average + steps * p_step, average - steps * q_step);
    if p == q || p < 2 || q < 2 || p.max(q) > 5 * p.min(q) {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("name", draw.name().to_owned()),
            ("x", x.to_owned()),
            ("y", y.to_owned()),
            ("unit", unit.to_owned()),
            ("one", one.to_owned()),
            ("currency", currency.to_owned()),
            ("a", a.to_string()),
            ("p", p.to_string()),
            ("b", b.to_string()),
            ("q", q.to_string()),
        ],
        "Divide total cost by total amount.",
        format!("print(({a}*{p}+{b}*{q})//({a}+{b}))"),
        average,
    ))
}

/// How much of the dissolved stuff two solutions hold together.
fn solution_mix(draw: &mut Draw) -> Option<Instance> {
    let (x, liquid) = draw.pick(&[
        ("acid", true),
        ("alcohol", true),
        ("vinegar", true),
        ("fruit juice", true),
        ("antifreeze", true),
        ("syrup", true),
        ("bleach", true),
        ("salt", false),
        ("sugar", false),
        ("soap", false),
    ]);
    let (unit, _) = draw.pick(if liquid { VOLUMES } else { WEIGHTS });
    let (a, b) = (draw.wide(2, 20_000), draw.wide(2, 20_000));
    // A brine does not get stronger than this.
    let strongest = if x == "salt" { 25 } else { 95 };
    let (p, q) = (draw.number(2, strongest), draw.number(2, strongest));
    let hundredfold = a * p + b * q;
    if p == q || hundredfold % 100 != 0 || hundredfold < 200 || a.max(b) > 50 * a.min(b) {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("name", draw.name().to_owned()),
            ("x", x.to_owned()),
            ("unit", unit.to_owned()),
            ("a", a.to_string()),
            ("p", p.to_string()),
            ("b", b.to_string()),
            ("q", q.to_string()),
        ],
        "Add the pure parts of both.",
        format!("print(({a}*{p}+{b}*{q})//100)"),
        hundredfold / 100,
    ))
}

/// How long a tank takes to fill while it also drains.
fn tank_fill_time(draw: &mut Draw) -> Option<Instance> {
    let (tank, largest) = draw.pick(&[
        ("tank", 99_999),
        ("pool", 99_999),
        ("basin", 20_000),
        ("barrel", 900),
        ("bathtub", 400),
        ("pond", 99_999),
        ("cistern", 50_000),
        ("boiler", 5_000),
    ]);
    let (unit, _) = draw.pick(VOLUMES);
    let (periods, period) =
        draw.pick(&[("minutes", "minute"), ("minutes", "minute"), ("hours", "hour")]);
    let inflow = draw.wide(4, 2_000);
    let outflow = draw.wide(2, inflow - 2);
    let time = draw.wide(2, 600);
    let capacity = (inflow - outflow) * time;
    // Neither a thimble nor a tank that one gush fills.
    if !(60..=largest).contains(&capacity) || 2 * inflow > capacity {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("name", draw.name().to_owned()),
            ("place", draw.place().to_owned()),
            ("tank", tank.to_owned()),
            ("unit", unit.to_owned()),
            ("periods", periods.to_owned()),
            ("period", period.to_owned()),
            ("capacity", capacity.to_string()),
            ("inflow", inflow.to_string()),
            ("outflow", outflow.to_string()),
        ],
        "Divide capacity by net flow.",
        format!("print({capacity}//({inflow}-{outflow}))"),
        time,
    ))
}

/// The larger or the smaller share when a total is split in a ratio.
fn ratio_share(draw: &mut Draw) -> Option<Instance> {
    let (a, b) = (draw.number(1, 20), draw.number(1, 20));
    let total = (a + b) * draw.wide(2, 5_000);
    let (name, other) = (draw.name(), draw.name());
    if gcd(a, b) > 1 || a == b || name == other {
        return None;
    }
    let (larger, more, choice) = draw.pick(&[
        ("larger", "more", "max"),
        ("bigger", "more", "max"),
        ("smaller", "fewer", "min"),
        ("smaller", "fewer", "min"),
    ]);
    let share = if choice == "max" { a.max(b) } else { a.min(b) };
    let answer = total / (a + b) * share;
    if answer < 2 {
        return None;
    }
    Some(Instance::one_call(
        vec![
            ("name", name.to_owned()),
            ("other", other.to_owned()),
            ("things", draw.things().to_owned()),
            ("place", draw.place().to_owned()),
            ("larger", larger.to_owned()),
            ("more", more.to_owned()),
            ("total", total.to_string()),
            ("a", a.to_string()),
            ("b", b.to_string()),
            ("a_parts", parts(a)),
            ("b_parts", parts(b)),
        ],
        "Split in the ratio, take one share.",
        format!("print({total}*{choice}({a},{b})//({a}+{b}))"),
        answer,
    ))
}

/// The same amount in a smaller or a larger unit: the factor is knowledge, not in the question.
fn unit_conversion(draw: &mut Draw) -> Option<Instance> {
    let (large, small, factor) = draw.pick(UNITS);
    let (large, small) = (draw.pick(large), draw.pick(small));
    let to_smaller = draw.pick(&[true, false]);
    // Neither side gets longer than seven digits.
    let count = draw.wide(2, 99_999.min(9_999_999 / factor));
    let (number, from, to, operator, answer) = if to_smaller {
        (count, large, small, "*", count * factor)
    } else {
        (count * factor, small, large, "//", count)
    };
    Some(Instance::one_call(
        vec![
            ("name", draw.name().to_owned()),
            ("number", number.to_string()),
            ("from", from.to_owned()),
            ("to", to.to_owned()),
        ],
        "Convert the unit.",
        format!("print({number}{operator}{factor})"),
        answer,
    ))
}

/// Something that moves, in one unit system: the words for it and the ordinary range of its speed.
struct Motion {
    /// `name`, `mover`, `unit` (km), `rate` (km/h), `periods` (hours), `period` (hour).
    values: Vec<(&'static str, String)>,
    slowest: i64,
    fastest: i64,
    /// In `periods`.
    longest: i64,
}

impl Motion {
    fn draw(draw: &mut Draw) -> Self {
        let (mover, slowest, fastest) = draw.pick(MOVERS);
        let system = draw.pick(SPEED_UNITS);
        let (unit, rate) = draw.pick(system.names);
        let slowest = (slowest * system.multiply / system.divide).max(2);
        let values = [
            ("name", draw.name()),
            ("mover", mover),
            ("unit", unit),
            ("rate", rate),
            ("periods", system.periods),
            ("period", system.period),
        ];
        Self {
            values: values.map(|(name, value)| (name, value.to_owned())).to_vec(),
            slowest,
            fastest: (fastest * system.multiply / system.divide).max(slowest + 2),
            longest: system.longest,
        }
    }
}

/// Movers (all take "a" and "it") with their ordinary speeds in km/h.
const MOVERS: &[(&str, i64, i64)] = &[
    ("bike", 10, 36),
    ("boat", 8, 70),
    ("bus", 20, 110),
    ("car", 20, 140),
    ("drone", 15, 120),
    ("ferry", 12, 60),
    ("lorry", 20, 100),
    ("motorbike", 20, 160),
    ("plane", 250, 950),
    ("robot", 2, 14),
    ("ship", 10, 55),
    ("train", 40, 320),
    ("tram", 12, 60),
    ("truck", 20, 110),
    ("van", 20, 130),
];

#[derive(Clone, Copy)]
struct SpeedUnits {
    /// Ways to write distance and speed.
    names: &'static [(&'static str, &'static str)],
    periods: &'static str,
    period: &'static str,
    /// 1 km/h is `multiply / divide` of this unit.
    multiply: i64,
    divide: i64,
    longest: i64,
}

const SPEED_UNITS: &[SpeedUnits] = &[
    SpeedUnits {
        names: &[
            ("km", "km/h"),
            ("km", "km per hour"),
            ("km", "kph"),
            ("kilometres", "kilometres per hour"),
            ("kilometers", "kilometers per hour"),
            ("kilometres", "km/h"),
            ("kilometers", "km an hour"),
        ],
        periods: "hours",
        period: "hour",
        multiply: 1,
        divide: 1,
        longest: 20,
    },
    SpeedUnits {
        names: &[("miles", "miles per hour"), ("miles", "mph"), ("miles", "miles an hour")],
        periods: "hours",
        period: "hour",
        multiply: 5,
        divide: 8,
        longest: 20,
    },
    SpeedUnits {
        names: &[
            ("metres", "metres per minute"),
            ("meters", "meters per minute"),
            ("metres", "metres a minute"),
        ],
        periods: "minutes",
        period: "minute",
        multiply: 50,
        divide: 3,
        longest: 300,
    },
    SpeedUnits {
        names: &[
            ("metres", "metres per second"),
            ("meters", "meters per second"),
            ("metres", "m/s"),
        ],
        periods: "seconds",
        period: "second",
        multiply: 5,
        divide: 18,
        longest: 4_000,
    },
];

/// Two goods that one mixes, and whether they are liquid.
const GOODS: &[(&str, &str, bool)] = &[
    ("peanuts", "almonds", false),
    ("raisins", "walnuts", false),
    ("green tea", "black tea", false),
    ("white rice", "brown rice", false),
    ("oats", "barley", false),
    ("wheat", "rye", false),
    ("dark coffee", "light coffee", false),
    ("copper", "zinc", false),
    ("red beans", "white beans", false),
    ("grass seed", "clover seed", false),
    ("apple juice", "cherry juice", true),
    ("orange juice", "mango juice", true),
    ("white paint", "blue paint", true),
    ("sunflower oil", "olive oil", true),
];

const WEIGHTS: &[(&str, &str)] =
    &[("kg", "kg"), ("kilos", "kilo"), ("kilograms", "kilogram"), ("pounds", "pound")];

const VOLUMES: &[(&str, &str)] = &[("litres", "litre"), ("liters", "liter"), ("gallons", "gallon")];

/// Ways to write a large unit and a small one, and how many of the small make one large.
type UnitPair = (&'static [&'static str], &'static [&'static str], i64);

const UNITS: &[UnitPair] = &[
    (&["hours"], &["minutes"], 60),
    (&["minutes"], &["seconds"], 60),
    (&["hours"], &["seconds"], 3_600),
    (&["days"], &["hours"], 24),
    (&["weeks"], &["days"], 7),
    (&["years"], &["months"], 12),
    (&["decades"], &["years"], 10),
    (&["km", "kilometres", "kilometers"], &["metres", "meters"], 1_000),
    (&["metres", "meters"], &["cm", "centimetres", "centimeters"], 100),
    (&["cm", "centimetres", "centimeters"], &["mm", "millimetres", "millimeters"], 10),
    (&["feet"], &["inches"], 12),
    (&["yards"], &["feet"], 3),
    (&["kg", "kilos", "kilograms"], &["grams"], 1_000),
    (&["tonnes"], &["kg", "kilos", "kilograms"], 1_000),
    (&["litres", "liters"], &["ml", "millilitres", "milliliters"], 1_000),
    (&["dollars", "euros"], &["cents"], 100),
];

fn parts(count: i64) -> String {
    if count == 1 { "1 part".to_owned() } else { format!("{count} parts") }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
