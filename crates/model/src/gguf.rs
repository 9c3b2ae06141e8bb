//! GGUF, llama.cpp's model file: weights, configuration, tokenizer and chat template in one.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The file is mapped into memory; a tensor is
//! turned into the run's dtype when it is asked for, some rows at a time, so nothing of it is held twice.

mod header;
mod settings;
mod tensor_type;
mod vocabulary;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use rayon::prelude::*;

use crate::chat_template::ChatTemplate;
use crate::error::{ModelError, Result};
use crate::manifest::Manifest;
use crate::ops::Packed;
use crate::tokenizer::Tokenizer;
use header::{Header, TensorInfo};
use tensor_type::TensorType;

/// An opened GGUF file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gguf {
    path: PathBuf,
    bytes: Arc<Mmap>,
    header: Arc<Header>,
}

/// A tensor as the file has it.
struct Stored<'a> {
    bytes: &'a [u8],
    kind: TensorType,
    shape: &'a [usize],
}

/// Whether a file begins as GGUF files do.
pub(crate) fn is_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0_u8; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == header::MAGIC
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// A file that is no GGUF, cut short, or a part of a split one; the message says so.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let read = |source| ModelError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: the file is mapped read-only. Another process that truncates it while we run would kill us by SIGBUS,
        // as it would any program that maps weights; readers of model files accept that.
        let bytes = unsafe { Mmap::map(&file) }.map_err(read)?;
        let header = Header::read(&bytes)
            .map_err(|problem| ModelError::Weights { path: path.to_owned(), problem })?;
        let gguf = Self { path: path.to_owned(), bytes: Arc::new(bytes), header: Arc::new(header) };
        if gguf.header.unsigned("split.count").is_some_and(|parts| parts > 1) {
            return Err(gguf.unsupported(
                "it is one part of a split file; join the parts with `llama-gguf-split --merge`",
            ));
        }
        for (name, info) in &gguf.header.tensors {
            if let Some(kind) = TensorType::from_id(info.type_id) {
                gguf.bytes_of(name, info, kind)?;
            }
        }
        Ok(gguf)
    }

    /// Configuration, tokenizer and chat template, from the metadata.
    ///
    /// # Errors
    /// Metadata that is missing or describes another kind of model; the message names the key.
    pub(crate) fn manifest(&self) -> Result<Manifest> {
        let config = settings::config(self)?;
        let json = vocabulary::tokenizer_json(self)?;
        let tokenizer = Tokenizer::from_json(&json.to_string(), &self.path)?;
        let place = self.path.display().to_string();
        let template = self
            .header
            .text("tokenizer.chat_template")
            .map(|source| ChatTemplate::new(source, &place))
            .transpose()?;
        Ok(Manifest {
            config,
            stop_ids: vocabulary::stop_ids(self, &tokenizer)?,
            tokenizer: Arc::new(tokenizer),
            template,
            prompt_profile: self
                .header
                .text("agentflow.prompt_profile")
                .unwrap_or("full")
                .to_owned(),
        })
    }

    /// The tensor that HF transformers calls `name`, in its own shape; `None` without one. Quants are widened to `dtype`,
    /// other types stay.
    ///
    /// # Errors
    /// A tensor of a type that is not computed here.
    pub(crate) fn tensor(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        let Some(Stored { bytes, kind, shape }) = self.stored(name)? else { return Ok(None) };
        dequantize(bytes, kind, shape, dtype, device).map(Some)
    }

    /// The matrix that HF transformers calls `name`, if its blocks can be multiplied as they are.
    ///
    /// # Errors
    /// A tensor of a type that is not computed here.
    pub(crate) fn packed(&self, name: &str) -> Result<Option<Packed>> {
        let Some(Stored { bytes, kind, shape }) = self.stored(name)? else { return Ok(None) };
        match (kind.quants(), shape) {
            (Some(quants), &[outputs, inputs]) => {
                Ok(Some(Packed::new(quants, bytes, outputs, inputs)?))
            }
            _ => Ok(None),
        }
    }

    fn stored(&self, name: &str) -> Result<Option<Stored<'_>>> {
        let Some((own_name, info)) = settings::tensor_name(name)
            .and_then(|own| Some((own.clone(), self.header.tensors.get(&own)?)))
        else {
            return Ok(None);
        };
        let kind = TensorType::from_id(info.type_id).ok_or_else(|| {
            let kind = tensor_type::describe(info.type_id);
            self.unsupported(&format!(
                "tensor `{own_name}` is of type {kind}; read are F32, F16, BF16, Q4_0 to Q8_0 and Q2_K to Q6_K, \
                 so take another quantization of the model"
            ))
        })?;
        let bytes = self.bytes_of(&own_name, info, kind)?;
        Ok(Some(Stored { bytes, kind, shape: &info.shape }))
    }

    /// HF name or, without one, the file's own; type; shape: of each tensor, in the order of names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, String, &[usize])> {
        self.header.tensors.iter().map(|(name, info)| {
            (name.as_str(), tensor_type::describe(info.type_id), info.shape.as_slice())
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn bytes_of(&self, name: &str, info: &TensorInfo, kind: TensorType) -> Result<&[u8]> {
        self.header.bytes_of(info, kind, &self.bytes).map_err(|problem| ModelError::Weights {
            path: self.path.clone(),
            problem: format!("tensor `{name}` {problem}"),
        })
    }

    fn unsupported(&self, problem: &str) -> ModelError {
        ModelError::Unsupported { path: self.path.clone(), problem: problem.to_owned() }
    }

    fn invalid(&self, problem: String) -> ModelError {
        ModelError::Invalid { path: self.path.clone(), problem }
    }
}

/// Numbers that one thread makes of quants before they are converted: 4 MiB of f32.
const CHUNK: usize = 1 << 20;

fn dequantize(
    bytes: &[u8],
    kind: TensorType,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if let Some(plain) = kind.plain() {
        return Ok(Tensor::from_raw_buffer(bytes, plain, shape, device)?);
    }
    let width =
        *shape.last().expect("quantized tensors have a last dimension, checked in the header");
    let row = kind.bytes_of(width).expect("a row holds whole blocks, checked in the header");
    let rows = (CHUNK / width).max(1);
    let parts: Vec<Tensor> = bytes
        .par_chunks(row * rows)
        .map(|bytes| -> candle_core::Result<Tensor> {
            let part = vec![bytes.len() / row, width];
            candle_core::quantized::ggml_file::qtensor_from_ggml(
                kind.ggml(),
                bytes,
                part,
                &Device::Cpu,
            )?
            .dequantize(&Device::Cpu)?
            .to_dtype(dtype)
        })
        .collect::<candle_core::Result<_>>()?;
    Ok(Tensor::cat(&parts, 0)?.reshape(shape)?.to_device(device)?)
}
