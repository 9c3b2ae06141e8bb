//! Standard output: results, and nothing else.

use std::io::{self, BufWriter, ErrorKind, Write};

use anyhow::Context;

use crate::Failure;

/// Lets `write` write a result. A reader that has seen enough, as in `… | head -1`, is no failure.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output").map_err(Failure::Work)
        }
        _ => Ok(()),
    }
}
