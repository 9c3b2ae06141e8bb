//! How the numbers of a tensor are stored: `ggml_type` of llama.cpp.

use candle_core::DType;
use candle_core::quantized::GgmlDType;

use crate::ops::Quants;

/// A type that candle knows, with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TensorType(GgmlDType);

impl TensorType {
    pub(super) fn from_id(id: u32) -> Option<Self> {
        Some(Self(match id {
            0 => GgmlDType::F32,
            1 => GgmlDType::F16,
            2 => GgmlDType::Q4_0,
            3 => GgmlDType::Q4_1,
            6 => GgmlDType::Q5_0,
            7 => GgmlDType::Q5_1,
            8 => GgmlDType::Q8_0,
            10 => GgmlDType::Q2K,
            11 => GgmlDType::Q3K,
            12 => GgmlDType::Q4K,
            13 => GgmlDType::Q5K,
            14 => GgmlDType::Q6K,
            30 => GgmlDType::BF16,
            _ => return None,
        }))
    }

    pub(super) fn ggml(self) -> GgmlDType {
        self.0
    }

    /// The dtype of a type without blocks.
    pub(super) fn plain(self) -> Option<DType> {
        match self.0 {
            GgmlDType::F32 => Some(DType::F32),
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// The format of a type whose blocks are multiplied as they are.
    pub(super) fn quants(self) -> Option<Quants> {
        match self.0 {
            GgmlDType::Q8_0 => Some(Quants::Q8_0),
            GgmlDType::Q4K => Some(Quants::Q4K),
            GgmlDType::Q6K => Some(Quants::Q6K),
            _ => None,
        }
    }

    /// Bytes of `numbers` numbers; `None` if they are not whole blocks.
    pub(super) fn bytes_of(self, numbers: usize) -> Option<usize> {
        let block = self.0.block_size();
        numbers.is_multiple_of(block).then(|| (numbers / block).checked_mul(self.0.type_size()))?
    }
}

/// The name that llama.cpp gives a type, for messages.
pub(super) fn describe(id: u32) -> String {
    const NAMES: [(u32, &str); 30] = [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (6, "Q5_0"),
        (7, "Q5_1"),
        (8, "Q8_0"),
        (9, "Q8_1"),
        (10, "Q2_K"),
        (11, "Q3_K"),
        (12, "Q4_K"),
        (13, "Q5_K"),
        (14, "Q6_K"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (28, "F64"),
        (29, "IQ1_M"),
        (30, "BF16"),
        (34, "TQ1_0"),
        (39, "MXFP4"),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == id);
    known.map_or_else(|| format!("number {id}"), |(_, name)| (*name).to_owned())
}
