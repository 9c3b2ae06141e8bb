//! Fused ops against the same ops composed of candle's, forward and backward, at the shapes of a
//! small model: `cargo bench -p agentflow-model --bench ops` (`RAYON_NUM_THREADS=1` for one core).
//!
//! Every figure is the fastest of many runs, both sides taken in turns, with an allocator that keeps
//! the memory of the last run: fresh pages cost more than most of these ops.

#![allow(clippy::print_stdout)] // a benchmark prints its figures

use std::hint::black_box;
use std::time::{Duration, Instant};

use agentflow_model::ops::{self, composed};
use candle_core::{DType, Device, Result, Tensor, Var};

const BATCH: usize = 16;
const TIME: usize = 140;
const HIDDEN: usize = 192;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const FFN: usize = 512;
const VOCABULARY: usize = 1024;
const ROWS: usize = BATCH * TIME;
const EPS: f64 = 1e-6;

fn main() -> Result<()> {
    // glibc learns from the first large block it frees to keep blocks of that size.
    drop(black_box(vec![1u8; 31 << 20]));
    let scale = 1.0 / (HEAD_DIM as f64).sqrt();
    let (cos, sin) = (uniform(&[TIME, HEAD_DIM / 2])?, uniform(&[TIME, HEAD_DIM / 2])?);

    let (x, weight) = (var(&[BATCH, TIME, HIDDEN])?, var(&[HIDDEN])?);
    compare(
        "rms_norm",
        || ops::rms_norm(&x, &weight, EPS),
        || composed::rms_norm(&x, &weight, EPS),
    )?;

    let x = var(&[BATCH, TIME, HEADS, HEAD_DIM])?;
    compare("rope", || ops::rope_thd(&x, &cos, &sin), || composed::rope_thd(&x, &cos, &sin))?;

    let (x, weight) = (var(&[BATCH, TIME, HEADS * HEAD_DIM])?, var(&[HEAD_DIM])?);
    compare(
        "head_norm_rope",
        || ops::head_norm_rope(&x, &weight, EPS, &cos, &sin),
        || composed::head_norm_rope(&x, &weight, EPS, &cos, &sin),
    )?;

    let (gate, up) = (var(&[BATCH, TIME, FFN])?, var(&[BATCH, TIME, FFN])?);
    compare("swiglu", || ops::swiglu(&gate, &up), || composed::swiglu(&gate, &up))?;

    let scores = var(&[BATCH, HEADS, TIME, TIME])?;
    compare(
        "causal_softmax",
        || ops::causal_softmax(&scores, scale, 0),
        || composed::causal_softmax(&scores, scale, 0, TIME),
    )?;

    let q = var(&[BATCH, TIME, HEADS * HEAD_DIM])?;
    let (k, v) =
        (var(&[BATCH, TIME, KV_HEADS * HEAD_DIM])?, var(&[BATCH, TIME, KV_HEADS * HEAD_DIM])?);
    compare(
        "attention",
        || ops::attention_thd(&q, &k, &v, HEAD_DIM, scale, 0),
        || composed::attention_thd(&q, &k, &v, HEAD_DIM, scale, 0),
    )?;

    let (x, weight) = (var(&[BATCH, TIME, HIDDEN])?, var(&[FFN, HIDDEN])?);
    compare("linear", || ops::linear(&x, &weight), || composed::linear(&x, &weight))?;
    let other = var(&[FFN, HIDDEN])?;
    compare(
        "swiglu_linear",
        || ops::swiglu_linear(&x, &weight, &other),
        || composed::swiglu_linear(&x, &weight, &other),
    )?;

    let ids = Tensor::rand(0f32, VOCABULARY as f32, &[BATCH, TIME], &Device::Cpu)?;
    let ids = ids.to_dtype(DType::U32)?;
    let weight = var(&[VOCABULARY, HIDDEN])?;
    compare("embedding", || ops::embedding(&ids, &weight), || composed::embedding(&ids, &weight))?;

    // Half of the tokens are trained on, as in the demonstrations.
    let logits = var(&[ROWS, VOCABULARY])?;
    let targets = ids.flatten_all()?;
    let weights = uniform(&[ROWS])?.ge(0.0)?.to_dtype(DType::F32)?;
    compare(
        "cross_entropy",
        || ops::cross_entropy(&logits, &targets, &weights),
        || composed::cross_entropy(&logits, &targets, &weights),
    )?;
    let x = var(&[ROWS, HIDDEN])?;
    compare(
        "linear_cross_entropy",
        || ops::linear_cross_entropy(&x, &weight, &targets, &weights),
        || composed::linear_cross_entropy(&x, &weight, &targets, &weights),
    )?;

    let layer = Layer::new(cos, sin)?;
    let x = var(&[BATCH, TIME, HIDDEN])?;
    let fused = compare("layer", || layer.fused(&x), || layer.composed(&x))?;
    let floor = layer.products()?;
    println!("figure model.layer_products {:.3} ms", milliseconds(floor));
    println!("figure model.layer_vs_products {:.2} x", fused.as_secs_f64() / floor.as_secs_f64());
    Ok(())
}

