//! Tokens of LaTeX, plain text and Unicode, brought to one notation.

use num_rational::BigRational;

use super::bounds::{self, Read, Unreadable};
use super::command::{self, Meaning};
use super::number::{self, Commas};

/// A piece of an answer, and whether white space stands before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Number(Literal),
    /// Letters of mathematics, at least one: `x`, `sin`, `cm`, `π`.
    Word(String),
    /// Letters that LaTeX set upright: a unit, a label or a name.
    Text(String),
    /// A LaTeX command that takes arguments or names a function, without its backslash.
    Command(&'static str),
    Begin(String),
    End(String),
    /// An operator, relation or bracket, in the notation of the Unicode table: `≤` also for `\leq` and `<=`.
    Sign(char),
}

/// A number as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Literal {
    pub(crate) value: BigRational,
    /// Digits after the decimal point, where there is one and any of them counts.
    pub(crate) decimals: Option<u32>,
    /// The digits, where there is nothing else: what a base could apply to.
    pub(crate) digits: Option<String>,
}

/// Opening and closing brace of a set, told from those that only group.
pub(crate) const SET_OPEN: char = '⦃';
pub(crate) const SET_CLOSE: char = '⦄';
/// End of a row of a matrix.
pub(crate) const ROW: char = '⏎';
/// The infix fraction bar of `{a \over b}`, and the same of `\choose`.
pub(crate) const OVER: char = '⁄';
pub(crate) const CHOOSE: char = '⁞';

