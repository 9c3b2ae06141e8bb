//! Records as lines, and back.

use std::io::{self, BufRead, BufReader, Read};

use crate::store::Record;

/// The records of a journal, as far as its lines are whole.
pub(super) struct Lines {
    pub(super) records: Vec<Record>,
    /// The length of the whole lines, in bytes. What comes after them was never acknowledged.
    pub(super) whole: u64,
    /// Something does.
    pub(super) torn: bool,
}

pub(super) enum Unreadable {
    Io(io::Error),
    /// A whole line, counted from 1, that is no record.
    Line {
        line: usize,
        problem: String,
    },
}

/// Reads to the end, or to a last line that has no end. A write that is cut short leaves a beginning of what it was to
/// write, and the newline is the last of it: so a line that has one and is no record was not torn, but changed.
pub(super) fn read(journal: impl Read) -> Result<Lines, Unreadable> {
    let mut journal = BufReader::with_capacity(1 << 16, journal);
    let mut lines = Lines { records: Vec::new(), whole: 0, torn: false };
    let mut line = Vec::new();
    loop {
        line.clear();
        journal.read_until(b'\n', &mut line).map_err(Unreadable::Io)?;
        if line.last() != Some(&b'\n') {
            lines.torn = !line.is_empty();
            return Ok(lines);
        }
        let record = serde_json::from_slice(&line).map_err(|error| Unreadable::Line {
            line: lines.records.len() + 1,
            problem: error.to_string(),
        })?;
        lines.records.push(record);
        lines.whole += line.len() as u64;
    }
}

/// Whether there is a whole line.
pub(super) fn any(journal: impl Read) -> io::Result<bool> {
    let mut line = Vec::new();
    BufReader::new(journal).read_until(b'\n', &mut line)?;
    Ok(line.last() == Some(&b'\n'))
}

/// Adds `record` to `buffer`, as one line.
pub(super) fn write(record: &Record, buffer: &mut Vec<u8>) -> serde_json::Result<()> {
    let start = buffer.len();
    serde_json::to_writer(&mut *buffer, record)?;
    // JSON text that a user brings along (a `RawValue`) may be laid out in lines. Within strings newlines are
    // escaped; between tokens a space means the same.
    for byte in &mut buffer[start..] {
        *byte = if *byte == b'\n' { b' ' } else { *byte };
    }
    buffer.push(b'\n');
    Ok(())
}
