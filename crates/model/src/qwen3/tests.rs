//! Ragged passes on both paths, paged kernels and arena, against HF transformers, each other and the forward pass of
//! training.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::Qwen3;
use crate::config::Config;
use crate::ops::BLOCK_TOKENS;
use crate::paged_kv::{Sequence, Store};
use crate::weights::Weights;

type Rows = Vec<Vec<f64>>;

const MODELS: [&str; 5] = [
    "tied-gqa",
    "untied-mha",
    "wide-gqa-bf16",
    "variants/qwen2-untied-bf16",
    "variants/qwen2-tied-f16",
];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn load(name: &str, dtype: DType) -> Qwen3 {
    let dir = golden(name);
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).expect("config.json");
    let config = Config::from_json(&text, &path).expect("a valid configuration");
    let weights = Weights::open(&dir, dtype, &Device::Cpu).expect("valid weights");
    Qwen3::new(&config, &weights).expect("weights that fit the configuration")
}

/// Logits `[tokens][V]` of each part.
fn pass(model: &Qwen3, parts: &mut [(&mut Sequence, &[u32])]) -> Vec<Rows> {
    let lengths: Vec<usize> = parts.iter().map(|(_, ids)| ids.len()).collect();
    let hidden = model.forward_ragged(parts).expect("a pass");
    let logits = model.lm_head.row_linear(&hidden).expect("logits");
    let logits = logits.to_dtype(DType::F64).expect("wide").to_vec2().expect("a matrix");
    let mut logits = logits.into_iter();
    lengths.into_iter().map(|length| logits.by_ref().take(length).collect()).collect()
}

fn largest_difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn argmax(row: &[f64]) -> usize {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("a vocabulary").0
}

struct Ragged {
    ids: Vec<Vec<u32>>,
    logits: Vec<Rows>,
    bf16_argmax: Vec<Vec<usize>>,
    bf16_difference: f64,
    steps: usize,
}

