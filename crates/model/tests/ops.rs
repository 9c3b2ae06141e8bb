//! Every fused op against the composed one in f64, forward and backward, and its gradients against
//! finite differences.

use agentflow_model::TokenMask;
use agentflow_model::ops::{self, composed};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EPS: f64 = 1e-6;

#[test]
fn rms_norm_matches_composed() -> Result<()> {
    for shape in [&[3, 5, 32][..], &[1, 1], &[7, 33], &[300, 192], &[2, 3, 4, 7]] {
        let inputs = [random(shape, 1)?, random(&shape[shape.len() - 1..], 2)?];
        check(&inputs, |x| ops::rms_norm(&x[0], &x[1], EPS))?;
    }
    check(&[random(&[5, 9, 24], 3)?, random(&[24], 4)?], |x| {
        ops::rms_norm(&x[0].transpose(0, 1)?, &x[1], EPS)
    })
}

#[test]
fn rope_matches_composed() -> Result<()> {
    for (batch, heads, time, head_dim) in [(2, 3, 5, 8), (1, 1, 1, 2), (3, 2, 70, 34)] {
        let (cos, sin) = angles(time, head_dim)?;
        let x = random(&[batch, heads, time, head_dim], 1)?;
        check(&[x], |x| with_dtype_of(&x[0], &cos, &sin, ops::rope))?;
        let x = random(&[batch, time, heads, head_dim], 2)?;
        check(std::slice::from_ref(&x), |x| with_dtype_of(&x[0], &cos, &sin, ops::rope_thd))?;
        check(std::slice::from_ref(&x), |x| {
            with_dtype_of(&x[0].transpose(1, 2)?, &cos, &sin, ops::rope)
        })?;
        let thd = ops::rope_thd(&x, &cos, &sin)?.transpose(1, 2)?;
        let hthd = ops::rope(&x.transpose(1, 2)?, &cos, &sin)?;
        assert_close(&thd, &hthd, 0.0)?;
    }
    Ok(())
}

/// HF's `apply_rotary_pos_emb`: `x * cos + rotate_half(x) * sin`, the angles repeated twice.
#[test]
fn rope_is_half_split() -> Result<()> {
    let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
    let cos = Tensor::new(&[[0.5f32, 0.6]], &Device::Cpu)?;
    let sin = Tensor::new(&[[0.1f32, 0.2]], &Device::Cpu)?;
    let wanted = Tensor::new(&[[[[0.5f32 - 0.3, 1.2 - 0.8, 1.5 + 0.1, 2.4 + 0.4]]]], &Device::Cpu)?;
    assert_close(&ops::rope(&x, &cos, &sin)?, &wanted, 1e-6)
}

#[test]
fn head_norm_rope_matches_composed() -> Result<()> {
    for (batch, time, heads, head_dim) in [(2, 5, 3, 8), (1, 1, 1, 2), (2, 140, 6, 32)] {
        let (cos, sin) = angles(time, head_dim)?;
        let inputs = [random(&[batch, time, heads * head_dim], 1)?, random(&[head_dim], 2)?];
        check(&inputs, |x| {
            with_dtype_of(&x[0], &cos, &sin, |input, cos, sin| {
                ops::head_norm_rope(input, &x[1], EPS, cos, sin)
            })
        })?;
    }
    Ok(())
}

#[test]
fn swiglu_matches_composed() -> Result<()> {
    for shape in [&[1][..], &[3, 17], &[2, 40, 130]] {
        let inputs = [(random(shape, 1)? * 4.0)?, random(shape, 2)?];
        check(&inputs, |x| ops::swiglu(&x[0], &x[1]))?;
    }
    check(&[random(&[6, 9], 3)?, random(&[9, 6], 4)?], |x| ops::swiglu(&x[0].t()?, &x[1]))
}

#[test]
fn swiglu_saturates() -> Result<()> {
    let gate = Tensor::new(&[-1e4f32, -90., 0., 90., 1e4], &Device::Cpu)?;
    let out = ops::swiglu(&gate, &gate.ones_like()?)?.to_vec1::<f32>()?;
    assert_eq!(out[2..], [0., 90., 1e4]);
    assert!(out[..2].iter().all(|x| x.abs() < 1e-30), "{out:?}");
    Ok(())
}

