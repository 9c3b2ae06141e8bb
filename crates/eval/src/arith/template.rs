//! A phrasing: text with `{parameters}` and `[this|that]` alternatives.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// One way to say the problems of a family.
#[derive(Debug, Clone)]
pub(super) struct Template(pub(super) &'static str);

impl Template {
    pub(super) const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The question: alternatives chosen, parameters filled in, first letter upper case.
    ///
    /// # Panics
    /// If the phrasing names a parameter its family does not draw; a test expands every phrasing.
    pub(super) fn expand(&self, values: &[(&'static str, String)], rng: &mut ChaCha8Rng) -> String {
        let mut question = String::with_capacity(self.0.len() + 16);
        let mut rest = self.0;
        while let Some(at) = rest.find(['{', '[']) {
            question.push_str(&rest[..at]);
            let close = if rest.as_bytes()[at] == b'{' { '}' } else { ']' };
            let end = at + rest[at..].find(close).expect("every bracket of a phrasing is closed");
            let inside = &rest[at + 1..end];
            if close == '}' {
                let (_, value) =
                    values.iter().find(|(name, _)| *name == inside).unwrap_or_else(|| {
                        panic!(
                            "phrasing `{}` names `{inside}`, which its family does not draw",
                            self.0
                        )
                    });
                question.push_str(value);
            } else {
                let alternatives: Vec<&str> = inside.split('|').collect();
                let choice = alternatives.choose(rng).expect("split gives at least one part");
                // An alternative may itself name parameters.
                question.push_str(&Template::fill(choice, values));
            }
            rest = &rest[end + 1..];
        }
        question.push_str(rest);
        capitalised(question.trim())
    }

    fn fill(text: &str, values: &[(&'static str, String)]) -> String {
        values.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