fn ragged(name: &str) -> Ragged {
    let text = std::fs::read_to_string(golden(name).join("ragged.json")).expect("the golden file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let column =
        |key: &str| json["rows"].as_array().expect("rows").iter().map(|r| r[key].clone()).collect();
    let column = |key: &str| Value::Array(column(key));
    Ragged {
        ids: serde_json::from_value(column("ids")).expect("ids"),
        logits: serde_json::from_value(column("logits")).expect("logits"),
        bf16_argmax: serde_json::from_value(column("bf16_argmax")).expect("tokens"),
        bf16_difference: json["bf16_max_abs_difference"].as_f64().expect("a number"),
        steps: json["steps"].as_u64().expect("a number") as usize,
    }
}

/// All rows in one pass, without their last tokens, and then those, one of each row a pass.
fn decode(model: &Qwen3, rows: &[Vec<u32>], steps: usize) -> Vec<Rows> {
    let store = model.new_store(rows.len() * 64);
    let mut sequences: Vec<Sequence> = rows.iter().map(|_| Sequence::new(&store)).collect();
    let mut logits = vec![Rows::new(); rows.len()];
    for step in (0..=steps).rev() {
        let mut parts: Vec<(&mut Sequence, &[u32])> = sequences
            .iter_mut()
            .zip(rows)
            .map(|(sequence, ids)| {
                let end = ids.len() - step;
                let start = if step == steps { 0 } else { end - 1 };
                (sequence, &ids[start..end])
            })
            .collect();
        for (logits, more) in logits.iter_mut().zip(pass(model, &mut parts)) {
            logits.extend(more);
        }
    }
    logits
}

#[test]
fn ragged_batches_in_f32_are_those_of_transformers() {
    for name in &MODELS[..3] {
        let golden = ragged(name);
        let exact = load(name, DType::F32);
        for model in [&exact, &exact.without_paged_kernels()] {
            let found = decode(model, &golden.ids, golden.steps);
            for (found, wanted) in found.iter().zip(&golden.logits) {
                let off = largest_difference(found, wanted);
                assert!(off < 1e-4, "{name}, exact {}: off by {off}", model.is_exact());
            }
        }
    }
}

/// bf16 rounds differently in every implementation: ours may be as far from f32 as that of transformers is, and near-ties
/// may fall the other way.
#[test]
fn ragged_batches_in_bf16_are_as_near_as_those_of_transformers() {
    for name in &MODELS[..3] {
        let golden = ragged(name);
        let found = decode(&load(name, DType::BF16), &golden.ids, golden.steps);
        let (mut same, mut all) = (0, 0);
        for ((found, wanted), tokens) in found.iter().zip(&golden.logits).zip(&golden.bf16_argmax) {
            let off = largest_difference(found, wanted);
            assert!(off < 1.5 * golden.bf16_difference, "{name}: off by {off}");
            assert!(off > 0.0, "{name} is not computed in bf16");
            same += found.iter().zip(tokens).filter(|(row, token)| argmax(row) == **token).count();
            all += tokens.len();
        }
        assert!(all > 40 && same * 10 >= all * 9, "{name}: {same} of {all} positions agree");
    }
}

#[test]
fn half_precision_decodes_as_in_one_piece_and_alone_as_in_a_batch() {
    for (dtype, tolerance) in [(DType::BF16, 0.2), (DType::F16, 0.03)] {
        for name in &MODELS[..3] {
            let golden = ragged(name);
            let model = load(name, dtype);
            let together = decode(&model, &golden.ids, golden.steps);
            for (ids, together) in golden.ids.iter().zip(&together) {
                let alone = decode(&model, std::slice::from_ref(ids), golden.steps);
                let whole = decode(&model, std::slice::from_ref(ids), 0);
                let off = largest_difference(together, &alone[0]);
                assert!(off < tolerance, "{name} in {dtype:?}: alone off by {off}");
                let off = largest_difference(together, &whole[0]);
                assert!(off < tolerance, "{name} in {dtype:?}: in one piece off by {off}");
            }
        }
    }
}

/// Numbers below `n` that depend on nothing but `salt`.
fn noise(salt: u64) -> impl FnMut(usize) -> usize {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % n
    }
}

/// A sequence on two models, with its tokens.
struct Twin {
    sequences: [Sequence; 2],
    ids: Vec<u32>,
}

/// Sequences that begin, go on in pieces of all sizes, fork, start with blocks of others and end, in passes of many.
fn play(models: [&Qwen3; 2], salt: u64, mut check: impl FnMut(&Twin, usize, [&Rows; 2])) -> usize {
    let config = models[0].config();
    let longest = config.max_position_embeddings.min(120);
    let mut random = noise(salt);
    let stores: [Store; 2] = models.map(|model| model.new_store(24 * 2 * longest));
    let mut twins: Vec<Twin> = Vec::new();
    let mut most_blocks = 0;
    for _ in 0..60 {
        for _ in 0..1 + random(3) {
            if twins.len() == 24 {
                let out = random(twins.len());
                twins.swap_remove(out);
            }
            let parent = random(twins.len() + 3);
            twins.push(match twins.get(parent) {
                Some(parent) if random(2) == 0 => {
                    Twin { sequences: parent.sequences.clone(), ids: parent.ids.clone() }
                }
                Some(parent) => {
                    let full = parent.sequences[0].full_blocks().len();
                    let blocks = if full == 0 { 0 } else { random(full + 1) };
                    let of = |i: usize| {
                        let shared = parent.sequences[i].full_blocks()[..blocks].to_vec();
                        Sequence::of_blocks(&stores[i], shared)
                    };
                    let ids = parent.ids[..blocks * BLOCK_TOKENS].to_vec();
                    Twin { sequences: [of(0), of(1)], ids }
                }
                None => {
                    let sequences = [Sequence::new(&stores[0]), Sequence::new(&stores[1])];
                    Twin { sequences, ids: Vec::new() }
                }
            });
        }
        let added: Vec<Vec<u32>> = twins
            .iter()
            .map(|twin| {
                let wanted = [0, 1, 1, 1, 2, 9, 33][random(7)];
                let tokens = wanted.min(longest - twin.ids.len());
                (0..tokens).map(|_| random(config.vocab_size) as u32).collect()
            })
            .collect();
        if added.iter().all(Vec::is_empty) {
            continue;
        }
        let logits = [0, 1].map(|i| {
            let mut parts: Vec<(&mut Sequence, &[u32])> = twins
                .iter_mut()
                .zip(&added)
                .filter(|(_, ids)| !ids.is_empty())
                .map(|(twin, ids)| (&mut twin.sequences[i], ids.as_slice()))
                .collect();
            pass(models[i], &mut parts)
        });
        let mut pairs = logits[0].iter().zip(&logits[1]);
        for (twin, ids) in twins.iter_mut().zip(&added).filter(|(_, ids)| !ids.is_empty()) {
            twin.ids.extend(ids);
            let (a, b) = pairs.next().expect("logits of every part");
            check(twin, ids.len(), [a, b]);
        }
        most_blocks = most_blocks.max(stores[1].held_blocks());
        assert_eq!(stores[0].held_blocks(), stores[1].held_blocks(), "both share alike");
    }
    drop(twins);
    assert_eq!(stores.map(|store| store.held_blocks()), [0, 0], "every block was given back");
    most_blocks
}