#[test]
fn causal_softmax_matches_composed() -> Result<()> {
    for (batch, heads, queries, keys, offset) in
        [(2, 3, 5, 5, 0), (1, 1, 1, 1, 0), (1, 2, 1, 9, 8), (2, 2, 7, 40, 33), (1, 2, 150, 150, 0)]
    {
        let scores = (random(&[batch, heads, queries, keys], 1)? * 3.0)?;
        check(&[scores], |x| ops::causal_softmax(&x[0], 0.7, offset))?;
    }
    check(&[random(&[1, 2, 6, 4], 2)?], |x| ops::causal_softmax(&x[0].t()?, 1.3, 2))
}

#[test]
fn causal_softmax_sees_the_past_alone() -> Result<()> {
    let scores = random(&[1, 1, 3, 6], 1)?;
    let probs = ops::causal_softmax(&scores, 1.0, 2)?.reshape((3, 6))?.to_vec2::<f32>()?;
    for (query, probs) in probs.iter().enumerate() {
        let (seen, hidden) = probs.split_at(query + 3);
        assert!((seen.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(seen.iter().all(|&p| p > 0.0) && hidden.iter().all(|&p| p == 0.0));
    }
    Ok(())
}

/// `(batch, heads, key heads, queries, keys, head dimension, offset)`
const ATTENTION: [(usize, usize, usize, usize, usize, usize, usize); 8] = [
    (2, 4, 2, 5, 5, 8, 0),
    (1, 1, 1, 1, 1, 2, 0),
    (2, 6, 2, 1, 13, 16, 12),
    (1, 3, 1, 7, 20, 5, 13),
    (1, 2, 2, 97, 97, 8, 0),
    (2, 6, 2, 140, 140, 32, 0),
    (1, 2, 1, 60, 110, 32, 50),
    (1, 2, 1, 4, 9, 4, 2), // keys that no query sees
];

#[test]
fn attention_matches_composed() -> Result<()> {
    for (batch, heads, kv_heads, queries, keys, head_dim, offset) in ATTENTION {
        let inputs = [
            random(&[batch, heads, queries, head_dim], 1)?,
            random(&[batch, kv_heads, keys, head_dim], 2)?,
            random(&[batch, kv_heads, keys, head_dim], 3)?,
        ];
        check(&inputs, |x| ops::attention(&x[0], &x[1], &x[2], 0.4, offset))?;
        let inputs = [
            random(&[batch, queries, heads * head_dim], 4)?,
            random(&[batch, keys, kv_heads * head_dim], 5)?,
            random(&[batch, keys, kv_heads * head_dim], 6)?,
        ];
        check(&inputs, |x| ops::attention_thd(&x[0], &x[1], &x[2], head_dim, 0.4, offset))?;
    }
    Ok(())
}

#[test]
fn attention_takes_views() -> Result<()> {
    // Transposed projections, and a cache with room for more keys.
    let inputs =
        [random(&[2, 5, 4, 8], 1)?, random(&[2, 2, 16, 8], 2)?, random(&[2, 2, 16, 8], 3)?];
    check(&inputs, |x| {
        let (k, v) = (x[1].narrow(2, 1, 9)?, x[2].narrow(2, 0, 9)?);
        ops::attention(&x[0].transpose(1, 2)?, &k, &v, 0.3, 4)
    })?;
    let inputs = [random(&[2, 5, 32], 4)?, random(&[2, 16, 16], 5)?, random(&[2, 16, 16], 6)?];
    check(&inputs, |x| {
        let (k, v) = (x[1].narrow(1, 0, 9)?, x[2].narrow(1, 0, 9)?);
        ops::attention_thd(&x[0], &k, &v, 8, 0.3, 4)
    })
}

#[test]
fn attention_packed_matches_composed() -> Result<()> {
    for (lengths, heads, kv_heads, head_dim) in [
        (&[1][..], 1, 1, 2),
        (&[3, 1, 5], 4, 2, 8),
        (&[97, 48, 1, 49, 2], 2, 2, 8),
        (&[5, 140, 30], 6, 2, 32),
    ] {
        let tokens = lengths.iter().sum();
        let inputs = [
            random(&[1, tokens, heads * head_dim], 1)?,
            random(&[1, tokens, kv_heads * head_dim], 2)?,
            random(&[1, tokens, kv_heads * head_dim], 3)?,
        ];
        check(&inputs, |x| ops::attention_packed(&x[0], &x[1], &x[2], lengths, head_dim, 0.4))?;
    }
    Ok(())
}

/// Forward and backward, a sequence has the bits that it has alone.
#[test]
fn attention_packed_is_attention_of_each() -> Result<()> {
    let lengths = [60, 1, 100, 7];
    let vars = [(1, 48), (2, 16), (3, 16)]
        .map(|(seed, width)| Var::from_tensor(&random(&[1, 168, width], seed)?))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let cotangent = random(&[1, 168, 48], 4)?;
    let packed = ops::attention_packed(&vars[0], &vars[1], &vars[2], &lengths, 8, 0.4)?;
    let packed_grads = ops::backward_from(&packed, &cotangent)?;
    let mut start = 0;
    for length in lengths {
        let part = |x: &Tensor| x.narrow(1, start, length);
        let alone: Vec<Var> =
            vars.iter().map(|var| Var::from_tensor(&part(var)?)).collect::<Result<_>>()?;
        let out = ops::attention_thd(&alone[0], &alone[1], &alone[2], 8, 0.4, 0)?;
        assert_close(&part(&packed)?, &out, 0.0)?;
        let grads = ops::backward_from(&out, &part(&cotangent)?.contiguous()?)?;
        for (alone, var) in alone.iter().zip(&vars) {
            let [alone, packed] = [grads.get(alone), packed_grads.get(var)];
            let packed = part(packed.expect("a gradient"))?;
            assert_close(&packed, alone.expect("a gradient"), 0.0)?;
        }
        start += length;
    }
    Ok(())
}

#[test]
fn backward_goes_on_from_a_gradient() -> Result<()> {
    let (x, weight) =
        (Var::from_tensor(&random(&[6, 4], 1)?)?, Var::from_tensor(&random(&[5, 4], 2)?)?);
    let out = ops::linear(&x, &weight)?;
    let cotangent = random(&[6, 5], 3)?;
    let wanted = (&out * &cotangent)?.sum_all()?.backward()?;
    let found = ops::backward_from(&out, &cotangent)?;
    for var in [&x, &weight] {
        assert_close(
            found.get(var).expect("a gradient"),
            wanted.get(var).expect("a gradient"),
            0.0,
        )?;
    }
    assert!(ops::backward_from(&out, &random(&[5, 6], 3)?).is_err());
    Ok(())
}

/// Repeats the key heads, as HF's `repeat_kv` does, instead of stacking the query heads.
#[test]
fn attention_groups_heads_as_hf_does() -> Result<()> {
    let (q, k, v) =
        (random(&[1, 4, 3, 8], 1)?, random(&[1, 2, 3, 8], 2)?, random(&[1, 2, 3, 8], 3)?);
    let repeat = |x: &Tensor| x.unsqueeze(2)?.repeat((1, 1, 2, 1, 1))?.reshape((1, 4, 3, 8));
    let scores = q.matmul(&repeat(&k)?.t()?)?;
    let probs = composed::causal_softmax(&scores, 0.5, 0, 3)?;
    let wanted = probs.matmul(&repeat(&v)?)?;
    assert_close(&ops::attention(&q, &k, &v, 0.5, 0)?, &wanted, 1e-6)
}

#[test]
fn attention_of_one_token_at_a_time_equals_all_at_once() -> Result<()> {
    let (q, k, v) = (random(&[2, 9, 24], 1)?, random(&[2, 9, 8], 2)?, random(&[2, 9, 8], 3)?);
    let whole = ops::attention_thd(&q, &k, &v, 8, 0.4, 0)?;
    let steps: Vec<Tensor> = (0..9)
        .map(|t| {
            let (k, v) = (k.narrow(1, 0, t + 1)?, v.narrow(1, 0, t + 1)?);
            ops::attention_thd(&q.narrow(1, t, 1)?, &k, &v, 8, 0.4, t)
        })
        .collect::<Result<_>>()?;
    assert_close(&Tensor::cat(&steps, 1)?, &whole, 1e-6)
}

#[test]
fn cross_entropy_matches_composed() -> Result<()> {
    for (rows, vocabulary) in [(1, 1), (5, 7), (40, 1024), (9, 1500)] {
        let targets = ids(&[rows], vocabulary)?;
        let weights = random(&[rows], 2)?.relu()?; // about half of them 0
        let logits = (random(&[rows, vocabulary], 1)? * 5.0)?;
        check(std::slice::from_ref(&logits), |x| ops::cross_entropy(&x[0], &targets, &weights))?;
        check(&[logits], |x| ops::token_logprobs(&x[0], &targets))?;
    }
    check(&[random(&[7, 5], 3)?], |x| {
        ops::cross_entropy(&x[0].t()?, &ids(&[5], 7)?, &Tensor::ones(5, DType::F32, &Device::Cpu)?)
    })
}

#[test]
fn linear_cross_entropy_matches_composed() -> Result<()> {
    for (rows, inputs, vocabulary) in [(1, 1, 2), (11, 6, 9), (600, 16, 1030)] {
        let targets = ids(&[rows], vocabulary)?;
        let weights = random(&[rows], 2)?.relu()?;
        let inputs = [random(&[rows, inputs], 1)?, random(&[vocabulary, inputs], 3)?];
        check(&inputs, |x| ops::linear_cross_entropy(&x[0], &x[1], &targets, &weights))?;
    }
    Ok(())
}

/// Masks of every kind: none, one token, a third of them, and one that ends before the vocabulary does.
fn masks(targets: &Tensor, vocabulary: usize) -> Result<Vec<Option<TokenMask>>> {
    let masks = targets.to_vec1::<u32>()?.into_iter().enumerate().map(|(row, target)| {
        let length = if row % 4 == 3 { target as usize + 1 } else { vocabulary };
        let mut mask = TokenMask::alloc(length);
        mask.allow_token(target);
        if row % 4 >= 2 {
            (0..length as u32).step_by(3).for_each(|token| mask.allow_token(token));
        }
        (row % 4 > 0).then_some(mask)
    });
    Ok(masks.collect())
}

#[test]
fn masked_token_logprobs_match_composed() -> Result<()> {
    for (rows, inputs, vocabulary) in [(1, 1, 2), (11, 6, 9), (300, 16, 1030)] {
        let targets = ids(&[rows], vocabulary)?;
        let masks = masks(&targets, vocabulary)?;
        let inputs = [random(&[rows, inputs], 1)?, (random(&[vocabulary, inputs], 3)? * 2.0)?];
        for masks in [None, Some(masks.as_slice())] {
            let logprobs = |x: &[Tensor]| {
                Ok(ops::masked_token_logprobs(&x[0], &x[1], &targets, 0.7, masks)?.0)
            };
            check(&inputs, logprobs)?;
            let entropies = |dtype| {
                let [x, weight] = [&inputs[0], &inputs[1]].map(|x| x.to_dtype(dtype));
                Ok::<_, candle_core::Error>(
                    ops::masked_token_logprobs(&x?, &weight?, &targets, 0.7, masks)?.1,
                )
            };
            assert_close(&entropies(DType::F32)?, &entropies(DType::F64)?, 1e-5)?;
        }
        // Without temperature and masks they are the log-probabilities of the logits.
        let found = ops::masked_token_logprobs(&inputs[0], &inputs[1], &targets, 1.0, None)?.0;
        let wanted = ops::token_logprobs(&ops::linear(&inputs[0], &inputs[1])?, &targets)?;
        assert_close(&found, &wanted, 1e-5)?;
    }
    Ok(())
}

#[test]
fn a_forced_token_has_no_logprob_entropy_or_gradient() -> Result<()> {
    let (hidden, weight) = (Var::from_tensor(&random(&[2, 5], 1)?)?, random(&[40, 5], 2)?);
    let targets = Tensor::new(&[7u32, 33], &Device::Cpu)?;
    let mut forced = TokenMask::alloc(40);
    forced.allow_token(33);
    let masks = [None, Some(forced.clone())];
    let (logprobs, entropies) =
        ops::masked_token_logprobs(&hidden, &weight, &targets, 0.6, Some(&masks))?;
    assert_eq!((logprobs.to_vec1::<f32>()?[1], entropies.to_vec1::<f32>()?[1]), (0.0, 0.0));
    let grads = logprobs.sum_all()?.backward()?;
    let grad = grads.get(&hidden).expect("a gradient").to_vec2::<f32>()?;
    assert!(grad[0].iter().all(|&x| x != 0.0) && grad[1] == [0.0; 5], "{grad:?}");
    assert!(grads.get(&weight).is_none() && !entropies.track_op());

    let refused = |temperature, masks: &[Option<TokenMask>]| {
        let result =
            ops::masked_token_logprobs(&hidden, &weight, &targets, temperature, Some(masks));
        let text = result.expect_err("refused").to_string();
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused(1.0, &[Some(forced), None]),
        "masked_token_logprobs: target 7 of row 0 is not allowed by its mask"
    );
    assert_eq!(refused(1.0, &[None]), "masked_token_logprobs: 1 masks for 2 rows");
    assert_eq!(
        refused(0.0, &masks),
        "masked_token_logprobs: the temperature must be positive, not 0"
    );
    Ok(())
}

#[test]
fn cross_entropy_of_weightless_and_extreme_rows() -> Result<()> {
    let rows = [[1e4f32, -1e4, 0., 3.], [f32::NAN, f32::INFINITY, 1., 2.], [-1e4, 1e4, 1e4, 0.]];
    let logits = Var::new(&rows, &Device::Cpu)?;
    let targets = Tensor::new(&[1u32, 0, 2], &Device::Cpu)?;
    let weights = Tensor::new(&[0.5f32, 0., 1.], &Device::Cpu)?;
    let loss = ops::cross_entropy(&logits, &targets, &weights)?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.5 * 2e4 + 2f32.ln());
    let grads = loss.backward()?;
    let grad = grads.get(&logits).expect("logits have a gradient").to_vec2::<f32>()?;
    assert_eq!(grad, [[0.5, -0.5, 0., 0.], [0.; 4], [0., 0.5, -0.5, 0.]]);

    // The same rows as products with the identity.
    let identity = Tensor::eye(4, DType::F32, &Device::Cpu)?;
    let loss = ops::linear_cross_entropy(&logits, &identity, &targets, &weights)?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.5 * 2e4 + 2f32.ln());
    let grads = loss.affine(2.0, 0.0)?.backward()?;
    let grad = grads.get(&logits).expect("hidden has a gradient").to_vec2::<f32>()?;
    assert_eq!(grad, [[1., -1., 0., 0.], [0.; 4], [0., 1., -1., 0.]]);
    Ok(())
}