/// Splits an answer into tokens.
///
/// # Errors
/// If it is too long, or has a character that no mathematics has.
pub(crate) fn tokens(text: &str, commas: Commas) -> Read<Vec<Token>> {
    if text.len() > bounds::CANDIDATE_BYTES {
        return Err(Unreadable::Bound);
    }
    let mut lexer = Lexer { rest: text, tokens: Vec::new(), spaced: false, commas, brackets: 0 };
    while !lexer.rest.is_empty() {
        lexer.step()?;
        if lexer.tokens.len() > bounds::TOKENS {
            return Err(Unreadable::Bound);
        }
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
    spaced: bool,
    commas: Commas,
    /// Brackets that are open: in them a comma separates.
    brackets: usize,
}

impl<'a> Lexer<'a> {
    fn step(&mut self) -> Read<()> {
        let Some(first) = self.rest.chars().next() else { return Ok(()) };
        if first.is_whitespace()
            || matches!(first, '\u{200b}' | '\u{2061}'..='\u{2064}' | '\u{feff}')
        {
            self.skip(first.len_utf8());
            self.spaced = true;
            return Ok(());
        }
        if let Some((literal, length)) = number::literal(self.rest, self.commas, self.brackets > 0)?
        {
            self.skip(length);
            self.push(Kind::Number(literal));
            return Ok(());
        }
        if first == '\\' {
            return self.command();
        }
        if let Some(plain) = plain_letter(first) {
            return self.word(plain);
        }
        if let Some(raised) = script(first, SUPERSCRIPTS) {
            return self.script('^', raised, SUPERSCRIPTS);
        }
        if let Some(lowered) = script(first, SUBSCRIPTS) {
            return self.script('_', lowered, SUBSCRIPTS);
        }
        self.sign(first)
    }

    fn sign(&mut self, first: char) -> Read<()> {
        const PAIRS: &[(&str, char)] = &[
            ("**", '^'),
            ("<=", '≤'),
            (">=", '≥'),
            ("=<", '≤'),
            ("!=", '≠'),
            ("==", '='),
            ("...", '…'),
            ("->", '→'),
            ("=>", '→'),
            ("+/-", '±'),
            ("+-", '±'),
            ("~=", '≈'),
            ("||", '‖'),
        ];
        let pair = PAIRS.iter().find(|(pair, _)| self.rest.starts_with(pair));
        // `5!=120` is a factorial and an equation only where digits say so; `!=` after a number is ambiguous.
        if let Some((pair, sign)) = pair {
            self.skip(pair.len());
            self.push(Kind::Sign(*sign));
            return Ok(());
        }
        let sign = match first {
            '+' | '-' | '*' | '/' | '^' | '_' | '!' | '\'' | '|' | ',' | ';' | ':' | '=' | '<'
            | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '%' | '&' | '$' => first,
            '√' | '∞' | '±' | '∓' | '≤' | '≥' | '≠' | '≈' | '≡' | '∈' | '∉' | '∪' | '∩' | '∖'
            | '∅' | '°' | '…' | '→' | '€' | '£' | '¥' | '⌊' | '⌋' | '⌈' | '⌉' | '‖' | '∛' | '∜'
            | '∧' | '∨' => first,
            '−' | '–' | '—' | '‐' | '‑' | '﹣' => '-',
            '×' | '·' | '⋅' | '∙' | '•' | '∗' | '✕' => '*',
            '÷' | '⁄' | '∕' => '/',
            '≦' | '⩽' => '≤',
            '≧' | '⩾' => '≥',
            '≃' | '≅' | '∼' => '≈',
            '′' | '’' | '‘' => '\'',
            'º' | '˚' => '°',
            '，' | '、' => ',',
            '∶' => ':',
            '∣' => '|',
            '⇒' | '⟶' => '→',
            '⟨' | '〈' => '⟨',
            '⟩' | '〉' => '⟩',
            '₹' | '₽' | '₩' => '¤',
            '~' => {
                self.skip(1);
                self.spaced = true;
                return Ok(());
            }
            '.' if self.rest.len() == 1 => {
                self.skip(1);
                return Ok(());
            }
            // Full-width forms stand for their ASCII counterparts.
            '\u{ff01}'..='\u{ff5e}' => {
                let plain = char::from_u32(first as u32 - 0xfee0).ok_or(Unreadable::Syntax)?;
                self.skip(first.len_utf8());
                return match plain.is_ascii_punctuation() {
                    true => {
                        self.bracket(plain);
                        self.push(Kind::Sign(plain));
                        Ok(())
                    }
                    false => Err(Unreadable::Syntax),
                };
            }
            _ => return Err(Unreadable::Syntax),
        };
        self.skip(first.len_utf8());
        self.bracket(sign);
        self.push(Kind::Sign(sign));
        Ok(())
    }

    fn bracket(&mut self, sign: char) {
        match sign {
            '(' | '[' | SET_OPEN => self.brackets += 1,
            ')' | ']' | SET_CLOSE => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
    }

    fn word(&mut self, first: char) -> Read<()> {
        let mut word = String::new();
        // Greek and blackboard letters stand alone.
        let alone = !first.is_ascii_alphabetic();
        for letter in self.rest.chars() {
            match plain_letter(letter) {
                Some(plain) if word.is_empty() || (!alone && plain.is_ascii_alphabetic()) => {
                    word.push(plain);
                    self.rest = &self.rest[letter.len_utf8()..];
                }
                _ => break,
            }
        }
        let kind = match command::word(&word) {
            Some(Meaning::Sign(sign)) => Kind::Sign(sign),
            Some(Meaning::Letter(letter)) => Kind::Word(letter.into()),
            Some(Meaning::Command(name)) => Kind::Command(name),
            _ => Kind::Word(word),
        };
        self.push(kind);
        Ok(())
    }

    fn script(&mut self, sign: char, first: char, table: &[(char, char)]) -> Read<()> {
        let mut content = String::from(first);
        self.rest = &self.rest[self.rest.chars().next().map_or(0, char::len_utf8)..];
        while let Some((letter, plain)) =
            self.rest.chars().next().and_then(|c| script(c, table).map(|plain| (c, plain)))
        {
            content.push(plain);
            self.rest = &self.rest[letter.len_utf8()..];
        }
        self.push(Kind::Sign(sign));
        self.push(Kind::Sign('{'));
        self.nested(&content)?;
        self.push(Kind::Sign('}'));
        Ok(())
    }

    fn command(&mut self) -> Read<()> {
        let after = &self.rest[1..];
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        if letters == 0 {
            let Some(next) = after.chars().next() else {
                self.rest = "";
                return Ok(());
            };
            self.skip(1 + next.len_utf8());
            let sign = match next {
                '{' => SET_OPEN,
                '}' => SET_CLOSE,
                '%' | '$' | '&' | '_' | '#' => next,
                '|' => '‖',
                '\\' => {
                    // `\\[4pt]`
                    if self.rest.starts_with('[')
                        && let Some(end) = self.rest.find(']')
                        && self.rest[..end].ends_with(|c: char| c.is_ascii_alphabetic())
                    {
                        self.skip(end + 1);
                    }
                    ROW
                }
                // Spaces, and the delimiters of mathematics.
                '!' | ',' | ';' | ':' | '>' | '(' | ')' | '[' | ']' | ' ' | '/' | '-' => {
                    self.spaced = true;
                    return Ok(());
                }
                _ if next.is_whitespace() => {
                    self.spaced = true;
                    return Ok(());
                }
                _ => return Err(Unreadable::Syntax),
            };
            self.bracket(sign);
            self.push(Kind::Sign(sign));
            return Ok(());
        }
        let name = &after[..letters];
        self.skip(1 + letters);
        match command::meaning(name).ok_or(Unreadable::Syntax)? {
            Meaning::Sign(sign) => {
                self.bracket(sign);
                self.push(Kind::Sign(sign));
            }
            Meaning::Letter(letter) => self.push(Kind::Word(letter.into())),
            Meaning::Command(name) => self.push(Kind::Command(name)),
            Meaning::Space => self.spaced = true,
            Meaning::Ignored => {}
            Meaning::IgnoredWithArgument => {
                self.argument();
                self.spaced = true;
            }
            Meaning::Size => {
                // `\left.` and `\right.` draw nothing.
                if self.rest.trim_start().starts_with('.') {
                    self.rest = &self.rest.trim_start()[1..];
                }
            }
            Meaning::Upright => {
                let content = self.argument();
                self.upright(content)?;
            }
            Meaning::Environment => {
                let environment = self.argument().trim().trim_end_matches('*').to_owned();
                if matches!(&environment[..], "array" | "tabular") && name == "begin" {
                    self.argument();
                }
                let kind = if name == "begin" { Kind::Begin } else { Kind::End };
                self.push(kind(environment));
            }
        }
        Ok(())
    }

    /// The content of `{…}`, or the next character.
    fn argument(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let Some(inside) = text.strip_prefix('{') else {
            let end = text.chars().next().map_or(0, char::len_utf8);
            self.rest = &text[end..];
            return &text[..end];
        };
        let mut depth = 1;
        let mut escaped = false;
        for (at, letter) in inside.char_indices() {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.rest = &inside[at + 1..];
                return &inside[..at];
            }
        }
        self.rest = "";
        inside
    }

    /// Words set upright: `and`, `cm^2`, `(C)`, `5`.
    fn upright(&mut self, content: &str) -> Read<()> {
        let text = content.trim();
        let words = text.trim_matches([',', '.', ';', ':', ' ', '~']);
        if words.is_empty() {
            if text.contains([',', ';']) {
                self.push(Kind::Sign(','));
            }
            self.spaced = true;
            return Ok(());
        }
        match words.to_ascii_lowercase().as_str() {
            "and" | "or" | "percent" | "degrees" | "degree" | "pi" | "infinity" | "union" => {
                if let Some(Meaning::Sign(sign)) = command::word(words) {
                    self.push(Kind::Sign(sign));
                    return Ok(());
                }
            }
            _ => {}
        }
        let inner = words.strip_prefix('(').and_then(|w| w.strip_suffix(')')).unwrap_or(words);
        let lone_letter = inner.len() == 1 && inner.as_bytes()[0].is_ascii_alphabetic();
        if lone_letter && inner.len() == words.len() {
            self.push(Kind::Text(inner.to_owned()));
            return Ok(());
        }
        if let Some(Meaning::Command(name)) = command::word(words) {
            self.push(Kind::Command(name));
            return Ok(());
        }
        let starts_with_digit = inner
            .trim_start_matches(['-', '$', '(', '\\'])
            .starts_with(|c: char| c.is_ascii_digit());
        let connected = words.starts_with("and ") || words.starts_with("or ");
        if starts_with_digit || connected {
            return self.nested(words);
        }
        if text.starts_with([',', ';']) {
            self.push(Kind::Sign(','));
        }
        self.push(Kind::Text(inner.trim().to_owned()));
        Ok(())
    }

    fn nested(&mut self, content: &str) -> Read<()> {
        let nested = tokens_flat(content)?;
        self.tokens.extend(nested);
        self.spaced = false;
        Ok(())
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, spaced: self.spaced });
        self.spaced = false;
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }
}

