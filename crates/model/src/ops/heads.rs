//! Where the heads of an attention operand are in memory, in any layout, and the blocks of them
//! that go through cache together.

use candle_core::{Layout, Result};

use super::cpu::Matrix;

/// Which of head and time comes first in a shape.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// `[B, H, T, D]`
    Heads,
    /// `[B, T, H·D]`
    Time,
}

/// Where the heads of a tensor are: row `(b, h, t)` starts at `start` plus its strides.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) count: [usize; 3], // batch, heads, time
    start: usize,
    strides: [usize; 3],
    pub(super) head_dim: usize,
}

impl Rows {
    pub(super) fn new(order: Order, head_dim: usize, layout: &Layout) -> Result<Self> {
        let (start, stride) = (layout.start_offset(), layout.stride());
        let (count, strides) = match order {
            Order::Heads => {
                let (batch, heads, time, _) = layout.shape().dims4()?;
                ([batch, heads, time], [stride[0], stride[1], stride[2]])
            }
            Order::Time => {
                let (batch, time, width) = layout.shape().dims3()?;
                ([batch, width / head_dim, time], [stride[0], head_dim, stride[1]])
            }
        };
        Ok(Self { count, start, strides, head_dim })
    }

    /// Rows of one value, `[B, H, T]`.
    pub(super) fn of_one(count: [usize; 3]) -> Self {
        let [_, heads, time] = count;
        Self { count, start: 0, strides: [heads * time, time, 1], head_dim: 1 }
    }

    fn at(&self, batch: usize, head: usize, time: usize) -> usize {
        let [b, h, t] = self.strides;
        self.start + batch * b + head * h + time * t
    }

    /// The rows of one head from `first` on.
    pub(super) fn matrix<'a>(
        &self,
        values: &'a [f32],
        batch: usize,
        head: usize,
        first: usize,
    ) -> Matrix<'a> {
        Matrix::new(&values[self.at(batch, head, first)..], self.strides[2])
    }

    /// Copies the rows of `heads × times` into `packed`, head by head.
    pub(super) fn pack(&self, values: &[f32], at: &Block, packed: &mut [f32]) {
        for ((head, time), packed) in at.rows().zip(packed.chunks_exact_mut(self.head_dim)) {
            let start = self.at(at.batch, head, time);
            packed.copy_from_slice(&values[start..start + self.head_dim]);
        }
    }
}

/// The queries `first..first + queries` of every head of one group.
pub(super) struct Block {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    pub(super) group: usize,
    /// Where the sequence starts, its queries and its keys alike.
    pub(super) start: usize,
    pub(super) first: usize,
    pub(super) queries: usize,
    /// Keys that the last query sees.
    pub(super) keys: usize,
}

impl Block {
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let (heads, first) = (self.kv_head * self.group, self.first);
        let times = first..first + self.queries;
        (heads..heads + self.group).flat_map(move |head| times.clone().map(move |t| (head, t)))
    }

    pub(super) fn len(&self) -> usize {
        self.group * self.queries
    }
}

/// An output whose rows are written by several threads, each row by one of them.
pub(super) struct SharedRows {
    out: *mut f32,
    len: usize,
    rows: Rows,
}

// SAFETY: the pointer is only used by `row`, whose caller promises not to share a row.
unsafe impl Sync for SharedRows {}

impl SharedRows {
    pub(super) fn new(out: &mut [f32], rows: Rows) -> Self {
        Self { out: out.as_mut_ptr(), len: out.len(), rows }
    }

    /// # Safety
    /// While the row lives, nothing else may use row `(batch, head, time)` or the output itself.
    #[allow(clippy::mut_from_ref)] // the promise above is the borrow check
    pub(super) unsafe fn row(&self, batch: usize, head: usize, time: usize) -> &mut [f32] {
        let (start, width) = (self.rows.at(batch, head, time), self.rows.head_dim);
        assert!(start + width <= self.len, "the row is inside the output");
        // SAFETY: just seen to be inside the output; the caller promises that it is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.out.add(start), width) }
    }
}