/// A diverged model must show: NaN in a row that counts gives NaN.
#[test]
fn nan_is_not_hidden() -> Result<()> {
    let nan = Tensor::new(&[[0f32, f32::NAN, 1., 2.]], &Device::Cpu)?;
    let (target, weight) =
        (Tensor::new(&[0u32], &Device::Cpu)?, Tensor::new(&[1f32], &Device::Cpu)?);
    assert!(ops::cross_entropy(&nan, &target, &weight)?.to_scalar::<f32>()?.is_nan());
    let last = |x: Tensor| x.flatten_all()?.narrow(0, 3, 1)?.squeeze(0)?.to_scalar::<f32>();
    assert!(last(ops::causal_softmax(&nan.reshape((1, 1, 1, 4))?, 1.0, 3)?)?.is_nan());
    assert!(last(ops::rms_norm(&nan, &Tensor::ones(4, DType::F32, &Device::Cpu)?, EPS)?)?.is_nan());
    Ok(())
}

#[test]
fn linear_matches_composed() -> Result<()> {
    for (rows, inputs, outputs) in [(1, 1, 1), (1, 33, 17), (6, 24, 70), (300, 64, 48)] {
        let operands = [random(&[rows, inputs], 1)?, random(&[outputs, inputs], 2)?];
        check(&operands, |x| ops::linear(&x[0], &x[1]))?;
        check(&operands, |x| ops::linear(&x[0].unsqueeze(0)?, &x[1]))?;
        let [x, weight] = operands;
        let residual = random(&[rows, outputs], 3)?;
        check(&[x, weight, residual], |x| ops::linear_residual(&x[0], &x[1], &x[2]))?;
    }
    check(&[random(&[6, 9], 4)?, random(&[6, 5], 5)?], |x| ops::linear(&x[0].t()?, &x[1].t()?))
}

