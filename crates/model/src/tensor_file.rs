//! Safetensors files as Hugging Face's libraries write them, which appear whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use crate::error::{ModelError, Result};

/// Writes `tensors` as one safetensors file with the metadata `format: pt`, which transformers and PEFT ask for.
///
/// The same tensors give the same bytes. The file is written beside, synced and renamed.
///
/// # Errors
/// A file that cannot be written, or a tensor of a dtype that the format does not have.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // The widest first, so that each is aligned to its own values.
    let mut ordered: Vec<(&String, &Tensor)> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));
    let entries: Vec<(&str, DType, &[usize])> = ordered
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.dtype(), tensor.dims()))
        .collect();
    let header = header(&entries)?;
    atomically(path, |file| {
        let io = |source| ModelError::Write { path: path.to_owned(), source };
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        for (_, tensor) in &ordered {
            tensor.contiguous()?.write_bytes(file)?;
        }
        Ok(())
    })
}

/// Writes `content` beside `path`, syncs and renames it.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    atomically(path, |file| {
        file.write_all(content)
            .map_err(|source| ModelError::Write { path: path.to_owned(), source })
    })
}

/// The header of a file: what is where, padded so that the numbers begin at a multiple of eight.
pub(crate) fn header(tensors: &[(&str, DType, &[usize])]) -> Result<Vec<u8>> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut begin = 0;
    for &(name, dtype, shape) in tensors {
        let end = begin + shape.iter().product::<usize>() * dtype.size_in_bytes();
        let entry =
            json!({"dtype": stored_name(dtype)?, "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.to_owned(), entry);
        begin = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

fn stored_name(dtype: DType) -> candle_core::Result<&'static str> {
    Ok(match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::U32 => "U32",
        DType::U8 => "U8",
        other => {
            let problem = format!("no tensor of dtype {} is written", other.as_str());
            return Err(candle_core::Error::Msg(problem).bt());
        }
    })
}

fn atomically(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let io = |source| ModelError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let beside = path.with_file_name(name);
    let mut file = BufWriter::new(File::create(&beside).map_err(io)?);
    write(&mut file)?;
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)?;
    // The name is on disk only when its directory is.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(io)
}
