//! Batches of demonstrations, made on a thread of their own while the one before is computed.
//!
//! Problems come in chunks. A chunk is sorted by length, cut into batches of like length, and the batches shuffled: so
//! there is next to no padding, and the order depends on the seed alone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use agentflow_eval::arith::{self, Split};
use agentflow_model::Tokenizer;
use agentflow_tools::{Sandbox, SandboxConfig};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::SftConfig;
use super::demonstration::{Demonstration, DemonstrationBuilder};
use super::{SftError, noise};

/// Batches in a chunk.
const CHUNK: u64 = 64;

/// The demonstrations of one update.
#[derive(Debug)]
pub(super) struct Batch {
    pub rows: Vec<Demonstration>,
}

impl Batch {
    pub(super) fn tokens(&self) -> u64 {
        self.rows.iter().map(|row| row.ids.len() as u64).sum()
    }

    pub(super) fn completion_tokens(&self) -> u64 {
        self.rows.iter().flat_map(|row| &row.completion_mask).filter(|trained| **trained).count()
            as u64
    }
}

/// Gives the batches of a run in order.
pub(super) struct Batches {
    receiver: Receiver<Result<Batch, SftError>>,
}

impl Batches {
    /// Starts the thread that makes them; the first one is that of update `first`.
    pub(super) fn start(
        config: &SftConfig,
        tokenizer: Arc<Tokenizer>,
        first: u64,
    ) -> Result<Self, SftError> {
        let builder = DemonstrationBuilder::new(tokenizer)?;
        let sandbox = Sandbox::new(SandboxConfig::default())?;
        let (sender, receiver) = sync_channel(CHUNK as usize);
        let config = config.clone();
        std::thread::spawn(move || make(&config, &builder, sandbox, first, &sender));
        Ok(Self { receiver })
    }

    pub(super) fn next(&self) -> Result<Batch, SftError> {
        self.receiver
            .recv()
            .expect("the thread makes every batch of the schedule, or sends its error")
    }
}

/// Sends batches until the schedule ends or nobody listens.
fn make(
    config: &SftConfig,
    builder: &DemonstrationBuilder,
    mut sandbox: Sandbox,
    first: u64,
    sender: &SyncSender<Result<Batch, SftError>>,
) {
    for chunk in first / CHUNK..config.schedule.updates.div_ceil(CHUNK) {
        match chunk_of_batches(config, builder, &mut sandbox, chunk) {
            Ok(batches) => {
                for (batch, update) in batches.into_iter().zip(chunk * CHUNK..) {
                    if update >= first && sender.send(Ok(batch)).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        }
    }
}

fn chunk_of_batches(
    config: &SftConfig,
    builder: &DemonstrationBuilder,
    sandbox: &mut Sandbox,
    chunk: u64,
) -> Result<Vec<Batch>, SftError> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(chunk + 1);
    let rows = CHUNK * config.batch.sequences as u64;
    let problems: Vec<_> = (chunk * rows..(chunk + 1) * rows)
        .map(|index| arith::problem(config.seed, Split::Train, index))
        .collect();
    let vocabulary: Vec<String> = problems
        .iter()
        .flat_map(|problem| problem.question.split(' '))
        .filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    let clean =
        (chunk * CHUNK) as f64 >= (1.0 - config.data.clean_end) * config.schedule.updates as f64;
    let asked: Vec<_> = problems
        .into_iter()
        .map(|problem| {
            let mut question = noise::casual(problem.question.clone(), &mut rng);
            if !clean && rng.random_bool(config.data.noise_share) {
                question = noise::noisy(&question, config.data.noise_words, &vocabulary, &mut rng);
            }
            (problem, question)
        })
        .collect();
    let mut rows = builder.build(&asked, config.data.recovery_share, sandbox, &mut rng)?;
    rows.sort_by_key(|row| row.ids.len());
    let mut rows = rows.into_iter();
    let mut batches: Vec<Batch> = std::iter::from_fn(|| {
        let rows: Vec<_> = rows.by_ref().take(config.batch.sequences).collect();
        (!rows.is_empty()).then_some(Batch { rows })
    })
    .collect();
    batches.shuffle(&mut rng);
    Ok(batches)
}
