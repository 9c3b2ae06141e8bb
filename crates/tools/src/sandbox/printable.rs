/// `text` without what could drive a terminal: escape sequences as a whole, other control characters (but newline and
/// tab), and the marks that turn the direction of writing. A carriage return before a newline goes, another becomes one.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => clean.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => clean.push('\n'),
            '\u{1b}' => skip_escape(&mut characters),
            _ if character.is_control() || turns_direction(character) => {}
            _ => clean.push(character),
        }
    }
    clean
}

/// Skips what follows an ESC: `[` parameters letter, `]` text up to BEL or `ESC \`, or one more character.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            while let Some(character) = characters.next_if(|c| matches!(c, ' '..='~')) {
                if matches!(character, '@'..='~') {
                    break;
                }
            }
        }
        Some(']') => {
            while let Some(character) = characters.next_if(|c| *c != '\n') {
                if character == '\u{7}' {
                    break;
                }
                if character == '\u{1b}' {
                    characters.next_if_eq(&'\\');
                    break;
                }
            }
        }
        Some(' '..='~') => {
            characters.next();
        }
        _ => {}
    }
}

/// Bidirectional overrides and isolates: they can make a line read as what it is not (CVE-2021-42574).
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escapes_and_controls_go_words_stay() {
        for (text, clean) in [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;new title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("\u{1b}]never ended\nnext line", "\nnext line"),
            ("bell\u{7} null\0 back\u{8}", "bell null back"),
            ("\u{9b}31m c1", "31m c1"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("user\u{202e}txt.exe", "usertxt.exe"),
            ("Größe 漢字 ∑ 🎲", "Größe 漢字 ∑ 🎲"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(printable(text), clean, "{text:?}");
        }
    }
}
