//! How many requests an endpoint bears, found out while it works.
//!
//! Additive increase, multiplicative decrease, as TCP does it (Jacobson 1988): doubling until the first refusal, then one
//! more per round of requests, and a cut at each refusal. All refusals of one round are one sign of the same thing.

/// Where the search begins.
const FIRST: f64 = 8.0;
/// What is left after a refusal; where doubling overshot, half.
const CUT: f64 = 0.8;

/// Of one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    allowed: f64,
    most: f64,
    doubling: bool,
}

impl Limit {
    pub(super) fn new(most: usize) -> Self {
        let most = most as f64;
        Self { allowed: most.min(FIRST), most, doubling: true }
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed as usize
    }

    /// After a request that was served, while `outstanding` were under way. A limit that is not reached says nothing about
    /// a higher one.
    pub(super) fn grow(&mut self, outstanding: usize) {
        if outstanding < self.allowed() {
            return;
        }
        let more = if self.doubling { 1.0 } else { 1.0 / self.allowed };
        self.allowed = (self.allowed + more).min(self.most);
    }

    /// After a refusal.
    pub(super) fn cut(&mut self) {
        let left = if self.doubling { 0.5 } else { CUT };
        self.doubling = false;
        self.allowed = (self.allowed * left).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves a round of as many requests as are allowed, each followed by another at once; refuses where they are more than
    /// `bearable`.
    fn round(limit: &mut Limit, bearable: usize) {
        let asked = limit.allowed();
        for _ in 0..asked.min(bearable) {
            limit.grow(limit.allowed());
        }
        if asked > bearable {
            limit.cut();
        }
    }

    #[test]
    fn it_settles_just_below_what_the_server_bears() {
        for bearable in [1, 4, 30, 100] {
            let mut limit = Limit::new(64);
            (0..60).for_each(|_| round(&mut limit, bearable));
            let seen: Vec<usize> = (0..200)
                .map(|_| {
                    round(&mut limit, bearable);
                    limit.allowed()
                })
                .collect();
            let (low, high) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
            let bound = bearable.min(64);
            assert!(*high <= bound + 1, "{bearable}: up to {high}");
            assert!(
                *low as f64 >= (bound as f64 * CUT).floor().max(1.0),
                "{bearable}: down to {low}"
            );
        }
    }

    #[test]
    fn it_doubles_at_first_and_never_leaves_its_bounds() {
        let mut limit = Limit::new(64);
        let doubled: Vec<usize> = (0..4)
            .map(|_| {
                round(&mut limit, 1000);
                limit.allowed()
            })
            .collect();
        assert_eq!(doubled, [16, 32, 64, 64]);
        (0..100).for_each(|_| limit.cut());
        assert_eq!(limit.allowed(), 1);
        assert_eq!(Limit::new(3).allowed(), 3);
    }

    #[test]
    fn a_limit_that_is_not_reached_does_not_grow() {
        let mut limit = Limit::new(64);
        (0..100).for_each(|_| limit.grow(7));
        assert_eq!(limit.allowed(), 8);
    }
}