#[test]
fn swiglu_linear_matches_composed() -> Result<()> {
    for (rows, inputs, hidden) in [(1, 3, 5), (2, 24, 33), (40, 32, 96)] {
        let inputs = [
            random(&[2, rows, inputs], 1)?,
            random(&[hidden, inputs], 2)?,
            random(&[hidden, inputs], 3)?,
        ];
        check(&inputs, |x| ops::swiglu_linear(&x[0], &x[1], &x[2]))?;
        let untracked = ops::swiglu_linear(&inputs[0], &inputs[1], &inputs[2])?;
        assert_close(
            &untracked,
            &composed::swiglu_linear(&inputs[0], &inputs[1], &inputs[2])?,
            1e-5,
        )?;
    }
    Ok(())
}

#[test]
fn frozen_weights_get_no_gradient() -> Result<()> {
    let (x, weight) = (Var::from_tensor(&random(&[3, 4], 1)?)?, random(&[5, 4], 2)?);
    let grads = ops::linear(&x, &weight)?.backward()?;
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
    let up = Var::from_tensor(&weight)?;
    let grads = ops::swiglu_linear(&x, &weight, &up)?.backward()?;
    assert!(grads.get(&up).is_some() && grads.get(&weight).is_none());

    // Where candle multiplies, too: its own product would give the weight a gradient.
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::BF16, 2e-2)] {
        let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
        let weight = weight.to_dtype(dtype)?;
        let cotangent = random(&[3, 5], 3)?.to_dtype(dtype)?;
        let out = ops::linear(&x, &weight)?;
        assert_close(&out, &composed::linear(&x, &weight)?, 0.0)?;
        let grads = ops::backward_from(&out, &cotangent)?;
        assert!(grads.get(&weight).is_none());
        let wide = |x: &Tensor| x.to_dtype(DType::F64);
        let wanted = wide(&cotangent)?.matmul(&wide(&weight)?)?;
        assert_close(grads.get(&x).expect("a gradient"), &wanted, tolerance)?;
        let residual = random(&[3, 5], 4)?.to_dtype(dtype)?;
        let grads = ops::linear_residual(&x, &weight, &residual)?.backward()?;
        assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
        let grads = ops::swiglu_linear(&x, &weight, &weight)?.backward()?;
        assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
    }
    Ok(())
}

