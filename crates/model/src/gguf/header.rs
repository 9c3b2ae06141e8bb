//! The head of a GGUF file: key-value metadata, then name, type, shape and place of every tensor.
//!
//! Every length in it is checked against the file before it is believed: these files come from strangers.

use std::collections::{BTreeMap, HashMap};

use super::tensor_type::TensorType;

pub(super) const MAGIC: [u8; 4] = *b"GGUF";

pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// Where the tensors begin, in bytes from the start of the file.
    data_start: usize,
}

/// One tensor, as the header lists it.
pub(super) struct TensorInfo {
    pub(super) type_id: u32,
    /// Outermost dimension first, as everywhere here; the file has them the other way round.
    pub(super) shape: Vec<usize>,
    /// Bytes from the start of the tensors.
    offset: u64,
}

/// A value of the metadata; integers and floats of all widths are one kind each.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Vec<Value>),
}

impl Header {
    /// Reads the head of a file that is all in `bytes`.
    ///
    /// # Errors
    /// What is wrong with it, for a message that names the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4)? != MAGIC {
            return Err("it does not begin with `GGUF`".to_owned());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            let reason = match version.swap_bytes() {
                2 | 3 => "it is big-endian".to_owned(),
                _ => format!("its version is {version}; versions 2 and 3 are read"),
            };
            return Err(reason);
        }
        let (tensor_count, value_count) = (cursor.length()?, cursor.length()?);
        let mut metadata = HashMap::new();
        for _ in 0..value_count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            metadata.insert(key, cursor.value(kind, 0)?);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = cursor.text()?;
            let info = cursor.tensor_info(&name)?;
            tensors.insert(name, info);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(size))
                if size.is_power_of_two() && (8..=1 << 20).contains(size) =>
            {
                *size as usize
            }
            Some(other) => return Err(format!("`general.alignment` is {other:?}")),
        };
        Ok(Self { metadata, tensors, data_start: cursor.at.next_multiple_of(alignment) })
    }

    /// The bytes of a tensor inside the file's.
    pub(super) fn bytes_of<'a>(
        &self,
        info: &TensorInfo,
        kind: TensorType,
        file: &'a [u8],
    ) -> Result<&'a [u8], String> {
        let width = info.shape.last().copied().unwrap_or(1);
        let row = kind.bytes_of(width).ok_or_else(|| {
            format!("has rows of {width}, which are not whole blocks of {kind:?}")
        })?;
        let rows =
            info.shape.iter().rev().skip(1).try_fold(1_usize, |all, size| all.checked_mul(*size));
        let start = usize::try_from(info.offset).ok().and_then(|o| self.data_start.checked_add(o));
        let span = start.zip(rows.and_then(|rows| rows.checked_mul(row)));
        let (start, end) = span
            .and_then(|(start, length)| Some((start, start.checked_add(length)?)))
            .ok_or("is larger than any file")?;
        // Blocks are read in place: their 16-bit scales must lie on even addresses.
        if !start.is_multiple_of(8) {
            return Err(format!("begins at byte {start}, which is not aligned"));
        }
        file.get(start..end)
            .ok_or_else(|| format!("ends at byte {end}, the file at {}", file.len()))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn array(&self, key: &str) -> Option<&[Value]> {
        match self.metadata.get(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads on from a place in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken =
            self.bytes.get(self.at..).and_then(|rest| rest.get(..count)).ok_or_else(|| {
                format!("its header goes on behind its end at byte {}", self.bytes.len())
            })?;
        self.at += count;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// A number of things that follow; each takes a byte at least, so more than the rest of the file cannot be.
    fn length(&mut self) -> Result<usize, String> {
        let length = self.u64()?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.bytes.len() - self.at)
            .ok_or_else(|| format!("its header promises {length} entries at byte {}", self.at - 8))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.length()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.fixed()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.fixed()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.fixed()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.fixed()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.fixed()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.fixed()?).into()),
            7 => Value::Bool(u8::from_le_bytes(self.fixed()?) != 0),
            8 => Value::Text(self.text()?),
            9 if depth < 4 => {
                let (kind, length) = (self.u32()?, self.length()?);
                let values = (0..length).map(|_| self.value(kind, depth + 1));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.fixed()?)),
            12 => Value::Float(f64::from_le_bytes(self.fixed()?)),
            other => return Err(format!("it has metadata of unknown type {other}")),
        })
    }

    fn tensor_info(&mut self, name: &str) -> Result<TensorInfo, String> {
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("tensor `{name}` has {dimensions} dimensions"));
        }
        let mut shape = (0..dimensions)
            .map(|_| {
                usize::try_from(self.u64()?).ok().filter(|size| *size > 0).ok_or_else(|| {
                    format!("tensor `{name}` has a dimension that is empty or too large")
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        shape.reverse();
        Ok(TensorInfo { type_id: self.u32()?, shape, offset: self.u64()? })
    }
}
