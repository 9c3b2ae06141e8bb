//! Answers as text: names, words, and expressions that the grammar does not know.

/// Whether two answers are the same but for notation.
pub(crate) fn same_words(a: &str, b: &str) -> bool {
    let (a, b) = (plain(a), plain(b));
    !a.is_empty() && a == b
}

/// Without spaces that do not part words or digits, wrappers, closing punctuation and, in words, case.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = Plain { text: String::with_capacity(text.len()), spaced: false };
    // Of each open brace, whether it was kept.
    let mut braces: Vec<bool> = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => rest = command(rest, &mut plain, &mut braces),
            '{' => {
                braces.push(true);
                plain.push('{');
            }
            '}' if !braces.pop().unwrap_or(true) => {}
            '"' | '“' | '”' | '`' => {}
            '−' | '–' => plain.push('-'),
            '~' => plain.spaced = true,
            _ if first.is_whitespace() => plain.spaced = true,
            _ => plain.push(first),
        }
    }
    let closed = plain.text.trim_end_matches(['.', ',', ';', ':', '*']).trim_start_matches('*');
    let inner = closed.strip_prefix(['(', '[']).and_then(|rest| rest.strip_suffix([')', ']']));
    let closed = inner.filter(|inner| inner.chars().count() == 1).unwrap_or(closed);
    let words = |c: char| c.is_alphabetic() || matches!(c, '-' | '\'' | '’' | ',' | '.' | ' ');
    match closed.chars().count() > 1 && closed.chars().all(words) {
        true => closed.to_lowercase().replace(['.', ','], "").replace('-', " "),
        false => closed.to_owned(),
    }
}

struct Plain {
    text: String,
    spaced: bool,
}

impl Plain {
    /// A space stays where it parts letters or digits: `1 1/2` is not `11/2`.
    fn push(&mut self, letter: char) {
        let parts = self.spaced
            && letter.is_alphanumeric()
            && self.text.chars().next_back().is_some_and(char::is_alphanumeric);
        if parts {
            self.text.push(' ');
        }
        self.spaced = false;
        self.text.push(letter);
    }
}

/// Takes a command in; `rest` begins behind its backslash. What follows it is returned.
fn command<'a>(rest: &'a str, plain: &mut Plain, braces: &mut Vec<bool>) -> &'a str {
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (name, after) = rest.split_at(letters);
    match name {
        "" => {
            let next = rest.chars().next();
            let after = &rest[next.map_or(0, char::len_utf8)..];
            match next {
                Some('!') => {}
                Some(',' | ';' | ':' | ' ' | '(' | ')' | '[' | ']') | None => plain.spaced = true,
                Some(sign) => {
                    plain.push('\\');
                    plain.push(sign);
                }
            }
            after
        }
        "text" | "textbf" | "textit" | "textrm" | "mathrm" | "mbox" | "mathbf" | "operatorname"
        | "hbox" => match after.trim_start().strip_prefix('{') {
            Some(inside) => {
                braces.push(false);
                inside
            }
            None => after,
        },
        "left" | "right" | "displaystyle" => after,
        "quad" | "qquad" => {
            plain.spaced = true;
            after
        }
        name => {
            plain.push('\\');
            let name = if matches!(name, "dfrac" | "tfrac") { "frac" } else { name };
            plain.text.push_str(name);
            // `\pi r` and `\pir` differ.
            after
        }
    }
}