#[test]
fn embedding_matches_composed() -> Result<()> {
    let repeated = ids(&[4, 30], 11)?;
    check(&[random(&[11, 6], 1)?], |x| ops::embedding(&repeated, &x[0]))
}

#[test]
fn backward_twice_gives_the_same() -> Result<()> {
    let x = Var::from_tensor(&random(&[2, 6, 8], 1)?)?;
    let weight = Var::from_tensor(&random(&[16, 8], 2)?)?;
    let hidden = ops::swiglu_linear(&x, &weight, &weight)?;
    let heads = ops::attention_thd(&hidden, &hidden, &hidden, 8, 0.3, 0)?.reshape((12, 16))?;
    let (targets, weights) = (ids(&[12], 5)?, Tensor::ones(12, DType::F32, &Device::Cpu)?);
    let loss = ops::linear_cross_entropy(&heads, &random(&[5, 16], 3)?, &targets, &weights)?;
    let [first, second] = [loss.backward()?, loss.backward()?];
    for var in [&x, &weight] {
        let grads = [&first, &second].map(|grads| grads.get(var).expect("both have gradients"));
        assert_close(grads[0], grads[1], 0.0)?;
    }
    Ok(())
}

#[test]
fn threads_do_not_change_the_bits() -> Result<()> {
    let run = |threads: usize| -> Result<Vec<Tensor>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let (x, weight) = (Var::from_tensor(&random(&[9, 70, 64], 1)?)?, random(&[64], 2)?);
            let weight = Var::from_tensor(&weight)?;
            let normed = ops::rms_norm(&x, &weight, EPS)?;
            let (cos, sin) = angles(70, 16)?;
            let head_weight = Var::from_tensor(&random(&[16], 3)?)?;
            let q = ops::head_norm_rope(&normed, &head_weight, EPS, &cos, &sin)?;
            let heads = ops::attention_thd(&q, &q, &normed, 16, 0.25, 0)?;
            let logits = ops::swiglu(&heads, &normed)?.reshape((630, 64))?;
            let weights = random(&[630], 4)?.relu()?;
            let loss = ops::cross_entropy(&logits, &ids(&[630], 64)?, &weights)?;
            let grads = loss.backward()?;
            let mut all = vec![logits, loss];
            for var in [&x, &weight, &head_weight] {
                all.push(grads.get(var).expect("every variable has a gradient").clone());
            }
            Ok(all)
        })
    };
    for (one, four) in run(1)?.iter().zip(&run(4)?) {
        assert_close(one, four, 0.0)?;
    }
    Ok(())
}

