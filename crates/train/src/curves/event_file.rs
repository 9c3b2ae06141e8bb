//! TensorBoard's event files: `tensorflow.Event` messages of protocol buffers, framed as TFRecords.
//!
//! Written by hand, because the crates that do it need `protoc` at build time (tboard), or a decoder of images (tensorboard-rs);
//! four kinds of fields are all that scalars take. The format: `tensorboard/compat/proto/{event,summary}.proto` and
//! `tensorflow/core/lib/io/record_writer.cc`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::CurvesError;

/// One event file, which this process alone writes.
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in `folder`. Readers forget what older files there say of updates after `done`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn create(folder: &Path, done: u64) -> Result<Self, CurvesError> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CurvesError::Events { action, path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed("create", folder))?;
        // Readers take the files of a folder in the order of their names, so time stands first, and then what tells two
        // files of one second apart.
        let nanos = now().as_nanos();
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.{}.{}",
            nanos / 1_000_000_000,
            nanos % 1_000_000_000,
            std::process::id(),
            FILES.fetch_add(1, Ordering::Relaxed)
        );
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(failed("create", &path))?;
        let mut events = Self { file, path };
        let mut version = Message::event(0);
        version.bytes(3, b"brain.Event:2");
        events.write(&version)?;
        if done > 0 {
            let mut started = Message::default();
            started.varint(1, 1); // SessionLog.status = START
            let mut event = Message::event(done + 1);
            event.bytes(7, &started.0);
            events.write(&event)?;
        }
        Ok(events)
    }

    /// One point of each named curve.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn scalars(
        &mut self,
        update: u64,
        points: &[(String, f32)],
    ) -> Result<(), CurvesError> {
        let mut summary = Message::default();
        for (name, value) in points {
            let mut point = Message::default();
            point.bytes(1, name.as_bytes()); // Value.tag
            point.float(2, *value); // Value.simple_value
            summary.bytes(1, &point.0);
        }
        let mut event = Message::event(update);
        event.bytes(5, &summary.0);
        self.write(&event)
    }

    /// One record: length, its checksum, the message, its checksum; in one write, so that a kill leaves whole records.
    fn write(&mut self, message: &Message) -> Result<(), CurvesError> {
        let length = (message.0.len() as u64).to_le_bytes();
        let checksums = [&length[..], &message.0].map(|bytes| masked_checksum(bytes).to_le_bytes());
        let record = [&length[..], &checksums[0], &message.0, &checksums[1]].concat();
        self.file.write_all(&record).map_err(|source| CurvesError::Events {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// CRC-32C, rotated and shifted as TFRecords have it.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A message of protocol buffers under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// `tensorflow.Event` with its time and its step.
    fn event(step: u64) -> Self {
        let mut event = Self::default();
        event.key(1, 1);
        event.0.extend(now().as_secs_f64().to_le_bytes());
        event.varint(2, step);
        event
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: `tensorboard.compat.tensorflow_stub.pywrap_tensorflow.masked_crc32c`, TensorBoard 2.21.
    #[test]
    fn checksums_are_those_of_tensorboard() {
        assert_eq!(masked_checksum(b"brain.Event:2"), MASKED);
    }

    const MASKED: u32 = 2_080_768_494;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let mut message = Message::default();
        message.varint(2, 300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]);
    }
}
