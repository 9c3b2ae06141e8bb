//! Where tensors come from: safetensors and GGUF files (mapped into memory), bytes in the binary, or variables being
//! trained.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::safetensors::{BufferedSafetensors, MmapedSafetensors};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::gguf::Gguf;
use crate::weight::Weight;

/// One tensor as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The file's own name for it: GGUF has other names than safetensors.
    pub name: String,
    /// How it is stored, e.g. `BF16` or `Q4_K`.
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// Named tensors of one model.
pub struct Weights {
    source: Source,
    /// For messages: the directory, or what else the tensors are.
    place: String,
    dtype: DType,
    device: Device,
    /// Whether matrices stay as they are stored, where they can be multiplied so.
    packed: bool,
}

enum Source {
    Mapped(MmapedSafetensors),
    Gguf(Gguf),
    Buffer(BufferedSafetensors),
    Tensors(HashMap<String, Tensor>),
}

impl Weights {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` lists, and converts each tensor to
    /// `dtype` on `device` when it is asked for.
    ///
    /// # Errors
    /// A file that is missing, truncated or no safetensors file; the message names it.
    pub fn open(dir: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let files = weight_files(dir)?;
        for file in &files {
            check_header(file)?;
        }
        // SAFETY: the files are mapped read-only. Another process that truncates one while we run would kill us by
        // SIGBUS, as it would any program that maps weights; readers of model directories accept that.
        let mapped = unsafe { MmapedSafetensors::multi(&files) }
            .map_err(|e| ModelError::Weights { path: dir.to_owned(), problem: e.to_string() })?;
        Ok(Self {
            source: Source::Mapped(mapped),
            place: dir.display().to_string(),
            dtype,
            device: device.clone(),
            packed: false,
        })
    }

    /// The tensors of a GGUF file, under the names that HF transformers gives them.
    pub(crate) fn from_gguf(file: Gguf, dtype: DType, device: &Device) -> Self {
        let place = file.path().display().to_string();
        Self { source: Source::Gguf(file), place, dtype, device: device.clone(), packed: false }
    }

    /// One safetensors file held in memory; `place` names it in messages.
    pub fn from_bytes(bytes: &[u8], place: &str, dtype: DType, device: &Device) -> Result<Self> {
        let buffer = BufferedSafetensors::new(bytes.to_vec()).map_err(|e| ModelError::Weights {
            path: PathBuf::from(place),
            problem: e.to_string(),
        })?;
        Ok(Self {
            source: Source::Buffer(buffer),
            place: place.to_owned(),
            dtype,
            device: device.clone(),
            packed: false,
        })
    }

    /// Tensors that exist already, e.g. the variables of a trainer; gradients flow to them.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, dtype: DType, device: &Device) -> Self {
        Self {
            source: Source::Tensors(tensors),
            place: "the trained variables".to_owned(),
            dtype,
            device: device.clone(),
            packed: false,
        }
    }

    /// Lets matrices stay as they are stored where they can be multiplied so: on the CPU, computing in f32. Such matrices
    /// have no gradient.
    pub fn packed(self) -> Self {
        let packed = self.device.is_cpu() && self.dtype == DType::F32;
        Self { packed, ..self }
    }

    /// The matrix `name`, `[out, in]`, for products.
    ///
    /// # Errors
    /// If it is missing or not of `shape`.
    pub(crate) fn matrix(&self, name: &str, shape: &[usize; 2]) -> Result<Weight> {
        if !self.packed {
            return Ok(Weight::Plain(self.get(name, shape)?));
        }
        if let Source::Gguf(file) = &self.source
            && let Some(packed) = file.packed(name)?
        {
            self.check_shape(name, &[packed.outputs(), packed.inputs()], shape)?;
            return Ok(Weight::Packed(Arc::new(packed)));
        }
        let tensor = self.stored(name)?;
        self.check_shape(name, tensor.dims(), shape)?;
        Ok(match tensor.dtype() {
            DType::BF16 | DType::F16 => Weight::Half(tensor),
            _ => Weight::Plain(tensor.to_dtype(self.dtype)?),
        })
    }

    /// The tensor `name`, in the dtype and on the device of these weights.
    ///
    /// # Errors
    /// If it is missing or not of `shape`.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.stored(name)?;
        self.check_shape(name, tensor.dims(), shape)?;
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// The tensor `name` as it is stored; quants are widened.
    fn stored(&self, name: &str) -> Result<Tensor> {
        let missing =
            || ModelError::MissingTensor { place: self.place.clone(), name: name.to_owned() };
        Ok(match &self.source {
            Source::Mapped(files) => {
                files.get(name).map_err(|_| missing())?;
                files.load(name, &self.device)?
            }
            Source::Gguf(file) => {
                file.tensor(name, self.dtype, &self.device)?.ok_or_else(missing)?
            }
            Source::Buffer(buffer) => {
                buffer.get(name).map_err(|_| missing())?;
                buffer.load(name, &self.device)?
            }
            Source::Tensors(tensors) => tensors.get(name).ok_or_else(missing)?.clone(),
        })
    }

    fn check_shape(&self, name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
        if found == wanted {
            return Ok(());
        }
        Err(ModelError::Shape {
            place: self.place.clone(),
            name: name.to_owned(),
            found: found.to_vec(),
            wanted: wanted.to_vec(),
        })
    }

    /// Every tensor that is there, in the order of names; nothing is loaded.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let info = |name: &str, dtype: String, shape: &[usize]| TensorInfo {
            name: name.to_owned(),
            dtype: dtype.to_uppercase(),
            shape: shape.to_vec(),
        };
        let mut tensors: Vec<TensorInfo> = match &self.source {
            Source::Mapped(files) => {
                let views = files.tensors().into_iter();
                views.map(|(name, it)| info(&name, it.dtype().to_string(), it.shape())).collect()
            }
            Source::Buffer(buffer) => {
                let views = buffer.tensors().into_iter();
                views.map(|(name, it)| info(&name, it.dtype().to_string(), it.shape())).collect()
            }
            Source::Gguf(file) => {
                file.tensors().map(|(name, dtype, shape)| info(name, dtype, shape)).collect()
            }
            Source::Tensors(tensors) => {
                let dtype = |it: &Tensor| it.dtype().as_str().to_owned();
                tensors.iter().map(|(name, it)| info(name, dtype(it), it.dims())).collect()
            }
        };
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// The weight files of a model directory, in order.
pub(crate) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        let single = dir.join("model.safetensors");
        return if single.exists() {
            Ok(vec![single])
        } else {
            Err(ModelError::MissingFile {
                dir: dir.to_owned(),
                file: "model.safetensors".to_owned(),
            })
        };
    }
    let text = std::fs::read_to_string(&index)
        .map_err(|source| ModelError::Read { path: index.clone(), source })?;
    let invalid = |problem: String| ModelError::Invalid { path: index.clone(), problem };
    let json: Value = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| invalid("it has no `weight_map` object".to_owned()))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            // A shard is a plain file name: an index must not reach outside its directory.
            let plain = Path::new(name).file_name().is_some_and(|file| file == name);
            let path = dir.join(name);
            match (plain, path.exists()) {
                (false, _) => Err(invalid(format!("shard `{name}` is not a plain file name"))),
                (true, false) => {
                    Err(ModelError::MissingFile { dir: dir.to_owned(), file: name.to_owned() })
                }
                (true, true) => Ok(path),
            }
        })
        .collect()
}

/// Reads the header of a safetensors file and compares the length that it promises with the file's.
pub(crate) fn check_header(path: &Path) -> Result<()> {
    use std::io::Read;
    let read = |source| ModelError::Read { path: path.to_owned(), source };
    let damaged = |problem: String| ModelError::Weights { path: path.to_owned(), problem };
    let mut file = std::fs::File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let mut size = [0_u8; 8];
    file.read_exact(&mut size).map_err(|_| damaged(format!("it has only {length} bytes")))?;
    let header_length = u64::from_le_bytes(size);
    if header_length > length.saturating_sub(8) {
        return Err(damaged(format!(
            "its header should have {header_length} bytes, the whole file has {length}"
        )));
    }
    let mut header = vec![0_u8; header_length as usize];
    file.read_exact(&mut header).map_err(read)?;
    let header: Value = serde_json::from_slice(&header)
        .map_err(|e| damaged(format!("its header is not JSON: {e}")))?;
    let data_length = header
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64())
        .max()
        .unwrap_or(0);
    let wanted = 8 + header_length + data_length;
    if length < wanted {
        return Err(damaged(format!("{length} of {wanted} bytes are there")));
    }
    Ok(())
}
