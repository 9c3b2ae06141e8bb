//! What a trainer measures, as it goes: whole lines of JSON, and the same numbers as curves for TensorBoard.
//!
//! The lines are the record; the curves are for watching (`tensorboard --logdir RUN`), and nothing reads them back.

mod event_file;

use std::path::PathBuf;

use agentflow_eval::{Lines, RunDir, RunDirError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use event_file::EventFile;

/// The folder of a run directory that TensorBoard reads.
pub(crate) const TENSORBOARD: &str = "tensorboard";

/// Why measurements cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CurvesError {
    #[error(transparent)]
    Lines(#[from] RunDirError),
    #[error("cannot {action} the TensorBoard file `{path}`: {source}")]
    Events { action: &'static str, path: PathBuf, source: std::io::Error },
}

/// The records of a run, each of one update, in one file of lines; and curves named after it.
pub(crate) struct Curves {
    lines: Lines,
    events: EventFile,
}

impl Curves {
    /// Opens `<run>/<file>`, with the records that are in it already. The curves go to `<run>/tensorboard/<group>`: curves of
    /// the same name in two groups, e.g. `train` and `held_out`, are drawn in one chart.
    ///
    /// Records after update `done` are dropped, from the lines and from TensorBoard's eyes: a resumed run makes them again.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub(crate) fn open<T: Serialize + DeserializeOwned>(
        run: &RunDir,
        file: &str,
        group: &str,
        done: u64,
        update_of: impl Fn(&T) -> u64,
    ) -> Result<(Self, Vec<T>), CurvesError> {
        let (mut lines, mut records) = run.lines::<T>(file)?;
        records.retain(|record| update_of(record) <= done);
        lines.restart(&records)?;
        let events = EventFile::create(&run.path().join(TENSORBOARD).join(group), done)?;
        Ok((Self { lines, events }, records))
    }

    /// Adds the record of `update`: a line, and a point of the curve `<field>` for each number in it. Fields of an
    /// object inside it are `<object>/<field>`; lists make no curves.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(crate) fn append(
        &mut self,
        update: u64,
        record: &impl Serialize,
    ) -> Result<(), CurvesError> {
        self.lines.append(record)?;
        let mut points = Vec::new();
        let value = serde_json::to_value(record).unwrap_or_default();
        numbers("", &value, &mut points);
        self.events.scalars(update, &points)
    }
}

/// The numbers in `value`, by name.
fn numbers(name: &str, value: &Value, points: &mut Vec<(String, f32)>) {
    match value {
        Value::Number(number) => {
            points.extend(number.as_f64().map(|number| (name.to_owned(), number as f32)));
        }
        Value::Object(fields) => {
            for (field, value) in fields.iter().filter(|(field, _)| *field != "update") {
                let name = if name.is_empty() { field.clone() } else { format!("{name}/{field}") };
                numbers(&name, value, points);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_curve_and_nothing_else_is() {
        let record = serde_json::json!({
            "update": 3, "loss": 0.5, "note": "text", "none": null, "list": [1], "eval": {"mae": 0.25}
        });
        let mut points = Vec::new();
        numbers("", &record, &mut points);
        assert_eq!(points, [("loss".to_owned(), 0.5), ("eval/mae".to_owned(), 0.25)]);
    }

    /// After a kill the lines go on where the checkpoint was, and the event files say so.
    #[test]
    fn what_came_after_the_checkpoint_is_dropped() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let run = RunDir::create(root.path(), "test", "").expect("a run");
        let update_of = |record: &Value| record["update"].as_u64().unwrap_or(0);
        let record =
            |update: u64| serde_json::json!({"update": update, "loss": 1.0 / update as f64});
        let open = |done| {
            Curves::open::<Value>(&run, "metrics.jsonl", "train", done, update_of).expect("opens")
        };
        let (mut curves, before) = open(0);
        assert!(before.is_empty());
        for update in 1..=3 {
            curves.append(update, &record(update)).expect("appends");
        }
        drop(curves);
        let (mut curves, before) = open(2);
        assert_eq!(before, [record(1), record(2)]);
        curves.append(3, &record(3)).expect("appends");
        let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).expect("lines");
        assert_eq!(text.lines().count(), 3);
        let files = std::fs::read_dir(run.path().join("tensorboard/train")).expect("a folder");
        assert_eq!(files.count(), 2, "a process writes a file of its own");
    }
}