#[test]
fn half_precision_is_near_full() -> Result<()> {
    let (cos, sin) = angles(5, 8)?;
    for dtype in [DType::BF16, DType::F16] {
        let near = |inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>| -> Result<()> {
            let inputs: Vec<Tensor> =
                inputs.iter().map(|x| x.to_dtype(dtype)).collect::<Result<_>>()?;
            let wide: Vec<Tensor> =
                inputs.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<_>>()?;
            assert_close(&f(&inputs)?.to_dtype(DType::F32)?, &f(&wide)?, 3e-2)
        };
        let x = random(&[2, 5, 16], 1)?;
        let weight = random(&[24, 16], 2)?;
        near(&[x.clone(), random(&[16], 3)?], &|x| ops::rms_norm(&x[0], &x[1], EPS))?;
        near(&[x.clone(), random(&[8], 4)?], &|x| {
            ops::head_norm_rope(&x[0], &x[1], EPS, &cos, &sin)
        })?;
        near(&[x.clone(), weight.clone(), weight.clone()], &|x| {
            ops::swiglu_linear(&x[0], &x[1], &x[2])
        })?;
        near(&[x.clone(), x.clone(), x.clone()], &|x| {
            ops::attention_thd(&x[0], &x[1], &x[2], 8, 0.3, 0)
        })?;
        let weights = Tensor::ones(10, DType::F32, &Device::Cpu)?;
        near(&[x.reshape((10, 16))?, weight.clone()], &|x| {
            ops::linear_cross_entropy(&x[0], &x[1], &ids(&[10], 24)?, &weights)
        })?;
        let masks = masks(&ids(&[10], 24)?, 24)?;
        near(&[x.reshape((10, 16))?, weight], &|x| {
            let targets = ids(&[10], 24)?;
            Ok(ops::masked_token_logprobs(&x[0], &x[1], &targets, 0.7, Some(&masks))?.0)
        })?;
    }
    Ok(())
}

