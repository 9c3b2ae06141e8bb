//! Numbers as people write them: separators, decimals, repeating decimals, powers of ten.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Zero};

use super::bounds::{self, Read, Unreadable};
use super::token::Literal;

/// How a comma between digits is read; where it is ambiguous, more than one reading is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commas {
    /// `1,234` is a thousand and more, except in brackets, where it is two numbers.
    Thousands,
    /// `1,234` is two numbers; in brackets, a thousand and more.
    Swapped,
    /// `1,5` is one and a half.
    Decimal,
}

/// The number at the beginning of `text`, and its length in bytes.
///
/// # Errors
/// If it has too many digits.
pub(super) fn literal(
    text: &str,
    commas: Commas,
    in_brackets: bool,
) -> Read<Option<(Literal, usize)>> {
    let first = text.chars().next();
    if let Some(value) = first.and_then(vulgar_fraction) {
        let length = first.map_or(0, char::len_utf8);
        return Ok(Some((Literal { value, decimals: None, digits: None }, length)));
    }
    let mut scanner = Scanner { text, at: 0 };
    let mut digits = scanner.digits();
    if digits.is_empty() && !(text.starts_with('.') && starts_with_digit(&text[1..])) {
        return Ok(None);
    }
    let thousands = match commas {
        Commas::Thousands => !in_brackets,
        Commas::Swapped => in_brackets,
        Commas::Decimal => false,
    };
    scanner.groups(&mut digits, thousands);
    let plain = scanner.at;
    let mut decimals = String::new();
    let mut repeating = String::new();
    let point = scanner.point(&digits, commas);
    if let Some(point) = point {
        scanner.at += point;
        decimals = scanner.digits();
        // `1.234\,567`
        while let Some(group) = scanner.joined(&["\\,", "\\!"]) {
            decimals.push_str(&group);
        }
        repeating = scanner.repeating(&decimals);
    }
    if digits.len() + decimals.len() + repeating.len() > bounds::DIGITS {
        return Err(Unreadable::Bound);
    }
    let only_digits = point.is_none();
    let mut value = whole(&format!("{digits}{decimals}"));
    let mut written = decimals.len() as i64;
    value /= power_of_ten(written);
    if !repeating.is_empty() {
        let nines = power_of_ten(repeating.len() as i64) - BigRational::one();
        value += whole(&repeating) / nines / power_of_ten(written);
        decimals.clear();
    }
    if let Some(power) = scanner.power_of_ten() {
        if power.abs() > bounds::DIGITS as i64 {
            return Err(Unreadable::Bound);
        }
        value *= power_of_ten(power);
        written -= power;
    }
    let counts = decimals.bytes().any(|digit| digit != b'0');
    let literal = Literal {
        value,
        decimals: counts.then(|| u32::try_from(written.max(0)).unwrap_or(0)),
        digits: (only_digits && scanner.at == plain).then_some(digits),
    };
    Ok(Some((literal, scanner.at)))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some((digit, length)) = leading_digit(self.rest()) {
            digits.push(digit);
            self.at += length;
        }
        digits
    }

    /// Adds groups of three digits behind a separator.
    fn groups(&mut self, digits: &mut String, thousands: bool) {
        let starts_well = digits.len() <= 3 && !digits.starts_with('0');
        loop {
            // `\!` only draws digits together, whatever their number.
            if let Some(group) = self.joined(&["\\!"]) {
                digits.push_str(&group);
                continue;
            }
            if digits.is_empty() || !starts_well {
                return;
            }
            let sure = ["{,}", ",\\!", "\\!,", "{,\\!}", ",\\,"];
            let group = self.group(&sure, true).or_else(|| {
                let spaces = ["\\,", "\\ ", "\\;", "~", "\u{2009}", "\u{202f}", "\u{a0}", " ", "'"];
                self.group(&spaces, false)
            });
            let group =
                group.or_else(|| if thousands { self.group(&[",", "，"], false) } else { None });
            match group {
                Some(group) => digits.push_str(&group),
                None => return,
            }
        }
    }

    /// Exactly three digits behind one of the separators.
    fn group(&mut self, separators: &[&str], spaced: bool) -> Option<String> {
        for separator in separators {
            let Some(after) = self.rest().strip_prefix(separator) else { continue };
            let after = if spaced { after.trim_start() } else { after };
            let start = self.text.len() - after.len();
            let mut ahead = Scanner { text: self.text, at: start };
            let digits = ahead.digits();
            // `1 000/3` may be a mixed number, `1 234 ^` anything: only digits decide.
            if digits.len() == 3 && !self.is_mixed(separator, ahead.rest()) {
                self.at = ahead.at;
                return Some(digits);
            }
        }
        None
    }

    /// Whether digits behind a plain space are the numerator of a mixed number.
    fn is_mixed(&self, separator: &str, after: &str) -> bool {
        separator == " " && after.trim_start().starts_with('/')
    }

    fn joined(&mut self, separators: &[&str]) -> Option<String> {
        let after = separators.iter().find_map(|s| self.rest().strip_prefix(s))?;
        let mut ahead = Scanner { text: self.text, at: self.text.len() - after.len() };
        let digits = ahead.digits();
        if digits.is_empty() {
            return None;
        }
        self.at = ahead.at;
        Some(digits)
    }

    /// Length of the decimal point, where one follows.
    fn point(&self, digits: &str, commas: Commas) -> Option<usize> {
        let rest = self.rest();
        for point in [".", "{.}", "．", "{,}"] {
            if let Some(after) = rest.strip_prefix(point) {
                let repeats =
                    repeating_mark(after).is_some() || repeating_brackets(after).is_some();
                if starts_with_digit(after) || (repeats && point == ".") {
                    return Some(point.len());
                }
                // `540.` at the end of a sentence, or before a unit.
                let ends = !after.starts_with('.') && !digits.is_empty();
                return (point == "." && ends).then_some(1);
            }
        }
        let comma = rest.strip_prefix(',').is_some_and(starts_with_digit);
        (commas == Commas::Decimal && comma).then_some(1)
    }

    /// The digits that repeat: `\overline{36}`, `(36)`, or shown thrice before dots.
    fn repeating(&mut self, decimals: &str) -> String {
        let bracketed = || repeating_brackets(self.rest()).filter(|_| decimals.is_empty());
        let marked = repeating_mark(self.rest()).or_else(bracketed);
        if let Some((digits, length)) = marked {
            self.at += length;
            return digits;
        }
        let dots = ["...", "…", "\\ldots", "\\dots", "\\cdots"];
        if let Some(dots) = dots.iter().find(|dots| self.rest().starts_with(**dots)) {
            self.at += dots.len();
            for period in 1..=decimals.len() / 2 {
                let shown = if period == 1 { 3 } else { 2 };
                let tail = &decimals[decimals.len() - period..];
                if decimals.ends_with(&tail.repeat(shown)) {
                    return tail.to_owned();
                }
            }
        }
        String::new()
    }

    /// The exponent of `3e5`.
    fn power_of_ten(&mut self) -> Option<i64> {
        let rest = self.rest().strip_prefix(['e', 'E'])?;
        let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let ends = digits[length..].chars().next().is_none_or(|c| !c.is_alphanumeric());
        if length == 0 || !ends {
            return None;
        }
        let power = rest[..rest.len() - digits.len() + length].parse().unwrap_or(i64::MAX / 2);
        self.at += 1 + rest.len() - digits.len() + length;
        Some(power)
    }
}

