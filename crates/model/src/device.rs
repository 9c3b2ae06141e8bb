//! Where a model is computed, and in what: what was asked for, and what this machine and this binary have.

mod card;
#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use card::Card;

use crate::error::ModelError;
use crate::model_dir::{LoadedModel, ModelFiles};

/// What `--device` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first card where this binary can use it, else the processor.
    #[default]
    Auto,
    Cpu,
    /// The card with this number; `cuda` is `cuda:0`.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    "a device is `auto`, `cpu`, `cuda`, or `cuda:1` and so on".to_owned()
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What `--dtype` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtypeChoice {
    /// What the device computes fastest: bf16 on a card, f32 on a processor.
    #[default]
    Auto,
    F32,
    Bf16,
    F16,
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err("a dtype is `auto`, `f32`, `bf16` or `f16`".to_owned()),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl DtypeChoice {
    fn on(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cuda() => DType::BF16,
            Self::Auto | Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Where a model is computed, and in what.
#[derive(Debug, Clone)]
pub struct Placement {
    pub device: Device,
    pub dtype: DType,
    /// Whether matrices stay as they are stored where that is faster: on a processor, with no dtype asked for.
    pub as_stored: bool,
    /// The card, where it is one.
    pub card: Option<Card>,
}

impl Placement {
    /// The processor.
    pub fn cpu(dtype: DtypeChoice) -> Self {
        let device = Device::Cpu;
        let as_stored = dtype == DtypeChoice::Auto;
        Self { dtype: dtype.on(&device), device, as_stored, card: None }
    }

    /// What was asked for; with [`DeviceChoice::Auto`] also why it is no card, where this binary could use one.
    ///
    /// # Errors
    /// If a card was asked for that is not there, or that this binary cannot use.
    pub fn choose(
        device: DeviceChoice,
        dtype: DtypeChoice,
    ) -> Result<(Self, Option<DeviceError>), DeviceError> {
        match device {
            DeviceChoice::Cpu => Ok((Self::cpu(dtype), None)),
            DeviceChoice::Cuda(index) => Ok((Self::card(index, dtype)?, None)),
            DeviceChoice::Auto => match Self::card(0, dtype) {
                Ok(placement) => Ok((placement, None)),
                Err(DeviceError::NotBuilt) => Ok((Self::cpu(dtype), None)),
                Err(reason) => Ok((Self::cpu(dtype), Some(reason))),
            },
        }
    }

    /// A model, loaded to be computed so.
    ///
    /// # Errors
    /// As [`ModelFiles::load`].
    pub fn load(&self, files: &ModelFiles) -> Result<LoadedModel, ModelError> {
        match self.as_stored {
            true => files.load_packed(),
            false => files.load(self.dtype, &self.device),
        }
    }

    #[cfg(feature = "cuda")]
    fn card(index: usize, dtype: DtypeChoice) -> Result<Self, DeviceError> {
        let card = card::usable(&cuda::cards()?, index, card::built_for())?;
        let device = cuda::open(index)?;
        Ok(Self { dtype: dtype.on(&device), device, as_stored: false, card: Some(card) })
    }

    #[cfg(not(feature = "cuda"))]
    fn card(_: usize, _: DtypeChoice) -> Result<Self, DeviceError> {
        Err(DeviceError::NotBuilt)
    }
}

/// As records have it, e.g. `cpu` or `cuda:0 (NVIDIA H200)`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.card {
            Some(card) => write!(f, "cuda:{} ({})", card.index, card.name),
            None => f.write_str("cpu"),
        }
    }
}

/// Bytes that keys and values may take beside what is loaded: on a card a share of what is free, elsewhere a usual size.
pub(crate) fn kv_memory(device: &Device) -> usize {
    // Those of 0.6 billion parameters in f32 need 224 KiB a token.
    const USUAL: usize = 4 << 30;
    #[cfg(feature = "cuda")]
    if let Some(free) = cuda::free_memory(device) {
        // Taken at once and never grown; the rest is for the numbers of a pass.
        return free / 2;
    }
    let _ = device;
    USUAL
}

/// Why a card cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "this binary was built without CUDA: build with scripts/cuda-build.sh, or leave --device out"
    )]
    NotBuilt,
    #[error(
        "no CUDA device: the driver finds no card that it can use; see what `nvidia-smi` says, or use --device cpu"
    )]
    NoCard,
    #[error(
        "no CUDA device: the driver does not start ({0}); see what `nvidia-smi` says, or use --device cpu"
    )]
    Driver(String),
    #[error("there is no cuda:{wanted}: this machine has {found}")]
    Index { wanted: usize, found: String },
    #[error(
        "cuda:{} ({}) has compute capability {}, but this binary was built for {}; \
         build it again with CUDA_COMPUTE_CAP={} scripts/cuda-build.sh, or use --device cpu",
        card.index, card.name, version(card.capability), version(*built), digits(card.capability)
    )]
    Capability { card: Card, built: (u32, u32) },
    #[error(
        "cuda:{index} cannot be used: {problem}; see what `nvidia-smi` says, or use --device cpu"
    )]
    Open { index: usize, problem: String },
}

/// E.g. `9.0`.
fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// E.g. `90`.
fn digits((major, minor): (u32, u32)) -> String {
    format!("{major}{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["gpu", "cuda:", "cuda:-1", "CUDA", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        for text in ["auto", "f32", "bf16", "f16"] {
            assert_eq!(text.parse::<DtypeChoice>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        assert!("int8".parse::<DtypeChoice>().is_err());
    }

    #[test]
    fn the_processor_computes_in_f32_unless_told_otherwise() {
        assert_eq!(Placement::cpu(DtypeChoice::Auto).dtype, DType::F32);
        assert_eq!(Placement::cpu(DtypeChoice::Bf16).dtype, DType::BF16);
        assert_eq!(Placement::cpu(DtypeChoice::Auto).to_string(), "cpu");
    }

    #[test]
    fn what_the_driver_says_is_passed_on() {
        assert_eq!(
            DeviceError::Driver("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".to_owned()).to_string(),
            "no CUDA device: the driver does not start (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH); \
             see what `nvidia-smi` says, or use --device cpu"
        );
        assert_eq!(
            DeviceError::Open { index: 1, problem: "out of memory".to_owned() }.to_string(),
            "cuda:1 cannot be used: out of memory; see what `nvidia-smi` says, or use --device cpu"
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_a_card_is_refused_and_auto_is_the_processor() {
        let asked = Placement::choose(DeviceChoice::Cuda(0), DtypeChoice::Auto);
        assert!(matches!(asked, Err(DeviceError::NotBuilt)));
        let (placement, reason) =
            Placement::choose(DeviceChoice::Auto, DtypeChoice::Auto).expect("the processor");
        assert!(placement.device.is_cpu() && reason.is_none());
    }
}
