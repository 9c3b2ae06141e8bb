//! Something to look up, for the examples: a search engine in a page and the little library that it searches, ranked by
//! shared words (tf-idf) or by similar spelling.
#![allow(dead_code, reason = "no example needs all of it")]

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hit {
    /// Where the passage stands, such as `web/status pages`.
    pub(crate) source: String,
    pub(crate) text: String,
    pub(crate) score: f64,
}

/// The words that a search can use, in their singular.
pub(crate) fn words(text: &str) -> Vec<String> {
    const STOP: [&str; 33] = [
        "about", "after", "and", "are", "but", "can", "did", "does", "for", "from", "has", "have",
        "how", "into", "its", "not", "only", "our", "should", "that", "the", "their", "them",
        "they", "this", "was", "what", "when", "which", "who", "will", "with", "without",
    ];
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    words.filter(|word| word.len() > 2 && !STOP.contains(&word.as_str())).map(singular).collect()
}

/// The `k` passages of `shelf` that share most with `terms`; a rare word counts for more, a long passage for less.
pub(crate) fn by_words(shelf: &str, terms: &[String], k: usize) -> Vec<Hit> {
    let texts: Vec<Vec<String>> = passages(shelf).map(|(_, text)| words(text)).collect();
    let weight = |term: &String| {
        let holding = texts.iter().filter(|text| text.contains(term)).count();
        (1.0 + texts.len() as f64 / holding.max(1) as f64).ln()
    };
    best(shelf, k, |text| {
        let shared = terms.iter().filter(|term| text.contains(term)).map(weight);
        shared.sum::<f64>() / (text.len().max(1) as f64).sqrt()
    })
}

/// The `k` passages of `shelf` whose words are spelt most like `terms`: finds also what is written wrongly.
pub(crate) fn by_spelling(shelf: &str, terms: &[String], k: usize) -> Vec<Hit> {
    best(shelf, k, |text| {
        let nearest = terms
            .iter()
            .map(|term| text.iter().map(|word| similarity(term, word)).fold(0.0, f64::max));
        nearest.filter(|similar| *similar > 0.3).sum()
    })
}

/// How much of all letter triples in two texts is in both, from 0 to 1.
pub(crate) fn similarity(a: &str, b: &str) -> f64 {
    let triples = |text: &str| -> HashSet<[char; 3]> {
        let padded: Vec<char> = format!(" {} ", text.to_lowercase()).chars().collect();
        padded.windows(3).map(|three| [three[0], three[1], three[2]]).collect()
    };
    let (a, b) = (triples(a), triples(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}

fn best(shelf: &str, k: usize, score: impl Fn(&[String]) -> f64) -> Vec<Hit> {
    let hit = |(source, text): (&str, &str)| Hit {
        source: source.to_owned(),
        text: text.to_owned(),
        score: score(&words(text)),
    };
    let mut hits: Vec<Hit> = passages(shelf).map(hit).filter(|hit| hit.score > 0.0).collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable: the order is always the same
    hits.truncate(k);
    hits
}

/// Source and text.
fn passages(shelf: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = include_str!("library.txt").lines().filter_map(|line| line.split_once(": "));
    all.filter(move |(source, _)| source.split('/').next() == Some(shelf))
}

fn singular(word: String) -> String {
    match (word.strip_suffix("ies"), word.strip_suffix('s')) {
        (Some(stem), _) => format!("{stem}y"),
        (None, Some(stem)) if !stem.ends_with('s') => stem.to_owned(),
        _ => word,
    }
}