/// Tokens of a piece that holds no commands of its own, so that nesting ends here.
fn tokens_flat(content: &str) -> Read<Vec<Token>> {
    if content.contains('\\') {
        return Err(Unreadable::Syntax);
    }
    tokens(content, Commas::Thousands)
}

const SUPERSCRIPTS: &[(char, char)] = &[
    ('⁰', '0'),
    ('¹', '1'),
    ('²', '2'),
    ('³', '3'),
    ('⁴', '4'),
    ('⁵', '5'),
    ('⁶', '6'),
    ('⁷', '7'),
    ('⁸', '8'),
    ('⁹', '9'),
    ('⁺', '+'),
    ('⁻', '-'),
    ('⁽', '('),
    ('⁾', ')'),
    ('ⁿ', 'n'),
    ('ˣ', 'x'),
    ('ⁱ', 'i'),
];

const SUBSCRIPTS: &[(char, char)] = &[
    ('₀', '0'),
    ('₁', '1'),
    ('₂', '2'),
    ('₃', '3'),
    ('₄', '4'),
    ('₅', '5'),
    ('₆', '6'),
    ('₇', '7'),
    ('₈', '8'),
    ('₉', '9'),
    ('ₙ', 'n'),
    ('ₐ', 'a'),
    ('ₓ', 'x'),
];

fn script(letter: char, table: &[(char, char)]) -> Option<char> {
    table.iter().find(|(raised, _)| *raised == letter).map(|(_, plain)| *plain)
}

/// The letter that a character stands for: itself, or what a typeface of mathematics draws.
fn plain_letter(letter: char) -> Option<char> {
    match letter {
        'a'..='z' | 'A'..='Z' => Some(letter),
        'α'..='ω' | 'Α'..='Ω' | 'ϕ' | 'ϵ' | 'ϑ' => Some(command::greek(letter)),
        'ℝ' | 'ℤ' | 'ℚ' | 'ℕ' | 'ℂ' => Some(letter),
        'ℓ' => Some('l'),
        'Ａ'..='Ｚ' | 'ａ'..='ｚ' => char::from_u32(letter as u32 - 0xfee0),
        '\u{1d400}'..='\u{1d6a3}' => {
            let place = (letter as u32 - 0x1d400) % 52;
            let first = if place < 26 { 'A' as u32 } else { 'a' as u32 - 26 };
            char::from_u32(first + place)
        }
        _ => None,
    }
}
