//! Which queries of a pass go through attention together.
//!
//! Queries and keys of a bucket are padded to the longest among them, so what is alike goes together. There are few
//! buckets, however many sequences: each costs a dozen kernels a layer.

/// The new tokens of one sequence.
#[derive(Debug)]
pub(super) struct Span {
    /// Where its blocks are.
    pub(super) table: Vec<u32>,
    /// Position of the first new token.
    pub(super) start: usize,
    /// New tokens.
    pub(super) tokens: usize,
}

/// Some consecutive queries of a span, over the keys that the last of them sees.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) span: usize,
    /// Among all queries of the pass.
    pub(super) row: usize,
    /// Position of the first.
    pub(super) position: usize,
    pub(super) queries: usize,
}

impl Piece {
    pub(super) fn keys(&self) -> usize {
        self.position + self.queries
    }
}

/// Pieces that go through attention together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) pieces: Vec<Piece>,
    /// Of the piece with the most.
    pub(super) queries: usize,
    /// Of the piece with the most, rounded up to whole tiles of a matrix product.
    pub(super) keys: usize,
}

/// Most queries of a piece, and the fewest that a long prompt is cut into.
const QUERIES: (usize, usize) = (128, 16);
/// Scores of one head that exist at once, unless a single piece has more.
const SCORES: usize = 2 << 20;
/// Keys that are gathered at once, unless a single piece has more.
const KEYS: usize = 64 << 10;
/// Keys, padding included, below which padding costs less than another bucket.
const PADDED_KEYS: usize = 16 << 10;
/// Keys are padded to a multiple of this.
const TILE: usize = 32;

/// Cuts spans into pieces and puts them into buckets.
pub(super) fn buckets(spans: &[Span]) -> Vec<Bucket> {
    let mut pieces = pieces(spans);
    // A decoding row beside a piece of a prompt would be padded to its queries.
    let class = |piece: &Piece| match piece.queries {
        1 => 0,
        2..=16 => 1,
        _ => 2,
    };
    pieces.sort_by_key(|piece| (class(piece), std::cmp::Reverse(piece.keys())));
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut last_class = None;
    for piece in pieces {
        let same = last_class == Some(class(&piece));
        last_class = Some(class(&piece));
        match buckets.last_mut().filter(|bucket| same && bucket.takes(&piece)) {
            Some(bucket) => {
                bucket.queries = bucket.queries.max(piece.queries);
                bucket.pieces.push(piece);
            }
            None => buckets.push(Bucket {
                queries: piece.queries,
                keys: piece.keys().next_multiple_of(TILE),
                pieces: vec![piece],
            }),
        }
    }
    buckets
}

impl Bucket {
    /// Whether another piece, no longer than those here, belongs to them.
    fn takes(&self, piece: &Piece) -> bool {
        let keys = (self.pieces.len() + 1) * self.keys;
        let scores = keys * self.queries.max(piece.queries);
        let wasteful = keys > PADDED_KEYS && 2 * piece.keys() < self.keys;
        keys <= KEYS && scores <= SCORES && !wasteful
    }
}

fn pieces(spans: &[Span]) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(spans.len());
    let mut row = 0;
    for (span, Span { start, tokens, .. }) in spans.iter().enumerate() {
        let (most, fewest) = QUERIES;
        let queries = (SCORES / (start + tokens)).clamp(fewest, most);
        for first in (0..*tokens).step_by(queries) {
            pieces.push(Piece {
                span,
                row: row + first,
                position: start + first,
                queries: queries.min(tokens - first),
            });
        }
        row += tokens;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, tokens: usize) -> Span {
        Span { table: Vec::new(), start, tokens }
    }

    /// Every query is in one piece of one bucket, and fits the bucket's padding.
    fn check(spans: &[Span]) -> Vec<Bucket> {
        let buckets = buckets(spans);
        let mut seen = vec![0; spans.iter().map(|span| span.tokens).sum()];
        for bucket in &buckets {
            for piece in &bucket.pieces {
                assert!(piece.queries <= bucket.queries && piece.keys() <= bucket.keys);
                seen[piece.row..piece.row + piece.queries].iter_mut().for_each(|n| *n += 1);
            }
            let keys = bucket.pieces.len() * bucket.keys;
            assert!(bucket.pieces.len() == 1 || keys <= KEYS);
            assert!(bucket.pieces.len() == 1 || keys * bucket.queries <= SCORES);
        }
        assert!(seen.iter().all(|n| *n == 1));
        buckets
    }

    #[test]
    fn rows_that_decode_share_a_bucket() {
        let rows: Vec<Span> = (0..64).map(|i| span(100 + i, 1)).collect();
        assert_eq!(check(&rows).len(), 1);
        // Prompts and forced text beside them do not pad them.
        let mixed: Vec<Span> =
            rows.into_iter().chain([span(90, 5), span(0, 300), span(64, 100)]).collect();
        let buckets = check(&mixed);
        assert_eq!(buckets.len(), 3);
        assert_eq!((buckets[0].pieces.len(), buckets[0].queries), (64, 1));
    }

    #[test]
    fn very_different_lengths_part_once_padding_is_dear() {
        let few: Vec<Span> = [4000, 10].map(|start| span(start, 1)).into();
        assert_eq!(check(&few).len(), 1);
        let many: Vec<Span> = (0..40).map(|i| span(if i < 4 { 8000 } else { 50 }, 1)).collect();
        let buckets = check(&many);
        assert_eq!(buckets.len(), 2);
        let padded: usize = buckets.iter().map(|b| b.pieces.len() * b.keys).sum();
        assert!(padded < 4 * 8032 + 36 * 64 + 1, "{padded}");
    }

    #[test]
    fn long_prompts_never_make_a_square() {
        for bucket in check(&[span(0, 70_000), span(500, 1), span(0, 1)]) {
            let scores = bucket.pieces.len() * bucket.queries * bucket.keys;
            assert!(scores <= SCORES.max(16 * 70_016), "{scores}");
        }
        // 1000 rows of 2000 tokens go in as many buckets as memory asks for.
        let rows: Vec<Span> = (0..1000).map(|_| span(2000, 1)).collect();
        assert_eq!(check(&rows).len(), 1000_usize.div_ceil(KEYS / 2016));
    }
}