/// Prints how long both take, forward and backward, and their ratio; gives the time of `fused`.
fn compare(
    name: &str,
    fused: impl Fn() -> Result<Tensor>,
    composed: impl Fn() -> Result<Tensor>,
) -> Result<Duration> {
    let (mut fused_best, mut composed_best) = (Duration::MAX, Duration::MAX);
    let start = Instant::now();
    let mut runs = 0;
    while runs < 8 || start.elapsed() < Duration::from_millis(1500) {
        fused_best = fused_best.min(time(|| fused()?.backward())?);
        composed_best = composed_best.min(time(|| composed()?.backward())?);
        runs += 1;
    }
    println!("figure model.{name}_fused {:.3} ms", milliseconds(fused_best));
    println!("figure model.{name}_composed {:.3} ms", milliseconds(composed_best));
    let ratio = composed_best.as_secs_f64() / fused_best.as_secs_f64();
    println!("figure model.{name}_vs_composed {ratio:.2} x");
    Ok(fused_best)
}

fn time<R>(run: impl Fn() -> Result<R>) -> Result<Duration> {
    let start = Instant::now();
    black_box(run()?);
    Ok(start.elapsed())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn uniform(shape: &[usize]) -> Result<Tensor> {
    Tensor::rand(-1f32, 1f32, shape, &Device::Cpu)
}

fn var(shape: &[usize]) -> Result<Var> {
    Var::from_tensor(&uniform(shape)?)
}

/// One decoder layer of Qwen3.
struct Layer {
    cos: Tensor,
    sin: Tensor,
    norms: [Var; 2],
    head_norms: [Var; 2],
    q: Var,
    k: Var,
    v: Var,
    o: Var,
    gate: Var,
    up: Var,
    down: Var,
}

impl Layer {
    fn new(cos: Tensor, sin: Tensor) -> Result<Self> {
        let scaled = |outputs: usize, inputs: usize| {
            Var::from_tensor(&(uniform(&[outputs, inputs])? / (inputs as f64).sqrt())?)
        };
        Ok(Self {
            cos,
            sin,
            norms: [var(&[HIDDEN])?, var(&[HIDDEN])?],
            head_norms: [var(&[HEAD_DIM])?, var(&[HEAD_DIM])?],
            q: scaled(HEADS * HEAD_DIM, HIDDEN)?,
            k: scaled(KV_HEADS * HEAD_DIM, HIDDEN)?,
            v: scaled(KV_HEADS * HEAD_DIM, HIDDEN)?,
            o: scaled(HIDDEN, HEADS * HEAD_DIM)?,
            gate: scaled(FFN, HIDDEN)?,
            up: scaled(FFN, HIDDEN)?,
            down: scaled(HIDDEN, FFN)?,
        })
    }

    fn fused(&self, x: &Tensor) -> Result<Tensor> {
        let (cos, sin) = (&self.cos, &self.sin);
        let normed = ops::rms_norm(x, &self.norms[0], EPS)?;
        let q = ops::linear(&normed, &self.q)?;
        let k = ops::linear(&normed, &self.k)?;
        let v = ops::linear(&normed, &self.v)?;
        let q = ops::head_norm_rope(&q, &self.head_norms[0], EPS, cos, sin)?;
        let k = ops::head_norm_rope(&k, &self.head_norms[1], EPS, cos, sin)?;
        let scale = 1.0 / (HEAD_DIM as f64).sqrt();
        let heads = ops::attention_thd(&q, &k, &v, HEAD_DIM, scale, 0)?;
        let x = ops::linear_residual(&heads, &self.o, x)?;
        let normed = ops::rms_norm(&x, &self.norms[1], EPS)?;
        let hidden = ops::swiglu_linear(&normed, &self.gate, &self.up)?;
        ops::linear_residual(&hidden, &self.down, &x)
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let (cos, sin) = (&self.cos, &self.sin);
        let normed = composed::rms_norm(x, &self.norms[0], EPS)?;
        let q = composed::linear(&normed, &self.q)?;
        let k = composed::linear(&normed, &self.k)?;
        let v = composed::linear(&normed, &self.v)?;
        let q = composed::head_norm_rope(&q, &self.head_norms[0], EPS, cos, sin)?;
        let k = composed::head_norm_rope(&k, &self.head_norms[1], EPS, cos, sin)?;
        let scale = 1.0 / (HEAD_DIM as f64).sqrt();
        let heads = composed::attention_thd(&q, &k, &v, HEAD_DIM, scale, 0)?;
        let x = composed::linear_residual(&heads, &self.o, x)?;
        let normed = composed::rms_norm(&x, &self.norms[1], EPS)?;
        let hidden = composed::swiglu_linear(&normed, &self.gate, &self.up)?;
        composed::linear_residual(&hidden, &self.down, &x)
    }

    /// The time of the products of the seven projections alone: one forward, two backward each.
    fn products(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for weight in [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down] {
            let (outputs, inputs) = weight.dims2()?;
            let (x, grad) = (uniform(&[ROWS, inputs])?, uniform(&[ROWS, outputs])?);
            let (weight, weight_t, grad_t) = (weight.detach(), weight.detach().t()?, grad.t()?);
            let mut best = [Duration::MAX; 3];
            for _ in 0..40 {
                best[0] = best[0].min(time(|| x.matmul(&weight_t))?);
                best[1] = best[1].min(time(|| grad.matmul(&weight))?);
                best[2] = best[2].min(time(|| grad_t.matmul(&x))?);
            }
            total += best.iter().sum::<Duration>();
        }
        Ok(total)
    }
}
