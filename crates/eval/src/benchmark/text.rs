//! When two texts are the same for a data set.

/// Letters and digits of a question in lower case, without what LaTeX adds for looks: by this a problem is known again
/// in another data set that spaces and spells its formulas differently.
pub(super) fn normalized(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        if letter != '\\' {
            normal.extend(letter.to_lowercase().filter(|letter| letter.is_alphanumeric()));
            continue;
        }
        let end = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (command, after) = rest.split_at(end);
        match command {
            "left" | "right" | "big" | "Big" | "bigl" | "bigr" | "displaystyle" | "text"
            | "textbf" | "textit" | "mathrm" | "mathbf" | "quad" | "qquad" | "limits" => {}
            "dfrac" | "tfrac" | "cfrac" => normal.push_str("frac"),
            "leq" | "geq" | "neq" => normal.push_str(&command[..2]),
            _ => normal.extend(command.chars().map(|letter| letter.to_ascii_lowercase())),
        }
        rest = after;
    }
    normal
}

/// Whether two choices read the same: case and signs matter there, space does not.
pub(super) fn same_choice(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_of_formulas_does_not_tell_problems_apart() {
        let ours = "Find $\\log_z w$, if  $\\frac{1}{2} \\leq \\left( x \\right)$.";
        let theirs = "find $ \\log_zw $ , if $\\dfrac12 \\le (x)$";
        assert_eq!(normalized(ours), normalized(theirs));
        assert_eq!(normalized("Ångström ½ ✓"), "ångström½");
        assert_ne!(normalized("Find $x+3$."), normalized("Find $x+4$."));
        assert_eq!(normalized("a\\"), "a");
    }

    #[test]
    fn choices_differ_by_sign_and_case() {
        assert!(same_choice("10 m\n", " 10  m"));
        assert!(!same_choice("-10 m", "10 m") && !same_choice("10 m", "10 M"));
    }
}
