//! Units of measurement and currencies.

use num_rational::BigRational;
use num_traits::{One, Pow};

/// What stands behind a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A measure: base units with their powers, ascending, and how many of them one is.
    Measure { bases: Vec<(&'static str, i32)>, size: BigRational },
    /// Words that are no unit: `5 apples`, `12 \text{ students}`.
    Label(String),
}

impl Unit {
    /// Reads `cm`, `cm^2`, `square feet`, `miles per hour`, `km/h`. Words that are no units make a label.
    pub(crate) fn read(text: &str) -> Self {
        let label = || Self::Label(text.trim().to_lowercase());
        let mut whole = Self::Measure { bases: Vec::new(), size: BigRational::one() };
        let spaced = text.replace('/', " / ").replace(['(', ')', '.', '~', '\\', ','], " ");
        let (mut sign, mut next_power, mut any) = (1, 1, false);
        for word in spaced.split_whitespace() {
            match &word.to_lowercase()[..] {
                "per" | "/" | "a" | "an" => sign = -1,
                "square" | "sq" => next_power = 2,
                "cubic" | "cu" => next_power = 3,
                "of" | "in" if any => return label(),
                _ => {
                    let (name, power) = match word.split_once('^') {
                        Some((name, power)) => (name, power.trim_matches(['{', '}']).parse().ok()),
                        None => (word.trim_end_matches(['²', '³']), raised(word)),
                    };
                    let (Some(power), Some(unit)) = (power, named(name)) else { return label() };
                    whole = whole.times(&unit, sign * next_power * power);
                    (next_power, any) = (1, true);
                }
            }
        }
        if any { whole } else { label() }
    }

    /// The unit that a word of letters is in mathematics, where single letters are variables.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        (word.len() > 1).then(|| named(word)).flatten()
    }

    pub(crate) fn currency(sign: char) -> Self {
        let base = match sign {
            '€' => "euro",
            '£' => "pound sterling",
            '¥' => "yen",
            '$' => "dollar",
            _ => return Self::Label("currency".into()),
        };
        Self::Measure { bases: vec![(base, 1)], size: BigRational::one() }
    }

    pub(crate) fn to_the(&self, power: i32) -> Self {
        match self {
            Self::Measure { .. } => {
                let one = Self::Measure { bases: Vec::new(), size: BigRational::one() };
                one.times(self, power)
            }
            Self::Label(label) => Self::Label(label.clone()),
        }
    }

    /// Times another unit to a small power.
    pub(crate) fn times(&self, other: &Self, power: i32) -> Self {
        let power = power.clamp(-6, 6);
        match (self, other) {
            (
                Self::Measure { bases, size },
                Self::Measure { bases: other_bases, size: other_size },
            ) => {
                let mut bases = bases.clone();
                for (base, exponent) in other_bases {
                    match bases.iter_mut().find(|(known, _)| known == base) {
                        Some((_, sum)) => *sum += exponent * power,
                        None => bases.push((base, exponent * power)),
                    }
                }
                bases.retain(|(_, exponent)| *exponent != 0);
                bases.sort_unstable();
                Self::Measure { bases, size: size * Pow::pow(other_size.clone(), power) }
            }
            (Self::Label(label), _) | (_, Self::Label(label)) => Self::Label(label.clone()),
        }
    }
}

fn raised(word: &str) -> Option<i32> {
    Some(match word.chars().last() {
        Some('²') => 2,
        Some('³') => 3,
        _ => 1,
    })
}

fn named(name: &str) -> Option<Unit> {
    // Case tells units of one letter apart; longer names are the same in any.
    let lower = name.to_lowercase();
    let key = if name.len() > 2 { &lower[..] } else { name };
    let (base, power, numerator, denominator) = match key {
        "m" | "meter" | "meters" | "metre" | "metres" => ("meter", 1, 1, 1),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => ("meter", 1, 1000, 1),
        "dm" | "decimeter" | "decimeters" => ("meter", 1, 1, 10),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => ("meter", 1, 1, 100),
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => ("meter", 1, 1, 1000),
        "in" | "inch" | "inches" => ("meter", 1, 254, 10_000),
        "ft" | "foot" | "feet" => ("meter", 1, 3048, 10_000),
        "yd" | "yard" | "yards" => ("meter", 1, 9144, 10_000),
        "mi" | "mile" | "miles" => ("meter", 1, 1_609_344, 1000),
        "L" | "liter" | "liters" | "litre" | "litres" => ("meter", 3, 1, 1000),
        "mL" | "ml" | "milliliter" | "milliliters" => ("meter", 3, 1, 1_000_000),
        "kg" | "kilogram" | "kilograms" => ("gram", 1, 1000, 1),
        "g" | "gram" | "grams" => ("gram", 1, 1, 1),
        "mg" | "milligram" | "milligrams" => ("gram", 1, 1, 1000),
        "lb" | "lbs" | "pounds" | "pound" => ("gram", 1, 45_359_237, 100_000),
        "oz" | "ounce" | "ounces" => ("gram", 1, 45_359_237, 1_600_000),
        "s" | "sec" | "secs" | "second" | "seconds" => ("second", 1, 1, 1),
        "ms" | "millisecond" | "milliseconds" => ("second", 1, 1, 1000),
        "min" | "mins" | "minute" | "minutes" => ("second", 1, 60, 1),
        "h" | "hr" | "hrs" | "hour" | "hours" => ("second", 1, 3600, 1),
        "day" | "days" => ("second", 1, 86_400, 1),
        "week" | "weeks" => ("second", 1, 604_800, 1),
        "year" | "years" => ("year", 1, 1, 1),
        "month" | "months" => ("year", 1, 1, 12),
        "dollar" | "dollars" | "usd" => ("dollar", 1, 1, 1),
        "cent" | "cents" => ("dollar", 1, 1, 100),
        "euro" | "euros" | "eur" => ("euro", 1, 1, 1),
        "yuan" | "rmb" => ("yuan", 1, 1, 1),
        "yen" => ("yen", 1, 1, 1),
        "rupee" | "rupees" => ("rupee", 1, 1, 1),
        "rad" | "radian" | "radians" => return Some(Unit::Label("radians".into())),
        "mph" => {
            let bases = vec![("meter", 1), ("second", -1)];
            return Some(Unit::Measure { bases, size: ratio(1_609_344, 3_600_000) });
        }
        _ => return None,
    };
    Some(Unit::Measure { bases: vec![(base, power)], size: ratio(numerator, denominator) })
}

fn ratio(numerator: i64, denominator: i64) -> BigRational {
    BigRational::new(numerator.into(), denominator.into())
}