fn repeating_mark(text: &str) -> Option<(String, usize)> {
    let inside =
        ["\\overline{", "\\bar{", "\\dot{", "\\overline", "\\bar"].iter().find_map(|mark| {
            let braced = mark.ends_with('{');
            text.strip_prefix(mark).map(|inside| (inside.trim_start(), braced))
        });
    let (inside, braced) = inside?;
    let length = inside.bytes().take_while(u8::is_ascii_digit).count();
    let taken = if braced { length } else { length.min(1) };
    let closed = !braced || inside[length..].starts_with('}');
    (taken > 0 && closed).then(|| {
        let end = text.len() - inside.len() + taken + usize::from(braced);
        (inside[..taken].to_owned(), end)
    })
}

fn repeating_brackets(text: &str) -> Option<(String, usize)> {
    let inside = text.strip_prefix('(')?;
    let length = inside.bytes().take_while(u8::is_ascii_digit).count();
    (length > 0 && inside[length..].starts_with(')'))
        .then(|| (inside[..length].to_owned(), length + 2))
}

fn leading_digit(text: &str) -> Option<(char, usize)> {
    let first = text.chars().next()?;
    let value = match first {
        '0'..='9' => return Some((first, 1)),
        '０'..='９' => first as u32 - '０' as u32,
        '\u{1d7ce}'..='\u{1d7ff}' => (first as u32 - 0x1d7ce) % 10,
        _ => return None,
    };
    char::from_digit(value, 10).map(|digit| (digit, first.len_utf8()))
}

fn starts_with_digit(text: &str) -> bool {
    leading_digit(text).is_some()
}

fn whole(digits: &str) -> BigRational {
    let value = BigInt::parse_bytes(digits.as_bytes(), 10).unwrap_or_else(BigInt::zero);
    BigRational::from_integer(value)
}

fn power_of_ten(power: i64) -> BigRational {
    let size = BigInt::from(10).pow(power.unsigned_abs());
    match power < 0 {
        true => BigRational::new_raw(BigInt::one(), size),
        false => BigRational::from_integer(size),
    }
}

fn vulgar_fraction(letter: char) -> Option<BigRational> {
    let (n, d) = match letter {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        _ => return None,
    };
    Some(BigRational::new(n.into(), d.into()))
}
