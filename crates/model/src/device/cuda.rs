//! Cards through NVIDIA's driver.

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};

use super::{Card, DeviceError};

/// Every card of this machine.
///
/// # Errors
/// If the driver does not start, or a card does not say what it is.
pub(super) fn cards() -> Result<Vec<Card>, DeviceError> {
    result::init().map_err(refused)?;
    let count = result::device::get_count().map_err(refused)?;
    (0..count).map(|ordinal| card(ordinal).map_err(refused)).collect()
}

fn card(ordinal: i32) -> Result<Card, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal)?;
    let number = |attribute: Attribute| {
        // SAFETY: `device` comes from `get`.
        unsafe { result::device::get_attribute(device, attribute) }.map(|it| it.unsigned_abs())
    };
    Ok(Card {
        index: ordinal as usize,
        name: result::device::get_name(device)?,
        capability: (
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: `device` comes from `get`.
        memory: unsafe { result::device::total_mem(device) }?,
    })
}

fn refused(error: DriverError) -> DeviceError {
    match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoCard,
        other => DeviceError::Driver(format!("{other:?}")),
    }
}

/// Opens a card for candle.
///
/// With a stream of its own, shared by all threads: candle's usual device has a stream for each thread but orders nothing
/// between them, and our passes run on whichever thread of the pool is free.
pub(super) fn open(index: usize) -> Result<Device, DeviceError> {
    let failed =
        |error: candle_core::Error| DeviceError::Open { index, problem: error.to_string() };
    let device = Device::new_cuda_with_stream(index).map_err(failed)?;
    let cuda = device.as_cuda_device().map_err(failed)?;
    // SAFETY: the events order what streams do to one tensor, and everything on this device is done by its only stream.
    unsafe { cuda.disable_event_tracking() };
    keep_freed_memory(cuda.cuda_stream().context().cu_device());
    Ok(device)
}

/// Has the driver keep freed memory for the next tensor, rather than give it back at each wait for the card. A driver
/// that refuses is slower, no more.
fn keep_freed_memory(device: sys::CUdevice) {
    // SAFETY: `device` is that of an open context.
    let Ok(pool) = (unsafe { result::device::get_default_mem_pool(device) }) else { return };
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and this attribute is a u64, which is read before the call returns.
    let _ = unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()) };
}

/// Free bytes on the card of `device`; `None` where it is none, or does not answer.
pub(super) fn free_memory(device: &Device) -> Option<usize> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    stream.context().bind_to_thread().ok()?;
    let (free, _) = result::mem_get_info().ok()?;
    Some(free)
}