/// HF norms in f32, rounds to the dtype, and only then multiplies with the weight.
#[test]
fn half_precision_rms_norm_rounds_as_hf_does() -> Result<()> {
    let (x, weight) = (random(&[4, 32], 1)?, random(&[32], 2)?);
    let (x, weight) = (x.to_dtype(DType::BF16)?, weight.to_dtype(DType::BF16)?);
    let wide = x.to_dtype(DType::F32)?;
    let rms = (wide.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?;
    let normed = wide.broadcast_div(&rms)?.to_dtype(DType::BF16)?;
    let wanted = normed.broadcast_mul(&weight)?;
    assert_close(&ops::rms_norm(&x, &weight, EPS)?, &wanted, 0.0)
}

#[test]
fn shape_errors_name_the_op_and_the_rule() -> Result<()> {
    let x = random(&[2, 3, 8], 1)?;
    let message = |result: Result<Tensor>| {
        let text = result.expect_err("the shapes disagree").to_string();
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        message(ops::rms_norm(&x, &random(&[7], 2)?, EPS)),
        "rms_norm: weight must be as long as a row of x, but the shapes are [[2, 3, 8], [7]]"
    );
    assert_eq!(
        message(ops::linear(&x, &random(&[4, 7], 2)?)),
        "linear: weight must be as wide as x, but the shapes are [[2, 3, 8], [4, 7]]"
    );
    assert_eq!(
        message(ops::attention_thd(&x, &random(&[2, 3, 12], 2)?, &x, 4, 1.0, 0)),
        "attention_thd: 2 query heads must be a multiple of 3 key heads, \
         but the shapes are [[2, 3, 8], [2, 3, 12]]"
    );
    let targets = Tensor::new(&[0u32, 9], &Device::Cpu)?;
    let weights = Tensor::ones(2, DType::F32, &Device::Cpu)?;
    assert_eq!(
        message(ops::cross_entropy(&random(&[2, 8], 1)?, &targets, &weights)),
        "cross_entropy: target 9 is not below the vocabulary 8"
    );
    let ids = Tensor::new(&[8u32], &Device::Cpu)?;
    assert_eq!(
        message(ops::embedding(&ids, &random(&[8, 2], 1)?)),
        "embedding: id 8 is not below 8, but the shapes are [[1], [8, 2]]"
    );
    Ok(())
}

/// Runs `f` on f32 (fused) and f64 (composed) variables, and compares values, gradients for a
/// random gradient of the result, and finite differences.
fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let run = |dtype: DType| -> Result<(Tensor, Vec<Tensor>)> {
        let vars: Vec<Var> = (inputs.iter())
            .map(|input| Var::from_tensor(&input.to_dtype(dtype)?))
            .collect::<Result<_>>()?;
        let out = f(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())?;
        let grads = (&out * random(out.dims(), 99)?.to_dtype(dtype)?)?.sum_all()?.backward()?;
        let grads = vars.iter().map(|var| grads.get(var).expect("a gradient").clone()).collect();
        Ok((out, grads))
    };
    let ((out, grads), (wanted, wanted_grads)) = (run(DType::F32)?, run(DType::F64)?);
    assert_eq!(out.dims(), wanted.dims());
    assert_close(&out, &wanted, 1e-5)?;
    for (grad, wanted) in grads.iter().zip(&wanted_grads) {
        assert_close(grad, wanted, 1e-5)?;
    }
    finite_differences(inputs, &grads, f)
}

