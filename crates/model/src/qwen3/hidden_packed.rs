//! Hidden states of whole sequences by the engine's arithmetic: for scoring, without gradients.

use candle_core::Tensor;

use super::Qwen3;
use crate::error::Result;
use crate::ops::BLOCK_TOKENS;
use crate::paged_kv::Sequence;
use crate::sequences::Sequences;

/// Tokens in one pass through the layers.
const TOKENS: usize = 512;

impl Qwen3 {
    /// The hidden states after the last norm, `[tokens, hidden]`, of `sequences`, each read for itself.
    ///
    /// This is what the engine computes: in f32 on the CPU a token has the same bits in whatever company, and as when it was
    /// sampled. Any weights do, packed ones too. No gradient is tracked. Beside the result there are, at a time, the
    /// activations of 512 tokens in one layer, and the keys and values of 512 tokens or one sequence.
    ///
    /// # Errors
    /// Tokens that this model cannot read, or a failed computation.
    pub fn hidden_packed(&self, sequences: &Sequences) -> Result<Tensor> {
        sequences.check(&self.config)?;
        let (mut hidden, mut group, mut tokens) = (Vec::new(), Vec::new(), 0);
        for ids in sequences.iter() {
            if !group.is_empty() && tokens + ids.len() > TOKENS {
                self.read(&std::mem::take(&mut group), &mut hidden)?;
                tokens = 0;
            }
            group.push(ids);
            tokens += ids.len();
        }
        self.read(&group, &mut hidden)?;
        Ok(Tensor::cat(&hidden, 0)?)
    }

    /// Reads a long sequence in pieces, or several short ones in one pass.
    fn read(&self, group: &[&[u32]], hidden: &mut Vec<Tensor>) -> Result<()> {
        let blocks: usize = group.iter().map(|ids| ids.len().div_ceil(BLOCK_TOKENS)).sum();
        let store = self.new_store(blocks * BLOCK_TOKENS);
        if let &[ids] = group {
            let mut sequence = Sequence::new(&store);
            for piece in ids.chunks(TOKENS) {
                hidden.push(self.forward_ragged(&mut [(&mut sequence, piece)])?);
            }
            return Ok(());
        }
        let mut read: Vec<Sequence> = group.iter().map(|_| Sequence::new(&store)).collect();
        let mut parts: Vec<_> = read.iter_mut().zip(group.iter().copied()).collect();
        hidden.push(self.forward_ragged(&mut parts)?);
        Ok(())
    }
}
