//! Random weights as safetensors files, made and written piece by piece.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Map, json};

use super::Wanted;
use crate::error::{ModelError, Result};
use crate::tensor_file::header;

/// Most bytes of tensors in one file; as Hugging Face's tools cut.
const SHARD: usize = 5_000_000_000;
/// Numbers made by one thread at a time, and pieces made before they are written.
const PIECE: usize = 1 << 19;
const PIECES: usize = 32;

/// Where the weights go, and what they are.
pub(super) struct Shards<'a> {
    pub(super) dir: &'a Path,
    pub(super) dtype: DType,
    pub(super) seed: u64,
    pub(super) deviation: f32,
}

/// A tensor with its place among all, which decides its random numbers.
type Numbered<'a> = (usize, &'a Wanted);

impl Shards<'_> {
    /// Writes `model.safetensors`, or several files and their index where one would be too long.
    pub(super) fn write(&self, tensors: &[Wanted]) -> Result<()> {
        let mut shards: Vec<Vec<Numbered>> = vec![Vec::new()];
        let mut length = 0;
        for (index, tensor) in tensors.iter().enumerate() {
            length += self.bytes(tensor);
            if length > SHARD {
                shards.push(Vec::new());
                length = self.bytes(tensor);
            }
            if let Some(shard) = shards.last_mut() {
                shard.push((index, tensor));
            }
        }
        if let [only] = shards.as_slice() {
            return self.write_shard(&self.dir.join("model.safetensors"), only);
        }
        let mut places = Map::new();
        for (index, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
            self.write_shard(&self.dir.join(&name), shard)?;
            places.extend(shard.iter().map(|(_, it)| (it.name.clone(), name.as_str().into())));
        }
        let total: usize = tensors.iter().map(|tensor| self.bytes(tensor)).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": places});
        let path = self.dir.join("model.safetensors.index.json");
        std::fs::write(&path, format!("{index:#}\n"))
            .map_err(|source| ModelError::Write { path, source })
    }

    fn bytes(&self, tensor: &Wanted) -> usize {
        tensor.shape.iter().product::<usize>() * self.dtype.size_in_bytes()
    }

    fn write_shard(&self, path: &Path, tensors: &[Numbered]) -> Result<()> {
        let failed = |source| ModelError::Write { path: PathBuf::from(path), source };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        let entries: Vec<(&str, DType, &[usize])> = tensors
            .iter()
            .map(|(_, tensor)| (tensor.name.as_str(), self.dtype, tensor.shape.as_slice()))
            .collect();
        let header = header(&entries)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        for (index, tensor) in tensors {
            let numbers: usize = tensor.shape.iter().product();
            for start in (0..numbers).step_by(PIECE * PIECES) {
                let end = numbers.min(start + PIECE * PIECES);
                let starts: Vec<usize> = (start..end).step_by(PIECE).collect();
                let pieces: Vec<Vec<u8>> = starts
                    .into_par_iter()
                    .map(|at| self.piece(*index, tensor, at, PIECE.min(end - at)))
                    .collect::<candle_core::Result<_>>()?;
                pieces.iter().try_for_each(|piece| file.write_all(piece)).map_err(failed)?;
            }
        }
        file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
    }

    /// `count` numbers of the tensor with this index, from number `at` on, as bytes. They do not depend on how the
    /// tensor is cut: each number has its own place in the stream of the generator.
    fn piece(
        &self,
        index: usize,
        tensor: &Wanted,
        at: usize,
        count: usize,
    ) -> candle_core::Result<Vec<u8>> {
        let values = if tensor.is_one {
            vec![1.0; count]
        } else {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(index as u64);
            random.set_word_pos(at as u128);
            // Uniform in ±√3 deviations.
            let scale = self.deviation * 3_f32.sqrt() / (1 << 23) as f32;
            (0..count)
                .map(|_| ((random.next_u32() >> 8) as f32 - (1 << 23) as f32) * scale)
                .collect()
        };
        let tensor = Tensor::from_vec(values, count, &Device::Cpu)?.to_dtype(self.dtype)?;
        let mut bytes = Vec::with_capacity(count * self.dtype.size_in_bytes());
        tensor.write_bytes(&mut bytes)?;
        Ok(bytes)
    }
}
