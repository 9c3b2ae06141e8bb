//! `agentflow eval export`: a run for other tools.

use std::path::Path;

use agentflow_eval::{
    RunDirError, RunInfo, inspect_log_name, report_of, same_answer, stream_atomically,
    write_inspect_log,
};
use anyhow::Context;

use crate::Failure;
use crate::arguments::ExportArgs;
use crate::{output, runs};

pub(crate) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let run = runs::find(&args.run, &args.runs)?;
    let info = RunInfo::read(&run).map_err(Failure::work)?;
    let report = report_of(&run, &info, None, &same_answer).map_err(Failure::work)?;
    let path = match args.out.as_deref() {
        Some(path) if path == Path::new("-") => {
            let mut failed = None;
            output::print(|out| {
                failed = write_inspect_log(&run, &report, out, path).err();
                Ok(())
            })?;
            return failed.map_or(Ok(()), |error| Err(Failure::work(error)));
        }
        Some(path) => path.to_owned(),
        None => {
            let folder = run.join("inspect");
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create `{}`", folder.display()))?;
            folder.join(inspect_log_name(&run, &info))
        }
    };
    stream_atomically(&path, |out| -> Result<(), RunDirError> {
        write_inspect_log(&run, &report, out, &path)
    })
    .map_err(Failure::work)?;
    output::print(|out| {
        writeln!(out, "{}", path.display())?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        writeln!(out, "see it with: inspect view --log-dir {}", folder.display())
    })
}