#[test]
fn the_arena_gives_what_the_paged_kernels_give() {
    let mut most_blocks = 0;
    for (salt, name) in MODELS.iter().enumerate() {
        let exact = load(name, DType::F32);
        let (mut worst, mut passes) = (0.0_f64, 0);
        let blocks = play([&exact, &exact.without_paged_kernels()], salt as u64, |_, _, [a, b]| {
            let size = a.iter().flatten().fold(1.0_f64, |size, x| size.max(x.abs()));
            worst = worst.max(largest_difference(a, b) / size);
            passes += 1;
        });
        most_blocks = most_blocks.max(blocks);
        assert!(passes > 300 && worst < 1e-5, "{name}: off by {worst:e} in {passes}");
    }
    assert!(most_blocks > 70, "the arena had to grow: {most_blocks}");
}

/// In f64 a wrong key, position or mask cannot hide in rounding.
#[test]
fn the_arena_in_f64_gives_what_training_computes() {
    for (salt, name) in MODELS.iter().enumerate() {
        let model = load(name, DType::F64);
        let mut passes = 0;
        play([&model, &model], 50 + salt as u64, |twin, added, [a, _]| {
            passes += 1;
            if passes % 7 != 0 {
                return;
            }
            let ids = Tensor::new(twin.ids.as_slice(), &Device::Cpu).expect("ids");
            let hidden = model.forward(&ids.unsqueeze(0).expect("a row"), None).expect("a pass");
            let logits = model.logits(&hidden).expect("logits").squeeze(0).expect("a row");
            let wanted: Rows = logits.to_vec2().expect("a matrix");
            let off = largest_difference(a, &wanted[wanted.len() - added..]);
            assert!(off < 1e-9, "{name}: off by {off:e}");
        });
        assert!(passes > 300);
    }
}

#[test]
fn a_full_arena_says_so_and_gives_back_what_it_took() {
    let model = load("tied-gqa", DType::BF16);
    let store = model.new_store(40);
    let mut first = Sequence::new(&store);
    pass(&model, &mut [(&mut first, &[1; 20])]);
    let mut second = Sequence::new(&store);
    let error = model.forward_ragged(&mut [(&mut second, &[1; 20])]).expect_err("3 blocks");
    assert!(error.to_string().contains("48 tokens have no block left"), "{error}");
    drop(second);
    assert_eq!(store.held_blocks(), 2);
    drop(first);
    pass(&model, &mut [(&mut Sequence::new(&store), &[1; 48])]);
    assert_eq!(store.held_blocks(), 0);
}