/// Moves a few values of every input and compares the change of `Σ cotangent · f` in f32.
fn finite_differences(
    inputs: &[Tensor],
    grads: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    const STEP: f32 = 1e-2;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (at, (input, grad)) in inputs.iter().zip(grads).enumerate() {
        let values = input.flatten_all()?.to_vec1::<f32>()?;
        let grad = grad.flatten_all()?.to_vec1::<f32>()?;
        for _ in 0..3 {
            let moved = rng.random_range(0..values.len());
            let objective = |step: f32| -> Result<f64> {
                let mut values = values.clone();
                values[moved] += step;
                let mut inputs = inputs.to_vec();
                inputs[at] = Tensor::from_vec(values, input.shape(), &Device::Cpu)?;
                let out = f(&inputs)?.to_dtype(DType::F64)?;
                let cotangent = random(out.dims(), 99)?.to_dtype(DType::F64)?;
                (out * cotangent)?.sum_all()?.to_scalar()
            };
            let slope = (objective(STEP)? - objective(-STEP)?) / f64::from(2.0 * STEP);
            let error = (slope - f64::from(grad[moved])).abs();
            assert!(
                error < 2e-2 * (1.0 + slope.abs()),
                "input {at} {:?}, value {moved}: slope {slope}, gradient {}",
                input.dims(),
                grad[moved]
            );
        }
    }
    Ok(())
}

/// Asserts that values differ by at most `tolerance` of the largest magnitude in `wanted` (or 1).
fn assert_close(found: &Tensor, wanted: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(found.dims(), wanted.dims());
    let flat = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (found, wanted) = (flat(found)?, flat(wanted)?);
    let size = wanted.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
    for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let error = (found - wanted).abs();
        // `!(a <= b)` also catches NaN.
        assert!(
            !(error.is_nan() || error > tolerance * size),
            "value {at}: {found} is not {wanted}"
        );
    }
    Ok(())
}

/// Uniform values in -1..1, the same for the same shape and seed.
fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1f32..1.0)).collect();
    Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu)
}

fn ids(shape: &[usize], below: usize) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let ids = (0..shape.iter().product()).map(|_| rng.random_range(0..below as u32)).collect();
    Tensor::from_vec::<_, u32>(ids, shape, &Device::Cpu)
}

/// Qwen3's angles with a small base.
fn angles(time: usize, head_dim: usize) -> Result<(Tensor, Tensor)> {
    let half = head_dim / 2;
    let angles = (0..time * half)
        .map(|i| (i / half) as f32 * 10f32.powf(-((i % half) as f32) / half as f32))
        .collect();
    let angles = Tensor::from_vec::<_, f32>(angles, (time, half), &Device::Cpu)?;
    Ok((angles.cos()?, angles.sin()?))
}

fn with_dtype_of(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    f: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    f(x, &cos.to_dtype(x.dtype())?, &sin.to_dtype(x.dtype())?)
}
