//! Answers as text: names, words, and expressions that the grammar does not know.

/// Whether two answers are the same but for notation.
pub(crate) fn same_words(a: &str, b: &str) -> bool {
    let (a, b) = (plain(a), plain(b));
    !a.is_empty() && a == b
}

/// Without spaces, wrappers, closing punctuation and, in words, case.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        if first == '\\' {
            let name: &str = {
                let letters = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
                &rest[1..1 + letters]
            };
            rest = &rest[1 + name.len()..];
            match name {
                "text" | "textbf" | "textit" | "textrm" | "mathrm" | "mbox" | "mathbf"
                | "operatorname" | "left" | "right" | "displaystyle" | "quad" | "qquad"
                | "hbox" => {}
                "" => {
                    // Spaces go, escaped signs stay.
                    let next = rest.chars().next();
                    match next {
                        Some('!' | ',' | ';' | ':' | ' ' | '(' | ')' | '[' | ']') => {
                            rest = &rest[1..]
                        }
                        Some('\\') => {
                            plain.push_str("\\\\");
                            rest = &rest[1..];
                        }
                        _ => {}
                    }
                }
                "dfrac" | "tfrac" => plain.push_str("\\frac"),
                other => {
                    plain.push('\\');
                    plain.push_str(other);
                }
            }
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '$' | '{' | '}' | '~' | '*' | '"' | '“' | '”' | '`' => {}
            '−' | '–' => plain.push('-'),
            _ if first.is_whitespace() => {}
            _ => plain.push(first),
        }
    }
    let closed = plain.trim_end_matches(['.', ',', ';', ':', '!']);
    let inner = closed.strip_prefix(['(', '[']).and_then(|rest| rest.strip_suffix([')', ']']));
    let closed = inner.filter(|inner| inner.chars().count() == 1).unwrap_or(closed);
    let words = |c: char| c.is_alphabetic() || matches!(c, '-' | '\'' | '’' | ',' | '.');
    match closed.chars().count() > 1 && closed.chars().all(words) {
        true => closed.to_lowercase().replace(['-', '.', ','], ""),
        false => closed.to_owned(),
    }
}
