//! Parts of a batch on several threads: matrices of small models are too small to share among cores.

use candle_core::{Device, Error};

/// Pools of one thread each; none where one part at a time takes all cores.
pub(crate) struct Workers {
    pools: Vec<rayon::ThreadPool>,
}

impl Workers {
    /// `count` workers on the CPU; on a card one part at a time.
    pub(crate) fn new(count: usize, device: &Device) -> candle_core::Result<Self> {
        let pool = |_| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            pool.map_err(|e| Error::Msg(format!("cannot start a worker thread: {e}")))
        };
        let count = if device.is_cpu() && count > 1 { count } else { 0 };
        Ok(Self { pools: (0..count).map(pool).collect::<Result<_, _>>()? })
    }

    /// How many parts run at once.
    pub(crate) fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// Runs `part` for each of `parts`, the n-th on worker n modulo their number. The results come in the order of the parts,
    /// and which worker made one changes nothing in it.
    pub(crate) fn run<P: Sync, T: Send>(
        &self,
        parts: &[P],
        part: impl Fn(&P) -> T + Sync,
    ) -> Vec<T> {
        if self.pools.is_empty() || parts.len() < 2 {
            return parts.iter().map(part).collect();
        }
        let part = &part;
        let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .pools
                .iter()
                .enumerate()
                .map(|(worker, pool)| {
                    let mine = parts.iter().enumerate().skip(worker).step_by(self.pools.len());
                    let compute = || mine.map(|(at, it)| (at, part(it))).collect::<Vec<_>>();
                    scope.spawn(move || pool.install(compute))
                })
                .collect();
            let joined = workers.into_iter().map(|it| it.join().expect("a part gives its errors"));
            joined.flatten().collect()
        });
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_parts() {
        let parts: Vec<usize> = (0..7).collect();
        for count in [1, 2, 3] {
            let workers = Workers::new(count, &Device::Cpu).expect("threads");
            assert_eq!(workers.run(&parts, |at| at * at), [0, 1, 4, 9, 16, 25, 36]);
        }
    }
}
