//! Reading the labels of a run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use agentflow_eval::RunDirError;

use super::record::Label;

/// All labels in the file `path`, in its order. A torn last line is no label yet.
///
/// # Errors
/// If the file cannot be read, or a line of it is no label.
pub fn read_labels(path: &Path) -> Result<Vec<Label>, RunDirError> {
    let io = |source| RunDirError::Io { action: "read", path: path.to_owned(), source };
    let mut lines = BufReader::new(File::open(path).map_err(io)?);
    let (mut labels, mut line) = (Vec::new(), String::new());
    for number in 1.. {
        line.clear();
        lines.read_line(&mut line).map_err(io)?;
        let Some(text) = line.strip_suffix('\n') else { break };
        let label = Label::from_line(text, number).map_err(|error| RunDirError::Line {
            path: path.to_owned(),
            line: number,
            problem: error.to_string(),
        })?;
        labels.push(label);
    }
    Ok(labels)
}
