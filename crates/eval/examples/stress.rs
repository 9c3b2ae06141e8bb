//! Judges millions of generated inputs, and reports the slowest and any that panics.
//!
//! ```text
//! cargo run --release -p agentflow-eval --example stress -- 10000000 [seed]
//! ```
//!
//! Inputs are gold answers and responses made of pieces of LaTeX, plain text and noise, whole and broken, some of them
//! mutations of each other. Time is CPU time of the thread where the system tells it, so that other work does not count.

#![allow(clippy::print_stdout, reason = "the report of a program")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use agentflow_eval::{Gold, judge};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Inputs of one task of a thread.
const BATCH: u64 = 10_000;
/// The bound that no input may pass.
const SLOW: Duration = Duration::from_millis(50);

struct Slowest {
    time: Duration,
    slow: u64,
    panics: u64,
    input: (String, String),
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let count = arguments.next().and_then(Result::ok).unwrap_or(1_000_000);
    let seed = arguments.next().and_then(Result::ok).unwrap_or(0);
    let worst = (0..count.div_ceil(BATCH))
        .into_par_iter()
        .map(|batch| run(seed, batch))
        .reduce_with(|a, b| {
            let (slow, panics) = (a.slow + b.slow, a.panics + b.panics);
            let worse = if a.time >= b.time { a } else { b };
            Slowest { slow, panics, ..worse }
        })
        .expect("at least one batch");
    let total = count.div_ceil(BATCH) * BATCH;
    println!("{total} inputs, {} panics, {} over {SLOW:?}", worst.panics, worst.slow);
    println!("slowest {:?}: gold {:?}, pred {:?}", worst.time, worst.input.0, worst.input.1);
    assert!(worst.panics == 0, "an input panicked");
}

fn run(seed: u64, batch: u64) -> Slowest {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(batch);
    let mut worst =
        Slowest { time: Duration::ZERO, slow: 0, panics: 0, input: (String::new(), String::new()) };
    for _ in 0..BATCH {
        let (gold, pred) = input(&mut rng);
        let answer = Gold::Math { answer: gold.clone() };
        let start = cpu_time();
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&answer, &pred)));
        let time = cpu_time().saturating_sub(start);
        if judged.is_err() {
            worst.panics += 1;
            println!("panic: gold {gold:?}, pred {pred:?}");
        }
        worst.slow += u64::from(time > SLOW);
        if time > worst.time {
            worst.time = time;
            worst.input = (gold, pred);
        }
    }
    worst
}

/// A gold answer and a response.
fn input(rng: &mut ChaCha8Rng) -> (String, String) {
    let gold = pieces(rng, EXPRESSIONS, 14);
    let inside = match rng.random_range(0..3) {
        0 => gold.clone(),
        1 => mutated(&gold, rng),
        _ => pieces(rng, EXPRESSIONS, 14),
    };
    let pred = match rng.random_range(0..4) {
        0 => format!("\\boxed{{{inside}}}"),
        1 => format!("{} {inside}.", pieces(rng, PROSE, 6)),
        2 => inside,
        _ => mutated(
            &format!("{}\\boxed{{{inside}}} {}", pieces(rng, PROSE, 6), pieces(rng, PROSE, 6)),
            rng,
        ),
    };
    (gold, pred)
}

fn pieces(rng: &mut ChaCha8Rng, from: &[&str], most: usize) -> String {
    let count = rng.random_range(1..=most);
    (0..count).map(|_| *from.choose(rng).expect("pieces")).collect()
}

/// Characters dropped, doubled or replaced.
fn mutated(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..rng.random_range(1..4) {
        if letters.is_empty() {
            break;
        }
        let at = rng.random_range(0..letters.len());
        match rng.random_range(0..3) {
            0 => {
                letters.remove(at);
            }
            1 => letters.insert(at, letters[at]),
            _ => {
                letters[at] = *['{', '}', '\\', '$', '^', '9', 'é', '|', '(', '!']
                    .choose(rng)
                    .expect("letters");
            }
        }
    }
    letters.into_iter().collect()
}

#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    // The second field is the time that this thread waited; the first, in nanoseconds, the time that it ran.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Duration {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

const EXPRESSIONS: &[&str] = &[
    "\\frac",
    "\\frac{1}{2}",
    "{",
    "}",
    "1",
    "2",
    "97",
    "x",
    "y",
    "\\sqrt",
    "\\sqrt{3}",
    "\\sqrt[3]{7}",
    "(",
    ")",
    "[",
    "]",
    ",",
    "^",
    "^{10}",
    "^{24}",
    "_",
    "\\left(",
    "\\right)",
    "\\pi",
    "\\sin",
    "\\cos x",
    "\\log_2",
    "+",
    "-",
    "=",
    "<",
    "\\le",
    "\\cup",
    "\\infty",
    "\\pm",
    "!",
    "99!",
    "2000!",
    "%",
    "^\\circ",
    "\\text{ cm}",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\{",
    "\\}",
    "|",
    "\\binom{2000}{900}",
    "10^{10^{10}}",
    "0.5",
    "0.\\overline{3}",
    "e",
    "i",
    " and ",
    "\\text{ or }",
    ":",
    "/",
    "*",
    "½",
    "√",
    "1,000",
    "\\$",
    "\\!",
    "\\,",
    "(x+y+1)",
    "(a+b+c+d)^{12}",
    "(1+\\sqrt2+\\sqrt3+\\sqrt5)",
    "123456789012345678901234567890",
    "\\sum_{k=1}^{100} \\frac{1}{k}",
    "2^{2025}",
    "3^{-2025}",
    "1e300",
    "\\ln",
    "\\tan",
    "f(x)",
    "x \\in",
    "\\mathbb{R}",
    "^x",
    "^{1/7}",
    "\\lfloor",
    "\\rfloor",
];

const PROSE: &[&str] = &[
    "The answer is ",
    "Final Answer: ",
    "final answer",
    "#### ",
    "<answer>",
    "</answer>",
    "<think>",
    "</think>",
    "**",
    "\n",
    "\n\n",
    "so we get 12 ",
    "$x=3$",
    "$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "\"answer\": ",
    "not ",
    ". ",
    "therefore ",
    "\\boxed{7}",
    " and ",
    "答案",
];
