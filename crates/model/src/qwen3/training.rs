//! The training pass: sequences laid end to end, through the layers and back, one layer at a time.
//!
//! Between two layers the graph is cut. Each layer's backward pass starts from the gradient of its output and gives the one of its
//! input, so a layer's activations are freed as soon as they are used, or (gradient checkpointing, arXiv 1604.06174)
//! are not kept at all and computed again.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::{Attention, Layer, Qwen3};
use crate::error::Result;
use crate::ops;
use crate::sequences::Sequences;

impl Qwen3 {
    /// The gradient of a loss for each of `variables`, by name; zeros where the loss does not depend on it.
    ///
    /// `head` gets the hidden states after the last norm, `[tokens, hidden]`, in the order of `sequences`, and gives a scalar
    /// loss and whatever else the caller wants from there; it may use variables of its own. What it gives back should be
    /// detached, or it keeps the graph of the head alive.
    ///
    /// With `recompute`, only the input of each layer is kept until the backward pass, which then runs the layer again: about a
    /// third more work, and at any time the activations of one layer alone. The gradients are the same bit for bit.
    /// Weights that are no `Var`s cost nothing, and layers below the first that has one are not kept at all.
    ///
    /// # Errors
    /// Tokens that this model cannot read, packed weights between the loss and a variable, an error of `head`, or a failed computation.
    pub fn gradients<T>(
        &self,
        sequences: &Sequences,
        variables: &BTreeMap<String, Var>,
        recompute: bool,
        head: impl FnOnce(&Tensor) -> Result<(Tensor, T)>,
    ) -> Result<(T, BTreeMap<String, Tensor>)> {
        sequences.check(&self.config)?;
        let pass = Pass::new(self, sequences)?;
        let ids = Tensor::new(sequences.ids(), self.device())?.unsqueeze(0)?;
        let embedded = self.embed_tokens.embedding(&ids)?; // [1, N, hidden]
        let embedding_is_trained = embedded.track_op();
        let mut joint = Joint::new(&embedded, embedding_is_trained)?;
        drop(embedded);
        let mut links = Vec::new();
        for layer in &self.layers {
            let output = layer.forward_packed(&joint.0, &pass)?;
            let is_trained = output.track_op();
            let input = std::mem::replace(&mut joint, Joint::new(&output, is_trained)?);
            if is_trained {
                links.push(Link { layer, input, output: (!recompute).then_some(output) });
            }
        }

        let mut total = Gradients { variables, by_name: BTreeMap::new() };
        let (extra, mut grad) = {
            let (loss, extra) = head(&self.norm.forward(&joint.0)?.squeeze(0)?)?;
            let grads = loss.backward()?;
            total.add(&grads)?;
            (extra, joint.grad(&grads))
        };
        drop(joint);
        for link in links.into_iter().rev() {
            // Without one, the loss depends on nothing below.
            let Some(from) = grad.take() else { break };
            let output = match link.output {
                Some(output) => output,
                None => link.layer.forward_packed(&link.input.0, &pass)?,
            };
            let grads = ops::backward_from(&output, &from)?;
            total.add(&grads)?;
            grad = link.input.grad(&grads);
        }
        if let (true, Some(from)) = (embedding_is_trained, grad) {
            total.add(&ops::backward_from(&self.embed_tokens.embedding(&ids)?, &from)?)?;
        }
        Ok((extra, total.finish()?))
    }

    /// The hidden states that [`Qwen3::gradients`] gives its `head`, bit for bit, without a gradient: for log-probs that are
    /// compared with those of a training pass. At a time there are the activations of one layer.
    ///
    /// # Errors
    /// Tokens that this model cannot read, or a failed computation.
    pub fn hidden_of_training(&self, sequences: &Sequences) -> Result<Tensor> {
        sequences.check(&self.config)?;
        let pass = Pass::new(self, sequences)?;
        let ids = Tensor::new(sequences.ids(), self.device())?.unsqueeze(0)?;
        let embedded = self.embed_tokens.embedding(&ids)?; // [1, N, hidden]
        // Cut as there: some weights are multiplied otherwise where a gradient is tracked.
        let mut joint = Joint::new(&embedded, embedded.track_op())?;
        for layer in &self.layers {
            let output = layer.forward_packed(&joint.0, &pass)?;
            joint = Joint::new(&output, output.track_op())?;
        }
        Ok(self.norm.forward(&joint.0)?.squeeze(0)?.detach())
    }
}

/// Where the graph is cut: what one layer gives and the next takes, a `Var` where its gradient is needed.
struct Joint(Tensor);

impl Joint {
    fn new(output: &Tensor, is_trained: bool) -> Result<Self> {
        let output = output.detach();
        Ok(Self(if is_trained { Var::from_tensor(&output)?.into_inner() } else { output }))
    }

    fn grad(&self, grads: &GradStore) -> Option<Tensor> {
        grads.get(&self.0).filter(|_| self.0.is_variable()).cloned()
    }
}

/// One layer between its input and its output.
struct Link<'a> {
    layer: &'a Layer,
    input: Joint,
    /// With the graph that led to it.
    output: Option<Tensor>,
}

/// The gradients that were found so far.
struct Gradients<'a> {
    variables: &'a BTreeMap<String, Var>,
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients<'_> {
    fn add(&mut self, grads: &GradStore) -> Result<()> {
        for (name, variable) in self.variables {
            let Some(grad) = grads.get(variable.as_tensor()) else { continue };
            let sum = match self.by_name.get(name) {
                Some(sum) => (sum + grad)?,
                None => grad.clone(),
            };
            self.by_name.insert(name.clone(), sum);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BTreeMap<String, Tensor>> {
        for (name, variable) in self.variables {
            if !self.by_name.contains_key(name) {
                self.by_name.insert(name.clone(), variable.zeros_like()?);
            }
        }
        Ok(self.by_name)
    }
}

/// What all layers of a pass need.
struct Pass<'a> {
    cos: Tensor, // [N, head_dim / 2]
    sin: Tensor,
    lengths: &'a [usize],
}

impl<'a> Pass<'a> {
    fn new(model: &Qwen3, sequences: &'a Sequences) -> Result<Self> {
        let positions = Tensor::new(sequences.positions(), model.device())?;
        Ok(Self {
            cos: model.rope.cos.index_select(&positions, 0)?,
            sin: model.rope.sin.index_select(&positions, 0)?,
            lengths: sequences.lengths(),
        })
    }
}

impl Layer {
    fn forward_packed(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(hidden)?;
        let hidden = self.attention.forward_packed(&normed, hidden, pass)?;
        let normed = self.post_attention_layernorm.forward(&hidden)?;
        self.mlp.forward(&normed, &hidden)
    }
}

impl Attention {
    fn forward_packed(
        &self,
        normed: &Tensor,
        residual: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let Pass { cos, sin, lengths } = pass;
        let query = self.rotate(&self.q_proj.forward(normed)?, &self.q_norm, cos, sin)?; // [1, N, H * D]
        let key = self.rotate(&self.k_proj.forward(normed)?, &self.k_norm, cos, sin)?; // [1, N, KV * D]
        let value = self.v_proj.forward(normed)?;
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let attended = ops::attention_packed(&query, &key, &value, lengths, self.head_dim, scale)?;
        Ok(self.o_proj.forward_residual(&attended, residual)?)
    }
}
